"""What faults cost: writes without a leader (beside etcd), the address without its holder, requests without a worker."""

import http.client
import json
import random
import re
import shutil
import signal
import threading
import time

from asker import Asker, percentile
from cluster_costs import image, photos_of
from nodes import HTTP, Cluster, eventually
from peers import ROOT, TUTTI, WORK, output
from procs import Server

EVERY, TRY_WITHIN = 0.01, 0.3
KILLS = {"leader-loss": 20, "address": 20}


def until_written(write, within=30):
    """Seconds from now until a write is acknowledged. A new one is begun each 10 ms, whether or not those before have ended: a
    server that keeps a lost write waiting costs nobody more than the others."""
    began, first, done, lock = time.monotonic(), [], threading.Event(), threading.Lock()

    def once():
        try:
            write(TRY_WITHIN)
        except (OSError, http.client.HTTPException, ValueError):
            return
        with lock:
            first.append(time.monotonic() - began)
        done.set()

    tries = []
    while not done.is_set() and time.monotonic() - began < within:
        tries.append(threading.Thread(target=once))
        tries[-1].start()
        done.wait(EVERY)
    for one in tries:
        one.join()
    if not first:
        raise RuntimeError(f"no write within {within} s")
    return min(first)


# Writes without a leader.


class Ours:
    name = "tutti"

    def __init__(self):
        self.cluster = Cluster(3)

    def __enter__(self):
        self.cluster.__enter__()
        return self

    def __exit__(self, *_):
        self.cluster.__exit__()

    def once(self):
        """Kills the leader; gives the seconds until a survivor has accepted a write. All is well again afterwards."""
        self.cluster.wait_in_step()
        leader = self.cluster.leader()
        survivor = random.choice([n for n in self.cluster.nodes if n is not leader])

        def write(timeout):
            survivor.api("store/put", {"key": "bench", "value": str(time.monotonic())}, timeout)

        write(10)
        leader.kill()
        took = until_written(write)
        time.sleep(1)
        leader.start().wait_ready()
        return took


class Etcd:
    """etcd of Debian, three members, everything as it comes (heartbeat 100 ms, election 1000 ms)."""

    name = "etcd"

    def __init__(self):
        self.folder = WORK / "etcd"
        self.servers = [None] * 3

    def start(self, at):
        host = f"127.0.5.{at + 1}"
        peers = ",".join(f"e{n}=http://127.0.5.{n + 1}:2380" for n in range(3))
        command = ["etcd", "--name", f"e{at}", "--data-dir", self.folder / f"e{at}", "--initial-cluster", peers, "--initial-cluster-state", "new"]
        command += ["--listen-peer-urls", f"http://{host}:2380", "--initial-advertise-peer-urls", f"http://{host}:2380"]
        command += ["--listen-client-urls", f"http://{host}:2379", "--advertise-client-urls", f"http://{host}:2379", "--log-level", "error"]
        self.servers[at] = Server(command, self.folder / f"log{at}")

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for at in range(3):
            self.start(at)
        return self

    def __exit__(self, *_):
        for server in filter(None, self.servers):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, at, path, body, timeout=10):
        connection = http.client.HTTPConnection(f"127.0.5.{at + 1}", 2379, timeout=timeout)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise OSError(f"{answer.status} {text[:100]!r}")
            return json.loads(text)
        finally:
            connection.close()

    def states(self):
        try:
            said = [self.call(at, "maintenance/status", {}, 2) for at in range(3)]
        except (OSError, ValueError, http.client.HTTPException):
            return None
        leaders = {s.get("leader", "0") for s in said}
        applied = {s.get("raftAppliedIndex") for s in said}
        return said if len(leaders) == 1 and leaders != {"0"} and len(applied) == 1 else None

    def once(self):
        said = eventually("etcd is in step", self.states, every=0.1)
        leader = next(at for at in range(3) if said[at]["header"]["member_id"] == said[at]["leader"])
        survivor = random.choice([at for at in range(3) if at != leader])

        def write(timeout):
            self.call(survivor, "kv/put", {"key": "YmVuY2g=", "value": "eA=="}, timeout)

        write(10)
        self.servers[leader].process.kill()
        self.servers[leader].process.wait()
        took = until_written(write)
        self.servers[leader].stop()
        time.sleep(1)
        self.start(leader)
        return took


