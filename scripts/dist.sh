#!/usr/bin/env bash
# Builds the binary as packages carry it: one codegen unit, link-time optimisation, the locked versions.
source "$(dirname "$0")/lib.sh"

say "make dist: install what is missing, then build with link-time optimisation (slow: up to 30 minutes on 2 cores)"
scripts/setup.sh
cargo build --profile dist --locked -p tutti
say "the binary: $TARGET/dist/tutti"
