"""The generated layouts against the header, in both directions, and the run-time check of foreign BTF."""

from __future__ import annotations

import ctypes
import os
import sys
from enum import IntFlag

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.abi import constants, layouts
from ctctl.abi.base import AbiStruct
from ctctl.abi.check import check_entry, check_type, field_names
from ctctl.abi.maps import MAPS
from ctctl.btf import Btf, Kind, read_object
from ctctl.decode.ct import layout_of_fields
from ctctl.errors import LayoutError
from ctctl.model.entry import CtFlags, Layout
from ctctl.model.service import ServiceFlags
from ctctl.tables import scan
from ctctl.tables.query import predicate
from tests.support.bpf import CLANG, ROOT, compile_file, compile_source

sys.path.insert(0, str(ROOT / "tools"))
import gen_abi


@pytest.fixture(scope="module")
def header() -> Btf:
    """BTF of abi.h."""
    structs, enums = gen_abi.declared()
    uses = [f"struct {name} use_{name};" for name in structs] + [f"enum {name} use_{name};" for name in enums]
    return read_object(compile_source("abi_all.c", "#include <ctctl/abi.h>\n" + "\n".join(uses)))


def test_the_generated_files_are_fresh() -> None:
    for path, text in gen_abi.generate(os.environ.get("CLANG", CLANG)).items():
        assert path.read_text() == text, "run make abi"


def test_every_struct_and_enum_of_the_header_has_its_class() -> None:
    structs, enums = gen_abi.declared()
    assert list(layouts.STRUCTS) == structs
    assert [name for name in enums if not hasattr(layouts, gen_abi.camel(name))] == []


@pytest.mark.parametrize("name", layouts.STRUCTS)
def test_the_header_has_what_the_layout_says(header: Btf, name: str) -> None:
    found = header.find(name, Kind.STRUCT)
    assert found is not None
    check_type(header, found.id, layouts.STRUCTS[name], what=name, exact=True)


def test_the_compiler_agrees_with_every_offset_size_and_byte_order() -> None:
    """The other direction: C assertions made from the Python layouts."""
    lines = ["#include <stddef.h>", "#include <ctctl/abi.h>"]
    for name, layout in layouts.STRUCTS.items():
        lines.append(f'_Static_assert(sizeof(struct {name}) == {ctypes.sizeof(layout)}, "{name}");')
        for field, ctype in layout._fields_:
            place = getattr(layout, field)
            lines.append(f'_Static_assert(offsetof(struct {name}, {field}) == {place.offset}, "{name}.{field}");')
            lines.append(
                f'_Static_assert(sizeof(((struct {name} *)0)->{field}) == {ctypes.sizeof(ctype)}, "{name}.{field}");'
            )
    compile_source("abi_asserts.c", "\n".join(lines) + "\n")


def test_enum_values_are_those_of_the_header(header: Btf) -> None:
    for name in gen_abi.declared()[1]:
        found = header.find(name, Kind.ENUM)
        assert found is not None
        ours = {member: int(value) for member, value in getattr(layouts, gen_abi.camel(name)).__members__.items()}
        assert ours == {value.name: value.value for value in found.values}


def test_model_flags_are_the_headers() -> None:
    """The pure model repeats the flag bits so that it needs no ABI: they must not part."""
    header_bits = sorted(int(flag) for flag in layouts.CtctlCtFlags.__members__.values())
    assert header_bits == sorted(int(flag) for flag in CtFlags.__members__.values())


def test_what_is_packed_by_hand_has_the_headers_size() -> None:
    """Formats of ``struct`` where an import of ctypes would cost a listing its speed."""
    assert predicate.INSTRUCTION.size == ctypes.sizeof(layouts.ctscan_insn)
    assert scan.STATS_FORMAT.size == ctypes.sizeof(layouts.ctscan_stats)
    assert ctypes.sizeof(layouts.ctscan_found) == constants.CTSCAN_FOUND_SIZE


def test_service_flags_are_the_headers() -> None:
    """Up to 1.16; later ones are only read."""
    low = {flag.name.removeprefix("SVC_"): int(flag) for flag in layouts.CtctlSvcFlags}
    high = {flag.name.removeprefix("SVC2_"): int(flag) << 8 for flag in layouts.CtctlSvcFlags2}
    ours = {flag.name.lower(): int(flag) for flag in ServiceFlags}
    assert {name.replace("_", "").lower(): value for name, value in (low | high).items()}.items() <= ours.items()


def test_bit_sets_are_flags_and_numberings_are_not() -> None:
    assert issubclass(layouts.CtctlCtFlags, IntFlag)
    assert issubclass(layouts.CtctlWhy, IntFlag)
    assert not issubclass(layouts.CtctlVerdict, IntFlag)
    assert layouts.CtctlCtFlags(0x8001) & 0x8000 == 0x8000, "unknown bits are kept"


def test_every_layout_is_a_numpy_dtype_of_its_size() -> None:
    import numpy as np

    for name, layout in layouts.STRUCTS.items():
        dtype = np.dtype(layout)
        assert dtype.itemsize == ctypes.sizeof(layout), name
        assert {field: dtype.fields[field][1] for field in dtype.names} == {
            field: getattr(layout, field).offset for field, _ctype in layout._fields_
        }


