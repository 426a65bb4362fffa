"""Listings read in passes say what the careful reader says, line by line: of every version, whole, cut, edited."""

from __future__ import annotations

import io
import json
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.decode.ct import OPTIONAL_FIELDS, decode_entry
from ctctl.errors import CtctlError
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.show.entry import entry_record
from ctctl.tables.sources import regular
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.ct_runs import CtRuns
from ctctl.tables.sources.dump import Collected, Dump
from ctctl.tables.sources.ipcache_runs import IpcacheRuns
from ctctl.tables.sources.nat_runs import NatRuns
from ctctl.tables.sources.nf_runs import ConntrackRuns
from ctctl.tables.sources.pair_runs import BackendRuns, EndpointRuns, RevNatRuns
from ctctl.tables.sources.service_list_runs import AgentServiceRuns
from ctctl.tables.sources.service_runs import MapsRuns, ServiceRuns
from tests.support import captures
from tests.support.wait import PATIENCE_S

DATA = Path(__file__).resolve().parents[1] / "data"


_MARKS = (
    *(
        b"expires=",
        b'"Lifetime"',
        b'"key":',
        b"ctctl/ct-entry",
        b"key:\n",
        b" XLATE_",
        b"SERVICE ADDRESS",
        b"identity=",
    ),
    b"SVC: ID=",
    b"dport=",
    b"Service Type",
    b"LOCAL ENDPOINT",
    b"BACKEND ADDRESS (REVNAT_ID)",
)
LISTINGS = sorted(
    path
    for path in DATA.rglob("*")
    if path.suffix in {".txt", ".json", ".jsonl", ".md", ".yaml", ".log", ""}
    and path.is_file()
    and any(mark in path.read_bytes() for mark in _MARKS)
)


class Spent:
    """The work that was spent."""

    def __init__(self) -> None:
        self.work = 0

    def __call__(self, work: int) -> None:
        self.work += work


def read(text: bytes, *, passes: bool, hint: str = "") -> tuple[dict[str, Any], Spent]:
    """What a file turns out to hold, and what that cost. ``hint`` is its name."""
    dump, spent = Dump(), Spent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regular, "WORTH", 0 if passes else 1 << 62)
        patch.setattr(regular, "MAX_WAIT", 0)
        try:
            read_content(io.BytesIO(text), dump, hint, spent)
        except CtctlError as error:
            dump.partial.append(str(error))
    return said(dump), spent


def said(dump: Dump) -> dict[str, Any]:
    """Everything of a dump."""
    fields = [field for field in Collected.__dataclass_fields__ if field != "known"]
    tables = {name: {field: getattr(table, field) for field in fields} for name, table in dump.tables.items()}
    parts = ("kinds", "partial", "skipped", "skipped_first", "losses", "now", "clock", "broken", "ended", "listings")
    nat = sorted(map(repr, dump.listings.nat))  # one by one or by columns
    dump.listings.nat_entries, dump.listings.nat_text = [], None
    return {"tables": tables, "nat": nat, **{part: getattr(dump, part) for part in parts}}


def agree(text: bytes, hint: str = "") -> dict[str, Any]:
    """Read a file both ways; what both say."""
    one_by_one, spent = read(text, passes=False, hint=hint)
    at_once, also = read(text, passes=True, hint=hint)
    assert at_once == one_by_one
    # A pass is no dearer than what it saves; a return may count once or twice.
    assert also.work <= spent.work * 21 / 20 + 16
    return at_once


@pytest.mark.parametrize("path", LISTINGS, ids=[str(path.relative_to(DATA)) for path in LISTINGS])
def test_listings_that_people_had(path: Path) -> None:
    text = path.read_bytes()
    agree(text)
    agree(text.replace(b"\n", b"\r\n"))
    agree(b"".join(b"> " + line + b"\n" for line in text.split(b"\n")))


@pytest.mark.parametrize("name", captures.NAMES)
def test_listings_of_nodes(name: str) -> None:
    for file, text in captures.files(name).items():
        if file.endswith(".txt") and any(mark in text for mark in _MARKS):
            agree(text, file)
            agree(b"".join(line + b" \n\n"[len(line) % 3 :] for line in text.split(b"\n")), file)


