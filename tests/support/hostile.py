"""Files that are small and mean harm: each would take minutes, gigabytes or a stack without limits in its reader.

``files()`` makes them anew, the same bytes every time: what a reader must end soon, in one line, is a kind and no
file. Names say what is in them.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

CT = (
    "TCP OUT 10.1.{a}.{b}:{p} -> 10.0.0.1:80 expires=12345 Packets=5 Bytes=10 RxFlagsSeen=0x1b LastRxReport=1 "
    "TxFlagsSeen=0x1b LastTxReport=1 Flags=0x0013 [ RxClosing ] RevNAT=1 SourceSecurityID={p} IfIndex=0 "
    "BackendID={p} \n"
)
LINES = {
    "ct": CT,
    "ct-svc": CT.replace("OUT", "SVC"),
    "ct-in": CT.replace("OUT", "IN").replace("10.0.0.1:80", "10.{b}.{a}.1:{p}"),
    "nat": "TCP OUT 10.1.{a}.{b}:{p} -> 10.0.0.1:80 XLATE_SRC 192.168.0.1:{p} Created=72sec ago NeedsCT=0\n",
    "nat-6": "TCP OUT [fd00::{a}:{b}]:{p} -> [fd01::1]:80 XLATE_SRC [fd02::1]:{p} Created=72sec ago NeedsCT=0\n",
    "ipcache": "10.1.{a}.{b}/32     identity={p} encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>\n",
    "lb": "10.96.{a}.{b}:80 (1)     10.1.{a}.{b}:{p} ({p}) (1)\n",
    "lb-missing": "10.96.{a}.{b}:80 (1)     backend {p} not found\n",
    "backends": "{p}     TCP://10.1.{a}.{b}\n",
    "revnat": "{p}     10.96.{a}.{b}:80\n",
    "endpoints": "10.1.{a}.{b}:0     id={p}  sec_id=5 flags=0x0000 ifindex=5  mac=00:00:00:00:00:01 "
    "nodemac=00:00:00:00:00:02\n",
    "conntrack": "tcp      6 117 SYN_SENT src=10.1.{a}.{b} dst=1.2.3.4 sport={p} dport=80 [UNREPLIED] "
    "src=1.2.3.4 dst=10.1.1.1 sport=80 dport={p} mark=0 use=1\n",
    "maps-dump": "SVC: ID={p} ADDR=10.96.{a}.{b}:80/TCP SLOT=1 BEID={p} COUNT=0 QCOUNT=0 FLAGS=ClusterIP\n",
    "maglev": "[{p}]/v4     [1 2 3 4 5 6 7 8 9]\n",
    "services": "{p}     10.96.{a}.{b}:80     ClusterIP     1 => 10.1.{a}.{b}:80 (active)\n",
    "own": '{{"schema": "ctctl/ct-entry/v1", "map": "cilium_ct4_global", "proto": 6, "src": "10.1.{a}.{b}", '
    '"src_port": {p}, "dst": "1.2.3.4", "dst_port": 80, "tuple_flags": 0, "flags": 0, "lifetime": 9, "rev_nat": 0, '
    '"src_sec_id": 0, "tx_flags_seen": 0, "rx_flags_seen": 0, "last_tx_report": 0, "last_rx_report": 0}}\n',
    "talk": "a{p}\n",
    "arrows": "TCP OUT 1.1.1.1:1 -> x{p}\n",
    "damaged": "TCP OUT 10.1.{a}.{b}:{p} -> 10.0.0.1:80 expires=1 Flags\n",
    "errors": "Error: {p}\n",
    "objects": '{{"a": {p}}}\n',
    "arrays": '[{{"a": {p}}}]\n',
    "yaml": "- Key:\n    a: {p}\n",
    "hex": "key: 01 02 03 04  value: 05 06\n",
    "found": "Found {p} elements\n",
    "names": "cilium_ct4_global_{p}\n",
    "monitor": "-> endpoint {p} flow 0x1 , identity 1->2 state new ifindex lxc1 orig-ip 1.1.1.1: 10.1.{a}.{b}:{p} -> "
    "1.2.3.4:80 tcp SYN\n",
}


def lines(form: str, count: int, *, same: bool = False) -> bytes:
    """So many lines of a listing, all different or all the same."""
    line = LINES[form]
    if same:
        return line.format(a=1, b=2, p=3).encode() * count
    return "".join(line.format(a=n >> 8 & 255, b=n & 255, p=n % 65000 + 1) for n in range(count)).encode()


def files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and what makes the bytes of each."""
    for form in LINES:
        yield f"{form}-different.xz", lambda form=form: _xz(lines(form, 60_000))  # type: ignore[misc]
        yield f"{form}-same.gz", lambda form=form: gzip.compress(lines(form, 150_000, same=True), 9, mtime=0)  # type: ignore[misc]
    for form in ("ct", "nat", "talk"):
        yield (
            f"{form}-same-twice.gz.gz",
            lambda form=form: gzip.compress(  # type: ignore[misc]
                gzip.compress(lines(form, 400_000, same=True), 9, mtime=0), 9, mtime=0
            ),
        )
    for name, way in _DRESSED.items():
        yield f"{name}.xz", lambda way=way: _xz("".join(map(way, _entries(40_000))).encode())  # type: ignore[misc]
    yield from _DOCUMENTS.items()
    yield from _WRAPPED.items()
    yield from _ARCHIVES.items()
    yield from _BYTES.items()
    yield from _DEAR.items()


