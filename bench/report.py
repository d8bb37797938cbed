"""Results on paper: tables of medians with their spread, and the JSON with every round."""

import datetime
import json
import os
import pathlib
import platform
from statistics import median

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def spread(values, digits=2):
    """`median (lowest-highest)`."""
    values = list(values)
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})" if values else "-"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def machine():
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    return {
        "cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def render(result):
    parts = []
    for cell, servers in result["cells"].items():
        rows = []
        for name, s in sorted(servers.items(), key=lambda kv: median(r["cpu_ms"] for r in kv[1]["rounds"])):
            r = s["rounds"]
            failed = sum(sum(x["failures"].values()) for x in r)
            score = "-" if s["score"] is None else f"{s['score']:.2f}" + ("" if s["reached"] in (True, None) else " (its nearest)")
            size = "-" if s["bytes"] is None else f"{s['bytes'] / 1000:.1f}"
            rows.append([name, spread(x["cpu_ms"] for x in r), spread((x["client_cpu_ms"] for x in r), 3), spread((x["rate"] for x in r), 1),
                         score, size, s["quality"] or "-", failed])
        heads = ["server", "CPU ms/request", "client CPU ms", "requests/s", "SSIMULACRA2", "kB", "quality set", "failed"]
        parts.append(f"### {cell}\n\n{table(heads, rows)}")
    note = f"Fit 512x512, {result['connections']} connections, distinct URLs, nothing cached, {result['seconds']} s a round."
    return note + "\n\n" + "\n\n".join(parts)


def hits(result):
    parts = []
    for cell, about in result["cells"].items():
        nginx = median(r["cpu_us"] for r in about["servers"]["nginx"]) if "nginx" in about["servers"] else None
        rows = []
        for name, r in about["servers"].items():
            mine = median(x["cpu_us"] for x in r)
            rows.append([name, spread(x["cpu_us"] for x in r), f"{mine / nginx:.2f}" if nginx else "-",
                         spread((x["client_cpu_us"] for x in r)), spread((x["rate"] for x in r), 0), sum(len(x["errors"]) for x in r)])
        heads = ["server", "CPU us/hit", "x nginx", "client CPU us", "hits/s", "errors"]
        parts.append(f"### {cell} ({about['bytes']} bytes)\n\n{table(heads, rows)}")
    note = f"Keep-alive, {result['connections']} connections, one core for the server and one for wrk, {result['seconds']} s a round."
    return note + "\n\n" + "\n\n".join(parts)


def overload(result):
    rows = []
    for name, r in result["rounds"].items():
        rows.append([name, spread((x["peak_rate"] for x in r), 0), spread((100 * x["good_share"] for x in r), 1), sum(x["full"] for x in r),
                     sum(x["degraded"] for x in r), sum(x["refused"] for x in r), spread((x["refused_p99_ms"] for x in r), 1),
                     sum(sum(x["failures"].values()) for x in r), sum(x["not_sent"] for x in r)])
    heads = ["ladder", "peak/s", "kept, % of peak", "full", "degraded", "refused", "refusal p99 ms", "failures", "not sent"]
    note = f"{result['times']} x the peak for {result['flood_seconds']} s, server at a quota of {result['cores']} cores in both runs."
    return note + "\n\n" + table(heads, rows)


def memory(result):
    rows = [[name, spread((x["idle"] / 1e6 for x in r), 1), spread((x["peak_over_idle"] / 1e6 for x in r), 1),
             spread((x["first_image_ms"] for x in r), 0), sum(sum(x["failures"].values()) for x in r)] for name, r in result["rounds"].items()]
    heads = ["server", "idle MB", "peak minus idle MB", "first image ms", "failed"]
    return f"Sum of PSS over the process tree; {result['connections']} connections, cell {result['cell']}.\n\n" + table(heads, rows)


def quota(result):
    rows = [[name, spread((x["small"] for x in r), 1), spread((x["large"] for x in r), 1), spread(x["ratio"] for x in r)]
            for name, r in result["rounds"].items()]
    return table(["server", f"requests/s at {result['small']}", f"requests/s at {result['large']}", "ratio"], rows)


FORMS = {"render": render, "hits": hits, "overload": overload, "memory": memory, "quota": quota}


def write(scenario, result, versions, about, command, name=None):
    """Writes both files, named by the scenario or by `name`, and gives the path of the page. A second run of a day gets a number."""
    RESULTS.mkdir(exist_ok=True)
    day = datetime.date.today().isoformat()
    plain = f"{day}-{name or scenario}"
    stem, number = plain, 2
    while (RESULTS / f"{stem}.md").exists():
        stem, number = f"{plain}-{number}", number + 1
    facts = ", ".join(f"{k} {v}" for k, v in about.items())
    lines = [f"# {scenario}, {day}", "", f"`{command}`", "", f"Machine: {facts}.", ""]
    lines += [f"- {name}: " + ", ".join(f"{k} {v}" for k, v in found.items()) for name, found in versions.items()]
    page = "\n".join(lines) + "\n\n" + FORMS[scenario](result) + "\n"
    (RESULTS / f"{stem}.md").write_text(page)
    whole = {"scenario": scenario, "day": day, "command": command, "machine": about, "versions": versions, "result": result}
    (RESULTS / f"{stem}.json").write_text(json.dumps(whole, indent=1) + "\n")
    return RESULTS / f"{stem}.md"
