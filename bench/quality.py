"""Quality beside speed: scores a server's answers, and finds the quality setting at which it reaches a score."""

import http.client
import subprocess

from peers import CELLS, HERE, WORK, wait_ready

TOOL = HERE / "tools" / "target" / "release" / "quality"
TARGET, TOLERANCE = 75.0, 0.5


def score(peer, port, cell, photos, stems, quality):
    """Mean SSIMULACRA2 and mean bytes over all photos. The reference is reduced from the very source that the server got."""
    folder = WORK / "scored" / peer.name
    folder.mkdir(parents=True, exist_ok=True)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    pairs = []
    for stem in stems:
        connection.request("GET", peer.url(cell, stem, f"score{quality}", quality))
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{peer.name} {cell}: status {response.status} for {stem}")
        result = folder / f"{cell}-{stem}"
        result.write_bytes(body)
        pairs += [str(photos / f"{stem}.{CELLS[cell][0]}"), str(result)]
    said = subprocess.run([str(TOOL), *pairs], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split() for line in said.splitlines()]
    wanted = {"jpg": "Jpeg", "png": "Png", "webp": "WebP"}[CELLS[cell][1]]
    wrong = [r for r in rows if r[4] != wanted or max(int(r[2]), int(r[3])) != 512]
    if wrong:
        raise RuntimeError(f"{peer.name} {cell}: not a {wanted} that fits 512x512: {wrong[0]}")
    return sum(float(r[0]) for r in rows) / len(rows), sum(int(r[1]) for r in rows) / len(rows)


def at_target(peer, cell, photos, stems):
    """The setting whose mean score is nearest to the target: {quality, score, bytes, reached}. PNG has none to set."""
    server, port = peer.start(photos)
    try:
        wait_ready(server, port, peer.url(cell, stems[0], 0, 80))
        if CELLS[cell][1] == "png":
            value, size = score(peer, port, cell, photos, stems, None)
            return {"quality": None, "score": value, "bytes": size, "reached": None}
        return search(lambda q: score(peer, port, cell, photos, stems, q))
    finally:
        server.stop()


def search(measure):
    """Bisects 1..100, since scores rise with quality, and takes the nearest of all that were tried."""
    tried, low, high = {}, 1, 100
    while low <= high:
        q = (low + high) // 2
        tried[q] = measure(q)
        if abs(tried[q][0] - TARGET) <= TOLERANCE / 5:
            break
        low, high = (q + 1, high) if tried[q][0] < TARGET else (low, q - 1)
    best = min(tried, key=lambda q: abs(tried[q][0] - TARGET))
    value, size = tried[best]
    return {"quality": best, "score": value, "bytes": size, "reached": abs(value - TARGET) <= TOLERANCE}
