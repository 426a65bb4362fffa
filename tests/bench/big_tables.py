"""Looking at 1,000,000 entries against C floors in the same run: python -m tests.bench.big_tables

Each row runs a whole ctctl process and its floor turn by turn; what counts is CPU time (user and system, of
the child alone), the least of the rounds, so that other work on the machine does not. "ratio" is that over the
floor's: whole processes, or less the same command's on a table of ten where the row says so. Rows of small
commands are milliseconds beside an interpreter that imports typer. Bytecode is compiled first, as pip does for
a wheel. Writes tests/bench/results/big_tables.json and .md; a run that was stopped goes on with --resume. GC's
rows are those of tests/bench/gc.py.
"""

from __future__ import annotations

import argparse
import compileall
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.dumps import CHANGED, FORMS
from tests.bench.fill import fill, fill_nat, remove
from tests.bench.floors import HERE, ROOT, Floors, Measured, Process
from tests.bench.terminal import Shown, show
from tests.bench.ui_cost import share_of_a_core
from tests.support.names import unique_name

CTCTL = Path(sys.executable).parent / "ctctl"
STARTUP = [sys.executable, "-c", "import typer"]
TABLE = "cilium_ct4_global"
#: What the scripts of every shell ask at TAB, for a value and for an option's name with its help.
_COMPLETIONS = {
    name: {
        "_CTCTL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    for name, line in (
        ("completion of an option", "ctctl ct list --so"),
        ("completion of an option's value", "ctctl ct list --state ''"),
    )
}

Result = dict[str, float | bool | str]


@dataclass(frozen=True)
class Row:
    """One row of the goals: command, floor, how many times the floor it may take, how much memory."""

    name: str
    words: tuple[str, ...]
    floor: str
    limit: float
    startup_apart: bool = False
    max_mb: int | None = 120
    #: which of the directories is read: the end of its name
    of: str = ""


def _list(*words: str, limit: float = 3.0) -> Row:
    return Row(" ".join(("ct list", *words)), ("ct", "list", *words), "format", limit)


ROWS = (
    _list(),
    _list("-o", "wide"),
    _list("-o", "csv"),
    _list("-o", "yaml", limit=5.0),
    _list("-o", "cilium", limit=1.5),
    _list("-o", "jsonl", limit=2.0),
    _list("-o", "json", limit=2.0),
    _list("-o", "name"),
    _list("--fields", "src,dst,state"),
    _list("--live"),
    _list("--sort", "remaining", limit=5.0),
    _list("--sort", "remaining", "--limit", "50"),
    Row("ct list, a filter that matches 1,000 rows", ("ct", "list", "--ip", "10.65.0.0/30"), "count", 2.0, True),
    Row("ct stats", ("ct", "stats"), "tally", 2.0, True),
    *(
        Row(f"ct top --by {by}", ("ct", "top", "--by", by), "format", 1.5)
        for by in ("src", "dst", "pair", "service", "backend", "identity", "port")
    ),
    *(
        Row(f"nat list -o {form}", ("nat", "list", "-o", form), "format", 3.0, of="-nat")
        for form in ("table", "wide", "csv", "yaml", "cilium", "jsonl", "json", "name")
    ),
    Row("nat list --sort to", ("nat", "list", "--sort", "to"), "format", 5.0, max_mb=None, of="-nat"),
    Row("nat stats", ("nat", "stats", "--limit", "20"), "format", 1.5, of="-nat"),
    Row("doctor", ("doctor",), "format", 2.0, max_mb=None),
    Row("doctor, a million SNAT entries beside few others", ("doctor",), "format", 2.0, max_mb=None, of="-nat"),
    Row("ct export (snapshot)", ("ct", "export", "{output}"), "read", 1.5, True),
    # What is sorted at once and a group of rows are the lake's, for its size and speed: more memory, as flat.
    Row("ct export (Parquet)", ("ct", "export", "{output}.parquet"), "format", 5.0, max_mb=200),
)


def ten_of(directory: Path) -> Path:
    """Where a table of ten entries is pinned."""
    return directory.with_name(f"{directory.name}-ten")


def best(runs: list[Process] | list[Measured] | list[Shown]) -> float:
    return min(run.cpu_seconds for run in runs)


def memory(runs: list[Process]) -> int:
    return max(run.max_rss_kib for run in runs) // 1024


