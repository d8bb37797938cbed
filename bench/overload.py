"""Overload: ten times the measured peak for half a minute, distinct URLs, the server held to 1.5 cores by quota in both runs."""

import json
import random
import subprocess

from peers import HERE, Tutti, wait_ready
from procs import Quota, pss_bytes

SENDER = HERE / "tools" / "target" / "release" / "sender"
CORES, TIMES = 1.5, 10
PEAK_CONNECTIONS, CONNECTIONS = 16, 4000


def send(port, rate, seconds, connections, stems):
    prefix = f"/image/unsafe/rs:fit:512:512/cb:{random.getrandbits(32)}x"
    suffixes = [f"/plain/local:///{s}.jpg@jpg" for s in stems]
    command = [SENDER, f"127.0.0.1:{port}", rate, seconds, connections, prefix, *suffixes]
    done = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def once(document, photos, stems, args):
    """Peak by the same sender in a closed loop, then the constant rate, on one server."""
    server, port = Tutti().start(photos, quota=Quota(CORES), documents=[document])
    try:
        wait_ready(server, port, "/readyz")
        send(port, 0, 3, PEAK_CONNECTIONS, stems)
        peak = send(port, 0, args.peak_seconds, PEAK_CONNECTIONS, stems)
        peak_rate = peak["in_time"] / args.peak_seconds
        flood = send(port, TIMES * peak_rate, args.flood_seconds, CONNECTIONS, stems)
        memory = pss_bytes(server.pid)
        alive = server.alive()
    finally:
        server.stop()
    refused = flood["answers"].get("503", {})
    return {
        "peak_rate": peak_rate,
        "sent_rate": TIMES * peak_rate,
        "good_share": flood["in_time"] / args.flood_seconds / peak_rate if peak_rate else 0.0,
        "full": flood["answers"].get("200", {}).get("count", 0),
        "degraded": flood["answers"].get("200 degraded", {}).get("count", 0),
        "refused": refused.get("count", 0),
        "refused_p99_ms": refused.get("p99_us", 0) / 1000,
        "failures": flood["failures"],
        "not_sent": flood["not_sent"],
        "pss_after": memory,
        "alive": alive,
    }


def run(args, photos, stems, say):
    rounds = {"refuse": [], "ladder": []}
    for number in range(args.rounds):
        for name, document in (("refuse", "tutti-refuse.toml"), ("ladder", "tutti-render.toml")):
            result = once(document, photos, stems, args)
            rounds[name].append(result)
            say(f"overload: round {number + 1} {name}: peak {result['peak_rate']:.0f}/s, kept {100 * result['good_share']:.1f} %, "
                f"refused p99 {result['refused_p99_ms']:.1f} ms, failures {result['failures'] or 'none'}")
    return {"rounds": rounds, "cores": CORES, "times": TIMES, "flood_seconds": args.flood_seconds}
