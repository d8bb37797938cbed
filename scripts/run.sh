#!/usr/bin/env bash
# Builds the server and runs the demo: several nodes on loopback behind one address. Arguments go to `tutti demo`.
# Leaves no process, and nothing outside the build folder.
source "$(dirname "$0")/lib.sh"

BINARY="$TARGET/release/tutti"

say "make run, in three steps:"
say "  1. install with apt what is missing of: build-essential cmake nasm (Rust must be there)"
say "  2. build in $TARGET/ (first time up to 10 minutes on 2 cores, later seconds)"
say "  3. run three nodes behind http://127.0.0.10:8080/ with the photos in samples/ and a gentle load, until Ctrl-C;"
say "     everything they keep lies in $TARGET/tutti-demo, which is emptied first"
scripts/setup.sh
cargo build --release "${CARGO_FLAGS[@]}" -p tutti
exec "$BINARY" demo --originals samples --dir "$TARGET/tutti-demo" "$@"