WORDS = st.sampled_from([0, 1, 2, 0xFF, 0x1234, 0xFFFF, 1 << 31, (1 << 32) - 1, (1 << 63) + 5, (1 << 64) - 1])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Key and value of any entry."""
    family = draw(st.sampled_from([4, 4, 6]))
    addresses = draw(st.binary(min_size=8, max_size=8)) if family == 4 else draw(st.binary(min_size=32, max_size=32))
    proto, flags = draw(st.sampled_from([6, 6, 6, 17, 1, 58, 132, 2, 112, 200])), draw(st.sampled_from([0, 1, 2, 3, 4]))
    key = addresses + draw(st.binary(min_size=4, max_size=4)) + bytes((proto, flags))
    head = struct.pack("<QQQQI", *(draw(WORDS) & (1 << 64) - 1 for _ in range(4)), draw(WORDS) & 0xFFFFFFFF)
    value = head + draw(st.binary(min_size=20, max_size=20))
    return key, value


@st.composite
def lines(draw: st.DrawFn, layout: Layout) -> str:
    """A line of the version that has the layout, of any entry."""
    key, value = draw(pairs())
    now = draw(st.sampled_from([None, 7, 5_000_000]))
    return cilium_line(decode_entry(key, value, layout), layout, Clock(), now) or ""


_ENDS = {
    4: st.sampled_from(["10.0.0.1", "192.168.1.254", "10.0.0.256", "10.00.0.1", "1.2.3"]),
    6: st.sampled_from(["[fd00::1]", "[::ffff:10.0.0.1]", "[::]", "[fd00:::1]", "[10.0.0.1]"]),
}


@st.composite
def nat_lines(draw: st.DrawFn) -> str:
    """A line of an SNAT listing, of early builds and later ones."""
    family = draw(st.sampled_from([4, 4, 6]))
    ends = [_ENDS[draw(st.sampled_from([family] * 9 + [10 - family]))] for _ in range(3)]
    source, target, to = (f"{draw(end)}:{draw(st.sampled_from([0, 1, 80, 65535, 65536, 99999]))}" for end in ends)
    way = draw(st.sampled_from([("OUT", "SRC"), ("IN", "DST")] * 4 + [("OUT", "DST")]))
    related = draw(st.sampled_from(["", "", " related"]))
    age = draw(st.sampled_from(["0", "72", "72", "-5", "9" * 18, "9" * 19]))
    tail = draw(st.sampled_from([" ago NeedsCT=0", " ago NeedsCT=1", " ago NeedsCT=18446744073709551616", " ago", ""]))
    proto = draw(st.sampled_from(["TCP", "UDP", "ICMP", "ICMPv6", "132", "256"]))
    return f"{proto} {way[0]} {source} -> {target}{related} XLATE_{way[1]} {to} Created={age}sec{tail}"


@st.composite
def service_lines(draw: st.DrawFn) -> str:
    """A row of a service listing, of any version."""
    family = draw(st.sampled_from([4, 4, 6]))
    front, backend = (f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}" for _ in range(2))
    protos = [draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])) for _ in range(2)]
    scope = draw(st.sampled_from(["", "", "/i"]))
    slots = draw(st.sampled_from([(0, 0), (1, 1), (2, 2), (1, 0), (65536, 1)]))
    words = draw(st.sampled_from(["", "", " []", " [ClusterIP, non-routable]", " [LoadBalancer]", " [a,,b ]"]))
    gap = draw(st.sampled_from(["   ", "     ", " ", "\t", " \t "]))
    right = f"{backend}{protos[1]} ({draw(st.integers(0, 70000))}) ({slots[1]}){words}"
    grouped = draw(st.sampled_from([False] * 5 + [True]))
    left = " " * 20 if grouped else f"{front}{protos[0]}{scope} ({slots[0]})"
    return left + gap + draw(st.sampled_from([right, right, right, "backend 9 not found", "0 1 (7) [0x10 0x2]"]))


@st.composite
def ipcache_lines(draw: st.DrawFn) -> str:
    """A row of identities, of any version."""
    family = draw(st.sampled_from([4, 4, 6]))
    prefix = draw(_ENDS[family].filter(lambda end: end[0] != "[")) if family == 4 else draw(_PREFIXES)
    bits = draw(st.sampled_from(["/32", "/128", "/8", "/0", "/33", "/129", "/300", "", "/032"]))
    cluster = draw(st.sampled_from(["", "", "", "@5", "@65536"]))
    tunnel = draw(st.sampled_from(["0.0.0.0", "192.168.1.1", "fd00::1", "[fd00::1]", "::", "<nil>", "10.0.0.1,"]))
    words = ["<none>", "hastunnel", "skiptunnel,hastunnel", "x", "", "<none>,hastunnel", "a b"]
    flags = draw(st.sampled_from(["", *(f"{mark} flags={word}" for mark in ("", ",") for word in words)]))
    gap = draw(st.sampled_from(["   ", "       ", " ", "\t"]))
    key, identity = draw(st.sampled_from([0, 3, 255, 256])), draw(st.sampled_from([0, 7, 1 << 24, 1 << 32]))
    return f"{prefix}{bits}{cluster}{gap}identity={identity} encryptkey={key} tunnelendpoint={tunnel}{flags}"


_PREFIXES = st.sampled_from(["fd00::1", "fd00:0::ff", "::ffff:10.0.0.1", "::", "[fd00::1]", "fd00:::1"])


@st.composite
def maps_lines(draw: st.DrawFn) -> str:
    """A line of ``lb/maps-dump``: a slot or a backend."""
    family = draw(st.sampled_from([4, 4, 6]))
    proto, scope = draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])), draw(st.sampled_from(["", "", "/i"]))
    end = f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}{proto}"
    number, words = (
        draw(st.sampled_from([0, 9, 1 << 32])),
        draw(st.sampled_from(["", "ClusterIP+non-routable", "a=b", "x y"])),
    )
    if draw(st.booleans()):
        return f"BE: ID={number} ADDR={end} STATE={draw(st.sampled_from(['active', words]))}"
    which = draw(
        st.sampled_from(["SLOT=0 LBALG=undef AFFTimeout=9", "SLOT=1 BEID=5", "SLOT=0 BEID=5", "SLOT=256 BEID=5"])
    )
    more = draw(st.sampled_from(["", "", " L7PORT=5", " ID=7"]))
    return f"SVC: ID={number} ADDR={end}{scope} {which} COUNT=2 QCOUNT=0 FLAGS={words}{more}"


@st.composite
def connection_lines(draw: st.DrawFn) -> str:
    """A line of ``conntrack -L`` or ``/proc/net/nf_conntrack``."""
    family = draw(st.sampled_from([4, 4, 6]))
    ends = [draw(_ENDS[family if draw(st.integers(0, 15)) else 10 - family]).strip("[]") for _ in range(4)]
    if draw(st.booleans()):  # the same way back
        ends[2:] = [ends[1], ends[0]]
    ports = [draw(st.sampled_from([0, 80, 80, 8080, 65535, 65536])) for _ in range(2)]
    back = [ports[1], ports[0]] if draw(st.booleans()) else [draw(st.sampled_from([7, 80])) for _ in range(2)]
    name, proto = draw(
        st.sampled_from(
            [("tcp", 6)] * 4 + [("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("gre", 47), ("x", 300)]
        )
    )
    given = draw(st.sampled_from(["ports"] * 3 + ["icmp", "none", "both"]))
    echo = f" type=8 code=0 id={draw(st.sampled_from([0, 9, 65535]))}"
    counted = draw(st.sampled_from([(0, 0), (0, 0), (1, 1), (1, 0)]))
    shown = []
    for number, (first, second) in enumerate((ports, back)):
        text = f"src={ends[2 * number]} dst={ends[2 * number + 1]}"
        text += f" sport={first} dport={second}" if given in ("ports", "both") else ""
        text += echo if given in ("icmp", "both") else ""
        shown.append(text + (f" packets={draw(WORDS)} bytes={draw(WORDS)}" if counted[number] else ""))
    front = draw(st.sampled_from(["", "", "ipv4     2 ", "ipv6     10 ", "    [NEW] ", "[1700000000.5] "]))
    timeout = draw(st.sampled_from(["", "30 ", "431999 ", "4294967296 "]))
    state = draw(
        st.sampled_from(
            ["", "ESTABLISHED ", "SYN_SENT ", "SYN_SENT2 ", "TIME_WAIT ", "CLOSE ", "COOKIE_WAIT ", "NONE "]
        )
    )
    mark = draw(st.sampled_from([" ", " ", " [UNREPLIED] "]))
    end = draw(
        st.sampled_from(
            [" mark=0 use=1", " [ASSURED] mark=0 use=1", " [ASSURED] mark=0 zone=0 use=2", "", " [OFFLOAD] use=2"]
        )
    )
    end += draw(st.sampled_from(["", "", "", " secctx=null use=1", " helper=ftp", " packets=7", " dport=9"]))
    return f"{front}{name:<8} {proto} {timeout}{state}{shown[0]}{mark}{shown[1]}{end}"


@st.composite
def pair_lines(draw: st.DrawFn) -> str:
    """A row of endpoints, backends or reverse NAT."""
    family, gap = draw(st.sampled_from([4, 4, 6])), draw(st.sampled_from(["   ", "     ", " ", "\t"]))
    end, number = draw(_ENDS[family]), draw(st.sampled_from([0, 7, 65535, 65536, 1 << 32]))
    kind = draw(st.sampled_from(["endpoint", "endpoint", "backend", "rev_nat"]))
    if kind == "rev_nat":
        return f"{number}{gap}{end}:{draw(st.sampled_from([0, 80, 65536]))}"
    if kind == "backend":
        to = draw(st.sampled_from([end, end.strip("[]")]))
        more = draw(st.sampled_from(["", "", "@7", "@65536", "[zone]", "[]"]))
        return f"{number}{gap}{draw(st.sampled_from(['TCP', 'ANY', 'NONE', 'XYZ', 'udp']))}://{to}{more}"
    left = f"{draw(st.sampled_from([end, end.strip('[]')]))}:{draw(st.sampled_from([0, 0, 0, 65536]))}"
    if draw(st.integers(0, 3)) == 0:
        return f"{left}{gap}(localhost)"
    macs = [draw(st.sampled_from(["BE:AB:1E:0C:E7:2B", "be:ab:1e:0c:e7:2b", "", "BE:AB"])) for _ in range(2)]
    identity, flags = draw(st.sampled_from([1, 26718, 1 << 32])), draw(st.sampled_from([0, 1]))
    fields = f"id={number:<5} sec_id={identity:<5} flags=0x{flags:04x}"
    fields += f" ifindex={draw(st.sampled_from([0, 7])):<3} mac={macs[0]} nodemac={macs[1]}"
    return f"{left}{gap}{fields}{draw(st.sampled_from(['', ' parent_ifindex=0    ', ' parent_ifindex=9', ' x=1']))}"


@st.composite
def agent_service_lines(draw: st.DrawFn) -> str:
    """A row of the agent's ``service list``."""
    family = draw(st.sampled_from([4, 4, 6]))
    front, backend = (f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}" for _ in range(2))
    protos = [draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])) for _ in range(2)]
    scopes = [draw(st.sampled_from(["", "", "/i"])) for _ in range(2)]
    state = draw(st.sampled_from(["", " (active)", " (active)", " (terminating)", " (odd)", "(active)"]))
    right = f"{draw(st.integers(0, 65536))} => {backend}{protos[1]}{scopes[1]}{state}"
    gap = draw(st.sampled_from(["   ", "    ", " ", "\t"]))
    if draw(st.booleans()):
        return f"{draw(st.sampled_from([' ' * 30, ' ', '']))}{right}"
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LocalRedirect", "Odd", ""]))
    number = draw(st.sampled_from(["1", " 1", "70000", "4294967296"]))
    left = f"{number}{gap}{front}{protos[0]}{scopes[0]}{gap}{kind}"
    return left + draw(st.sampled_from(["", "  ", gap + right, gap + right, right]))


