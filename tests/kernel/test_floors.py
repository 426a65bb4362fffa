"""The C floors do the work they are the measure of: a floor that skipped some would flatter nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.decode.ct import decode_entry
from ctctl.kernel.map import Map
from ctctl.model.entry import Layout
from ctctl.tables.show.cilium import cilium_line
from tests.bench.fill import Filled, fill, remove
from tests.bench.floors import Floors
from tests.support.bpf import CLANG
from tests.support.names import unique_name
from tests.support.needs import need_program

pytestmark = pytest.mark.kernel

TABLES = ("cilium_ct4_global", "cilium_ct_any4_global")


@pytest.fixture(scope="module")
def floors() -> Floors:
    need_program(CLANG)
    need_program("gcc")
    return Floors()


@pytest.fixture
def filled() -> Iterator[Filled]:
    need_program(CLANG)
    directory = Path("/sys/fs/bpf") / unique_name("floor")
    try:
        yield fill(directory, entries=5000, any_entries=3000, capacity=16384)
    finally:
        remove(directory)


def entries_of(pin: Path) -> list[tuple[bytes, bytes]]:
    with Map.open_pinned(pin, read_only=True) as table:
        return [
            (bytes(key), bytes(value))
            for batch in table.batches()
            for key, value in zip(batch.keys, batch.values, strict=True)
        ]


@pytest.mark.parametrize(("table", "count"), list(zip(TABLES, (5000, 3000), strict=True)))
def test_every_entry_is_read_counted_and_written(
    floors: Floors, filled: Filled, table: str, count: int, tmp_path: Path
) -> None:
    pin, text = Path(filled.directory) / table, tmp_path / "text"
    assert floors.read(pin).entries == count
    assert floors.count(pin).entries == floors.tally(pin).entries == count
    assert floors.format(pin, text).entries == count
    lines = [cilium_line(decode_entry(key, value, Layout.V1_16)) for key, value in entries_of(pin)]
    assert text.read_text() == "".join(f"{line}\n" for line in lines) + "\n"


@pytest.mark.parametrize("engine", ["gc_batch", "gc_kernel"])
def test_exactly_the_expired_are_deleted(floors: Floors, filled: Filled, engine: str) -> None:
    pin = Path(filled.directory) / TABLES[0]
    before = entries_of(pin)
    expired = {key for key, value in before if int.from_bytes(value[32:36], "little") < filled.now}
    assert 0 < len(expired) < len(before)
    assert getattr(floors, engine)(pin, filled.now).deleted == len(expired)
    assert {key for key, _value in entries_of(pin)} == {key for key, _value in before} - expired


def test_a_process_is_measured_by_itself(floors: Floors, tmp_path: Path) -> None:
    small = floors.process(["true"])
    big = floors.process(["head", "-c", "1", "/dev/zero"], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"\0"
    assert small.max_rss_kib < 10_000, "not the memory of the process that measures"
    assert small.wall_seconds > 0
    assert big.max_rss_kib > 0
