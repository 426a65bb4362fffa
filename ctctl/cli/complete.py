"""What the shells offer as values of shared options. Never fails and says nothing: what cannot be read offers nothing.

Only typer and the standard library at import time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ctctl.out.view import View
    from ctctl.tables.sources.base import CtTable, Source

Completer = Callable[[typer.Context, str], list[str]]

#: Entries of a table that are looked at for addresses, and answers given: a key press waits for both.
_SAMPLE = 2048
_ANSWERS = 200
#: Bytes of a file that is read for its addresses.
_FILE_MAX = 8 << 20
#: Where a completer that depends on nothing has its words.
KNOWN = "known"


def answering(values: Callable[[typer.Context], Iterable[str]]) -> Completer:
    """The values that begin as typed; none where they cannot be read."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            found = dict.fromkeys(value for value in values(ctx) if value.startswith(incomplete))
        except Exception:  # whatever is wrong with a source, a key press is no place to say it
            return []
        return list(islice(found, _ANSWERS))

    return _known_by_name(complete)


def _known_by_name(complete: Completer) -> Completer:
    """The completer without its annotations: typer evaluates the text of each, at every start, and goes by names."""
    complete.__annotations__ = {}
    return complete


def words(*known: str) -> Completer:
    """Completes one of ``known``, which whoever makes a table of them finds at the completer."""
    completer = answering(lambda _ctx: known)
    setattr(completer, KNOWN, known)
    return completer


def _node(ctx: typer.Context) -> str | None:
    """The node that the options before the word name."""
    several = ctx.params.get("nodes")
    return str(several[0]) if several else ctx.params.get("node")


@contextmanager
def _source(ctx: typer.Context) -> Iterator[Source]:
    """The source that the options before the word name; an empty one for stdin and big files."""
    from ctctl.tables.open import open_source
    from ctctl.tables.sources.base import Source, SourceOptions

    given = ctx.params.get("source") or "auto"
    spec = str(given[-1] if isinstance(given, (list, tuple)) else given)
    if spec == "-" or (Path(spec).is_file() and Path(spec).stat().st_size > _FILE_MAX):
        yield Source(spec)
        return
    with open_source(spec, SourceOptions(node=_node(ctx))) as source:
        yield source


def _maps(ctx: typer.Context) -> Iterator[str]:
    with _source(ctx) as source:
        yield from (table.name for table in source.tables)
        if source.directory is not None:
            from ctctl.tables.sources.pinned import table_names

            yield from table_names(path.name for path in sorted(Path(source.directory).iterdir()))


def _addresses(ctx: typer.Context) -> Iterator[str]:
    from ctctl.decode.ct import decode_key
    from ctctl.tables.names import endpoints_of

    with _source(ctx) as source:
        yield from endpoints_of(source).values()
        for table in source.tables:
            for key in islice(_keys(table), _SAMPLE):
                flow, _flags = decode_key(key)
                yield str(flow.src)
                yield str(flow.dst)


def _keys(table: CtTable) -> Iterator[bytes]:
    if table.live is not None:
        # One by one: a batch would load numpy, which takes longer than the whole answer.
        yield from (key for key, _value in table.live.items())
    else:
        yield from (bytes(key) for keys, _values in table.read() for key in keys)


def _endpoints(ctx: typer.Context) -> Iterator[str]:
    from ctctl.tables.names import endpoints_of

    with _source(ctx) as source:
        for address, name in endpoints_of(source).items():
            yield from (name, address)


def _rev_nats(ctx: typer.Context) -> Iterator[str]:
    with _source(ctx) as source:
        yield from (str(record.rev_nat) for record in source.some(_node(ctx), "rev_nats").rev_nats)


def _backend_ids(ctx: typer.Context) -> Iterator[str]:
    with _source(ctx) as source:
        yield from (str(record.backend_id) for record in source.some(_node(ctx), "backends").backends)


