#!/usr/bin/env python3
"""A million random and mutated packets through every hook, on private maps; the tables are checked afterwards.

    sudo .venv/bin/python tests/bench/fuzz.py [--packets N] [--seed N]

Exit status 1 if an entry breaks a rule, a packet is not counted, or a connection that no packet was of changed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ctctl.model.event import PACKET_HOOKS
from tests.support.datapath import drops, entries, simulated
from tests.support.fuzz import Fuzz, fuzz_node


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packets", type=int, default=1_000_000, help="through each hook")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the random numbers; printed, so that a run can be had again"
    )
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {args.packets} packets a hook", flush=True)
    start = time.monotonic()
    with simulated(fuzz_node()) as node:
        fuzz = Fuzz(node, random.Random(seed))
        planted = fuzz.plant()
        node.mute()
        # In parts, so that each hook meets what the others left.
        for _ in range(10):
            for hook in PACKET_HOOKS:
                fuzz.run(hook, args.packets // 10)
        problems = fuzz.problems(planted)
        print(f"{sum(fuzz.ran.values())} packets in {time.monotonic() - start:.0f} s: {dict(fuzz.codes)}")
        result = {
            "benchmark": "fuzz", "seed": seed, "packets_a_hook": args.packets, "packets": sum(fuzz.ran.values()),
            "verdicts": dict(fuzz.codes), "entries": len(entries(node)), "problems": len(problems),
            "dropped": {f"{hook} {reason}": n for (hook, reason), n in sorted(drops(node).items()) if reason != "ok"},
        }  # fmt: skip
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    for problem in problems[:20]:
        print(f"wrong: {problem}")
    print(f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
