"""The tables of a node, opened for GC, and whose they are."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ctctl.abi import pins
from ctctl.errors import CtctlError, LayoutError, NotFoundError
from ctctl.kernel.bpffs import mount_of
from ctctl.kernel.map import Map
from ctctl.node.find import find_tables
from ctctl.tables.classes import VALUE_SIZE
from ctctl.tables.pairs import IPV4, IPV6, KeyLayout
from ctctl.tables.sources.live import layout_of

#: Conntrack tables by pinned name: layout of the key, and the protocol label of the metrics (spec/abi.md).
CT_TABLES: dict[str, tuple[KeyLayout, str]] = {
    pins.CT4_TCP: (IPV4, "TCP"),
    pins.CT4_ANY: (IPV4, "non-TCP"),
    pins.CT6_TCP: (IPV6, "TCP"),
    pins.CT6_ANY: (IPV6, "non-TCP"),
}
NAT_TABLES: dict[str, KeyLayout] = {pins.SNAT4: IPV4, pins.SNAT6: IPV6}


def family_name(layout: KeyLayout) -> str:
    """The family label of the metrics."""
    return "ipv4" if layout is IPV4 else "ipv6"


class ForeignTablesError(CtctlError):
    """The tables belong to another program and may not be changed without ``--allow-foreign``."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Table:
    """One conntrack table. ``nat`` is its family's SNAT table, if there is one."""

    name: str
    map: Map
    layout: KeyLayout
    protocol: str
    nat: Map | None = None

    @property
    def family(self) -> str:
        return family_name(self.layout)


@dataclass(slots=True)
class TableSet:
    """The tables at one place, IPv4 and IPv6 in turn; a context manager that closes them."""

    path: Path
    foreign: bool
    tables: list[Table] = field(default_factory=list)
    nats: dict[str, Map] = field(default_factory=dict)

    def close(self) -> None:
        for table in self.tables:
            table.map.close()
        for nat in self.nats.values():
            nat.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def locate(source: str = "auto", node: str | None = None) -> Path:
    """The directory (or single pin) that ``--from`` and ``--node`` name; auto: as ``find_tables``."""
    return find_tables(node) if source == "auto" else Path(source)


def is_own(path: Path) -> bool:
    """Whether ``path`` is a node of ctctl (``<bpffs>/ctctl/<node>``) or in one. Links are followed."""
    target = path.resolve()
    mount = mount_of(target)
    if mount is None:
        return False
    inside = target.relative_to(mount).parts
    return len(inside) >= 2 and inside[0] == "ctctl"


def open_tables(path: Path, *, read_only: bool, only: str | None = None) -> TableSet:
    """Open the conntrack and SNAT tables pinned at ``path``; a missing family is normal.

    ``only`` leaves out every other conntrack table. Raises NotFoundError where there is no
    conntrack table at all, LayoutError for one of another layout, KernelError.
    """
    directory, names = (path, list(CT_TABLES)) if path.is_dir() else (path.parent, [path.name])
    if only is not None:
        names = [name for name in names if name == only]
    with contextlib.ExitStack() as undo:
        found = TableSet(path, foreign=not is_own(path))
        undo.callback(found.close)
        for name, layout in NAT_TABLES.items():
            if (directory / name).exists():
                found.nats[family_name(layout)] = _open(directory / name, layout.size, layout.nat_value_size, read_only)
        for name in names:
            if name in CT_TABLES and (directory / name).exists():
                layout, protocol = CT_TABLES[name]
                table = undo.enter_context(_open(directory / name, layout.size, VALUE_SIZE, read_only))
                layout_of(table)
                found.tables.append(Table(name, table, layout, protocol, found.nats.get(family_name(layout))))
        if not found.tables:
            raise NotFoundError(f"no conntrack table is pinned at {path} (looked for {', '.join(names) or only})")
        undo.pop_all()
    return found


def _open(path: Path, key_size: int, value_size: int, read_only: bool) -> Map:
    table = Map.open_pinned(path, read_only=read_only)
    info = table.info
    if (info.key_size, info.value_size) != (key_size, value_size):
        table.close()
        raise LayoutError(
            f"{path}: keys of {info.key_size} and values of {info.value_size} bytes, not {key_size} and {value_size}"
        )
    return table
