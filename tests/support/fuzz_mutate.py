"""Inputs by structure: pieces of real ones put together anew, then changed where readers look.

Everything is drawn from one ``random.Random``: an input is known by its target and its number alone.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import json
import lzma
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: an input's size at most, before it is packed
LONGEST = 3000
_TOKEN = re.compile(rb"[A-Za-z_]+|\d+|\s+|.", re.DOTALL)
_NUMBERS = (
    *("0", "-1", "1", "007", "255", "256", "65535", "65536", "4294967295", "4294967296", "18446744073709551615"),
    *("18446744073709551616", "9" * 30, "9" * 5000, "1e9", "1e400", "0x1b", "0xffffffffffffffff", "NaN", "Infinity"),
    *("1.5", "٣", "²", "", "-0", "1_000", " 7", "+5"),
)
_ADDRESSES = (
    *("0.0.0.0", "255.255.255.255", "::", "::1", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3", "1.2.3.4.5", "999.1.1.1"),
    *("fd00::1:80", "[fd00::1]", "[::", "10.0.0.0/8", "10.0.0.0/33", "::/0", "::/129", "1.2.3.4:99999", "[::1]:80"),
)
_ODD = (
    *(b"\0", b"\x1b[2J", "\u202e".encode(), b"\xef\xbb\xbf", b"\r", b"\t", "\u2028".encode(), "\ufdfd".encode()),
    *(
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\x80" * 9,
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"'",
        b"\\",
        b"#",
        b"&a ",
        b"*a",
    ),
    *(b"=", b"@", b"%", b"!!python/object:os.system ", b"<<: ", b"- ", b": ", b"|", b">", b"\n\n", b"\n", b" " * 300),
    *(b"(" * 50, b"[" * 120, b"a" * 5000, b"null", b"true", b"=cmd|' /C calc'!A0"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**32, 2**63, 2**64, 10**40, 1.5, 1e308, "", "x", "::1", "1.2.3.4", "\x1b[2J"),
    *([], {}, [[]], [None], [0, 0], {"": None}, {"a": {"a": {}}}, "9" * 30, "2001-01-01", "\udcff", "a\nb", [1] * 40),
)


@dataclass
class Pieces:
    """What inputs are made of: short runs of lines, JSON documents, and whole small files as bytes."""

    runs: list[list[bytes]] = field(default_factory=list)
    #: the runs by form, so that each form has its share however little of it there is
    groups: list[list[list[bytes]]] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)

    def learn(self, data: bytes) -> None:
        """Take a real input apart."""
        if b"\0" in data:
            self.blobs.append(data[:LONGEST])
            return
        lines = data.split(b"\n")
        # Runs of one form stand together in a file; a few of each are enough.
        step = max(1, len(lines) // 40)
        self.runs += [lines[at : at + 8] for at in range(0, len(lines), step)]
        if len(data) <= LONGEST:
            self.blobs.append(data)
        for text in (data, *(lines[: 20 if len(lines) > 1 else 0])):
            if text[:1] in (b"[", b"{"):
                try:
                    self.documents.append(_small(json.loads(text)))
                except (ValueError, RecursionError):
                    continue

    def sort(self, form_of: Callable[[bytes], str]) -> None:
        """Group the runs by form."""
        groups: dict[str, list[list[bytes]]] = {}
        for run in self.runs:
            groups.setdefault(form_of(b"\n".join(run)), []).append(run)
        self.groups = list(groups.values())


def _small(value: Any, depth: int = 0) -> Any:
    """A document with a few elements of each list, so that it stays short."""
    if isinstance(value, list):
        return [_small(part, depth + 1) for part in (value[:3] if depth < 2 else value[:16])]
    if isinstance(value, dict):
        return {name: _small(part, depth + 1) for name, part in list(value.items())[:40]}
    return value


@dataclass
class Maker:
    """Makes inputs of one kind out of pieces."""

    pieces: Pieces
    packs: bool = False

    def make(self, rng: random.Random) -> bytes:
        """One input."""
        choice = rng.random()
        if choice < 0.2 and self.pieces.documents:
            data = self._document(rng)
        elif choice < 0.35 and self.pieces.blobs:
            data = _bytes_changed(rng, rng.choice(self.pieces.blobs))
        elif self.pieces.runs:
            data = b"\n".join(self._run(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))
        else:
            data = rng.choice(self.pieces.blobs or [b""])
        for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
            data = rng.choice(CHANGES)(rng, data)
        data = data[: LONGEST * 3]
        return _packed(rng, data) if self.packs and rng.random() < 0.08 else data

    def _run(self, rng: random.Random) -> bytes:
        lines = rng.choice(rng.choice(self.pieces.groups) if self.pieces.groups else self.pieces.runs)
        first = rng.randrange(len(lines))
        return b"\n".join(lines[first : first + rng.randrange(1, 9)])[:LONGEST]

    def _document(self, rng: random.Random) -> bytes:
        document = changed_document(rng, rng.choice(self.pieces.documents))
        indent = rng.choice((None, None, 1, 2))
        return json.dumps(document, indent=indent, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogateescape")


# ---- text


def _numbers(rng: random.Random, data: bytes) -> bytes:
    return _token(rng, data, rb"\d+", lambda: rng.choice(_NUMBERS).encode())


def _addresses(rng: random.Random, data: bytes) -> bytes:
    return _token(rng, data, rb"[0-9a-fA-F]*[.:][0-9a-fA-F.:]+", lambda: rng.choice(_ADDRESSES).encode())


def _words(rng: random.Random, data: bytes) -> bytes:
    words = re.findall(rb"[A-Za-z_]{2,}", data) or [b"x"]
    return _token(rng, data, rb"[A-Za-z_]{2,}", lambda: rng.choice(words))


def _token(rng: random.Random, data: bytes, pattern: bytes, new: Callable[[], bytes]) -> bytes:
    found = [match.span() for match in re.finditer(pattern, data)][:400]
    if not found:
        return data
    start, end = rng.choice(found)
    return data[:start] + new() + data[end:]


def _odd(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_ODD) + data[at + rng.choice((0, 0, 1)) :]


def _tokens(rng: random.Random, data: bytes) -> bytes:
    """Drop, double or swap tokens."""
    parts = _TOKEN.findall(data[:LONGEST])
    if len(parts) < 2:
        return data
    a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
    kind = rng.randrange(4)
    if kind == 0:
        del parts[a]
    elif kind == 1:
        parts.insert(b, parts[a])
    elif kind == 2:
        parts[a], parts[b] = parts[b], parts[a]
    else:
        del parts[min(a, b) : min(min(a, b) + 6, max(a, b))]
    return b"".join(parts)


def _cut(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.7 else data[at:]


def _framed(rng: random.Random, data: bytes) -> bytes:
    """As people paste: quoted, indented, with a prompt, in UTF-16, glued."""
    kind = rng.randrange(6)
    if kind == 0:
        return b"\n".join(b"> " + line for line in data.split(b"\n"))
    if kind == 1:
        return b"\n".join(b"    " + line for line in data.split(b"\n"))
    if kind == 2:
        return b"$ kubectl exec cilium -- cilium bpf ct list global\nDefaulted container\n" + data
    if kind == 3:
        return b"\xff\xfe" + data.decode("latin-1").encode("utf-16-le")
    if kind == 4:
        return data.replace(b"\n", b"", 1)
    return data.replace(b"\n", b"\r\n")


def _bytes_changed(rng: random.Random, data: bytes) -> bytes:
    """A few bytes, or whole fields of a binary form, replaced."""
    if not data:
        return data
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        # Headers stand at the front of most forms.
        at = rng.randrange(len(out)) if rng.random() < 0.5 else rng.randrange(min(len(out), 64))
        size = rng.choice((1, 1, 2, 4, 8))
        value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        fill = bytes([value]) * size if rng.random() < 0.7 else struct.pack("<Q", rng.choice((1, 2, 16, 4096)))[:size]
        out[at : at + size] = fill
    return bytes(out)


def _repeated(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join([*lines[:at], *([lines[at]] * rng.randrange(2, 6)), *lines[at:]])


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_numbers, _numbers, _addresses, _words, _odd, _odd, _tokens, _tokens, _cut, _framed, _bytes_changed, _repeated),
)


# ---- documents


def changed_document(rng: random.Random, document: Any) -> Any:
    """A copy of a document with a few of its parts replaced, dropped, or moved elsewhere."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2, 3))):
        holders: list[tuple[Any, Any]] = []
        _places(changed, holders)
        if not holders:
            return rng.choice(_VALUES)
        holder, key = rng.choice(holders)
        kind = rng.random()
        if kind < 0.7:
            holder[key] = copy.deepcopy(rng.choice(_VALUES))
        elif kind < 0.85:
            del holder[key]
        else:
            other, name = rng.choice(holders)
            holder[key] = copy.deepcopy(other[name])
    return changed


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    if len(found) > 600:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        found.append((value, key))
        _places(part, found)


