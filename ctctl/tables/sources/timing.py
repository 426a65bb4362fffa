"""When the tables of a dump were read, in which clock and layout: by its own evidence, never guessed silently."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

from ctctl.abi import pins
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.clocks import RECENT_S, Told, note_of_given
from ctctl.tables.sources.dump import Dump

_ASSUMED = Clock(None, "ktime assumed: the dump does not tell")
#: entries that are looked at for the layout
_SAMPLE = 512


def tables_of(source: Source, node: str | None, dump: Dump, options: SourceOptions) -> list[CtTable]:
    """A node's tables with clock, time, layout and capacity; what contradicts itself is noted.

    The clock is what the user said, else what the document itself, the lines' remaining times or the
    node's own files say. A table whose lines tell no time takes that of the node's other ones.
    """
    pairs = [(collected, collected.table(node)) for collected in dump.ordered()]
    named = options.clock or dump.clock or dump.facts.clock
    told = {table.name: collected.told(named) for collected, table in pairs}
    contradictions = dict.fromkeys(found.contradiction for found in told.values() if found.contradiction)
    for text in contradictions:
        _note(source, node, f"the listing contradicts itself: {text}; no remaining times; give --now")
    # What has a time of its own says nothing about the others, nor they about it.
    shared = [told[collected.name] for collected, _ in pairs if collected.time is None]
    best = next((found for found in shared if found.proven and found.now is not None), None)
    best = best or next((found for found in shared if found.now is not None), Told())
    now, evidence = _now_of(dump, options, contradicts=bool(contradictions))
    beside = beside_of(dump, options)
    said = next((found.now for found in shared if found.now is not None and found.proven), None)
    if beside.contradiction and options.now is None:
        _note(source, node, f"its files contradict each other: {beside.contradiction}; give --now")
    apart = said is not None and beside.now is not None and abs(said - beside.now) > _MOMENT_S
    if apart and options.now is None and best.clock is not None and best.clock.hz is None:
        _note(source, node, f"its lines say it was made at {said}, but {beside.evidence}")
    for collected, table in pairs:
        if collected.time is not None:
            table.clock, table.now = collected.time
            if options.now is not None and not shared:
                table.now = options.now
            continue
        own = told[table.name] if told[table.name].now is not None else best
        clock = named or own.clock or _ASSUMED
        known = own.clock if own.proven else dump.clock or dump.facts.clock
        for note in note_of_given(options.clock, known):
            if note not in source.notes:
                _note(source, node, note)
        if own.clock is not None and own.proven and options.clock is None and dump.clock is None:
            clock = own.clock
        table.clock = clock
        table.now = now if now is not None else own.now
        newest = collected.newest or max((other.newest for other, _ in pairs if other.time is None), default=0)
        table.now_at_least = newest or None
        if beside.bounds is not None and clock.hz is None:
            table.now_between = (max(newest, beside.bounds[0]), beside.bounds[1])
    if evidence:
        source.details.append(f"{node}: {evidence}" if node else evidence)
    _find_layouts(dump, [table for _, table in pairs], options)
    _give_capacity(dump, [table for _, table in pairs])
    return [table for _, table in pairs]


def _note(source: Source, node: str | None, text: str) -> None:
    source.notes.append(f"{node}: {text}" if node else text)


def _now_of(dump: Dump, options: SourceOptions, *, contradicts: bool) -> tuple[int | None, str]:
    """The dump's time by what the user or the document says, else by the ages of SNAT entries whose birth is known."""
    if options.now is not None:
        return options.now, ""
    if dump.now is not None:
        return dump.now, ""
    if contradicts or any(table.shown for table in dump.tables.values()):
        return None, ""
    beside = beside_of(dump, options)
    if beside.now is not None or beside.contradiction:
        return beside.now, beside.evidence
    nows = Counter(
        e.created + e.age_s for e in dump.listings.nat_entries if e.created and e.age_s is not None and e.age_s >= 0
    )
    if not nows:
        return None, ""
    best, agree = nows.most_common(1)[0]
    return best, f"now {best} by the ages in the nat list ({agree} of {nows.total()} entries agree)"


#: Files of one bugtool are made within this time; so much may two of them differ.
_MOMENT_S = 60


@dataclass(frozen=True, slots=True)
class Beside:
    """What a node's other files say about the time its tables were dumped, in seconds of CLOCK_MONOTONIC."""

    now: int | None = None
    evidence: str = ""
    contradiction: str = ""
    #: the time is not before the first, not after the second
    bounds: tuple[int, int] | None = None


