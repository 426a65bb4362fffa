"""Workloads learned from tables: timeouts by the entries, and never less than what is alive."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from ctctl.errors import CtctlError
from ctctl.model.clock import Clock
from ctctl.model.timeouts import Timeouts
from ctctl.predict.fluid import predict
from ctctl.predict.model import Workload
from ctctl.predict.observed import observe
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.facts import Fact, NodeFacts
from ctctl.tables.sources.open import open_source

NOW = 1_000_000


def listing(path: Path, timeout: int, count: int, *, reports: bool = True, span: int = 3600) -> Path:
    """Open connections whose last packet was at most ``span`` seconds ago."""
    chance, lines = random.Random(1), []
    for i in range(count):
        report = int(NOW - chance.random() * span)
        seen = report if reports else 0
        lines.append(
            f"TCP OUT 10.0.{i % 200}.{i % 250}:{20000 + i} -> 192.0.2.{i % 20}:443 expires={report + timeout} "
            f"(remaining: {report + timeout - NOW} sec(s)) Packets=0 Bytes=0 RxFlagsSeen=0x1a LastRxReport={seen} "
            f"TxFlagsSeen=0x1a LastTxReport={seen} Flags=0x0010 [ SeenNonSyn ] RevNAT=0 SourceSecurityID=4711 "
            "IfIndex=0 BackendID=0 \n"
        )
    file = path / f"ct-{timeout}.txt"
    file.write_text("".join(lines))
    return file


@pytest.mark.parametrize("timeout", [3600, 8000, 21600, 86400])
def test_timeouts_are_those_that_entries_were_written_with(tmp_path: Path, timeout: int) -> None:
    with open_source(str(listing(tmp_path, timeout, 300)), SourceOptions()) as source:
        seen = observe(source, Timeouts())
    assert seen.timeouts.regular_tcp == timeout
    assert seen.timeouts.service_tcp == Timeouts().service_tcp
    assert seen.alive == {"cilium_ct4_global": 300}
    assert seen.sizes == {"cilium_ct4_global": None}


@pytest.mark.parametrize("hz", [100, 250, 1000])
def test_timeouts_are_seconds_in_every_clock(hz: int, tmp_path: Path) -> None:
    path = listing(tmp_path, 21600, 300)

    def units(match: re.Match[str]) -> str:
        return f"{match[1]}={Clock(hz).units(int(match[2]))}"

    text = re.sub(r" [(]remaining: -?[0-9]+ sec[(]s[)][)]", "", path.read_text())
    path.write_text(re.sub(r"(expires|LastRxReport|LastTxReport)=([0-9]+)", units, text))
    options = SourceOptions(clock=Clock(hz), now=Clock(hz).units(NOW))
    with open_source(str(path), options) as source:
        seen = observe(source, Timeouts())
    assert seen.timeouts.regular_tcp == pytest.approx(21600, abs=3)


def test_too_few_to_learn_from_are_not_said_to_be_none(tmp_path: Path) -> None:
    for count, said in ((2, "2 entries are alive, too few of a sort"), (1, "1 entry is alive, too few of a sort")):
        with (
            open_source(str(listing(tmp_path, 8000, count)), SourceOptions(now=NOW)) as source,
            pytest.raises(CtctlError, match=said),
        ):
            observe(source, Timeouts())
    with (
        open_source(str(listing(tmp_path, 8000, 2)), SourceOptions(now=NOW + 99_999)) as source,
        pytest.raises(CtctlError, match="nothing alive"),
    ):
        observe(source, Timeouts())


def test_what_the_user_and_the_node_say_comes_first(tmp_path: Path) -> None:
    with open_source(str(listing(tmp_path, 21600, 300)), SourceOptions()) as source:
        source.facts = lambda _node: NodeFacts(timeouts_s={"regular_tcp": Fact(21000, "config")})
        assert observe(source, Timeouts()).timeouts.regular_tcp == 21000
        assert observe(source, Timeouts(), ["regular_tcp"]).timeouts.regular_tcp == 8000


@pytest.mark.parametrize("timeout", [8000, 21600])
@pytest.mark.parametrize("hours", [1, 24])
@pytest.mark.parametrize("reports", [True, False])
def test_a_forecast_begins_with_what_is_alive(tmp_path: Path, timeout: int, hours: int, reports: bool) -> None:
    with open_source(str(listing(tmp_path, timeout, 2000, reports=reports)), SourceOptions()) as source:
        seen = observe(source, Timeouts())
    found = predict(Workload(seen.kinds, seen.timeouts), hours * 3600.0)
    assert next(table.peak for table in found.tables) >= 0.99 * 2000


def test_connections_that_do_not_end_stay(tmp_path: Path) -> None:
    with open_source(str(listing(tmp_path, 8000, 500, span=60)), SourceOptions()) as source:
        seen = observe(source, Timeouts())
    found = predict(Workload(seen.kinds, seen.timeouts), 86400.0)
    (table,) = found.tables
    assert table.peak == pytest.approx(500)
    assert table.mean == pytest.approx(500, rel=0.01)
