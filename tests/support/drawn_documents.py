"""Documents that property tests draw, of conntrack and of SNAT entries: as every program writes them, and damaged."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import yaml
from hypothesis import strategies as st

from ctctl.decode.ct import OPTIONAL_FIELDS, decode_entry
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.show.entry import entry_record
from tests.support.drawn import WORDS, pairs
from tests.support.drawn_lines import frontend_lines, ipcache_lines, pair_lines, service_lines, socket_lines
from tests.support.large_listings import GO_ESCAPES


def own(lines: list[dict[str, object]], form: str) -> str:
    """Records as ``ct list`` writes them."""
    texts = [json.dumps(line) for line in lines]
    if form == "jsonl":
        return "".join(f'{{"schema": "ctctl/ct-entry/v1", {text[1:]}\n' for text in texts)
    head = '{"schema": "ctctl/ct-entry/v1", "clock": [{"clock": "ktime", "evidence": "x"}], "now": 9, "entries": [\n  '
    return head + ",\n  ".join(texts) + "\n]}\n"


def in_hex(key: bytes, value: bytes, *, one_line: bool) -> str:
    """A record of a dump without type information."""
    if one_line:
        return f"key: {key.hex(' ')}  value: {value.hex(' ')}\n"
    rows = [value[at : at + 16] for at in range(0, len(value), 16)]
    halves = [f"{row[:8].hex(' ')}  {row[8:].hex(' ')}".rstrip() for row in rows]
    return "\n".join(["key:", key.hex(" "), "value:", *halves, ""])


def cilium(key: bytes, value: bytes, layout: Layout) -> dict[str, object]:
    """An element of the Cilium CLI's JSON."""
    half = (len(key) - 6) // 2
    ports = struct.unpack("<HHBB", key[-6:])
    words = struct.unpack("<QQQQIHHHBBIII", value)
    names = ["Reserved0", "BackendID", "Packets", "Bytes"]
    if layout.split_counters:
        names = ["RxPackets", "RxBytes", "TxPackets", "TxBytes"]
    word40 = {Layout.V1_18: "Reserved4", Layout.V1_19: "NatPort"}.get(layout, "IfIndex")
    tail = ["TxFlagsSeen", "RxFlagsSeen", "SourceSecurityID", "LastTxReport", "LastRxReport"]
    shown: dict[str, object] = dict(zip([*names, "Lifetime", "Flags", "RevNAT", word40, *tail], words, strict=True))
    if layout is Layout.V1_19:
        shown = {"Union0": [shown.pop("Reserved0"), shown.pop("BackendID")], **shown}
    return {
        "Key": {
            "DestAddr": list(key[:half]),
            "SourceAddr": list(key[half : 2 * half]),
            **dict(zip(["DestPort", "SourcePort", "NextHeader", "Flags"], ports, strict=True)),
        },
        "Value": shown,
    }


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Elements of one of the programs, of one layout or two, and damage."""
    form = draw(
        st.sampled_from(["jsonl", "own", "cilium", "bpftool", "bpftool pretty", "fields", "hex", "own YAML", "YAML"])
    )
    layouts = draw(st.lists(st.sampled_from(list(Layout)), min_size=1, max_size=2))
    raw, named = draw(st.booleans()), draw(st.booleans())
    records = [(pair, layout) for layout in layouts for pair in draw(st.lists(pairs(), max_size=8))]
    if form in ("jsonl", "own"):
        found = [record(draw, *pair, layout, raw=raw, named=named) for pair, layout in records]
        text = own(found, form)
    elif form == "cilium":
        text = json.dumps([cilium(*pair, layout) for pair, layout in records], indent=2)
    elif form == "own YAML":
        found = [record(draw, *pair, layout, raw=raw, named=named) for pair, layout in records]
        text = "schema: ctctl/ct-entry/v1\nnow: 9\nentries:\n" + yaml.safe_dump(found, sort_keys=False)
    elif form == "YAML":
        lowered = json.loads(json.dumps([cilium(*pair, layout) for pair, layout in records]).lower())
        wrapped = [{"key": {"tuplekey4global": {"tuplekey4": one["key"]}}, "value": one["value"]} for one in lowered]
        text = yaml.safe_dump(wrapped if named else lowered, sort_keys=False)
    elif form == "fields":
        ours = draw(st.booleans())
        text = "[" + ",".join(by_fields(*pair, None if ours else layout) for pair, layout in records) + "\n]\n"
    elif form == "hex":
        one_line = draw(st.booleans())
        text = "".join(in_hex(*pair, one_line=one_line) for pair, _ in records) + f"Found {len(records)} elements\n"
    else:
        octets = [
            {n: [f"0x{octet:02x}" for octet in part] for n, part in zip(("key", "value"), pair, strict=True)}
            for pair, _ in records
        ]
        text = json.dumps(octets, indent=1 if "pretty" in form else None)
    return damaged(draw, text)


@st.composite
def pair_documents(draw: st.DrawFn) -> bytes:
    """Rows of the tables of two columns as JSON, as Go or jq writes it, several texts of a row too, and damage."""
    kinds = [service_lines(), ipcache_lines(), pair_lines(), frontend_lines(), socket_lines()]
    rows = draw(st.lists(st.one_of(draw(st.sampled_from([kinds, *([kind] for kind in kinds)]))), max_size=12))
    members: dict[str, list[str]] = {}
    for row in rows:
        left, right = [*re.split(r" {3,}|\t+", row.strip(), maxsplit=1), ""][:2]
        right += draw(st.sampled_from(["", "", "  ", ' [a"b] ', r" [a\b]"]))
        members.setdefault(left, []).append(right)
    text = json.dumps(members, indent=draw(st.sampled_from([2, None, 0])), ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = text.translate(GO_ESCAPES)
    return damaged(draw, text + "\n")


def damaged(draw: st.DrawFn, text: str) -> bytes:
    """A document as it is, or with a piece or two of it replaced."""
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        with_what = draw(
            st.sampled_from(
                ["0", "-", "\\", '"', "é", "null", "1.5", " ", "\n...\n", "", "9" * 20, "x", "\n00\n", "\n  a: 1\n"]
            )
        )
        text = text[:at] + with_what + text[at + draw(st.sampled_from([0, 1, 3])) :]
    return text.encode()


_COUNTERS = {
    True: ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes"),
    False: ("reserved0", "backend_id", "packets", "bytes"),
}


#: Names of the entry's bit fields from bit 0 on, in 1.14, up to 1.18, and in 1.19.
_BIT_NAMES = {
    "nat46": "rx_closing tx_closing nat46 lb_loopback seen_non_syn node_port proxy_redirect dsr from_l7lb reserved1"
    " from_tunnel reserved",
    "nat64": "rx_closing tx_closing nat64 lb_loopback seen_non_syn node_port proxy_redirect dsr_internal from_l7lb"
    " auth_required from_tunnel reserved",
    "": "rx_closing tx_closing reserved1 lb_loopback seen_non_syn node_port proxy_redirect dsr_internal from_l7lb"
    " reserved2 from_tunnel reserved3",
}


def by_fields(key: bytes, value: bytes, layout: Layout | None) -> str:
    """A record as bpftool prints it by BTF: of a Cilium's map, or of ctctl's own (None)."""
    half = (len(key) - 6) // 2
    ends = [key[:half], key[half : 2 * half]]
    dport, sport, proto, flags = struct.unpack("<HHBB", key[2 * half :])
    numbers = struct.unpack("<QQQQIHHHBBIII", value)
    split = layout is not None and layout.split_counters
    word40 = {Layout.V1_18: "reserved4", Layout.V1_19: "nat_port"}.get(layout or Layout.V1_16, "ifindex")
    names = {**dict(zip(_COUNTERS[split], numbers, strict=False)), "lifetime": numbers[4]}
    if layout is None:
        names["flags"] = numbers[5]
    else:
        style = "nat46" if layout is Layout.V1_14 else "" if layout is Layout.V1_19 else "nat64"
        bits = _BIT_NAMES[style].split()
        names |= {name: f"<0x{numbers[5] >> at & (0x1F if at == 11 else 1):x}>" for at, name in enumerate(bits)}
    tail = ("rev_nat_index", word40, "tx_flags_seen", "rx_flags_seen", "src_sec_id", "last_tx_report", "last_rx_report")
    names |= dict(zip(tail, numbers[6:], strict=True))
    shown: list[object] = [int.from_bytes(end, "little") for end in ends]
    if half == 16:
        shown = [list(end) if layout is None else {"addr": list(end), "d": {"d1": 5, "d2": 7}} for end in ends]
    tuple_ = {"daddr": shown[0], "saddr": shown[1], "dport": dport, "sport": sport, "nexthdr": proto, "flags": flags}
    text = json.dumps({"key": tuple_, "value": names}, indent=8)
    return text.replace('"<0x', "0x").replace('>"', "")


def record(draw: st.DrawFn, key: bytes, value: bytes, layout: Layout, *, raw: bool, named: bool) -> dict[str, object]:
    """A record as ``ct list`` has it; what a source lacks is null."""
    absent = draw(st.sampled_from([frozenset(), frozenset(), frozenset({"backend_id", "nat_port"}), OPTIONAL_FIELDS]))
    name = "cilium_ct4_global" if len(key) == 14 else "cilium_ct6_global"
    entry = decode_entry(key, value, layout, name if named else None, absent=absent)
    now = draw(st.sampled_from([None, 7, 7]))
    return entry_record(entry, layout=layout, clock=Clock(), now=now, raw=raw)


@st.composite
def nat_pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Key and value of any SNAT entry; what stands behind the port is nobody's."""
    half = draw(st.sampled_from([4, 4, 16]))
    key = draw(st.binary(min_size=2 * half + 6, max_size=2 * half + 6))
    numbers = struct.pack("<QQQQ", *(draw(WORDS) for _ in range(4)))
    to = draw(st.binary(min_size=half + 2, max_size=half + 2))
    return key, numbers + to + bytes(2 if half == 4 else 6)