def _nodes(_ctx: typer.Context) -> list[str]:
    from ctctl.node.find import list_nodes

    return sorted(list_nodes())


def _view(ctx: typer.Context) -> View[Any] | None:
    """The view of the command that is being typed."""
    from ctctl.ct import show as ct_reports
    from ctctl.services import show_identity, show_lb, show_policy
    from ctctl.tables.show import entry as ct

    group = ctx.parent.info_name if ctx.parent is not None else None
    if group == "ct":
        views: dict[str, Callable[[], View[Any]]] = {
            "top": lambda: ct_reports.top_view(str(ctx.params.get("by") or "src")),
            "events": ct_reports.event_view,
            "diff": ct_reports.diff_view,
        }
        return views.get(str(ctx.info_name), ct.ct_view)()
    if group == "lb":
        kinds: dict[str, Callable[[], View[Any]]] = {
            "frontends": lambda: show_lb.slot_view(0),
            "backends": show_lb.backend_view,
            "revnat": show_lb.rev_nat_view,
            "source_ranges": show_lb.source_range_view,
            "maglev": show_lb.maglev_view,
        }
        return next((view for kind, view in kinds.items() if ctx.params.get(kind)), lambda: show_lb.frontend_view(0))()
    others: dict[str | None, Callable[[], View[Any]]] = {
        "nat": lambda: _nat_view(str(ctx.info_name)),
        "ipcache": lambda: show_identity.ipcache_view({}, 0),
        "endpoint": lambda: show_identity.endpoint_view({}, 0),
        "tunnel": show_identity.tunnel_view,
        "socknat": lambda: show_identity.socket_view({}),
        "policy": lambda: show_policy.verdict_view({}) if ctx.info_name == "get" else show_policy.policy_view({}, 0),
        "metrics": lambda: show_policy.counter_view(None, {}),
    }
    return others[group]() if group in others else None


def _nat_view(command: str) -> View[Any]:
    from ctctl.model.clock import Clock
    from ctctl.services import show_nat

    return show_nat.port_use_view({}) if command == "stats" else show_nat.nat_view({}, Clock(), None)


def _identities(ctx: typer.Context) -> Iterator[str]:
    from ctctl.model.identity import RESERVED_NUMBERS
    from ctctl.tables.names import book_of

    yield from RESERVED_NUMBERS
    with _source(ctx) as source:
        for labels in book_of(source, _node(ctx)).labels.values():
            yield from (label.partition(":")[2] for label in labels)


def _services(ctx: typer.Context) -> Iterator[str]:
    from ctctl.tables.names import book_of

    with _source(ctx) as source:
        book = book_of(source, _node(ctx))
        yield from book.services
        yield from book.service_ids.values()


def _fields(ctx: typer.Context) -> list[str]:
    view = _view(ctx)
    return [] if view is None else [column.name for column in (*view.columns, *view.extra)]


def _flags(_ctx: typer.Context) -> list[str]:
    from ctctl.model.entry import CtFlags

    return [str(flag.name) for flag in CtFlags]


@_known_by_name
def terms(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """A filter's fields, and the values of those that have few."""
    from ctctl.cli import tab
    from ctctl.tables.query.parse import FIELD_NAMES, KNOWN_WORDS

    return tab.terms(sorted(FIELD_NAMES), KNOWN_WORDS, incomplete)


@_known_by_name
def several(ctx: typer.Context, incomplete: str) -> list[str]:
    """Fields separated by commas: the last one completes, and those that stand are not offered again."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in fields(ctx, last) if name not in before.split(",")]


nodes = answering(_nodes)
maps = answering(_maps)
addresses = answering(_addresses)
rev_nats = answering(_rev_nats)
backend_ids = answering(_backend_ids)
fields = answering(_fields)
flags = answering(_flags)
identities = answering(_identities)
services = answering(_services)
endpoints = answering(_endpoints)
