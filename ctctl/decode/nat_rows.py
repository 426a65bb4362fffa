"""Batches of SNAT entries as their bytes lie: for row programs, and for what computes on columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from ctctl._ffi.rows import Field
from ctctl.decode.columns import fields_of
from ctctl.decode.ct import KEY_SIZE
from ctctl.decode.nat import VALUE_ADDRESS, VALUE_SIZE, encode_nat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.model.nat import NatEntry

#: Entries a batch.
BATCH = 8192


@dataclass(frozen=True, slots=True)
class NatRows:
    """A batch of SNAT entries of the table called ``name``: keys and values beside each other (bytes, or views)."""

    family: int
    keys: Any
    values: Any
    name: str = ""

    def __len__(self) -> int:
        return len(self.keys) // KEY_SIZE[self.family]

    @property
    def matrices(self) -> Sequence[tuple[Any, int]]:
        """As row programs take them."""
        return (self.keys, KEY_SIZE[self.family]), (self.values, VALUE_SIZE[self.family])

    def first(self, count: int) -> NatRows:
        """The first so many."""
        (keys, key_size), (values, value_size) = self.matrices
        return NatRows(self.family, keys[: count * key_size], values[: count * value_size], self.name)

    def chosen(self, order: NDArray[np.int64]) -> NatRows:
        """These rows, in this order."""
        keys, values = (
            b"".join(bytes(memory[at * size : (at + 1) * size]) for at in order.tolist())
            for memory, size in self.matrices
        )
        return NatRows(self.family, keys, values, self.name)

    def record(self, at: int) -> tuple[bytes, bytes, str | None]:
        """Key and value of one entry, and its table's name: what ``decode_nat`` takes."""
        (keys, key_size), (values, value_size) = self.matrices
        key, value = keys[at * key_size : (at + 1) * key_size], values[at * value_size : (at + 1) * value_size]
        return bytes(key), bytes(value), self.name or None


@dataclass(frozen=True, slots=True)
class NatTable:
    """An SNAT table: ``read`` gives its entries anew each time, batch by batch, each valid until the next."""

    name: str
    family: int
    read: Callable[[], Iterator[NatRows]]


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
