"""Bytes of the service, SNAT, identity and endpoint tables, against the truth of the samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from ctctl.decode import services
from ctctl.decode.nat import decode_nat, encode_nat_key
from ctctl.errors import DecodeError
from tests.support.samples import truth

RENAMED = {"frontend": "addr"}
DECODERS: list[tuple[str, Callable[..., Any]]] = [
    ("services", services.decode_service),
    ("backends", services.decode_backend),
    ("reverse_nat", services.decode_rev_nat),
    ("source_range", services.decode_source_range),
    ("ipcache", services.decode_ipcache),
    ("lxc", services.decode_endpoint),
]
FILLS = [name for name in truth()["fills"] if name.split("-")[0] in ("lb", "ipcache", "endpoint")]


@pytest.mark.parametrize("fill", FILLS)
def test_every_record_of_the_truth_decodes(fill: str) -> None:
    for record in truth()["fills"][fill]["entries"]:
        decode = next(decoder for part, decoder in DECODERS if part in record["map"])
        got = asdict(decode(bytes.fromhex(record["key_hex"]), bytes.fromhex(record["value_hex"])))
        expected = {RENAMED.get(name, name): value for name, value in record["decoded"].items()}
        shared = {name: value for name, value in expected.items() if name in got}
        assert shared
        assert {name: str(got[name]) if name == "addr" else got[name] for name in shared} == shared, record


@pytest.mark.parametrize("fill", ["nat-1.16", "nat-1.19-dev"])
def test_every_snat_record_decodes(fill: str) -> None:
    for record in truth()["fills"][fill]["entries"]:
        key = bytes.fromhex(record["key_hex"])
        entry, expected = decode_nat(key, bytes.fromhex(record["value_hex"])), record["decoded"]
        flow = entry.tuple
        assert [flow.proto, str(flow.src), flow.src_port, str(flow.dst), flow.dst_port] == [
            expected[name] for name in ("proto", "src", "src_port", "dst", "dst_port")
        ]
        assert [entry.direction.value, entry.related, entry.xlate, str(entry.to_addr), entry.to_port] == [
            expected[name] for name in ("direction", "related", "xlate", "to_addr", "to_port")
        ], record
        assert (entry.created, entry.needs_ct) == (expected["created"], expected["needs_ct"])
        assert encode_nat_key(flow, key[-1]) == key


@pytest.mark.parametrize("decode", [decode for _, decode in DECODERS] + [decode_nat])
def test_wrong_sizes_are_refused(decode: Callable[[bytes, bytes], object]) -> None:
    with pytest.raises(DecodeError):
        decode(b"123", b"")
