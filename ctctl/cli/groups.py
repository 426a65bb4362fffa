"""Groups of options that many commands share: filter, output, source. ``@grouped`` spreads them.

A command takes one parameter a group; on the command line each field of the group is an option, so
that all commands spell them alike and none repeats them.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

import typer

from ctctl.cli import complete
from ctctl.cli import options as opt
from ctctl.cli.complete import Completer
from ctctl.errors import UsageError
from ctctl.model.light import light
from ctctl.out.options import ColorMode, Format, OutputOptions

if TYPE_CHECKING:
    from ctctl.model.entry import Layout
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.base import Source, SourceOptions

_FILTER = "Filter"
_PROTOCOLS = complete.words("tcp", "udp", "icmp", "icmpv6", "sctp")
_STATES = complete.words("new", "established", "closing", "closed")


def filter_option(flag: str, metavar: str, text: str, known: Completer | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, autocompletion=known, rich_help_panel=_FILTER)


Many = list[str] | None


ProtocolOpt = Annotated[
    Many, filter_option("--protocol", "NAME|N", "tcp, udp, icmp, icmpv6, sctp or a number.", _PROTOCOLS)
]
RelatedOpt = Annotated[
    bool | None, typer.Option("--related/--no-related", help="ICMP related entries.", rich_help_panel=_FILTER)
]
NotOpt = Annotated[bool, typer.Option("--not", help="Negate the whole filter.", rich_help_panel=_FILTER)]


def long_option(hint: Any) -> str:
    """The long option of an annotated parameter, as it is declared: ``--expired/--live`` where there are two."""
    option = hint.__metadata__[0]
    # typer keeps the first spelling in an annotation as the default.
    declared: str = (option.default, *option.param_decls)[-1]
    return declared


@light
class FilterOptions:
    """Options whose names are those of ``FilterFlags``. ``OF_NAT``: of SNAT entries."""

    OF_NAT: ClassVar[bool] = False

    def filter(self, expression: list[str] | None = None) -> Filter:
        """The filter of options and expression. Raises UsageError."""
        given: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                given[item.name] = tuple(value) if isinstance(value, list) else value
        if not given and not expression:
            from ctctl.tables.query.filter import EVERYTHING

            return EVERYTHING
        from ctctl.tables.query.flags import FilterFlags

        return FilterFlags(**given).filter(" ".join(expression or ()), nat=self.OF_NAT)

    def words(self, expression: Sequence[str] | None = None) -> tuple[str, ...]:
        """The same as it is typed, expression first, as every command with a filter takes it."""
        said = list(expression or ())
        hints = get_type_hints(type(self), include_extras=True)
        for item in fields(self):
            value = getattr(self, item.name)
            if value == item.default:
                continue
            on, _, off = long_option(hints[item.name]).partition("/")
            if isinstance(value, bool):
                said.append(on if value else off)
            else:
                said += [word for one in value for word in (on, str(one))]
        return tuple(said)


@light
class FlowFilterArgs(FilterOptions):
    """The filter options that flows have too (docs/reference/cli.md): repeated values are alternatives."""

    ip: Annotated[Many, filter_option("--ip", "IP|CIDR|NAME", "Either end.", complete.addresses)] = None
    from_ip: Annotated[
        Many, filter_option("--from-ip", "IP|CIDR|NAME", "The end that opened the connection.", complete.addresses)
    ] = None
    to_ip: Annotated[
        Many, filter_option("--to-ip", "IP|CIDR|NAME", "The end it was opened to.", complete.addresses)
    ] = None
    port: Annotated[Many, filter_option("--port", "N|A-B", "Either port.")] = None
    from_port: Annotated[Many, filter_option("--from-port", "N|A-B", "Source port.")] = None
    to_port: Annotated[Many, filter_option("--to-port", "N|A-B", "Destination port.")] = None
    protocol: ProtocolOpt = None
    direction: Annotated[
        Many,
        filter_option("--direction", "out|in|svc", "What the entry was made for.", complete.words("out", "in", "svc")),
    ] = None
    state: Annotated[Many, filter_option("--state", "STATE", "new, established, closing or closed.", _STATES)] = None
    flag: Annotated[Many, filter_option("--flag", "NAME", "A flag that is set, e.g. DSRInternal.", complete.flags)] = (
        None
    )
    backend_id: Annotated[
        Many, filter_option("--backend-id", "N", "Backend of a service entry.", complete.backend_ids)
    ] = None
    rev_nat: Annotated[Many, filter_option("--rev-nat", "N", "Reverse NAT index.", complete.rev_nats)] = None
    identity: Annotated[
        Many, filter_option("--identity", "N|NAME|LABEL", "Source security identity.", complete.identities)
    ] = None
    service: Annotated[
        Many, filter_option("--service", "NAME|IP[:PORT]", "What a service takes part in.", complete.services)
    ] = None
    related: RelatedOpt = None
    inverted: NotOpt = False


@light
class FilterArgs(FlowFilterArgs):
    """The filter options of entries."""

    expired: Annotated[
        bool | None, typer.Option("--expired/--live", help="Expired or not.", rich_help_panel=_FILTER)
    ] = None


@light
class OutputArgs:
    """The output options (docs/reference/cli.md)."""

    output: opt.OutputOpt = Format.table
    fields: opt.FieldsOpt = None
    sort: opt.SortOpt = None
    limit: opt.LimitOpt = None
    no_headers: opt.NoHeadersOpt = False
    color: opt.ColorOpt = ColorMode.auto

    def options(self, *, follow: bool = False) -> OutputOptions:
        """As the render layer takes them. Raises UsageError."""
        return opt.output_options(
            self.output, self.fields, self.sort, self.limit, self.no_headers, color=self.color, follow=follow
        )

    def limited(self, limit: int) -> OutputOptions:
        """The options with a limit, for a preview."""
        return replace(self.options(), limit=limit)


def not_both_ways(nodes: Sequence[str] | None, *, every_node: bool) -> None:
    """Raise UsageError where some nodes are named, and all are asked for."""
    if every_node and nodes:
        raise UsageError("-A is every node: leave out --node, or -A")


def named_nodes(nodes: Sequence[str] | None, *, every_node: bool, here: bool) -> tuple[str, ...]:
    """The nodes that were named; of this machine (``here``), where nothing is said, those of ``$CTCTL_NODE``."""
    if nodes or every_node or not here:
        return tuple(dict.fromkeys(nodes or ()))
    return tuple(dict.fromkeys(os.environ.get("CTCTL_NODE", "").split()))


@light
class TablesArgs:
    """Where records come from and how to read them: of tables without times."""

    source: opt.FromOpt = None
    nodes: opt.NodesOpt = None
    map: opt.MapOpt = None
    layout: opt.LayoutOpt = None
    names: opt.NamesOpt = None
    verbose: opt.VerboseOpt = False
    every_node: opt.EveryNodeOpt = False

    @property
    def named(self) -> tuple[str, ...]:
        """The nodes that were named; for tables of this machine, where none is, those of ``$CTCTL_NODE``."""
        here = self.source in (None, [], ["auto"])
        return named_nodes(self.nodes, every_node=self.every_node, here=here)

    @property
    def node(self) -> str | None:
        """The one node that was named; None where none or several were."""
        return self.named[0] if len(self.named) == 1 else None

    def options(self) -> SourceOptions:
        """As the source layer takes them. Raises UsageError."""
        from ctctl.model.clock import parse_clock
        from ctctl.tables.sources.base import SourceOptions

        layout = _layout(self.layout) if self.layout is not None else None
        clock, now = self._time()
        read_by = parse_clock(clock) if clock is not None else None
        return SourceOptions(self.node, self.map, layout, read_by, now, tuple(self.names or ()))

    def _time(self) -> tuple[str | None, int | None]:
        """The clock and the now that were given."""
        return None, None

    def open(self) -> Source:
        """The source. Raises CtctlError."""
        from ctctl.tables.open import open_nodes, open_source

        not_both_ways(self.nodes, every_node=self.every_node)
        if self.every_node or len(self.named) > 1:
            return open_nodes(self.source or ["auto"], self.named, self.options())
        return open_source(self.source or "auto", self.options())


@light
class SourceArgs(TablesArgs):
    """The same of tables whose records have times."""

    now: opt.NowOpt = None
    clock: opt.ClockOpt = None

    def _time(self) -> tuple[str | None, int | None]:
        return self.clock, self.now


def _layout(version: str) -> Layout:
    from ctctl.model.entry import Layout
    from ctctl.model.suggest import unknown_name
    from ctctl.model.version import FIRST_MINOR, LAST_MINOR

    layout = Layout.of_version(version)
    if layout is None:
        known = [f"1.{minor}" for minor in range(FIRST_MINOR, LAST_MINOR + 1)]
        raise UsageError(unknown_name("layout", version, known))
    return layout


class _Spread:
    """A command with its groups spread. What typer reads of it is made when it is read: a run uses one command."""

    def __init__(self, command: Callable[..., None]) -> None:
        self._command = command
        functools.update_wrapper(self, command, ("__module__", "__name__", "__qualname__", "__doc__"))

    def __call__(self, **given: Any) -> None:
        groups = self._parts[1].items()
        made = {name: kind(**{item.name: given.pop(item.name) for item in fields(kind)}) for name, kind in groups}
        self._command(**given, **made)

    @functools.cached_property
    def _parts(self) -> tuple[list[inspect.Parameter], dict[str, type[Any]]]:
        """The parameters that there are then, and which group each of the command's was."""
        hints = get_type_hints(self._command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        groups: dict[str, type[Any]] = {}
        for parameter in inspect.signature(self._command).parameters.values():
            annotation = hints[parameter.name]
            if is_dataclass(annotation) and isinstance(annotation, type):
                groups[parameter.name] = annotation
                parameters += _spread(annotation)
            else:
                parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))
        return parameters, groups

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature(self._parts[0])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {parameter.name: parameter.annotation for parameter in self._parts[0]}


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with each option group among its parameters spread into options."""
    return _Spread(command)


@functools.cache
def _spread(group: type) -> tuple[inspect.Parameter, ...]:
    hints = get_type_hints(group, include_extras=True)
    found = []
    for item in fields(group):
        default = inspect.Parameter.empty if item.default is MISSING else item.default
        kind = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(item.name, kind, default=default, annotation=hints[item.name]))
    return tuple(found)
