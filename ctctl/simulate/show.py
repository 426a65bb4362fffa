"""Simulated journeys and replays: how packets ended, as JSON and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Protocol, TextIO

from ctctl.decode.ct import decode_entry
from ctctl.events.explain import DROP_SENTENCES
from ctctl.events.lines import Line
from ctctl.events.record import entry_record
from ctctl.model.event import Hook
from ctctl.model.units import format_duration
from ctctl.out.text import safe
from ctctl.packet.describe import describe_frame
from ctctl.packet.spec import TcpFlags
from ctctl.simulate.show_scenario import StepLike, table_lines
from ctctl.simulate.simulator import SimulatedTables
from ctctl.trace.show import LineWriter

ARRIVAL_SCHEMA = "ctctl/trace-arrival/v1"
REPLAY_SCHEMA = "ctctl/trace-replay/v1"
ENTRY_SCHEMA = "ctctl/ct-entry/v1"
_LOOP = "went round in circles"
_AWAY, _ERROR, _REFUSED = "left for another node", "came back as an error", "refused at connect()"
#: how a packet got where it was going, and how that is said
_ARRIVED = {
    "delivered": "delivered to {place}",
    "left the cluster": "left the cluster",
    _AWAY: "left for {place}",
    "to the node's own stack": "delivered to {place}",
}
_NOT_ASKED = "no answer was asked for (--reply, --handshake)"
#: why there is none, asked for or not
_NO_ANSWER = {
    _AWAY: "what becomes of it there is not in these tables",
    "to the node's own stack": "what the node's own stack does with it is not simulated",
}
_STYLES = {**dict.fromkeys(_ARRIVED, "green"), **dict.fromkeys((_ERROR, _REFUSED, "dropped"), "bold red")}


class PlaceLike(Protocol):
    """An end of a journey (``ctctl.simulate.journey.Place``)."""

    @property
    def node(self) -> str: ...


class ArrivalLike(Protocol):
    """The end of one packet (``ctctl.simulate.journey.Arrival``)."""

    @property
    def outcome(self) -> str: ...
    @property
    def place(self) -> PlaceLike: ...
    @property
    def frame(self) -> bytes: ...
    @property
    def reason(self) -> str | None: ...


class JourneyLike(Protocol):
    """One packet of a conversation (``ctctl.simulate.conversation.Journey``)."""

    @property
    def number(self) -> int: ...
    @property
    def sender(self) -> str: ...
    @property
    def origin(self) -> PlaceLike: ...
    @property
    def arrival(self) -> ArrivalLike: ...
    @property
    def one_of(self) -> Sequence[str]: ...


class ReplayLike(Protocol):
    """What a replay came to (``ctctl.simulate.replay.ReplaySummary``)."""

    packets: int
    bytes: int
    first_ns: int | None
    last_ns: int
    elapsed_s: float
    cut: int
    partial: str | None
    now: int

    @property
    def hooks(self) -> Mapping[Hook, int]: ...
    @property
    def dropped(self) -> Mapping[tuple[Hook, str], int]: ...
    @property
    def skipped(self) -> Mapping[str, int]: ...
    @property
    def concerned(self) -> bool: ...
    @property
    def interfaces(self) -> Mapping[str, int]: ...
    @property
    def tables(self) -> SimulatedTables | None: ...
    @property
    def rate(self) -> float: ...


def journey_record(journey: JourneyLike) -> dict[str, Any]:
    """How one packet of a simulated conversation ended."""
    arrival = journey.arrival
    return {
        "schema": ARRIVAL_SCHEMA,
        "packet": journey.number,
        "sender": journey.sender,
        "origin": str(journey.origin),
        "outcome": str(arrival.outcome),
        "place": str(arrival.place),
        "node": arrival.place.node,
        "reason": arrival.reason,
        "packet_out": describe_frame(arrival.frame),
        "packet_out_hex": arrival.frame.hex(),
        "backend_one_of": list(journey.one_of) or None,
    }


def journey_line(journey: JourneyLike) -> Line:
    """The same in one line."""
    arrival = journey.arrival
    outcome = str(arrival.outcome)
    where = f" at {arrival.place}" if arrival.reason and outcome != _REFUSED else ""
    if outcome in ("delivered", _ERROR):
        where = f" to {arrival.place}"
    elif outcome == _AWAY:
        where = f", {arrival.place}"
    why = f": {arrival.reason}" if arrival.reason else ""
    return [
        (f"packet {journey.number} of the {journey.sender}, from {safe(str(journey.origin))}: ", "bold"),
        (f"{outcome}{safe(where)}{why}", _STYLES.get(outcome, "yellow")),
        (f"  {describe_frame(arrival.frame)}", ""),
        (f"  (new: the backend is one of {', '.join(journey.one_of)})" if journey.one_of else "", "yellow"),
    ]


def conversation_words(journeys: Sequence[JourneyLike], *, tcp: bool, finished: Set[str]) -> str:
    """What became of a simulated conversation. ``finished``: who has sent FIN."""
    last = journeys[-1]
    arrival, outcome = last.arrival, str(last.arrival.outcome)
    whose = f"packet {last.number} of the {last.sender}"
    if outcome == _REFUSED:
        return safe(
            f"no packet was sent: the call of {last.origin} was {outcome}: {DROP_SENTENCES[arrival.reason or '']}"
        )
    if arrival.reason:
        why = DROP_SENTENCES.get(arrival.reason, "")
        return safe(f"{whose} was dropped at {arrival.place}: {arrival.reason}" + (f" ({why})" if why else ""))
    if outcome == _ERROR:
        return safe(f"{whose} came back to {arrival.place} as an error: {describe_frame(arrival.frame)}")
    if outcome == _LOOP:
        return safe(f"a loop: {whose} {outcome}, last at {arrival.place}")
    if outcome not in _ARRIVED:
        return safe(f"{whose}: {outcome} at {arrival.place}")
    client = next((one for one in journeys if one.sender == "client"), last)
    words = [_ARRIVED[str(client.arrival.outcome)].format(place=client.arrival.place)]
    answered = any(one.sender != "client" for one in journeys)
    words.append("answered" if answered else _NO_ANSWER.get(str(client.arrival.outcome), _NOT_ASKED))
    if tcp and answered:
        words.append("closed by both" if len(finished) > 1 else "half closed" if finished else "still open")
    return safe(", ".join(words))


class JourneyWriter:
    """The ends of a simulated conversation's packets, and at last every node's tables."""

    def __init__(self, stream: TextIO, *, json_lines: bool, color: bool) -> None:
        self._stream = stream
        self._json = json_lines
        self._writer = LineWriter(stream, color=color)
        self._last: dict[str, StepLike] = {}
        self._ended: list[JourneyLike] = []
        self._fins: set[str] = set()
        #: of the packet that is on its way, by every hook that told of its flow
        self._flags = 0
        self._tcp = False

    def tables(self, record: StepLike) -> None:
        """Remember what a node's tables hold after a step."""
        event = record.result.event if record.result else None
        if event is not None and event.node is not None:
            self._last[event.node] = record
            self._flags |= event.tcp_flags or 0
            self._tcp |= event.tcp_flags is not None

    def arrival(self, journey: JourneyLike) -> None:
        """Write how a packet ended."""
        self._ended.append(journey)
        if self._flags & TcpFlags.FIN:
            self._fins.add(journey.sender)
        self._flags = 0
        if self._json:
            self._stream.write(json.dumps(journey_record(journey)) + "\n")
        else:
            self._writer.lines([journey_line(journey)])

    def finish(self) -> None:
        """Write what became of the conversation, and the tables; JSON lines carry both already."""
        if self._ended and not self._json:
            verdict = conversation_words(self._ended, tcp=self._tcp, finished=self._fins)
            self._writer.lines([[("verdict: ", "bold magenta"), (verdict, "bold")], []])
        for node, record in self._last.items() if not self._json else ():
            self._writer.lines([[(f"node {safe(node)}", "bold blue")], *table_lines(record.tables, record.now)])


