#!/usr/bin/env bash
# All tests, in two runs of about the same length side by side: those that load programs into the kernel, and the others.
# What the first prints comes when the second is done. Each test has unique names for what it makes and removes it, so that
# the two are not in each other's way.
#
#   tools/run_tests.sh                 everything
#   tools/run_tests.sh PYTEST-WORDS…   one run with these
set -euo pipefail
cd "$(dirname "$0")/.."
pytest=(.venv/bin/pytest -q)
if [ $# -gt 0 ]; then exec "${pytest[@]}" "$@"; fi

mkdir -p build
log=build/test-kernel.log
# Both beside this shell: told to end, it tells them, and waits until they have removed what they made.
trap 'kill $(jobs -pr) 2>/dev/null || true; wait' EXIT
trap 'exit 130' INT TERM HUP
"${pytest[@]}" tests/conformance tests/kernel >"$log" 2>&1 &
kernel=$!
"${pytest[@]}" --ignore=tests/conformance --ignore=tests/kernel &
status=0
wait $! || status=$?
wait "$kernel" || status=$?
cat "$log"
exit "$status"
