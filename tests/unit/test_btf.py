"""The BTF reader: types of compiled objects, and nothing but DecodeError for any other bytes."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.btf import Btf, Kind, btf_section, read_object
from ctctl.errors import DecodeError, NotFoundError
from tests.support.bpf import compile_file, compile_source

_TYPES = """
typedef unsigned short __u16;
typedef __u16 __be16;
typedef const volatile __be16 odd;
enum small { SMALL_A = 0, SMALL_B = 7 };
enum negative { NEG = -3, POS = 3 };
enum big { BIG = 0x1122334455667788ULL };
struct inner { char c; int i; };
union either { int i; struct inner s; char bytes[3]; };
struct outer {
    odd port;
    struct inner in[2][3];
    union either u;
    struct outer *next;
    unsigned int a : 3, b : 9;
    float f;
    struct { long anonymous; };
    int (*call)(int number, char *text);
};
struct outer use;
enum small use_small;
enum negative use_negative;
enum big use_big;
static int counter = 4;
int function(int argument) { counter += argument; return counter; }
"""


@pytest.fixture(scope="module")
def btf() -> Btf:
    return read_object(compile_source("types.c", _TYPES))


def test_struct_members_have_names_offsets_and_sizes(btf: Btf) -> None:
    outer = btf.find("outer", Kind.STRUCT)
    assert outer is not None
    found = [(member.name, member.bit_offset, member.bit_size) for member in outer.members]
    assert found == [
        ("port", 0, 0),
        ("in", 32, 0),
        ("u", 416, 0),
        ("next", 512, 0),
        ("a", 576, 3),
        ("b", 579, 9),
        ("f", 608, 0),
        ("", 640, 0),
        ("call", 704, 0),
    ]
    assert outer.size == 96
    assert [btf.size_of(member.type_id) for member in outer.members] == [2, 48, 8, 8, 4, 4, 4, 8, 8]


def test_typedefs_and_qualifiers_are_seen_through_but_named(btf: Btf) -> None:
    outer = btf.find("outer", Kind.STRUCT)
    assert outer is not None
    port = outer.members[0].type_id
    assert btf.typedef_names(port) == ["odd", "__be16", "__u16"]
    assert (btf.resolve(port).kind, btf.resolve(port).size, btf.resolve(port).signed) == (Kind.INT, 2, False)


def test_enums_have_signed_and_wide_values(btf: Btf) -> None:
    values = {
        name: {value.name: value.value for value in found.values}
        for name in ("small", "negative", "big")
        if (found := btf.find(name, Kind.ENUM, Kind.ENUM64))
    }
    assert values == {
        "small": {"SMALL_A": 0, "SMALL_B": 7},
        "negative": {"NEG": -3, "POS": 3},
        "big": {"BIG": 0x1122334455667788},
    }


def test_functions_and_variables(btf: Btf) -> None:
    function, variable = btf.find("function", Kind.FUNC), btf.find("use", Kind.VAR)
    assert function is not None
    assert variable is not None
    prototype = btf[function.type_id]
    assert [member.name for member in prototype.members] == ["argument"]
    assert btf.resolve(variable.id).name == "outer"


def test_lookups_that_fail(btf: Btf) -> None:
    assert btf.find("nobody") is None
    assert btf.find("outer", Kind.UNION) is None
    with pytest.raises(DecodeError, match="no type 100000"):
        _ = btf[100000]
    with pytest.raises(DecodeError, match="has no size"):
        btf.size_of(0)


def test_bpftool_reads_the_same_types() -> None:
    """An independent reader: names, kinds and sizes of every type of a real object."""
    path = compile_file("kernel_layer.bpf.c")
    dumped = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", str(path)], check=True, capture_output=True, text=True
    )
    theirs = [
        (entry["id"], entry["kind"], entry["name"].removeprefix("(anon)"), entry.get("size"))
        for entry in json.loads(dumped.stdout)["types"]
    ]
    sized = {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM}
    ours = [
        (entry.id, entry.kind.name, entry.name, entry.size if entry.kind in sized else None)
        for entry in read_object(path)
        if entry.id
    ]
    assert [row[:3] for row in ours] == [row[:3] for row in theirs]
    assert [row for row in ours if row[3] is not None] == [row for row in theirs if Kind[row[1]] in sized]


def test_a_file_without_btf_or_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"cannot read /nonexistent\.o"):
        read_object("/nonexistent.o")
    with pytest.raises(DecodeError, match="not a 64-bit ELF file"):
        btf_section(b"\x7fELF\x01\x01" + bytes(80))
    image = compile_file("kernel_layer.bpf.c").read_bytes()
    with pytest.raises(DecodeError, match=r"no \.nothing section"):
        btf_section(image, ".nothing")


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    for blob in (data, b"\x9f\xeb\x01\x00" + data):
        with pytest.raises(DecodeError):
            Btf(blob)


@given(st.data())
def test_damaged_btf_never_ends_in_another_error(data: st.DataObject) -> None:
    good = btf_section(compile_source("types.c", _TYPES).read_bytes())
    blob = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))
    for damaged in (bytes(blob), bytes(blob[:cut])):
        try:
            parsed = Btf(damaged)
            for entry in parsed:
                for member in entry.members:
                    parsed.size_of(member.type_id)
        except DecodeError:
            pass


@given(st.data())
def test_damaged_elf_never_ends_in_another_error(data: st.DataObject) -> None:
    image = bytearray(compile_source("types.c", _TYPES).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(image)))
    with contextlib.suppress(DecodeError):
        btf_section(bytes(image[:cut]))


def test_a_type_that_contains_itself_is_refused() -> None:
    """A typedef of itself, as no compiler writes it."""
    import struct

    strings = b"\0loop\0"
    types = struct.pack("<III", 1, 8 << 24, 1)
    blob = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    parsed = Btf(blob)
    with pytest.raises(DecodeError, match="refers to itself"):
        parsed.resolve(1)
    with pytest.raises(DecodeError, match="refers to itself"):
        parsed.typedef_names(1)
