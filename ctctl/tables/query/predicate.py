"""Predicates over slots: what a filter becomes for one table, and its three evaluators.

A predicate is a tree of ``Test``s (``low <= slot & mask <= high``) under all, any and not. It runs on
numpy columns (``mask_of``), on one entry (``holds``), and as a jump program (``program_of``) in
``bpf/ctscan.bpf.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ctctl.abi.constants import SCAN_ACCEPT, SCAN_INSNS, SCAN_REJECT
from ctctl.tables.query.ast import MAX

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns, Mask


@dataclass(frozen=True, slots=True)
class Test:
    """``low <= (slot & mask) <= high``; ``slot`` is a number of ``ctctl.decode.columns.Slot``."""

    slot: int
    low: int
    high: int
    mask: int = MAX


@dataclass(frozen=True, slots=True)
class All:
    items: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    items: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Inverse:
    item: Predicate


Predicate: TypeAlias = Test | All | AnyOf | Inverse | bool


def all_of(items: Sequence[Predicate]) -> Predicate:
    """Conjunction, simplified."""
    kept = tuple(item for item in items if item is not True)
    if any(item is False for item in kept):
        return False
    return True if not kept else kept[0] if len(kept) == 1 else All(kept)


def any_of(items: Sequence[Predicate]) -> Predicate:
    """Disjunction, simplified."""
    kept = tuple(item for item in items if item is not False)
    if any(item is True for item in kept):
        return True
    return False if not kept else kept[0] if len(kept) == 1 else AnyOf(kept)


def inverse(item: Predicate) -> Predicate:
    """Negation, simplified."""
    if isinstance(item, bool):
        return not item
    return item.item if isinstance(item, Inverse) else Inverse(item)


def in_range(slot: int, low: int, high: int, mask: int = MAX) -> Predicate:
    """A test of one slot; an empty range is False, one below 0 is cut at 0."""
    low, high = max(low, 0), min(high, MAX)
    return Test(slot, low, high, mask) if low <= high else False


def holds(predicate: Predicate, slot: Callable[[int], int]) -> bool:
    """The predicate on one entry, whose numbers ``slot`` gives."""
    if isinstance(predicate, bool):
        return predicate
    if isinstance(predicate, Test):
        return predicate.low <= slot(predicate.slot) & predicate.mask <= predicate.high
    if isinstance(predicate, Inverse):
        return not holds(predicate.item, slot)
    check = all if isinstance(predicate, All) else any
    return check(holds(item, slot) for item in predicate.items)


def mask_of(predicate: Predicate, columns: CtColumns) -> Mask:
    """The predicate on a batch: one bool an entry."""
    import numpy as np

    if isinstance(predicate, bool):
        return np.full(len(columns), predicate, dtype=np.bool_)
    if isinstance(predicate, Test):
        return _test_mask(predicate, columns)
    if isinstance(predicate, Inverse):
        return ~mask_of(predicate.item, columns)
    combine = np.logical_and if isinstance(predicate, All) else np.logical_or
    result = mask_of(predicate.items[0], columns)
    for item in predicate.items[1:]:
        result = combine(result, mask_of(item, columns))
    return result


def _test_mask(test: Test, columns: CtColumns) -> Mask:
    import numpy as np

    from ctctl.decode.columns import Slot

    column: Any = columns.slot(Slot(test.slot))
    kind = column.dtype.type
    greatest = int(np.iinfo(kind).max)
    if test.mask & greatest != greatest:
        column = column & kind(test.mask & greatest)
    if test.low > greatest:
        return np.zeros(len(columns), dtype=np.bool_)
    if test.low == test.high:
        return column == kind(test.low)  # type: ignore[no-any-return]
    if test.high >= greatest:
        return column >= kind(test.low)  # type: ignore[no-any-return]
    if test.low == 0:
        return column <= kind(test.high)  # type: ignore[no-any-return]
    return (column >= kind(test.low)) & (column <= kind(test.high))  # type: ignore[no-any-return]


#: struct ctscan_insn: slot, target if it holds, target if not, pad; mask, low, high.
INSTRUCTION = struct.Struct("=BBB5xQQQ")
ACCEPT, REJECT = SCAN_ACCEPT, SCAN_REJECT
#: Instructions the kernel program runs at most.
PROGRAM_LIMIT = SCAN_INSNS


def program_of(predicate: Predicate) -> bytes | None:
    """The predicate as the kernel's jump program, None where it is longer than the kernel takes.

    Each instruction is one test with two forward targets: an index, ACCEPT or REJECT.
    """
    if isinstance(predicate, bool):
        return INSTRUCTION.pack(0, *((ACCEPT, ACCEPT) if predicate else (REJECT, REJECT)), MAX, 0, MAX)
    tests: list[Test] = []
    jumps: list[list[int]] = []
    _emit(predicate, tests, jumps, [], [])
    if len(tests) > PROGRAM_LIMIT:
        return None
    return b"".join(
        INSTRUCTION.pack(test.slot, yes, no, test.mask, test.low, test.high)
        for test, (yes, no) in zip(tests, jumps, strict=True)
    )


def _emit(
    predicate: Predicate,
    tests: list[Test],
    jumps: list[list[int]],
    on_true: list[tuple[int, int]],
    on_false: list[tuple[int, int]],
    *,
    root: bool = True,
) -> None:
    """Append the tests of ``predicate``; the jumps that leave it are collected in the two lists."""
    if isinstance(predicate, bool):
        raise AssertionError("constants are simplified away below the root")
    if isinstance(predicate, Test):
        tests.append(predicate)
        jumps.append([ACCEPT, REJECT])
        on_true.append((len(tests) - 1, 0))
        on_false.append((len(tests) - 1, 1))
    elif isinstance(predicate, Inverse):
        _emit(predicate.item, tests, jumps, on_false, on_true, root=False)
    else:
        # In a conjunction a true item leads to the next one, a false item out; a disjunction mirrored.
        conjunction = isinstance(predicate, All)
        for item in predicate.items[:-1]:
            inside: list[tuple[int, int]] = []
            outside = on_false if conjunction else on_true
            _emit(item, tests, jumps, *((inside, outside) if conjunction else (outside, inside)), root=False)
            for index, which in inside:
                jumps[index][which] = len(tests)
        _emit(predicate.items[-1], tests, jumps, on_true, on_false, root=False)
    if root:
        for index, which in on_true:
            jumps[index][which] = ACCEPT
        for index, which in on_false:
            jumps[index][which] = REJECT
