"""Processes as the bench sees them: CPU and memory of a whole tree, quotas by cgroup, free ports. Measures, decides nothing."""

import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tree(pid):
    """The process and all below it."""
    found = [pid]
    for p in found:
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                found += [int(c) for c in pathlib.Path(f"/proc/{p}/task/{task}/children").read_text().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    """User and system time of a tree, with that of children that have ended and were waited for."""
    total = 0
    for p in tree(pid):
        try:
            fields = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(f) for f in fields[11:15])
        except (OSError, IndexError):
            pass
    return total / TICKS


def pss_bytes(pid):
    """Proportional memory of a tree: pages that are shared count once in all."""
    total = 0
    for p in tree(pid):
        try:
            for line in pathlib.Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


class PeakMemory:
    """Samples the memory of a tree in a thread, and keeps the highest."""

    def __init__(self, pid, every=0.05):
        self.peak, self.pid, self.every, self.going = 0, pid, every, True
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while self.going:
            self.peak = max(self.peak, pss_bytes(self.pid))
            time.sleep(self.every)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.thread.join()


class Quota:
    """A CPU quota in cores, by cgroup v2 or v1. `None` as cores is no quota. Needs root."""

    PERIOD_US = 100_000

    def __init__(self, cores, name="server"):
        self.cores = cores
        if cores is None:
            return
        v2 = pathlib.Path("/sys/fs/cgroup/cgroup.controllers")
        quota = int(cores * self.PERIOD_US)
        name = f"tutti-bench-{os.getpid()}-{name}"
        if v2.exists() and "cpu" in v2.read_text().split():
            self.path = v2.parent / name
            self.path.mkdir(exist_ok=True)
            (v2.parent / "cgroup.subtree_control").write_text("+cpu")
            (self.path / "cpu.max").write_text(f"{quota} {self.PERIOD_US}")
        else:
            base = next((p for p in map(pathlib.Path, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"]) if p.exists()), None)
            if base is None:
                raise RuntimeError("no cgroup with a CPU quota on this machine")
            self.path = base / name
            self.path.mkdir(exist_ok=True)
            (self.path / "cpu.cfs_period_us").write_text(str(self.PERIOD_US))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota))

    def enter(self):
        """Called in the child before it becomes the server."""
        if self.cores is not None:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def close(self):
        if self.cores is not None:
            for _ in range(50):
                try:
                    self.path.rmdir()
                    return
                except OSError:
                    time.sleep(0.1)


class Server:
    """A server process of its own group, with its log in a file; stopped with everything below it."""

    def __init__(self, command, log, env=None, cpus=None, quota=None, cwd=None):
        self.quota = quota or Quota(None)
        self.log = open(log, "ab")

        def prepare():
            self.quota.enter()
            if cpus is not None:
                os.sched_setaffinity(0, cpus)

        full = dict(os.environ, **(env or {}))
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [str(c) for c in command], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=full, cwd=cwd,
            preexec_fn=prepare, start_new_session=True,
        )
        self.pid = self.process.pid

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        below = tree(self.pid)
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        for p in below:
            try:
                os.kill(p, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()
        self.log.close()
        self.quota.close()
