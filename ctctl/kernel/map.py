"""BPF maps: made, opened and pinned; read and written entry by entry. Batches are in ``map_batch``."""

from __future__ import annotations

import ctypes
import errno
import mmap as _mmap
import os
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctctl._ffi import CallError, Fd, libbpf, syscall
from ctctl._ffi.structs import MapCreateOpts
from ctctl.errors import NotFoundError
from ctctl.kernel.failures import SYS_ADMIN, kernel_error, operation
from ctctl.kernel.map_batch import Batch, BatchReader, DeleteResult, delete_batch, update_batch
from ctctl.kernel.map_handle import MapHandle, MapInfo, MapType
from ctctl.kernel.refused import insist

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "DeleteResult", "Map", "MapFlag", "MapInfo", "MapType", "UpdateMode"]


class MapFlag(IntFlag):
    """``map_flags`` (linux/bpf.h)."""

    NO_PREALLOC = 1 << 0
    NO_COMMON_LRU = 1 << 1
    RDONLY = 1 << 3
    WRONLY = 1 << 4
    RDONLY_PROG = 1 << 7
    MMAPABLE = 1 << 10
    INNER_MAP = 1 << 12


class UpdateMode(IntEnum):
    """When an update may write: always, only a new key, only a key that is there."""

    ANY = 0
    NOEXIST = 1
    EXIST = 2