def beside_of(dump: Dump, options: SourceOptions) -> Beside:
    """By the agent's sign of life, the date in the name, the machine's uptime; nothing for tables in jiffies."""
    clock = options.clock or dump.clock or dump.facts.clock
    if clock is not None and clock.hz is not None:
        return Beside()
    facts = dump.facts
    newest = max((table.newest for table in dump.tables.values()), default=0)
    found: dict[str, float] = {}
    if facts.made_unix is not None and facts.utime_offset is not None:
        found[f"the date in its name and {facts.utime_offset.evidence}"] = (
            facts.made_unix.value - facts.utime_offset.value * 512 / 1e9
        )
    if facts.alive_ns is not None:
        found[facts.alive_ns.evidence] = facts.alive_ns.value / 1e9
    bounds = facts.uptime_s.value if facts.uptime_s is not None else None
    if facts.uptime_s is not None and bounds is not None and bounds[0] == bounds[1]:
        found[facts.uptime_s.evidence] = bounds[0]
    # What was said before the newest report was said too early: an agent that had stopped, for one.
    fitting = {word: at for word, at in found.items() if newest - _MOMENT_S <= at <= newest + RECENT_S or not newest}
    whole = None if bounds is None else (int(bounds[0]), int(bounds[1]) + _MOMENT_S)
    if found and not fitting:
        word, at = next(iter(found.items()))
        return Beside(
            contradiction=f"{word} says it was made at {int(at)}, its newest report is of {newest}", bounds=None
        )
    if not fitting:
        return Beside(bounds=whole)
    if max(fitting.values()) - min(fitting.values()) > _MOMENT_S:
        said = " and ".join(f"{int(at)} by {word}" for word, at in fitting.items())
        return Beside(contradiction=f"it was made at {said}")
    word, at = next(iter(fitting.items()))
    return Beside(int(max(at, newest)), f"now {int(max(at, newest))} by {' and '.join(fitting)}", bounds=whole)


def _find_layouts(dump: Dump, tables: list[CtTable], options: SourceOptions) -> None:
    """The layout of tables that were dumped as bytes: of the node's other tables, its version, its entries."""
    bare = [table for table in tables if table.layout_evidence == "assumed"]
    if not bare:
        _tell_14_from_15(dump, tables, options)
        return
    layout, evidence = options.layout, "--layout"
    if layout is None:
        known = {table.layout for table in tables if table.layout_evidence != "assumed" and table.count}
        layout, evidence = known.pop() if len(known) == 1 else None, "the node's other listings"
    if layout is None and dump.facts.version is not None:
        layout, evidence = Layout.of_version(dump.facts.version.value), f"version by {dump.facts.version.evidence}"
    if layout is None:
        layout, evidence = _layout_by_entries(dump, bare)
    for table in bare:
        if layout is not None:
            table.layout, table.layout_evidence = layout, evidence
    _tell_14_from_15(dump, tables, options)


def _tell_14_from_15(dump: Dump, tables: list[CtTable], options: SourceOptions) -> None:
    """Records that both versions write alike are of the older one where the user, another table or the node says so."""
    alike = [table for table in tables if table.layout is Layout.V1_15 and table.raw]
    version = dump.facts.version
    if options.layout is not None:
        layout, evidence = options.layout, "--layout"
    elif any(table.layout is Layout.V1_14 for table in tables):
        layout, evidence = Layout.V1_14, "the node's other listings"
    elif version is not None:
        layout, evidence = Layout.of_version(version.value) or Layout.V1_15, f"version by {version.evidence}"
    else:
        return
    for table in alike if layout is Layout.V1_14 else ():
        table.layout, table.layout_evidence = layout, evidence


def _layout_by_entries(dump: Dump, tables: list[CtTable]) -> tuple[Layout | None, str]:
    from ctctl.node.cilium import identify

    def entries(table: CtTable) -> list[tuple[bytes, bytes]]:
        rows = ((key, value) for keys, values in table.read() for key, value in zip(keys, values, strict=True))
        return [(key.tobytes(), value.tobytes()) for key, value in islice(rows, _SAMPLE)]

    sample = [record for table in tables for record in entries(table)]
    found = identify([name for name in dump.pins if name not in pins.CT_TABLES], sample, here=False)
    return (found.layout, found.evidence) if found is not None and found.certain else (None, "")


def _give_capacity(dump: Dump, tables: list[CtTable]) -> None:
    for table in tables:
        fact = dump.facts.capacity.get(table.name)
        if fact is not None and table.max_entries is None:
            table.max_entries, table.capacity_evidence = fact.value, fact.evidence


def note_times(source: Source) -> None:
    """What is assumed or unknown, said once for all nodes that it is true of."""
    tables = [table for table in source.tables if table.count]
    nodes = {table.node for table in tables}
    texts: dict[str, dict[str | None, None]] = {}
    for table in tables:
        if table.layout_evidence == "assumed":
            texts.setdefault("no type information in the dump: layout 1.16 assumed; choose with --layout", {})[
                table.node
            ] = None
        if "assumed" in table.clock.evidence:
            texts.setdefault(f"clock: {table.clock.evidence}", {})[table.node] = None
        elif table.clock.evidence:
            detail = f"clock: {table.clock.evidence}"
            if detail not in source.details:
                source.details.append(detail)
        if table.now is None and not any("contradicts itself" in note for note in source.notes):
            texts.setdefault(_UNTIMED, {})[table.node] = None
    for text, of in texts.items():
        whole = text + (_at_least(tables, of) if text == _UNTIMED else "")
        named = [node for node in of if node]
        source.notes.append(whole if set(of) == nodes or not named else f"{few(named)}: {whole}")


_UNTIMED = "the dump does not say when it was made: no remaining times; give --now"


def _at_least(tables: list[CtTable], nodes: dict[str | None, None]) -> str:
    between = {table.now_between for table in tables if table.node in nodes and table.now_between}
    if len(nodes) == 1 and between:
        low, high = max(one[0] for one in between), min(one[1] for one in between)
        if low <= high:
            return f" (between {low} and {high} by uptime and its newest report)"
    least = {table.now_at_least for table in tables if table.node in nodes and table.now_at_least}
    return f" ({max(least)} or later by its newest report)" if len(nodes) == 1 and least else ""


def few(names: list[str]) -> str:
    """Names, the first three of many."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
