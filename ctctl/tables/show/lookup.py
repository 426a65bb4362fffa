"""Names by address and by number, as row programs find them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address

from ctctl.out.rowtables import KeyTable


class KnownAddresses:
    """Addresses of one family that have names, in the order of ``names``."""

    def __init__(self, names: Mapping[str, str], family: int) -> None:
        found: dict[bytes, str] = {}
        for text, name in names.items():
            if text.startswith(("backend ", "rev-nat ", "identity ")):
                continue
            try:
                address = ip_address(text)
            except ValueError:
                continue
            if address.version == family:
                found[address.packed] = name
        self.names = list(found.values())
        self.keys = KeyTable(list(found), 4 if family == 4 else 16)


class KnownNumbers:
    """Things of a kind (``backend``, ``identity``) that have names, by their number; 0 has none."""

    def __init__(self, names: Mapping[str, str], kind: str, width: int) -> None:
        pattern = re.compile(rf"{kind} (\d+)")
        numbers = ((int(match[1]), name) for key, name in names.items() if (match := pattern.fullmatch(key)))
        found = {number: name for number, name in numbers if 0 < number < 1 << 8 * width}
        self.names = list(found.values())
        self.keys = KeyTable([number.to_bytes(width, "little") for number in found], width)
