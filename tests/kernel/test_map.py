"""Maps in the kernel: one by one, by batch with the cursor's quirks, pins, memory maps."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ctctl._ffi import libbpf
from ctctl.errors import ClosedError, KernelError, NotFoundError
from ctctl.kernel.cpus import possible_cpus
from ctctl.kernel.map import Map, MapFlag, MapType, UpdateMode
from ctctl.kernel.map_batch import update_batch
from ctctl.kernel.refused import TRIES
from tests.support.names import unique_name

pytestmark = pytest.mark.kernel

PIN_ROOT = Path("/sys/fs/bpf")


def keys_of(numbers: range, width: int = 14) -> NDArray[np.uint8]:
    """Distinct keys: the number in the first four bytes."""
    keys = np.zeros((len(numbers), width), np.uint8)
    keys[:, :4] = np.arange(numbers.start, numbers.stop, dtype="<u4").view(np.uint8).reshape(-1, 4)
    return keys


def numbers_in(keys: NDArray[np.uint8]) -> list[int]:
    return np.ascontiguousarray(keys[:, :4]).view("<u4").ravel().tolist()


def filled(count: int, capacity: int | None = None, kind: MapType = MapType.HASH) -> Map:
    """A conntrack-sized map with ``count`` entries whose values repeat the key's number."""
    table = Map.create("filled", kind, 14, 56, capacity or count)
    keys = keys_of(range(count))
    values = np.zeros((count, 56), np.uint8)
    values[:, :4] = keys[:, :4]
    table.update_batch(keys, values)
    return table


@pytest.fixture
def pin() -> Iterator[Path]:
    path = PIN_ROOT / unique_name("pin")
    yield path
    path.unlink(missing_ok=True)


class TestOneByOne:
    def test_write_read_delete(self) -> None:
        with Map.create("one", MapType.HASH, 4, 8, 4) as table:
            assert table.lookup(b"aaaa") is None
            table.update(b"aaaa", b"12345678")
            assert table.lookup(b"aaaa") == b"12345678"
            assert table.delete(b"aaaa") is True
            assert table.delete(b"aaaa") is False

    def test_update_modes(self) -> None:
        with Map.create("modes", MapType.HASH, 4, 8, 4) as table:
            with pytest.raises(KernelError) as caught:
                table.update(b"aaaa", bytes(8), mode=UpdateMode.EXIST)
            assert caught.value.errno == errno.ENOENT
            table.update(b"aaaa", bytes(8), mode=UpdateMode.NOEXIST)
            with pytest.raises(KernelError, match="write to map modes: File exists") as caught:
                table.update(b"aaaa", bytes(8), mode=UpdateMode.NOEXIST)
            assert caught.value.errno == errno.EEXIST

    def test_a_full_map_says_so(self) -> None:
        with Map.create("full", MapType.HASH, 4, 8, 1) as table:
            table.update(b"aaaa", bytes(8))
            with pytest.raises(KernelError, match="the map is full") as caught:
                table.update(b"bbbb", bytes(8))
            assert caught.value.errno == errno.E2BIG

    @pytest.mark.parametrize("key", [b"", b"aaa", b"aaaaa"])
    def test_a_key_of_another_size_never_reaches_the_kernel(self, key: bytes) -> None:
        with Map.create("sizes", MapType.HASH, 4, 8, 1) as table:
            for call in (table.lookup, table.delete, table.next_key, lambda k: table.update(k, bytes(8))):
                with pytest.raises(ValueError, match=f"key of {len(key)} bytes, it takes 4"):
                    call(key)
            with pytest.raises(ValueError, match="value of 7 bytes, it takes 8"):
                table.update(b"aaaa", bytes(7))

    def test_items_walk_an_lpm_trie(self) -> None:
        with Map.create("trie", MapType.LPM_TRIE, 8, 4, 16, flags=MapFlag.NO_PREALLOC) as table:
            entries = {
                length.to_bytes(4, "little") + bytes([10, length, 0, 0]): bytes([length, 0, 0, 0])
                for length in (16, 24, 32)
            }
            for key, value in entries.items():
                table.update(key, value)
            assert dict(table.items()) == entries
            batches = [dict(zip(map(bytes, b.keys), map(bytes, b.values), strict=True)) for b in table.batches()]
            assert {key: value for batch in batches for key, value in batch.items()} == entries

    def test_per_cpu_values_come_for_every_cpu(self) -> None:
        with Map.create("percpu", MapType.PERCPU_ARRAY, 4, 4, 2) as table:
            assert table.per_cpu_stride == 8
            value = b"".join(cpu.to_bytes(8, "little") for cpu in range(possible_cpus()))
            table.update(bytes(4), value)
            assert table.lookup(bytes(4)) == value
            batch = next(table.batches(2))
            assert batch.values.shape == (2, table.value_bytes)
            assert bytes(batch.values[0]) == value

    def test_a_map_of_maps_holds_maps(self) -> None:
        with (
            Map.create("inner", MapType.ARRAY, 4, 8, 1) as inner,
            Map.create("outer", MapType.HASH_OF_MAPS, 4, 4, 2, inner=inner) as outer,
        ):
            outer.update(b"aaaa", inner.fd.to_bytes(4, "little"))
            held = outer.lookup(b"aaaa")
            assert held is not None
            with Map.from_id(int.from_bytes(held, "little")) as again:
                assert again.info.id == inner.info.id


