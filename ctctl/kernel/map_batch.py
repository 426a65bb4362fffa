"""Batch operations on maps, with the cursor's quirks (kernel/bpf/hashtab.c; tests/kernel/test_map.py shows them).

- The end is ENOENT, and that last call still carries data.
- ENOSPC: the next hash bucket does not fit. Nothing was copied and out_batch names the bucket
  that failed, so the cursor stays and the buffers double.
- Batches come back short, because buckets are copied whole.
- DELETE_BATCH stops at the first key that is gone.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ctctl._ffi import libbpf
from ctctl._ffi.rows import address_of
from ctctl._ffi.structs import MapBatchOpts
from ctctl.errors import KernelError
from ctctl.kernel.failures import kernel_error
from ctctl.kernel.map_handle import MapHandle
from ctctl.kernel.refused import TRIES, insist, is_refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The kernel's own "operation not supported", unknown to user space's errno.h.
ENOTSUPP = 524
#: What kernels say that have no batches for a type of map.
NO_BATCH = frozenset({errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP})


class Batch:
    """n entries: their keys beside each other, and their values; as arrays when those are asked for."""

    __slots__ = ("_keys", "_size", "_values", "key_bytes", "value_bytes")

    def __init__(self, key_bytes: memoryview, value_bytes: memoryview, size: int) -> None:
        self.key_bytes = key_bytes
        self.value_bytes = value_bytes
        self._size = size
        self._keys: NDArray[np.uint8] | None = None
        self._values: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        yield self.keys
        yield self.values

    @property
    def keys(self) -> NDArray[np.uint8]:
        """uint8 (n, key_size)."""
        if self._keys is None:
            self._keys = _matrix(self.key_bytes, self._size)
        return self._keys

    @property
    def values(self) -> NDArray[np.uint8]:
        """uint8 (n, value_size)."""
        if self._values is None:
            self._values = _matrix(self.value_bytes, self._size)
        return self._values


def _matrix(memory: memoryview, rows: int) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(memory, np.uint8).reshape(rows, -1)


class DeleteResult(NamedTuple):
    """Keys deleted by this call, and keys that were not there any more."""

    deleted: int
    gone: int


class BatchReader:
    """One walk over a map by BPF_MAP_LOOKUP_BATCH, or LOOKUP_AND_DELETE_BATCH with ``delete``.

    The kernel copies straight into the arrays handed out.
    """

    def __init__(self, table: MapHandle, size: int, *, reuse: bool, delete: bool) -> None:
        if size < 1:
            raise ValueError(f"batch size {size}: at least 1")
        self._map = table
        self._size = min(size, max(table.info.max_entries, 1))
        self._reuse = reuse
        self._delete = delete
        width = max(table.info.key_size, 8)
        self._cursor = ctypes.create_string_buffer(width)
        self._next = ctypes.create_string_buffer(width)
        self._started = False
        self._buffers: tuple[bytearray, bytearray] | None = None

    def run(self) -> Iterator[Batch]:
        """The batches, in the kernel's order, each non-empty. Raises KernelError."""
        refused = 0
        while True:
            keys, values = self._room()
            count, result = self._call(keys, values)
            if result == -errno.ENOSPC and count == 0:
                self._grow()
                continue
            if is_refused(result) and (count or refused < TRIES - 1):
                # What was copied is whole, and the next cursor names the bucket whose lock was refused.
                refused = 0 if count else refused + 1
                if not count:
                    continue
                result = 0
            if result < 0 and result != -errno.ENOENT:
                raise self._error(-result)
            if count == 0 and result == 0 and self._next.raw == self._cursor.raw and self._started:
                raise KernelError("read map", self._map.name, errno.ELOOP, "the kernel's cursor does not advance")
            self._cursor, self._next = self._next, self._cursor
            self._started = True
            if count:
                if not self._reuse:
                    self._buffers = None
                width, value_width = self._map.info.key_size, self._map.value_bytes
                yield Batch(memoryview(keys)[: count * width], memoryview(values)[: count * value_width], count)
            if result == -errno.ENOENT:
                return

    def _room(self) -> tuple[bytearray, bytearray]:
        if self._buffers is None:
            widths = self._map.info.key_size, self._map.value_bytes
            self._buffers = bytearray(self._size * widths[0]), bytearray(self._size * widths[1])
        return self._buffers

    def _grow(self) -> None:
        self._size *= 2
        self._buffers = None

    def _call(self, keys: bytearray, values: bytearray) -> tuple[int, int]:
        count = ctypes.c_uint32(self._size)
        library = libbpf()
        function = library.bpf_map_lookup_and_delete_batch if self._delete else library.bpf_map_lookup_batch
        result: int = function(
            self._map.fd,
            self._cursor if self._started else None,
            self._next,
            address_of(keys),
            address_of(values),
            ctypes.byref(count),
            None,
        )
        if result == -errno.EFAULT:
            return 0, result
        return (0 if result == -errno.ENOSPC else count.value), result

    def _error(self, err: int) -> KernelError:
        hint = "this kernel or map type has no batch operations" if err in (errno.EINVAL, ENOTSUPP) else ""
        return kernel_error("drain map" if self._delete else "read map", self._map.name, err, hint)


