"""What a report of several nodes shows where few of them have something to show, and how often it looks at each."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.decode.columns import CtColumns
from ctctl.model.entry import Layout
from ctctl.report.gather import gather
from ctctl.tables.open import open_source
from ctctl.tables.sources.base import Source
from tests.support.hostile import lines


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Three nodes with an entry each; one of them has a service."""
    for name in ("node-a", "node-b", "node-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct.txt").write_bytes(lines("ct", 1))
    (tmp_path / "node-b" / "lb.txt").write_text(
        "SERVICE ADDRESS     BACKEND ADDRESS (REVNAT_ID) (SLOT)\n10.96.0.1:80 (1)     10.1.0.1:8080 (1) (1)\n"
    )
    return open_source(str(tmp_path))


def test_the_only_node_with_services_is_named(source: Source) -> None:
    sheets = {sheet.title: sheet for sheet in gather(source).sheets}
    services = sheets["Services"]
    assert services.headers[0] == "NODE"
    assert {row[0][0] for row in services.rows} == {"node-b"}
    assert "SNAT ports in use" not in sheets


def test_what_is_not_the_same_of_all_nodes_is_said_of_whom(source: Source) -> None:
    facts = gather(source).facts
    (layout,) = [text for title, text in facts if title == "layout"]
    assert "node-" not in layout
    source.tables_of("node-b")[0].layout = Layout.V1_14
    found = {text for title, text in gather(source).facts if title == "layout"}
    other = layout.replace(source.tables_of("node-a")[0].layout.value, Layout.V1_14.value)
    assert found == {f"{layout}: node-a, node-c", f"{other}: node-b"}


def test_a_small_table_is_made_ready_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    init = CtColumns.__init__

    def counted(*words: object) -> None:
        nonlocal made
        made += 1
        init(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(CtColumns, "__init__", counted)
    gather(source)
    assert made <= 2 * len(source.tables), "of each table for all readers, and what one of them selects or joins"