class TestBatches:
    @pytest.mark.parametrize("size", [1, 2, 7, 256, 4096, 100_000])
    @pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH])
    def test_every_entry_comes_once_whatever_the_size(self, size: int, kind: MapType) -> None:
        """Small buffers meet buckets that do not fit (ENOSPC), the last batch comes with ENOENT."""
        count = 20_000
        with filled(count, count + 5000, kind) as table:
            found: list[int] = []
            for batch in table.batches(size):
                assert 0 < len(batch) == len(batch.values)
                assert (batch.keys[:, :4] == batch.values[:, :4]).all()
                found += numbers_in(batch.keys)
            assert sorted(found) == list(range(count))

    def test_small_buffers_did_meet_a_bucket_that_does_not_fit(self) -> None:
        """Else the test above would prove nothing: 20,000 keys cannot all be alone in their buckets."""
        with filled(20_000) as table:
            reader_sizes = [len(batch) for batch in table.batches(1)]
        assert max(reader_sizes) > 1, "the buffer never had to grow"

    def test_an_empty_map_has_no_batch(self) -> None:
        with Map.create("empty", MapType.LRU_HASH, 14, 56, 100) as table:
            assert list(table.batches()) == []
            assert list(table.drain()) == []

    def test_reused_batches_share_memory_and_kept_ones_do_not(self) -> None:
        with filled(5000) as table:
            shared = [batch.keys.ctypes.data for batch in table.batches(512)]
            assert len(shared) > 5
            assert len(set(shared)) == 1
            kept = list(table.batches(512, reuse=False))
            assert sorted(n for batch in kept for n in numbers_in(batch.keys)) == list(range(5000))

    def test_bpftool_sees_the_same_table(self) -> None:
        with filled(300) as table:
            dumped = subprocess.run(
                ["bpftool", "-j", "map", "dump", "id", str(table.info.id)], check=True, capture_output=True, text=True
            )
            theirs = {
                bytes(int(byte, 16) for byte in row["key"]): bytes(int(byte, 16) for byte in row["value"])
                for row in json.loads(dumped.stdout)
            }
            ours = {bytes(k): bytes(v) for b in table.batches() for k, v in zip(b.keys, b.values, strict=True)}
            assert ours == theirs == dict(table.items())

    def test_drain_hands_out_everything_and_leaves_nothing(self) -> None:
        with filled(3000) as table:
            assert sorted(n for batch in table.drain(64) for n in numbers_in(batch.keys)) == list(range(3000))
            assert table.next_key(None) is None

    def test_delete_batch_goes_on_behind_keys_that_are_gone(self) -> None:
        with filled(100) as table:
            for number in (0, 1, 50, 98, 99):
                table.delete(bytes(keys_of(range(number, number + 1))[0]))
            result = table.delete_batch(keys_of(range(100)))
            assert (result.deleted, result.gone) == (95, 5)
            assert table.next_key(None) is None
            assert table.delete_batch(keys_of(range(3))) == type(result)(0, 3)
            assert table.delete_batch(keys_of(range(0))) == type(result)(0, 0)

    def test_batches_take_bytes_and_any_contiguous_dtype(self) -> None:
        record = np.zeros(3, np.dtype([("number", "<u4"), ("rest", "V10")]))
        record["number"] = [7, 8, 9]
        with Map.create("dtypes", MapType.HASH, 14, 56, 10) as table:
            assert table.update_batch(record, bytes(3 * 56)) == 3
            assert sorted(n for batch in table.batches() for n in numbers_in(batch.keys)) == [7, 8, 9]
            assert table.delete_batch(record[1:].tobytes()).deleted == 2
            assert table.update_batch(b"", b"") == 0

    def test_batches_that_do_not_fit_the_map_are_refused(self) -> None:
        with Map.create("misfit", MapType.HASH, 14, 56, 10) as table:
            with pytest.raises(ValueError, match="not a multiple of 14"):
                table.delete_batch(bytes(15))
            with pytest.raises(ValueError, match="2 keys, 1 values"):
                table.update_batch(bytes(28), bytes(56))
            with pytest.raises(ValueError, match="batch size 0"):
                next(table.batches(0))

    def test_a_batch_write_into_a_full_map_says_how_far_it_got(self) -> None:
        with Map.create("small", MapType.HASH, 14, 56, 10) as table:
            with pytest.raises(KernelError, match="10 of 20 entries were written") as caught:
                table.update_batch(keys_of(range(20)), bytes(20 * 56))
            assert caught.value.errno == errno.E2BIG

    def test_a_map_without_batches_says_so(self) -> None:
        with (
            Map.create("ring", MapType.RINGBUF, 0, 0, 4096) as ring,
            pytest.raises(KernelError, match=r"read map ring: .*no batch operations"),
        ):
            next(ring.batches())

    def test_reading_a_map_that_changes_loses_no_stable_entry(self) -> None:
        """Entries that nobody touches come exactly once while others are deleted and put back."""
        stable, moving = range(10_000), range(10_000, 20_000)
        with filled(20_000, 40_000) as table:
            found: list[int] = []
            keys, values = keys_of(moving), bytes(len(moving) * 56)
            for turn, batch in enumerate(table.batches(256)):
                found += numbers_in(batch.keys)
                if turn % 10 == 0:
                    table.delete_batch(keys)
                    table.update_batch(keys, values)
            assert sorted(number for number in found if number in stable) == list(stable)