def nat_by_name(key: bytes, value: bytes, *, pads: bool) -> dict[str, object]:
    """An SNAT entry as the Cilium CLI's JSON has it, without pads in late versions."""
    half = (len(key) - 6) // 2
    ports = dict(zip(("DestPort", "SourcePort", "NextHeader", "Flags"), struct.unpack("<HHBB", key[-6:]), strict=True))
    numbers = dict(zip(("Created", "NeedsCT", "Pad1", "Pad2"), struct.unpack_from("<QQQQ", value), strict=True))
    shown = {name: number for name, number in numbers.items() if pads or "Pad" not in name}
    end = 32 + half
    shown |= {"Addr": list(value[32:end]), "Port": int.from_bytes(value[end : end + 2], "little")}
    return {"Key": {"DestAddr": list(key[:half]), "SourceAddr": list(key[half : 2 * half]), **ports}, "Value": shown}


def nat_by_fields(key: bytes, value: bytes, style: str) -> str:
    """An SNAT entry as bpftool prints it by BTF: of our own tables, or with Cilium's nested names."""
    half = (len(key) - 6) // 2
    ends = [list(raw) for raw in (key[:half], key[half : 2 * half], value[32 : 32 + half])]
    shown: list[Any] = [{"addr": end} if style == "nested" else end for end in ends]
    if half == 4:
        shown = [int.from_bytes(bytes(end), "little") for end in ends]
    dport, sport, proto, flags = struct.unpack("<HHBB", key[-6:])
    names = ("created", "needs_ct", "pad1", "pad2") if style != "early" else ("created", "host_local")
    numbers = dict(zip(names, struct.unpack_from("<QQQQ", value), strict=False))
    port = int.from_bytes(value[32 + half : 34 + half], "little")
    to: dict[str, Any] = {"to_saddr": shown[2], "to_sport": port, "pad3": 0}
    if style == "nested":
        numbers, to = {"common": numbers}, {"": {"nat_info": {"address": shown[2], "port": port}}}  # type: ignore[dict-item]
    tuple_ = {"daddr": shown[0], "saddr": shown[1], "dport": dport, "sport": sport, "nexthdr": proto, "flags": flags}
    return json.dumps({"key": tuple_, "value": {**numbers, **to}}, indent=8)


