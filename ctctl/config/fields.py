"""Typed reading of a YAML mapping: every value checked, every error with its line and the offending value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias, TypeVar, overload

from ctctl.config.yamltree import Item, parse_int
from ctctl.errors import ConfigError
from ctctl.model.suggest import nearest
from ctctl.model.units import parse_duration

T = TypeVar("T")
D = TypeVar("D")

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_REQUIRED = object()
#: Expiry times are 32 bits of seconds: a longer lifetime would wrap round into the past.
_LONGEST_S = 0x7FFFFFFF


def hint(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the known word nearest to a wrong one, else the list of known words."""
    words = sorted(known)
    close = nearest(word, words)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(words) or 'none'}"


def parse_seconds(text: str) -> int:
    """Whole seconds from ``10s``, ``2h13m20s``, ``1d`` or a plain number. Raises ValueError."""
    seconds = parse_duration(text)
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is too long: at most {_LONGEST_S} seconds")
    if seconds != int(seconds):
        raise ValueError(f"{text!r} is no whole number of seconds")
    return int(seconds)


def parse_mac(text: str) -> str:
    """A MAC address in lower case with colons. Raises ValueError."""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{text!r} is not a MAC address")
    return mac


def parse_ip(text: str) -> Address:
    """An address of either family. Raises ValueError."""
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def parse_ipv4(text: str) -> IPv4Address:
    """An IPv4 address. Raises ValueError."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None
    if not isinstance(address, IPv4Address):
        raise ValueError(f"{text!r} is an IPv6 address; an IPv4 address stands here")
    return address


def parse_ipv6(text: str) -> IPv6Address:
    """An IPv6 address. Raises ValueError."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv6 address") from None
    if not isinstance(address, IPv6Address):
        raise ValueError(f"{text!r} is an IPv4 address; an IPv6 address stands here")
    return address


def parse_network(text: str) -> Network:
    """A network of either family; a plain address is one too. Raises ValueError, also when host bits are set."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.64.0.0/24 or fd00:64::/48") from None
    if ip_address(text.split("/", maxsplit=1)[0]) != network.network_address:
        raise ValueError(f"{text!r} has bits set beyond its prefix; did you mean {network}?")
    return network


def parse_cidr(text: str) -> IPv4Network:
    """An IPv4 network; a plain address is a /32. Raises ValueError, also when host bits are set."""
    network = parse_network(text)
    if not isinstance(network, IPv4Network):
        raise ValueError(f"{text!r} is an IPv6 network; an IPv4 network stands here")
    return network


def parse_cidr6(text: str) -> IPv6Network:
    """An IPv6 network; a plain address is a /128. Raises ValueError, also when host bits are set."""
    network = parse_network(text)
    if not isinstance(network, IPv6Network):
        raise ValueError(f"{text!r} is an IPv4 network; an IPv6 network stands here")
    return network


class Fields:
    """A mapping being read. ``what`` names it in errors; keys outside ``known`` are refused at once.

    Every getter takes a key and an optional default; without a default the key is required. All
    raise ConfigError with the line of the offending value.
    """

    def __init__(self, item: Item, what: str, known: Iterable[str]) -> None:
        if item.kind != "map":
            raise item.error(f"{what}: expected a mapping, not {item.shown}")
        self.item = item
        self.what = what
        known_keys = frozenset(known)
        for key, line in item.key_lines.items():
            if key not in known_keys:
                message = f"{what}: unknown key {key!r}; {hint(key, known_keys)}"
                raise ConfigError(message, path=item.path, line=line)

    def __contains__(self, key: str) -> bool:
        return key in self.item.entries and self.item.entries[key].kind != "null"

    def error(self, key: str, message: str) -> ConfigError:
        """An error about the value of ``key``."""
        return self.item.entries.get(key, self.item).error(f"{self.what}: {key}: {message}")

    @overload
    def parsed(self, key: str, parse: Callable[[str], T]) -> T: ...
    @overload
    def parsed(self, key: str, parse: Callable[[str], T], default: D) -> T | D: ...
    def parsed(self, key: str, parse: Callable[[str], T], default: object = _REQUIRED) -> object:
        """The scalar's text through ``parse``, whose ValueError becomes the error's message."""
        item = self.item.entries.get(key)
        if item is None or item.kind == "null":
            if default is _REQUIRED:
                raise self.item.error(f"{self.what}: {key} is missing")
            return default
        if item.kind in ("map", "seq"):
            raise self.error(key, f"expected one value, not {item.shown}")
        try:
            return parse(item.text)
        except ValueError as err:
            raise self.error(key, str(err)) from None

    def text(self, key: str, default: str | None = None) -> str:
        """Text that is not empty."""
        return self.parsed(key, _text) if default is None else self.parsed(key, _text, default)

    def integer(self, key: str, default: int | None = None, *, low: int = 0, high: int = 0xFFFFFFFF) -> int:
        """A whole number in ``low..high``."""

        def parse(text: str) -> int:
            number = parse_int(text)
            if number is None:
                raise ValueError(f"{text!r} is not a whole number")
            if not low <= number <= high:
                raise ValueError(f"{number} is not in {low}..{high}")
            return number

        return self.parsed(key, parse) if default is None else self.parsed(key, parse, default)

    def optional_integer(self, key: str, *, low: int = 0, high: int = 0xFFFFFFFF) -> int | None:
        """A whole number in ``low..high``, None if absent."""
        return self.integer(key, low=low, high=high) if key in self else None

    def boolean(self, key: str, default: bool) -> bool:
        """true or false."""
        if key in self and self.item.entries[key].kind != "bool":
            raise self.error(key, f"{self.item.entries[key].shown} is neither true nor false")
        return self.item.entries[key].plain() is True if key in self else default

    def duration(self, key: str, default: int) -> int:
        """Whole seconds."""
        return self.parsed(key, parse_seconds, default)

    def choice(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """One of ``choices``, whatever the case; returned as spelt there."""
        spelt = {choice.lower(): choice for choice in choices}

        def parse(text: str) -> str:
            if text.lower() not in spelt:
                raise ValueError(f"{text!r} is not one of {', '.join(spelt.values())}")
            return spelt[text.lower()]

        return self.parsed(key, parse) if default is None else self.parsed(key, parse, default)

    def mapping(self, key: str) -> Item:
        """A mapping; an empty one if absent."""
        item = self.item.entries.get(key)
        if item is None or item.kind == "null":
            return Item("map", self.item.path, self.item.line)
        if item.kind != "map":
            raise self.error(key, f"expected a mapping, not {item.shown}")
        return item

    def sequence(self, key: str) -> tuple[Item, ...]:
        """A list's items; none if absent."""
        item = self.item.entries.get(key)
        if item is None or item.kind == "null":
            return ()
        if item.kind != "seq":
            raise self.error(key, f"expected a list, not {item.shown}")
        return item.items

    def networks(self, key: str) -> tuple[Network, ...]:
        """A list of networks, or one; none if absent."""
        item = self.item.entries.get(key)
        items = self.sequence(key) if item is None or item.kind in ("null", "seq", "map") else (item,)
        found = []
        for each in items:
            try:
                found.append(parse_network(each.text))
            except ValueError as err:
                raise each.error(f"{self.what}: {key}: {err}") from None
        return tuple(found)


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text
