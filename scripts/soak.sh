#!/usr/bin/env bash
# Two parts, which SOAK_PARTS ("server lab") chooses from. server: a mixed load on one server for SOAK_SECONDS (600); fails on
# an unexpected answer, a dead server, or memory that keeps growing. lab: three nodes in network namespaces, put through every
# fault of crates/lab/scenarios SOAK_ROUNDS (3) times under load, with audits; takes root.
source "$(dirname "$0")/lib.sh"

parts="${SOAK_PARTS:-server lab}"
say "make soak: build, then of one server $((${SOAK_SECONDS:-600})) s of mixed load, and $((${SOAK_ROUNDS:-3})) rounds of faults on three; what they keep lies in $TARGET/tutti-soak and $TARGET/tutti-lab"
scripts/setup.sh
needs=$(missing python3=python3 ip=iproute2 nft=nftables unshare=util-linux nsenter=util-linux)
# shellcheck disable=SC2086
if [ -n "$needs" ]; then apt_install $needs; fi
cargo build --release "${CARGO_FLAGS[@]}" -p tutti
cargo build --release "${CARGO_FLAGS[@]}" -p tutti-lab

case " $parts " in *" server "*)
  python3 scripts/soak.py --binary "$TARGET/release/tutti" --data "$TARGET/tutti-soak" --seconds "${SOAK_SECONDS:-600}"
esac
case " $parts " in *" lab "*)
  as_root "$TARGET/release/tutti-lab" --binary "$TARGET/release/tutti" --data "$TARGET/tutti-lab" --rounds "${SOAK_ROUNDS:-3}"
esac
