"""What tables print of an entry, as conditions: what stands in a column can be typed as ``FIELD == VALUE``.

Columns say more than fields do: an address with its port and name, a state with its time, flags by name. A condition
takes what identifies the entry of it; the time beside a state has passed when it is typed.
"""

from __future__ import annotations

import re

from ctctl.decode.ct import other_bits
from ctctl.tables.query import values
from ctctl.tables.query.ast import And, HasFlags, Name, Node, Not, Range, Term, Value

#: Fields of tables that are conditions on another one: where a name or a text stands for it.
FIELDS = {
    "proto_name": "proto",
    "flag_names": "flags",
    "other_bits": "flags",
    "src_name": "src",
    "dst_name": "dst",
    "source_short": "src",
    "destination_short": "dst",
    "src_identity": "src_sec_id",
    "pair": "src",
}
_ENDS = {"src": "src_port", "dst": "dst_port", "nat_addr": "nat_port"}
#: ``10.64.0.36:54260``, ``[fd00::1]:80``, ``default/web:80``, each with a name behind it or not.
_END = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})(?: \(.*\))?")
#: The two ends of what ``ct top --by pair`` counts.
_PAIR = re.compile(r"((?:[^\s>-]|-(?!>))++)\s*+(?:->|>)\s*+(\S+)")
_NUMBER_NAMED = re.compile(r"(\d{1,20}) \(.*\)")
_UNNAMED = other_bits(0xFFFF)
#: How a time that is over is printed.
OVER = re.compile(r"expired (\S+) ago")


def condition(word: str, field: str, text: str) -> Node | None:
    """The condition that a printed value is, of the field that was typed and the one it stands for.

    None: it is read as any value of ``field``. Raises ValueError for what no column prints.
    """
    if word == "other_bits":
        return _bits(values.number(text, 0, 0xFFFF).low, _UNNAMED)
    if word == "pair":
        return _pair(text)
    if word == "flag_names":
        return _flags(text.split())
    if word in ("src_name", "dst_name", "src_identity") or (word == "backend" and not text[:1].isdigit()):
        return Term(field, (Name(text),))
    if field in _ENDS and (end := _END.fullmatch(text)) is not None:
        return And((Term(field, (_host(end[1]),)), Term(_ENDS[field], (values.port(end[2]),))))
    if field == "proto" and text.upper() == "ANY":
        return Term(field, (Range(0, 0),))
    if field == "state":
        return _state(text.partition(",")[0].split())
    if field == "remaining" and (over := OVER.fullmatch(text)) is not None:
        return Term(field, (values.duration(f"-{over[1]}"),))
    if field in ("backend_id", "rev_nat", "src_sec_id") and (named := _NUMBER_NAMED.fullmatch(text)) is not None:
        return Term(field, (values.READERS[field](named[1]),))
    if field == "backend_id" and _END.fullmatch(text) is not None:
        return Term(field, (Name(text),))
    return None


def _host(text: str) -> Value:
    """An address, or what has that name: where a port stands behind it, ``dead`` is no half of an address."""
    try:
        return values.network(text)
    except ValueError:
        return Name(text)


def _pair(text: str) -> Node:
    ends = _PAIR.fullmatch(text)
    if ends is None:
        raise ValueError(f"{text!r}: write SOURCE -> DESTINATION")
    return And((Term("src", (_host(ends[1]),)), Term("dst", (_host(ends[2]),))))


def _bits(wanted: int, known: int) -> Node:
    """The bits of ``wanted`` are set, and none of the other known ones."""
    if wanted & ~known:
        raise ValueError(f"{wanted:#x} has bits that have names")
    unset = (Not(HasFlags(1 << at)) for at in range(16) if known >> at & 1 and not wanted >> at & 1)
    return And((*((HasFlags(wanted),) if wanted else ()), *unset))


def _flags(words: list[str]) -> Node:
    """``SeenNonSyn RxClosing`` or ``-``: these flags and no other with a name; ``0x0200``: the bits without."""
    named = other = 0
    for text in words if words != ["-"] else ():
        mask = values.flag_mask(text)
        named, other = named | mask & ~_UNNAMED, other | mask & _UNNAMED
    both = _bits(named, 0xFFFF & ~_UNNAMED)
    return And((both, _bits(other, _UNNAMED))) if other else both


def _state(words: list[str]) -> Node | None:
    """``closing``, ``related``, ``closed related``: an ICMP error's entry that is new is only called related."""
    if "related" not in words:
        return Term("state", (values.READERS["state"](" ".join(words)),))
    rest = [word for word in words if word != "related"] or ["new"]
    return And((Term("state", (values.READERS["state"](" ".join(rest)),)), Term("related", ("true",))))
