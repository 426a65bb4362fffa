"""Random input for what is read in passes: many records of one form, a few of them changed, and read both ways.

``fuzz_mutate`` puts pieces of whatever files together: few of its inputs have two records alike beside each other. Here
every listing and document is drawn that has passes, or is told by a head of its own, so that each has its share.
"""

from __future__ import annotations

import functools
import json
import random
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from ctctl.model.entry import Layout
from ctctl.tables.sources.own_listings import LISTINGS
from tests.support import honest
from tests.support.both_ways import read
from tests.support.drawn_documents import NAT_FORMS, by_fields, cilium, in_hex, nat_document
from tests.support.fuzz_mutate import CHANGES, changed_document
from tests.support.hostile import LINES
from tests.support.large_listings import GO_ESCAPES

#: How many lines of an honest listing are its head.
_HEADS = {"lb grouped": 1, "sockets": 1, "policy": 2, "policy by labels": 2, "own rows": 1, "an agent's log": 1}
#: Rows of two columns beside those of ``honest``.
_MORE = {
    "endpoints": "10.1.{a}.{b}:0     id={p}  sec_id=5 flags=0x0000 ifindex=5  mac=00:00:00:00:00:01 "
    "nodemac=00:00:00:00:00:02 parent_ifindex=0",
    "local endpoints": "10.1.{a}.{b}:0     (localhost)",
    "backends": "{p}     TCP://10.1.{a}.{b}",
    "revnat": "{p}     10.96.{a}.{b}:80",
    "revnat 6": "{p}     [fd00::{a}:{b}]:80",
    "frontends": "10.96.{a}.{b}:80/TCP (0)     0 2 ({p}) [0x{b:x} 0x0]",
    "ranges": "10.96.{a}.0/24 ({p})",
    "tunnels": "10.96.{a}.0     10.1.{a}.{b}:0",
}


@dataclass(frozen=True, slots=True)
class Seed:
    """Records of one form, ``between`` them what stands there, and what is around all of them."""

    records: tuple[str, ...]
    head: str = ""
    between: str = ""
    tail: str = ""


def _lines(texts: list[str], head: str = "") -> Seed:
    return Seed(tuple(texts), head)


def _honest() -> dict[str, Seed]:
    found: dict[str, Seed] = {}
    many = [honest.listings(1, seed) for seed in range(6)]
    for kind, text in many[0].items():
        lines = text.splitlines(keepends=True)
        head = "".join(lines[: _HEADS.get(kind, 0)])
        found[kind] = _lines(
            ["".join(one[kind].splitlines(keepends=True)[_HEADS.get(kind, 0) :]) for one in many], head
        )
    return found


def _formed(form: str) -> list[str]:
    return [form.format(a=n, b=7 * n, p=99 * n + 1) for n in range(6)]


def _members(rows: list[str], indent: str, *, go: bool) -> Seed:
    """Rows of two columns as an object with a member a row."""
    texts = []
    for row in rows:
        left, right = [*re.split(r" {3,}", row.strip(), maxsplit=1), ""][:2]
        text = json.dumps(right).translate(GO_ESCAPES) if go else json.dumps(right)
        texts.append(f"{json.dumps(left)}: [{indent and chr(10) + 2 * indent}{text}{indent and chr(10) + indent}]")
    line = f"\n{indent}" if indent else ""
    return Seed(tuple(texts), "{" + line, "," + (line or " "), "\n}\n" if indent else "}\n")


def _pairs(family: int = 4) -> list[tuple[bytes, bytes]]:
    rng = random.Random(f"pairs/{family}")
    half = 4 if family == 4 else 16
    found = []
    for number in range(6):
        key = rng.randbytes(2 * half + 4) + bytes((6, number % 4))
        numbers = [0, rng.randrange(9), rng.randrange(1 << 16), rng.randrange(1 << 20), rng.randrange(1 << 20)]
        tail = struct.pack("<HHHBBIII", 19, number, 0, 27, 27, rng.randrange(1 << 16), 9000, 9001 + number)
        found.append((key, struct.pack("<QQQQI", *numbers) + tail))
    return found


def _inner(text: str) -> str:
    """The one element of an array."""
    return text.strip()[1:-1].strip("\n")


def _elements(texts: list[str], between: str = ",\n") -> Seed:
    return Seed(tuple(texts), "[\n", between, "\n]\n")


def _entries() -> dict[str, Seed]:
    """Conntrack and SNAT entries as every program has them."""
    found: dict[str, Seed] = {}
    for family in (4, 6):
        pairs = _pairs(family)
        for layout in Layout:
            named = [cilium(*pair, layout) for pair in pairs]
            found[f"JSON {layout} {family}"] = _elements([json.dumps(one, indent=2) for one in named])
            lowered = [json.loads(json.dumps(one).lower()) for one in named]
            wrapped = [
                {"key": {"tuplekey4global": {"tuplekey4": one["key"]}}, "value": one["value"]} for one in lowered
            ]
            for name, some in (("", lowered), (" wrapped", wrapped)):
                found[f"YAML{name} {layout} {family}"] = _lines(
                    [yaml.safe_dump([one], sort_keys=False) for one in some]
                )
            found[f"fields {layout} {family}"] = _elements([by_fields(*pair, layout) for pair in pairs], ",")
        found[f"own fields {family}"] = _elements([by_fields(*pair, None) for pair in pairs], ",")
        for one_line in (False, True):
            found[f"hex {one_line} {family}"] = _lines([in_hex(*pair, one_line=one_line) for pair in pairs])
        translations = [(key, value[:32] + value[: 18 if family == 6 else 6] + bytes(6)) for key, value in pairs]
        for form in NAT_FORMS:
            if form != "hex":
                found[f"nat {form} {family}"] = _elements(
                    [_inner(nat_document([one], form)) for one in translations], ","
                )
    return found


