"""Batches of SNAT entries as their bytes lie: for row programs, and for what computes on columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from ctctl._ffi.rows import Field
from ctctl.decode.columns import fields_of
from ctctl.decode.ct import KEY_SIZE
from ctctl.decode.nat import AGE_FORM, VALUE_ADDRESS, VALUE_SIZE, decode_nat, encode_nat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.model.nat import NatEntry

#: Entries a batch.
BATCH = 8192
#: Where a row of a listing has its age.
AGE = Field(2, 0, 8)


@dataclass(frozen=True, slots=True)
class NatRows:
    """A batch of SNAT entries of the table called ``name``: keys and values beside each other (bytes, or views).

    ``ages``: of a listing, which shows them in place of the time of creation, in seconds, int64.
    """

    family: int
    keys: Any
    values: Any
    name: str = ""
    ages: Any = None

    def __len__(self) -> int:
        return len(self.keys) // KEY_SIZE[self.family]

    @property
    def matrices(self) -> Sequence[tuple[Any, int]]:
        """As row programs take them."""
        two = (self.keys, KEY_SIZE[self.family]), (self.values, VALUE_SIZE[self.family])
        return two if self.ages is None else (*two, (self.ages, AGE.width))

    def _with(self, memories: Iterable[bytes]) -> NatRows:
        keys, values, *ages = memories
        return NatRows(self.family, keys, values, self.name, *ages)

    def first(self, count: int) -> NatRows:
        """The first so many."""
        return self.part(0, count)

    def part(self, start: int, end: int) -> NatRows:
        """The rows from ``start`` to before ``end``."""
        return self._with(memory[start * width : end * width] for memory, width in self.matrices)

    def chosen(self, order: NDArray[np.int64]) -> NatRows:
        """These rows, in this order."""
        return self._with(
            b"".join(bytes(memory[at * size : (at + 1) * size]) for at in order.tolist())
            for memory, size in self.matrices
        )

    def where(self, mask: NDArray[np.bool_]) -> NatRows:
        """The rows for which ``mask`` holds."""
        import numpy as np

        return self._with(
            np.frombuffer(memory, np.uint8).reshape(-1, width)[mask].tobytes() for memory, width in self.matrices
        )

    @classmethod
    def joined(cls, family: int, name: str, batches: Iterable[NatRows]) -> NatRows:
        """All rows of batches of one table."""
        keys, values, ages = bytearray(), bytearray(), bytearray()
        for rows in batches:
            for whole, part in ((keys, rows.keys), (values, rows.values), (ages, rows.ages)):
                if part is not None:
                    whole.extend(memoryview(part).cast("B"))
        return cls(family, keys, values, name, ages or None)

    def record(self, at: int) -> tuple[bytes, bytes, str | None]:
        """Key and value of one entry, and its table's name: what ``decode_nat`` takes."""
        (keys, key_size), (values, value_size) = self.matrices[:2]
        key, value = keys[at * key_size : (at + 1) * key_size], values[at * value_size : (at + 1) * value_size]
        return bytes(key), bytes(value), self.name or None

    def entry(self, at: int, absent: frozenset[str] = frozenset()) -> NatEntry:
        """One of them. ``absent``: what a listing does not show."""
        found = decode_nat(*self.record(at))
        if self.ages is None:
            return found
        (age,) = AGE_FORM.unpack_from(self.ages, at * AGE_FORM.size)
        needs_ct = None if "needs_ct" in absent else found.needs_ct
        return replace(found, created=None, needs_ct=needs_ct, key=None, value=None, age_s=age)


@dataclass(frozen=True, slots=True)
class NatTable:
    """An SNAT table: ``read`` gives its entries anew each time, batch by batch, each valid until the next.

    ``absent``: fields that a listing does not show.
    """

    name: str
    family: int
    read: Callable[[], Iterator[NatRows]]
    absent: frozenset[str] = frozenset()


def nat_fields(family: int) -> dict[str, Field]:
    """Where each field lies in a row whose matrices are key and value of an SNAT entry, in real packet order."""
    keys, half = fields_of(family), 4 if family == 4 else 16
    return {
        "key": keys["key"],
        "src": Field(0, half, half),
        "dst": Field(0, 0, half),
        "src_port": keys["sport"],
        "dst_port": keys["dport"],
        "proto": keys["proto"],
        "tuple_flags": keys["tuple_flags"],
        "to_addr": Field(1, VALUE_ADDRESS, half),
        "to_port": Field(1, VALUE_ADDRESS + half, 2, big=True),
        "created": Field(1, 0, 8),
        "needs_ct": Field(1, 8, 8),
    }


def rows_of(entries: Iterable[NatEntry]) -> Iterator[NatRows]:
    """Entries of listings as batches: what a listing does not show is 0 there (``created``, ``needs_ct``)."""
    for (family, name), some in groupby(entries, lambda entry: (entry.tuple.src.version, entry.map)):
        while part := list(islice(some, BATCH)):
            keys, values = zip(*map(encode_nat, part), strict=True)
            yield NatRows(family, b"".join(keys), b"".join(values), name or "")
