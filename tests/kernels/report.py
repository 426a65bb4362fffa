"""Write docs/support-matrix.md and the verifier's figures from what each kernel said.

python -m tests.kernels.report build/kernels
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

from tests.kernels.complexity import FIGURES, LIMIT, cases
from tests.kernels.guest import APART, LAB, TESTS
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


def write_figures(outcome: Outcome) -> None:
    """The committed figures of one kernel, if every program was measured or refused."""
    release, steps = outcome
    if {f"{case.object}-{case.program} {case.variant}" for case in cases()} - steps.get("figures", {}).keys():
        return
    document = {"kernel": release, "limit": LIMIT, "programs": figures_of(outcome)}
    FIGURES.mkdir(exist_ok=True)
    path = FIGURES / f"{'.'.join(release.split('-')[0].split('.')[:2])}.json"
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


def _results(found: dict[str, Outcome]) -> list[list[str]]:
    programs = {f"{case.object}-{case.program}" for case in cases()}
    measured = [len(figures_of(one).keys() & programs) for one in found.values()]
    rows = [["programs loaded and measured", *(f"{n} of {len(programs)}" for n in measured)]]
    rows.append(["conformance vectors", *(_score(one, "vectors", len(VECTORS)) for one in found.values())])
    for step, title, files in (("tests", "kernel tests", TESTS), ("lab", "lab, geneve devices", LAB)):
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


def _figures(found: dict[str, Outcome]) -> list[list[str]]:
    told = [figures_of(outcome) for outcome in found.values()]
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
        return "not loaded" if refused else "not measured"
    most = max(by_variant.values())
    return f"{most:,}" if most < LIMIT else f"**{most:,}**, over it"


def _failed(found: dict[str, Outcome]) -> list[str]:
    lines = [
        f"- {release}: `{name}`: {' '.join(str(said['failed'][0]).split())[:200]}"
        for release, steps in found.values()
        for step in ("figures", "vectors", "tests", "lab")
        for name, said in sorted(steps.get(step, {}).items())
        if said.get("failed")
    ]
    return lines or ["Nothing of what was run."]


def _skipped(found: dict[str, Outcome]) -> list[str]:
    lines = []
    for release, steps in found.values():
        reasons = Counter(
            said["skipped"]
            for step in ("vectors", "tests", "lab")
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
        missing = [name_of(vector) for vector in VECTORS if name_of(vector) not in steps.get("vectors", {})]
        if missing:
            lines.append(f"- {release}: {len(missing)} conformance vectors of {len(VECTORS)}.")
        for step, title, files in (("tests", "kernel tests", TESTS), ("lab", "lab", LAB)):
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


def main() -> None:
    found = outcomes(Path(sys.argv[1]))
    for outcome in found.values():
        write_figures(outcome)
    lacking = [name for name in KERNELS if name not in found or "features" not in found[name][1]]
    if lacking:
        print(f"docs/support-matrix.md stays as it is: nothing is known of {', '.join(lacking)}")
        return
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
