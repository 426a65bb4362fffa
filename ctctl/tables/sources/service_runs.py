"""Frontends of ``bpf lb list`` and ``lb/maps-dump`` in passes: rows of lines as they are printed, as records."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ctctl.decode.services import service_slot
from ctctl.model.service import Backend, ServiceSlot
from ctctl.model.tuples import Address, endpoint
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.pair_frames import Frame, PairRuns
from ctctl.tables.sources.regular import Form, addresses
from ctctl.tables.sources.service_text import named_frontend

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Protocols as frontends and backends have them; 0 is one without a number.
PROTOCOL_WORDS = {"TCP": PROTOCOLS["tcp"], "UDP": PROTOCOLS["udp"], "SCTP": PROTOCOLS["sctp"], "ANY": 0}
PROTOCOL_TEXTS = {number: f"/{word}" for word, number in PROTOCOL_WORDS.items()}
_LONGEST = 200
#: address, port, scope, number, rev-NAT id, protocol: as ``ServiceSlot`` begins
_Front: TypeAlias = tuple[Address, int, str, int, int, int | None]


def _frontend(frame: Frame) -> Form:
    """The left column, and what stands between it and the right one."""
    form = frame.start().end_of("front")
    _protocol(form, "proto")
    with form.maybe("internal"):
        form.literal("/i")
    return frame.between(form.literal(" (").decimal("slot", 2).literal(")"))


def _slot_columns(frame: Frame) -> Form:
    form = _frontend(frame).end_of("backend")
    _protocol(form, "backend_proto")
    form.literal(" (").decimal("rev_nat", 2).literal(") (").decimal("slot_again", 2).literal(")")
    with form.maybe("worded"):
        form.literal(" [").text("words", _LONGEST, "]").literal("]")
    return frame.end(form)


def _number_columns(frame: Frame) -> Form:
    form = _frontend(frame).decimal("first", 4).literal(" ").decimal("count", 2)
    with form.maybe("holds"):
        form.literal("[").decimal("held", 2).literal("]")
    form.literal(" (").decimal("rev_nat", 2).literal(") [0x").hex("flags", 1).literal(" 0x").hex("more_flags", 1)
    return frame.end(form.literal("]"))


def _missing_columns(frame: Frame) -> Form:
    form = _frontend(frame).space("rev_nat", 2)  # it says none
    return frame.end(form.literal("backend ").decimal("backend_id", 4).literal(" not found"))


def _protocol(form: Form, name: str) -> None:
    with form.maybe(f"has_{name}"):
        form.literal("/").word(name, PROTOCOL_WORDS)


class _FrontendRuns(PairRuns):
    """Rows of which the left column is a frontend's."""

    work = 32

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        found = self._slots(rows)
        self._into.dump.listings.services += found
        last = found[-1]
        shown = PROTOCOL_TEXTS[last.proto or 0] if rows["has_proto"][-1] else ""
        inner = "/i" if last.scope == "internal" else ""
        self._into.group = f"{endpoint(last.addr, last.port)}{shown}{inner} ({last.slot})"

    @abstractmethod
    def _slots(self, rows: NDArray[Any]) -> list[ServiceSlot]:
        """Their records."""


class ServiceRuns(_FrontendRuns):
    """Rows of ``bpf lb list``."""

    columns = staticmethod(_slot_columns)

    @staticmethod
    def _slots(rows: NDArray[Any]) -> list[ServiceSlot]:
        return list(map(_slot, *_columns(rows)))


class FrontendRuns(_FrontendRuns):
    """Rows of ``bpf lb list --frontends``."""

    columns = staticmethod(_number_columns)

    @staticmethod
    def _slots(rows: NDArray[Any]) -> list[ServiceSlot]:
        names = ("count", "holds", "held", "flags", "more_flags", "first")
        return list(map(_numbered, _fronts(rows), *(rows[name].tolist() for name in names)))


class MissingRuns(_FrontendRuns):
    """Rows of either listing whose backends are not there."""

    columns = staticmethod(_missing_columns)

    @staticmethod
    def _slots(rows: NDArray[Any]) -> list[ServiceSlot]:
        return [
            ServiceSlot(addr, port, scope, slot, None, proto, backend_id=number)
            for (addr, port, scope, slot, _, proto), number in zip(
                _fronts(rows), rows["backend_id"].tolist(), strict=True
            )
        ]


def _fronts(rows: NDArray[Any]) -> Iterator[_Front]:
    """What is told of every slot."""
    return zip(
        addresses(rows, "front"),
        rows["front_port"].tolist(),
        ["internal" if internal else "external" for internal in rows["internal"].tolist()],
        rows["slot"].tolist(),
        rows["rev_nat"].tolist(),
        [proto or None if given else None for proto, given in _pairs_of(rows, "proto", "has_proto")],
        strict=True,
    )


