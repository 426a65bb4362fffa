"""The filter options of the command line, and the filter that they are together with an expression."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ctctl.errors import UsageError
from ctctl.tables.query.filter import Filter

if TYPE_CHECKING:
    from ctctl.tables.query.ast import Node

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FilterFlags:
    """The filter options of the command line; values of one option are alternatives, options add up."""

    ip: tuple[str, ...] = ()
    from_ip: tuple[str, ...] = ()
    to_ip: tuple[str, ...] = ()
    port: tuple[str, ...] = ()
    from_port: tuple[str, ...] = ()
    to_port: tuple[str, ...] = ()
    protocol: tuple[str, ...] = ()
    direction: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    flag: tuple[str, ...] = ()
    backend_id: tuple[str, ...] = ()
    rev_nat: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    related: bool | None = None
    expired: bool | None = None
    inverted: bool = False

    def filter(self, expression: str = "", *, nat: bool = False) -> Filter:
        """Flags and expression as one filter: everything must hold; ``inverted`` negates the whole.

        ``nat``: the expression is about SNAT entries.

        Raises UsageError that names the option.
        """
        nodes = [] if self == FilterFlags(inverted=self.inverted) else [*self._terms()]
        if expression.strip():
            from ctctl.tables.query.parse import CT_WORDS, NAT_WORDS, parse_filter

            parsed = parse_filter(expression, NAT_WORDS if nat else CT_WORDS)
            nodes += [] if parsed is None else [parsed]
        if not nodes:
            if self.inverted:
                raise UsageError("--not: there is nothing to negate; give a filter too")
            return Filter()
        from ctctl.tables.query.ast import And, Not

        node: Node = nodes[0] if len(nodes) == 1 else And(tuple(nodes))
        return Filter(Not(node) if self.inverted else node)

    def _terms(self) -> Iterable[Node]:
        from ctctl.tables.query import values
        from ctctl.tables.query.ast import HasFlags, Or, Term

        options = {
            "ip": ("ip", self.ip),
            "from-ip": ("src", self.from_ip),
            "to-ip": ("dst", self.to_ip),
            "port": ("port", self.port),
            "from-port": ("src_port", self.from_port),
            "to-port": ("dst_port", self.to_port),
            "protocol": ("proto", self.protocol),
            "direction": ("direction", self.direction),
            "state": ("state", self.state),
            "backend-id": ("backend_id", self.backend_id),
            "rev-nat": ("rev_nat", self.rev_nat),
            "identity": ("src_sec_id", self.identity),
            "service": ("service", self.service),
        }
        for option, (name, texts) in options.items():
            if texts:
                yield Term(name, tuple(_read(option, values.READERS[name], text) for text in _split(texts)))
        if self.flag:
            masks = tuple(HasFlags(_read("flag", values.flag_mask, text)) for text in _split(self.flag))
            yield masks[0] if len(masks) == 1 else Or(masks)
        if self.related is not None:
            yield Term("related", ("true" if self.related else "false",))
        if self.expired is not None:
            yield Term("expired", ("true" if self.expired else "false",))


def _split(texts: tuple[str, ...]) -> Iterable[str]:
    return (part.strip() for text in texts for part in text.split(","))


def _read(option: str, reader: Callable[[str], T], text: str) -> T:
    try:
        return reader(text)
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from None
