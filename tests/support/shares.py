"""A pytest plugin: runs side by side that take test files from one queue, the longest first.

    CTCTL_TEST_QUEUE=FILE pytest -p tests.support.shares …      several of these, with an empty FILE and the same words

Each run collects everything and asks the queue for its next unit: a file, or what shares a fixture of the session,
which is then made once. Which unit is next is a number in FILE under a lock, so all runs end at about the same
time on any machine, and who is told to end leaves the rest to the others. CTCTL_TEST_ORDER says another order of the
units: `reversed`, or `shuffled by SEED`, the same on every machine.
"""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

_Unit = TypeVar("_Unit")

#: Fixtures of the session that take long to make: one run has every file that uses one.
_SHARED = ("lab_in_some_mode",)
#: Save what takes longer than to make another.
_APART = ("tests/lab/test_simulation_equals_reality.py",)
#: What takes longest, first. The rest comes by the number of its tests; a wrong order costs time at the end, no more.
LONGEST = (
    "lab_in_some_mode",
    *_APART,
    "tests/dist/test_dist.py",
    "tests/conformance/test_vectors.py",
    "tests/cli/test_screen.py",
    "tests/kernel/test_agreement.py",
    "tests/kernel/test_bpf_fuzz.py",
    "tests/lab/test_foreign_modes.py",
    "tests/docs/test_pages.py",
    "tests/cli/test_hostile_files.py",
    "tests/kernel/test_loader.py",
    "tests/kernel/test_examples.py",
    "tests/cli/test_journal.py",
    "tests/kernel/test_complexity.py",
    "tests/cli/test_cluster.py",
    "tests/lab/test_tutorial.py",
    "tests/kernel/test_cilium_nodes.py",
    "tests/cli/test_privileges.py",
    "tests/cli/test_node.py",
    "tests/kernel/test_loader_faults.py",
    "tests/unit/test_fleet.py",
    "tests/kernel/test_apply_atomic.py",
    "tests/kernel/test_gc_safety.py",
    "tests/cli/test_refusals.py",
    "tests/cli/test_writer.py",
    "tests/docs/test_demo.py",
)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """As pytest's own, over the units that this run gets. None: the usual loop has a word about the collection."""
    if session.testsfailed or session.config.option.collectonly:
        return None
    units = ordered(in_order(session.items), os.environ.get("CTCTL_TEST_ORDER", ""))
    mine = _mine(units, Path(os.environ["CTCTL_TEST_QUEUE"]))
    item = next(mine, None)
    while item is not None:
        # What is set up for both stays; what is behind the last one is torn down with it.
        following = next(mine, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def _mine(units: list[list[pytest.Item]], queue: Path) -> Iterator[pytest.Item]:
    while (number := _claim(queue)) < len(units):
        yield from units[number]


def in_order(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """The items by unit, in the order in which units are taken; within one as they were collected."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    units: dict[str, list[pytest.Item]] = {}
    for file, of_it in files.items():
        used = {name for item in of_it for name in getattr(item, "fixturenames", ())}
        shared = [name for name in _SHARED if name in used and file not in _APART]
        units.setdefault(shared[0] if shared else file, []).extend(of_it)
    places = {name: place for place, name in enumerate(LONGEST)}
    return [units[name] for name in sorted(units, key=lambda name: (places.get(name, len(places)), -len(units[name])))]


def ordered(units: list[_Unit], order: str) -> list[_Unit]:
    """The units in the order that a value of CTCTL_TEST_ORDER says; empty: the usual one. ValueError: no such order."""
    how, _, seed = order.partition(" by ")
    if how == "shuffled":
        return random.Random(int(seed)).sample(units, len(units))
    if order not in ("", "usual", "reversed"):
        raise ValueError(f"CTCTL_TEST_ORDER is {order!r}: usual, reversed, or 'shuffled by SEED'")
    return units[::-1] if order == "reversed" else units


def _claim(queue: Path) -> int:
    """The number of the next unit, which nobody else gets."""
    with queue.open("r+") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        number = int(stream.read() or 0)
        stream.seek(0)
        stream.write(str(number + 1))
        stream.truncate()
    return number