@st.composite
def listings(draw: st.DrawFn) -> bytes:
    """Lines of one version or two, some of them edited as nobody should, between them what people leave there."""
    others = {"nat": nat_lines(), "services": service_lines(), "ipcache": ipcache_lines(), "maps": maps_lines()}
    others |= {"connections": connection_lines(), "pairs": pair_lines(), "agent": agent_service_lines()}
    layouts = draw(st.lists(st.sampled_from([*Layout, *others, "services", "connections"]), min_size=1, max_size=2))
    found: list[str] = []
    for layout in layouts:
        found += draw(st.lists(lines(layout) if isinstance(layout, Layout) else others[layout], max_size=12))
    for at in draw(st.lists(st.integers(0, max(len(found) - 1, 0)), max_size=4)):
        if found:
            found[at] = edited(draw, found[at])
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", ""]))
    return (end.join(found) + draw(st.sampled_from(["\n", ""]))).encode()


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


@settings(max_examples=100, deadline=None)
@given(pairs(), st.sampled_from([None, *Layout]))
def test_fields_are_the_bytes_that_they_were_made_of(pair: tuple[bytes, bytes], layout: Layout | None) -> None:
    found = agree(("[" + by_fields(*pair, layout) + "\n]\n").encode())
    (table,) = found["tables"].values()
    assert (bytes(table["keys"]), bytes(table["values"])) == pair
    assert table["layout"] is (Layout.V1_15 if layout is Layout.V1_14 else layout or Layout.V1_16)


