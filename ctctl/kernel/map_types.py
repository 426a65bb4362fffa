"""The type information a map at hand carries, and the check of its layout before anything is read as it."""

from __future__ import annotations

import ctypes
import errno
import functools
from typing import TYPE_CHECKING, NamedTuple

from ctctl.errors import KernelError, LayoutError
from ctctl.kernel.map import Map

# Reading BTF, and the layouts, take long to import; the maps of a Cilium node carry no BTF.
if TYPE_CHECKING:
    from ctctl.abi.maps import Shape
    from ctctl.btf import Btf


class MapTypes(NamedTuple):
    """BTF of a map's key and value. A type id of 0: the map was made without one."""

    btf: Btf
    key_type_id: int
    value_type_id: int

    @property
    def value_fields(self) -> frozenset[str]:
        """Field names of the value; they tell layouts of a conntrack entry apart."""
        from ctctl.abi.check import field_names

        return field_names(self.btf, self.value_type_id) if self.value_type_id else frozenset()


@functools.lru_cache(maxsize=8)
def _btf(btf_id: int) -> Btf:
    """Read once for all maps of an object. Ids are not used again until 2^31 others were (kernel/bpf/btf.c)."""
    from ctctl.btf import load_kernel_btf

    return load_kernel_btf(btf_id)


def map_types(table: Map) -> MapTypes | None:
    """The map's type information; None if it has none, or if this user may not read it (CAP_SYS_ADMIN)."""
    info = table.info
    if not info.btf_id or not (info.btf_key_type_id or info.btf_value_type_id):
        return None
    try:
        btf = _btf(info.btf_id)
    except KernelError as error:
        if error.errno == errno.EPERM:
            return None
        raise
    return MapTypes(btf, info.btf_key_type_id, info.btf_value_type_id)


def check_map(table: Map, key: Shape, value: Shape, *, exact: bool = False) -> bool:
    """Raise LayoutError if the map's sizes, or its BTF where it has one, are not these layouts'.

    True: field by field by BTF. False: there is none, only the sizes could be compared. ``exact``: it
    must be our own build's, down to the padding.
    """
    parts = (("key", key, table.info.key_size), ("value", value, table.info.value_size))
    # Fields first: which one differs says more than a size.
    checked = [_check_fields(table, what, shape, exact=exact) for what, shape, _size in parts]
    for what, shape, size in parts:
        if size != (wanted := _size_of(shape)):
            raise LayoutError(f"{table.name}: {what} of {size} bytes, {wanted} expected{_struct_name(shape)}")
    return all(checked)


def check_known_map(table: Map, name: str, *, exact: bool = False) -> bool:
    """``check_map`` with the layouts of the table called ``name``; True as well for a name without a layout."""
    from ctctl.abi.maps import MAPS

    shapes = MAPS.get(name)
    return check_map(table, *shapes, exact=exact) if shapes else True


def _check_fields(table: Map, what: str, shape: Shape, *, exact: bool) -> bool:
    types = map_types(table)
    type_id = (types.key_type_id if what == "key" else types.value_type_id) if types else 0
    if types is None or not type_id:
        return False
    from ctctl.abi.check import check_type

    check_type(types.btf, type_id, shape, what=f"{table.name}: {what}", exact=exact)
    return True


def _size_of(shape: Shape) -> int:
    return shape if isinstance(shape, int) else ctypes.sizeof(shape)


def _struct_name(shape: Shape) -> str:
    return "" if isinstance(shape, int) else f" (struct {shape.__name__})"