def _entries(count: int) -> list[str]:
    return lines("ct", count).decode().splitlines()


#: What mails, pages, editors and terminals make of a line: each costs something to turn back.
_DRESSED: dict[str, Callable[[str], str]] = {
    "words-wrapped": lambda line: line.replace(" expires=", "\n expires=") + "\n",
    "every-word-wrapped": lambda line: line.replace(" ", "\n") + "\n",
    "quoted-printable": lambda line: line.replace("=", "=3D")[:71] + "=\n" + line.replace("=", "=3D")[71:] + "\n",
    "ends-written": lambda line: f"b'{line}\\n{line}'\n",
    "ends-shown": lambda line: f"{line}$\n",
    "colours-shown": lambda line: f"^[[31m{line}^[[0m\n",
    "colours-many": lambda line: "[m" * 100 + f"{line}\n",
    "tags": lambda line: "<" * 100 + "a>" * 20 + f"{line}\n",
    "page-arrows": lambda line: f"<td>{line.replace('->', '&rarr;')}</td>\n{line.replace('->', chr(0x2192))}\n",
    "box": lambda line: f"| {line.replace(' ', ' | ')} |\n",
    "machines": lambda line: f"==> {line.split()[2]}.txt <==\n{line}\n",
    "prompts": lambda line: f"root@n{line.split()[2].replace(':', '-')}:~# cilium bpf ct list global\n{line}\n",
    "words-in-front": lambda line: f"n{line.split()[2].replace(':', '-')} | {line}\n",
}


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=1)


