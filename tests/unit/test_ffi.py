"""The signature table, descriptors and the library object."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ctctl._ffi import CallError, Fd, Libbpf, capture_log, libbpf, rows, set_debug, structs
from ctctl._ffi import library as library_module
from ctctl._ffi.signatures import SIGNATURES, Check, Signature
from ctctl.abi.check import fields
from ctctl.btf import Kind, read_object
from ctctl.errors import ClosedError, UnsupportedError
from tests.support.bpf import compile_source

ROOT = Path(__file__).resolve().parents[2]


def test_every_function_is_in_the_table_once() -> None:
    counts = Counter(signature.name for signature in SIGNATURES)
    assert [name for name, count in counts.items() if count > 1] == []


def test_the_installed_library_has_every_function() -> None:
    dll = ctypes.CDLL("libbpf.so.1")
    missing = [signature.name for signature in SIGNATURES if not hasattr(dll, signature.name)]
    assert missing == []


def test_a_failing_call_can_be_told_from_a_result() -> None:
    """NULL is checked only on pointers, negative only on int."""
    for signature in SIGNATURES:
        if signature.check in (Check.NEGATIVE, Check.CALLER):
            assert signature.restype is ctypes.c_int, signature.name
        if signature.check is Check.NULL:
            assert signature.restype is ctypes.c_void_p or issubclass(signature.restype, ctypes._Pointer)


def test_handles_of_different_kinds_do_not_mix() -> None:
    program = ctypes.cast(0, structs.ProgramPtr)
    with pytest.raises(ctypes.ArgumentError):
        libbpf().bpf_map__name(program)


#: Each declaration and the C struct it stands for.
_IN_C = {
    "bpf_map_info": structs.KernelMapInfo,
    "bpf_prog_info": structs.KernelProgInfo,
    "bpf_btf_info": structs.KernelBtfInfo,
    "__sk_buff": structs.SkBuff,
    "bpf_map_create_opts": structs.MapCreateOpts,
    "bpf_map_batch_opts": structs.MapBatchOpts,
    "bpf_prog_load_opts": structs.ProgLoadOpts,
    "bpf_test_run_opts": structs.TestRunOpts,
    "bpf_obj_get_opts": structs.ObjGetOpts,
}


@pytest.mark.parametrize("name", _IN_C)
def test_structures_are_those_of_the_headers(name: str) -> None:
    """Offsets and sizes of every named field, as the compiler sees the installed headers."""
    uses = "".join(f"struct {c_name} use_{c_name};\n" for c_name in _IN_C)
    # glibc asks for the stubs of 32-bit machines when the target names no machine.
    included = ("stddef.h", "stdbool.h", "linux/bpf.h", "bpf/bpf.h")
    headers = "".join(f"#include <{header}>\n" for header in included)
    btf = read_object(compile_source("headers.c", "#define __x86_64__ 1\n" + headers + uses))
    found = btf.find(name, Kind.STRUCT)
    assert found is not None
    in_c = {field.name: (field.offset // 8, field.size // 8) for field in fields(btf, found.id) if not field.bitfield}
    declared = {
        field: (getattr(_IN_C[name], field).offset, getattr(_IN_C[name], field).size)
        for field, _ctype in _IN_C[name]._fields_
        if not field.startswith("_") and field != "bits"
    }
    assert declared == {field: in_c[field] for field in declared}
    assert ctypes.sizeof(_IN_C[name]) <= found.size


def test_a_missing_symbol_says_which_libbpf_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = Signature("bpf_program__attach_tomorrow", ctypes.c_int, (), Check.NEGATIVE, since="99.3")
    monkeypatch.setitem(library_module._TABLE, newer.name, newer)
    stub = Libbpf().bpf_program__attach_tomorrow
    said = rf"bpf_program__attach_tomorrow needs libbpf >= 99\.3; installed is {libbpf().version[0]}"
    with pytest.raises(UnsupportedError, match=said):
        stub()


def test_no_library_is_one_clear_line() -> None:
    with pytest.raises(UnsupportedError, match=r"cannot load libbpf: libnowhere\.so\.9: .*install libbpf"):
        Libbpf("libnowhere.so.9")


def test_a_function_outside_the_table_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="not in the libbpf signature table"):
        _ = libbpf().bpf_nonsense


def test_a_failing_call_raises_with_its_errno() -> None:
    with pytest.raises(CallError, match="bpf_obj_get_info_by_fd") as caught:
        libbpf().bpf_obj_get_info_by_fd(0, None, ctypes.byref(ctypes.c_uint32(0)))
    assert caught.value.errno in (errno.EINVAL, errno.EPERM)


def test_errors_of_the_library_itself_have_a_text() -> None:
    assert "ELF" in libbpf().strerror(4000) or "libelf" in libbpf().strerror(4000)


def test_the_log_is_captured_per_block_and_goes_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_log() as outer:
        with capture_log() as inner, pytest.raises(CallError):
            libbpf().bpf_object__open_file(b"/nonexistent/x.o", None)
        assert any("/nonexistent/x.o" in line for line in inner)
        assert outer == []
    with pytest.raises(CallError):
        libbpf().bpf_object__open_file(b"/nonexistent/y.o", None)
    assert capfd.readouterr() == ("", "")


def test_debug_sends_the_log_on() -> None:
    lines: list[str] = []
    set_debug(lines.append)
    try:
        with pytest.raises(CallError):
            libbpf().bpf_object__open_file(b"/nonexistent/z.o", None)
    finally:
        set_debug(None)
    assert any("/nonexistent/z.o" in line for line in lines)


class TestFd:
    def test_close_closes_once(self) -> None:
        read, write = os.pipe()
        os.close(write)
        fd = Fd(read, "pipe")
        fd.close()
        fd.close()
        assert fd.closed
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(read)

    def test_use_after_close_raises(self) -> None:
        fd = Fd(os.dup(0), "thing")
        fd.close()
        with pytest.raises(ClosedError, match="thing is used after it was closed"):
            _ = fd.number

    def test_a_forgotten_one_is_closed_with_a_warning(self) -> None:
        number = os.dup(0)
        fd = Fd(number, "forgotten thing")
        holder = [fd]
        del fd
        with pytest.warns(ResourceWarning, match="forgotten thing: file descriptor"):
            holder.clear()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    def test_a_borrowed_one_lives_and_dies_with_its_owner(self) -> None:
        class Owner:
            closed = False

        owner = Owner()
        borrowed = Fd(0, "standard input", owner=owner)
        assert borrowed.number == 0
        borrowed.close()
        os.fstat(0)
        again = Fd(0, "standard input", owner=owner)
        owner.closed = True
        with pytest.raises(ClosedError):
            _ = again.number

    def test_dup_is_independent(self) -> None:
        fd = Fd(os.dup(0), "thing")
        copy = fd.dup()
        fd.close()
        os.fstat(copy.number)
        copy.close()

    def test_a_negative_number_is_no_descriptor(self) -> None:
        with pytest.raises(ValueError, match="not a file descriptor"):
            Fd(-1, "nothing")


@pytest.mark.parametrize("library", ["of another version", "no row formatter"])
def test_a_row_formatter_of_another_version_is_refused(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its structures are other ones: it would write wrong bytes without a word."""
    if library == "of another version":
        monkeypatch.setattr(rows, "INTERFACE", rows.INTERFACE + 1)
    else:
        monkeypatch.setattr(rows, "LIBRARY", Path("libbpf.so.1"))
    rows._library.cache_clear()
    try:
        with pytest.raises(UnsupportedError, match="of another version of ctctl"):
            rows.place_groups(rows.RowsGroups())
    finally:
        rows._library.cache_clear()


