"""Random input, led by coverage, for every reader: `make fuzz-readers`, or one: `fuzz_readers.py reader --runs 100000`.

Needs atheris (``pip install .[fuzz]``). An input that ends in anything but an error of ours, or takes more
than two seconds, is kept in ``build/fuzz``; put it into tests/data/fuzz once it is mended. The inputs that
reach something new are kept there too, packed by target: ``tests/unit/test_fuzz_corpus.py`` replays them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BUILD = ROOT / "build" / "fuzz"
KEPT = ROOT / "tests" / "data" / "fuzz"
#: of wall clock, for what hangs; CPU time is measured for each input (fuzz_targets.run)
SECONDS, MEBIBYTES = 60, 700


def search(name: str, runs: int) -> None:
    """One target, in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["ctctl"]):
        from tests.support import fuzz_targets

    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(fuzz_targets.seeds(name)):
        (corpus / f"seed-{number}").write_bytes(data)
    unpack(name, corpus)
    options = [
        f"-runs={runs}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEBIBYTES}",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={BUILD}/{name}-", str(corpus)],
        lambda data: fuzz_targets.run(name, data),
    )
    atheris.Fuzz()


def unpack(name: str, corpus: Path) -> None:
    """The kept inputs of a target into a folder."""
    path = KEPT / f"{name}.tar.xz"
    if path.exists():
        with tarfile.open(path) as archive:
            archive.extractall(corpus, filter="data")


def keep(name: str, most: int = 400) -> None:
    """The smallest inputs that were found, packed beside the tests."""
    KEPT.mkdir(parents=True, exist_ok=True)
    found = [
        path for path in (BUILD / name).iterdir() if not path.name.startswith("seed-") and path.stat().st_size < 4000
    ]
    with tarfile.open(KEPT / f"{name}.tar.xz", "w:xz") as archive:
        for path in sorted(found, key=lambda path: (path.stat().st_size, path.name))[:most]:
            archive.add(path, path.name)


def main() -> int:
    """All targets or one, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default="all")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs in all, or of the one target")
    parser.add_argument("--keep", action="store_true", help="pack what was found into tests/data/fuzz")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        search(args.target, args.runs)
        return 0
    names = ["reader", "filter", "packet", "document", "capture", "btf"] if args.target == "all" else [args.target]
    failed = []
    for name in names:
        command = [sys.executable, __file__, name, "--child", "--runs", str(args.runs // len(names))]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        if args.keep:
            keep(name)
    print(f"{args.runs} inputs; unexpected: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
