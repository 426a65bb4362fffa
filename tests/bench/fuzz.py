#!/usr/bin/env python3
"""Ten million random and mutated packets of both families through every hook, in every mode of the datapath.

    sudo .venv/bin/python tests/bench/fuzz.py [--packets N] [--mode MODE] [--seed N] [--out FILE]

On private maps, whose tables are checked afterwards (``tests.support.fuzz_rules``). Every packet goes to two nodes, to
the one that has no XDP at its device without it. Exit status 1 if an entry breaks a rule, a packet is not counted, a
connection that no packet was of changed, or the two nodes differ in anything.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ctctl.model.event import PACKET_HOOKS
from tests.support.datapath import drops, simulated_whole
from tests.support.fuzz import Fuzz
from tests.support.fuzz_seeds import MODES, fuzz_node

#: parts of a run, so that each hook meets what the others left
PARTS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packets", type=int, default=10_000_000, help="in all")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the random numbers; printed, so that a run can be had again"
    )
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    modes = args.mode or list(MODES)
    # Rounded up: as many as were asked for, or a few more.
    a_part = -(-args.packets // (len(modes) * len(PACKET_HOOKS) * PARTS))
    print(f"seed {seed}, {a_part * PARTS} packets a hook in each of {len(modes)} modes", flush=True)
    results = {mode: _run(mode, random.Random(f"{seed} {mode}"), a_part) for mode in modes}
    problems = sum(result["problems"] for result in results.values())
    result = {
        "benchmark": "fuzz", "seed": seed, "packets": sum(result["packets"] for result in results.values()),
        "problems": problems, "modes": results,
    }  # fmt: skip
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['packets']} packets, {problems} problems")
    return int(bool(problems))


def _run(mode: str, rng: random.Random, a_part: int) -> dict[str, Any]:
    start = time.monotonic()
    with simulated_whole(fuzz_node(mode)) as node, simulated_whole(fuzz_node(mode)) as twin:
        fuzz = Fuzz(node, rng, twin)
        planted = fuzz.plant()
        for each in (node, twin):
            each.mute()
        for _ in range(PARTS):
            for hook in PACKET_HOOKS:
                fuzz.run(hook, a_part)
        problems = fuzz.problems(planted)
        tables = node.tables()
        result = {
            "packets": sum(fuzz.ran.values()), "verdicts": dict(fuzz.codes), "in_xdp": dict(fuzz.in_xdp),
            "problems": len(problems),
            "conntrack": {name: len(records) for name, records in tables.ct.items()},
            "snat": len(tables.snat) + len(tables.snat6),
            "dropped": {f"{hook} {reason}": n for (hook, reason), n in sorted(drops(node).items()) if reason != "ok"},
        }  # fmt: skip
    print(f"{mode}: {result['packets']} packets in {time.monotonic() - start:.0f} s, {dict(fuzz.codes)}", flush=True)
    for problem in problems[:20]:
        print(f"  wrong: {problem}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
