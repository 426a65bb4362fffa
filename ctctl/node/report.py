"""What commands around a node tell: feature probes, and table changes in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One probe of ``ctctl features``."""

    name: str
    available: bool
    needed_for: str
    detail: str


@dataclass(frozen=True, slots=True)
class TableChange:
    """One change of ``apply`` in words. ``before`` and ``after`` are None where there is nothing."""

    action: str
    kind: str
    name: str
    before: str | None
    after: str | None