NAT_FORMS = ("cilium", "cilium late", "bpftool", "bpftool BTF", "hex", "fields", "nested", "early")


def nat_document(records: list[tuple[bytes, bytes]], form: str, *, one_line: bool = False) -> str:
    """A dump of an SNAT table."""
    if form.startswith("cilium"):
        return json.dumps([nat_by_name(*pair, pads=form == "cilium") for pair in records], indent=2)
    if form == "hex":
        return "".join(in_hex(*pair, one_line=one_line) for pair in records) + f"Found {len(records)} elements\n"
    if not form.startswith("bpftool"):
        return "[" + ",".join(nat_by_fields(*pair, form) for pair in records) + "\n]\n"
    found = [dict(zip(("key", "value"), map(_octets, pair), strict=True)) for pair in records]
    if form.endswith("BTF"):
        found = [{**one, "formatted": {"key": 1, "value": {"created": 1, "to_sport": 2}}} for one in found]  # type: ignore[dict-item]
    return json.dumps(found, indent=None if one_line else 1)


def _octets(raw: bytes) -> list[str]:
    return [f"0x{octet:02x}" for octet in raw]


@st.composite
def nat_documents(draw: st.DrawFn) -> tuple[bytes, str]:
    """SNAT records of one program, of one family or both, and damage; and the file's name."""
    records, form = draw(st.lists(nat_pairs(), max_size=8)), draw(st.sampled_from(NAT_FORMS))
    text = nat_document(records, form, one_line=draw(st.booleans()))
    return damaged(draw, text), draw(st.sampled_from(["", "cilium_snat_v4_external", "cilium_snat_v6_external.txt"]))
