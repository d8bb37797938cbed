"""What the cluster costs: CPU of a peer hit and of a render on another node, bytes of hints, fronts beside saturated engines."""

import multiprocessing
import pathlib
import random
import re
import shutil
import subprocess
import time
from statistics import median

from asker import Asker, percentile
from nodes import ADMIN, ALL_ROLES, HTTP, Cluster
from peers import TUTTI, WORK

PEER_KEYS, PEER_BYTES = 1500, 20_000
PEER_CONNECTIONS = (1, 8, 64)
RENDERS = {"originals": 60, "variants": 3}
TOLD = ("tutti_flow_originals_total", "tutti_cluster_link_sent_bytes_total", "tutti_flow_passed_over_total", "tutti_worker_engine")
MADE = re.compile(rb'made;desc="([^"]+)"')


def owners(node, target):
    """Whom this node would ask for it, in order; itself where it is an owner."""
    steps = node.api("explain?url=" + target)["steps"]
    said = [s["values"]["nodes"] for s in steps if s["stage"] == "owner"]
    return said[0].split(", ") if said else []


def image(photo, options, answer="jpg"):
    return f"/image/unsafe/{options}/plain/local:///{photo}@{answer}"


def photos_of(folder):
    return sorted(p.name for p in pathlib.Path(folder).glob("*.jpg"))


# A peer hit.


def pick(cluster, photos):
    """A photo, a front that does not own it, its first owner."""
    by_name = {n.name: n for n in cluster.nodes}
    for photo in photos:
        for node in cluster.nodes:
            found = owners(node, image(photo, "rs:fit:512:512"))
            if len(found) == 2 and node.name not in found:
                return photo, node, by_name[found[0]]
    raise RuntimeError("every node owns every photo")


def of_size(owner, photo, wanted):
    """The options whose answer comes nearest to `wanted` bytes."""
    options = [f"rs:fit:{w}:{w}/q:{q}" for w in (320, 400, 450, 512, 600, 700) for q in (75, 80, 85, 90)]
    sizes = {o: len(owner.get(image(photo, o))[2]) for o in options}
    best = min(sizes, key=lambda o: abs(sizes[o] - wanted))
    return best, sizes[best]


def asked(cluster, node, targets, connections, idle):
    """Asks each target once; gives (CPU us a request of each node, answers)."""
    asker = Asker([(node.host, HTTP)], connections)
    try:
        before, began = [n.cpu() for n in cluster.nodes], time.monotonic()
        done = asker.all(targets)
        seconds = time.monotonic() - began
        used = [n.cpu() - b - i * seconds for n, b, i in zip(cluster.nodes, before, idle)]
    finally:
        asker.close()
    wrong = [d for d in done if d.status != 200]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(done)} failed: {wrong[0].status} {wrong[0].error}")
    return [1e6 * u / len(done) for u in used], done


def peer_hit(args, say):
    rounds = []
    keys = args.count or PEER_KEYS
    with Cluster(3, originals=dict.fromkeys((1, 2, 3), args.photos)) as cluster:
        photo, front, owner = pick(cluster, photos_of(args.photos))
        options, size = of_size(owner, photo, PEER_BYTES)
        for number in range(args.rounds):
            for connections in PEER_CONNECTIONS:
                salt = random.getrandbits(30)
                targets = [image(photo, f"{options}/cb:{salt}x{n}") for n in range(keys)]
                asked(cluster, owner, targets, 8, [0, 0, 0])
                time.sleep(1)
                idle = []
                before, began = [n.cpu() for n in cluster.nodes], time.monotonic()
                time.sleep(4)
                idle = [(n.cpu() - b) / (time.monotonic() - began) for n, b in zip(cluster.nodes, before)]
                again = targets + random.sample(targets, len(targets))
                local, _ = asked(cluster, owner, again, connections, idle)
                peer, done = asked(cluster, front, again, connections, idle)
                at = cluster.nodes.index
                one = {
                    "connections": connections, "requests": len(done), "local_us": sum(local), "peer_us": sum(peer),
                    "extra_us": sum(peer) - sum(local), "front_us": peer[at(front)], "owner_us": peer[at(owner)],
                    "looked_again": sum(b"original;dur" in d.head for d in done),
                    "through_peer": sum(b"through;desc=" in d.head and b"; hit" in d.head for d in done),
                    "p50_ms": 1000 * percentile([d.took for d in done], 0.5), "idle_cores": sum(idle),
                }
                rounds.append(one)
                say(f"peer-hit: round {number + 1}, {connections} connections: local {one['local_us']:.0f} us, peer {one['peer_us']:.0f} us "
                    f"(front {one['front_us']:.0f}, owner {one['owner_us']:.0f}), {one['through_peer']} of {one['requests']} through a peer, {one['looked_again']} looked at the original again")
                if args.profile and number == 0 and connections == 8:
                    one["profile"] = profile(cluster, front, owner, photo, options)
    return {"bytes": size, "options": options, "rounds": rounds}


