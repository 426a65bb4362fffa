"""Objects: configuration, maps handed in, refused programs, what closing does."""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.errors import ClosedError, KernelError, NotFoundError, VerifierError
from ctctl.kernel.map import Map, MapFlag, MapType
from ctctl.kernel.object import BpfObject
from tests.support.bpf import FRAME, compile_file

pytestmark = pytest.mark.kernel


@pytest.fixture
def opened() -> Iterator[BpfObject]:
    """The test object, maps of maps given their template, not loaded."""
    with (
        BpfObject.open(compile_file("kernel_layer.bpf.c")) as found,
        Map.create("inner", MapType.ARRAY, 4, 8, 1) as inner,
    ):
        found.set_inner_map("outer", inner)
        yield found


@pytest.fixture
def loaded(opened: BpfObject) -> BpfObject:
    opened.load()
    return opened


class TestOpen:
    def test_it_lists_what_is_in_it(self, opened: BpfObject) -> None:
        assert opened.config_names() == {"cfg_byte", "cfg_word", "cfg_signed", "cfg_mac"}
        assert set(opened.map_names()) == {"seen", "ring", "shared", "per_cpu", "outer"}
        assert opened.program_names() == ["count", "other", "add"]
        assert opened.map_shape("seen") == (MapType.LRU_HASH, 4, 8, 128)

    def test_no_file_and_no_object(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="no BPF object at"):
            BpfObject.open(tmp_path / "nothing.o")
        damaged = tmp_path / "damaged.o"
        damaged.write_bytes(b"this is no object")
        with pytest.raises(KernelError, match=r"open BPF object damaged\.o"):
            BpfObject.open(damaged)


