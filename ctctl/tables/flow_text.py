"""A connection as it is typed, with names where addresses belong: ``tcp default/client > web:80``."""

from __future__ import annotations

import re
from ipaddress import ip_address

from ctctl.errors import UsageError
from ctctl.model.tuples import Address, FlowTuple, end_text, is_address
from ctctl.model.units import decimal
from ctctl.tables.namebook import NameBook
from ctctl.tables.query.values import PROTOCOLS

_ENDS = re.compile(r"\s*+(?P<proto>[\w-]+)\s+(?P<src>\S+)\s*(?:->|>)\s*(?P<dst>\S+)\s*")
_PACKET = re.compile(r"(?P<head>.*?\s)?(?P<src>[^\s>]+?)(?P<arrow>\s*(?:->|>)\s*)(?P<dst>\S+)")
#: A pod, service or node, with its namespace or without.
_NAME = re.compile(r"(?:[\w.-]+/){0,2}[\w.-]+")
_END = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<plain>[^\[\]]+?))(?::(?P<port>\d{1,5}))?")


def connection_of(text: str, book: NameBook) -> FlowTuple:
    """The connection a text means; without a port it is 0. Raises UsageError."""
    match = _ENDS.fullmatch(text)
    if match is None:
        raise UsageError(f"flow {text!r}: write it as 'tcp SOURCE > DESTINATION:PORT'")
    proto = PROTOCOLS.get(match["proto"].lower())
    if proto is None:
        raise UsageError(f"flow {text!r}: unknown protocol {match['proto']!r}")
    src, src_port = _known_end(match["src"], book) or _end_of(match["src"], text)
    dst, dst_port = _known_end(match["dst"], book) or _end_of(match["dst"], text)
    version = next((one.version for one in (src, dst) if not isinstance(one, str)), None)
    source = book.address_of(src, version) if isinstance(src, str) else src
    target = book.address_of(dst, version or source.version) if isinstance(dst, str) else dst
    if source.version != target.version:
        raise UsageError(f"flow {text!r}: an IPv{source.version} and an IPv{target.version} address")
    return FlowTuple(proto, source, src_port, target, dst_port)


def _known_end(word: str, book: NameBook) -> tuple[Address, int] | None:
    """``fd00::1:80`` as the Cilium CLI writes an end, where the node knows the address without its last part only."""
    host, _, port = word.rpartition(":")
    if ":" not in host or word.startswith("[") or not (is_address(word) and is_address(host)):
        return None
    number = decimal(port, 0xFFFF)
    if number is None or _knows(book, word) or not _knows(book, host):
        return None
    return ip_address(host), number


def _knows(book: NameBook, text: str) -> bool:
    address = ip_address(text)
    slots = book.listings.services
    return (
        any(one.addr == address for one in book.listings.endpoints)
        or any(one.prefix == f"{address}/{address.max_prefixlen}" for one in book.listings.ipcache)
        or any(one.addr == address for one in slots)
        or any(address in ends for ends in book.pods.values())
    )


def _end_of(word: str, text: str) -> tuple[Address | str, int]:
    """An address or a name, and its port."""
    try:
        return ip_address(word.strip("[]")), 0
    except ValueError:
        pass
    match = _END.fullmatch(word)
    if match is None or int(match["port"] or 0) > 65535:
        raise UsageError(f"flow {text!r}: {word!r} is neither an address nor a name with a port")
    host = match["six"] or match["plain"]
    try:
        return ip_address(host), int(match["port"] or 0)
    except ValueError:
        return host, int(match["port"] or 0)


def has_names(text: str) -> bool:
    """Whether one of a packet text's ends is a name."""
    match = _PACKET.match(text)
    return match is not None and any(
        _is_name(re.sub(r":\d{1,5}$", "", match[name])) and not _is_address(match[name]) for name in ("src", "dst")
    )


def _is_address(word: str) -> bool:
    try:
        return not isinstance(_end_of(word, word)[0], str)
    except UsageError:
        return False


def with_addresses(text: str, book: NameBook, *, one_packet: bool = False) -> str:
    """Packet or flow text with the names at its two ends replaced by addresses. Raises UsageError.

    ``one_packet``: it is of a packet that is to be sent, so one to a service without a port goes to the one it has.

    What has no name is handed on as it stands, for the reader of such texts to judge.
    """
    match = _PACKET.match(text)
    if match is None:
        return text
    try:
        ends = [_end_of(match[name], text) for name in ("src", "dst")]
    except UsageError:
        return text
    if not any(isinstance(end, str) and _is_name(end) for end, _ in ends):
        return text
    version = next((end.version for end, _ in ends if not isinstance(end, str)), None)
    proto = PROTOCOLS.get((match["head"] or "").strip().lower())
    said = []
    for name, (end, port) in zip(("src", "dst"), ends, strict=True):
        if not isinstance(end, str) or not _is_name(end):
            said.append(match[name])
            continue
        address = book.address_of(end, version)
        version = version or address.version
        to_service = one_packet and name == "dst" and not port
        said.append(end_text(address, _port_at(address, end, book, proto) if to_service else port))
    return text[: match.start("src")] + said[0] + match["arrow"] + said[1] + text[match.end() :]


def _port_at(address: Address, name: str, book: NameBook, proto: int | None) -> int:
    """The port of a service at one of its addresses; 0 for what is none. Raises UsageError where it has several."""
    try:
        frontends = book.service(name).frontends
    except UsageError:
        return 0
    ports = sorted(
        {
            port
            for network, port, other in frontends
            if address in network and port and (not other or proto in (None, other))
        }
    )
    if len(ports) > 1:
        raise UsageError(f"{name!r} has the ports {', '.join(map(str, ports))}: write for example {name}:{ports[0]}")
    return ports[0] if ports else 0


def _is_name(word: str) -> bool:
    return word not in ("any", "*") and _NAME.fullmatch(word) is not None and re.search(r"[A-Za-z_]", word) is not None
