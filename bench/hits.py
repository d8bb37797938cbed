"""Hits: CPU for each answer from memory, one core for the server and one for the client, beside nginx, Varnish and the floor.

The bytes are an answer of ours of about the wanted size; the others serve that very file. The client is wrk, with its own core;
it saturates near 95,000/s, so that requests a second alone prove nothing.
"""

import http.client
import os
import re
import resource
import subprocess

from peers import WORK, Floor, Tutti, keepers, signed, wait_ready
from procs import cpu_seconds

SIZES = {"8kB": 8_000, "100kB": 100_000}
CONNECTIONS = 64
SERVER_CPU, CLIENT_CPU = 0, 1


def find_answer(port, stem, wanted):
    """The width and quality whose WebP comes nearest to `wanted` bytes: (target, body)."""
    best = None
    for width in (160, 200, 256, 320, 400, 512, 640, 800, 1024, 1280, 1600):
        for quality in (50, 65, 80, 90, 95):
            target = f"/image/unsafe/rs:fit:{width}:{width}/q:{quality}/plain/local:///{stem}.jpg@webp"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", target)
            response = connection.getresponse()
            body = response.read()
            if response.status == 200 and (best is None or abs(len(body) - wanted) < abs(len(best[1]) - wanted)):
                best = (target, body)
    return best


def load(server, port, target, seconds, beside=()):
    """wrk against one target: CPU of server and client for each answer, answers a second."""
    pids = [server.pid, *(s.pid for s in beside if s)]
    def wrk(s):
        command = ["taskset", "-c", str(CLIENT_CPU), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{s}s"]
        return subprocess.run([*command, f"http://127.0.0.1:{port}{target}"], check=True, stdout=subprocess.PIPE, text=True).stdout
    wrk(2)
    before = sum(cpu_seconds(p) for p in pids)
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = wrk(seconds)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = sum(cpu_seconds(p) for p in pids) - before
    client = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    count = int(re.search(r"(\d+) requests in", said)[1])
    errors = re.findall(r"(?:Socket errors|Non-2xx).*", said)
    return {"cpu_us": 1e6 * used / max(count, 1), "client_cpu_us": 1e6 * client / max(count, 1), "rate": count / seconds, "errors": errors}


def contenders(args):
    """(name, kind) of everything that takes part, installed or left out."""
    names = [("tutti", "tutti"), ("tutti-signed", "tutti"), ("floor", "floor")]
    names += [(k.name, k) for k in keepers() if k.installed()]
    return [(n, k) for n, k in names if not args.peers or n.split("-signed")[0] in args.peers]


def one(name, kind, logged, target, file, photos, seconds):
    beside = []
    if kind == "tutti":
        documents = ["tutti-hit-logged.toml" if logged else "tutti-hit.toml"]
        key = name == "tutti-signed"
        server, port = Tutti().start(
            photos, cpus={SERVER_CPU}, documents=documents + (["tutti-signed.toml"] if key else []), secrets=key
        )
        target = signed(target) if key else target
    elif kind == "floor":
        server, port = Floor().start(file, logged, cpus={SERVER_CPU})
        target = "/"
    else:
        server, port = kind.start(file.parent, logged, cpus={SERVER_CPU})
        beside = [kind.log] if getattr(kind, "log", None) else []
        target = f"/{file.name}"
    try:
        wait_ready(server, port, target)
        return load(server, port, target, seconds, beside)
    finally:
        server.stop()
        if hasattr(kind, "stop_beside"):
            kind.stop_beside()


def run(args, photos, stems, say):
    if os.cpu_count() < 2:
        raise RuntimeError("hits need one core for the server and one for the client")
    targets = {}
    files = WORK / "hits"
    files.mkdir(parents=True, exist_ok=True)
    server, port = Tutti().start(photos, documents=["tutti-hit.toml"])
    try:
        wait_ready(server, port, "/readyz")
        for size, wanted in SIZES.items():
            target, body = find_answer(port, stems[0], wanted)
            file = files / f"{size}.webp"
            file.write_bytes(body)
            targets[size] = (target, file)
            say(f"hits: {size} is {len(body)} bytes: {target}")
    finally:
        server.stop()
    results = {}
    for size, (target, file) in targets.items():
        for logged in (False, True):
            cell = f"{size} {'logged' if logged else 'no log'}"
            rounds = {}
            for number in range(args.rounds):
                for name, kind in contenders(args):
                    result = one(name, kind, logged, target, file, photos, args.seconds)
                    rounds.setdefault(name, []).append(result)
                    say(f"hits: {cell}: round {number + 1} {name}: {result['cpu_us']:.2f} us, {result['rate']:.0f}/s {result['errors'] or ''}")
            results[cell] = {"bytes": file.stat().st_size, "servers": rounds}
    versions = {k.name: k.version() for k in keepers() if k.installed()}
    return {"cells": results, "connections": CONNECTIONS, "seconds": args.seconds, "versions": versions}
