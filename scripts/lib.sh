# shellcheck shell=bash disable=SC2034
# Words that the scripts here share. Sourced, never run; changes to the root of the checkout.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Rust installs itself here, and a fresh login shell may not know it yet.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
export PATH

TARGET="${CARGO_TARGET_DIR:-target}"

# In CI the lock file is part of what is tested; at a desk a changed Cargo.toml may update it.
CARGO_FLAGS=()
if [ "${CI:-}" = true ]; then CARGO_FLAGS=(--locked); fi

say() { printf '%s\n' "$*"; }

# Stops what it runs, with all its children; at a terminal Ctrl-C must reach them as well.
TIMEOUT=(timeout --kill-after=30)
if [ -t 0 ]; then TIMEOUT+=(--foreground); fi

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# minutes SECONDS: as `3 min 05 s`.
minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# as_root COMMAND...: with sudo where we are not root.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "installing packages takes root, and there is no sudo here; as root run: $*"
  fi
}

# missing PROGRAM=PACKAGE...: prints the packages whose program is not on the path.
missing() {
  local pair
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || printf '%s ' "${pair#*=}"
  done
}

# apt_install PACKAGE...: without a question.
apt_install() {
  command -v apt-get >/dev/null || fail "this needs the packages $*, and there is no apt-get here; please install them by hand"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# fetch_crates: downloads what the lock file names for this platform, so that nothing later needs a network.
fetch_crates() {
  cargo fetch --quiet "${CARGO_FLAGS[@]}" --target "$(rustc -vV | sed -n 's/^host: //p')"
}

# version_below A B: whether version A is older than version B.
version_below() {
  [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]
}
