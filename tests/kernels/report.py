"""Write docs/support-matrix.md and the verifier's figures from what each kernel said.

python -m tests.kernels.report build/kernels
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, TypeAlias

from tests.kernels.complexity import FIGURES, LIMIT, cases
from tests.kernels.guest import APART, LAB, STEPS, TESTS, XDP
from tests.kernels.record import read
from tests.kernels.vectors import VECTORS, name_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/support-matrix.md"
#: In the order that they are told, by the names that the runner gives them.
KERNELS = {"6.1": "Debian 12", "6.12": "Debian 13", "newest": "Debian 13 backports or testing, the newest"}

HEAD = """# Which kernels, and what each can do

Written by `make test-kernels`, which boots each of these kernels in an emulator, loads every program of
ctctl, replays the conformance vectors, and runs the kernel tests and the lab there. The first table says what
of it was done for this page: a program that has changed since a kernel was last booted is not measured, and
features and tests are those of that boot: a test that is newer has not run there. Linux 6.1 is the oldest that
ctctl promises. `ctctl features` tells the same of the kernel at hand, and tries it.
"""
#: Where on the page it is told what was done after the boot that the rest is of.
SINCE = "\n## Booted since, for parts of it\n"
#: Steps that are tests in files: their titles, and which files.
FILES = {"tests": ("kernel tests", TESTS), "lab": ("lab, geneve devices", LAB), "xdp": ("lab, XDP", XDP)}
#: Steps that are the conformance vectors: their titles.
RECORDINGS = {"vectors": "conformance vectors", "accelerated": "conformance vectors, XDP first"}

_NOT_MEASURED = "not measured"
_COMMITTED = (
    "\nA figure that these boots have not measured is that of `tests/kernels/figures`, of the boot that last did."
)
SINCE_TEXT = """The tables above are of the last boot that did everything. Programs were added or changed after it:
this is what was done again with them, and a step that is "not run" here was not done with these programs.
"""

#: What a kernel said: its release, and by step and name what was said.
Outcome: TypeAlias = tuple[str, dict[str, dict[str, dict[str, Any]]]]


def outcomes(directory: Path) -> dict[str, Outcome]:
    """What the kernels said that were run, by the runner's names."""
    found = {}
    for name in KERNELS:
        if (path := directory / f"{name}.record").is_file():
            found[name] = read(path)
    return found


def figures_of(outcome: Outcome) -> dict[str, dict[str, int]]:
    """Verified instructions by program and variant."""
    programs: dict[str, dict[str, int]] = {}
    for said in outcome[1].get("figures", {}).values():
        if "figure" in said:
            programs.setdefault(said["program"], {})[said["variant"]] = said["figure"]
    return programs


def write_figures(outcome: Outcome, folder: Path = FIGURES) -> None:
    """The committed figures of one kernel: of the programs that were measured, or refused, in every configuration.

    What is committed of the others stays, unless it is of another build of that kernel.
    """
    release, steps = outcome
    said, variants = steps.get("figures", {}).keys(), defaultdict(set)
    for case in cases():
        variants[f"{case.object}-{case.program}"].add(f"{case.object}-{case.program} {case.variant}")
    left = {program for program, names in variants.items() if names - said}
    measured = {program: by for program, by in figures_of(outcome).items() if program not in left}
    path = _file_of(release, folder)
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"kernel": None, "programs": {}}
    if not measured or (left and before["kernel"] != release):
        return
    figures = measured | {program: by for program, by in before["programs"].items() if program in left}
    programs = {program: figures[program] for program in variants if program in figures}
    folder.mkdir(exist_ok=True)
    document = {"kernel": release, "limit": LIMIT, "programs": programs}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def page(found: dict[str, Outcome]) -> str:
    """The text of the page."""
    kernels = list(found)
    lines = [HEAD, _table(["", *(f"{found[name][0]} ({KERNELS[name]})" for name in kernels)], _results(found))]
    lines += ["\n## Features\n", _table(["feature", "needed for", *kernels], _features(found))]
    lines += ["\n## What is not there, and what then\n", *_missing(found)]
    lines += ["\n## Instructions that the verifier goes through\n", _limit_text()]
    lines += [_table(["program", *kernels], _figures(found))]
    lines += ["\n## What failed\n", *_failed(found)]
    lines += ["\n## Tests left out, and why\n", *_skipped(found)]
    lines += ["\n## Files of kernel tests that are not for a guest, and why\n", *_apart()]
    lines += ["\n## Tests that were not run\n", *_not_run(found)]
    return "\n".join(lines) + "\n"


