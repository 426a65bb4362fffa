"""Are the node's programs where packets come by, as they were loaded?"""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.doctor.facts import Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.units import counted


def programs(facts: Facts) -> Iterator[Finding]:
    """Hooks that are not as loaded. What is gone took its packets along; all else lets some pass untracked."""
    gone = [program.told for program in facts.programs if program.gone]
    wrong = [program.told for program in facts.programs if program.problem and not program.gone]
    show = (f"ctctl status{facts.where.place}",)
    if wrong:
        yield Finding(
            "programs",
            Severity.CRITICAL,
            None,
            f"{counted(len(wrong), 'hook')} not as loaded: {_some(wrong)}",
            "load it again: until then packets may pass that its tables do not know",
            {"hooks": wrong},
            show,
            ("ctctl load -f NODE.yaml",),
        )
    if gone:
        yield Finding(
            "programs",
            Severity.WARNING,
            None,
            f"{counted(len(gone), 'hook')} went with what they were on: {_some(gone)}",
            "take what is gone out of the node file and load it again",
            {"hooks": gone},
            show,
            ("ctctl load -f NODE.yaml",),
        )


def _some(problems: list[str]) -> str:
    more = f", and {len(problems) - 2} more" if len(problems) > 2 else ""
    return "; ".join(problems[:2]) + more