def _zip(members: Iterator[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    spool = io.BytesIO()
    with zipfile.ZipFile(spool, "w", method) as packed:
        for name, data in members:
            packed.writestr(name, data)
    return spool.getvalue()


def _tar(members: Iterator[tuple[str, bytes]], mode: str = "w:gz") -> bytes:
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode=mode) as packed:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return spool.getvalue()


def _nested(depth: int) -> bytes:
    data = lines("ct", 10)
    for level in range(depth):
        data = _zip(iter([(f"{level}.zip", data)])) if level % 2 else _tar(iter([(f"{level}.tgz", data)]))
    return data


def _quine_like(copies: int) -> bytes:
    """Archives of archives of the same archive: each level so many times the one below."""
    data = lines("ct", 200)
    for _ in range(3):
        data = _zip((f"{n}.zip", data) for n in range(copies))
    return data


_BIG_YAML = "items:\n" + "".join(
    f"- {{kind: Pod, metadata: {{name: p{n}}}, status: {{podIP: 10.0.0.1}}}}\n" for n in range(80)
)
_DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "deep-array.json": lambda: b"[" * 300_000,
    "deep-object.json": lambda: b'{"a":' * 300_000,
    "deep-closed.json": lambda: b"[" * 100_000 + b"]" * 100_000,
    "numbers.json": lambda: b"[" + b",".join(b"9" * 4000 for _ in range(200)) + b"]",
    "long-number.txt": lambda: b"TCP OUT 1.1.1.1:1 -> 2.2.2.2:2 expires=" + b"9" * 900_000 + b"\n",
    "long-line.txt": lambda: CT.format(a=1, b=2, p=3).encode().rstrip() + b"A" * 900_000 + b"\n",
    "long-line-arrows.txt": lambda: b"TCP OUT 1.1.1.1:1 -> " * 50_000 + b"\n",
    "long-line-spaces.txt": lambda: b"TCP OUT 1.1.1.1:1" + b" " * 900_000 + b"-> 2.2.2.2:2 expires=1\n",
    "long-lines-fields.txt": lambda: (b"TCP OUT 1.1.1.1:1 -> 2.2.2.2:2 expires=1 " + b"Flags=1 " * 100_000 + b"\n") * 3,
    "long-lines-hex.txt": lambda: (b"key: " + b"0a " * 200_000 + b"\n") * 3,
    "quotes.txt": lambda: b"> " * 400_000 + b"\n",
    "escapes.txt": lambda: b"\x1b[" + b"1;" * 400_000 + b"\n",
    "escapes-many.txt": lambda: b"\x1b[0m" * 200_000 + b"\n",
    "empty-objects.json.gz": lambda: gzip.compress(b"[" + b"{}," * 2_000_000 + b"{}]", 9, mtime=0),
    "empty-arrays.json.gz": lambda: gzip.compress(b'{"a": [' + b"[]," * 2_000_000 + b"[]]}", 9, mtime=0),
    "ints.json.gz": lambda: gzip.compress(b"[" + b"1," * 3_000_000 + b"1]", 9, mtime=0),
    "keys.json.xz": lambda: _xz(
        b'{"10.96.0.1:80 (0)": ["x"], ' + b",".join(b'"%d":[]' % n for n in range(700_000)) + b"}"
    ),
    "keys-cut.json.xz": lambda: _xz(
        b'{"10.96.0.1:80 (0)": ["10.1.1.1:80 (1) (0)"], ' + b",".join(b'"%d":[]' % n for n in range(700_000))
    ),
    "own-entries.json.gz": lambda: gzip.compress(
        b'{"schema": "ctctl/ct-entry/v1", "entries": [' + b"{}," * 900_000, 9, mtime=0
    ),
    "bpftool.json.gz": lambda: gzip.compress(
        b"[" + b'{"key":["0x01"],"value":["0x02"]},' * 300_000 + b"{}]", 9, mtime=0
    ),
    "bpftool-hex-array.json.gz": lambda: gzip.compress(b'[{"key":[' + b'"0x01",' * 700_000 + b"]}]", 9, mtime=0),
    "ct.json.gz": lambda: gzip.compress(
        b"[" + b",".join([json.dumps(_CT_RECORD).encode()] * 40_000) + b"]", 9, mtime=0
    ),
    "nat.json.gz": lambda: gzip.compress(
        b"[" + b",".join([json.dumps(_NAT_RECORD).encode()] * 60_000) + b"]", 9, mtime=0
    ),
    "anchors.yaml": lambda: (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 110))
    ),
    "merges.yaml": lambda: (
        b"a: &a {k0: v, k1: v, k2: v}\n"
        + b"".join(b"%c: &%c {<<: [%s]}\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 110))
    ),
    "ct-anchors.yaml": lambda: b"- Key: &a\n    TupleKey4: *a\n  Value: *a\n" * 2000,
    "flow.yaml": lambda: b"- Key: {a: " + b"[" * 900 + b"]" * 900 + b"}\n",
    "pods.yaml.gz": lambda: gzip.compress(_BIG_YAML.encode() * 200, 9, mtime=0),
    "config-map.yaml.gz": lambda: gzip.compress(b"  bpf-ct-global-tcp-max: 9\n" * 200_000, 9, mtime=0),
    "own.yaml.gz": lambda: gzip.compress(b"schema: ctctl/ct-entry/v1\nentries:\n" + b"- a: 1\n" * 400_000, 9, mtime=0),
    "utf16.txt": lambda: b"\xff\xfe" + ("TCP OUT 1.1.1.1:1 -> " * 20_000).encode("utf-16-le"),
    "nuls.txt": lambda: bytes(4 << 20),
    "newlines.gz": lambda: gzip.compress(b"\n" * (8 << 20), 9, mtime=0),
    "spaces.gz": lambda: gzip.compress((b" " * 1000 + b"\n") * 8000, 9, mtime=0),
    "hubble.jsonl.gz": lambda: gzip.compress(
        b'{"flow":{"verdict":"DROPPED","IP":{"source":"1.1.1.1"}}}\n' * 90_000, 9, mtime=0
    ),
}
#: Ways of wrapping a listing: pages, documents around rows, ctctl's own tables.
_PAGE = b"<!DOCTYPE html><html>"
_ROW = "6,IN,10.1.{a}.{b}:{p},10.0.0.1:80,new,,5,{p}\n"
_WRAPPED: dict[str, Callable[[], bytes]] = {
    "page-tags.html.gz": lambda: gzip.compress(_PAGE + b"<b>" * 2_000_000, 9, mtime=0),
    "page-rows.html.gz": lambda: gzip.compress(_PAGE + b"<tr><td>x</td></tr>" * 300_000, 9, mtime=0),
    "page-open-tags.html": lambda: _PAGE + b'<a b="' * 150_000,
    "page-open-comments.html": lambda: _PAGE + b"<!--" * 250_000,
    "page-scripts.html": lambda: _PAGE + b"<script>" * 100_000,
    "page-points.html": lambda: _PAGE + b"<" * 900_000,
    "page-characters.html.gz": lambda: gzip.compress(_PAGE + b"&gt;&#62;" * 500_000, 9, mtime=0),
    "page-half-characters.html": lambda: _PAGE + b"&gt" * 300_000,
    "page-ct.html.xz": lambda: _xz(
        _PAGE + b"".join(b"<div>%s</div>" % line.replace(b">", b"&gt;") for line in lines("ct", 30_000).splitlines())
    ),
    "items-empty.json.gz": lambda: gzip.compress(
        b'{"items": [' + json.dumps(_CT_RECORD).encode() + b'], "more": [' + b"{}," * 2_000_000 + b"{}]}", 9, mtime=0
    ),
    "items-members.json.gz": lambda: gzip.compress(
        b'{"items": [' + json.dumps(_CT_RECORD).encode() + b"]" + b',"a":[]' * 1_500_000 + b"}", 9, mtime=0
    ),
    "items-lists.json.gz": lambda: gzip.compress(
        b'{"a": [' + b",".join([b"[" + json.dumps(_CT_RECORD).encode() + b"]"] * 30_000) + b"]}", 9, mtime=0
    ),
    "items-ct.json.gz": lambda: gzip.compress(
        b'{"items": [' + b",".join([json.dumps(_CT_RECORD).encode()] * 40_000) + b"]}", 9, mtime=0
    ),
    "items-deep.json": lambda: b'{"items": [' + json.dumps(_CT_RECORD).encode() + b'], "more": ' + b"[" * 300_000,
    "items-starts.json": lambda: b'{"a": [{"a": ' * 60_000,
    "texts.json.gz": lambda: gzip.compress(
        b'{"a": [' + b",".join([json.dumps(f"x\n{lines('ct', 1).decode()}").encode()] * 30_000) + b"]}", 9, mtime=0
    ),
    "loki.json.xz": lambda: _xz(
        json.dumps(
            {"r": [{"node": f"n{n}", "values": [["1", line]]} for n, line in enumerate(_entries(20_000))]}
        ).encode()
    ),
    "curly.json.xz": lambda: _xz(json.dumps([_CT_RECORD] * 8000, indent=1).replace('"', chr(0x201C)).encode()),
    "own-rows.csv.xz": lambda: _xz(
        b"proto,direction,source,destination,state,flag_names,lifetime,src_sec_id\n"
        + "".join(_ROW.format(a=n >> 8 & 255, b=n & 255, p=n % 65000 + 1) for n in range(60_000)).encode()
    ),
    "own-titles.csv.gz": lambda: gzip.compress(b"proto,direction,source,destination\n" * 200_000, 9, mtime=0),
    "own-nodes.jsonl.xz": lambda: _xz(
        "".join(
            LINES["own"].format(a=1, b=2, p=3).replace('"proto"', f'"node": "n{n}", "proto"') for n in range(20_000)
        ).encode()
    ),
}
_ADDRESSES = {"DestAddr": [1, 2, 3, 4], "SourceAddr": [5, 6, 7, 8]}
_KEY = {**_ADDRESSES, "DestPort": 1, "SourcePort": 2, "NextHeader": 6, "Flags": 0}
_COUNTS = {"Reserved0": 0, "BackendID": 0, "Packets": 1, "Bytes": 1, "Lifetime": 9, "Flags": 0, "RevNAT": 0}
_SEEN = {"TxFlagsSeen": 0, "RxFlagsSeen": 0, "SourceSecurityID": 1, "LastTxReport": 1, "LastRxReport": 1, "IfIndex": 0}
_CT_RECORD = {"Key": _KEY, "Value": {**_COUNTS, **_SEEN}}
_NAT_RECORD = {
    "Key": _KEY,
    "Value": {"Created": 1, "NeedsCT": 0, "Pad1": 0, "Pad2": 0, "Addr": [1, 2, 3, 4], "Port": 9},
}


