#!/usr/bin/env bash
# Installs what a build needs and this machine lacks: by apt, without asking, after saying what. Takes no input; may run twice.
source "$(dirname "$0")/lib.sh"

# The codecs are C and assembly: without nasm they would be built without SIMD, which the build refuses.
PROGRAMS=("make=build-essential" "cc=build-essential" "c++=build-essential" "cmake=cmake" "nasm=nasm")

check_rust() {
  local wanted found
  if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    fail "Rust is missing; install the stable toolchain with rustup (see the Rust web site), open a new shell, and run this again"
  fi
  wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml).0"
  found="$(rustc --version | awk '{print $2}')"
  if version_below "${found%%-*}" "$wanted"; then
    fail "Rust $found is too old, this needs $wanted or newer; run: rustup update stable"
  fi
}

install_missing() {
  local packages
  # shellcheck disable=SC2207
  packages=($(missing "${PROGRAMS[@]}" | tr ' ' '\n' | sort -u))
  if [ "${#packages[@]}" -eq 0 ]; then
    say "set-up: nothing to install"
    return
  fi
  say "set-up: installing with apt: ${packages[*]}"
  apt_install "${packages[@]}"
}

check_rust
install_missing
