"""Numbers and addresses of unknown origin, as a table can hold them."""

from __future__ import annotations

import functools
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6, inet_pton

from ctctl.errors import DecodeError


def has_any(text: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words is in a text: a tenth of what a pattern takes, asked before one that none is without."""
    for word in words:  # noqa: SIM110 - a generator takes twice as long
        if word in text:
            return True
    return False


def whole(value: object, bits: int = 32) -> int:
    """A number as a table holds it. Raises DecodeError for what is none, or does not fit in ``bits``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise DecodeError(f"{str(value)[:40]!r} is no number of {bits} bits")
    return value


def digits(text: str, bits: int = 32) -> int:
    """The same from decimal digits."""
    if len(text) < 10 and text.isascii() and text.isdecimal():  # nearly all of them; a listing has a dozen a line
        number = int(text)
        if number >> bits == 0:
            return number
    if len(text) > 20 or not text.isascii() or not text.isdecimal():
        raise DecodeError(f"{text[:40]!r} is no number of {bits} bits")
    return whole(int(text), bits)


def address(text: object) -> IPv4Address | IPv6Address:
    """An address from its text, brackets allowed. Raises DecodeError."""
    if not isinstance(text, str) or len(text) > 64:
        raise DecodeError(f"{str(text)[:40]!r} is no address")
    return _address(text)


@functools.lru_cache(maxsize=1 << 14)
def _address(text: str) -> IPv4Address | IPv6Address:
    """Listings name the same few addresses again and again."""
    bare = text.strip("[]")
    try:  # a fifth of what ip_address() takes; its last word is ip_address()'s, which knows scopes
        if ":" in bare:
            return IPv6Address(inet_pton(AF_INET6, bare))
        return IPv4Address(inet_pton(AF_INET, bare))
    except (OSError, ValueError):
        pass
    try:
        return ip_address(bare)
    except ValueError:
        raise DecodeError(f"{text!r} is no address") from None
