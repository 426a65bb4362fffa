"""Entries by class: protocol, direction, related. Vectorised over batches; pure.

Keys and values are the arrays of a batch: uint8, (n, key size) and (n, 56). The class number of an
entry is ``protocol << 3 | tuple flags & 7``, the same in the BPF program (bpf/gc.bpf.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ctctl.abi.constants import CT_ENTRY_FLAGS, CT_ENTRY_LIFETIME, TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE
from ctctl.decode.ct import KEY_SIZE
from ctctl.model.clock import Clock
from ctctl.model.entry_class import EntryClass
from ctctl.model.tuples import Direction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = 256 << 3


def class_of(number: int) -> EntryClass:
    """The class behind a class number."""
    flags = number & 7
    direction = Direction.SVC if flags & TUPLE_SERVICE else Direction.IN if flags & TUPLE_IN else Direction.OUT
    return EntryClass(number >> 3, direction, bool(flags & TUPLE_RELATED))


def class_numbers(keys: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Class number of every key, IPv4 (14 bytes) or IPv6 (38): the two end alike, in protocol and flags."""
    import numpy as np

    return ((keys[:, -2].astype(np.uint16) << 3) | (keys[:, -1] & 7)).astype(np.uint16, copy=False)


def lifetimes(values: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Lifetime of every value, a view where the rows are contiguous."""
    found: NDArray[np.uint32] = _field(values, CT_ENTRY_LIFETIME, "<u4")
    return found


def in_seconds(times: Any, clock: Clock) -> Any:
    """Times of a clock, a column of int64, in whole seconds: each is rounded down, as Cilium does."""
    return times if clock.hz is None else (times << 8) // clock.hz


def entry_flags(values: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Flag bits of every value, a view where the rows are contiguous."""
    found: NDArray[np.uint16] = _field(values, CT_ENTRY_FLAGS, "<u2")
    return found


def _field(values: NDArray[np.uint8], offset: int, dtype: str) -> Any:
    import numpy as np

    rows = np.ascontiguousarray(values)
    return np.ndarray((len(rows),), dtype, buffer=rows, offset=offset, strides=rows.strides[:1])


def expired(values: NDArray[np.uint8], now: int) -> NDArray[np.bool_]:
    """Which entries GC would collect: ``lifetime < now`` (docs/reference/abi.md). A bool a row."""
    return lifetimes(values) < now


def count(numbers: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How many entries each class has; an int64 a class."""
    import numpy as np

    return np.bincount(numbers, minlength=CLASSES)


def with_address(keys: NDArray[np.uint8], addresses: Iterable[bytes]) -> NDArray[np.bool_]:
    """Which keys have one of the addresses (network order, of either IP version) at an end."""
    import numpy as np

    width = 4 if keys.shape[1] == KEY_SIZE[4] else 16
    found = np.zeros(len(keys), bool)
    for address in addresses:
        if len(address) == width:
            wanted = np.frombuffer(address, np.uint8)
            found |= (keys[:, :width] == wanted).all(1) | (keys[:, width : 2 * width] == wanted).all(1)
    return found
