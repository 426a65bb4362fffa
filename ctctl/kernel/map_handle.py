"""What a BPF map is: its types, sizes and name, behind a descriptor. Its entries are ``map``'s and ``map_batch``'s."""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ctctl._ffi.structs import KernelMapInfo
from ctctl.kernel import info as _info
from ctctl.kernel.cpus import possible_cpus
from ctctl.kernel.handle import Handle


class MapType(IntEnum):
    """``enum bpf_map_type`` (linux/bpf.h), the types that can hold or lead to tables ctctl reads."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    RINGBUF = 27


#: One value a key: types whose cursor is a bucket index.
HASHES = frozenset({MapType.HASH, MapType.LRU_HASH})
_PER_CPU = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})


class MapInfo(NamedTuple):
    """``struct bpf_map_info``. Sizes in bytes; ``value_size`` is one CPU's in per-CPU maps."""

    id: int
    type: int
    name: str
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int


class MapHandle(Handle):
    """One BPF map: what the kernel says of it, and how long its keys and values are."""

    KIND = KERNEL_KIND = "map"

    @cached_property
    def info(self) -> MapInfo:
        """What the kernel says it is (read once: none of it changes)."""
        raw = _info.fetch(self.fd, KernelMapInfo, self._name or "map")
        return MapInfo(
            id=raw.id,
            type=raw.type,
            name=raw.name.decode(errors="replace"),
            key_size=raw.key_size,
            value_size=raw.value_size,
            max_entries=raw.max_entries,
            map_flags=raw.map_flags,
            btf_id=raw.btf_id,
            btf_key_type_id=raw.btf_key_type_id,
            btf_value_type_id=raw.btf_value_type_id,
        )

    @property
    def name(self) -> str:
        """The name it was made or pinned under; else the kernel's, cut to 15 characters."""
        return self._name or self.info.name

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory as the kernel accounts them (fdinfo); 0 where it does not say."""
        for line in Path(f"/proc/self/fdinfo/{self.fd}").read_text(encoding="utf-8").splitlines():
            if line.startswith("memlock:"):
                return int(line.split()[1])
        return 0

    @cached_property
    def per_cpu_stride(self) -> int:
        """Bytes from one CPU's value to the next in a per-CPU map, 0 in any other."""
        return (self.info.value_size + 7) // 8 * 8 if self.info.type in _PER_CPU else 0

    @cached_property
    def value_bytes(self) -> int:
        """Length of the value that lookup returns and update takes."""
        return self.per_cpu_stride * possible_cpus() if self.per_cpu_stride else self.info.value_size