def update_batch(table: MapHandle, keys: Any, values: Any, flags: int) -> int:
    """BPF_MAP_UPDATE_BATCH over n contiguous keys and values. Returns n. Raises KernelError."""
    key_view, total = _contiguous(table, keys, table.info.key_size, "keys")
    value_view, given = _contiguous(table, values, table.value_bytes, "values")
    if given != total:
        raise ValueError(f"map {table.name}: {total} keys, {given} values")
    if total == 0:
        return 0
    opts = MapBatchOpts(elem_flags=flags)
    width, value_width = table.info.key_size, table.value_bytes
    function = libbpf().bpf_map_update_batch
    done = 0
    count = ctypes.c_uint32()

    def write() -> int:
        nonlocal done
        count.value = total - done
        at = key_view.ctypes.data + done * width, value_view.ctypes.data + done * value_width
        result: int = function(table.fd, *at, ctypes.byref(count), ctypes.byref(opts))
        done += _counted(result, count.value, total - done)
        return result

    if (result := insist(write)) < 0:
        raise kernel_error("write to map", table.name, -result, f"{done} of {total} entries were written")
    return total


def delete_batch(table: MapHandle, keys: Any) -> DeleteResult:
    """BPF_MAP_DELETE_BATCH over n contiguous keys, going on behind each key that is gone."""
    view, total = _contiguous(table, keys, table.info.key_size, "keys")
    base, width = view.ctypes.data, table.info.key_size
    function = libbpf().bpf_map_delete_batch
    done = gone = 0
    count = ctypes.c_uint32()
    refused = 0
    while done < total:
        count.value = total - done
        result = function(table.fd, base + done * width, ctypes.byref(count), None)
        if result == 0:
            done = total
        elif result == -errno.ENOENT:
            done += count.value + 1
            gone += 1
            refused = 0
        elif is_refused(result) and refused < TRIES - 1:
            copied = _counted(result, count.value, total - done)
            done += copied
            refused = 0 if copied else refused + 1
        else:
            raise kernel_error("delete from map", table.name, -result, f"{done - gone} of {total} keys were deleted")
    return DeleteResult(total - gone, gone)


def _counted(result: int, count: int, asked: int) -> int:
    """Entries done by a call for ``asked``: one that fails at the first word leaves the count as it was given."""
    return count if result == 0 or count < asked else 0


def _contiguous(table: MapHandle, data: Any, width: int, what: str) -> tuple[NDArray[np.uint8], int]:
    """``data`` (bytes or array of any dtype) as flat bytes, copied only if not contiguous, and its record count."""
    import numpy as np

    if isinstance(data, np.ndarray):
        flat = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
    else:
        flat = np.frombuffer(data, np.uint8)
    if flat.size % width:
        raise ValueError(f"map {table.name}: {what} of {flat.size} bytes, not a multiple of {width}")
    return flat, flat.size // width
