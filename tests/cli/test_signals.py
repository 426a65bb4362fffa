"""Commands that run until they are told to stop, started by a parent that ignores signals."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import CTCTL, line_of, started
from tests.support.gctables import TableDir, entry, key4, table_dir
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

#: As in the background of a shell script; nohup ignores HUP alone.
DEAF = ("env", "--ignore-signal=INT,HUP")
#: Each with its exit status when interrupted: those that report what they did by themselves end well.
RUNNING = {
    ("ct", "events", "-f", "--interval", "0.1", "-o", "jsonl"): 130,
    ("ct", "list", "--watch", "0.1", "-o", "jsonl"): 130,
    ("ct", "top", "--watch", "0.1", "-o", "jsonl"): 130,
    ("gc", "--interval", "1", "-o", "jsonl"): 0,
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TableDir]:
    with table_dir(tmp_path) as made:
        made.create("cilium_ct4_global").update(key4("10.0.0.1", 1, "10.0.0.2", 80), entry(lifetime=1))
        yield made


@pytest.mark.parametrize(("words", "status"), RUNNING.items(), ids=["events", "list", "top", "gc"])
def test_interrupt_ends_them_though_the_parent_ignored_it_and_a_hang_up_does_not(
    node: TableDir, words: tuple[str, ...], status: int
) -> None:
    table = node.maps["cilium_ct4_global"]
    with started(*DEAF, *CTCTL, *words, "--from", str(node.path)) as running:
        assert running.stdout is not None
        count = 0

        def heard() -> bool:
            """Something new for each of them to tell, until it has told it."""
            nonlocal count
            count += 1
            table.update(key4("10.0.0.1", count % 60000, "10.0.0.2", 80), entry(lifetime=1))
            return bool(select.select([running.stdout], [], [], 0.05)[0])

        wait_for(heard, what="the first line")
        running.send_signal(signal.SIGHUP)
        assert line_of(running, running.stdout)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=PATIENCE_S)
        assert running.returncode == status
