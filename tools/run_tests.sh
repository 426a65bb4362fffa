#!/usr/bin/env bash
# All tests, in three runs side by side that take about as long: those that load programs into the kernel; those that wait
# (for traffic, for packages) with some of the first; the others. Each test has unique names for what it makes and removes
# it, so that no run is in another's way. What the first two print comes when all are done.
#
#   tools/run_tests.sh                 everything
#   tools/run_tests.sh PYTEST-WORDS…   one run with these
set -euo pipefail
cd "$(dirname "$0")/.."
pytest=(.venv/bin/pytest -q)
if [ $# -gt 0 ]; then exec "${pytest[@]}" "$@"; fi

kernel=(tests/kernel)
waiting=(tests/lab tests/dist tests/conformance tests/kernel/test_agreement.py tests/kernel/test_bpf_fuzz.py)
mkdir -p build
logs=(build/test-kernel.log build/test-waiting.log)
# All beside this shell: told to end, it tells them, and waits until they have removed what they made.
trap 'kill $(jobs -pr) 2>/dev/null || true; wait' EXIT
trap 'exit 130' INT TERM HUP
"${pytest[@]}" "${kernel[@]}" "${waiting[@]/#/--ignore=}" >"${logs[0]}" 2>&1 &
runs=($!)
"${pytest[@]}" "${waiting[@]}" >"${logs[1]}" 2>&1 &
runs+=($!)
"${pytest[@]}" "${kernel[@]/#/--ignore=}" "${waiting[@]/#/--ignore=}" &
runs+=($!)
status=0
for ((at = ${#runs[@]} - 1; at >= 0; at--)); do wait "${runs[at]}" || status=$?; done
cat "${logs[@]}"
exit "$status"