def _many(count: int, data: bytes) -> Iterator[tuple[str, bytes]]:
    return ((f"cilium-bugtool-cilium-{n}-20260101-000000/cmd/ct-list.md", data) for n in range(count))


def _sparse() -> bytes:
    """A GNU sparse member of a few bytes that claims to be 8 TiB."""
    info = tarfile.TarInfo("ct-list.txt")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"00000000000\0" + b"00000001000\0"
    head[483:495] = b"\x80" + (8 << 40).to_bytes(11, "big")
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(1024)


def _pax() -> bytes:
    record = b"path=" + b"a/" * 500_000 + b"\n"
    size = len(record) + 9
    body = b"%d " % size + record
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    member = tarfile.TarInfo("x")
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512) + member.tobuf() + bytes(1024)


def _overlapping(count: int) -> bytes:
    """A zip whose members are all the same packed bytes."""
    data = lines("ct", 2000, same=True)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(data) + deflate.flush()
    crc = zlib.crc32(data)
    sizes = struct.pack("<III", crc, len(packed), len(data))
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", 1, 0) + b"x" + packed
    entry = (
        b"PK\x01\x02"
        + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0)
        + sizes
        + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0)
    )
    directory = (entry + b"x") * count
    return (
        local + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(local), 0)
    )


_ARCHIVES: dict[str, Callable[[], bytes]] = {
    "zeros.tar.gz": lambda: _tar(iter([("cmd/cilium-dbg-bpf-ct-list-global.md", bytes(200 << 20))])),
    "zeros.bz2": lambda: bz2.compress(bytes(64 << 20)),
    "zeros.xz": lambda: lzma.compress(bytes(256 << 20), preset=0),
    "nested-9": lambda: _nested(9),
    "quine-like.zip": lambda: _quine_like(40),
    "many-empty.zip": lambda: _zip((f"{n}", b"") for n in range(8000)),
    "many-nodes.tar.xz": lambda: _xz(_tar(_many(3000, lines("ct", 1)), "w")),
    "many-nodes-nat.tar.xz": lambda: _xz(_tar(_many(1500, lines("nat", 5)), "w")),
    "many-tiny.tar.xz": lambda: _xz(_tar(((f"{n}.txt", b"x\n") for n in range(40_000)), "w")),
    "many-json.tar.xz": lambda: _xz(_tar(((f"{n}.json", b'{"a": 1}') for n in range(20_000)), "w")),
    "many-folders.zip": lambda: _zip((f"n{n}/ct-{n}.txt", lines("ct", 1)) for n in range(2000)),
    "names.zip": lambda: _zip(
        (name, lines("ct", 2))
        for name in ("../" * 300 + "x", "/etc/passwd", "a\n\x1b[2Jb", "n" * 60_000, "C:\\x", ".", "..")
    ),
    "deep-names.tar.gz": lambda: _tar(iter([("a/" * 20_000 + "x", lines("ct", 2)), ("b/" * 30_000, b"")])),
    "pods.zip": lambda: _zip(iter([("pods.yaml", _BIG_YAML.encode() * 300), ("ct.txt", lines("ct", 2))])),
    "pods-anchors.zip": lambda: _zip(iter([("pods.yaml", _DOCUMENTS["merges.yaml"]()), ("ct.txt", lines("ct", 2))])),
    "members.gz": lambda: gzip.compress(lines("ct", 1), 1, mtime=0) * 20_000,
    "empty-members.gz": lambda: gzip.compress(b"", 1, mtime=0) * 100_000,
    "empty-members.bz2": lambda: bz2.compress(b"") * 100_000,
    "empty-members.xz": lambda: lzma.compress(b"") * 20_000,
    "sparse.tar": _sparse,
    "pax.tar.gz": lambda: gzip.compress(_pax(), 9, mtime=0),
    "overlapping.zip": lambda: _overlapping(3000),
    "local.zip": lambda: _zip((f"{n}", b"x" * 30) for n in range(10_000))[:-400_000],
    "spanned.zip": lambda: b"PK\x05\x06" + bytes(18),
}


