"""The layout check against maps the kernel holds: ours by their own type information, others refused."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ctctl.abi import layouts
from ctctl.abi.maps import MAPS
from ctctl.btf import Kind, load_kernel_btf
from ctctl.errors import KernelError, LayoutError
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.map_types import check_known_map, check_map, map_types
from ctctl.kernel.object import BpfObject
from ctctl.tables.sources.live import layout_of
from tests.support.bpf import ROOT, compile_file, compile_source

pytestmark = pytest.mark.kernel


def _object_with_a_map_of_each_struct() -> Path:
    lines = ["#include <linux/bpf.h>", "#include <bpf/bpf_helpers.h>", "#include <ctctl/abi.h>"]
    for name in layouts.STRUCTS:
        lines.append(
            f"struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, struct {name});"
            f' __type(value, struct {name}); }} m_{name} SEC(".maps");'
        )
    lines.append('char _license[] SEC("license") = "Dual BSD/GPL";')
    return compile_source("abi_maps.c", "\n".join(lines))


def test_every_struct_survives_the_way_through_the_kernel() -> None:
    """Compiled from abi.h, loaded, asked back from the kernel, compared with the Python layout."""
    with BpfObject.open(_object_with_a_map_of_each_struct()) as found:
        found.load()
        for name, layout in layouts.STRUCTS.items():
            table = found.map(f"m_{name}")
            assert check_map(table, layout, layout, exact=True), name
            assert table.info.value_size == ctypes.sizeof(layout)


@pytest.mark.parametrize("path", sorted((ROOT / "bpf").glob("*.bpf.c")), ids=lambda path: path.stem)
def test_tables_of_the_datapath_have_the_layouts_they_are_read_with(path: Path) -> None:
    """Key and value of each named table, from the type information of the object as built."""
    built = ROOT / "ctctl" / "bpf" / f"{path.name.removesuffix('.c')}.o"
    assert built.exists(), "make bpf"
    with BpfObject.open(built) as found:
        for name in found.map_names():
            if name in MAPS and name != "cilium_lb4_maglev":
                _kind, key_size, value_size, _entries = found.map_shape(name)
                key, value = MAPS[name]
                sizes = [shape if isinstance(shape, int) else ctypes.sizeof(shape) for shape in (key, value)]
                assert [key_size, value_size] == sizes, name


def test_a_map_without_types_is_compared_by_size() -> None:
    with Map.create("cilium_ct4_global", MapType.LRU_HASH, 14, 56, 8) as table:
        assert map_types(table) is None
        assert check_known_map(table, "cilium_ct4_global") is False
        assert check_known_map(table, "no_such_table") is True
    with (
        Map.create("cilium_ct4_global", MapType.LRU_HASH, 14, 64, 8) as table,
        pytest.raises(LayoutError, match=r"value of 64 bytes, 56 expected \(struct ct_entry\)"),
    ):
        check_known_map(table, "cilium_ct4_global")


@pytest.mark.parametrize(
    ("struct", "message"),
    [
        ("entry_1_16", ""),
        ("entry_1_18", ""),
        ("entry_swapped", "cilium_ct4_glob: value: field packets is byte 24, 8 bytes in the table"),
        ("entry_flag_moved", "cilium_ct4_glob: value: flag dsr_internal is bit 2 in the table, not 7"),
        ("entry_longer", "cilium_ct4_glob: value: 64 bytes"),
    ],
)
def test_foreign_tables_are_taken_or_refused_by_their_types(struct: str, message: str) -> None:
    text = (ROOT / "tests" / "data" / "bpf" / "ct_entries.c").read_text()
    source = f"""{text}
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>
struct {{ __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 8); __type(key, struct ipv4_ct_tuple);
         __type(value, struct {struct}); }} cilium_ct4_global SEC(".maps");
char _license[] SEC("license") = "Dual BSD/GPL";
"""
    with BpfObject.open(compile_source(f"foreign_{struct}.c", source)) as found:
        found.load()
        with Map.from_id(found.map("cilium_ct4_global").info.id) as table:
            types = map_types(table)
            assert types is not None
            assert "lifetime" in types.value_fields
            if not message:
                assert check_known_map(table, "cilium_ct4_global") is True
                assert layout_of(table)[1] == "BTF"
            else:
                for check in (layout_of, lambda opened: check_known_map(opened, "cilium_ct4_global")):
                    with pytest.raises(LayoutError, match=f"^{message}"):
                        check(table)


def test_kernel_btf_by_id() -> None:
    with BpfObject.open(compile_file("refused.bpf.c")) as found:
        found.disable_program("unchecked")
        found.load()
        btf = load_kernel_btf(found.map("table").info.btf_id)
        assert btf.find("__u64", Kind.TYPEDEF) is not None
    with pytest.raises(KernelError, match="read BTF id 4294967295"):
        load_kernel_btf(2**32 - 1)