def test_an_entry_without_its_flags_is_none() -> None:
    """Not one of state "new"."""
    text = by_fields(bytes(12) + bytes((6, 0)), bytes(56), Layout.V1_16).replace('"tx_closing"', '"renamed"')
    found, _spent = read(("[" + text + "\n]\n").encode(), passes=True)
    assert not found["tables"]
    assert found["losses"] == 1


def record(draw: st.DrawFn, key: bytes, value: bytes, layout: Layout, *, raw: bool, named: bool) -> dict[str, object]:
    """A record as ``ct list`` has it; what a source lacks is null."""
    absent = draw(st.sampled_from([frozenset(), frozenset(), frozenset({"backend_id", "nat_port"}), OPTIONAL_FIELDS]))
    name = "cilium_ct4_global" if len(key) == 14 else "cilium_ct6_global"
    entry = decode_entry(key, value, layout, name if named else None, absent=absent)
    now = draw(st.sampled_from([None, 7, 7]))
    return entry_record(entry, layout=layout, clock=Clock(), now=now, raw=raw)


@settings(max_examples=200, deadline=None)
@given(documents())
def test_any_document(text: bytes) -> None:
    agree(text)


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


_NAT_FORMS = ("cilium", "cilium late", "bpftool", "bpftool BTF", "hex", "fields", "nested", "early")


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
    records, form = draw(st.lists(nat_pairs(), max_size=8)), draw(st.sampled_from(_NAT_FORMS))
    text = nat_document(records, form, one_line=draw(st.booleans()))
    return damaged(draw, text), draw(st.sampled_from(["", "cilium_snat_v4_external", "cilium_snat_v6_external.txt"]))


