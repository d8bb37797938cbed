"""Memory (sum of PSS over the tree): idle, peak minus idle at 16 connections with nothing cached; and the first image after start."""

import random
import time

from load import closed_loop
from peers import wait_ready
from procs import PeakMemory, pss_bytes

CONNECTIONS, IDLE_SECONDS, CELL = 16, 5, "jpeg"


def measure(peer, photos, stems, seconds):
    server, port = peer.start(photos)
    try:
        first = wait_ready(server, port, peer.url(CELL, stems[0], random.getrandbits(32), 80))
    finally:
        server.stop()
    server, port = peer.start(photos)
    try:
        # Idle is idle: up, and never asked for a picture. A wrong URL tells that it is up.
        wait_ready(server, port, "/healthz", statuses=range(200, 600))
        time.sleep(IDLE_SECONDS)
        idle = pss_bytes(server.pid)
        base = random.getrandbits(32)
        with PeakMemory(server.pid) as memory:
            result = closed_loop(port, lambda n: peer.url(CELL, stems[n % len(stems)], f"{base}p{n}", 80), CONNECTIONS, seconds)
    finally:
        server.stop()
    return {"idle": idle, "peak_over_idle": memory.peak - idle, "first_image_ms": 1000 * first, "rate": result.rate, "failures": result.failures}


def run(args, peers, photos, stems, say):
    rounds = {p.name: [] for p in peers}
    for number in range(args.rounds):
        for peer in peers:
            one = measure(peer, photos, stems, args.seconds)
            rounds[peer.name].append(one)
            say(f"memory: round {number + 1} {peer.name}: idle {one['idle'] / 1e6:.1f} MB, over idle {one['peak_over_idle'] / 1e6:.1f} MB, "
                f"first image {one['first_image_ms']:.0f} ms")
    return {"rounds": rounds, "connections": CONNECTIONS, "cell": CELL}