class TestConfig:
    def test_numbers_and_bytes_reach_the_program(self, opened: BpfObject) -> None:
        opened.set_config("cfg_byte", 200)
        opened.set_config("cfg_word", 0x01020304)
        opened.set_config("cfg_signed", -5)
        opened.set_config("cfg_mac", b"\1\2\3\4\5\6")
        opened.load()
        result = opened.program("count").test_run(FRAME, cb=(0, 0, 10, 0, 0))
        assert result.retval == 200
        assert result.cb[1:3] == (6, 5)
        assert opened.map("seen").lookup(bytes([4, 3, 2, 1])) == len(FRAME).to_bytes(8, "little")

    def test_what_is_not_set_keeps_its_value(self, loaded: BpfObject) -> None:
        assert loaded.program("count").test_run(FRAME).retval == 0
        assert loaded.map("seen").lookup((7).to_bytes(4, "little")) is not None

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("cfg_byte", 256, "256 does not fit cfg_byte .1 bytes."),
            ("cfg_byte", -1, "cfg_byte is unsigned, not -1"),
            ("cfg_signed", 40000, "40000 does not fit cfg_signed"),
            ("cfg_mac", b"\1\2", "cfg_mac takes 6 bytes, not 2"),
            ("cfg_word", b"\1", "cfg_word takes 4 bytes, not 1"),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused(
        self, opened: BpfObject, name: str, value: int | bytes, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            opened.set_config(name, value)

    def test_an_unknown_name_lists_the_known_ones(self, opened: BpfObject) -> None:
        with pytest.raises(NotFoundError, match="no configuration variable 'cfg_none'; it has cfg_byte, cfg_mac"):
            opened.set_config("cfg_none", 1)

    def test_it_is_too_late_after_load(self, loaded: BpfObject) -> None:
        for change in (
            lambda: loaded.set_config("cfg_byte", 1),
            lambda: loaded.set_max_entries("seen", 1),
            lambda: loaded.disable_program("count"),
            loaded.load,
        ):
            with pytest.raises(KernelError, match="the object is loaded already"):
                change()


class TestMaps:
    def test_sizes_are_what_was_set(self, opened: BpfObject) -> None:
        opened.set_max_entries("seen", 1000)
        opened.load()
        assert opened.map("seen").info.max_entries == 1000

    def test_a_map_handed_in_is_used(self, opened: BpfObject) -> None:
        with Map.create("seen", MapType.LRU_HASH, 4, 8, 128) as mine:
            opened.reuse_map("seen", mine)
            opened.load()
            opened.program("count").test_run(FRAME)
            assert opened.map("seen").info.id == mine.info.id
            assert mine.lookup((7).to_bytes(4, "little")) is not None
            opened.close()
            assert mine.lookup((7).to_bytes(4, "little")) is not None, "closing the object closed a borrowed map"

    def test_a_map_of_another_shape_is_refused(self, opened: BpfObject) -> None:
        with Map.create("seen", MapType.LRU_HASH, 14, 56, 128) as mine:
            opened.reuse_map("seen", mine)
            with pytest.raises(KernelError):
                opened.load()

    def test_maps_carry_their_types(self, loaded: BpfObject) -> None:
        info = loaded.map("seen").info
        assert info.btf_id
        assert info.btf_key_type_id
        assert info.btf_value_type_id

    def test_shared_memory_with_a_syscall_program(self, loaded: BpfObject) -> None:
        view = loaded.map("shared").mmap()
        question = (30).to_bytes(4, "little") + (12).to_bytes(4, "little") + bytes(4)
        value, answer = loaded.program("add").run_syscall(question)
        assert value == 5
        assert int.from_bytes(answer[8:], "little") == 42
        assert int.from_bytes(view[16:24], "little") == 42
        view.release()

    def test_unknown_names_list_the_known_ones(self, loaded: BpfObject) -> None:
        with pytest.raises(NotFoundError, match="no map 'none'; it has"):
            loaded.map("none")
        with pytest.raises(NotFoundError, match="no program 'none'; it has add, count, other"):
            loaded.program("none")


class TestLoad:
    def test_a_refused_program_says_why_and_where(self) -> None:
        with BpfObject.open(compile_file("refused.bpf.c")) as found, pytest.raises(VerifierError) as caught:
            found.load()
        message = str(caught.value)
        assert message.startswith("load program unchecked of refused.bpf.o: ")
        assert "R0 invalid mem access 'map_value_or_null'" in message
        assert "return *value;" in message
        assert "\n" not in message
        assert len(caught.value.log.splitlines()) > 8, "the whole log is kept"
        assert caught.value.errno == errno.EACCES

    def test_a_disabled_program_is_not_loaded(self) -> None:
        with BpfObject.open(compile_file("refused.bpf.c")) as found:
            found.disable_program("unchecked")
            found.load()
            with pytest.raises(KernelError, match="get program unchecked"):
                found.program("unchecked")

    def test_nothing_can_be_had_before_load(self, opened: BpfObject) -> None:
        for access in (lambda: opened.program("count"), lambda: opened.map("seen")):
            with pytest.raises(KernelError, match="the object is not loaded"):
                access()

    def test_a_failed_load_leaves_no_map(self) -> None:
        """The leak check counts descriptors; here the id of the map must be gone as well."""
        with (
            BpfObject.open(compile_file("refused.bpf.c")) as found,
            Map.create("table", MapType.HASH, 4, 8, 8) as mine,
        ):
            found.reuse_map("table", mine)
            map_id = mine.info.id
            with pytest.raises(VerifierError):
                found.load()
        with pytest.raises(NotFoundError):
            Map.from_id(map_id)


class TestLife:
    def test_what_was_borrowed_ends_with_the_object(self, loaded: BpfObject) -> None:
        program, table = loaded.program("count"), loaded.map("seen")
        kept = loaded.map("shared").dup()
        loaded.close()
        loaded.close()
        with pytest.raises(ClosedError, match=r"map seen of kernel_layer\.bpf\.o is used after it was closed"):
            table.lookup(bytes(4))
        with pytest.raises(ClosedError):
            program.test_run(FRAME)
        for call in (loaded.map_names, lambda: loaded.map("seen"), lambda: loaded.set_config("cfg_byte", 1)):
            with pytest.raises(ClosedError, match="is used after it was closed"):
                call()
        with kept:
            assert kept.info.map_flags & MapFlag.MMAPABLE

    def test_a_forgotten_object_is_closed_with_a_warning(self) -> None:
        holder = [BpfObject.open(compile_file("refused.bpf.c"))]
        with pytest.warns(ResourceWarning, match=r"BPF object refused\.bpf\.o was not closed"):
            holder.clear()
        gc.collect()