@given(st.binary(min_size=56, max_size=56))
def test_numpy_and_ctypes_read_an_entry_alike(data: bytes) -> None:
    import numpy as np

    entry = layouts.ct_entry.from_buffer_copy(data)
    row = np.frombuffer(data, np.dtype(layouts.ct_entry))[0]
    assert {name: int(row[name]) for name in row.dtype.names} == {
        name: getattr(entry, name) for name, _ctype in layouts.ct_entry._fields_
    }
    assert bytes(entry) == data


class TestAbiStruct:
    def test_fields_are_host_order_and_memory_is_the_wires(self) -> None:
        key = layouts.ipv4_ct_tuple(daddr=0x0A400024, saddr=0x0A400040, dport=8000, sport=54260, nexthdr=6, flags=1)
        assert bytes(key).hex() == "0a4000240a4000401f40d3f40601"
        assert layouts.ipv4_ct_tuple.from_buffer_copy(bytes(key)) == key

    def test_byte_arrays_take_bytes(self) -> None:
        key = layouts.endpoint_key(addr=b"\x0a\x40\x00\x24", family=1)
        assert bytes(key) == b"\x0a\x40\x00\x24" + bytes(12) + b"\x01\x00\x00\x00"
        with pytest.raises(ValueError, match=r"endpoint_key\.addr: 17 bytes, room for 16"):
            layouts.endpoint_key(addr=bytes(17))

    def test_equality_and_hash_follow_memory(self) -> None:
        one, same, other = (layouts.lb4_key(address=n) for n in (1, 1, 2))
        assert one == same
        assert len({one, same, other}) == 2
        assert one != bytes(one)

    def test_repr_shows_values(self) -> None:
        assert "dport=80" in repr(layouts.lb4_key(dport=80))


class TestForeignEntries:
    """Entries of other versions, flags as bit fields (tests/data/bpf/ct_entries.c)."""

    @pytest.fixture
    def btf(self) -> Btf:
        return read_object(compile_file("ct_entries.c"))

    @pytest.mark.parametrize(
        ("struct", "layout"),
        [
            ("entry_1_15", Layout.V1_15),
            ("entry_1_16", Layout.V1_16),
            ("entry_1_18", Layout.V1_18),
            ("entry_1_19", Layout.V1_19),
        ],
    )
    def test_known_versions_are_told_apart_and_accepted(self, btf: Btf, struct: str, layout: Layout) -> None:
        found = btf.find(struct, Kind.STRUCT)
        assert found is not None
        assert layout_of_fields(field_names(btf, found.id)) is layout
        check_entry(btf, found.id, layout, what="table")

    @pytest.mark.parametrize(
        ("struct", "layout", "message"),
        [
            ("entry_swapped", Layout.V1_16, "field packets is byte 24, 8 bytes in the table, byte 16, 8 bytes in the"),
            ("entry_flag_moved", Layout.V1_16, "flag dsr_internal is bit 2 in the table, not 7"),
            ("entry_shorter", Layout.V1_16, "field src_sec_id .byte 44, 4 bytes. is missing; the table has last_tx"),
            ("entry_longer", Layout.V1_16, "64 bytes by its type information, struct ct_entry has 56"),
            ("entry_1_16", Layout.V1_15, "field rx_packets .* is missing; the table has reserved0"),
            ("entry_1_15", Layout.V1_16, "field packets .* is missing; the table has tx_packets"),
        ],
    )
    def test_the_first_difference_is_named(self, btf: Btf, struct: str, layout: Layout, message: str) -> None:
        found = btf.find(struct, Kind.STRUCT)
        assert found is not None
        with pytest.raises(LayoutError, match=f"^table: {message}"):
            check_entry(btf, found.id, layout, what="table")

    def test_exact_means_exact(self, btf: Btf) -> None:
        found = btf.find("entry_1_16", Kind.STRUCT)
        assert found is not None
        with pytest.raises(LayoutError, match=r"field flags .* is missing; the table has rx_closing"):
            check_type(btf, found.id, layouts.ct_entry, what="table", exact=True)

    def test_a_number_is_no_struct(self, btf: Btf) -> None:
        number = next(entry for entry in btf if entry.kind is Kind.INT)
        with pytest.raises(LayoutError, match="struct ct_entry expected"):
            check_type(btf, number.id, layouts.ct_entry, what="table")
        with pytest.raises(LayoutError, match=f"{number.size} bytes by its type information, 99 expected"):
            check_type(btf, number.id, 99, what="table")


def test_shapes_of_tables_have_the_sizes_of_the_reference() -> None:
    """spec: key and value sizes of the reference's tables."""

    def size(shape: type[AbiStruct] | int) -> int:
        return shape if isinstance(shape, int) else ctypes.sizeof(shape)

    sizes = {name: (size(key), size(value)) for name, (key, value) in MAPS.items()}
    assert sizes["cilium_ct4_global"] == sizes["cilium_ct_any4_global"] == (14, 56)
    assert sizes["cilium_ct6_global"] == (38, 56)
    assert sizes["cilium_lb4_services_v2"] == (12, 12)
    assert sizes["cilium_lb4_reverse_nat"] == (2, 6)
    assert sizes["cilium_lb4_affinity"] == (16, 16)
