"""The cluster beside its figures: one cell for each row of the table of issue 4 that can be measured on one machine."""

from statistics import median

import cluster_costs
import cluster_faults
from report import spread, table

CELLS = {
    "peer-hit": cluster_costs.peer_hit,
    "remote-render": cluster_costs.remote_render,
    "hints": cluster_costs.hints,
    "saturated": cluster_costs.saturated,
    "leader-loss": cluster_faults.leader_loss,
    "address": cluster_faults.address,
    "kill-worker": cluster_faults.kill_worker,
}


photos = cluster_costs.photos_of


def run(args, say):
    return {"cells": {cell: CELLS[cell](args, say) for cell in args.cells if cell in CELLS}}


def peer_hit(r):
    rows = []
    for connections in sorted({x["connections"] for x in r["rounds"]}):
        some = [x for x in r["rounds"] if x["connections"] == connections]
        rows.append([connections] + [spread((x[k] for x in some), 0) for k in ("peer_us", "front_us", "owner_us", "local_us", "extra_us")]
                    + [f"{sum(x['through_peer'] for x in some)} of {sum(x['requests'] for x in some)}"])
    heads = ["connections", "peer hit, us on all nodes", "of it front", "of it owner", "local hit us", "more us", "through a peer"]
    return (f"CPU (user and system, all processes of all three nodes, what they use when idle taken off) for a hit of {r['bytes']} bytes that lies in "
            f"the memory of its owner. To reach: 100 us on both nodes together.\n\n" + table(heads, rows) + profiles(r))


def profiles(r):
    """What `perf report` says, where it was asked for."""
    found = next((x["profile"] for x in r["rounds"] if "profile" in x), {})
    return "".join(f"\n\n{name}:\n\n```text\n" + "\n".join(lines[:40]) + "\n```" for name, lines in found.items())


def remote_render(r):
    rows = []
    for way in ("same", "there", "moved again", "moved"):
        some = [x[way] for x in r["rounds"]]
        made = sorted({m for x in some for m in x["made"]})
        rows.append([way, spread((x["cpu_ms"] for x in some)), spread((x["engines_ms"] for x in some)), sum(x["renders"] for x in some), ", ".join(made)])
    more = [f"- original there: {spread((x['there_more_pct'] for x in r['rounds']), 1)} % more (to reach: 5)",
            f"- a third node that has been given the original before: {spread((x['away_more_pct'] for x in r['rounds']), 1)} % more",
            f"- moving the original: {spread(x['moved_us_per_kb'] for x in r['rounds'])} us a kB (to reach: 1.5), "
            f"{spread((x['kilobytes'] for x in r['rounds']), 0)} kB each",
            "- the same by the servers' CPU alone, as engines do the same work in every row and a busy machine makes them vary: there "
            f"{spread((x['servers_there_more_pct'] for x in r['rounds']), 1)} %, third node {spread((x['servers_away_more_pct'] for x in r['rounds']), 1)} %, "
            f"moving {spread(x['servers_moved_us_per_kb'] for x in r['rounds'])} us a kB"]
    heads = ["where", "CPU ms a render, all nodes", "of it engines", "renders", "made by"]
    return table(heads, rows) + "\n\n" + "\n".join(more) + profiles(r)


def hints(r):
    rows = []
    for phase in ("idle", "exchanging"):
        for name in ("n1", "n2", "n3"):
            some = [x[phase][name] for x in r["rounds"]]
            rows.append([phase, name, sum(x["leader"] for x in some)] + [spread((x[k] for x in some), 0) for k in
                        ("control_bytes", "control_segments", "hint_bytes", "hints", "gossip_bytes", "datagrams", "all_bytes")])
    heads = ["", "node", "rounds as leader", "control lanes B/s", "segments/s", "hints alone B/s", "hints/s", "gossip B/s", "datagrams/s", "all TCP B/s"]
    idle, busy = [x["pair_idle"] for x in r["rounds"]], [x["pair_exchanging"] for x in r["rounds"]]
    note = (f"Control lanes, TLS and framing in, TCP and IP headers out (bytes_sent of `ss`). From one follower to the other, no consensus in it: idle {spread(idle, 0)} B/s, "
            f"exchanging {spread(busy, 0)} B/s. 63 such pairs: {63 * median(busy) / 1000:.1f} kB/s a node at 64 nodes, if every pair went on as these do.")
    return table(heads, rows) + "\n\n" + note


