"""Rows that lie in several parts (batches, tables) brought into one order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_of_parts(sizes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each row of parts of these sizes: which part, and which row of it."""
    part = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    row = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes] or [np.zeros(0, np.int64)])
    return part, row


def ascending(key: NDArray[Any], *, descending: bool) -> NDArray[Any]:
    """What sorts upwards into the order wanted, of numbers or bytes: turned round for a descending one."""
    if key.dtype.kind == "S" and descending:
        key = np.unique(key, return_inverse=True)[1].reshape(-1)
    return ~key if descending else key