def leader_loss(args, say):
    """Kills in turns: two of ours, one of etcd's."""
    took = {"tutti": [], "etcd": []}
    wanted = {"tutti": args.count or KILLS["leader-loss"], "etcd": (args.count or KILLS["leader-loss"]) // 2}
    there = shutil.which("etcd") is not None
    with Ours() as ours, (Etcd() if there else Nobody()) as etcd:
        while len(took["tutti"]) < wanted["tutti"]:
            sides = [ours, ours] + ([etcd] if there else [])
            for side in sides:
                if len(took[side.name]) < wanted[side.name]:
                    took[side.name].append(side.once())
                    say(f"leader-loss: {side.name} {len(took[side.name])}: {1000 * took[side.name][-1]:.0f} ms")
    return {"each_ms": {n: [1000 * t for t in ts] for n, ts in took.items() if ts},
            "etcd": output("etcd", "--version").splitlines()[0].split(": ")[-1] if there else None}


class Nobody:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        pass


# The address without its holder.


def address(args, say):
    kills = args.count or KILLS["address"]
    folder = WORK / "cluster-demo"
    command = [TUTTI, "demo", "--check", "20", "--kill", kills, "--base", "127.0.6.10", "--originals", args.photos, "--dir", folder, "--json"]
    began = time.monotonic()
    server = Server(command, WORK / "demo.log")
    log = WORK / "demo.log"
    try:
        server.process.wait(kills * 40 + 120)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    log.unlink()
    last = json.loads(lines[-1])
    say(f"address: {last}")
    return {"kills": kills, "said": last, "seconds": time.monotonic() - began, "exit": server.process.returncode}


# Requests without a worker.

WORKER = {"cores": 0.25, "load": 0.55, "before": 8, "after": 8, "probes": 60}


class Pictures:
    """Small pictures that nobody has asked for before."""

    def __init__(self, photos):
        self.photos, self.next = photos, random.randrange(1 << 20) * 7

    def __call__(self, _=None):
        self.next += 1
        k = self.next
        sizes = f"{60 + k % 181}:{150 + k // 181 % 89}"
        return image(self.photos[k % len(self.photos)], f"rs:fit:{sizes}/q:{65 + k // 16109 % 25}/cb:{k}")


def calibrate(cluster, pictures, say):
    """The rate at which all nodes together are loaded as wanted: by the CPU that a request costs all of them."""
    asker = Asker([(n.host, HTTP) for n in cluster.nodes], 8, within=30)
    try:
        asker.paced(pictures, 12, WORKER["probes"] / 12)
        idle = cluster.idle_cpu(4)
        before, began = cluster.cpu(), time.monotonic()
        done = asker.paced(pictures, 20, WORKER["probes"] * 2 / 20)
        cost = (cluster.cpu() - before - idle * (time.monotonic() - began)) / len(done)
    finally:
        asker.close()
    cores = len(cluster.nodes) * WORKER["cores"]
    rate = (cores * WORKER["load"] - idle) / cost
    say(f"kill-worker: a request costs {1000 * cost:.2f} ms of CPU in all, idle {1000 * idle:.0f} ms/s; the load is {rate:.1f}/s")
    return {"cost_ms": 1000 * cost, "idle_cores": idle, "rate": rate}


def series(requests, step=0.1):
    """p99 in ms of each window of 100 ms, by when requests were due, from the fault on; of (due since the fault, took)."""
    windows = {}
    for due, took in requests:
        windows.setdefault(int(due // step), []).append(took)
    return {round(w * step, 1): round(1000 * percentile(t, 0.99), 1) for w, t in sorted(windows.items())}


def back_to_normal(requests, limit, until):
    """The first moment after the fault from which on requests of a whole second have a p99 within the limit; None if never."""
    for step in range(int((until - 1) * 10) + 1):
        t = step / 10
        p99 = percentile([took for due, took in requests if t <= due < t + 1], 0.99)
        if p99 is not None and p99 <= limit:
            return t
    return None


def judge(requests):
    before = percentile([t for d, t in requests if -6 <= d < 0], 0.99)
    steady = percentile([t for d, t in requests if 3 <= d < WORKER["after"]], 0.99)
    first = percentile([t for d, t in requests if 0 <= d < 1], 0.99)
    second = percentile([t for d, t in requests if 1 <= d < 2], 0.99)
    return {
        "before_p99_ms": 1000 * before, "first_second_p99_ms": 1000 * first, "second_second_p99_ms": 1000 * second, "steady_after_p99_ms": 1000 * steady,
        "back_1.2x_before_s": back_to_normal(requests, 1.2 * before, WORKER["after"]),
        "back_1.2x_steady_s": back_to_normal(requests, 1.2 * max(steady, before), WORKER["after"]),
        "back_lab_rule_s": back_to_normal(requests, max(2 * before, before + 0.15), WORKER["after"]),
    }


def worker_round(cluster, fault, rate, pictures):
    victim, fronts = cluster.nodes[2], cluster.nodes[:2]
    asker = Asker([(n.host, HTTP) for n in fronts], 60)
    at = {}

    def strike():
        at["t"] = time.monotonic()
        if fault == "kill":
            victim.kill()
        else:
            victim.signal(signal.SIGSTOP)

    try:
        done = asker.paced(pictures, rate, WORKER["before"] + WORKER["after"], at=((WORKER["before"], strike),))
    finally:
        asker.close()
    requests = [(d.due - at["t"], d.took) for d in done]
    made = [m[1] for d in done if d.due < at["t"] and (m := re.search(rb'made;desc="([^"]+)"', d.head))]
    wrong = [d for d in done if d.status != 200 or b"degraded" in d.head]
    if fault == "kill":
        victim.start().wait_ready()
    else:
        victim.signal(signal.SIGCONT)
    cluster.wait_in_step()
    time.sleep(3)
    return requests, judge(requests) | {
        "fault": fault, "requests": len(done), "failed": len(wrong),
        "failures": [f"{d.due - at['t']:.2f} s: {d.status} {d.error or d.head[-200:]!r}" for d in wrong[:5]],
        "victim_share_pct": 100 * made.count(b"n3") / max(1, len(made)), "windows": series(requests),
    }


def kill_worker(args, say):
    rounds, pooled = [], {"kill": [], "stop": []}
    with Cluster(3, originals={1: args.photos, 3: args.photos}, cores=WORKER["cores"]) as cluster:
        pictures = Pictures(photos_of(args.photos))
        pace = calibrate(cluster, pictures, say)
        for number in range(args.rounds):
            for fault in ("kill", "stop"):
                requests, one = worker_round(cluster, fault, pace["rate"], pictures)
                pooled[fault] += requests
                rounds.append(one)
                say(f"kill-worker: round {number + 1} {fault}: {one['requests']} requests, {one['failed']} failed, victim made {one['victim_share_pct']:.0f} %; p99 before "
                    f"{one['before_p99_ms']:.0f} ms, first second {one['first_second_p99_ms']:.0f}, second {one['second_second_p99_ms']:.0f}, then {one['steady_after_p99_ms']:.0f}; back to 1.2 x before "
                    f"{one['back_1.2x_before_s']} s, lab rule {one['back_lab_rule_s']} s {one['failures']}")
    return {"pace": pace, "rounds": rounds, "pooled": {f: judge(r) | {"windows": series(r)} for f, r in pooled.items() if r}}
