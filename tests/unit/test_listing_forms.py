"""Listings as people paste them, and those of policy, counters, sockets, tunnels: text, JSON and dumps say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ctctl.decode import services
from ctctl.decode.policy import decode_counter, decode_policy
from ctctl.decode.services import decode_socket_nat, decode_tunnel
from ctctl.errors import CtctlError
from ctctl.model.drops import DatapathCounter, file_name, files_of, reason_name, reason_number
from ctctl.model.entry import Layout
from ctctl.model.policy import PolicyEntry
from ctctl.model.service import ServiceSlot, TunnelRecord
from ctctl.out.tabwriter import align
from ctctl.simulate.carry import backends_of
from ctctl.tables.show import listings as written
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.sources.base import KINDS, Listings, Source, SourceOptions
from ctctl.tables.sources.open import open_source
from ctctl.tables.sources.policy_text import ports_of
from tests.support import captures
from tests.unit.test_formats import case, lines_of, run

FILES = (
    "cli/ct-list-global.txt",
    "cli/nat-list.txt",
    "cli/lb-list.txt",
    "cli/lb-list.frontends.txt",
    "cli/lb-list.backends.txt",
    "cli/lb-list.revnat.txt",
    "cli/lb-list.source-ranges.txt",
    "cli/ipcache-list.txt",
    "cli/endpoint-list.txt",
    "cli/policy-all.txt",
    "cli/tunnel-list.txt",
    "cli/socknat-list.txt",
    "cmd/bpf-metrics-list.txt",
    "cmd/bpf-policy-get-all.txt",
    "cmd/service-list.txt",
)


def read(path: Path, text: str | bytes) -> Source:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(str(path), SourceOptions())


def said(source: Source) -> dict[str, list[Any]]:
    """Everything a source shows, in no order."""
    found = source.listings(None)
    whole: dict[str, list[Any]] = {kind: sorted(map(repr, getattr(found, kind))) for kind in KINDS}
    for table in source.tables:
        whole[table.name] = sorted(
            bytes(k) + bytes(v) for keys, values in table.read() for k, v in zip(keys, values, strict=True)
        )
    return {name: rows for name, rows in whole.items() if rows}


#: The oldest form, and one that has every listing.
CAPTURES = ("cilium-1.14-snat-node1", "cilium-1.19-snat-node1")


@cache
def listed() -> dict[str, str]:
    return {
        f"{name} {file}": captures.text(name, file)
        for name in CAPTURES
        for file in FILES
        if file in captures.files(name)
    }


def _before(prefix: Callable[[int], str]) -> Callable[[str], str]:
    return lambda text: "".join(prefix(n) + line for n, line in enumerate(text.splitlines(keepends=True)))


def _broken(width: int) -> Callable[[str], str]:
    def broken(text: str) -> str:
        lines = text.splitlines()
        return "\n".join(line[at : at + width] for line in lines for at in range(0, len(line) or 1, width)) + "\n"

    return broken


FORMS: dict[str, Callable[[str], str]] = {
    "ends of lines of another system": lambda text: text.replace("\n", "\r\n"),
    "tabs between columns": lambda text: re.sub(" {3,}", "\t", text),
    "one blank between columns": lambda text: re.sub(" +", " ", text),
    "wide columns": lambda text: re.sub(" {3,}", " " * 12, text),
    "colours": _before(lambda _n: "\x1b[1;32m"),
    "quoted": _before(lambda _n: "> "),
    "in a chat": lambda text: f"Hi, this is from node-7:\n\n```text\n{text}```\n\nany idea?\n",
    "kubectl logs --prefix": _before(lambda _n: "[pod/cilium-7xk2p/cilium-agent] "),
    "stern": _before(lambda _n: "cilium-7xk2p cilium-agent "),
    "a name in front": _before(lambda _n: "node1: "),
    "times in front": _before(lambda n: f"2026-11-25T19:14:{n % 60:02d}.40{n % 10}123Z "),
    "kubectl exec": lambda text: (
        "$ kubectl -n kube-system exec ds/cilium -- cilium-dbg bpf list\n"
        'Defaulted container "cilium-agent" out of: cilium-agent, config (init)\n'
        f"{text}command terminated with exit code 0\n$ \n"
    ),
    "sudo": lambda text: f"[sudo] password for ops: \n{text}",
    "a system's log": _before(lambda n: f"Nov 25 19:14:{n % 60:02d} node1 cilium-agent[1234]: "),
    "a container's log": _before(lambda n: f"2026-11-25T19:14:{n % 60:02d}.402123456+00:00 stdout F "),
    "a log of objects": lambda text: "".join(
        json.dumps({"log": line + "\n", "stream": "stdout"}) + "\n" for line in text.splitlines()
    ),
    "what a tool reports": lambda text: json.dumps({"changed": True, "rc": 0, "stdout": text}),
    "lines that a tool reports": lambda text: json.dumps({"stdout_lines": text.splitlines()}, indent=4),
    "numbered by grep": _before(lambda n: f"{n + 1}:"),
    "named by grep": _before(lambda _n: "ct-list.txt:"),
    "named and numbered by grep": _before(lambda n: f"dump/1.txt{'-' if n % 5 == 2 else ':'}{n + 1}:"),
    "numbered by cat": _before(lambda n: f"{n + 1:6d}\t"),
    "found by a coloured grep": lambda text: text.replace("10.61", "\x1b[01;31m\x1b[K10.61\x1b[m\x1b[K"),
    "a window's title": _before(lambda _n: "\x1b]0;node1\x07\x1b(B"),
    "a page's text": lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    "a page": lambda text: f"<details><summary>list</summary>\n<pre><code>{text}</code></pre>\n</details>\n",
    "a ticket": lambda text: f"{{noformat}}\n{text}{{noformat}}\n",
    "blanks that do not break": lambda text: text.replace(" ", "\u00a0"),
    "blanks without width": _before(lambda _n: "\u200b"),
    "code, line by line": lambda text: "".join(f"`{line}`\n" for line in text.splitlines()),
    "strings, line by line": lambda text: "".join(f"{json.dumps(line)},\n" for line in text.splitlines()),
    "in quotes": lambda text: f"\u201c{text}\u201d\n",
    "ends of lines of an old system": lambda text: text.replace("\n", "\r"),
    "a terminal's recording": lambda text: (
        "Script started on 2026-11-25\n\x1b[?2004hroot@n:~# \x1b[?2004lcilium bpf list\r\r\n"
        + text.replace("\n", "\r\n")
        + "\x1b[?2004hroot@n:~# exit\r\n\nScript done on 2026-11-25\n"
    ),
    "PowerShell": lambda text: "PS C:\\> kubectl exec ds/cilium -- cilium bpf list\n" + text + "PS C:\\> \n",
    "a pager": lambda text: text.replace("\n", "\n--More--\n", 3) + "(END)\n",
    "an empty line after each": lambda text: text.replace("\n", "\n\n"),
    "twice": lambda text: f"$ cilium bpf list\n{text}$ cilium bpf list\n{text}",
    "80 columns": _broken(80),
    "132 columns": _broken(132),
    "80 coloured columns": lambda text: "".join(f"\x1b[0m{line}\x1b[K\n" for line in _broken(80)(text).splitlines()),
}


@pytest.mark.parametrize("form", FORMS)
def test_however_it_was_pasted_it_says_the_same(form: str, tmp_path: Path) -> None:
    for name, text in listed().items():
        whole = said(read(tmp_path / "whole", text))
        source = read(tmp_path / "pasted", FORMS[form](text))
        assert said(source) == whole, f"{name}, {form}"
        assert source.partial == [], f"{name}, {form}"


_DOCUMENTS = ("ct-list-global", "nat-list", "lb-list", "ipcache-list", "endpoint-list")
DRESSED: dict[str, Callable[[str], str | bytes]] = {
    "compact": lambda text: json.dumps(json.loads(text)),
    "quoted": _before(lambda _n: "> "),
    "coloured": lambda text: text.replace('"Key"', '\x1b[34;1m"Key"\x1b[0m').replace(": ", ":\x1b[0;39m "),
    "blanks that do not break": lambda text: text.replace(" ", "\u00a0"),
    "a page": lambda text: f"<pre>\n{text}</pre>\n",
    "an empty line after each": lambda text: text.replace("\n", "\n\n"),
    "PowerShell's encoding": lambda text: text.encode("utf-16"),
    "the same without its mark": lambda text: text.encode("utf-16-le"),
    "and the other way round": lambda text: text.encode("utf-16-be"),
    "twice": lambda text: f"$ list -o json\n{text}\n$ list -o json\n{text}",
    "one by one": lambda text: "\n".join(map(json.dumps, json.loads(text))) if text[0] == "[" else text,
    "one by one, in lines": lambda text: (
        "\n".join(json.dumps(item, indent=2) for item in json.loads(text)) if text[0] == "[" else text
    ),
}


@pytest.mark.parametrize("form", DRESSED)
def test_however_a_document_was_pasted_it_says_the_same(form: str, tmp_path: Path) -> None:
    for capture in CAPTURES:
        for name in _DOCUMENTS:
            text = captures.text(capture, f"cli/{name}.json")
            if form == "blanks that do not break" and name != "ct-list-global":
                continue  # they stand in its strings, too
            whole = said(read(tmp_path / "whole", text))
            source = read(tmp_path / "pasted", DRESSED[form](text))
            assert said(source) == whole, f"{capture} {name}, {form}"
            assert source.partial == [], f"{capture} {name}, {form}"


_FIELDS = (
    "expires=1000 Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=0 TxFlagsSeen=0x02 LastTxReport=100 Flags=0x0010 [ ] "
    "RevNAT=0 SourceSecurityID=3 BackendID=0 "
)


@pytest.mark.parametrize("rest", [_FIELDS, "XLATE_SRC 10.0.0.3:4000 Created=1sec ago NeedsCT=0"])
def test_several_entries_in_one_line_are_said_and_none_is_made_of_them(rest: str, tmp_path: Path) -> None:
    ends = "10.0.0.1:4000 -> 10.0.0.2:80"
    source = read(tmp_path / "joined", f"TCP OUT {ends} {rest} TCP IN {ends} {rest}\nUDP OUT {ends} {rest}\n")
    assert sum(map(len, said(source).values())) == 1
    assert any("no entry" in part for part in source.partial)


def test_a_word_in_front_is_no_protocol(tmp_path: Path) -> None:
    """And what names the file and the line is no part of it: an entry of protocol 0 would be made of ``7:TCP``."""
    line = f"OUT 10.0.0.1:4000 -> 10.0.0.2:80 {_FIELDS}\n"
    (table,) = read(tmp_path / "named", f"7:TCP {line}").tables
    assert table.name == "cilium_ct4_global"
    with pytest.raises(CtctlError, match="no entry"):
        read(tmp_path / "odd", f"TCP- {line}")


def test_a_line_that_is_cut_off_is_said_and_not_believed(tmp_path: Path) -> None:
    for name, text in listed().items():
        rows = text.rstrip("\n").split("\n")
        if len(rows) < 4 or not rows[-1].rstrip():
            continue
        last = rows[-1].rstrip()
        for cut in (len(last) // 3, len(last) // 2, len(last) - 1):
            try:
                source = read(tmp_path / "cut", "\n".join([*rows[:-1], last[:cut]]))
            except CtctlError:
                continue
            whole = said(read(tmp_path / "whole", text))
            wrong = [row for kind, found in said(source).items() for row in found if row not in whole.get(kind, [])]
            shorter = sum(map(len, said(source).values())) < sum(map(len, whole.values()))
            # A last number that is cut short looks like a whole one where nothing stands behind it.
            open_ended = "metrics" in name or "policy" in name or "nat-list" in name or "service-list" in name
            assert not wrong or open_ended, f"{name}: {wrong[:1]}"
            assert not shorter or source.partial or open_ended, name


def test_a_mapped_address_is_of_its_table_where_the_listing_is_whole(tmp_path: Path) -> None:
    def line(ends: str, proto: str = "TCP") -> str:
        return (
            f"{proto} OUT {ends} expires=100 Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=40 TxFlagsSeen=0x00"
            " LastTxReport=0 Flags=0x0000 [ ] RevNAT=0 SourceSecurityID=2 BackendID=0 \n"
        )

    first, any4 = line("10.0.0.1:1 -> 10.0.0.2:80"), line("10.0.0.1:1 -> 10.0.0.2:53", "UDP")
    six, mapped = line("fd00::1:1 -> fd00::2:80"), line("10.0.0.3:1 -> 10.0.0.4:80")
    whole = f"{first}\n{any4}\n{six}{mapped}\n\n"
    counts = {table.name: table.count for table in read(tmp_path / "a", whole).tables if table.count}
    assert counts["cilium_ct6_global"] == 2
    for noise in ("$ cilium bpf ct list global\n", "Defaulted container x\n"):  # what stands around it changes nothing
        around = {
            table.name: table.count for table in read(tmp_path / "b", f"{noise}{whole}{noise}").tables if table.count
        }
        assert around == counts
    # Another order is not the program's: each line is what it shows.
    mixed = {table.name: table.count for table in read(tmp_path / "c", f"{six}{mapped}\n\n{first}\n{any4}\n").tables}
    assert (mixed["cilium_ct4_global"], mixed["cilium_ct6_global"], mixed["cilium_ct_any4_global"]) == (2, 1, 1)


def test_what_a_source_does_not_show_is_unknown_and_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "ct.txt"
    path.write_text(captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt"))
    for words in (
        ("nat", "list"),
        ("lb", "list"),
        ("lb", "list", "--maglev"),
        ("ipcache", "list"),
        ("endpoint", "list"),
    ):
        done = run(*words, "--from", path)
        assert done.returncode == 5
        assert "does not show" in done.stderr
    empty = tmp_path / "lb.txt"
    empty.write_text("SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n")
    done = run("lb", "list", "--from", empty)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


def _pins(capture: str) -> dict[str, dict[bytes, Any]]:
    document = captures.document(capture, "maps.json")
    return {
        item["pin"]: {bytes.fromhex(key): value for key, value in item["entries"] or ()} for item in document["maps"]
    }


@pytest.mark.parametrize("capture", captures.NAMES)
def test_listings_beside_conntrack_are_those_of_the_maps(capture: str, tmp_path: Path) -> None:
    pins = _pins(capture)
    for file, kind in (("cli/tunnel-list.txt", "tunnels"), ("cli/socknat-list.txt", "sockets")):
        if file not in captures.files(capture):
            continue
        decode: Callable[[bytes, bytes], object] = decode_tunnel if kind == "tunnels" else decode_socket_nat
        names = ("cilium_tunnel_map",) if kind == "tunnels" else ("cilium_lb4_reverse_sk", "cilium_lb6_reverse_sk")
        expected = [decode(k, bytes.fromhex(v)) for name in names for k, v in pins.get(name, {}).items()]
        found = getattr(read(tmp_path / "x", captures.text(capture, file)).listings(None), kind)
        assert sorted(map(repr, found)) == sorted(map(repr, expected))
    if "cli/policy-all.txt" in captures.files(capture):
        text = captures.text(capture, "cli/policy-all.txt")
        found = read(tmp_path / "p", text).listings(None).policy
        assert written.policy_lines(found, int(capture[9:11])) == [line.rstrip("\n") for line in text.splitlines()]


def test_rules_by_labels_are_those_by_numbers(tmp_path: Path) -> None:
    head = ["POLICY", "DIRECTION", "LABELS (source:key[=value])", "PORT/PROTO", "PROXY PORT", "AUTH TYPE"]
    head += ["BYTES", "PACKETS", "PREFIX"]
    rows = [
        ("Allow", "Ingress", "reserved:unknown", "ANY", "NONE", "disabled", "0", "0", "0"),
        ("Allow", "Ingress", "reserved:host", "ANY", "NONE", "disabled", "0", "0", "0"),
        ("Deny", "Egress", "k8s:app=web", "80/TCP", "NONE", "spire", "5", "1", "24"),
        ("", "", "k8s:io.kubernetes.pod.namespace=default", "", "", "", "", "", ""),
        ("Allow", "Egress", "1234", "8192-8447/TCP", "15001", "disabled", "-", "-", "16"),
    ]
    labels = (
        "Endpoint ID: 7\nPath: /sys/fs/bpf/tc/globals/cilium_policy_00007\n\n"
        + "\n".join(align([[*head, ""], *([*row, ""] for row in rows)]))
        + "\n"
    )
    rules = read(tmp_path / "x", labels).listings(None).policy
    assert [(r.endpoint_id, r.identity, r.labels, r.deny) for r in rules] == [
        (7, 0, (), False),
        (7, 1, ("reserved:host",), False),
        (7, None, ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"), True),
        (7, 1234, (), False),
    ]
    assert (rules[3].ports, rules[3].proxy_port, rules[3].packets) == ((8192, 8447), 15001, None)
    done = run("policy", "list", "--from", tmp_path / "x", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rules"][2]["labels"] == ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ANY", (0, 0, 0)),
        ("TCP", (6, 0, 0)),
        ("0/TCP", (6, 0, 0)),
        ("80/TCP", (6, 80, 16)),
        ("4096-8191/UDP", (17, 4096, 4)),
        ("0x1000/4/UDP", (17, 4096, 4)),
    ],
)
def test_ports_of_a_rule(text: str, found: tuple[int, int, int]) -> None:
    assert ports_of(text) == found


def test_a_policy_list_as_json(tmp_path: Path) -> None:
    key = {"Prefixlen": 64, "Identity": 9, "TrafficDirection": 1, "Nexthdr": 6, "DestPortNetwork": 0x5000}
    rule = {"ProxyPortNetwork": 0, "Flags": 1, "AuthType": 0, "Packets": 3, "Bytes": 180, "Key": key}
    whole = [{"EndpointID": "7", "Path": "/sys/fs/bpf/tc/globals/cilium_policy_00007", "Content": [rule]}]
    (found,) = read(tmp_path / "x", json.dumps(whole, indent=2)).listings(None).policy
    raw = bytes.fromhex("40000000 09000000 01060050".replace(" ", ""))
    value = (
        bytes.fromhex("0000 01 00 00000000".replace(" ", "")) + (3).to_bytes(8, "little") + (180).to_bytes(8, "little")
    )
    assert found == decode_policy(raw, value, 7, "cilium_policy_00007")
    (one,) = read(tmp_path / "y", json.dumps([rule], indent=2)).listings(None).policy
    assert (one.endpoint_id, one.port, one.deny) == (None, 80, True)


def test_counters_of_every_version(tmp_path: Path) -> None:
    old = json.dumps(
        [{"reason": 133, "description": "Policy denied", "values": {"ingress": {"packets": 2, "bytes": 80}}}]
    )
    new = json.dumps(
        [{"reason": "Policy denied", "direction": "ingress", "packets": 2, "bytes": 80, "line": 5, "file": "bpf_lxc.c"}]
    )
    text = "REASON          DIRECTION   PACKETS   BYTES\nPolicy denied   INGRESS     2         80\n"
    plain = DatapathCounter(133, "ingress", 2, 80)
    assert read(tmp_path / "a", old).listings(None).counters == [plain]
    assert read(tmp_path / "b", text).listings(None).counters == [plain]
    (one,) = read(tmp_path / "c", new).listings(None).counters
    assert (one.reason, one.line, one.place) == (133, 5, "bpf_lxc.c")
    # Per CPU, as bpftool dumps it.
    hexed = (
        "$ bpftool map dump pinned /sys/fs/bpf/tc/globals/cilium_metrics\nkey:\n85 01 05 00 02 00 00 00\n"
        "value (CPU 00): 01 00 00 00 00 00 00 00  28 00 00 00 00 00 00 00\n"
        "value (CPU 01): 01 00 00 00 00 00 00 00  28 00 00 00 00 00 00 00\nFound 1 element\n"
    )
    (raw,) = read(tmp_path / "d", hexed).listings(None).counters
    assert raw == decode_counter(
        bytes.fromhex("8501050002000000"), bytes.fromhex("01000000000000002800000000000000") * 2, 16
    )
    done = run("metrics", "drops", "--from", tmp_path / "c")
    assert "bpf_lxc.c:5" in done.stdout
    assert done.returncode == 0


def test_reasons_have_one_number_whatever_version_spells_them() -> None:
    for number in (*range(3, 16), *range(131, 208)):
        if reason_name(number) != str(number) and number != 134:
            assert reason_number(reason_name(number)) == number
    assert reason_number("LB: No backend slot entry found") == 5
    assert reason_number("206") == 206
    assert reason_number("no reason") is None
    assert DatapathCounter(2, "ingress", 1, 1).dropped  # the agent counts it as a drop too


def test_files_are_named_where_their_numbers_are_certain() -> None:
    assert file_name(112, 17) == "encap.h"
    assert file_name(111, 19) == "encap.h"
    assert files_of(18).get(111) is None
    assert files_of(18, [1, 2, 109, 113]).get(109) == "local_delivery.h"
    assert files_of(18, [1, 2, 112, 115]).get(115) == "nodeport_egress.h"
    assert files_of(None, [109, 110]).get(109) is None


def test_the_bugtool_shows_what_the_live_node_shows() -> None:
    where = ("--from", captures.BUGTOOL)
    sockets = json.loads(run("socknat", "list", *where, "-o", "json").stdout)["sockets"]
    assert [(one["frontend"], one["backend"]) for one in sockets] == [
        ("10.96.0.10:80", "10.61.2.103:8000"),
        ("10.96.0.10:80", "10.61.1.102:8000"),
    ]
    for words in (("policy", "list"), ("metrics", "drops", "--all")):
        done = run(*words, *where, "-o", "json")
        assert done.returncode == 0, done.stderr
    assert run("policy", "get", "tcp 10.61.1.101 > 10.61.1.102:8000", *where).stdout.count("allowed") == 2


def test_nodes_are_a_column_wherever_there_are_several(tmp_path: Path) -> None:
    for number, name in enumerate(("cilium-1.16-snat-node1", "cilium-1.19-snat-node1")):
        for file in ("ct-list-global.txt", "nat-list.txt", "lb-list.txt", "ipcache-list.txt", "endpoint-list.txt"):
            folder = tmp_path / f"host-{'ab'[number]}"
            folder.mkdir(exist_ok=True)
            (folder / file).write_text(captures.text(name, f"cli/{file}"))
    for words in (("nat", "list"), ("lb", "list"), ("ipcache", "list"), ("endpoint", "list"), ("nat", "stats")):
        done = run(*words, "--from", tmp_path, "-o", "jsonl")
        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["node"] for line in done.stdout.splitlines()} == {"host-a", "host-b"}
        one = run(*words, "--from", tmp_path, "--node", "host-b", "-o", "jsonl")
        assert all("node" not in json.loads(line) for line in one.stdout.splitlines())
    assert run("lb", "list", "--from", tmp_path, "-o", "cilium").stdout.count("SERVICE ADDRESS") == 2


def test_what_text_leaves_open_of_a_dsr_entry_the_services_beside_tell(tmp_path: Path) -> None:
    """Half of an IPv6 address, and ports whose bytes some builds turn (NatPort=)."""
    vip = "fd10:96::aa:1"
    half = int.from_bytes(ip_address(vip).packed[8:], "little")
    for port in (31607, 30587):  # as it is, and turned
        line = (
            "TCP OUT fd61::1:50380 -> fd10:61:1::102:8000 expires=13317 Packets=28 Bytes=2622 RxFlagsSeen=0x02"
            " LastRxReport=5316 TxFlagsSeen=0x02 LastTxReport=5316 Flags=0x0080 [ DSRInternal ] RevNAT=0"
            f" SourceSecurityID=10 BackendID={half} NatPort={port} \n"
        )
        (tmp_path / "ct-list.txt").write_text(line)
        (tmp_path / "lb-list.txt").write_text(
            "SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n"
            f"[{vip}]:31607/TCP (0)   [::]:0 (10) (0) [NodePort]\n"
        )
        done = run("ct", "list", "--from", tmp_path, "-o", "json")
        (entry,) = json.loads(done.stdout)["entries"]
        assert (entry["nat_addr"], entry["nat_port"]) == (vip, 31607)
        (tmp_path / "lb-list.txt").unlink()
        (alone,) = json.loads(run("ct", "list", "--from", tmp_path, "-o", "json").stdout)["entries"]
        assert alone["nat_addr"] is None  # half of an address is none


def test_policy_rules_know_their_ranges() -> None:
    rule = PolicyEntry(7, False, 0, 6, 8000, 8, False)
    assert rule.ports == (7936, 8191)


@pytest.mark.parametrize(
    ("number", "file", "layout"),
    [
        ("23", "ct.txt", None),
        ("24", "est-21600.txt", None),
        ("24", "est-8000.txt", None),
        ("34", "line.txt", "1.18"),
        ("35", "ct.txt", None),
        ("37", "svc.txt", None),
        ("37", "svc14.txt", "1.14"),
    ],
)
def test_listings_of_the_cases_are_read_whole(number: str, file: str, layout: str | None) -> None:
    """Every line is an entry, and is written again as it was: what is said of it rests on that."""
    path = case(number) / file
    done = run("ct", "list", "--from", path, "-o", "cilium")
    assert done.returncode == 0, done.stderr
    expected = [re.sub(r" \(remaining: -?\d+ sec\(s\)\)", "", line) for line in lines_of(path)]
    assert sorted(line for line in done.stdout.splitlines() if line) == sorted(expected)
    source = read_case(path)
    assert layout is None or {str(table.layout) for table in source.tables if table.count} == {layout}
    timed = "remaining:" in path.read_text()
    assert all((table.now is not None) == timed for table in source.tables if table.count)


def test_the_node_file_of_a_case_is_no_listing() -> None:
    done = run("ct", "list", "--from", case("33") / "all.yaml")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def read_case(path: Path) -> Source:
    return open_source(str(path), SourceOptions())


BUGTOOL = "cilium-bugtool-20261125-191431.402+0000-UTC-538734475"
RUNTIME = "KEY             VALUE\nAgentLiveness   5288237827658\nUTimeOffset     3507087466796875\n"


def _bugtool(root: Path, files: dict[str, str]) -> Source:
    folder = root / BUGTOOL / "cmd"
    folder.mkdir(parents=True)
    listing = captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt")  # its newest report is of 5255
    for name, text in {"cilium-dbg-bpf-ct-list-global.md": listing, **files}.items():
        (folder / name).write_text(text)
    return open_source(str(root), SourceOptions())


def test_the_time_by_the_agents_sign_of_life_and_the_date_in_the_name(tmp_path: Path) -> None:
    source = _bugtool(tmp_path / "a", {"cilium-dbg-bpf-config-list.md": RUNTIME})
    assert {table.now for table in source.tables if table.count} == {5288}
    assert any("the date in its name" in detail and "AgentLiveness" in detail for detail in source.details)
    as_json = json.dumps([{"Key": "AgentLiveness", "Value": 5288237827658}], indent=2)
    assert {t.now for t in _bugtool(tmp_path / "b", {"config.json": as_json}).tables if t.count} == {5288}
    assert {t.now for t in _bugtool(tmp_path / "c", {"proc-uptime": "5290.12 9000.00\n"}).tables if t.count} == {5290}


def test_files_that_contradict_each_other_tell_no_time(tmp_path: Path) -> None:
    source = _bugtool(tmp_path / "a", {"config.md": RUNTIME.replace("5288237827658", "9288237827658")})
    assert {table.now for table in source.tables} == {None}
    assert any("contradict each other" in note for note in source.notes)
    # An agent that had stopped before the newest report says nothing.
    stopped = "KEY   VALUE\nAgentLiveness   1000000000000\n"
    source = _bugtool(tmp_path / "b", {"config.md": stopped})
    assert {table.now for table in source.tables} == {None}
    assert any("AgentLiveness" in note for note in source.notes)


def test_uptime_is_a_bound_of_a_minute(tmp_path: Path) -> None:
    source = _bugtool(tmp_path / "a", {"uptime.md": " 19:14:31 up  1:28,  0 user,  load average: 0.1, 0.2, 0.3\n"})
    assert {table.now for table in source.tables} == {None}
    assert any("between 5280 and" in note for note in source.notes)


def test_names_of_a_sysdump_are_its_own(tmp_path: Path) -> None:
    """Kubernetes objects beside the listings, with both families; what names nothing of them is not parsed."""
    (tmp_path / "ct-list.txt").write_text(captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt"))
    pods = (
        "apiVersion: v1\nkind: PodList\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: client\n"
        "    namespace: shop\n    managedFields:\n    - manager: x\n      fieldsV1:\n        f:a: {}\n  spec:\n"
        "    containers:\n    - name: a\n      image: b\n  status:\n    phase: Running\n    podIP: 10.61.1.101\n"
        "    podIPs:\n    - ip: 10.61.1.101\n    - ip: fd10:61:1::101\n"
    )
    (tmp_path / "k8s-pods-20261125-191431.yaml").write_text(pods)
    service = {
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"clusterIPs": ["10.96.0.10", "fd10:96::10"], "ports": [{"port": 80, "protocol": "TCP"}]},
    }
    (tmp_path / "k8s-services-20261125-191431.json").write_text(json.dumps({"kind": "ServiceList", "items": [service]}))
    by_name = json.loads(run("ct", "list", "--from", tmp_path, "--ip", "shop/client", "-o", "json").stdout)["entries"]
    words = ("--ip", "10.61.1.101", "--ip", "fd10:61:1::101")
    by_address = json.loads(run("ct", "list", "--from", tmp_path, *words, "-o", "json").stdout)["entries"]
    assert by_name == by_address != []
    assert {e["src_name"] for e in by_name if e["src"] == "fd10:61:1::101"} == {"shop/client"}
    to_service = json.loads(run("ct", "list", "--from", tmp_path, "--to-ip", "shop/web", "-o", "json").stdout)[
        "entries"
    ]
    assert {e["dst"] for e in to_service} <= {"10.96.0.10", "fd10:96::10"}
    assert to_service
    wrong = run("ct", "list", "--from", tmp_path, "--ip", "shop/cliemt")
    assert (wrong.returncode, "did you mean 'shop/client'" in wrong.stderr) == (2, True)
    scrub = run("gc", "--endpoint", "client", "--dry-run", "--from", tmp_path, "--now", "5300", "-o", "json")
    assert json.loads(scrub.stdout)["selected"] == len(by_name)


def _records(capture: str) -> Any:
    """Everything a captured node has, decoded from its maps."""
    found = Listings()
    kinds: list[tuple[str, str, Callable[[bytes, bytes], Any]]] = [
        ("services", "cilium_lb4_services_v2", services.decode_service),
        ("services", "cilium_lb6_services_v2", services.decode_service),
        ("backends", "cilium_lb4_backends_v3", services.decode_backend),
        ("backends", "cilium_lb6_backends_v3", services.decode_backend),
        ("rev_nats", "cilium_lb4_reverse_nat", services.decode_rev_nat),
        ("ipcache", "cilium_ipcache_v2", services.decode_ipcache),
        ("endpoints", "cilium_lxc", services.decode_endpoint),
        ("sockets", "cilium_lb4_reverse_sk", decode_socket_nat),
    ]
    pins = _pins(capture)
    for kind, name, decode in kinds:
        getattr(found, kind).extend(decode(k, bytes.fromhex(v)) for k, v in pins.get(name, {}).items())
    rules = [
        PolicyEntry(59, False, 0, 0, 0, 0, False, map="cilium_policy_00059", packets=3, bytes=180),
        PolicyEntry(59, True, 9, 6, 443, 16, True, map="cilium_policy_00059", prefix_bits=24, packets=0, bytes=0),
        PolicyEntry(59, True, 1, 17, 0, 0, False, map="cilium_policy_00059", prefix_bits=8, packets=0, bytes=0),
        PolicyEntry(
            59, True, 2, 6, 8192, 8, False, 15001, map="cilium_policy_00059", prefix_bits=16, packets=1, bytes=9
        ),
    ]
    found.policy.extend(rules)
    found.counters.extend(
        DatapathCounter(reason, way, reason, 10 * reason, 7, 1)
        for reason in (0, 2, 3, 5, 14, 133, 151, 181, 203, 205)
        for way in ("ingress", "egress")
    )
    found.tunnels.append(TunnelRecord(ip_address("10.61.2.0"), ip_address("192.168.61.12"), 0))
    return found


@pytest.mark.parametrize("minor", range(14, 20))
def test_every_version_s_form_is_read_as_it_is_written(minor: int, tmp_path: Path) -> None:
    """There is no recording of 1.15 and 1.17: their listings are generated by the rules of their sources."""
    records = _records("cilium-1.19-snat-node1")
    forms: dict[str, Callable[[Any], list[str]]] = {
        "lb list": lambda f: written.service_lines(f.services, f.backends, minor),
        "lb list --frontends": lambda f: written.frontend_lines(f.services, minor),
        "lb list --backends": lambda f: written.backend_lines(f.backends),
        "ipcache list": lambda f: written.ipcache_lines(f.ipcache, minor),
        "endpoint list": lambda f: written.endpoint_lines(f.endpoints, minor),
        "socknat list": lambda f: written.socket_lines(f.sockets),
        "tunnel list": lambda f: written.tunnel_lines(f.tunnels),
        "policy get --all --numeric": lambda f: written.policy_lines(f.policy, minor),
        "metrics list": lambda f: written.counter_lines(f.counters, minor),
    }
    for name, write in forms.items():
        lines = write(records)
        assert len(lines) > 1, name
        source = read(tmp_path / "x", "\n".join(lines) + "\n")
        assert source.partial == [], name
        found = source.listings(None)
        if name == "lb list":  # backends stand in the frontends' rows there
            assert {(s.addr, s.port, s.slot) for s in found.services} == {
                (s.addr, s.port, s.slot) for s in records.services
            }
            continue
        if name == "lb list --frontends" and minor < 17:
            assert len(found.services) == len(records.services)
            continue
        if name == "metrics list" and minor < 16:
            assert sum(one.packets for one in found.counters) == sum(one.packets for one in records.counters)
            continue
        if name == "ipcache list" and minor == 16:  # a flag that it has no word for is lost
            assert [(r.prefix, r.identity) for r in found.ipcache] == [(r.prefix, r.identity) for r in records.ipcache]
            continue
        assert sorted(write(found)) == sorted(lines), name
    entry = captures.text("cilium-1.16-snat-node1", "cli/ct-list-global.txt").splitlines()[0]
    layout = Layout.of_version(f"1.{minor}")
    assert layout is not None
    (table,) = (one for one in read(tmp_path / "ct", entry + "\n").tables if one.count)
    (row,) = (columns.entry(0, table.name, table.absent) for columns in table.columns())
    line = cilium_line(replace(row, backend_id=row.backend_id or 0), layout)
    again = read(tmp_path / "again", f"{line}\n")
    (back,) = (one for one in again.tables if one.count)
    (same,) = (columns.entry(0, back.name, back.absent) for columns in back.columns())
    assert (same.tuple, same.flags, same.lifetime, cilium_line(same, back.layout)) == (
        row.tuple,
        row.flags,
        row.lifetime,
        line,
    )


def test_the_address_of_a_backend_that_is_none_leads_nowhere(tmp_path: Path) -> None:
    """Of another cluster, or no address at all: it is shown as it stands."""
    file = tmp_path / "all.txt"
    fields = "Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=0 TxFlagsSeen=0x02 LastTxReport=100 Flags=0x0010 [ ]"
    file.write_text(
        "SERVICE ADDRESS           BACKEND ADDRESS (REVNAT_ID) (SLOT)\n"
        "10.96.0.10:80/TCP (0)     0.0.0.0:0 (5) (0) [ClusterIP, non-routable]\n"
        "10.96.0.10:80/TCP (1)     10.0.0.7@1:8080/TCP (5) (1)\n"
        "10.96.0.10:80/TCP (2)     10.0.0.999:8080/TCP (5) (2)\n"
        "\n"
        f"TCP OUT 10.0.0.5:4000 -> 10.0.0.7:8080 expires=1000 {fields} RevNAT=5 SourceSecurityID=3 BackendID=0 \n"
        f"TCP SVC 10.0.0.5:4000 -> 10.96.0.10:80 expires=1000 {fields} RevNAT=5 SourceSecurityID=3 BackendID=7 \n"
    )
    done = run("ct", "get", "--from", file, "tcp 10.0.0.5:4000 > 10.96.0.10:80")
    assert done.returncode == 0, done.stderr
    assert "10.0.0.7@1:8080/TCP 10.0.0.999:8080/TCP" in run("lb", "list", "--from", file).stdout
    ends = {
        text: replace(SLOT, backend=text).backend_end
        for text in ("[fd00::1]:80/TCP", "10.0.0.7@1:80", "x:80", "", None)
    }
    assert ends == {
        "[fd00::1]:80/TCP": (ip_address("fd00::1"), 80),
        "10.0.0.7@1:80": None,
        "x:80": None,
        "": None,
        None: None,
    }
    listed = [
        replace(SLOT, backend_id=number, backend=text)
        for number, text in enumerate(("10.0.0.999:80", "10.0.0.9:80"), 1)
    ]
    assert [(one.id, str(one.ip), one.port) for one in backends_of(Listings(services=listed)).values()] == [
        (2, "10.0.0.9", 80)
    ]


SLOT = ServiceSlot(ip_address("10.96.0.10"), 80, "external", 1, 5)


def test_a_tunnel_end_that_is_no_address_is_no_record(tmp_path: Path) -> None:
    file = tmp_path / "ipcache.txt"
    file.write_text(
        "IP PREFIX/ADDRESS   IDENTITY\n"
        "10.0.0.1/32         identity=7 encryptkey=0 tunnelendpoint=192.0.2.1 flags=hastunnel\n"
        "10.0.0.2/32         identity=8 encryptkey=0 tunnelendpoint=192.0.2.999 flags=hastunnel\n"
    )
    done = run("ipcache", "list", "--from", file, "-o", "jsonl")
    assert [json.loads(line)["tunnel_endpoint"] for line in done.stdout.splitlines()] == ["192.0.2.1"]
    assert done.returncode == 5
    assert "192.0.2.999" in done.stderr
