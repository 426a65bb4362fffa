#!/bin/bash
# ctctl in a minute: a small cluster in network namespaces, real traffic, and what ctctl says about it.
# Everything it makes has a name of its own and goes away at the end, also when it is interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."

CTCTL=${CTCTL:-.venv/bin/ctctl}
LAB=${LAB:-demo}
NODE_A=$LAB-node-a
NODE_B=$LAB-node-b
SERVER=10.64.1.36:8000
DUMP=examples/cilium-bugtool.tar.xz
work=$(mktemp -d)
tracer=

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

heading() { printf '\n%s%s%s\n%s%s%s\n' "$bold" "$1" "$plain" "$bold" "${1//?/─}" "$plain"; }
run() { # shows a command as it would be typed, and runs it
  local shown="" word
  for word; do case $word in *[\ \>]*) shown+=" '$word'" ;; *) shown+=" $word" ;; esac; done
  printf '%s$ ctctl%s%s\n' "$dim" "$shown" "$plain"
  "$CTCTL" "$@"
}

# What needs neither rights nor a kernel with BPF: the dump of a node.
offline() {
  heading "A node's dump: what is in the tables, what is wrong, one connection, what GC would do"
  run ct stats --from "$DUMP"
  run ct list --from "$DUMP" --sort remaining --limit 8
  run doctor --from "$DUMP"
  run ct get 'tcp 10.61.1.101:57974 > 10.61.1.102:9' --from "$DUMP"
  run gc --dry-run --from "$DUMP"
}

cleanup() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$tracer" ] && kill "$tracer" 2>/dev/null; then wait "$tracer" 2>/dev/null || true; fi
  [ -d "/run/ctctl/lab-$LAB" ] && heading 'Down: nothing stays behind'
  "$CTCTL" lab down --name "$LAB" || status=1
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until a file holds something, ten seconds at most.
wait_for_text() {
  for _ in $(seq 200); do [ -s "$1" ] && return 0; sleep 0.05; done
  echo "demo: nothing arrived in $1" >&2
  return 1
}

heading 'A cluster of two nodes, each with its own datapath, in network namespaces'
status=0
run lab up --name "$LAB" || status=$?
# Whatever it was, ctctl has said what is missing. Exit code 4: this user or this kernel may not, which is no fault.
if [ "$status" != 0 ] && [ "$status" -lt 128 ]; then
  trap - EXIT
  rm -rf "$work"
  offline
  heading 'Not shown here, for the reason above: real traffic, its tables, a live trace'
  echo "It takes root, and a kernel with BPF and network namespaces; ctctl features says what this one can do."
  if [ "$status" = 4 ]; then exit 0; fi
fi
[ "$status" = 0 ] || exit "$status"
run lab list --name "$LAB"

heading 'Two pods talk, on two nodes: real ping, datagrams and HTTP'
run lab run --name "$LAB" pod-to-pod

heading "What is in the table: the client's node, then the server's"
run ct list --node "$NODE_A"
run ct list --node "$NODE_B"

heading 'What happens to a flow: every hook it passes, live'
printf "%s$ ctctl trace 'tcp 10.64.0.36 > %s' --live --count 6 --for 15s --node %s --node %s &\n%s" \
  "$dim" "$SERVER" "$NODE_A" "$NODE_B" "$plain"
"$CTCTL" trace "tcp 10.64.0.36 > $SERVER" --live --count 6 --for 15s --node "$NODE_A" --node "$NODE_B" \
  >"$work/trace" 2>"$work/trace.err" &
tracer=$!
wait_for_text "$work/trace.err"
run lab exec --name "$LAB" pod1 -- curl -sS "http://$SERVER/"
wait "$tracer" || { cat "$work/trace.err" >&2; exit 1; }
tracer=
cat "$work/trace"

heading 'What would garbage collection do'
run gc --dry-run --node "$NODE_A"

heading 'The tables of both nodes at the end, as operators grep them today'
run ct list --node "$NODE_A" -o cilium
run ct list --node "$NODE_B" -o cilium
