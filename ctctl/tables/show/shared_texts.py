"""What row programs of all tables write alike: texts that follow from a number, what stands around a value."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv6Address

from ctctl._ffi.rows import OpFlags
from ctctl.out.rowtables import TextTable
from ctctl.tables.show.encode import Style

#: How this Python writes ::ffff:a.b.c.d, which changed in 3.13.
PLAIN_IPV6 = OpFlags.DOTTED if "." in str(IPv6Address("::ffff:1.2.3.4")) else OpFlags.NONE


class _Shared(threading.local):
    """Texts that follow from a number alone, of all forms in a thread: half a megabyte each, and a source may be of
    thousands of tables."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, Style, int], TextTable] = {}


_SHARED = _Shared()


def shared_texts(name: str, style: Style, limit: int, make: Callable[[int], bytes]) -> TextTable:
    """The texts of numbers that mean the same in every table, made when they are first needed, and kept.

    ``name`` stands for ``make``: the same name, the same texts.
    """
    key = (name, style, limit)
    table = _SHARED.tables.get(key)
    if table is None:
        table = _SHARED.tables[key] = TextTable(make, limit)
    return table


def around(style: Style) -> tuple[bytes, bytes]:
    """What stands around a number."""
    return (b" ", b"\n") if style.yaml else (b"", b"")


def quotes(style: Style, *, quoted: bool = True) -> tuple[bytes, bytes]:
    """What stands around a text; YAML needs quotes for some only."""
    if style.yaml:
        return (b" '", b"'\n") if quoted else (b" ", b"\n")
    return (b'"', b'"') if style is Style.JSON else (b"", b"")
