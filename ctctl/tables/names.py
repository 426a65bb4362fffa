"""Names both ways: of addresses, services and identities as they are shown, and what a typed name stands for.

The one home of names. They come from the record of a node of ours, from a Cilium node's own state (its
agent's API, the endpoints it stored), from what listings of a dump say, and from files beside the source:
Kubernetes objects, a sysdump, what the agent answered (``--names``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.errors import CtctlError
from ctctl.model.light import light
from ctctl.model.tuples import PROTOCOL_NUMBERS
from ctctl.tables.namebook import NameBook
from ctctl.tables.query.context import ServiceRef
from ctctl.tables.sources.base import Source, no_listings

if TYPE_CHECKING:
    from ctctl.config.node import NodeFile


#: What things are called on a node: numbers of services and backends are a node's own.
Names = Callable[[str | None], Mapping[str, str]]


def book_of(source: Source, node: str | None = None) -> NameBook:
    """All names of one node of a source, read once. Raises CtctlError only for files the user named."""
    known = source.books.get(node)
    if isinstance(known, NameBook):
        return known
    book = source.books[node] = NameBook()
    try:
        book.listings = source.some(node, "backends", "rev_nats", "services", "ipcache", "endpoints")
    except CtctlError:
        book.listings = no_listings()
    for address, name in book.listings.names.items():
        book.add_pod(name, [address])
    home, _ = source.home_of(node)
    if home.directory is not None and not home.foreign:
        _add_own(book, Path(home.directory))
    elif home.directory is not None:
        from ctctl.node.cilium import is_this_nodes

        if is_this_nodes(Path(home.directory)):
            from ctctl.tables.names_agent import add_agent

            add_agent(book)
    _add_documents(book, source, node)
    for path in source.name_files:
        from ctctl.tables.names_files import add_file

        source.partial += [text for text in add_file(book, Path(path)) if text not in source.partial]
    return book


def _add_documents(book: NameBook, source: Source, node: str | None) -> None:
    """What files of the source itself name: a sysdump's Kubernetes objects, a bugtool's answers of the agent."""
    documents = source.documents(node)
    if not documents:
        return
    from ctctl.tables.names_files import add_own

    left_out = sum(not add_own(book, data) for data in documents)
    if left_out:
        note = f"names of {left_out} large file(s) of the source are left out: --names FILE reads them"
        if note not in source.notes:
            source.notes.append(note)


def _add_own(book: NameBook, directory: Path) -> None:
    """Pods by address and services by rev-NAT id, from the record of the file a node of ours was loaded with."""
    from ctctl.node.record import MAP_NAME, read_record

    try:
        record = read_record(directory / MAP_NAME)
    except CtctlError:
        return
    if record is None:
        return
    for address, name in record.endpoints.items():
        book.add_pod(name, [address])
    heads = {one.rev_nat: one for one in book.listings.rev_nats}
    for text, name in record.services.items():
        number = int(text)
        head = heads.get(number)
        book.add_service(name, [str(head.addr)] if head else [], head.port if head else 0, 0, number)


def add_configured(book: NameBook, nodes: Iterable[NodeFile]) -> None:
    """What node files call their nodes, endpoints and services."""
    for one in nodes:
        book.add_node(one.node.name, [str(end) for end in (one.node.ip, one.node.ip6) if end is not None])
        for endpoint in one.endpoints:
            book.add_pod(endpoint.name, [str(end) for end in (endpoint.ip, endpoint.ip6) if end is not None])
        for service in one.services:
            proto = PROTOCOL_NUMBERS.get(service.protocol.lower(), 0)
            book.add_service(service.name, [str(service.ip)], service.port, proto, service.id)


def names_of(source: Source, node: str | None = None) -> dict[str, str]:
    """Names to show, as ``NameBook.shown`` has them. Raises CtctlError only for files the user named."""
    return book_of(source, node).shown()


@light
class NodeNames:
    """Names to show of every node of a source, each read when it is first asked for (``Names``)."""

    source: Source
    _known: dict[str | None, dict[str, str]] = field(default_factory=dict)

    def __call__(self, node: str | None) -> dict[str, str]:
        """Raises CtctlError only for files the user named."""
        if node not in self._known:
            self._known[node] = names_of(self.source, node)
        return self._known[node]


def no_names(_node: str | None) -> Mapping[str, str]:
    """Where none are shown."""
    return {}


def endpoints_of(source: Source) -> dict[str, str]:
    """Names of the pods of a source by address, for completion."""
    book = book_of(source)
    return {str(address): name for name, addresses in book.pods.items() for address in addresses}


@light
class SourceNames:
    """The names of one node of a source, read when a filter first asks for one."""

    source: Source
    node: str | None = None

    def networks(self, name: str) -> Sequence[IPv4Network | IPv6Network]:
        return book_of(self.source, self.node).networks(name)

    def identities(self, name: str) -> Sequence[int]:
        return book_of(self.source, self.node).identities(name)

    def backends(self, name: str) -> Sequence[int]:
        return book_of(self.source, self.node).backends(name)

    def service(self, name: str) -> ServiceRef:
        return book_of(self.source, self.node).service(name)