@settings(max_examples=200, deadline=None)
@given(nat_documents())
def test_any_document_of_translations(document: tuple[bytes, str]) -> None:
    agree(*document)


@contextmanager
def counting() -> Iterator[list[int]]:
    """The numbers of rows that passes read inside."""
    taken: list[int] = []
    read_rows = regular.RegularReader.read

    def counted(*words: Any, **named: Any) -> Any:
        rows = read_rows(*words, **named)
        taken.append(len(rows))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regular.RegularReader, "read", counted)
        yield taken


@pytest.mark.parametrize("form", _NAT_FORMS)
@pytest.mark.parametrize("half", [4, 16])
def test_translations_are_read_in_passes(form: str, half: int) -> None:
    tail = bytes(32 + half) + b"\0\x50" + bytes(2 if half == 4 else 6)
    records = [(bytes((n & 255, n >> 8)) + bytes(2 * half + 3) + b"\x06", tail) for n in range(1000)]
    name = "cilium_snat_v6_external"
    with counting() as taken:
        found, _ = read(nat_document(records, form).encode(), passes=True, hint=name)
    assert (len(found["nat"]), found["partial"], found["losses"]) == (1000, [], 0)
    assert sum(taken) > 990


@pytest.mark.parametrize("lacking", ["to_saddr", "to_sport"])
def test_a_translation_without_its_end_is_none(lacking: str) -> None:
    text = nat_document([(bytes(14), bytes(40))], "fields").replace(lacking, "renamed")
    found, _ = read(text.encode(), passes=True, hint="cilium_snat_v4_external")
    assert (found["nat"], found["losses"]) == ([], 1)


