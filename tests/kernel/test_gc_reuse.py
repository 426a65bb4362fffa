"""The kernel engine while elements of the table are reused under its feet: no live entry may go."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ctctl.gc.programs import GcProgram, Kind
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from ctctl.tables.pairs import IPV4
from tests.support.bpf import compile_file
from tests.support.gctables import NOW, as_target

pytestmark = pytest.mark.kernel

ROUNDS = 2_000_000


def test_an_element_reused_for_a_live_connection_costs_no_entry() -> None:
    """A walk that deletes by a key that it read after the test loses live entries here (two CPUs)."""
    with (
        Map.create("churned", MapType.LRU_HASH, IPV4.size, 56, 4096) as table,
        BpfObject.open(compile_file("churn.c")) as churn,
        GcProgram(as_target(table), Kind.WALK) as gc,
        ThreadPoolExecutor(1) as writer,
    ):
        churn.reuse_map("target", table)
        churn.set_config("cfg_now", NOW)
        churn.set_config("cfg_rounds", ROUNDS)
        churn.load()
        gc.control["now"] = NOW
        gc.control["budget"] = 1 << 62
        writing = writer.submit(churn.program("churn").run_syscall)
        while not writing.done():
            gc.run()
        assert writing.result()[0] == 0
        assert gc.control["nr_deleted"][0] > 0
        assert int.from_bytes(churn.map("lost").lookup(bytes(4)) or b"", "little") == 0
