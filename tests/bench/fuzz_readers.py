"""Random input for every reader: `make fuzz-readers`, or one: `fuzz_readers.py reader --runs 100000`.

Inputs are put together from pieces of real ones (``tests/support/fuzz_mutate.py``); each is known by its target,
the seed and its number, so ``--seed S --from N --runs 1`` makes it again. ``--coverage`` lets atheris lead
instead (``pip install .[fuzz]``), from the kept corpus on. An input that ends in anything but an error of ours, or
takes more work than its size allows, is kept in ``build/fuzz``; put it into tests/data/fuzz once it is mended.
``--keep`` packs those that ended in a way no other did: ``tests/unit/test_fuzz_corpus.py`` replays them.
``--out`` adds what was run to a file of counts.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tarfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BUILD = ROOT / "build" / "fuzz"
KEPT = ROOT / "tests" / "data" / "fuzz"
RESULTS = ROOT / "tests" / "bench" / "results" / "fuzz_readers.json"
#: of wall clock, for what hangs under --coverage; CPU time is measured for each input (fuzz_targets.run)
SECONDS, MEBIBYTES = 60, 700
#: of a million inputs, by target: most for what people hand over most
SHARES = {
    "reader": 0.30,
    "passes": 0.10,
    "story": 0.10,
    "document": 0.06,
    "names": 0.07,
    "capture": 0.10,
    "filter": 0.09,
    "packet": 0.08,
    "btf": 0.04,
    "journal": 0.02,
    "decode": 0.04,
}


def search(name: str, runs: int, seed: int, first: int, *, keep_new: bool) -> dict[str, object]:
    """So many inputs of one target in this process. What is unexpected is written to ``build/fuzz``."""
    from tests.support import fuzz_targets

    BUILD.mkdir(parents=True, exist_ok=True)
    make = fuzz_targets.maker(name)
    ends: Counter[str] = Counter()
    kept: dict[str, bytes] = {}
    found: Counter[str] = Counter()
    started, slowest = time.process_time(), 0.0
    for number in range(first, first + runs):
        data = make(random.Random(f"{name}/{seed}/{number}"))
        before = time.process_time()
        try:
            end = fuzz_targets.run(name, data)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            end = f"unexpected {type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
            if not found[end]:
                (BUILD / f"{name}-{seed}-{number}").write_bytes(data)
                print(f"{name} {seed}/{number}: {end}: {str(error)[:200]}", flush=True)
            found[end] += 1
        slowest = max(slowest, time.process_time() - before)
        ends[end.split(":")[0][:60] if end.startswith("unexpected") else end.partition("|")[0]] += 1
        if keep_new and len(data) < 3000:
            shape = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "", end)[:120]
            if shape not in kept or len(data) < len(kept[shape]):
                kept[shape] = data
    if keep_new:
        pack(name, kept)
    return {
        "inputs": runs,
        "unexpected": sum(found.values()),
        "ends": dict(ends.most_common(40)),
        "cpu_s": round(time.process_time() - started, 1),
        "slowest_input_ms": round(slowest * 1e3),
    }


def pack(name: str, kept: dict[str, bytes], most: int = 400) -> None:
    """Put inputs into the target's corpus, beside those that are there: the smallest first."""
    KEPT.mkdir(parents=True, exist_ok=True)
    folder = BUILD / f"kept-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    unpack(name, folder)
    for shape, data in kept.items():
        (folder / f"shape-{random.Random(shape).getrandbits(48):012x}").write_bytes(data)
    with tarfile.open(KEPT / f"{name}.tar.xz", "w:xz") as archive:
        for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name))[:most]:
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(info, file)


def covered(name: str, runs: int) -> None:
    """One target led by coverage, in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["ctctl"]):
        from tests.support import fuzz_targets

    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(fuzz_targets.seeds(name)):
        if len(data) <= 4000:
            (corpus / f"seed-{number}").write_bytes(data)
    unpack(name, corpus)
    options = [f"-runs={runs}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}", "-max_len=4000"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={BUILD}/{name}-", str(corpus)],
        lambda data: fuzz_targets.run(name, data) and None,
    )
    atheris.Fuzz()


def unpack(name: str, corpus: Path) -> None:
    """The kept inputs of a target into a folder."""
    path = KEPT / f"{name}.tar.xz"
    if path.exists():
        with tarfile.open(path) as archive:
            archive.extractall(corpus, filter="data")


def add_result(path: Path, name: str, result: dict[str, object]) -> None:
    """Add one run to the file of counts."""
    whole = json.loads(path.read_text()) if path.exists() else {"benchmark": "fuzz_readers", "targets": {}}
    old = whole["targets"].get(name, {})
    ends = Counter(old.get("ends", {}))
    ends.update(result["ends"])  # type: ignore[arg-type]
    whole["targets"][name] = {
        "inputs": old.get("inputs", 0) + result["inputs"],
        "unexpected": old.get("unexpected", 0) + result["unexpected"],
        "slowest_input_ms": max(old.get("slowest_input_ms", 0), result["slowest_input_ms"]),
        "ends": dict(ends.most_common(25)),
    }
    whole["inputs"] = sum(one["inputs"] for one in whole["targets"].values())
    whole["unexpected"] = sum(one["unexpected"] for one in whole["targets"].values())
    path.write_text(json.dumps(whole, indent=2) + "\n")


def main() -> int:
    """All targets or one, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default="all", choices=["all", *SHARES])
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs in all, or of the one target")
    parser.add_argument("--seed", type=int, default=None, help="of the inputs; printed, so that they can be had again")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the number of the first input")
    parser.add_argument("--coverage", action="store_true", help="let atheris lead")
    parser.add_argument("--keep", action="store_true", help="pack what ended in a new way into tests/data/fuzz")
    parser.add_argument("--out", type=Path, help="a file of counts to add to")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    if args.child:
        if args.coverage:
            covered(args.target, args.runs)
            return 0
        result = search(args.target, args.runs, seed, args.first, keep_new=args.keep)
        print(json.dumps({"target": args.target, "seed": seed, **result}), flush=True)
        if args.out:
            add_result(args.out, args.target, result)
        return int(bool(result["unexpected"]))
    failed = []
    for name in SHARES if args.target == "all" else [args.target]:
        runs = round(args.runs * SHARES[name]) if args.target == "all" else args.runs
        command = [sys.executable, __file__, name, "--child", "--runs", str(runs), "--seed", str(seed)]
        command += ["--from", str(args.first), *(["--coverage"] if args.coverage else [])]
        command += [*(["--keep"] if args.keep else []), *(["--out", str(args.out)] if args.out else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"{args.runs} inputs, seed {seed}; unexpected: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