def _snapshot(size: int, count: int, copies: int) -> bytes:
    """A snapshot of which every frame claims ``count`` entries and unpacks to ``size`` zeros."""
    from ctctl.tables.sources.snapshot_head import MAGIC

    head = zlib.compress(
        json.dumps({"tables": [{"name": "cilium_ct4_global", "family": 4, "layout": "1.16"}], "listings": {}}).encode()
    )
    payload = zlib.compress(bytes(size), 9)
    frame = struct.pack("<BBHIII", 1, 0, 1, count, len(payload), zlib.crc32(payload)) + payload
    return MAGIC + struct.pack("<HI", 1, len(head)) + head + frame * copies


def _capture(link: int, count: int, packet: bytes) -> bytes:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return out + b"".join(struct.pack("<IIII", n, 0, len(packet), len(packet)) + packet for n in range(count))


_BYTES: dict[str, Callable[[], bytes]] = {
    "snapshot-zeros.ctsnap": lambda: _snapshot(64 << 20, 958_698, 3),
    "snapshot-many.ctsnap": lambda: _snapshot(70 * 1000, 1000, 400),
    "tunnels.pcap": lambda: _capture(1, 800, base64.b16decode("FF" * 12 + "0800") + bytes(40)),
    "empty.pcap": lambda: _capture(1, 60_000, b""),
    "monitor.txt.gz": lambda: gzip.compress(lines("monitor", 100_000, same=True), 9, mtime=0),
}


