#!/usr/bin/env bash
# What a reader would complain about: format, warnings, house rules, licences and bans, scripts.
source "$(dirname "$0")/lib.sh"

BUDGET_MINUTES=7

step() {
  local began=$SECONDS
  say "== lint: $*"
  "${TIMEOUT[@]}" $((BUDGET_MINUTES * 60 - SECONDS > 0 ? BUDGET_MINUTES * 60 - SECONDS : 1)) "$@" ||
    fail "this failed, or is over the budget of $BUDGET_MINUTES minutes: $*"
  say "   $(minutes $((SECONDS - began)))"
}

say "make lint, budget $BUDGET_MINUTES minutes: format, clippy, the tidy test; cargo deny and shellcheck where they are installed"
scripts/setup.sh
fetch_crates
cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is missing; run: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || fail "clippy is missing; run: rustup component add clippy"
step cargo fmt --all --check
step cargo fmt --manifest-path bench/tools/Cargo.toml --check
step cargo fmt --manifest-path fuzz/Cargo.toml --check
step cargo clippy --release "${CARGO_FLAGS[@]}" --workspace --all-targets -- -D warnings
step cargo test --release "${CARGO_FLAGS[@]}" -p tutti-tidy
if command -v cargo-deny >/dev/null; then step cargo deny --offline check licenses bans sources; fi
if command -v shellcheck >/dev/null; then step shellcheck -x scripts/*.sh .ci/run; fi
say "== lint took $(minutes $SECONDS) of $BUDGET_MINUTES min"