def test_the_number_of_the_row_formatter_follows_from_its_source() -> None:
    """Who changes an enum, a structure or a function of it cannot forget the number."""
    told = subprocess.run(
        ["make", "-s", "--eval", "told: ; @echo $(INTERFACE)", "told"], cwd=ROOT, capture_output=True, check=True
    )
    assert int(told.stdout) == rows.INTERFACE
    for structure in ("rows_op", "rows_run", "rows_groups", "lines_op", "lines_run"):
        sources = {path: path.read_text() for path in (ROOT / "native").glob("*.c")}
        path = next(path for path, text in sources.items() if f"struct {structure} {{" in text)
        changed = sources[path].replace(f"struct {structure} {{", f"struct {structure} {{\n\tint more;")
        assert _interface(sources | {path: changed}) != _interface(sources), structure


def _interface(sources: dict[Path, str]) -> int:
    """What the Makefile makes of them, in the order of its list."""
    found = re.search(
        r"^INTERFACE = .*shell (sed .*?) \$\(NATIVE_SRC\) \| cksum", (ROOT / "Makefile").read_text(), re.M
    )
    assert found is not None
    text = "".join(sources[path] for path in sorted(sources, reverse=True))
    done = subprocess.run(f"{found[1]} | cksum", shell=True, input=text.encode(), capture_output=True, check=True)
    return int(done.stdout.split()[0])
