"""Write docs/support-matrix.md and the verifier's figures from what each kernel said.

python -m tests.kernels.report build/kernels
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.kernels.complexity import FIGURES, LIMIT

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/support-matrix.md"
#: In the order that they are told, by the names that the runner gives them.
KERNELS = {"6.1": "Debian 12", "6.12": "Debian 13", "newest": "Debian 13 backports or testing, the newest"}

HEAD = """# Which kernels, and what each can do

Written by `make test-kernels`, which boots each of these kernels in an emulator, loads every program of
ctctl, replays the conformance vectors, and runs the kernel tests and the lab there; the first table says
what of it was done for this page. Linux 6.1 is the oldest that ctctl promises. `ctctl features` tells the
same of the kernel at hand, and tries it.
"""


def outcomes(directory: Path) -> dict[str, dict[str, Any]]:
    """What the kernels said that were run, by the runner's names."""
    paths = {name: directory / f"{name}.json" for name in KERNELS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def write_figures(outcome: dict[str, Any]) -> None:
    """The committed figures of one kernel."""
    told = outcome["figures"]
    document = {"kernel": outcome["release"], "limit": LIMIT, "programs": told["programs"]}
    FIGURES.mkdir(exist_ok=True)
    path = FIGURES / f"{told['kernel']}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def page(found: dict[str, dict[str, Any]]) -> str:
    """The text of the page."""
    kernels = list(found)
    lines = [HEAD, _table(["", *(_kernel(found, name) for name in kernels)], _results(found))]
    lines += ["\n## Features\n", _table(["feature", "needed for", *kernels], _features(found))]
    lines += ["\n## What is not there, and what then\n", *_missing(found)]
    lines += ["\n## Instructions that the verifier goes through\n", _limit_text()]
    lines += [_table(["program", *kernels], _figures(found))]
    lines += ["\n## Tests left out\n", *_skipped(found)]
    return "\n".join(lines) + "\n"


def _kernel(found: dict[str, dict[str, Any]], name: str) -> str:
    return f"{found[name]['release']} ({KERNELS[name]})"


def _results(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    told = [outcome["figures"] for outcome in found.values()]
    rows = [["programs loaded", *(f"{len(one['programs'])} of {one['there_are']}" for one in told)]]
    for step, title in (("vectors", "conformance vectors"), ("tests", "kernel tests"), ("lab", "lab, geneve devices")):
        rows.append([title, *(_score(outcome.get(step)) for outcome in found.values())])
    return rows


def _score(told: dict[str, Any] | None) -> str:
    if told is None:
        return "not run"
    bad, skipped = len(told["failed"]), sum(told.get("skipped", {}).values())
    more = [f"{bad} **failed**"] * bool(bad) + [f"{skipped} left out"] * bool(skipped)
    return ", ".join([f"{told['passed']} passed", *more])


def _features(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    by_kernel = [{f["name"]: f for f in outcome["features"]} for outcome in found.values()]
    return [
        [f"`{name}`", first["used_for"], *(_yes(kernel.get(name)) for kernel in by_kernel)]
        for name, first in by_kernel[0].items()
        if not name.startswith("CAP_")
    ]


def _yes(feature: dict[str, Any] | None) -> str:
    if feature is None:
        return ""
    if feature["name"] == "libbpf":
        return str(feature["detail"])
    return "yes" if feature["available"] else "**no**"


def _missing(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"- {outcome['release']}: `{f['name']}` ({f['used_for']}): {f['detail']}."
        for outcome in found.values()
        for f in outcome["features"]
        if not f["available"]
    ]
    return lines or ["Nothing is missing."]


def _limit_text() -> str:
    return (
        f"The most of all configurations, for each program. The kernel refuses a million; {LIMIT:,} is our own\n"
        "limit. `tests/kernels/figures` has all of them, and `make test` holds the running kernel to it.\n"
    )


def _figures(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    told = [outcome["figures"]["programs"] for outcome in found.values()]
    names = sorted({name for programs in told for name in programs})
    return [[f"`{name}`", *(_figure(programs.get(name)) for programs in told)] for name in names]


def _figure(by_variant: dict[str, int] | None) -> str:
    if by_variant is None:
        return "not loaded"
    most = max(by_variant.values())
    return f"{most:,}" if most < LIMIT else f"**{most:,}**, over it"


def _skipped(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"- {outcome['release']}: {reason} ({n})."
        for outcome in found.values()
        for step in ("tests", "lab")
        for reason, n in sorted(outcome.get(step, {}).get("skipped", {}).items())
    ]
    ran = any(step in outcome for outcome in found.values() for step in ("tests", "lab"))
    return lines or ["None." if ran else "No tests were run."]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    found = outcomes(Path(sys.argv[1]))
    for outcome in found.values():
        if "programs" in outcome.get("figures", {}):
            write_figures(outcome)
    lacking = [name for name in KERNELS if name not in found or not {"features", "figures"} <= found[name].keys()]
    if lacking:
        print(f"docs/support-matrix.md stays as it is: nothing is known of {', '.join(lacking)}")
        return
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
