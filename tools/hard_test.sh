#!/usr/bin/env bash
# The whole test command where nothing makes it easy: the parent ignores SIGINT, SIGHUP and SIGPIPE, there is no
# terminal, busy loops run beside it, and the files come in other orders too. Every run must be green.
#
#   tools/hard_test.sh                     five runs in the usual order, one with the files reversed, one shuffled
#   tools/hard_test.sh -r 1 -l 12 -o shuffled -s 7      RUNS, LOOPS, ORDER (usual, reversed, shuffled), SEED
#   tools/hard_test.sh -p 'tests/cli tests/unit'        only these folders or files, without lint
#
# Output of each run: build/hard-N.log. Exit status 1 if a run was not green.
set -euo pipefail
cd "$(dirname "$0")/.."

runs="" loops=4 order="" seed=$$ paths=""
while getopts r:l:o:s:p: option; do
  case $option in
    r) runs=$OPTARG ;; l) loops=$OPTARG ;; o) order=$OPTARG ;; s) seed=$OPTARG ;; p) paths=$OPTARG ;;
    *) exit 2 ;;
  esac
done
orders=(usual usual usual usual usual reversed shuffled)
if [[ -n $order || -n $runs ]]; then
  orders=()
  for ((i = 0; i < ${runs:-1}; i++)); do orders+=("${order:-usual}"); done
fi

# The order that a seed means: the same on every machine.
files() {
  # shellcheck disable=SC2086
  find ${paths:-tests} -name 'test_*.py' -not -path 'tests/bench/*' | LC_ALL=C sort |
    case $1 in
      reversed) tac ;;
      shuffled) .venv/bin/python -c 'import random, sys
lines = sys.stdin.read().split()
random.Random(int(sys.argv[1])).shuffle(lines)
print("\n".join(lines))' "$seed" ;;
      *) cat ;;
    esac
}

mkdir -p build
busy=() tests=""
finish() {
  [[ -z $tests ]] || kill -- "-$tests" 2>/dev/null || true
  kill "${busy[@]}" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
for ((i = 0; i < loops; i++)); do
  bash -c 'while :; do :; done' &
  busy+=($!)
done

failed=0 number=0
for order in "${orders[@]}"; do
  number=$((number + 1))
  log=build/hard-$number.log
  if [[ -n $paths ]]; then
    # shellcheck disable=SC2046
    command=(.venv/bin/pytest -q $(files "$order"))
  else
    command=(make test)
  fi
  said_order=$order
  [[ $order == shuffled ]] && said_order="shuffled by $seed"
  started=$SECONDS
  CTCTL_TEST_ORDER=$said_order env --ignore-signal=INT,HUP,PIPE setsid "${command[@]}" </dev/null >"$log" 2>&1 &
  tests=$!
  if wait "$tests"; then said=green; else said=FAILED failed=1; fi
  tests=""
  seconds=$((SECONDS - started))
  echo "run $number, $said_order, $loops busy loops, $seconds s: $said; $(tail -n 1 "$log")"
done
exit $failed
