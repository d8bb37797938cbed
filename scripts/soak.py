#!/usr/bin/env python3
"""Runs a mixed load against one server for a bounded time. Fails on an unexpected answer, a dead server, or growing memory."""

import argparse
import http.client
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

WORKERS = 4
# Memory may move by this much of its mean, or this many bytes, over the run. The first quarter, and at least a minute, is
# warming up: caches fill, engines come. A run that is too short for more tells errors alone, and says so.
WARM_SECONDS = 60
STEADY_SAMPLES = 30
GROWTH_SHARE = 0.10
GROWTH_BYTES = 24 << 20
SAMPLE_SECONDS = 1.0
START_SECONDS = 30
PAUSE_SECONDS = 0.005
# Small caches, so that they are full soon and what grows after that is a leak.
DOCUMENT = """
[cache]
memory_bytes = 33554432
disk_bytes = 268435456
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def children(pid):
    """The process and all below it."""
    found = [pid]
    for p in found:
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                found += [int(c) for c in pathlib.Path(f"/proc/{p}/task/{task}/children").read_text().split()]
        except OSError:
            pass
    return found


def pss(pid):
    """Bytes of proportional memory of a process tree."""
    total = 0
    for p in children(pid):
        try:
            for line in pathlib.Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def make_originals(folder, samples):
    """The samples, and files that must be refused: cut, corrupt, empty, not an image."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(samples, folder)
    whole = (samples / "photo01.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (folder / "header.jpg").write_bytes(whole[:600])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"not an image at all\n" * 50)
    broken = bytearray(whole)
    rng = random.Random(1)
    for _ in range(200):
        broken[rng.randrange(1000, len(broken))] = rng.randrange(256)
    (folder / "broken.jpg").write_bytes(broken)


PHOTOS = [f"photo0{n}.jpg" for n in range(1, 7)]
FORMATS = ["jpg", "png", "webp"]


def requests(rng):
    """One random request: (kind, method, target, headers, statuses that are right)."""
    photo, fmt = rng.choice(PHOTOS), rng.choice(FORMATS)
    size = rng.choice([64, 128, 256, 512])
    fresh = f"/image/unsafe/rs:fit:{size}:{size}/cb:{rng.getrandbits(40):x}/plain/local:///{photo}@{fmt}"
    known = f"/image/unsafe/rs:fit:{size}:{size}/plain/local:///{photo}@{fmt}"
    bad = rng.choice(["cut.jpg", "header.jpg", "empty.jpg", "text.jpg", "broken.jpg"])
    # 503 is a right answer to whatever needs work: the load may be too much. Decoders may make something of a cut file.
    choices = [
        (30, ("render", "GET", fresh, {}, {200, 503})),
        (40, ("hit", "GET", known, {}, {200, 503})),
        (5, ("head", "HEAD", known, {}, {200, 503})),
        (5, ("condition", "GET", known, {"If-None-Match": '"nothing-like-it"'}, {200, 503})),
        (5, ("range", "GET", known, {"Range": "bytes=0-99"}, {200, 206, 503})),
        (5, ("crop", "GET", f"/image/unsafe/rs:fill:{size}:90/g:no/plain/local:///{photo}", {}, {200, 503})),
        (5, ("malformed", "GET", f"/image/unsafe/w:{size}/plain/local:///{bad}", {}, {200, 422, 503})),
        (2, ("missing", "GET", f"/image/unsafe/w:{size}/plain/local:///no-{rng.randrange(99)}.jpg", {}, {404, 503})),
        (2, ("option", "GET", f"/image/unsafe/nonsense:{size}/plain/local:///{photo}", {}, {404})),
        (1, ("health", "GET", "/healthz", {}, {200})),
    ]
    return rng.choices([c for _, c in choices], [w for w, _ in choices])[0]


class Load:
    """What the workers share."""

    def __init__(self, port, seconds):
        self.port = port
        self.until = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.counts = {}
        self.wrong = []

    def note(self, kind, status, right, target):
        with self.lock:
            self.counts[(kind, status)] = self.counts.get((kind, status), 0) + 1
            if not right and len(self.wrong) < 20:
                self.wrong.append(f"{kind}: {status} for {target}")

    def work(self, seed):
        rng = random.Random(seed)
        connection = None
        while time.monotonic() < self.until:
            kind, method, target, headers, statuses = requests(rng)
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request(method, target, headers=headers)
                if rng.random() < 0.01:  # a client that goes away
                    connection.close()
                    connection = None
                    continue
                response = connection.getresponse()
                response.read()
                self.note(kind, response.status, response.status in statuses, target)
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.note(kind, repr(error), False, target)
                connection = None
                time.sleep(0.2)
            time.sleep(PAUSE_SECONDS)


def slope(samples):
    """Bytes a second, by least squares over (seconds, bytes)."""
    n = len(samples)
    mx, my = sum(x for x, _ in samples) / n, sum(y for _, y in samples) / n
    spread = sum((x - mx) ** 2 for x, _ in samples)
    return sum((x - mx) * (y - my) for x, y in samples) / spread if spread else 0.0


def start(args, originals):
    """Starts it twice: the sizes of caches apply from a start on."""
    server, port = launch(args, originals)
    apply = [args.binary, "config", "--data", str(args.data / "data"), "apply", "-", "--at-restart"]
    applied = subprocess.run(apply, input=DOCUMENT.encode(), stdout=subprocess.DEVNULL)
    complaints = stop(server)
    if applied.returncode or complaints:
        sys.exit(f"error: the configuration was not applied {complaints}")
    return launch(args, originals)


def launch(args, originals):
    port, admin = free_port(), free_port()
    command = [args.binary, "serve", "--data", str(args.data / "data"), "--originals", str(originals)]
    command += ["--http", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--node", "127.0.0.1:0"]
    log = open(args.data / "server.log", "ab")
    server = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return server, port
        except OSError:
            pass
        time.sleep(0.1)
    server.kill()
    sys.exit(f"error: the server did not get ready; see {args.data / 'server.log'}")


def watch(server, load):
    """Samples memory until the load ends or the server does."""
    began, samples = time.monotonic(), []
    while time.monotonic() < load.until and server.poll() is None:
        samples.append((time.monotonic() - began, pss(server.pid)))
        time.sleep(SAMPLE_SECONDS)
    return samples


def judge(args, server, load, samples):
    complaints = list(load.wrong)
    if server.poll() is not None:
        complaints.append(f"the server ended with {server.returncode}")
    steady = [s for s in samples if s[0] > max(args.seconds / 4, WARM_SECONDS)]
    if len(steady) < STEADY_SAMPLES:
        print("memory: not judged, the run is too short")
    else:
        mean = sum(y for _, y in steady) / len(steady)
        growth = slope(steady) * (steady[-1][0] - steady[0][0])
        print(f"memory: mean {mean / 1e6:.1f} MB, growth over the steady part {growth / 1e6:+.1f} MB")
        if growth > max(GROWTH_BYTES, GROWTH_SHARE * mean):
            complaints.append(f"memory grows: {growth / 1e6:.1f} MB in {steady[-1][0] - steady[0][0]:.0f} s")
    for (kind, status), count in sorted(load.counts.items(), key=str):
        print(f"{kind:10} {status}  {count}")
    served = sum(c for (_, s), c in load.counts.items() if s == 200)
    if served == 0:
        complaints.append("nothing was answered with 200")
    return complaints


def stop(server):
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(timeout=30)
        return [] if code == 0 else [f"SIGTERM: it ended with {code}"]
    except subprocess.TimeoutExpired:
        server.kill()
        return ["SIGTERM: it did not stop within 30 s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=600)
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    originals = args.data / "originals"
    make_originals(originals, pathlib.Path(__file__).resolve().parent.parent / "samples")
    server, port = start(args, originals)
    load = Load(port, args.seconds)
    workers = [threading.Thread(target=load.work, args=(seed,)) for seed in range(WORKERS)]
    try:
        for worker in workers:
            worker.start()
        samples = watch(server, load)
        load.until = 0
        for worker in workers:
            worker.join()
        complaints = judge(args, server, load, samples)
    finally:
        load.until = 0
        complaints_at_stop = stop(server) if server.poll() is None else []
    complaints += complaints_at_stop
    for complaint in complaints:
        print(f"wrong: {complaint}")
    print("soak: failed" if complaints else "soak: passed")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