def edited(draw: st.DrawFn, line: str) -> str:
    """A line as an editor, a terminal or a hostile file may have it."""
    at = draw(st.integers(0, len(line)))
    return draw(
        st.sampled_from(
            [
                line[:at],
                line[at:],
                "",
                "...",
                "node1: " + line,
                " " + line,
                line.rstrip(),
                line + "\t ",
                line[:at] + draw(st.sampled_from([" ", "0", "-", "é", "\x1b[31m", "\x00", "x"])) + line[at:],
                line.replace("[ ", "[ Unknown=0xf800 "),
                line.replace(" RevNAT=", " RevNAT=0"),
                line.replace("=0x", "=0xFF"),
                line + line,
            ]
        )
    )


@settings(max_examples=400, deadline=None)
@given(listings())
def test_any_listing(text: bytes) -> None:
    agree(text)


#: What tools and people put in front of each line, ``{}`` a number that differs from line to line.
_FRONTS = (
    "node-1: ",
    "2026-11-25T19:14:{}.4Z ",
    "Nov 25 19:14:{} node-1 cilium[{}]: ",
    "pod/cilium-{}x cilium-agent  \t",
    "dump.txt:{}:",
    "{}-",
    "  {}: ",
    "knoten-\u00fc ",
    "<a&b> {} ",
    "> {} ",
    "[pod/x] ",
    "kubectl   exec{} | ",
)


@st.composite
def worded(draw: st.DrawFn) -> bytes:
    """A listing with words in front of its lines, but for some."""
    front, other = draw(st.sampled_from(_FRONTS)), draw(st.sampled_from(_FRONTS))
    text = draw(listings()).decode(errors="replace").split("\n")
    odd = draw(st.lists(st.integers(0, len(text)), max_size=2))
    ends = [draw(st.sampled_from(["", front.strip(), other])) if at in odd else front for at in range(len(text))]
    first = draw(st.integers(0, 99))
    return "\n".join(
        end.replace("{}", str(first + at)) + line for at, (end, line) in enumerate(zip(ends, text, strict=True))
    ).encode()


@settings(max_examples=400, deadline=None)
@given(worded())
def test_any_listing_behind_words(text: bytes) -> None:
    agree(text)


def test_lines_behind_words_are_read_in_passes() -> None:
    plain = (DATA / "samples/cilium-dbg-1.16.4/ct-list-global.txt").read_bytes()
    whole = read(plain, passes=True)[0]["tables"]
    for front in (b"node-1: ", b"2026-11-25T19:14:%d.4Z pod-%d/cilium ", b"dump.txt:%d:", b"Nov 25 19:14:%d n-%d: "):
        text = b"".join(front.replace(b"%d", b"%d" % at) + line + b"\n" for at, line in enumerate(plain.splitlines()))
        taken = Counter[type]()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CtRuns, "add_rows", partialmethod(_counted, CtRuns.add_rows, taken))
            assert read(text, passes=True)[0]["tables"] == whole, front
        assert taken[CtRuns] > sum(len(table["values"]) for table in whole.values()) // 56 // 2, front


def test_a_document_of_one_long_line() -> None:
    """``bpftool -j`` writes all of a table in one line."""
    element = {"key": ["0x00"] * 13 + ["0x01"], "value": ["0x07"] * 56}
    many = [
        {**element, "key": [f"0x{number >> 8:02x}", f"0x{number & 255:02x}", *element["key"][2:]]}
        for number in range(4000)
    ]
    found = agree(json.dumps(many, separators=(",", ":")).encode())
    assert len(found["tables"]["cilium_ct_any4_global"]["values"]) == 4000 * 56
    assert not found["partial"]


