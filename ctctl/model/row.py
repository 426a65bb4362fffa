"""An entry with what its table tells about it: what lists show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ctctl.model.clock import Clock
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.light import light_value


@light_value
class CtRow:
    """``names`` are those of addresses (and ``backend N``), where known; ``now`` is None where a dump's time is not."""

    entry: CtEntry
    layout: Layout = Layout.V1_16
    clock: Clock = field(default_factory=Clock)
    now: int | None = None
    node: str | None = None
    raw: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def remaining_s(self) -> int | None:
        """Seconds until expiry, None where the dump's time is unknown."""
        return None if self.now is None else self.clock.remaining_s(self.entry.lifetime, self.now)

    @property
    def expired(self) -> bool | None:
        """Whether it has expired, None where the dump's time is unknown."""
        return None if self.now is None else self.entry.expired(self.now)

    @property
    def idle_s(self) -> int | None:
        """Seconds since the last report of either side, None where unknown."""
        last = max(self.entry.last_tx_report, self.entry.last_rx_report)
        return None if self.now is None or not last else self.clock.remaining_s(self.now, last)
