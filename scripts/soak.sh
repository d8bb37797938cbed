#!/usr/bin/env bash
# A mixed load for SOAK_SECONDS (600): fails on an unexpected answer, a dead server, or memory that keeps growing.
source "$(dirname "$0")/lib.sh"

say "make soak: build, then $((${SOAK_SECONDS:-600})) s of mixed load on loopback; everything it keeps lies in $TARGET/tutti-soak"
scripts/setup.sh
if [ -n "$(missing python3=python3)" ]; then apt_install python3; fi
cargo build --release "${CARGO_FLAGS[@]}" -p tutti
exec python3 scripts/soak.py --binary "$TARGET/release/tutti" --data "$TARGET/tutti-soak" --seconds "${SOAK_SECONDS:-600}"