def measure(row: Row, directory: Path, floors: Floors, rounds: int, output: Path) -> Result:
    """The ratio of one row."""
    words = [str(CTCTL), *(word.format(output=output) for word in row.words), "--from"]
    floor: Callable[[Path], Measured] = getattr(floors, row.floor)
    ours, theirs, startups = [], [], []
    for _ in range(3 * rounds if row.startup_apart else rounds):
        if row.startup_apart:
            startups.append(floors.process([*words, str(ten_of(directory))]))
        for old in output.parent.glob(f"{output.name}*"):
            old.unlink()
        ours.append(floors.process([*words, f"{directory}{row.of}"]))
        theirs.append(floor(directory / TABLE))
        for old in output.parent.glob(f"{output.name}*"):
            old.unlink()
    ratio = (best(ours) - (best(startups) if row.startup_apart else 0)) / best(theirs)
    reached = ratio <= row.limit and (row.max_mb is None or memory(ours) <= row.max_mb)
    return {
        "figure": f"{ratio:.2f} × {row.floor}",
        "ratio": round(ratio, 2),
        "limit": row.limit,
        "max_mb": memory(ours),
        "reached": reached,
    }


@dataclass(frozen=True)
class Dumped:
    """The table in a file: in which form, how many times the floor reading it may take, and where it is put."""

    form: str
    limit: float
    file: Path


def measure_dump(dump: Dumped, words: tuple[str, ...], directory: Path, floors: Floors, rounds: int) -> Result:
    """The ratio of a command that reads the table from a file, which is made for it and goes with it."""
    (FORMS | CHANGED)[dump.form](directory, dump.file)
    command = [str(CTCTL), *(word.format(dump=dump.file, table=directory) for word in words)]
    ours, theirs = [], []
    try:
        for _ in range(rounds):
            ours.append(floors.process(command))
            theirs.append(floors.format(directory / TABLE))
    finally:
        dump.file.unlink()
    ratio = best(ours) / best(theirs)
    return {
        "figure": f"{ratio:.2f} × format",
        "ratio": round(ratio, 2),
        "limit": dump.limit,
        "max_mb": memory(ours),
        "reached": ratio <= dump.limit,
    }


def measure_small(name: str, floors: Floors, rounds: int, small: Path, big: Path) -> Result:
    """CPU milliseconds of a command that shows little, beside those of an interpreter that imports typer."""
    one = floors.process([str(CTCTL), "ct", "list", "-o", "name", "--limit", "1", "--from", str(big)], small)
    assert not one.stderr
    flow = small.read_text().strip()
    where = ["--from", str(ten_of(big))]
    commands: dict[str, tuple[list[str], float]] = {
        "ct list of ten entries": (["ct", "list", *where], 110),
        "ctctl --help": (["--help"], 60),
        **dict.fromkeys(_COMPLETIONS, ([], 90)),
        "ct get of a flow": (["ct", "get", flow, "--from", str(big)], 0),
    }
    words, limit = commands[name]
    ours, startups, lists = [], [], []
    for _ in range(rounds):
        with _environment(_COMPLETIONS.get(name, {})):
            ours.append(floors.process([str(CTCTL), *words]))
        startups.append(floors.process(STARTUP))
        lists.append(floors.process([str(CTCTL), *commands["ct list of ten entries"][0]]))
    mine, start = best(ours) * 1000, best(startups) * 1000
    if not limit:  # start-up and 20 ms
        limit = best(lists) * 1000 + 20
    return {
        "figure": f"{mine:.0f} ms (python with typer: {start:.0f})",
        "ratio": round(mine / start, 2),
        "limit": round(limit),
        "max_mb": memory(ours),
        "reached": mine <= limit,
    }


class _environment:  # noqa: N801
    """Variables for the children started inside."""

    def __init__(self, more: dict[str, str]) -> None:
        self._more = more

    def __enter__(self) -> None:
        os.environ.update(self._more)

    def __exit__(self, *_exc: object) -> None:
        for name in self._more:
            del os.environ[name]


#: Commands that read a table in a file, ``{dump}``: its form, how many times the floor they may take.
DUMPS = (
    *(
        (f"ct list of a file: {form}", ("ct", "list", "--from", "{dump}"), form, limit)
        for form, limit in zip(FORMS, (3.0, 6.0, 6.0, 6.0, 4.5, 2.0), strict=True)
    ),
    ("ct diff of a file and the table", ("ct", "diff", "{dump}", "{table}"), "a snapshot", 8.0),
    *(
        (
            f"ct diff of a file and the table, each entry differs, -o {form}",
            ("ct", "diff", "-o", form, "{dump}", "{table}"),
            *CHANGED,
            8.0,
        )
        for form in ("table", "csv", "jsonl")
    ),
)
SMALL = ("ct list of ten entries", "ctctl --help", *_COMPLETIONS, "ct get of a flow")
TERMINAL = "ct list to a terminal"
FIRST_ROW = "ct list to a terminal, the first row"
UI = "ctctl ui, a refresh a second"
#: Rows of a run that goes on.
PART = ROOT / "build" / "bench" / "big_tables.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resume", action="store_true", help="keep the rows of a run that was stopped")
    parser.add_argument("--only", default="", help="rows whose name has this; prints, writes no results")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(ROOT / "ctctl", quiet=1)
    directory = Path("/sys/fs/bpf") / unique_name("bench")
    ten, nat = ten_of(directory), directory.with_name(f"{directory.name}-nat")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            fill(directory, entries=asked.entries)
            for small in (ten, nat):
                fill(small, entries=10, capacity=1000)
            fill_nat(nat, asked.entries)
            results = run(directory, Path(scratch), asked)
        finally:
            for made in (directory, ten, nat):
                remove(made)
    if not asked.only:
        write_results(results, asked.entries, asked.rounds)
        PART.unlink(missing_ok=True)


