"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters: connections break, connections may break, worth knowing."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: which check, what it saw (one line), the figures behind it, what to do about it."""

    check: str
    severity: Severity
    map: str | None
    summary: str
    advice: str
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the worst first; the checks that ran, and those that could not, with the reason."""

    source: str
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]
    skipped: Mapping[str, str]
