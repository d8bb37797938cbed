#!/usr/bin/env python3
"""Measures Tutti beside its peers. Says how in bench/README.md; writes to bench/results/."""

import argparse
import os
import pathlib
import shlex
import sys

import cluster
import hits
import memory
import overload
import peers as world
import quota
import render
import report

report.FORMS["cluster"] = cluster.form
SCENARIOS = ("render", "hits", "overload", "memory", "quota", "cluster")


def say(text):
    print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=(*SCENARIOS, "all"))
    parser.add_argument("--cell", dest="cells", action="append", choices=[*world.CELLS, *cluster.CELLS],
                        help="render, cluster: one cell (repeatable); default all")
    parser.add_argument("--peers", type=lambda s: s.split(","), default=[], help="names with commas; default all that are installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of load in a round")
    parser.add_argument("--connections", type=int, default=2, help="render")
    parser.add_argument("--quality", choices=("equal", "default"), default="equal",
                        help="render: every server at a mean SSIMULACRA2 of 75, or all at --nominal")
    parser.add_argument("--nominal", type=int, default=80)
    parser.add_argument("--peak-seconds", type=int, default=10, help="overload")
    parser.add_argument("--flood-seconds", type=int, default=30, help="overload")
    parser.add_argument("--count", type=int, help="cluster: keys, originals or kills instead of the usual number")
    parser.add_argument("--profile", action="store_true", help="cluster: profile peer hits with perf")
    parser.add_argument("--photos", default=os.environ.get("BENCH_PHOTOS", str(world.ROOT / "samples")), help="a folder of JPEG photos")
    parser.add_argument("--no-report", action="store_true", help="write no result files")
    args = parser.parse_args()
    args.cells = args.cells or [*world.CELLS, *cluster.CELLS]
    args.seconds = int(args.seconds) if args.seconds >= 1 else args.seconds
    return args


def chosen(args):
    """The servers to measure; who is left out is named."""
    known = {p.name for p in world.RENDERERS} | {k.name for k in world.keepers()} | {"floor"}
    unknown = [n for n in args.peers if n not in known]
    if unknown:
        sys.exit(f"error: no peer {unknown[0]}; there are {', '.join(sorted(known))}")
    wanted = [p for p in world.RENDERERS if not args.peers or p.name in args.peers]
    for peer in wanted:
        if not peer.installed():
            say(f"left out, not installed: {peer.name}")
    return [p for p in wanted if p.installed()]


def run_one(scenario, args, peers, photos, stems):
    if scenario == "cluster":
        return cluster.run(args, say)
    if scenario == "render":
        args.cells = [c for c in args.cells if c in world.CELLS]
        return render.run(args, peers, photos, stems, say)
    if scenario == "hits":
        return hits.run(args, photos, stems, say)
    if scenario == "overload":
        return overload.run(args, photos, stems, say)
    few = [p for p in peers if p.name in ("tutti", "ipx", "oximg")] if not args.peers else peers
    return (memory if scenario == "memory" else quota).run(args, few, photos, stems, say)


def main():
    args = arguments()
    if not world.TUTTI.exists():
        sys.exit(f"error: {world.TUTTI} is missing; run `make bench`, or `cargo build --release -p tutti`, or set BENCH_TUTTI")
    world.WORK.mkdir(parents=True, exist_ok=True)
    args.photos = str(pathlib.Path(args.photos).resolve())
    alone = args.scenario == "cluster"
    peers = [p for p in world.RENDERERS if p.name == "tutti"] if alone else chosen(args)
    photos, stems = (None, cluster.photos(args.photos)) if alone else world.make_sources(args.photos)
    about = report.machine() | {"photos": len(stems)}
    if about["load_before"] > 0.5:
        say(f"warning: the machine is not quiet (load {about['load_before']:.1f}); figures will be off")
    command = " ".join(["bench/run.py", *map(shlex.quote, sys.argv[1:])]).replace(str(pathlib.Path(args.photos)), "PHOTOS")
    for scenario in SCENARIOS if args.scenario == "all" else [args.scenario]:
        result = run_one(scenario, args, peers, photos, stems)
        versions = {p.name: p.versions() for p in peers}
        if "versions" in result:
            versions |= {n: {"version": v} for n, v in result["versions"].items()}
        if args.no_report:
            say(report.FORMS[scenario](result))
        else:
            name = "-".join(["cluster", *result["cells"]]) if scenario == "cluster" and len(result["cells"]) == 1 else None
            say(f"written: {report.write(scenario, result, versions, about, command, name)}")


if __name__ == "__main__":
    main()
