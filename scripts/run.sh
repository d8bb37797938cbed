#!/usr/bin/env bash
# Builds the server and serves the sample photos. Arguments go to `tutti serve`. Leaves nothing outside the build folder.
source "$(dirname "$0")/lib.sh"

BINARY="$TARGET/release/tutti"

say "make run, in three steps:"
say "  1. install with apt what is missing of: build-essential cmake nasm (Rust must be there)"
say "  2. build in $TARGET/ (first time up to 10 minutes on 2 cores, later seconds)"
say "  3. serve the photos in samples/ until Ctrl-C; everything it keeps lies in $TARGET/tutti-run"
scripts/setup.sh
cargo build --release "${CARGO_FLAGS[@]}" -p tutti
exec "$BINARY" serve --originals samples --data "$TARGET/tutti-run" "$@"
