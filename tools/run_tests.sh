#!/usr/bin/env bash
# All tests, in runs side by side that take their files from one queue (tests/support/shares.py). Each test has unique names
# for what it makes and removes it, so that no run is in another's way. What all but the last print comes when all are done.
#
#   tools/run_tests.sh                 everything
#   tools/run_tests.sh PYTEST-WORDS…   one run with these
set -euo pipefail
cd "$(dirname "$0")/.."
pytest=(.venv/bin/pytest -q)
if [ $# -gt 0 ]; then exec "${pytest[@]}" "$@"; fi

# Two more than there are cores, up to a point: many wait, for traffic, packages, and the kernel's grace periods.
count=$(($(nproc) < 6 ? $(nproc) + 2 : 8))
mkdir -p build
queue=$(mktemp build/queue.XXXXXX)
export CTCTL_TEST_QUEUE=$PWD/$queue
pytest+=(-p tests.support.shares)
# All beside this shell: told to end, it tells them, and waits until they have removed what they made.
trap 'kill $(jobs -pr) 2>/dev/null || true; wait; rm -f "$queue"' EXIT
trap 'exit 130' INT TERM HUP
runs=() logs=()
for ((at = 1; at < count; at++)); do
  logs+=("build/test-$at.log")
  "${pytest[@]}" >"build/test-$at.log" 2>&1 &
  runs+=($!)
done
"${pytest[@]}" &
runs+=($!)
status=0
for run in "${runs[@]}"; do wait "$run" || status=$?; done
cat "${logs[@]}"
exit "$status"
