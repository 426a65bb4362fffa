"""What a stream holds, found by its content and read accordingly. Names are only hints for table names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ctctl.errors import DecodeError
from ctctl.tables.sources import bpftool, ct_text, listing_text, own_json
from ctctl.tables.sources.clocks import clock_of_agent_config
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import Prefixed, Reader, text_of

#: How much of a stream is looked at to tell its form.
HEAD = 1 << 16
#: A JSON object (no array) is read whole, up to this size.
MAX_DOCUMENT = 1 << 26


class NoListingError(DecodeError):
    """JSON, but of no form that is known."""


def read_content(stream: Reader, dump: Dump, hint: str = "") -> bool:
    """Read a text of any known form into ``dump``. False: of no known form, nothing was read.

    ``hint`` is the file's name. Raises DecodeError for a known form that cannot be read.
    """
    source = stream if isinstance(stream, Prefixed) else Prefixed(b"", stream)
    head = text_of(source.peek(HEAD))
    kind, read = _kind_of(head, hint)
    if read is None:
        return False
    dump.kind = dump.kind or kind
    read(source, dump)
    return True


_Read = Callable[[Reader, Dump], None]


def _kind_of(head: str, hint: str) -> tuple[str, _Read | None]:
    start = head.lstrip()
    if not start:
        return ("empty listing", ct_text.read_text) if "\n" in head else ("", None)
    if start[0] == "[":
        return _array_kind(start, hint)
    if start[0] == "{":
        return _object_kind(start)
    if re.match(r"- [Kk]ey:", start):
        return "Cilium ct list (YAML)", ct_text.read_yaml
    if re.match(r"key:|Found \d+ elements?\s*$", start):
        return "bpftool (hex)", lambda stream, dump: bpftool.read_hex(stream, dump, hint)
    if re.match(r"schema: ctctl/ct-entry/", start):
        return "ctctl ct list (YAML)", own_json.read_yaml
    return _lines_kind(start)


def _lines_kind(start: str) -> tuple[str, _Read | None]:
    for line in start.split("\n", 20)[:20]:
        if ct_text.LINE.match(line):
            return "Cilium ct list", ct_text.read_text
        if listing_text.NAT_LINE.search(line):
            return "Cilium nat list", listing_text.read_nat_text
        if listing_text.HEADERS.match(line):
            return "Cilium listing", listing_text.read_pairs_text
    return "", None


def _array_kind(start: str, hint: str) -> tuple[str, _Read | None]:
    def plain(stream: Reader, dump: Dump) -> None:
        bpftool.read_plain(stream, dump, hint)

    def full(stream: Reader, dump: Dump) -> None:
        bpftool.read_json(stream, dump, hint)

    if re.match(r"\[\s*\]\s*$", start):
        return "empty dump", full
    if re.match(r'\[\s*\{\s*"Key"', start):
        if re.search(r'"Lifetime"', start):
            return "Cilium ct list (JSON)", ct_text.read_json
        return ("Cilium nat list (JSON)", listing_text.read_nat_json) if '"Created"' in start else ("", None)
    if re.match(r'\[\s*\{\s*"key"\s*:\s*\[', start):
        return "bpftool (JSON)", full
    if re.match(r'\[\s*\{\s*"key"\s*:', start):
        return "bpftool (plain)", plain
    return "", None


def _object_kind(start: str) -> tuple[str, _Read | None]:
    if re.match(r'\{"schema": "ctctl/ct-entry/v1", "map"', start) or re.match(
        r'\{"schema": "ctctl/ct-entry/v1"[^\[]*\}\s*\n', start
    ):
        return "ctctl ct list (JSON lines)", own_json.read_lines
    if re.match(r'\{"schema": "ctctl/ct-entry/v1"', start):
        return "ctctl ct list (JSON)", own_json.read_document
    return "JSON object", _read_object


def _read_object(stream: Reader, dump: Dump) -> None:
    """A JSON object: a listing by pairs, or an agent's configuration; anything else is no form of ours."""
    parts, size = [], 0
    while chunk := stream.read(1 << 18):
        size += len(chunk)
        if size > MAX_DOCUMENT:
            raise DecodeError(f"a JSON object of more than {MAX_DOCUMENT >> 20} MiB")
        parts.append(chunk)
    text = text_of(b"".join(parts))
    clock = clock_of_agent_config(text, "the agent's configuration")
    if clock is not None:
        dump.clock, dump.kind = clock, "agent configuration"
        return
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"damaged JSON: {error}") from error
    if not isinstance(document, dict) or (document and not _is_listing(document)):
        raise NoListingError("a JSON object that is no listing of any known form")
    listing_text.read_pairs_json(document, dump)


def _is_listing(document: dict[str, Any]) -> bool:
    left, texts = next(iter(document.items()))
    try:
        return isinstance(texts, list) and bool(texts) and listing_text.is_pair(left.strip(), str(texts[0]).strip())
    except (ValueError, KeyError):
        return False