# ---- archives


def _packed(rng: random.Random, data: bytes) -> bytes:
    """In an archive of some kind, which may be damaged too."""
    name = rng.choice(("cmd/cilium-dbg-bpf-ct-list-global.md", "../x", "a" * 300, "\udcff", "n/pods.yaml", "", "b/"))
    kind = rng.randrange(5)
    if kind == 0:
        out = gzip.compress(data, 1, mtime=0) * rng.choice((1, 1, 2))
    elif kind == 1:
        out = bz2.compress(data, 1)
    elif kind == 2:
        out = lzma.compress(data, preset=0)
    elif kind == 3:
        spool = io.BytesIO()
        with zipfile.ZipFile(spool, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode() or "x")
            packed.writestr(info, data)
            packed.writestr("second.txt", data[:200])
        out = spool.getvalue()
    else:
        spool = io.BytesIO()
        with tarfile.open(fileobj=spool, mode=rng.choice(("w", "w:gz"))) as archive:
            head = tarfile.TarInfo(name)
            head.size = len(data)
            archive.addfile(head, io.BytesIO(data))
        out = spool.getvalue()
        if len(out) > 4 * len(data) and out[:2] != b"\x1f\x8b":
            out = out[: 1024 + 512 * (len(data) // 512 + 1)]
    return _bytes_changed(rng, out) if rng.random() < 0.5 else out


# ---- grammars


_FIELDS = (
    *("proto", "src", "dst", "ip", "port", "sport", "dst_port", "state", "remaining", "idle", "flags", "rev_nat"),
    *(
        "backend",
        "identity",
        "packets",
        "bytes",
        "map",
        "node",
        "direction",
        "lifetime",
        "nat_port",
        "nosuch",
        "service",
    ),
)
_WORDS = (
    *("tcp", "udp", "closing", "established", "out", "in", "svc", "related", "expired", "live", "flag(SeenNonSyn)"),
    *("flag(x)", "1.2.3.4", "10.0.0.0/8", "::1", "fd00::/8", "30s", "5m", "-1s", "80", "80..90", "90-80", "0x13", "10"),
    *("9" * 30, '"a b"', "'x'", "ns/pod", "cilium_ct4_global", "reserved:host", "1.5h", "1e9", "NaN", "*", "²", "٣"),
)
_OPERATORS = (
    "==",
    "!=",
    "<",
    ">",
    "<=",
    ">=",
    "in",
    "=",
    "has",
    "~",
    "and",
    "or",
    "not",
    "&&",
    "||",
    "!",
    "(",
    ")",
    ",",
)


_TERMS = (
    *(
        "proto == tcp",
        "src in 10.0.0.0/8",
        "dst == fd00::1",
        "remaining < 30s",
        "idle > 5m",
        "port == 80..90",
        "not expired",
    ),
    *("state == closing", "flag(SeenNonSyn)", "rev_nat != 0", "direction == svc", "bytes >= 1000", "related", "tcp"),
    *("src_sec_id == reserved:host", "map == cilium_ct4_global", "node == a", "src_port in (1, 2, 3)", "nat_port > 0"),
    *("flags has DSRInternal", "lifetime <= 4294967295", "dst == pod1", "service == web", "tx_flags_seen == 0x1b"),
)


def filter_text(rng: random.Random) -> bytes:
    """A filter expression, mostly well formed."""

    def term(depth: int) -> str:
        kind = rng.random()
        if depth < 4 and kind < 0.25:
            return f"({term(depth + 1)} {rng.choice(('and', 'or', '&&', '||'))} {term(depth + 1)})"
        if depth < 6 and kind < 0.35:
            return f"not {term(depth + 1)}"
        if kind < 0.7:
            return rng.choice(_TERMS)
        if kind < 0.75:
            return rng.choice(_WORDS)
        if kind < 0.8:
            return f"{rng.choice(_FIELDS)} in ({', '.join(rng.choice(_WORDS) for _ in range(rng.randrange(4)))})"
        return f"{rng.choice(_FIELDS)} {rng.choice(_OPERATORS[:10])} {rng.choice(_WORDS)}"

    data = term(0).encode()
    if rng.random() < 0.03:
        data = b"(" * rng.choice((50, 5000)) + data
    for _ in range(rng.choice((0, 0, 1, 2))):
        data = rng.choice(CHANGES)(rng, data)
    return data[:LONGEST]


def packet_text(rng: random.Random) -> bytes:
    """A packet's text, mostly well formed."""
    ends = ("10.0.0.1", "fd00::1", "[fd00::1]", "any", "0.0.0.0/0", "10.0.0.0/8", "fd00::/64", *_ADDRESSES)
    ports = ("", "", ":80", ":1", ":65535", ":0", ":any", ":99999")
    keys = ("len", "seq", "id", "type", "code", "ttl", "frag", "proto", "win", "opts", "x", "mark")
    proto = rng.choice(("tcp", "udp", "icmp", "icmpv6", "sctp", "ip", "any", "TCP OUT", "ICMPv6 IN", "6", "ct"))
    arrow = rng.choice((" > ", " > ", " > ", " -> ", " ", ">", " <-> "))
    text = f"{proto} {rng.choice(ends)}{rng.choice(ports)}{arrow}{rng.choice(ends)}{rng.choice(ports)}"
    if rng.random() < 0.5:
        text += " " + rng.choice(("S", "SA", "A", "FA", "R", "none", "PAU", "ZZ", "1480+"))
    for _ in range(rng.randrange(4)):
        text += f" {rng.choice(keys)}={rng.choice((*_NUMBERS[:14], '48+', '01010100', 'zz'))}"
    if rng.random() < 0.2:
        text += f' inner="{rng.choice(("tcp 1.1.1.1:1 > 2.2.2.2:2", "icmp ::1 > ::2", "x", "", "tcp"))}"'
    data = text.encode()
    for _ in range(rng.choice((0, 0, 1, 2))):
        data = rng.choice(CHANGES)(rng, data)
    return data[:LONGEST]


def capture_bytes(rng: random.Random, frames: list[bytes], blobs: list[bytes]) -> bytes:
    """A packet capture of a few frames, then damaged."""
    if blobs and rng.random() < 0.3:
        return _bytes_changed(rng, rng.choice(blobs))
    order = rng.choice("<>")
    magic = rng.choice((0xA1B2C3D4, 0xA1B23C4D))
    link = rng.choice((1, 1, 113, 276, 101, 12, 0, 228, 65535))
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, rng.choice((65535, 96, 0)), link)
    for number in range(rng.randrange(4)):
        frame = _bytes_changed(rng, rng.choice(frames)) if rng.random() < 0.7 else rng.choice(frames)
        if link == 113:
            frame = struct.pack(">HHHQH", rng.randrange(6), 1, 6, 0, 0x0800) + frame[14:]
        elif link == 276:
            frame = struct.pack(">HHIHBBQ", 0x0800, 0, rng.randrange(9), 1, rng.randrange(6), 6, 0) + frame[14:]
        elif link in (101, 12, 228):
            frame = frame[14:]
        frame = frame[: rng.choice((len(frame), len(frame), rng.randrange(len(frame) + 1)))]
        claimed = rng.choice((len(frame), len(frame), len(frame), 0, 2**31, len(frame) + 1))
        out += struct.pack(order + "IIII", number, rng.choice((0, 999999, 2**32 - 1)), claimed, len(frame)) + frame
    return _bytes_changed(rng, out) if rng.random() < 0.3 else out


def changed_bytes(rng: random.Random, blobs: list[bytes]) -> bytes:
    """A binary file with a few fields changed, seldom cut off."""
    data = rng.choice(blobs)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _bytes_changed(rng, data)
    return _cut(rng, data) if rng.random() < 0.05 else data