def _columns(rows: NDArray[Any]) -> tuple[Iterator[_Front], list[str], list[tuple[str, ...]]]:
    """What ``_slot`` takes, of each row."""
    words = [_words(row) for row in rows["words"].tolist()] if rows["worded"].any() else [()] * len(rows)
    words = [some if is_there else () for some, is_there in zip(words, rows["worded"].tolist(), strict=True)]
    return _fronts(rows), _backends(rows), words


def _pairs_of(rows: NDArray[Any], name: str, other: str) -> list[tuple[Any, Any]]:
    return list(zip(rows[name].tolist(), rows[other].tolist(), strict=True))


def _backends(rows: NDArray[Any]) -> list[str]:
    """As they are printed."""
    protos = (
        PROTOCOL_TEXTS[proto] if given else "" for proto, given in _pairs_of(rows, "backend_proto", "has_backend_proto")
    )
    ends = zip(addresses(rows, "backend"), rows["backend_port"].tolist(), protos, strict=True)
    return [f"{endpoint(address, port)}{proto}" for address, port, proto in ends]


def _words(text: bytes) -> tuple[str, ...]:
    words = text[1 : 1 + text[0]].decode().split(",")
    return tuple(word.strip() for word in words if word.strip())


def _slot(front: _Front, backend: str, words: tuple[str, ...]) -> ServiceSlot:
    _addr, _port, _scope, slot, _rev_nat, _proto = front
    if slot:
        return ServiceSlot(*front, backend=backend, flag_words=words)
    return ServiceSlot(*front, words[0] if words else None, flag_words=words)


def _numbered(  # noqa: PLR0917 - a row's columns
    front: _Front, count: int, holds: int, held: int, flags: int, more_flags: int, first: int
) -> ServiceSlot:
    addr, port, scope, slot, rev_nat, proto = front
    return service_slot(
        addr,
        port,
        scope,
        slot,
        rev_nat,
        proto=proto,
        count=count,
        flags=flags | more_flags << 8,
        first=first,
        quarantined=held if holds else None,
    )


# ---- lb/maps-dump


@functools.cache
def _dumped_slot() -> Form:
    form = Form()
    form.literal("SVC: ID=").decimal("number", 4).literal(" ADDR=").end_of("front")
    _protocol(form, "proto")
    with form.maybe("internal"):
        form.literal("/i")
    with form.maybe("is_front"):
        form.literal(" SLOT=0 LBALG=").token().literal(" AFFTimeout=").decimal("affinity", 4)
    with form.otherwise():
        form.literal(" SLOT=").decimal("slot", 1).check("slot", 0, unlike=True)
        form.literal(" BEID=").decimal("backend_id", 4)
    form.literal(" COUNT=").decimal("count", 2).literal(" QCOUNT=").decimal("quarantined", 2)
    return form.literal(" FLAGS=").text("words", _LONGEST).end()


@functools.cache
def _dumped_backend() -> Form:
    form = Form()
    form.literal("BE: ID=").decimal("number", 4).literal(" ADDR=").end_of("front")
    _protocol(form, "proto")
    return form.literal(" STATE=").text("words", _LONGEST).end()


class MapsRuns:
    """A ``passes.Listing`` of slots or backends. ``dump`` takes what is read."""

    work = 32

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self.of_backends = False

    def next_form(self, _room: int) -> Form | None:
        """The form of its lines."""
        return _dumped_backend() if self.of_backends else _dumped_slot()

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        found = self._dump.listings
        ends = zip(addresses(rows, "front"), rows["front_port"].tolist(), strict=True)
        protos = [proto or None if given else None for proto, given in _pairs_of(rows, "proto", "has_proto")]
        words = [text[1 : 1 + text[0]].decode() for text in rows["words"].tolist()]
        numbers = rows["number"].tolist()
        if self.of_backends:
            found.backends += [
                Backend(number, addr, proto, port, state or None)
                for number, (addr, port), proto, state in zip(numbers, ends, protos, words, strict=True)
            ]
            return
        scopes = ["internal" if internal else "external" for internal in rows["internal"].tolist()]
        fronts = [(*end, proto, scope) for end, proto, scope in zip(ends, protos, scopes, strict=True)]
        columns = (rows[name].tolist() for name in ("slot", "backend_id", "count", "affinity"))
        found.services += map(_dumped, fronts, numbers, words, *columns)


def _dumped(  # noqa: PLR0917 - a row's columns
    front: tuple[Address, int, int | None, str],
    rev_nat: int,
    words: str,
    slot: int,
    backend_id: int,
    count: int,
    affinity: int,
) -> ServiceSlot:
    if slot:
        addr, port, proto, scope = front
        return ServiceSlot(addr, port, scope, slot, rev_nat, proto, backend_id=backend_id)
    found = named_frontend(front, tuple(word for word in words.split("+") if word), rev_nat)
    return replace(found, count=count, affinity_timeout=affinity)
