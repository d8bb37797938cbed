"""A cheap client of many connections in one thread: a list of requests as fast as they go, or a steady pace whoever is slow."""

import re
import select
import socket
import time
from collections import deque

LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.I)


class Done:
    """What came of one request. `took` counts from when it was due."""

    __slots__ = ("due", "took", "front", "status", "head", "size", "error")

    def __init__(self, due, took, front, status, head, size, error):
        self.due, self.took, self.front, self.status = due, took, front, status
        self.head, self.size, self.error = head, size, error


class Connection:
    __slots__ = ("sock", "front", "job", "held", "need")

    def __init__(self, address, front):
        self.sock = socket.create_connection(address, timeout=1)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.front, self.job, self.held, self.need = front, None, bytearray(), None


class Asker:
    """`fronts` are addresses; at most `connections` to each."""

    def __init__(self, fronts, connections, within=10):
        self.fronts, self.connections, self.within = fronts, connections, within
        self.idle = [[] for _ in fronts]
        self.open = [0] * len(fronts)
        self.poll, self.busy, self.done = select.epoll(), {}, []

    def close(self):
        for c in [*self.busy.values(), *sum(self.idle, [])]:
            c.sock.close()
        self.poll.close()

    def fail(self, c, error):
        self.busy.pop(c.sock.fileno(), None)
        due, _ = c.job
        self.done.append(Done(due, time.monotonic() - due, c.front, 0, b"", 0, error))
        self.open[c.front] -= 1
        c.sock.close()

    def send(self, due, front, target):
        """Sends it if a connection can be had; else says no."""
        if not self.idle[front]:
            if self.open[front] >= self.connections:
                return False
            try:
                c = Connection(self.fronts[front], front)
            except OSError as error:
                self.done.append(Done(due, time.monotonic() - due, front, 0, b"", 0, f"connect: {error}"))
                return True
            self.open[front] += 1
            self.poll.register(c.sock.fileno(), select.EPOLLIN)
        else:
            c = self.idle[front].pop()
        c.job, c.need = (due, target), None
        c.held.clear()
        self.busy[c.sock.fileno()] = c
        try:
            c.sock.sendall(b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % target.encode())
        except OSError as error:
            self.fail(c, f"send: {error}")
        return True

    def take(self, c):
        try:
            piece = c.sock.recv(1 << 18)
        except OSError as error:
            return self.fail(c, f"read: {error}")
        if not piece:
            return self.fail(c, "closed")
        c.held += piece
        if c.need is None:
            end = c.held.find(b"\r\n\r\n")
            if end < 0:
                return None
            c.need = end + 4 + int(LENGTH.search(c.held, 0, end + 2)[1])
        if len(c.held) >= c.need:
            head = bytes(c.held[: c.held.find(b"\r\n\r\n")])
            due, _ = c.job
            size = c.need - len(head) - 4
            self.done.append(Done(due, time.monotonic() - due, c.front, int(head[9:12]), head, size, None))
            del self.busy[c.sock.fileno()]
            self.idle[c.front].append(c)
        return None

    def step(self, timeout):
        for fd, _ in self.poll.poll(max(0, timeout)):
            c = self.busy.get(fd)
            if c is not None:
                self.take(c)
            else:
                for pool in self.idle:
                    for c in [c for c in pool if c.sock.fileno() == fd]:
                        pool.remove(c)
                        self.open[c.front] -= 1
                        c.sock.close()

    def expire(self):
        now = time.monotonic()
        for c in [c for c in self.busy.values() if now - c.job[0] > self.within]:
            self.fail(c, f"no answer within {self.within} s")

    def all(self, targets, front=0):
        """Each target once, all connections busy. Gives what came of them."""
        self.done, waiting = [], deque(targets)
        while waiting or self.busy:
            while waiting and self.send(time.monotonic(), front, waiting[0]):
                waiting.popleft()
            self.step(1)
            self.expire()
        return self.done

    def paced(self, target_of, rate, seconds, at=()):
        """`rate` a second for `seconds`, the fronts in turn. `at` has (second, action) pairs; each action is called once in time."""
        self.done, waiting, n = [], deque(), 0
        began, actions = time.monotonic(), sorted(at, key=lambda one: one[0])
        while True:
            now = time.monotonic()
            while actions and now >= began + actions[0][0]:
                actions.pop(0)[1]()
            while now >= began + n / rate and n < rate * seconds:
                waiting.append((began + n / rate, n % len(self.fronts), target_of(n)))
                n += 1
            for _ in range(len(waiting)):
                job = waiting.popleft()
                if not self.send(*job):
                    waiting.append(job)
            if n >= rate * seconds and not waiting and not self.busy and not actions:
                return self.done
            next_due = began + n / rate if n < rate * seconds else now + 0.05
            self.step(min(0.05, next_due - time.monotonic()))
            self.expire()


def percentile(values, share):
    """The value that `share` of them do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1)] if ordered else None
