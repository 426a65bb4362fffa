"""The sections of a 64-bit ELF file: all that is needed to read an object's BTF without libbpf."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ctctl.errors import DecodeError

_SECTION = "IIQQQQIIQQ"
#: SHT_NOBITS: what is zero at the start has no bytes in the file.
_NOBITS = 8


def btf_section(image: bytes, name: str = ".BTF") -> bytes:
    """The contents of section ``name``. Raises DecodeError if the file has none or is no ELF64 file."""
    for each, contents in sections(image):
        if each == name:
            return contents
    raise DecodeError(f"the ELF file has no {name} section")


def sections(image: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and contents of each section, in the file's order; nothing for one that takes no room in the file.

    Raises DecodeError if it is no ELF64 file.
    """
    if len(image) < 64 or image[:4] != b"\x7fELF" or image[4] != 2 or image[5] not in (1, 2):
        raise DecodeError("not a 64-bit ELF file")
    order = "<" if image[5] == 1 else ">"
    try:
        (table,) = struct.unpack_from(order + "Q", image, 40)
        entry_size, count, names_index = struct.unpack_from(order + "HHH", image, 58)
        headers = [struct.unpack_from(order + _SECTION, image, table + i * entry_size) for i in range(count)]
        names = _contents(image, headers[names_index])
        for header in headers:
            name = names[header[0] : names.index(b"\0", header[0])].decode(errors="replace")
            yield name, b"" if header[1] == _NOBITS else _contents(image, header)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise DecodeError(f"damaged ELF file: {error}") from error


def _contents(image: bytes, header: tuple[int, ...]) -> bytes:
    offset, size = header[4], header[5]
    if offset + size > len(image):
        raise ValueError("section beyond the end")
    return image[offset : offset + size]
