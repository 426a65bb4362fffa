"""Frontends of ``bpf lb list`` in passes: rows of lines as the Cilium CLI prints them, those of IPv4, as records."""

from __future__ import annotations

import functools
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from ctctl.model.service import ServiceSlot
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.listing_text import PairLines
from ctctl.tables.sources.regular import Form, octets

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Protocols as frontends and backends have them; 0 is one without a number.
_WORDS = {"TCP": PROTOCOLS["tcp"], "UDP": PROTOCOLS["udp"], "SCTP": PROTOCOLS["sctp"], "ANY": 0}
_TEXTS = {number: f"/{word}" for word, number in _WORDS.items()}
_LONGEST = 200


@functools.cache
def _form() -> Form:
    form = Form()
    form.address("front", port=True).check("front_family", 4)
    _protocol(form, "proto")
    with form.maybe("internal"):
        form.literal("/i")
    form.literal(" (").decimal("slot", 2).literal(")").blanks(3)
    form.address("backend", port=True).check("backend_family", 4)
    _protocol(form, "backend_proto")
    form.literal(" (").decimal("rev_nat", 2).literal(") (").decimal("slot_again", 2).literal(")")
    with form.maybe("worded"):
        form.literal(" [").text("words", _LONGEST, "]").literal("]")
    return form.end()


def _protocol(form: Form, name: str) -> None:
    with form.maybe(f"has_{name}"):
        form.literal("/").word(name, _WORDS)


class ServiceRuns:
    """A ``passes.Listing``. ``pairs`` takes what is read."""

    work = 8

    def __init__(self, pairs: PairLines) -> None:
        self._pairs = pairs

    def next_form(self, _room: int) -> Form | None:
        """The form of its lines."""
        return _form()

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        found = list(map(_slot, *_columns(rows)))
        self._pairs.dump.listings.services += found
        last = found[-1]
        shown = _TEXTS[last.proto or 0] if rows["has_proto"][-1] else ""
        inner = "/i" if last.scope == "internal" else ""
        self._pairs.group = f"{last.addr}:{last.port}{shown}{inner} ({last.slot})"


def _columns(rows: NDArray[Any]) -> list[list[Any]]:
    """What ``_slot`` takes, of each row."""
    words = [_words(row) for row in rows["words"].tolist()] if rows["worded"].any() else [()] * len(rows)
    words = [some if is_there else () for some, is_there in zip(words, rows["worded"].tolist(), strict=True)]
    return [
        _addresses(rows["front"]),
        rows["front_port"].tolist(),
        [proto or None if given else None for proto, given in _pairs_of(rows, "proto", "has_proto")],
        rows["internal"].tolist(),
        rows["slot"].tolist(),
        rows["rev_nat"].tolist(),
        _backends(rows),
        words,
    ]


def _pairs_of(rows: NDArray[Any], name: str, other: str) -> list[tuple[Any, Any]]:
    return list(zip(rows[name].tolist(), rows[other].tolist(), strict=True))


def _addresses(column: NDArray[Any]) -> list[IPv4Address]:
    numbers = octets(column)[:, :4].copy().view(">u4").ravel().tolist()
    known = {number: IPv4Address(number) for number in set(numbers)}
    return [known[number] for number in numbers]


def _backends(rows: NDArray[Any]) -> list[str]:
    """As they are printed."""
    protos = (_TEXTS[proto] if given else "" for proto, given in _pairs_of(rows, "backend_proto", "has_backend_proto"))
    ends = zip(map(str, _addresses(rows["backend"])), rows["backend_port"].tolist(), protos, strict=True)
    return [f"{address}:{port}{proto}" for address, port, proto in ends]


def _words(text: bytes) -> tuple[str, ...]:
    words = text[1 : 1 + text[0]].decode().split(",")
    return tuple(word.strip() for word in words if word.strip())


def _slot(  # noqa: PLR0917 - a row's columns
    addr: IPv4Address,
    port: int,
    proto: int | None,
    internal: int,
    slot: int,
    rev_nat: int,
    backend: str,
    words: tuple[str, ...],
) -> ServiceSlot:
    scope = "internal" if internal else "external"
    if slot:
        return ServiceSlot(addr, port, scope, slot, rev_nat, proto, backend=backend, flag_words=words)
    return ServiceSlot(addr, port, scope, 0, rev_nat, proto, words[0] if words else None, flag_words=words)