def since(found: dict[str, Outcome], before: str = "", folder: Path = FIGURES) -> str:
    """What was run of these objects, where that is not everything: the page of the last whole boot goes on with it.

    Programs that are newer than that have the figures that are committed, where these boots have none.
    """
    kernels = list(found)
    head = ["", *(f"{release} ({name})" for name, (release, _) in found.items())]
    lines = [SINCE, SINCE_TEXT, *_commit(), _table(head, _results(found))]
    newer = {row[0] for row in _figures(found) if f"\n| {row[0]} |" not in before}
    measured = [row[0] for row in _figures(found) if set(row[1:]) != {_NOT_MEASURED}]
    told = [row for row in _figures(found, folder) if row[0] in newer.union(measured)]
    lines += ["", _table(["program", *kernels], told), _COMMITTED] if told else []
    lines += ["\n### Of which files\n", *_ran(found)]
    lines += ["\n### Left out, and why\n", *_skipped(found)]
    lines += ["\n### What failed of it\n", *_failed(found)]
    return "\n".join(lines) + "\n"


def _commit() -> list[str]:
    """Which commit's programs these are: of others nothing is counted (``record.read``). Of changed ones no commit."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words, "--", "bpf"], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    said = git("log", "-1", "--format=%h of %cs") if not git("status", "--porcelain") else ""
    return [f"They are the programs of commit {said}, the last that changed any.\n"] * bool(said)


def _ran(found: dict[str, Outcome]) -> list[str]:
    lines = []
    for release, steps in found.values():
        for step, (title, files) in FILES.items():
            counted = {file: sum(name.startswith(f"{file}::") for name in steps.get(step, {})) for file in files}
            told = [f"`{file.removeprefix('tests/').removesuffix('.py')}` ({n})" for file, n in counted.items() if n]
            lines += [f"- {release}, {title}: {', '.join(told)}."] * bool(told)
    return lines or ["None."]


def _results(found: dict[str, Outcome]) -> list[list[str]]:
    programs = {f"{case.object}-{case.program}" for case in cases()}
    measured = [len(figures_of(one).keys() & programs) for one in found.values()]
    rows = [["programs loaded and measured", *(f"{n} of {len(programs)}" for n in measured)]]
    for step, title in RECORDINGS.items():
        rows.append([title, *(_score(one, step, len(VECTORS)) for one in found.values())])
    for step, (title, files) in FILES.items():
        rows.append([title, *(_score(one, step, _tests_of(one, step, files)) for one in found.values())])
    return rows


def _tests_of(outcome: Outcome, step: str, files: tuple[str, ...]) -> int | None:
    """How many tests a step has; None if not every file was looked into."""
    told = outcome[1].get(f"{step} of a file", {})
    return sum(told[file]["tests"] for file in files) if told.keys() >= set(files) else None


def _score(outcome: Outcome, step: str, there_are: int | None) -> str:
    said = outcome[1].get(step, {})
    if not said:
        return "not run"
    bad, skipped = (sum(key in each for each in said.values()) for key in ("failed", "skipped"))
    more = [f"{bad} **failed**"] * bool(bad) + [f"{skipped} left out"] * bool(skipped)
    missing = "some not run" if there_are is None else f"{there_are - len(said)} not run"
    more += [missing] * (there_are != len(said))
    return ", ".join([f"{len(said) - bad - skipped} passed", *more])


def _features(found: dict[str, Outcome]) -> list[list[str]]:
    by_kernel = [steps["features"] for _, steps in found.values()]
    return [
        [f"`{name}`", first["used_for"], *(_yes(name, kernel.get(name)) for kernel in by_kernel)]
        for name, first in by_kernel[0].items()
        if not name.startswith("CAP_")
    ]


def _yes(name: str, feature: dict[str, Any] | None) -> str:
    if feature is None:
        return ""
    if name == "libbpf":
        return str(feature["detail"])
    return "yes" if feature["available"] else "**no**"


def _missing(found: dict[str, Outcome]) -> list[str]:
    lines = [
        f"- {release}: `{name}` ({said['used_for']}): {said['detail']}."
        for release, steps in found.values()
        for name, said in steps["features"].items()
        if not said["available"]
    ]
    return lines or ["Nothing is missing."]


def _limit_text() -> str:
    return (
        f"The most of all configurations, for each program. The kernel refuses a million; {LIMIT:,} is our own\n"
        "limit. `tests/kernels/figures` has all of them, and `make test` holds the running kernel to it.\n"
    )


def _file_of(release: str, folder: Path) -> Path:
    return folder / f"{'.'.join(release.partition('-')[0].split('.')[:2])}.json"


def _committed(release: str, folder: Path) -> dict[str, dict[str, int]]:
    """The committed figures of a kernel; none of another build of it."""
    path = _file_of(release, folder)
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    programs: dict[str, dict[str, int]] = document["programs"] if document.get("kernel") == release else {}
    return programs


def _figures(found: dict[str, Outcome], folder: Path | None = None) -> list[list[str]]:
    """``folder``: of what is committed, for what was not measured."""
    known = [_committed(release, folder) if folder else {} for release, _ in found.values()]
    told = [first | figures_of(outcome) for first, outcome in zip(known, found.values(), strict=True)]
    names = sorted({f"{case.object}-{case.program}" for case in cases()})
    refused = [
        {said["program"] for said in steps.get("figures", {}).values() if said.keys() & {"error", "failed"}}
        for _, steps in found.values()
    ]
    return [
        [f"`{name}`", *(_figure(programs.get(name), name in no) for programs, no in zip(told, refused, strict=True))]
        for name in names
    ]


def _figure(by_variant: dict[str, int] | None, refused: bool) -> str:
    if by_variant is None:
        return "not loaded" if refused else _NOT_MEASURED
    most = max(by_variant.values())
    return f"{most:,}" if most < LIMIT else f"**{most:,}**, over it"


def _failed(found: dict[str, Outcome]) -> list[str]:
    lines = [
        f"- {release}: `{name}`: {' '.join(str(said['failed'][0]).split())[:200]}"
        for release, steps in found.values()
        for step in ("figures", *RECORDINGS, *FILES)
        for name, said in sorted(steps.get(step, {}).items())
        if said.get("failed")
    ]
    return lines or ["Nothing of what was run."]


def _skipped(found: dict[str, Outcome]) -> list[str]:
    lines = []
    for release, steps in found.values():
        reasons = Counter(
            said["skipped"]
            for step in (*RECORDINGS, *FILES)
            for said in steps.get(step, {}).values()
            if "skipped" in said
        )
        lines += [f"- {release}: {reason} ({n})." for reason, n in sorted(reasons.items())]
    return lines or ["None of those that were run."]


def _apart() -> list[str]:
    files: dict[str, list[str]] = {}
    for file, reason in APART.items():
        files.setdefault(reason, []).append(f"`{Path(file).stem}`")
    return [f"- {', '.join(names)}: {reason}." for reason, names in files.items()]


def _not_run(found: dict[str, Outcome]) -> list[str]:
    lines = []
    for release, steps in found.values():
        for step, title in RECORDINGS.items():
            missing = [name_of(vector) for vector in VECTORS if name_of(vector) not in steps.get(step, {})]
            if missing:
                lines.append(f"- {release}: {len(missing)} {title} of {len(VECTORS)}.")
        for step, (title, files) in FILES.items():
            if step in steps:
                lines += [f"- {release}: {each}." for file in files if (each := _unrun_of(steps, step, file))]
            else:
                lines.append(f"- {release}: the {title}.")
    return lines or ["None."]


def _unrun_of(steps: dict[str, dict[str, dict[str, Any]]], step: str, file: str) -> str:
    ran = sum(name.startswith(f"{file}::") for name in steps.get(step, {}))
    there_are = steps.get(f"{step} of a file", {}).get(file, {}).get("tests")
    if not ran:
        return f"`{file}`"
    return f"{there_are - ran} of {there_are} tests of `{file}`" if there_are is not None and there_are != ran else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def written(before: str, found: dict[str, Outcome]) -> str | None:
    """The page anew, or what it was and what was run since; None if nothing was."""
    if not found:
        return None
    whole = all(name in found and STEPS.keys() <= found[name][1].keys() for name in KERNELS)
    if whole:
        return page(found)
    before = before.partition(SINCE)[0]
    return before + since(found, before)


def main() -> None:
    found = outcomes(Path(sys.argv[1]))
    for outcome in found.values():
        write_figures(outcome)
    text = written(PAGE.read_text(encoding="utf-8"), found)
    if text is None:
        print("docs/support-matrix.md stays as it is: no kernel was booted")
        return
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
