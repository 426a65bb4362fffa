"""What differs between tables, by columns: ``ct.diff`` says what a difference is, this finds as many as there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ctctl.ct.compare import Compared, Records, load
from ctctl.ct.diff import COMPARED, paired
from ctctl.ct.report import Change
from ctctl.decode.columns import CtColumns, record_types
from ctctl.decode.ct import LAYOUT_LACKS
from ctctl.model.light import light
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.show.entry_facts import NUMBERS
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[Any]
    Mask = NDArray[np.bool_]
    Matrix = NDArray[np.uint8]

#: Entries of one batch.
_BATCH = 1 << 14
#: Matrices of a batch of changed entries, beside those of every entry: the values before, and a bit for each of
#: ``COMPARED`` that differs.
OLD_VALUES, DIFFERING = 2, 3


class ChangedColumns(CtColumns):
    """Entries that changed: as they are now, as they were, and which fields differ."""

    __slots__ = ("before", "bits")

    def __init__(self, now: CtColumns, before: CtColumns, bits: Numbers) -> None:
        super().__init__(now.keys, now.values, now.layout)
        self.before = before
        self.bits = bits

    @property
    def matrices(self) -> Sequence[tuple[Any, int]]:
        """Keys, values, ``OLD_VALUES``, ``DIFFERING``."""
        return (*super().matrices, self.before.matrices[1], (self.bits, 4))

    def select(self, mask: Any) -> ChangedColumns:
        """The entries where ``mask`` holds, copied."""
        return ChangedColumns(super().select(mask), self.before.select(mask), self.bits[mask])

    def first(self, count: int) -> ChangedColumns:
        """The first so many entries, copied."""
        import numpy as np

        return self.select(np.arange(min(count, len(self))))


@light
class Kind:
    """The differences of one change between two tables. ``table`` has the entries that are shown, ``before`` those
    that they were."""

    change: Change
    table: CtTable
    before: CtTable | None
    batches: Callable[[], Iterator[CtColumns]]


def differing(first: Source, second: Source, wanted: Filter = EVERYTHING) -> Iterator[list[Kind]]:
    """What differs from ``first`` to ``second``, for each pair of tables: removed, added, changed."""
    for table, other in paired(first, second):
        before = load(table, wanted) if table is not None else None
        after = load(other, wanted) if other is not None else None
        yield _kinds(before, after)


def _kinds(before: Records | None, after: Records | None) -> list[Kind]:
    if before is None or after is None or before.table.family != after.table.family:
        ends = ((Change.REMOVED, before), (Change.ADDED, after))
        return [_alone(change, records, None) for change, records in ends if records is not None]
    compared = Compared(before, after)

    def changed() -> Iterator[CtColumns]:
        for old, new in compared.unlike_at(COMPARED):
            for start in range(0, len(old), _BATCH):
                part = slice(start, start + _BATCH)
                was, now = (_columns(some, at[part]) for some, at in ((before, old), (after, new)))
                bits = differing_bits(was, now, before.table.absent, after.table.absent)
                if bits.all():
                    yield ChangedColumns(now, was, bits)
                elif bits.any():
                    yield ChangedColumns(now, was, bits).select(bits != 0)

    return [
        _alone(Change.REMOVED, before, compared.gone_at()),
        _alone(Change.ADDED, after, compared.added_at()),
        Kind(Change.CHANGED, after.table, before.table, changed),
    ]


def _alone(change: Change, records: Records, at: Numbers | None) -> Kind:
    """Entries that one table has; ``at`` None: all of its."""

    def batches() -> Iterator[CtColumns]:
        import numpy as np

        which = np.arange(len(records)) if at is None else at
        for start in range(0, len(which), _BATCH):
            yield _columns(records, which[start : start + _BATCH])

    return Kind(change, records.table, None, batches)


def _columns(records: Records, which: Numbers) -> CtColumns:
    return CtColumns(*records.columns(which), records.table.layout)


def differing_bits(before: CtColumns, after: CtColumns, *absent: frozenset[str]) -> Numbers:
    """For each of two readings of the same keys a bit (uint32) for each of ``COMPARED`` that both know and that
    differs. ``absent``: what their sources do not know."""
    import numpy as np

    pair = (before, after)
    lacking = frozenset().union(*absent, *(LAYOUT_LACKS[columns.layout] for columns in pair))
    old, new = (columns.values.view(record_types(columns.family)[1])[:, 0] for columns in pair)
    bits = np.zeros(len(before), np.uint32)
    for bit, name in enumerate(COMPARED):
        if name in lacking:
            continue
        if name == "nat_addr":
            unlike = (_nat_octets(old) != _nat_octets(new)).any(axis=0)
        else:
            place = "ifindex" if name == "nat_port" else NUMBERS[name]
            unlike = old[place] != new[place]
        for columns in pair:
            known = _known(columns, name)
            unlike = unlike if known is None else unlike & known
        bits |= unlike.astype(np.uint32) << np.uint32(bit)
    return bits


def _known(columns: CtColumns, name: str) -> Mask | None:
    """In which entries the bytes of a field are that field; None: in all. As ``decode_entry`` reads them."""
    if name in ("nat_addr", "nat_port"):
        return columns.translated
    if columns.layout.split_counters:
        if name in ("rx_bytes", "backend_id"):
            return columns.service if name == "backend_id" else ~columns.service
        return None
    return ~columns.translated if name == "backend_id" and columns.layout.has_nat else None


def _nat_octets(values: Numbers) -> Numbers:
    """The bytes of the service's address in two numbers, an IPv4 one always where its four are the last."""
    import numpy as np

    first, second = values["word0"], values["word8"]
    in_front = (second == 0) & (first >> np.uint64(32) == 0)
    shifted = np.where(in_front, first << np.uint64(32), second)
    return np.stack([np.where(in_front, 0, first), shifted])