class TestPins:
    def test_pin_and_open_again(self, pin: Path) -> None:
        with Map.create("pinned", MapType.HASH, 4, 8, 4) as table:
            table.pin(pin)
            table.update(b"aaaa", b"12345678")
        with Map.open_pinned(pin) as again:
            assert again.name == pin.name
            assert again.lookup(b"aaaa") == b"12345678"
            with Map.from_id(again.info.id) as third:
                assert third.name == "pinned"

    def test_read_only_reads_and_cannot_write(self, pin: Path) -> None:
        with Map.create("readonly", MapType.HASH, 4, 8, 4) as table:
            table.pin(pin)
            table.update(b"aaaa", bytes(8))
        with Map.open_pinned(pin, read_only=True) as table:
            assert [len(batch) for batch in table.batches()] == [1]
            for write in (
                lambda: table.update(b"bbbb", bytes(8)),
                lambda: table.delete(b"aaaa"),
                lambda: table.delete_batch(b"aaaa"),
                lambda: next(table.drain()),
            ):
                with pytest.raises(KernelError) as caught:
                    write()
                assert caught.value.errno == errno.EPERM
            assert table.lookup(b"aaaa") == bytes(8)

    def test_a_place_that_is_taken(self, pin: Path) -> None:
        with Map.create("taken", MapType.HASH, 4, 8, 4) as table:
            table.pin(pin)
            with pytest.raises(KernelError, match=f"pin map at {pin}") as caught:
                table.pin(pin)
            assert caught.value.errno == errno.EEXIST

    def test_a_plain_directory_is_no_place(self, tmp_path: Path) -> None:
        with (
            Map.create("plain", MapType.HASH, 4, 8, 4) as table,
            pytest.raises(KernelError, match="BPF file system"),
        ):
            table.pin(tmp_path / "pin")

    def test_nothing_there(self, pin: Path) -> None:
        with pytest.raises(NotFoundError, match=f"no map is pinned at {pin}"):
            Map.open_pinned(pin)
        with pytest.raises(NotFoundError, match="no map has id 4294967295"):
            Map.from_id(2**32 - 1)

    def test_a_file_that_is_no_pin(self, tmp_path: Path) -> None:
        plain = tmp_path / "file"
        plain.touch()
        with pytest.raises(KernelError, match=f"open pinned map {plain}"):
            Map.open_pinned(plain)


