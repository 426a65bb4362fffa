"""The running kernel's own types: found by libbpf, which reads its 100,000 and more in milliseconds."""

from __future__ import annotations

import ctypes
import struct

from ctctl._ffi import CallError, libbpf
from ctctl.btf.types import Kind
from ctctl.errors import KernelError

#: struct btf_type { name_off, info, size_or_type }; info: vlen in bits 0-15, the last bit: values are signed
_TYPE = struct.Struct("<III")
#: struct btf_enum { name_off, val }, struct btf_enum64 { name_off, val_lo32, val_hi32 }
_SIZE = {Kind.ENUM: 8, Kind.ENUM64: 12}


def kernel_enum(name: str) -> dict[int, str]:
    """Value → name of the enumerators of ``enum name``; empty where the kernel has none of that name.

    Raises KernelError where the kernel has no BTF or it cannot be read, UnsupportedError without libbpf.
    """
    library = libbpf()
    try:
        btf = library.btf__load_vmlinux_btf()
    except CallError as error:
        raise KernelError("read BTF", "of the kernel", error.errno) from error
    try:
        for kind, size in _SIZE.items():
            type_id = library.btf__find_by_name_kind(btf, name.encode(), int(kind))
            if type_id > 0:
                at = library.btf__type_by_id(btf, type_id)
                info = _TYPE.unpack(ctypes.string_at(at, _TYPE.size))[1]
                raw = ctypes.string_at(at + _TYPE.size, (info & 0xFFFF) * size)
                return {
                    int.from_bytes(raw[place + 4 : place + size], "little", signed=bool(info >> 31)): (
                        library.btf__name_by_offset(btf, int.from_bytes(raw[place : place + 4], "little")).decode()
                    )
                    for place in range(0, len(raw), size)
                }
        return {}
    finally:
        library.btf__free(btf)
