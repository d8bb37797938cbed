#!/usr/bin/env python3
"""Writes the seeds of the fuzz corpora, a few kB in all. What fuzzing has found since is left alone."""

import base64
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).resolve().parent
# Of the strict corpus, whose tests replay all of it over sockets, every so many cases are seeds.
STRICT_EVERY = 3


def seed(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def url_grammar():
    lines = {
        "chains": ["/unsafe/pr:a:b/w:10/plain/local:///a.jpg", "/unsafe/s:1:2:3:4/c:0.5:3:fp:0.2:0.9/g:sm/plain/local://x/a@webp"],
        "base64": ["/unsafe/w:7/bG9jYWw6Ly8vYS5qcGc.png", "/unsafe/bG9jYWw6/Ly8vYS5qcGc", "/_/plain/http://img.example:80/a%2Fb?c#d"],
        "signed": ["/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/w:3/plain/local:///a.jpg", "//w:3/plain/local:///a.jpg"],
        "edges": ["/unsafe/rs:::::/z::/dpr:-0/q:101/exp:18446744073709551616/plain/%", "/unsafe/bg:ffff:1:2/bl:1e400/rot:450/plain/a@"],
    }
    for name, paths in lines.items():
        seed("url_grammar", name, "\n".join(paths).encode())


def http_head():
    text = (HERE.parent / "crates/front/corpus/strict.txt").read_text()
    cases = [line.split("\t", 1)[1] for line in text.splitlines() if line and not line.startswith("#")]
    for number, case in enumerate(cases[::STRICT_EVERY]):
        seed("http_head", f"strict-{number:02}", case.encode().decode("unicode_escape").encode("latin-1"))


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def text(value):
    return varint(len(value)) + value


def engine_frames():
    def frame(payload, version=1, magic=b"TE", length=None):
        return magic + bytes([version, 0]) + struct.pack("<I", len(payload) if length is None else length) + payload

    job = b"\x01" + text(b"params") + varint(2) + varint(7) + varint(2**64 - 1)
    payloads = {
        "job": job,
        "job-empty": b"\x01" + text(b"") + varint(0),
        "ready": b"\x00" + b"\x00\x01\x01" + varint(64000) + b"\x01" + varint(10),
        "unready": b"\x01" + text(b"no landlock"),
        "done": b"\x02" + varint(4096) + varint(1500) + varint(30 << 20) + text(b"\x00header"),
        "too-long": b"\x03" + varint(2**40),
        "panicked": b"\x04" + text(b"index out of bounds"),
        "not-text": b"\x04" + text(b"\xff\xfe"),
        "claims-much": b"\x01" + varint(2**40) + b"x",
        "no-such-message": b"\x77",
    }
    for name, payload in payloads.items():
        seed("engine_frames", name, frame(payload))
    seed("engine_frames", "other-version", frame(job, version=9))
    seed("engine_frames", "other-magic", frame(job, magic=b"ET"))
    seed("engine_frames", "wrong-length", frame(job, length=3))
    seed("engine_frames", "giant-length", frame(job, length=2**32 - 1))


def exif(orientation):
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"


def segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(frame=0xC0, side=8, components=1, before=b""):
    """A flat grey JPEG of 8 x 8: one code each for "no difference" and "end of block"."""
    sof = struct.pack(">BHHB", 8, side, side, components) + b"".join(bytes([c + 1, 0x11, 0]) for c in range(components))
    tables = segment(0xDB, b"\0" + b"\x10" * 64)
    for table in (0x00, 0x10):
        tables += segment(0xC4, bytes([table, 1]) + b"\0" * 15 + b"\0")
    scan = bytes([components]) + b"".join(bytes([c + 1, 0]) for c in range(components))
    last = 0 if frame == 0xC2 else 63
    return b"\xff\xd8" + before + tables + segment(frame, sof) + segment(0xDA, scan + bytes([0, last, 0])) + b"\x3f\xff\xd9"


def probe_jpeg():
    whole = jpeg()
    seed("probe_jpeg", "grey", whole)
    seed("probe_jpeg", "colour", jpeg(components=3))
    seed("probe_jpeg", "ink", jpeg(components=4))
    seed("probe_jpeg", "progressive", jpeg(frame=0xC2))
    seed("probe_jpeg", "turned", jpeg(before=segment(0xE1, b"Exif\0\0" + exif(6))))
    seed("probe_jpeg", "profile", jpeg(before=segment(0xE2, b"ICC_PROFILE\0\x01\x01" + b"\0" * 40)))
    seed("probe_jpeg", "giant", jpeg(side=65535))
    seed("probe_jpeg", "no-size", jpeg(side=0))
    seed("probe_jpeg", "cut-in-frame", whole[: whole.index(b"\xff\xc0") + 7])
    seed("probe_jpeg", "endless-segment", b"\xff\xd8\xff\xe2\xff\xff" + b"\0" * 20)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(color, depth, samples, side=4, extra=b"", interlace=0):
    drawn = min(side, 64)
    row = b"\0" + b"\x55" * ((drawn * samples * depth + 7) // 8)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, interlace))
    pixels = chunk(b"IDAT", zlib.compress(row * drawn))
    return b"\x89PNG\r\n\x1a\n" + head + extra + pixels + chunk(b"IEND", b"")


def probe_png():
    seed("probe_png", "rgb", png(2, 8, 3))
    seed("probe_png", "grey16", png(0, 16, 1))
    seed("probe_png", "rgba", png(6, 8, 4))
    seed("probe_png", "bits", png(0, 1, 1))
    seed("probe_png", "palette", png(3, 4, 1, extra=chunk(b"PLTE", bytes(range(48))) + chunk(b"tRNS", b"\0\x80")))
    seed("probe_png", "turned", png(2, 8, 3, extra=chunk(b"eXIf", exif(3))))
    seed("probe_png", "animated", png(2, 8, 3, extra=chunk(b"acTL", struct.pack(">II", 2, 0))))
    seed("probe_png", "interlaced-cut", png(2, 8, 3, interlace=1))
    seed("probe_png", "giant", png(6, 16, 4, side=2**31 - 1)[:33])
    seed("probe_png", "no-size", png(2, 8, 3, side=0))
    seed("probe_png", "cut-in-head", png(2, 8, 3)[:20])


def probe_webp():
    # The smallest files of each kind, 1 x 1.
    files = {
        "lossy": "UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA",
        "lossless": "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==",
        "alpha": "UklGRkoAAABXRUJQVlA4WAoAAAAQAAAAAAAAAAAAQUxQSAwAAAARBxAR/Q9ERP8DAABWUDggGAAAABQBAJ0BKgEAAQAAAP4AAA3AAP7mtQAAAA==",
        "animated": "UklGRlIAAABXRUJQVlA4WAoAAAASAAAAAAAAAAAAQU5JTQYAAAD/////AABBTk1GJgAAAAAAAAAAAAAAAAAAAGQAAABWUDhMDQAAAC8AAAAQBxAREYiI/gcA",
    }
    whole = {name: base64.b64decode(content) for name, content in files.items()}
    for name, content in whole.items():
        seed("probe_webp", name, content)
    seed("probe_webp", "turned", whole["alpha"] + b"EXIF" + struct.pack("<I", len(exif(8))) + exif(8))
    seed("probe_webp", "cut", whole["lossy"][:24])
    seed("probe_webp", "no-chunk", b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff")


def render():
    seed("render", "png", png(6, 8, 4))
    seed("render", "jpeg", jpeg())
    seed("render", "no-image", b"GIF89a\1\0\1\0\0\0\0;")


if __name__ == "__main__":
    for write in (url_grammar, http_head, engine_frames, probe_jpeg, probe_png, probe_webp, render):
        write()