#: What one of each thing costs most that a reader does: for a line, an element, a label, a name, a packet.
_POLICY = (
    b"Endpoint ID: 5\nPOLICY   DIRECTION   LABELS (source:key[=value])   PORT/PROTO   PROXY PORT   AUTH TYPE   BYTES   "
    b"PACKETS   PREFIX   COOKIE\nAllow    Ingress     k8s:a=b     80/TCP       NONE         disabled    1       2"
    b"         24       1\n"
)
_LABEL = b"                     k8s:app=%b                                    \n"
_COMPACT = b"Jan  1 01:01:01.000: default/a:1 (ID:5) -> default/b:80 (ID:6) to-endpoint FORWARDED (TCP Flags: SYN)\n"
_MONITOR_JSON = (
    b'{"cpu":"CPU 01:","type":"trace","mark":"0x1","state":"new","observationPoint":"to-endpoint",'
    b'"traceSummary":"-> endpoint","source":5,"bytes":66,"summary":{"ethernet":"x","ipv4":"y"}}\n'
)
_ODD_RECORD = {"Key": {**_KEY, "DestAddr": "1.2.3.4"}, "Value": {}}


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _yaml_elements(value: bytes, count: int) -> bytes:
    """A list of one element over and over, each as long as one may be."""
    return _packed((b"- Key:\n    a: " + value + b"\n") * count)


