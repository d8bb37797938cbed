"""Renders: CPU for each request of each server, in interleaved rounds, at equal quality; bytes and score beside it."""

import os
import random

from load import closed_loop
from peers import wait_ready
from procs import cpu_seconds
from quality import at_target


def measure(peer, cell, photos, stems, quality, seconds, connections):
    """One round of one server: started, warmed with each photo once, then loaded."""
    server, port = peer.start(photos)
    try:
        base = random.getrandbits(32)
        wait_ready(server, port, peer.url(cell, stems[0], base, quality))
        closed_loop(port, lambda n: peer.url(cell, stems[n % len(stems)], f"{base}w{n}", quality), connections, 1.5)
        before = cpu_seconds(server.pid)
        result = closed_loop(
            port, lambda n: peer.url(cell, stems[n % len(stems)], f"{base}m{n}", quality), connections, seconds
        )
        used = cpu_seconds(server.pid) - before
    finally:
        server.stop()
    count = max(result.count, 1)
    latencies = sorted(result.latencies) or [0.0]
    return {
        "cpu_ms": 1000 * used / count,
        "client_cpu_ms": 1000 * result.own_cpu / count,
        "rate": result.rate,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int((len(latencies) - 1) * 0.99)],
        "requests": result.count,
        "failures": result.failures,
    }


def run(args, peers, photos, stems, say):
    """All cells; within a cell the servers take turns, round by round."""
    cells = {}
    for cell in args.cells:
        able = [p for p in peers if cell in p.cells]
        settings = {}
        for peer in able:
            if args.quality == "default":
                settings[peer.name] = {"quality": args.nominal, "score": None, "bytes": None, "reached": None}
                continue
            settings[peer.name] = at_target(peer, cell, photos, stems)
            say(f"{cell}: {peer.name} at quality {settings[peer.name]['quality']}: "
                f"score {settings[peer.name]['score']:.2f}, {settings[peer.name]['bytes'] / 1000:.1f} kB")
        rounds = {p.name: [] for p in able}
        for number in range(args.rounds):
            # The order turns, so that no server always runs after the same one.
            turn = number % len(able) if able else 0
            for peer in able[turn:] + able[:turn]:
                one = measure(peer, cell, photos, stems, settings[peer.name]["quality"], args.seconds, args.connections)
                rounds[peer.name].append(one)
                say(f"{cell}: round {number + 1} {peer.name}: {one['cpu_ms']:.2f} ms CPU, {one['rate']:.1f}/s {one['failures'] or ''}")
        cells[cell] = {p.name: settings[p.name] | {"rounds": rounds[p.name]} for p in able}
    return {"cells": cells, "cores": os.cpu_count(), "connections": args.connections, "seconds": args.seconds}
