#!/usr/bin/env bash
# Prints the README's tour against the demo that runs, with real output. Usage: scripts/tour.sh [DATA-DIR] [URL]
source "$(dirname "$0")/lib.sh"

DATA="${1:-$TARGET/tutti-demo/one}"
BASE="${2:-http://127.0.0.10:8080}"
PHOTO='/image/unsafe/rs:fit:512:512/plain/local:///photo01.jpg@webp'

show() {
  printf '$ %s\n' "$*"
  # The commands are our own text: the tour shows them as they are typed.
  eval "$*" 2>&1 | tr -d '\r' || true
  printf '\n'
}

tutti() { "$TARGET/release/tutti" "$@"; }

show "curl -sD- -o photo.webp '$BASE$PHOTO'"
show "curl -sD- -o photo.webp '$BASE$PHOTO' | grep -i cache-status"
show "curl -s '$BASE/image/unsafe/rs:fitt:512:512/plain/local:///photo01.jpg'"
show "tutti explain '$PHOTO' --data $DATA"
show "tutti status --data $DATA"
show "tutti nodes --data $DATA"
show "tutti config --data $DATA set image.quality.webp 70 --dry-run"
show "tutti cache --data $DATA stats"
show "tutti cache --data $DATA purge --source local:///photo01.jpg"
show "tutti doctor --data $DATA"
rm -f photo.webp
