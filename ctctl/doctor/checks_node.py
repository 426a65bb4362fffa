"""Is the node as it was loaded: its tables pinned, its programs where packets come by?"""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.doctor.facts import Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.units import counted


def node(facts: Facts) -> Iterator[Finding]:
    """What ``ctctl status`` says is wrong. What is gone took its packets along; all else leaves some untracked."""
    if facts.node is None or facts.node.changing:
        return
    gone = [program.told for program in facts.node.programs if program.gone]
    wrong = [problem for problem in facts.node.problems if problem not in gone]
    show = (f"ctctl status{facts.where.place}",)
    if wrong:
        yield Finding(
            "node",
            Severity.CRITICAL,
            None,
            f"the node is not as it was loaded: {_some(wrong)}",
            "load it again: until then packets may pass that its tables do not know",
            {"problems": wrong},
            show,
            ("ctctl load -f NODE.yaml",),
        )
    if gone:
        yield Finding(
            "node",
            Severity.WARNING,
            None,
            f"{counted(len(gone), 'hook')} went with what they were on: {_some(gone)}",
            "take what is gone out of the node file and load it again",
            {"problems": gone},
            show,
            ("ctctl load -f NODE.yaml",),
        )


def _some(problems: list[str]) -> str:
    more = f", and {len(problems) - 2} more" if len(problems) > 2 else ""
    return "; ".join(problems[:2]) + more
