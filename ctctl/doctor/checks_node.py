"""Is the node as it was loaded: its programs where packets come by, with the maps that are pinned?"""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.doctor.facts import Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.units import counted
from ctctl.node.status import ProgramStatus


def programs(facts: Facts) -> Iterator[Finding]:
    """Hooks without their program. What is gone took its packets along; else they pass untracked."""
    wrong = [program for program in facts.programs or () if program.problem]
    for gone in (False, True):
        some = [program for program in wrong if program.problem.endswith("is gone") == gone]
        if some:
            yield _finding(facts, some, gone)


def _finding(facts: Facts, wrong: list[ProgramStatus], gone: bool) -> Finding:
    told = [f"{program.program} of {program.interface or program.slot}: {program.problem}" for program in wrong]
    more = f", and {len(told) - 2} more" if len(told) > 2 else ""
    return Finding(
        "programs",
        Severity.WARNING if gone else Severity.CRITICAL,
        None,
        f"{counted(len(told), 'hook')} of the node {'went with what they were on' if gone else 'are not as loaded'}: "
        f"{'; '.join(told[:2])}{more}",
        "take what is gone out of the node file and load it again"
        if gone
        else "load the node again: until then packets pass there that its tables do not know",
        {"hooks": told},
        (f"ctctl status{facts.where.place}",),
        ("ctctl load -f NODE.yaml",),
    )
