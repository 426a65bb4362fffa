"""What ``ctctl ui`` reads: the same rows as ``ct list``, in the same order, and never more often than it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.ct.arrange import rows
from ctctl.errors import UsageError
from ctctl.model.tuples import endpoint
from ctctl.tables.open import open_source
from ctctl.tables.query.filter import Filter
from ctctl.tables.show.entry import entry_name
from ctctl.ui.look import Ask, Looker
from ctctl.ui.pump import SHARE, interval_of

DUMP = Path(__file__).resolve().parents[1] / "data/samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"


@pytest.mark.parametrize("sort", [None, "remaining", "-src", "dst_port", "-last_tx_report"])
@pytest.mark.parametrize("text", ["", "state == new", "family == 6 and proto == tcp"])
@pytest.mark.parametrize("first", [0, 7, 60])
def test_rows_are_those_of_ct_list_from_any_row_on(sort: str | None, text: str, first: int) -> None:
    wanted = Filter.parse(text)
    with open_source(str(DUMP)) as source:
        every = [entry_name(row.entry) for row in rows(source, wanted, sort=sort)]
        frame = Looker(source).look(Ask(wanted, sort, first, 20, 120))
    found = [frame.row(first + at) for at in range(len(frame.lines))]
    assert [entry_name(row.entry) for row in found if row is not None] == every[first : first + 20]
    assert frame.matched == len(every)
    assert frame.row(first + 20) is None
    for line, row in zip(frame.lines, found, strict=True):
        assert row is not None
        flow = row.entry.tuple
        assert {endpoint(flow.src, flow.src_port), endpoint(flow.dst, flow.dst_port)} <= set(line.text.split())


def test_what_does_not_change_is_read_once() -> None:
    with open_source(str(DUMP)) as source:
        reads = []
        for table in source.tables:
            inner = table.read
            table.read = lambda inner=inner: (reads.append(1), inner())[1]
        looker = Looker(source)
        looker.look(Ask())
        once = len(reads)
        looker.look(Ask(sort="remaining"))
        assert len(reads) == once == len(source.tables)


def test_the_state_is_on_the_screen_whatever_the_width() -> None:
    with open_source(str(DUMP)) as source:
        for width in (80, 120, 200):
            for line in Looker(source).look(Ask(width=width)).lines:
                (state,) = [column for column in line.head.shown if column.name == "state"]
                assert state.start + state.width <= width


def test_a_sort_field_that_nobody_knows_is_said_with_the_nearest() -> None:
    with open_source(str(DUMP)) as source, pytest.raises(UsageError, match="remaining"):
        Looker(source).look(Ask(sort="remainin"))


def test_a_look_that_costs_more_is_made_less_often() -> None:
    assert interval_of(1.0, cpu_s=0.01, took_s=0.02) == 1.0
    costly = interval_of(1.0, cpu_s=1.0, took_s=1.0)
    assert 1.0 / costly <= SHARE + 1e-9
    assert interval_of(1.0, cpu_s=0.1, took_s=4.0) > 4.0