def profile(cluster, front, owner, photo, options):
    """Where the CPU of peer hits goes on each of both: the text of `perf report`."""
    salt, said = random.getrandbits(30), {}
    targets = [image(photo, f"{options}/cb:{salt}x{n}") for n in range(3000)]
    asked(cluster, owner, targets, 8, [0, 0, 0])
    time.sleep(1)
    for name, node in (("front", front), ("owner", owner)):
        said[f"{name} calls a hit"] = calls(front, node, targets)
    salt = random.getrandbits(30)
    targets = [image(photo, f"{options}/cb:{salt}x{n}") for n in range(3000)]
    asked(cluster, owner, targets, 8, [0, 0, 0])

    def hit():
        _, done = asked(cluster, front, targets + targets, 8, [0, 0, 0])
        said["looked at the original again"] = [str(sum(b"original;dur" in d.head for d in done))]

    return said | perf(cluster, {"front": front, "owner": owner}, hit)


def perf(cluster, nodes, action):
    """Where the CPU of each of these servers goes while `action` runs: what `perf report` says, in short."""
    running, said = {}, {}
    for name, node in nodes.items():
        out = cluster.folder / f"perf-{name}"
        command = ["perf", "record", "-e", "cpu-clock", "-F", "2500", "-g", "-o", str(out), "-p", str(node.server.pid)]
        running[name] = out, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    action()
    for name, (out, process) in running.items():
        process.send_signal(2)
        process.wait(30)
        said[f"{name} parts"] = parts(out)
        for kind, more in (("threads", ["--no-children", "--sort", "comm,dso"]), ("flat", ["--no-children", "--sort", "symbol"]),
                           ("cum", ["--children", "--sort", "symbol"])):
            report = subprocess.run(["perf", "report", "-i", str(out), "--stdio", "-g", "none", "--percent-limit", "0.5", *more],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            said[f"{name} {kind}"] = [line.rstrip() for line in report.splitlines() if line.strip() and not line.startswith("#")][:150]
    return said


def calls(front, node, targets):
    """System calls and context switches of `node` for each hit."""
    events = ["raw_syscalls:sys_enter", "context-switches", "cpu-migrations", "page-faults"]
    counter = subprocess.Popen(["perf", "stat", "-x", ";", "-e", ",".join(events), "-p", str(node.server.pid)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    asker = Asker([(front.host, HTTP)], 8)
    done = asker.all(targets)
    asker.close()
    counter.send_signal(2)
    rows = [line.split(";") for line in counter.communicate(timeout=30)[1].splitlines()]
    return [f"{int(r[0]) / len(done):.1f} {r[2]}" for r in rows if r[0].isdigit()]


def parts(out):
    """Samples by the part that runs: crates of the binary, libc, the kernel; in percent."""
    text = subprocess.run(["perf", "report", "-i", str(out), "--stdio", "-g", "none", "--no-children", "--percent-limit", "0", "--sort", "dso,symbol"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    sums = {}
    for line in text.splitlines():
        found = re.match(r"\s+([\d.]+)%\s+(\S+)\s+\[.\] (.*)", line)
        if found:
            share, dso, symbol = float(found[1]), found[2], found[3].strip()
            crate = re.search(r"([a-z][a-z0-9_]*)::", symbol)
            name = dso if dso != TUTTI.name else crate[1] if crate and crate[1] not in ("core", "alloc", "std") else next(
                (m for m in re.findall(r"([a-z][a-z0-9_]*)::", symbol) if m not in ("core", "alloc", "std")), crate[1] if crate else symbol[:24])
            sums[name] = sums.get(name, 0) + share
    return [f"{share:5.1f} %  {name}" for name, share in sorted(sums.items(), key=lambda one: -one[1])[:25]]


# A render on another node.


def make_originals(folder, sources, count, tag):
    """So many files with names and bytes of their own: photos with something behind their end."""
    made = []
    for n in range(count):
        source = sources[n % len(sources)]
        name = f"{tag}-{n}.jpg"
        (folder / name).write_bytes(source.read_bytes() + random.randbytes(16))
        made.append(name)
    return made


def only_worker(cluster, which):
    for node in cluster.nodes:
        roles = set((ALL_ROLES if node.name != "n3" else "front,voter,worker").split(","))
        roles -= set() if node.name == which else {"worker"}
        cluster.set_roles(node, ",".join(sorted(roles)))


def rendered(cluster, targets, idle):
    before = [n.labelled() for n in cluster.nodes]
    engines = sum(n.engine_cpu() for n in cluster.nodes)
    used, done = asked(cluster, cluster.nodes[0], targets, 2, idle)
    engines = 1000 * (sum(n.engine_cpu() for n in cluster.nodes) - engines) / len(done)
    counts = {n.name: {k: v - b.get(k, 0) for k, v in n.labelled().items() if k.startswith(TOLD) and v > b.get(k, 0)}
              for n, b in zip(cluster.nodes, before)}
    makers = [m[1].decode() if (m := MADE.search(d.head)) else "?" for d in done]
    return {"cpu_ms": sum(used) / 1000, "engines_ms": engines, "each_ms": [u / 1000 for u in used], "counts": counts, "renders": len(done), "made": {m: makers.count(m) for m in set(makers)},
            "hits": sum(b"; hit" in d.head for d in done)}


def remote_render(args, say):
    count, variants = args.count or RENDERS["originals"], RENDERS["variants"]
    folder = WORK / "cluster-originals"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = sorted(pathlib.Path(args.photos).glob("*.jpg"))
    rounds = []
    roles = {3: "front,voter,worker"}
    try:
        with Cluster(3, originals={1: folder}, roles=roles) as cluster:
            idle = [cluster.idle_cpu(4) / 3] * 3
            for number in range(args.rounds):
                one = remote_round(cluster, folder, sources, count, variants, number, idle, say, args.profile and number == args.rounds - 1)
                rounds.append(one)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"rounds": rounds, "originals": count, "variants": variants}


def remote_round(cluster, folder, sources, count, variants, number, idle, say, profiled):
    """All ways in one round, over the same originals; the order turns."""
    first = cluster.nodes[0]
    mine, salt = [], 0
    while len(mine) < count:
        name = make_originals(folder, [sources[len(mine) % len(sources)]], 1, f"r{number}-{salt}")[0]
        salt += 1
        if owners(first, image(name, "rs:fit:512:512"))[:1] == ["n1"]:
            mine.append(name)
        else:
            (folder / name).unlink()
    kilobytes = sum((folder / n).stat().st_size for n in mine) / 1000 / len(mine)
    # Every picture is another one, and no way gets larger ones: widths are dealt out.
    widths_left, serial = random.sample(range(440, 460), 20), iter(range(1, 200))

    def targets(times):
        widths = [widths_left.pop() for _ in range(times)]
        return [image(name, f"rs:fit:{w}:{w}") for w in widths for name in mine]

    only_worker(cluster, "n1")
    asked(cluster, first, targets(1), 2, [0, 0, 0])
    time.sleep(2)
    one, ways = {"kilobytes": kilobytes}, [("same", "n1"), ("there", "n2"), ("moved", "n3")]
    turn = number % 3
    for way, worker in ways[turn:] + ways[:turn]:
        only_worker(cluster, worker)
        warm = [image(p.name, f"rs:fit:{300 + next(serial)}:300") for p in [folder / n for n in mine[:1]] * 8]
        warm = [w.replace("rs:fit:", f"rs:fit:{i}") for i, w in enumerate(warm, 1)]
        asked(cluster, first, warm, 2, [0, 0, 0])
        time.sleep(1)
        if way == "moved":
            if profiled:
                one["profile"] = perf(cluster, {"from": first, "to": cluster.nodes[2]}, lambda: one.update(moved=rendered(cluster, targets(1), idle)))
            else:
                one["moved"] = rendered(cluster, targets(1), idle)
            one["moved again"] = rendered(cluster, targets(variants), idle)
        else:
            # A folder's file is copied to a node when it is first needed there: this pass does not count.
            asked(cluster, first, targets(1), 2, [0, 0, 0])
            time.sleep(1)
            one[way] = rendered(cluster, targets(variants), idle)
    one["there_more_pct"] = 100 * (one["there"]["cpu_ms"] / one["same"]["cpu_ms"] - 1)
    one["away_more_pct"] = 100 * (one["moved again"]["cpu_ms"] / one["same"]["cpu_ms"] - 1)
    one["moved_us_per_kb"] = 1000 * (one["moved"]["cpu_ms"] - one["moved again"]["cpu_ms"]) / kilobytes
    servers = {w: one[w]["cpu_ms"] - one[w]["engines_ms"] for w in ("same", "there", "moved", "moved again")}
    one["servers_there_more_pct"] = 100 * (servers["there"] - servers["same"]) / one["same"]["cpu_ms"]
    one["servers_away_more_pct"] = 100 * (servers["moved again"] - servers["same"]) / one["same"]["cpu_ms"]
    one["servers_moved_us_per_kb"] = 1000 * (servers["moved"] - servers["moved again"]) / kilobytes
    say(f"remote-render: servers alone there {one['servers_there_more_pct']:+.1f} %, away {one['servers_away_more_pct']:+.1f} %, moved {one['servers_moved_us_per_kb']:.2f} us/kB")
    say(f"remote-render: round {number + 1}: " + ", ".join(f"{w} {one[w]['cpu_ms']:.2f} ms {one[w]['made']}" for w in ("same", "there", "moved", "moved again"))
        + f"; there {one['there_more_pct']:+.1f} %, moved {one['moved_us_per_kb']:.2f} us/kB of {kilobytes:.0f} kB")
    return one


# Bytes between nodes.


def sent_by_socket(cluster):
    """Bytes sent so far by (node, its port, the other's port), for sockets between nodes. TLS and framing included, TCP and IP not."""
    said = subprocess.run(["ss", "-tniOpH", "state", "established", "( sport = :8400 or dport = :8400 )"], stdout=subprocess.PIPE, text=True).stdout
    pid_of = {n.server.pid: n.name for n in cluster.nodes}
    found = {}
    for line in said.splitlines():
        pid, sent = re.search(r"pid=(\d+)", line), re.search(r"bytes_sent:(\d+)", line)
        if pid and sent and int(pid[1]) in pid_of:
            fields = line.split()
            segments = re.search(r"segs_out:(\d+)", line)
            found[pid_of[int(pid[1])], fields[2], fields[3]] = int(sent[1]), int(segments[1])
    return found


def watched(cluster, seconds, during=None):
    before, counts, began = sent_by_socket(cluster), [n.metrics() for n in cluster.nodes], time.monotonic()
    (during or time.sleep)(seconds)
    took = time.monotonic() - began
    after = sent_by_socket(cluster)
    sent = {k: ((after[k][0] - before.get(k, (0, 0))[0]) / took, (after[k][1] - before.get(k, (0, 0))[1]) / took) for k in after}
    more = [{k: (v - c.get(k, 0)) / took for k, v in n.metrics().items() if k.startswith("tutti_cluster_") and k.endswith("_total")}
            for n, c in zip(cluster.nodes, counts)]
    return sent, more


def by_node(cluster, sent, control, counts, leader):
    rows = {}
    for node, count in zip(cluster.nodes, counts):
        mine = {k: v for k, v in sent.items() if k[0] == node.name}
        rows[node.name] = {
            "leader": node.name == leader, "all_bytes": sum(v[0] for v in mine.values()),
            "control_bytes": sum(v[0] for k, v in mine.items() if k in control),
            "control_segments": sum(v[1] for k, v in mine.items() if k in control),
            "hint_bytes": count["tutti_cluster_hints_sent_bytes_total"], "hints": count["tutti_cluster_hints_sent_total"],
            "gossip_bytes": count["tutti_cluster_gossip_sent_bytes_total"], "datagrams": count["tutti_cluster_datagrams_sent_total"],
        }
    return rows


def pair_bytes(sent, control, followers, ports):
    """Control bytes a second from one follower to the other: neither leads, so no consensus is in them."""
    total = 0
    for (name, local, remote), (rate, _) in sent.items():
        other = ports.get(remote) or ports.get(local)
        if (name, local, remote) in control and name == followers[0] and other == followers[1]:
            total += rate
    return total


def hints(args, say):
    rounds = []
    with Cluster(3, originals=dict.fromkeys((1, 2, 3), args.photos)) as cluster:
        photos, salt = photos_of(args.photos), random.getrandbits(16)
        rate = 25
        for number in range(args.rounds):
            leader = cluster.leader().name
            time.sleep(2)
            idle, idle_counts = watched(cluster, args.seconds)
            control = {k for k, v in idle.items() if v[0] > 5}
            asker = Asker([(n.host, HTTP) for n in cluster.nodes], 40)

            def target(n):
                k = n + 100_000 * number
                return image(photos[k % len(photos)], f"rs:fit:{60 + k % 190}:{200 + k // 190 % 100}/q:{60 + salt % 20 + k // 19000 % 20}")

            done = []
            busy, busy_counts = watched(cluster, args.seconds, lambda s: done.extend(asker.paced(target, rate, s)))
            asker.close()
            owner_of = {}
            for (name, local, remote) in busy:
                owner_of.setdefault(local, name)
            followers = [n.name for n in cluster.nodes if n.name != leader]
            # The far end of a socket is the node that has it as its near end.
            ports = {remote: owner_of.get(remote) for (_, _, remote) in busy}
            one = {
                "requests": len(done), "failed": sum(d.status != 200 for d in done),
                "away": sum(1 for d in done if b"through;desc=" in d.head),
                "idle": by_node(cluster, idle, control, idle_counts, leader), "exchanging": by_node(cluster, busy, control, busy_counts, leader),
                "pair_idle": pair_bytes(idle, control, followers, ports), "pair_exchanging": pair_bytes(busy, control, followers, ports),
            }
            rounds.append(one)
            say(f"hints: round {number + 1}: control B/s a node idle {[round(r['control_bytes']) for r in one['idle'].values()]}, exchanging "
                f"{[round(r['control_bytes']) for r in one['exchanging'].values()]} (leader {leader}); follower to follower "
                f"{one['pair_idle']:.0f} and {one['pair_exchanging']:.0f}; {len(done)} requests, {one['away']} through a peer, {one['failed']} failed")
    return {"rounds": rounds, "rate": rate, "seconds": args.seconds}


# Fronts beside saturated engines.

SATURATED = {"cores": 0.5, "rate": 120, "probe_hz": 20}


def probe(hosts, seconds, hz, pipe):
    """A process of its own: asks health and status of each node, and sends what each took."""
    import http.client
    took, failed = {"healthz": [], "status": []}, 0
    connections = {}
    until, n = time.monotonic() + seconds, 0
    due = time.monotonic()
    while due < until:
        time.sleep(max(0, due - time.monotonic()))
        for host in hosts:
            for name, path in (("healthz", "/healthz"), ("status", "/api/v1/status")):
                began = time.monotonic()
                try:
                    c = connections.get(host) or connections.setdefault(host, http.client.HTTPConnection(host, ADMIN, timeout=5))
                    c.request("GET", path)
                    answer = c.getresponse()
                    answer.read()
                    failed += answer.status != 200
                except (OSError, http.client.HTTPException):
                    failed += 1
                    connections.pop(host, None)
                took[name].append(time.monotonic() - began)
        n += 1
        due = max(due + 1 / hz, time.monotonic())
    pipe.send((took, failed))


def saturated(args, say):
    rounds = []
    cores, rate = SATURATED["cores"], SATURATED["rate"]
    with Cluster(3, originals=dict.fromkeys((1, 2, 3), args.photos), cores=cores) as cluster:
        photos = photos_of(args.photos)
        for number in range(args.rounds):
            salt = number * 40_000
            asker = Asker([(n.host, HTTP) for n in cluster.nodes], 200, within=30)

            def target(n):
                k = n + salt
                return image(photos[k % len(photos)], f"rs:fit:{400 + k % 200}:{400 + k // 200 % 200}/q:{70 + number}")

            mine, its = multiprocessing.Pipe()
            prober = multiprocessing.Process(target=probe, args=([n.host for n in cluster.nodes], args.seconds, SATURATED["probe_hz"], its))
            marks = {}

            def begin():
                marks["began"], marks["engines"], marks["all"] = time.monotonic(), [n.engine_cpu() for n in cluster.nodes], [n.cpu() for n in cluster.nodes]
                marks["throttled"] = [n.throttled() for n in cluster.nodes]
                prober.start()

            def end():
                seconds = time.monotonic() - marks["began"]
                marks["share"] = [(n.engine_cpu() - e) / seconds / cores for n, e in zip(cluster.nodes, marks["engines"])]
                marks["stopped"] = [(n.throttled()[1] - t[1]) / max(1, n.throttled()[0] - t[0]) for n, t in zip(cluster.nodes, marks["throttled"])]
                marks["used"] = [(n.cpu() - e) / seconds / cores for n, e in zip(cluster.nodes, marks["all"])]

            done = asker.paced(target, rate, args.seconds + 4, at=((3, begin), (3 + args.seconds, end)))
            took, failed = mine.recv()
            prober.join()
            asker.close()
            answers = {}
            for d in done:
                key = str(d.status or d.error)
                answers[key] = answers.get(key, 0) + 1
            refused = [d.took for d in done if d.status == 503]
            one = {
                "engine_share_pct": [100 * s for s in marks["share"]], "cpu_share_pct": [100 * s for s in marks["used"]], "answers": answers,
                "stopped_pct": [100 * s for s in marks["stopped"]],
                "healthz_p99_ms": 1000 * percentile(took["healthz"], 0.99), "status_p99_ms": 1000 * percentile(took["status"], 0.99),
                "healthz_p50_ms": 1000 * median(took["healthz"]), "status_p50_ms": 1000 * median(took["status"]),
                "healthz_max_ms": 1000 * max(took["healthz"]), "status_max_ms": 1000 * max(took["status"]),
                "probes": len(took["healthz"]), "probes_failed": failed, "refused_p99_ms": 1000 * percentile(refused, 0.99) if refused else None,
            }
            rounds.append(one)
            say(f"saturated: round {number + 1}: engines {[round(s) for s in one['engine_share_pct']]} % of the quota (all {[round(s) for s in one['cpu_share_pct']]}), healthz p99 "
                f"{one['healthz_p99_ms']:.1f} ms, status p99 {one['status_p99_ms']:.1f} ms, stopped by the quota in {[round(s) for s in one['stopped_pct']]} % of periods, {answers}")
            time.sleep(3)
    return {"rounds": rounds, "cores": cores, "rate": rate, "seconds": args.seconds}
