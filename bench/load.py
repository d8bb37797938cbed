"""Closed-loop load for renders: a few connections, distinct URLs, whole answers. Counts, and says what it cost itself."""

import http.client
import threading
import time


class Result:
    def __init__(self):
        self.count, self.bytes, self.failures, self.seconds, self.own_cpu = 0, 0, {}, 0.0, 0.0
        self.latencies = []

    @property
    def rate(self):
        return self.count / self.seconds if self.seconds else 0.0


def fetch(connection, target, headers=None):
    connection.request("GET", target, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    return response, body


def closed_loop(port, url_of, connections, seconds):
    """`url_of(n)` gives the n-th target. Each connection takes the next number: no two requests are alike."""
    result, lock, numbers = Result(), threading.Lock(), iter(range(1 << 60))
    began, cpu = time.monotonic(), time.process_time()
    until = began + seconds

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < until:
            with lock:
                n = next(numbers)
            sent = time.monotonic()
            try:
                response, body = fetch(connection, url_of(n))
                outcome = None if response.status == 200 and body else f"status {response.status}"
            except (OSError, http.client.HTTPException) as error:
                outcome, body = type(error).__name__, b""
                connection.close()
            with lock:
                if outcome is None:
                    result.count += 1
                    result.bytes += len(body)
                    result.latencies.append(time.monotonic() - sent)
                else:
                    result.failures[outcome] = result.failures.get(outcome, 0) + 1
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    result.seconds = time.monotonic() - began
    result.own_cpu = time.process_time() - cpu
    return result
