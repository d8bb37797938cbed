#!/usr/bin/env bash
# Builds and runs every test within a budget, and counts what was skipped: in CI a skip is a failure.
source "$(dirname "$0")/lib.sh"

SETUP_MINUTES=3
BUILD_MINUTES=20
TEST_MINUTES=15
TOTAL_MINUTES=$((SETUP_MINUTES + BUILD_MINUTES + TEST_MINUTES))
LOG="$TARGET/test.log"

# phase NAME BUDGET_MINUTES COMMAND...: runs it within what is left of the whole, and says how long it took.
phase() {
  local name="$1" budget=$(($2 * 60)) began=$SECONDS left=$((TOTAL_MINUTES * 60 - SECONDS)) status=0 took
  shift 2
  [ "$left" -gt 0 ] || fail "over the budget of $TOTAL_MINUTES minutes before: $name"
  "${TIMEOUT[@]}" "$left" "$@" || status=$?
  took=$((SECONDS - began))
  say "== $name took $(minutes $took) of $((budget / 60)) min"
  [ "$took" -le "$budget" ] || say "== warning: $name is over its own budget"
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
    fail "$name was stopped: over the budget of $TOTAL_MINUTES minutes in all"
  fi
  return "$status"
}

# Lines that tests print when the machine lacks something they need, and tests that are not run at all.
count_skipped() {
  local said ignored
  said="$(grep -c 'SKIPPED:' "$LOG" || true)"
  ignored="$(sum_of ignored)"
  printf '%d' $((said + ignored))
}

# sum_of WORD: adds up the counts before WORD in cargo's result lines.
sum_of() {
  awk -v word="$1" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ "^" word) sum += $(i - 1) } END { print sum + 0 }' "$LOG"
}

run_tests() {
  local skipped status=0
  set -o pipefail
  phase tests "$TEST_MINUTES" \
    cargo test --release "${CARGO_FLAGS[@]}" --workspace --no-fail-fast -- --show-output 2>&1 | tee "$LOG" || status=$?
  skipped="$(count_skipped)"
  grep 'SKIPPED:' "$LOG" | sort | uniq -c || true
  say "$(sum_of passed) passed, $(sum_of failed) failed, $skipped skipped"
  [ "$status" -eq 0 ] || fail "the tests failed; the whole output is in $LOG"
  [ "$(sum_of passed)" -gt 0 ] || fail "no test ran"
  if [ "$skipped" -gt 0 ] && [ "${CI:-}" = true ]; then
    fail "$skipped tests were skipped, and CI=true allows none: install what they name, or take the test out"
  fi
}

say "make test, budget: set-up $SETUP_MINUTES, build $BUILD_MINUTES, tests $TEST_MINUTES minutes; over $TOTAL_MINUTES it fails"
say "  it installs with apt what is missing of: build-essential cmake nasm (Rust must be there)"
mkdir -p "$TARGET"
phase set-up "$SETUP_MINUTES" scripts/setup.sh
fetch_crates
phase build "$BUILD_MINUTES" cargo test --release "${CARGO_FLAGS[@]}" --workspace --no-run
run_tests
say "== all of it took $(minutes $SECONDS) of $TOTAL_MINUTES min"