class Map(MapHandle):
    """One BPF map behind a descriptor: a context manager that closes what it owns.

    Keys and values are bytes of exactly the map's sizes. A per-CPU map's value is the values of all
    possible CPUs, each padded to 8 bytes, in CPU order (``per_cpu_stride`` apart).
    """

    # ---- where maps come from

    @classmethod
    def create(
        cls,
        name: str,
        type: int,  # noqa: A002
        key_size: int,
        value_size: int,
        max_entries: int,
        *,
        flags: int = 0,
        inner: Map | None = None,
    ) -> Map:
        """A new map without BTF. The kernel keeps 15 characters of ``name``. Raises KernelError."""
        opts = MapCreateOpts(map_flags=flags, inner_map_fd=inner.fd if inner else 0)
        with operation("create map", name):
            number = libbpf().bpf_map_create(
                type, os.fsencode(name)[:15], key_size, value_size, max_entries, ctypes.byref(opts)
            )
        return cls(Fd(number, f"map {name}"), name)

    @classmethod
    def open_pinned(cls, path: str | Path, *, read_only: bool = False) -> Map:
        """The map pinned at ``path``; ``read_only`` gives a descriptor the kernel lets only read.

        Raises NotFoundError if nothing is there, KernelError if it cannot be opened or is no map.
        """
        hint = "needs read access to the pin" if read_only else "it may only be read: needs write access to the pin"
        return cls._open_pinned(path, MapFlag.RDONLY if read_only else 0, {errno.EACCES: hint})

    @classmethod
    def open_id(cls, number: int, name: str = "", *, read_only: bool = True) -> Map:
        """The map with this id, to be called ``name``; ``read_only`` as in ``open_pinned``.

        Raises NotFoundError, KernelError (EPERM without CAP_SYS_ADMIN).
        """
        attr = syscall.GetByIdAttr(id=number, open_flags=MapFlag.RDONLY if read_only else 0)
        try:
            descriptor = syscall.bpf(syscall.BPF_MAP_GET_FD_BY_ID, attr)
        except CallError as error:
            if error.errno == errno.ENOENT:
                raise NotFoundError(f"no map has id {number}") from error
            raise kernel_error("open map", name or f"id {number}", error.errno, needed=SYS_ADMIN) from error
        return cls(Fd(descriptor, f"map {name or number}"), name)

    # ---- one entry

    def lookup(self, key: bytes) -> bytes | None:
        """The key's value, or None. Raises KernelError."""
        self._check(key)
        value = ctypes.create_string_buffer(self.value_bytes)
        result = libbpf().bpf_map_lookup_elem(self.fd, key, value)
        if result == 0:
            return value.raw
        if result == -errno.ENOENT:
            return None
        raise kernel_error("look up in map", self.name, -result)

    def update(self, key: bytes, value: bytes, *, mode: UpdateMode = UpdateMode.ANY) -> None:
        """Write one entry. Raises KernelError: EEXIST and ENOENT by ``mode``, E2BIG when full."""
        self._check(key, value)
        if (result := insist(lambda: libbpf().bpf_map_update_elem(self.fd, key, value, int(mode)))) < 0:
            raise kernel_error("write to map", self.name, -result, _write_hint(-result))

    def delete(self, key: bytes) -> bool:
        """Remove one entry. False: it was not there. Raises KernelError."""
        self._check(key)
        result = insist(lambda: libbpf().bpf_map_delete_elem(self.fd, key))
        if result < 0 and result != -errno.ENOENT:
            raise kernel_error("delete from map", self.name, -result)
        return bool(result == 0)

    def next_key(self, key: bytes | None) -> bytes | None:
        """The key after ``key`` (None: the first), or None at the end.

        A hash map starts again at the beginning when ``key`` is gone meanwhile.
        """
        if key is not None:
            self._check(key)
        following = ctypes.create_string_buffer(self.info.key_size)
        result = libbpf().bpf_map_get_next_key(self.fd, key, following)
        if result == 0:
            return following.raw
        if result == -errno.ENOENT:
            return None
        raise kernel_error("walk map", self.name, -result)

    def every_key(self) -> Iterator[bytes]:
        """Every key, one by one: works on each map type. For big or changing hash maps use ``batches``."""
        key = self.next_key(None)
        while key is not None:
            yield key
            key = self.next_key(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry, key by key, as ``every_key`` goes through them."""
        for key in self.every_key():
            value = self.lookup(key)
            if value is not None:
                yield key, value

    # ---- many entries

    def batches(self, size: int = 4096, *, reuse: bool = True) -> Iterator[Batch]:
        """Every entry as Batches of up to about ``size``. With ``reuse`` a batch is valid until the next one."""
        return BatchReader(self, size, reuse=reuse, delete=False).run()

    def drain(self, size: int = 4096) -> Iterator[Batch]:
        """As ``batches``, deleting what it hands out (BPF_MAP_LOOKUP_AND_DELETE_BATCH)."""
        return BatchReader(self, size, reuse=True, delete=True).run()

    def update_batch(
        self,
        keys: NDArray[Any] | bytes,
        values: NDArray[Any] | bytes,
        *,
        mode: UpdateMode = UpdateMode.ANY,
    ) -> int:
        """Write n entries given as contiguous keys and values; returns n. Raises KernelError."""
        return update_batch(self, keys, values, int(mode))

    def delete_batch(self, keys: NDArray[Any] | bytes) -> DeleteResult:
        """Delete n contiguous keys; those already gone are skipped and counted. Raises KernelError."""
        return delete_batch(self, keys)

    def mmap(self) -> memoryview:
        """The values of a BPF_F_MMAPABLE array, shared and writable, elements 8-byte aligned.

        The mapping lives as long as a view of it does. Raises KernelError.
        """
        length = (self.info.value_size + 7) // 8 * 8 * self.info.max_entries
        with operation("map into memory", self.name):
            return memoryview(_mmap.mmap(self.fd, length, _mmap.MAP_SHARED, _mmap.PROT_READ | _mmap.PROT_WRITE))

    def _check(self, key: bytes, value: bytes | None = None) -> None:
        if len(key) != self.info.key_size:
            raise ValueError(f"map {self.name}: key of {len(key)} bytes, it takes {self.info.key_size}")
        if value is not None and len(value) != self.value_bytes:
            raise ValueError(f"map {self.name}: value of {len(value)} bytes, it takes {self.value_bytes}")


def _write_hint(err: int) -> str:
    return "the map is full" if err == errno.E2BIG else ""