def write_replay(summary: ReplayLike, stream: TextIO, *, json_lines: bool, color: bool, raw: bool) -> None:
    """A replay's summary, and the conntrack tables after it."""
    if json_lines:
        for record in (replay_record(summary), *entry_records(summary, raw=raw)):
            stream.write(json.dumps(record) + "\n")
        return
    writer = LineWriter(stream, color=color)
    writer.lines(replay_lines(summary))
    if summary.tables is not None:
        writer.lines(table_lines(summary.tables, summary.now))


def replay_record(summary: ReplayLike) -> dict[str, Any]:
    """A replay's summary as JSON; times in seconds, counts of entries by table."""
    tables = summary.tables.ct if summary.tables else {}
    return {
        "schema": REPLAY_SCHEMA,
        "packets": summary.packets,
        "bytes": summary.bytes,
        "capture_s": _span_s(summary),
        "runs": {str(hook): count for hook, count in summary.hooks.items()},
        "dropped": [
            {"hook": str(hook), "reason": reason, "packets": count} for (hook, reason), count in summary.dropped.items()
        ],
        "skipped": dict(summary.skipped),
        "interfaces": dict(summary.interfaces),
        "cut": summary.cut,
        "concerned": summary.concerned,
        "elapsed_s": round(summary.elapsed_s, 6),
        "runs_per_s": round(summary.rate),
        "now": summary.now,
        "entries": {name: len(entries) for name, entries in tables.items()},
    }


def replay_lines(summary: ReplayLike) -> Iterator[Line]:
    """A replay's summary for people."""
    span = format_duration(_span_s(summary))
    yield [(f"{summary.packets} packets, {summary.bytes} bytes, captured over {span}", "bold")]
    runs = ", ".join(f"{hook} {count}" for hook, count in sorted(summary.hooks.items())) or "none"
    yield [("    hooks      ", "dim"), (runs, "")]
    yield [("    speed      ", "dim"), (f"{summary.rate:,.0f} packets/s", "")]
    for (hook, reason), count in sorted(summary.dropped.items(), key=lambda item: -item[1]):
        yield [("    dropped    ", "dim"), (f"{count} at {hook}: {reason}", "bold red")]
    if summary.interfaces:
        seen = ", ".join(f"{place} {count}" for place, count in sorted(summary.interfaces.items()))
        yield [("    interfaces ", "dim"), (seen, "")]
    for why, count in sorted(summary.skipped.items()):
        yield [("    skipped    ", "dim"), (f"{count}: {why}", "yellow")]
    if summary.packets and not summary.concerned:
        yield [("    note       ", "dim"), ("no packet is from or to this node, its pods or services", "yellow")]
    if summary.cut:
        yield [("    cut        ", "dim"), (f"{summary.cut} packets ran without their tail", "yellow")]


def entry_records(summary: ReplayLike, *, raw: bool = False) -> Iterator[dict[str, Any]]:
    """Every conntrack entry after a replay, as in ``ct list -o jsonl``."""
    for name, entries in summary.tables.ct.items() if summary.tables else ():
        for key, value in entries:
            yield {
                "schema": ENTRY_SCHEMA,
                **entry_record(decode_entry(key, value, map_name=name), summary.now, raw=raw),
            }


def _span_s(summary: ReplayLike) -> float:
    return 0.0 if summary.first_ns is None else (summary.last_ns - summary.first_ns) / 1e9
