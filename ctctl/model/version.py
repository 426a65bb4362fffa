"""Which Cilium wrote a set of tables, as far as the evidence goes."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ctctl.model.entry import Layout

#: The minor versions of Cilium 1 whose tables ctctl knows.
FIRST_MINOR, LAST_MINOR = 14, 19
_VERSION = re.compile(r"(?<![\d.])v?1\.(\d+)(?:\.\d+)?(?:-[\w.]+)?")


class CiliumVersion(NamedTuple):
    """Versions 1.``low`` to 1.``high`` are possible; equal where it is known. ``evidence``: what says so.

    ``full`` is the version as the agent spells it, None where it did not say.
    """

    low: int
    high: int
    evidence: str
    full: str | None = None

    @property
    def layout(self) -> Layout:
        """The newest layout that is certain to fit: what later versions changed is not read into the tables."""
        layout = Layout.of_version(f"1.{self.low}")
        assert layout is not None
        return layout

    @property
    def certain(self) -> bool:
        """Whether one layout is left."""
        return self.layout is Layout.of_version(f"1.{self.high}")

    def at_least(self, minor: int) -> bool:
        """Whether this is Cilium 1.``minor`` or a later one."""
        return self.low >= minor

    def __str__(self) -> str:
        if self.full is not None:
            return self.full
        if self.low == self.high:
            return f"1.{self.low}"
        return f"1.{self.low} {'or' if self.high == self.low + 1 else 'to'} 1.{self.high}"


def versions_of_layout(layout: Layout, evidence: str) -> CiliumVersion:
    """The versions whose entries lie so. Bytes cannot tell 1.14 from 1.15, text can: its layout is ``V1_14``."""
    low, high = _minors_of(layout)
    return CiliumVersion(low, high, evidence)


@functools.cache
def _minors_of(layout: Layout) -> tuple[int, int]:
    minors = [minor for minor in range(FIRST_MINOR, LAST_MINOR + 1) if Layout.of_version(f"1.{minor}") is layout]
    return minors[0], minors[-1]


def version_in(text: str, evidence: str) -> CiliumVersion | None:
    """The first Cilium version that a text names, None if it names none that ctctl knows.

    A version after the last known one counts as that: its tables are the nearest to be had.
    """
    for found in _VERSION.finditer(text):
        minor = int(found[1])
        if minor >= FIRST_MINOR:
            known = min(minor, LAST_MINOR)
            return CiliumVersion(known, known, evidence, found[0].removeprefix("v"))
    return None
