"""Steps of a scenario: JSON as spec/cli.md says, and blocks for people."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any, TextIO

from ctctl.abi import layouts
from ctctl.datapath.simulator import SimulatedTables, StepResult
from ctctl.decode.ct import decode_entry, decode_key
from ctctl.packet.describe import describe_frame
from ctctl.render.ct_record import entry_record
from ctctl.render.trace import LineWriter, TableTrace
from ctctl.render.trace_record import event_record

STEP_SCHEMA = "ctctl/scenario-step/v1"


def step_record(
    number: int, now: int, tables: SimulatedTables, result: StepResult | None, *, raw: bool = False
) -> dict[str, Any]:
    """One step as JSON: the packet's fate if it was a packet, and the whole tables after it.

    ``raw`` adds key and value of conntrack entries as hex.
    """
    record: dict[str, Any] = {"schema": STEP_SCHEMA, "step": number}
    if result is not None:
        record |= {"hook": str(result.hook)}
    record["now"] = now
    if result is not None:
        record |= _packet(result, raw)
    return record | tables_record(tables, now, raw=raw)


def tables_record(tables: SimulatedTables, now: int, *, raw: bool = False) -> dict[str, Any]:
    """The connection tables as JSON."""
    return {
        "ct": {
            name: [entry_record(decode_entry(key, value, map_name=name), now, raw=raw) for key, value in entries]
            for name, entries in tables.ct.items()
        },
        "snat": [_snat(key, value) for key, value in tables.snat],
        "affinity": [_affinity(key, value) for key, value in tables.affinity],
    }


def _packet(result: StepResult, raw: bool) -> dict[str, Any]:
    tunnel = result.tunnel
    record: dict[str, Any] = {
        "verdict": str(result.verdict),
        "reason": result.reason,
        "return_code": result.return_code,
        "packet_out_hex": result.frame.hex(),
        "packet_out": describe_frame(result.frame),
        "tunnel": None
        if tunnel is None
        else {"remote": str(tunnel.remote), "vni": tunnel.vni, "option_hex": tunnel.options.hex() or None},
        "mark_out": result.mark,
        "events": [event_record(event, raw=raw) for event in result.events],
    }
    if result.wire is not None:
        record["packet_wire_hex"] = result.wire.hex()
    return record


def _snat(key: bytes, value: bytes) -> dict[str, Any]:
    entry = layouts.ipv4_nat_entry.from_buffer_copy(value)
    flow, _ = decode_key(key)
    return {
        "key_hex": key.hex(),
        "proto": flow.proto,
        "to_addr": str(IPv4Address(entry.to_saddr)),
        "to_port": entry.to_sport,
        "created": entry.created,
    }


def _affinity(key: bytes, value: bytes) -> dict[str, Any]:
    client, entry = layouts.lb4_affinity_key.from_buffer_copy(key), layouts.lb_affinity_val.from_buffer_copy(value)
    return {
        "key_hex": key.hex(),
        "value_hex": value.hex(),
        "client": str(IPv4Address(key[:4])),
        "rev_nat": client.rev_nat_id,
        "backend_id": entry.backend_id,
        "last_used": entry.last_used,
    }


class StepLines:
    """Steps for people: a heading with the file's remark, the event's block, and the tables' sizes."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._writer = LineWriter(stream, color=color)
        self._trace = TableTrace(stream, color=color)

    def step(self, number: int, title: str, tables: SimulatedTables, result: StepResult | None) -> None:
        """Write one step."""
        self._writer.line([(f"step {number}", "bold magenta"), (f"  {title}" if title else "", "dim")])
        for event in result.events if result else ():
            self._trace.event(event)
        if result is not None and not result.events:
            self._writer.line([(f"    {result.verdict}  {describe_frame(result.frame)}", "")])
        counts = [f"{name}: {len(entries)}" for name, entries in tables.ct.items()]
        counts += [
            f"{name}: {len(entries)}" for name, entries in (("snat", tables.snat), ("affinity", tables.affinity))
        ]
        self._writer.line([(f"    tables     {', '.join(counts)}", "dim")])

    def failure(self, number: int, line: int, text: str) -> None:
        """Say what was expected and does not hold."""
        self._writer.line([(f"    expected   step {number} (line {line}): {text}", "bold red")])


def write_json_step(stream: TextIO, record: dict[str, Any]) -> None:
    """One step as a line."""
    stream.write(json.dumps(record, separators=(",", ":")) + "\n")