def _own() -> dict[str, Seed]:
    """What ctctl prints: lines of JSON, rows, and listings that it does not read back."""
    found = {
        "own lines": _lines(_formed(LINES["own"])),
        "own node lines": _lines([line.replace('"proto"', '"node": "n1", "proto"') for line in _formed(LINES["own"])]),
    }
    for listing in LISTINGS:
        for titles in listing.titles:
            words = sorted(titles)
            rows = [[f"10.1.0.{n}" if number else str(n) for number in range(len(words))] for n in range(6)]
            found[f"{listing.command} {words[0]} csv"] = _lines(
                [",".join(row) + "\n" for row in rows], ",".join(words) + "\n"
            )
            head = "".join(f"{word.upper():<22}" for word in words).rstrip() + "\n"
            found[f"{listing.command} {words[0]} table"] = _lines(
                ["".join(f"{cell:<22}" for cell in row).rstrip() + "\n" for row in rows], head
            )
        prompt = f"$ ctctl {listing.command} -o name --from x\n"
        found[f"{listing.command} names"] = _lines([f"10.96.0.{n}:80\n" for n in range(6)], prompt)
        schema = f"ctctl/{listing.schema}/v1"
        texts = [json.dumps({"schema": schema, "addr": f"10.1.0.{n}", "number": n}) for n in range(6)]
        found[f"{listing.command} lines"] = _lines([text + "\n" for text in texts])
        found[f"{listing.command} JSON"] = Seed(tuple(texts), f'{{"schema": "{schema}", "rows": [\n', ",\n", "\n]}\n")
    found["policy names"] = _lines([f"{n} allow ingress from app=web-{n}, 80/TCP\n" for n in range(6)])
    found["frontend names"] = _lines([f"10.96.0.{n}:80 {n}\n" for n in range(6)])
    return found


def _kept() -> dict[str, Seed]:
    """Listings inside documents of other tools."""
    lines = [line.rstrip("\n") for line in _formed(LINES["ct"])]
    records = [json.dumps(cilium(*pair, Layout.V1_16)) for pair in _pairs()]
    return {
        "texts": Seed(tuple(json.dumps(f"x\n{line}\n") for line in lines), '{"a": [', ", ", "]}\n"),
        "loki": Seed(
            tuple(json.dumps({"node": f"n{n}", "values": [["1", line]]}) for n, line in enumerate(lines)),
            '{"r": [',
            ", ",
            "]}\n",
        ),
        "items": Seed(tuple(records), '{"items": [', ",", "]}\n"),
    }


@functools.cache
def seeds() -> dict[str, Seed]:
    """A form of records each, by name."""
    found = _honest()
    rows = {name: _formed(form) for name, form in _MORE.items()}
    rows |= {name: [*found[name].records] for name in ("lb", "lb without backends", "ipcache", "sockets")}
    for name, texts in rows.items():
        found.setdefault(name, _lines([text + "\n" for text in texts]))
        for indent in ("", "  "):
            for go in (False, True):
                found[f"{name} JSON {indent!r} {go}"] = _members(texts, indent, go=go)
    for name in ("maps-dump", "monitor", "conntrack", "nat-6", "services", "ct-svc"):
        found[f"{name} lines"] = _lines(_formed(LINES[name]))
    return found | _entries() | _own() | _kept()


def whole(seed: Seed) -> bytes:
    """All records of a seed, unchanged."""
    return _written(seed, seed.records)


def _written(seed: Seed, records: Iterable[str]) -> bytes:
    return (seed.head + seed.between.join(records) + seed.tail).encode("utf-8", "surrogateescape")


def make(rng: random.Random) -> bytes:
    """One input: a listing or two, most of whose records are as their program writes them."""
    parts = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        seed = rng.choice(_all())
        records = [rng.choice(seed.records) for _ in range(rng.randrange(1, 10))]
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            at = rng.randrange(len(records))
            records[at] = _changed(rng, records[at])
        parts.append(_written(seed, records))
    data = b"".join(parts)
    return rng.choice(CHANGES)(rng, data) if rng.random() < 0.25 else data


@functools.cache
def _all() -> list[Seed]:
    return list(seeds().values())


def _changed(rng: random.Random, record: str) -> str:
    """A record with something else in it: as a document, or as text."""
    if record[:1] in ("{", "[") and rng.random() < 0.4:
        try:
            document: Any = json.loads(record)
        except ValueError:  # bpftool's numbers in hex
            document = None
        if document is not None:
            return json.dumps(changed_document(rng, document))
    change: Callable[[random.Random, bytes], bytes] = rng.choice(CHANGES)
    return change(rng, record.encode("utf-8", "surrogateescape"))[:4000].decode("utf-8", "surrogateescape")


def passes(data: bytes) -> str:
    """Read it in passes, and line by line: both say the same, at no more cost. What was recognised."""
    one_by_one, spent = read(data, passes=False)
    at_once, also = read(data, passes=True)
    if at_once != one_by_one:
        part = next(name for name in at_once if at_once[name] != one_by_one[name])
        raise ValueError(f"in passes {part} is {str(at_once[part])[:300]}, line by line {str(one_by_one[part])[:300]}")
    if also.work > spent.work * 21 / 20 + 16:
        raise ValueError(f"in passes it costs {also.work}, line by line {spent.work}")
    return ", ".join(at_once["kinds"])