def _logged(line: str, number: int) -> bytes:
    return json.dumps({"log": f"{line}\n", "kubernetes": {"host": f"n{number}"}}).encode() + b"\n"


def _same_packets(count: int) -> bytes:
    capture = _capture(1, 1, b"")
    return _packed(capture[:24] + capture[24:] * count)


_DEAR: dict[str, Callable[[], bytes]] = {
    "labels-open.txt.gz": lambda: _packed(_POLICY + _LABEL % b"x" * 45_000),
    "labels-odd.txt.gz": lambda: _packed(_POLICY + _LABEL % b"~" * 45_000),
    "joined-word.txt": lambda: b"A" * 900_000 + b"\nFlags=1\n",
    "joined-fields.xz": lambda: _xz((b"Flags= " * 14_000 + b"\nFlags=1\n") * 30),
    "blanks-in-front.gz": lambda: _packed((b"\t" * 400 + b"0\n") * 30_000),
    "errors-below.gz": lambda: _packed(lines("ct", 1) + lines("errors", 60_000)),
    "logged-talk.gz": lambda: _packed(b"".join(_logged(f"x{n}", n) for n in range(60_000))),
    "logged-ct.xz": lambda: _xz(b"".join(_logged(line, 1) for line in _entries(20_000))),
    "mail-parts.gz": lambda: _packed(
        b"".join(
            b"--b%d\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n%b\n"
            % (n, base64.b64encode(lines("ct", 1)))
            for n in range(20_000)
        )
    ),
    "names-above.gz": lambda: _packed(b"".join(b"node-%d\n%b" % (n, lines("ct", 1)) for n in range(20_000))),
    "prompts-short.gz": lambda: _packed(b"".join(b"node%d:~# cilium bpf x list\n" % n for n in range(60_000))),
    "elements-nested.json.gz": lambda: _packed(b"[" + b'{"a":[{"a":[{}]}]},' * 200_000 + b"{}]"),
    "elements-odd.json.gz": lambda: _packed(b"[" + b",".join([json.dumps(_ODD_RECORD).encode()] * 90_000) + b"]"),
    "elements-set.yaml.gz": lambda: _yaml_elements(b"{" + b"a," * 30_000 + b"b}", 30),
    "elements-anchors.yaml.gz": lambda: _yaml_elements(b":&a" * 20_000 + b"[", 30),
    "elements-ints.yaml.gz": lambda: _yaml_elements(b"1" + b":59" * 20_000, 30),
    "elements-alone.tar.xz": lambda: _xz(
        _tar(((f"{n}.yaml", b"- Key:\n    a: {" + b"a," * 30_000 + b"b}\n") for n in range(100)), "w")
    ),
    "names-dashes.yaml": lambda: b"kind: Pod\nitems:\n" + b"- " * 15 + b"a\n" + (b"- " * 15 + b"a\n") * 8000,
    "names-flow.yaml": lambda: b"kind: List\nitems: [" + b"[]," * 80_000 + b"]\n",
    "bugtool-names.tar.xz": lambda: _xz(
        _tar(((f"cilium-bugtool-{'a' * 900}{n}/ct.txt", lines("ct", 1)) for n in range(3000)), "w")
    ),
    "deep-folders.tar.xz": lambda: _xz(_tar((("a/" * 450 + f"{n}/ct.txt", lines("ct", 1)) for n in range(3000)), "w")),
    "hubble-compact.gz": lambda: _packed(_COMPACT * 60_000),
    "monitor-json.gz": lambda: _packed(_MONITOR_JSON * 60_000),
    "packets-same.pcap.gz": lambda: _same_packets(500_000),
}
