"""Deletions on record: handing the engines' arrays to a recorder, one entry at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctctl.gc.perkey import flags_of
from ctctl.model.entry import CtFlags
from ctctl.tables import pairs as _keys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.gc.job import Recorder
    from ctctl.gc.tables import Table


def record_deleted(
    recorder: Recorder,
    table: Table,
    reason: str,
    *,
    keys: NDArray[np.uint8],
    values: NDArray[np.uint8],
    nats: NDArray[np.uint8],
    nat_values: NDArray[np.uint8],
) -> None:
    """Tell of n deletions: keys (n, key size), values (n, 56), how many SNAT entries went along, their value."""
    for i in range(len(keys)):
        key, value = keys[i].tobytes(), values[i].tobytes()
        recorder.deleted(table.name, reason, key, value)
        if not nats[i] or table.nat is None:
            continue
        forward, nat_value = _keys.nat_key(key, bool(flags_of(value) & CtFlags.DSRInternal)), nat_values[i].tobytes()
        recorder.deleted(table.nat.name, "snat-pair", forward, nat_value)
        if nats[i] == 2:
            reverse = _keys.reverse_nat_key(forward, nat_value)
            recorder.deleted(table.nat.name, "snat-pair", reverse, _keys.reverse_nat_value(forward, nat_value))
