"""The pages beside the table, as text: a connection, top talkers, findings, what is read and by what."""

from __future__ import annotations

import io
import time
from dataclasses import replace

from ctctl.ct.get import get
from ctctl.ct.report import TableStats
from ctctl.ct.show import top_view, write_connections
from ctctl.ct.top import By, top
from ctctl.doctor.diagnose import examine
from ctctl.doctor.finding import Where
from ctctl.doctor.show import write_diagnoses
from ctctl.errors import CtctlError
from ctctl.model.units import format_duration
from ctctl.out.fit import Sheet, prose
from ctctl.out.options import ColorMode, OutputOptions
from ctctl.out.output import write_rows
from ctctl.out.text import safe
from ctctl.tables.names import Names
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import Source

_PLAIN = OutputOptions(color=ColorMode.never)
_TALKER = ("key", "name", "entries", "expired", "packets", "bytes")
#: Groups that the page of top talkers has.
TALKERS = 100


def connection_text(source: Source, flow: str, width: int) -> str:
    """What ``ct get`` says of a flow; why it says nothing, where the connection is gone."""
    out = Sheet(width)
    try:
        write_connections(get(source, flow), _PLAIN, out)
    except CtctlError as error:
        out.write(prose(safe(str(error)), out))
    return f"{out.getvalue()}\nctctl ct get '{flow}'\nctctl trace '{flow}'\n"


def talkers_text(source: Source, by: By, wanted: Filter, names: Names) -> str:
    """The groups with the most entries that match the filter."""
    out = io.StringIO()
    talkers = top(source, by, wanted, limit=TALKERS, names=names)
    fields = ("node", *_TALKER) if any(one.node for one in talkers) else _TALKER
    write_rows(top_view(by.value, talkers), talkers, replace(_PLAIN, fields=fields), out)
    return out.getvalue()


def findings_text(source: Source, where: Where, width: int) -> str:
    """What the doctor finds; ``where`` are the options that name the source."""
    out = Sheet(width)
    write_diagnoses(examine(source, gc_interval_s=None, where=where), _PLAIN, out)
    return f"as of {time.strftime('%H:%M:%S')}; r looks again\n\n{out.getvalue()}"


def source_text(source: Source, tables: tuple[TableStats, ...]) -> str:
    """Tables with their counts, and by what they are read."""
    lines = [source.description, *(f"note: {note}" for note in source.notes)]
    lines += [f"missing: {part}" for part in source.partial]
    for counted, table in zip(tables, source.tables, strict=True):
        node = f"{table.node} " if table.node is not None else ""
        lines += [
            "",
            f"{node}{table.name}: {counted.entries} of {table.max_entries or 'unknown'} entries",
            f"  pressure {percent(counted.pressure)}",
            f"  layout {table.layout.value} ({table.layout_evidence})",
            f"  clock {table.clock} ({table.clock.evidence})",
            f"  now {table.now if table.now is not None else 'unknown'}",
            f"  counted by {'one pass in the kernel' if counted.engine == 'kernel' else 'reading all'}",
        ]
    return "\n".join(map(safe, lines))


KEYS = """\
Enter       open the connection of a row; there t traces it live
arrows, Page Up and Down, Home, End     move; left and right in a long line
/           filter, as ctctl ct list takes it; the rows follow as it is typed
s           sort by a field, -FIELD for descending; < and > take the next column
r           the other order; on the doctor's page: look again
b           on the page of top talkers: group by another field
Esc         back to the table

1  table    the entries
2  time     states and pressure since this screen is open
3  top      who has the most entries
4  doctor   what is wrong with the tables, and what to do
5  source   what is read, and by what

q           quit; nothing is ever changed
"""


def gc_text(source: Source) -> str:
    """When GC runs next, as far as the source tells: the tables themselves do not."""
    nodes: list[str | None] = [*source.nodes()] or [None]
    found = {fact.value for node in nodes if (fact := source.facts(node).gc_interval_s) is not None}
    if len(found) == 1:
        return f"GC next run unknown, every {format_duration(int(found.pop()))}"
    return "GC next run unknown"


def percent(share: float | None) -> str:
    """A share of one, or that it is unknown."""
    return "unknown" if share is None else f"{100 * share:.1f} %"
