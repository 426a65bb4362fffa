"""``ct decode``: flag words in both readings, named words, bytes, and whole lines."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from ctctl.ct.decode import decode
from ctctl.ct.show_decode import write_decoded
from ctctl.errors import UsageError
from ctctl.model.entry import Layout
from ctctl.out.options import Format, OutputOptions

LINE = (
    "TCP IN 10.0.0.1:1 -> 10.0.0.2:80 expires=100 Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=40 "
    "TxFlagsSeen=0x00 LastTxReport=0 Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ] RevNAT=0 SourceSecurityID=2"
)


def told(text: str) -> dict[str, Any]:
    stream = io.StringIO()
    write_decoded(decode(text), Layout.V1_16, OutputOptions(format=Format.json), stream)
    document: dict[str, Any] = json.loads(stream.getvalue())
    return document


@pytest.mark.parametrize(
    ("text", "flags", "tcp"),
    [
        ("0x1b", ["RxClosing", "TxClosing", "LBLoopback", "SeenNonSyn"], ["FIN", "SYN", "PSH", "ACK"]),
        ("0x00", [], []),
        ("255", None, ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]),
        ("0x0413", ["RxClosing", "TxClosing", "SeenNonSyn", "FromTunnel"], None),
        ("0x100", ["FromL7LB"], None),
    ],
)
def test_words_that_may_be_of_tcp_are_told_both_ways(text: str, flags: list[str] | None, tcp: list[str] | None) -> None:
    found = told(text)
    assert flags is None or found["flag_names"] == flags
    assert found.get("tcp_flag_names") == tcp


def test_a_named_word_has_one_reading() -> None:
    assert "tcp_flags" not in told("Flags=0x0013")
    assert told("Flags=0x0413")["flag_names"][-1] == "FromTunnel"
    for name in ("RxFlagsSeen", "TxFlagsSeen", "tx_flags_seen"):
        found = told(f"{name}=0x1b")
        assert (found["tcp_flag_names"], "flags" in found) == (["FIN", "SYN", "PSH", "ACK"], False)
    for word, flags in (
        ("Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ]", 0x13),
        ('"Flags": 19,', 19),
        ("0x0013 [ RxClosing TxClosing SeenNonSyn ]", 0x13),
        ("Flags=0x8810 [ SeenNonSyn Unknown=0x8800 ]", 0x8810),
    ):
        found = told(word)
        assert (found["flags"], "tcp_flags" in found) == (flags, False)
    assert told('"TxFlagsSeen": 27')["tcp_flag_names"] == ["FIN", "SYN", "PSH", "ACK"]
    for wrong in ("Foo: 12", "Foo=0x1", "RxFlagsSeen=0x100", "Flags=99999"):
        with pytest.raises(UsageError):
            decode(wrong)


@pytest.mark.parametrize(
    ("tail", "layout"),
    [(" IfIndex=0 BackendID=0", "1.16"), (" BackendID=0", "1.18"), (" BackendID=0 NatPort=0", "1.19")],
)
def test_a_whole_line_with_its_version(tail: str, layout: str) -> None:
    found = told(LINE + tail)
    assert (found["kind"], found["layout"], found["state"], found["dst"]) == ("entry", layout, "closed", "10.0.0.2")


def test_a_line_of_the_nat_list() -> None:
    found = told("TCP OUT 10.1.1.101:2 -> 10.96.0.20:80 XLATE_SRC 192.168.61.11:49306 Created=228sec ago NeedsCT=0")
    assert (found["kind"], found["to_addr"], found["to_port"]) == ("snat", "192.168.61.11", 49306)


@pytest.mark.parametrize(
    "text", ["nonsense -> x", "[1, 2", "{}", "TCP IN 10.0.0.1:1 -> 10.0.0.2:80", "zz", "0x1ffff", ""]
)
def test_what_is_none_of_these_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode(text)
    assert "\n" not in str(caught.value)


def test_bytes_as_bpftool_lists_them() -> None:
    key = "0a4000240a4000401f40d3f40600"
    spread = [key[at : at + 2] for at in range(0, len(key), 2)]
    for text in (key, " ".join(spread), "[" + ", ".join(f'"0x{byte}"' for byte in spread) + "]"):
        assert told(text)["source"] == "10.64.0.36:54260"
