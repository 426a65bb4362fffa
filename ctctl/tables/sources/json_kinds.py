"""What a JSON document is, by its beginning: which list, whose rows, and who reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from ctctl.tables.sources import agent_text, counter_text, ct_records, nat_elements, nat_text, own_json, policy_text
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.listing_text import is_pair
from ctctl.tables.sources.regular import Learned, Sample

#: The beginning of a table that bpftool dumped.
BPFTOOL = r'\[\s*\{\s*"key"\s*:'
#: Makes the form of an element that was read into a dump.
Like: TypeAlias = "Callable[[Dump, Sample], Learned | None]"


def _add_nat(dump: Dump, item: Any) -> None:
    dump.listings.listed_nat().add_bytes(*nat_text.bytes_of_record(item))


class ListKind(NamedTuple):
    """A list of rows: its name, who reads its elements, and who makes a form of one."""

    name: str
    add: Callable[[Dump, Any], None]
    like: Like | None = None


def list_kind(head: str) -> ListKind | None:
    """What a JSON list is by its beginning; None for what is told elsewhere."""
    if re.match(r'\[\s*\{\s*"Key"\s*:\s*\{', head):
        if '"Lifetime"' in head:
            return ListKind("Cilium ct list (JSON)", ct_records.add_record, ct_records.element_like)
        if '"Created"' in head:
            return ListKind("Cilium nat list (JSON)", _add_nat, nat_elements.element_like)
    if re.match(r'\[\s*\{\s*"EndpointID"\s*:', head) or (
        re.match(r'\[\s*\{\s*"', head) and '"TrafficDirection"' in head[:2000]
    ):
        return ListKind("Cilium policy list (JSON)", policy_text.add_item)
    if re.match(r'\[\s*\{\s*"Key"\s*:\s*"(?:AgentLiveness|UTimeOffset)"', head):
        return ListKind("agent status", agent_text.add_runtime_config)
    if re.match(r'\[\s*\{\s*"reason"\s*:', head) and ('"direction"' in head or '"values"' in head):
        return ListKind("Cilium metrics list (JSON)", counter_text.add_item)
    if re.match(r'\[\s*\{\s*"(?:schema"\s*:\s*"ctctl/ct-entry/|map"\s*:\s*")', head) and '"tuple_flags"' in head:
        return ListKind("ctctl ct list (JSON)", own_json.add, own_json.record_like)
    return None


def is_rows(head: str) -> bool:
    """Whether a list is one of rows, by its beginning."""
    return list_kind(head) is not None or re.match(BPFTOOL, head) is not None


def cut_kind(head: str) -> str | None:
    """What a list was of which not even the first element is whole; None: nothing tells."""
    if re.match(r'\[\s*\{\s*"Key"\s*:\s*\{', head):
        return "a listing of conntrack or SNAT entries"
    return "a listing of drop counters" if re.match(r'\[\s*\{\s*"reason"\s*:', head) else None


#: An object whose first member is an address, and of which nothing more is whole.
CUT_PAIRS = re.compile(
    r'\{\s*"(?:\d{1,3}(?:\.\d{1,3}){3}|\[?[0-9a-f]{0,4}:[0-9a-f:.]{1,40}\]?)(?:[:/]\d{1,5})?(?:/[A-Z]{1,8})?(?:/i)?'
    r'(?: \(\d{1,5}\))?"\s*:\s*(?:\[\s*(?:"[^"]{0,400})?)?'
)


#: How much of a text is looked at: a Maglev table is a long one.
_SHOWN = 400


def is_known(head: str) -> bool:
    """Whether the start of a JSON object that cannot be read is one of a listing by pairs."""
    match = re.match(r'\{\s*"([^"]{1,120})"\s*:\s*\[\s*"([^"]{0,400})("?)', head)
    if match is None or (not match[3] and len(match[2]) < _SHOWN):  # the text is cut off
        return False
    text = match[2].replace(r"\u003c", "<").replace(r"\u003e", ">")  # Go writes those so
    return is_pair(match[1].strip(), text.strip())


def is_listing_by_pairs(document: Any) -> bool:
    if not isinstance(document, dict) or not document:
        return False
    left, texts = next(iter(document.items()))
    return isinstance(texts, list) and bool(texts) and is_pair(str(left).strip(), str(texts[0]).strip())
