"""The order of SNAT entries by a field: numbers by their size, words as they are spelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctctl.decode.nat_rows import NatRows
from ctctl.out.rowtext import RowProgram
from ctctl.services.nat_form import NatForm
from ctctl.tables.ordering import ascending, rows_of_parts

#: Characters of the longest address and port.
_END = {4: len("255.255.255.255:65535"), 6: len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535")}
#: of any other word: a name of a table, a key as hex
_WORD = 76
#: An address as bytes that sort as addresses do: IPv4 before IPv6.
_ADDRESS = 17


def order_of(
    tables: Sequence[tuple[NatForm, NatRows]], name: str, *, descending: bool, limit: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each row in order: the number of its table, and of the row there. Alike rows stay as they lie."""
    table, row = rows_of_parts([len(rows) for _form, rows in tables])
    keys = [_keys(form, rows, name) for form, rows in tables if len(rows)]
    if keys and keys[0] is not None:
        joined: NDArray[Any] = keys[0] if len(keys) == 1 else np.concatenate([key for key in keys if key is not None])
        order = np.argsort(ascending(joined, descending=descending), kind="stable")[:limit]
        return table[order], np.ascontiguousarray(row[order])
    return table[:limit], row[:limit]


def _keys(form: NatForm, rows: NatRows, name: str) -> NDArray[Any] | None:
    """What the rows are sorted by; None: none of them has the field."""
    program, kind = RowProgram(), ""
    if name in form.absent:
        return None
    if name == "age":
        program.little(form.age(program), 8)
        kind = "<i8"
    elif name in NatForm.NUMBERS:
        program.little(form.numbers[name], 8)
        kind = "<u8"
    elif name in form.addresses_of:
        octets = form.addresses_of[name]
        program.literal(bytes([rows.family]).ljust(_ADDRESS - octets.width, b"\0")).copy(octets)
        kind = f"S{_ADDRESS}"
    elif name == "related":
        program.little(form.related(program), 8)
        kind = "<u8"
    else:
        width = _END[rows.family] if name in form.ENDS else max(_WORD, len(form.name.encode()))
        kind = f"S{width}"
        with program.cell(width):
            form.plain(program, name)
    found = bytearray()
    program.run(rows, found.extend)
    return np.frombuffer(found, kind)
