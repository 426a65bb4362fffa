"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple


class Severity(StrEnum):
    """How much a finding matters: connections break, connections may break, worth knowing."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Where(NamedTuple):
    """What a command needs to look at the same source: options for which one it is and for the time of its tables.

    ``target`` is the option that names it where that is one: commands that change tables take no more.
    ``by`` is the command that it goes through: ``ctctl``, or one that fetches the source first.
    """

    place: str = ""
    time: str = ""
    by: str = "ctctl"
    target: str = ""


#: The tables of this machine, as commands find them by themselves.
HERE: Final = Where()


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: which check, what it saw (one line), the figures behind it, what to do about it.

    ``show`` and ``mend`` are commands: what shows it in the same source, what mends it on the node. Where no
    command mends it, ``mend`` says by which one the cause is found.
    """

    check: str
    severity: Severity
    map: str | None
    summary: str
    advice: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    show: tuple[str, ...] = ()
    mend: tuple[str, ...] = ()


class Verdict(StrEnum):
    """What is said of a node. Healthy: nothing found, and looked at was what may not be left out."""

    HEALTHY = "healthy"
    FINDINGS = "findings"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the worst first; the checks that ran, and those that could not, with the reason.

    A check that could look at some tables only is in both ``checks`` and ``skipped``. ``essential`` are the
    checks without which nobody can be called healthy.
    """

    source: str
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]
    skipped: Mapping[str, str]
    essential: frozenset[str] = frozenset()

    @property
    def verdict(self) -> Verdict:
        if self.findings:
            return Verdict.FINDINGS
        return Verdict.UNKNOWN if self.essential & self.skipped.keys() else Verdict.HEALTHY
