"""Steps of a scenario or a simulation: their JSON form, and as blocks for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ctctl.decode.ct import decode_entry
from ctctl.decode.nat import decode_nat
from ctctl.events.brief import brief_line
from ctctl.events.lines import Line, entry_words, event_lines
from ctctl.events.record import entry_record, event_record
from ctctl.model.event import Verdict
from ctctl.model.units import counted
from ctctl.out.text import safe
from ctctl.packet.describe import describe_frame
from ctctl.simulate.scenario_file import AdvanceStep, AnyStep, GcStep, OpStep, PacketStep, ServiceStep
from ctctl.simulate.simulator import SimulatedTables, StepResult

STEP_SCHEMA = "ctctl/trace-step/v1"


class StepLike(Protocol):
    """A step that ran (``ctctl.simulate.scenario.StepRecord``)."""

    @property
    def step(self) -> AnyStep: ...
    @property
    def now(self) -> int: ...
    @property
    def tables(self) -> SimulatedTables: ...
    @property
    def result(self) -> StepResult | None: ...
    @property
    def failures(self) -> Sequence[str]: ...
    @property
    def number(self) -> int: ...


def step_record(record: StepLike, *, raw: bool = False) -> dict[str, Any]:
    """A step as JSON (docs/scenarios.md): what became of the packet, and the whole tables after it.

    A step without a packet has only its number, the clock and the tables.
    """
    out: dict[str, Any] = {"step": record.number, "now": record.now}
    if record.result is not None:
        out = {"step": record.number, "hook": str(record.result.hook), "now": record.now}
        out |= _result_record(record.result, raw=raw)
    return out | tables_record(record.tables, record.now, raw=raw)


def _result_record(result: StepResult, *, raw: bool) -> dict[str, Any]:
    tunnel = result.tunnel
    out: dict[str, Any] = {
        "verdict": str(result.verdict),
        "reason": result.reason,
        "return_code": result.return_code,
        "packet_out_hex": result.frame.hex(),
        "packet_out": describe_frame(result.frame),
        "mark_out": result.mark,
        "tunnel": None
        if tunnel is None
        else {"remote": str(tunnel.remote), "vni": tunnel.vni, "option_hex": tunnel.options.hex() or None},
        "events": [event_record(event, raw=raw) for event in result.events],
    }
    if result.wire is not None:
        out["packet_wire_hex"] = result.wire.hex()
    return out


def tables_record(tables: SimulatedTables, now: int, *, raw: bool = False) -> dict[str, Any]:
    """The tables of a simulation as JSON: entries as in ``ct list -o json``, SNAT and affinity by key."""
    return {
        "ct": {
            name: [entry_record(decode_entry(key, value, map_name=name), now, raw=raw) for key, value in entries]
            for name, entries in tables.ct.items()
        },
        "snat": [_snat_record(key, value) for key, value in tables.snat],
        "affinity": _affinity_records(tables.affinity),
        "snat6": [_snat_record(key, value) for key, value in tables.snat6],
        "affinity6": _affinity_records(tables.affinity6),
    }


def _affinity_records(entries: list[tuple[bytes, bytes]]) -> list[dict[str, str]]:
    return [{"key_hex": key.hex(), "value_hex": value.hex()} for key, value in entries]


def _snat_record(key: bytes, value: bytes) -> dict[str, Any]:
    entry = decode_nat(key, value)
    return {"key_hex": key.hex(), "to_addr": str(entry.to_addr), "to_port": entry.to_port}


def step_lines(record: StepLike) -> Iterator[Line]:
    """A step as lines: the hook's block for a packet, one line for anything else."""
    head: Line = [(f"step {record.number}", "bold magenta"), (f"  t={record.now}s", "dim")]
    if note := record.step.step.note:
        head.append((f"  {safe(note)}", "italic"))
    if record.result is None:
        yield [*head, ("  " + change_words(record.step), "bold")]
    else:
        yield head
        yield from _result_lines(record.result)
    for failure in record.failures:
        yield [("    expected   ", "bold red"), (safe(failure), "red")]


def brief_step_lines(record: StepLike, *, made_up: bool = False) -> Iterator[Line]:
    """A step as a line for each hook that a packet met, one line for anything else. ``made_up``: of a simulation."""
    head: Line = [(f"step {record.number}", "bold magenta"), (f"  t={record.now}s", "dim")]
    text = record.step.step.note
    # Whose packet it is says the line of its arrival.
    note: Line = [(f"  ({safe(text)})", "italic")] if text and not made_up else []
    if record.result is None:
        yield [*head, ("  " + change_words(record.step), "bold"), *note]
    else:
        for event in record.result.events:
            yield [*head, *brief_line(event, time_text=""), *note]
            note = []
        if not record.result.events:
            what = f"  {record.result.hook}  {record.result.verdict} {record.result.reason or ''}".rstrip()
            yield [*head, (what, "bold"), *note]
    for failure in record.failures:
        yield [("    expected   ", "bold red"), (safe(failure), "red")]


def change_words(step: AnyStep) -> str:
    """What a step without a packet does, in words."""
    match step:
        case AdvanceStep():
            return f"the clock moves by {step.step.advance} s"
        case ServiceStep():
            return safe(f"service {step.name}: {counted(len(step.backends), 'backend')}")
        case GcStep():
            return "garbage collection" if step.endpoint is None else f"scrub of endpoint {step.endpoint}"
        case OpStep():
            return safe(f"{step.op} " + " ".join(f"{key}={value}" for key, value in step.args.items()))
        case PacketStep():
            return f"packet at {step.hook}"


def _result_lines(result: StepResult) -> Iterator[Line]:
    for event in result.events:
        yield from event_lines(event, time_text=f"  {event.now_s}s")
    if not result.events:
        yield [("    verdict    ", "dim"), (f"{result.verdict} {result.reason or ''}", "bold")]
    if result.verdict is not Verdict.DROP:
        yield [("    packet     ", "dim"), (describe_frame(result.frame), "")]


def table_lines(tables: SimulatedTables, now: int) -> Iterator[Line]:
    """The conntrack tables as they stand, an entry a line."""
    for name, entries in tables.ct.items():
        if entries:
            yield [(f"{name} after the last step", "bold")]
        for key, value in entries:
            entry = decode_entry(key, value, map_name=name)
            related = " related" if entry.related else ""
            yield [
                (f"    {entry.direction:<4}{entry.tuple}{related}  ", ""),
                (f"{entry.state}  ", "green"),
                (entry_words(entry, now), "dim"),
            ]
