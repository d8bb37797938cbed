"""A cluster of ours on loopback, as the bench sees it: starts, asks, counts CPU, kills, cleans up. Measures, decides nothing."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from peers import TUTTI, WORK
from procs import Quota, Server, TICKS, tree

HTTP, NODE, ADMIN, METRICS = 8080, 8400, 8401, 8402
WAIT_SECONDS = 60
ALL_ROLES = "front,worker,voter,cache"


def eventually(what, check, seconds=WAIT_SECONDS, every=0.02):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(every)
    raise RuntimeError(f"in vain for {seconds} s: {what}")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the administration's socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def cpu_of(pid):
    """CPU seconds of a process, to the nanosecond, and of its children that have ended; None if it has ended itself."""
    try:
        own = time.clock_gettime((~pid << 3) | 2)
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return own, (int(fields[13]) + int(fields[14])) / TICKS
    except (OSError, IndexError):
        return None


class Node:
    def __init__(self, at, folder, subnet=3, originals=None, roles=None, cores=None):
        self.name, self.host = f"n{at}", f"127.0.{subnet}.{at}"
        self.folder, self.originals, self.roles, self.cores = folder / f"n{at}", originals, roles, cores
        self.data = self.folder / "data"
        self.server = None
        self.folder.mkdir(parents=True)

    def start(self, token=None):
        command = [TUTTI, "serve", "--name", self.name, "--data", self.data, "--log", "json"]
        for flag, port in (("--http", HTTP), ("--node", NODE), ("--admin", ADMIN), ("--metrics", METRICS)):
            command += [flag, f"{self.host}:{port}"]
        if self.originals:
            command += ["--originals", self.originals]
        if self.roles:
            command += ["--roles", self.roles]
        if token:
            command += ["--join", token]
        quota = Quota(self.cores, self.name) if self.cores else None
        self.server = Server(command, self.folder / "log", quota=quota)
        return self

    def wait_ready(self):
        eventually(f"{self.name} is ready; see {self.folder}/log", lambda: self.status_code("/readyz") == 200)
        return self

    def status_code(self, path):
        try:
            return self.get(path, 2)[0]
        except (OSError, http.client.HTTPException):
            return None

    def get(self, path, timeout=30, port=HTTP):
        connection = http.client.HTTPConnection(self.host, port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def api(self, path, body=None, timeout=10):
        """Asks the administration; gives the JSON, or raises."""
        connection = UnixConnection(self.data / "admin.sock", timeout)
        try:
            kind = {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", f"/api/v1/{path}", None if body is None else json.dumps(body), kind)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise OSError(f"{response.status}: {text[:200]!r}")
            return json.loads(text)
        finally:
            connection.close()

    def tutti(self, *words):
        done = subprocess.run([str(TUTTI), *map(str, words), "--data", str(self.data), "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{words} on {self.name}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def labelled(self):
        """Each metric with its labels."""
        lines = self.get("/metrics", port=METRICS)[2].decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def metrics(self):
        """Each metric's sum over its labels."""
        sums = {}
        for name, value in self.labelled().items():
            sums[name.split("{")[0]] = sums.get(name.split("{")[0], 0.0) + value
        return sums

    def pids(self):
        return tree(self.server.pid)

    def cpu(self):
        """CPU seconds of the server and its engines."""
        found = [cpu_of(p) for p in self.pids()]
        return sum(own + ended for own, ended in filter(None, found))

    def engine_cpu(self):
        """CPU seconds of the engines alone, those that have ended included."""
        below = [c for c in map(cpu_of, self.pids()[1:]) if c]
        server = cpu_of(self.server.pid)
        return sum(own + ended for own, ended in below) + (server[1] if server else 0.0)

    def throttled(self):
        """How many periods its quota has had, and in how many it was stopped (cgroup v1)."""
        text = (self.server.quota.path / "cpu.stat").read_text() if self.cores else ""
        found = dict(line.split() for line in text.splitlines())
        return int(found.get("nr_periods", 0)), int(found.get("nr_throttled", 0))

    def signal(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except OSError:
                pass

    def kill(self):
        """`kill -9` of everything of this node."""
        self.signal(signal.SIGKILL)
        self.server.process.wait()
        self.server.log.close()

    def stop(self):
        if self.server:
            if self.server.alive():
                self.signal(signal.SIGCONT)
            self.server.stop()
            self.server = None


class Cluster:
    """So many nodes that have joined; `with` cleans them up."""

    def __init__(self, count, subnet=3, originals=None, roles=None, cores=None):
        """`originals` and `roles` give what each node, from 1 on, has; `cores` is each node's quota."""
        folder = WORK / f"cluster-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        originals, roles = originals or {}, roles or {}
        self.folder = folder
        self.nodes = [Node(at, folder, subnet, originals.get(at), roles.get(at), cores) for at in range(1, count + 1)]

    def __enter__(self):
        try:
            self.nodes[0].start().wait_ready()
            for node in self.nodes[1:]:
                node.start(self.nodes[0].tutti("token", "create")["token"]).wait_ready()
            self.wait_in_step()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def in_step(self):
        """Every node sees every other up, under one leader, at one revision, with as many voters as can be."""
        able = sum(1 for n in self.nodes if not n.roles or "voter" in n.roles)
        voters = able if able % 2 else max(1, able - 1)
        seen = set()
        for node in self.nodes:
            try:
                said = node.api("status", timeout=2)
            except (OSError, ValueError, http.client.HTTPException):
                return False
            up = [n for n in said["nodes"] if n["state"] == "up"]
            if len(up) != len(self.nodes) or sum(n["voter"] == "voter" for n in said["nodes"]) != voters:
                return False
            seen.add((said["leader"], said["revision"]))
        return len(seen) == 1 and None not in next(iter(seen))

    def wait_in_step(self):
        eventually("the nodes are in step", self.in_step, every=0.1)

    def leader(self):
        name = self.nodes[0].api("status")["leader"]
        return next(n for n in self.nodes if n.name == name)

    def cpu(self):
        return sum(n.cpu() for n in self.nodes)

    def idle_cpu(self, seconds):
        """CPU seconds a second of all nodes when nobody asks."""
        before, began = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - began)

    def set_roles(self, node, roles):
        self.nodes[0].tutti("node", "roles", node.name, roles)
        want = set(roles.split(","))

        def everywhere():
            return all(set(n["roles"]) == want for one in self.nodes for n in one.api("status")["nodes"] if n["name"] == node.name)

        eventually(f"everyone knows the roles of {node.name}", everywhere)
        time.sleep(0.3)