def saturated(r):
    rows = [[n + 1, ", ".join(f"{s:.0f}" for s in x["engine_share_pct"]), ", ".join(f"{s:.0f}" for s in x["cpu_share_pct"]), ", ".join(f"{s:.0f}" for s in x["stopped_pct"])]
            + [f"{x[k]:.1f}" for k in ("healthz_p50_ms", "healthz_p99_ms", "healthz_max_ms", "status_p50_ms", "status_p99_ms", "status_max_ms")]
            + [x["probes"], x["probes_failed"], ", ".join(f"{k}: {v}" for k, v in sorted(x["answers"].items()))] for n, x in enumerate(r["rounds"])]
    heads = ["round", "engines, % of quota", "all, % of quota", "periods stopped %", "healthz p50 ms", "p99", "max", "status p50 ms", "p99", "max", "probes each", "failed", "answers"]
    return (f"Three nodes with a quota of {r['cores']} cores each, {r['rate']} distinct renders a second over all fronts, {r['seconds']} s a round. "
            f"To reach: engines at most 75 %, p99 under 50 ms.\n\n" + table(heads, rows))


def leader_loss(r):
    rows = [[name, len(each), f"{median(each):.0f}", f"{min(each):.0f}", f"{max(each):.0f}", " ".join(f"{t:.0f}" for t in each)]
            for name, each in r["each_ms"].items()]
    return ("From kill -9 of the leader to the next acknowledged write at a survivor, ms; three nodes, a new try each 10 ms whether or not the last has ended, 300 ms for each, in turns. To reach: median 800, max 1500.\n\n"
            + table(["", "kills", "median", "min", "max", "each"], rows))


def address(r):
    return f"`tutti demo --check 20 --kill {r['kills']}` ended with {r['exit']} after {r['seconds']:.0f} s and said:\n\n```json\n{r['said']}\n```"


def kill_worker(r):
    keys = ("before_p99_ms", "first_second_p99_ms", "second_second_p99_ms", "steady_after_p99_ms", "back_1.2x_before_s", "back_1.2x_steady_s", "back_lab_rule_s")

    def told(value):
        return "never" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"

    rows = [[n // 2 + 1, x["fault"], x["requests"], x["failed"], f"{x['victim_share_pct']:.0f}"] + [told(x[k]) for k in keys] for n, x in enumerate(r["rounds"])]
    rows += [["all", f, sum(x["requests"] for x in r["rounds"] if x["fault"] == f), sum(x["failed"] for x in r["rounds"] if x["fault"] == f), ""]
             + [told(p[k]) for k in keys] for f, p in r["pooled"].items()]
    heads = ["round", "fault", "requests", "failed", "victim made %", "p99 before ms", "1st second", "2nd second", "from 3 s on", "s until 1.2 x before", "until 1.2 x steady", "until lab's rule"]
    lines = []
    for fault, p in r["pooled"].items():
        windows = [f"{w:g}: {v:.0f}" for w, v in p["windows"].items() if -1 <= float(w) < 3]
        lines.append(f"p99 by 100 ms, all rounds, {fault}: " + ", ".join(windows))
    note = (f"Three nodes at a quota of 0.25 cores, {r['pace']['rate']:.1f} requests a second ({r['pace']['cost_ms']:.1f} ms of CPU each, 55 % of the three), asked of two nodes; "
            "the third is the victim. The load is 82 % of what is left.")
    return note + "\n\n" + table(heads, rows) + "\n\n" + "\n\n".join(lines)


FORMS = {"peer-hit": peer_hit, "remote-render": remote_render, "hints": hints, "saturated": saturated, "leader-loss": leader_loss,
         "address": address, "kill-worker": kill_worker}


def form(result):
    return "\n\n".join(f"### {cell}\n\n{FORMS[cell](found)}" for cell, found in result["cells"].items())