class TestLife:
    def test_a_closed_map_is_not_used(self) -> None:
        table = Map.create("closed", MapType.HASH, 4, 8, 4)
        table.close()
        table.close()
        for call in (lambda: table.lookup(b"aaaa"), lambda: next(table.batches()), table.dup, lambda: table.fd):
            with pytest.raises(ClosedError, match="map closed is used after it was closed"):
                call()

    def test_a_dup_outlives_its_original(self) -> None:
        table = Map.create("dup", MapType.HASH, 4, 8, 4)
        copy = table.dup()
        table.close()
        with copy:
            copy.update(b"aaaa", bytes(8))
            assert copy.name == "dup"

    def test_a_forgotten_map_is_closed_with_a_warning(self) -> None:
        holder = [Map.create("forgotten", MapType.HASH, 4, 8, 4)]
        number = holder[0].fd
        with pytest.warns(ResourceWarning, match="map forgotten"):
            holder.clear()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    def test_what_the_kernel_refuses_names_the_map(self) -> None:
        with pytest.raises(KernelError, match=r"create map impossible: .*EINVAL") as caught:
            Map.create("impossible", MapType.HASH, 0, 8, 4)
        assert (caught.value.errno, caught.value.operation, caught.value.name) == (22, "create map", "impossible")

    def test_long_names_are_cut_by_the_kernel_only(self) -> None:
        with Map.create("cilium_ct_any4_global", MapType.HASH, 4, 8, 4) as table:
            assert table.name == "cilium_ct_any4_global"
            assert table.info.name == "cilium_ct_any4_"

    def test_shared_memory_is_the_map(self) -> None:
        with Map.create("shared", MapType.ARRAY, 4, 12, 3, flags=MapFlag.MMAPABLE) as table:
            view = table.mmap()
            assert len(view) >= 3 * 16
            table.update((1).to_bytes(4, "little"), b"abcdefghijkl")
            assert bytes(view[16:28]) == b"abcdefghijkl"
            view[32:36] = b"wxyz"
            assert table.lookup((2).to_bytes(4, "little")) == b"wxyz" + bytes(8)
            view.release()

    def test_a_hash_cannot_be_mapped(self) -> None:
        with (
            Map.create("hash", MapType.HASH, 4, 8, 4) as table,
            pytest.raises(KernelError, match="map into memory hash"),
        ):
            table.mmap()