def test_an_endless_line_is_left_out() -> None:
    found = agree(b"[" + b"x" * (1 << 21) + b"\n" + LISTINGS[0].read_bytes())
    assert found["partial"][0] == "1 line(s) of more than 1 MiB: not read" or found["tables"]


def test_passes_take_what_is_regular() -> None:
    """What the tests above compare is not the same way twice: most records of each form are read in passes."""
    with counting() as taken:
        for form in (
            "cilium-dbg-1.16.4/ct-list-global.txt",
            "cilium-dbg-1.16.4/ct-list-global.json",
            "bpftool/no-btf/cilium_ct4_global.txt",
            "bpftool/no-btf/cilium_ct4_global.j.json",
            "bpftool/btf-1.16/cilium_ct4_global.p.json",
            "bpftool/btf-1.16/cilium_ct4_global.txt",
            "cilium-dbg-1.16.4/ct-list-global.yaml",
        ):
            taken.clear()
            found, _ = read((DATA / "samples" / form).read_bytes(), passes=True)
            count = sum(len(table["values"]) // 56 for table in found["tables"].values())
            assert sum(taken) > count / 2, form


_RUNS: tuple[Any, ...] = (CtRuns, NatRuns, ServiceRuns, IpcacheRuns, MapsRuns, ConntrackRuns)
_RUNS += (EndpointRuns, BackendRuns, RevNatRuns, AgentServiceRuns)


def test_a_pass_takes_the_lines() -> None:
    """What the tests above compare is not the same way twice."""
    taken = Counter[type]()
    with pytest.MonkeyPatch.context() as patch:
        for kind in _RUNS:
            patch.setattr(kind, "add_rows", partialmethod(_counted, kind.add_rows, taken))
        for path in LISTINGS:
            read(path.read_bytes(), passes=True)
        for name in captures.NAMES:
            head, *rest = captures.text(name, "cmd/service-list.txt").splitlines(keepends=True)
            many = "".join([head, *rest * 30])  # as wide as each other: whether they were broken takes some to tell
            assert len(read(many.encode(), passes=True)[0]["listings"].services) > 30 * len(rest)
        row = "{:<32}10.61.1.102:8000/TCP (18) (1)".format
        aligned = "".join(f"{row(f'10.96.{n >> 8}.{n & 255}:80/TCP (1)'):<76}\n" for n in range(1000))
        assert len(read(aligned.encode(), passes=True)[0]["listings"].services) == 1000
    assert taken[CtRuns] > 1000
    assert taken[NatRuns] > 1000
    assert taken[ServiceRuns] > 500
    assert taken[IpcacheRuns] > 20
    assert taken[MapsRuns] > 3
    assert taken[ConntrackRuns] > 3
    assert taken[EndpointRuns] > 3
    assert taken[BackendRuns] > 100
    assert taken[RevNatRuns] > 50
    assert taken[AgentServiceRuns] > 50


def test_what_another_thread_reads_is_apart() -> None:
    """Rows that a pass has read stay, while a listing of the same form is read beside it: a server has many threads."""
    text = (DATA / "samples/cilium-dbg-1.16.4/ct-list-global.txt").read_bytes()
    first, _, rest = text.partition(b"\n")
    alone, _ = read(text, passes=True)
    beside: list[threading.Thread] = []
    add_rows = CtRuns.add_rows

    def slow(listing: CtRuns, rows: Any) -> None:
        if not beside:
            beside.append(threading.Thread(target=read_content, args=(io.BytesIO(rest + b"\n" + first), Dump())))
            beside[0].start()
            beside[0].join(PATIENCE_S)
            assert not beside[0].is_alive()
        add_rows(listing, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CtRuns, "add_rows", slow)
        found, _ = read(text, passes=True)
    assert beside
    assert found == alone


def _counted(listing: Any, add_rows: Callable[..., None], taken: Counter[type], rows: Any) -> None:
    taken[type(listing)] += len(rows)
    add_rows(listing, rows)
