"""Does twice the CPU give nearly twice the work? The same server at a quota of 0.7 and of 1.4 cores."""

import random

from load import closed_loop
from peers import wait_ready
from procs import Quota

SMALL, LARGE, CONNECTIONS, CELL = 0.7, 1.4, 8, "jpeg"


def rate(peer, cores, photos, stems, seconds):
    server, port = peer.start(photos, quota=Quota(cores))
    try:
        base = random.getrandbits(32)
        wait_ready(server, port, peer.url(CELL, stems[0], base, 80))
        closed_loop(port, lambda n: peer.url(CELL, stems[n % len(stems)], f"{base}w{n}", 80), CONNECTIONS, 2)
        return closed_loop(port, lambda n: peer.url(CELL, stems[n % len(stems)], f"{base}m{n}", 80), CONNECTIONS, seconds).rate
    finally:
        server.stop()


def run(args, peers, photos, stems, say):
    rounds = {p.name: [] for p in peers}
    for number in range(args.rounds):
        for peer in peers:
            small, large = (rate(peer, cores, photos, stems, args.seconds) for cores in (SMALL, LARGE))
            rounds[peer.name].append({"small": small, "large": large, "ratio": large / small if small else 0.0})
            say(f"quota: round {number + 1} {peer.name}: {small:.1f}/s at {SMALL}, {large:.1f}/s at {LARGE}: x {rounds[peer.name][-1]['ratio']:.2f}")
    return {"rounds": rounds, "small": SMALL, "large": LARGE, "cell": CELL}