class Refusing:
    """Stands before a call of libbpf: every other one is refused a lock before it gets to the kernel; ``always``: each.

    ``part``: of a batch, that many entries are done before the refusal, by the kernel itself.
    """

    def __init__(self, name: str, err: int, *, always: bool = False, part: int | None = None) -> None:
        self.name, self._err, self._always, self._part = name, err, always, part
        self._call = getattr(libbpf(), name)
        self.calls = 0

    def __call__(self, *args: Any) -> int:
        self.calls += 1
        if not self._always and self.calls % 2 == 0:
            return self._call(*args)
        count = next((arg._obj for arg in args if hasattr(arg, "_obj")), None)
        if count is None:
            return -self._err
        asked, count.value = count.value, min(self._part or 0, count.value)
        done = self._call(*args) if count.value else 0
        return -self._err if done == 0 and count.value < asked else done


@pytest.mark.parametrize("err", [errno.EBUSY, errno.EDEADLK, errno.ETIMEDOUT])
@pytest.mark.parametrize("part", [0, 700])
def test_a_lock_that_is_refused_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, err: int, part: int) -> None:
    for name in ("bpf_map_update_elem", "bpf_map_delete_elem", "bpf_map_update_batch", "bpf_map_delete_batch"):
        monkeypatch.setattr(libbpf(), name, Refusing(name, err, part=part))
    with filled(5000) as table:
        assert sorted(numbers for keys, _ in table.batches() for numbers in numbers_in(keys)) == list(range(5000))
        one = keys_of(range(1)).tobytes()
        assert table.delete(one)
        table.update(one, bytes(56))
        assert table.lookup(one) == bytes(56)
        assert table.delete(one)
        # One of the keys is gone already.
        assert table.delete_batch(keys_of(range(3000))) == (2999, 1)
        assert sorted(n for keys, _ in table.batches() for n in numbers_in(keys)) == list(range(3000, 5000))


@pytest.mark.parametrize("part", [0, 600])
@pytest.mark.parametrize("name", ["bpf_map_lookup_batch", "bpf_map_lookup_and_delete_batch"])
def test_a_walk_goes_on_at_a_bucket_whose_lock_was_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, part: int
) -> None:
    with filled(5000) as table:
        refusing = Refusing(name, errno.ETIMEDOUT, part=part)
        monkeypatch.setattr(libbpf(), name, refusing)
        walk = table.batches(2000) if name == "bpf_map_lookup_batch" else table.drain(2000)
        assert sorted(n for keys, _ in walk for n in numbers_in(keys)) == list(range(5000))
        assert refusing.calls >= 4


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("bpf_map_update_elem", lambda table, keys: table.update(keys.tobytes()[:14], bytes(56))),
        ("bpf_map_delete_elem", lambda table, keys: table.delete(keys.tobytes()[:14])),
        ("bpf_map_update_batch", lambda table, keys: table.update_batch(keys, bytes(56 * 10))),
        ("bpf_map_delete_batch", lambda table, keys: table.delete_batch(keys)),
        ("bpf_map_lookup_batch", lambda table, _keys: list(table.batches())),
    ],
)
def test_a_lock_that_is_never_had_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, use: Any) -> None:
    with filled(10) as table:
        refusing = Refusing(name, errno.EDEADLK, always=True)
        monkeypatch.setattr(libbpf(), name, refusing)
        with pytest.raises(KernelError) as caught:
            use(table, keys_of(range(10)))
        assert caught.value.errno == errno.EDEADLK
        assert refusing.calls == TRIES
        monkeypatch.undo()
        assert len(list(table.every_key())) == 10


def test_a_batch_that_the_kernel_turns_down_at_once_wrote_nothing() -> None:
    with filled(10) as table, pytest.raises(KernelError, match="0 of 10 entries were written"):
        update_batch(table, keys_of(range(10)), bytes(56 * 10), flags=1 << 40)