def run(directory: Path, scratch: Path, asked: argparse.Namespace) -> dict[str, Result]:
    """The rows whose name has what was asked for; each is written down as it is measured."""
    floors, rounds = Floors(), asked.rounds
    head = {"entries": asked.entries, "rounds": rounds}
    results: dict[str, Result] = kept(head) if asked.resume else {}

    def add(name: str, measured: Callable[[], Result]) -> None:
        if asked.only not in name or name in results:
            return
        results[name] = measured()
        print(name, results[name], flush=True)
        if not asked.only:
            PART.parent.mkdir(parents=True, exist_ok=True)
            PART.write_text(json.dumps({**head, "rows": results}))

    for row in ROWS:
        add(row.name, functools.partial(measure, row, directory, floors, rounds, scratch / "export"))
    for name, words, form, limit in DUMPS:
        dump = Dumped(form, limit, scratch / "dump")
        add(name, functools.partial(measure_dump, dump, words, directory, floors, min(rounds, 3)))
    for name in (TERMINAL, FIRST_ROW):
        add(name, functools.partial(measure_terminal, name, directory, floors, rounds))
    for name in SMALL:
        add(name, functools.partial(measure_small, name, floors, 3 * rounds, scratch / "flow", directory))
    add(UI, functools.partial(measure_ui, directory))
    return results


def kept(head: dict[str, int]) -> dict[str, Result]:
    """The rows of a run of the same size that was stopped."""
    document = json.loads(PART.read_text()) if PART.exists() else head
    rows: dict[str, Result] = document.pop("rows", {})
    return rows if document == head else {}


def measure_terminal(name: str, directory: Path, floors: Floors, rounds: int) -> Result:
    """A table in a terminal: CPU time beside the floor's in one, or how soon the first row is there.

    What a terminal itself takes of a program is more than both.
    """
    words = [str(CTCTL), "--no-pager", "ct", "list", "--from", str(directory)]
    runs: list[Shown] = []
    theirs: list[Shown] = []
    for _ in range(rounds):
        runs.append(show(words))
        theirs.append(show(floors.format_words(directory / TABLE)))
    if name == FIRST_ROW:
        first = min(run.first_row_s for run in runs)
        return {"figure": f"{first:.2f} s of CPU", "ratio": round(first, 2), "limit": 0.3, "reached": first <= 0.3}
    most = max(run.max_rss_kib for run in runs) // 1024
    ratio = best(runs) / best(theirs)
    return {
        "figure": f"{ratio:.2f} × format to a terminal",
        "ratio": round(ratio, 2),
        "limit": 3.0,
        "max_mb": most,
        "reached": ratio <= 3 and most <= 120,
    }


def measure_ui(directory: Path) -> Result:
    """The share of a core that the full-screen view takes."""
    share = share_of_a_core([str(CTCTL), "ui", "--from", str(directory)])
    return {"figure": f"{share:.0%} of a core", "ratio": round(share, 2), "limit": 0.3, "reached": share <= 0.3}


def _megabytes(row: Result) -> str:
    return f"{row['max_mb']} MB" if "max_mb" in row else ""


def write_results(results: dict[str, Result], entries: int, rounds: int) -> None:
    directory = HERE / "results"
    directory.mkdir(exist_ok=True)
    document = {"entries": entries, "rounds": rounds, "rows": results}
    (directory / "big_tables.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    lines = [
        f"# Big tables: {entries:,} entries, whole process, CPU time, the least of {rounds} rounds",
        "",
        "Ratios to the C floor of the same run (tests/bench/floor.c): `format` reads the table and writes the lines of",
        "the Cilium CLI, `read` only reads it, `count` only visits it in the kernel, `tally` reads there which entries",
        "are expired (start-up apart in rows of these three: the same command on ten entries). Those rows, and those",
        "of small commands, in milliseconds, are of three times as many rounds.",
        "",
        "| what | measured | must hold | peak memory | holds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['figure']} | {row['limit']:g} | {_megabytes(row)} | {'yes' if row['reached'] else 'no'} |"
        for name, row in results.items()
    ]
    (directory / "big_tables.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))}: {error.stderr}")
