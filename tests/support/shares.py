"""A pytest plugin: runs side by side that take test files from one queue, the longest first.

    CTCTL_TEST_QUEUE=FILE pytest -p tests.support.shares …      several of these, with an empty FILE and the same words

Each run asks the queue for its next unit: a file, or the files that share a fixture of the session, which is then made
once. What a run has not got it does not import: every file in every run took a minute of CPU. Which unit is next is a
number in FILE under a lock, so all runs end at about the same time on any machine, and who is told to end leaves the
rest to the others. The percent behind a row of dots is what of the queue has been taken, by whichever run.
CTCTL_TEST_ORDER says another order of the units: `reversed`, or `shuffled by SEED`, the same on every machine.
"""

from __future__ import annotations

import ast
import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.leaks import set_apart

_Unit = TypeVar("_Unit")

#: Fixtures of the session that take long to make, each with the folder that has it and the names by which its tests ask
#: for it: one run has every file that does.
_SHARED = {"lab_in_some_mode": ("tests/lab", {"lab", "lab_in_some_mode"})}
#: Save what takes longer than to make another.
_APART = ("tests/lab/test_simulation_equals_reality.py",)
#: What takes longest, first. The rest comes by its size; a wrong order costs time at the end, no more.
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
    "tests/cli/test_privileges.py",
    "tests/cli/test_hostile_files.py",
    "tests/kernel/test_loader.py",
    "tests/kernel/test_examples.py",
    "tests/cli/test_journal.py",
    "tests/kernel/test_complexity.py",
    "tests/cli/test_cluster.py",
    "tests/lab/test_tutorial.py",
    "tests/kernel/test_cilium_nodes.py",
    "tests/cli/test_node.py",
    "tests/kernel/test_predict_kernel.py",
    "tests/kernel/test_loader_faults.py",
    "tests/unit/test_fleet.py",
    "tests/kernel/test_apply_atomic.py",
    "tests/kernel/test_gc_safety.py",
    "tests/cli/test_refusals.py",
    "tests/cli/test_writer.py",
    "tests/docs/test_demo.py",
    "tests/unit/test_signals.py",
    "tests/unit/test_hostile_input.py",
    "tests/unit/test_regular.py",
    "tests/unit/test_pair_members.py",
    "tests/unit/test_allowance.py",
    "tests/unit/test_bare.py",
    "tests/unit/test_listing_forms.py",
    "tests/unit/test_predict.py",
    "tests/unit/test_own_listings.py",
    "tests/unit/test_own_runs.py",
    "tests/unit/test_nat_rows.py",
    "tests/unit/test_story.py",
)


class Later(pytest.File):
    """A file of tests that pytest has found, and that is opened by the run that gets it."""

    def collect(self) -> list[pytest.Item]:
        return []

    @property
    def name_in_queue(self) -> str:
        return self.path.relative_to(self.config.rootpath).as_posix()

    def module(self) -> pytest.Module:
        return pytest.Module.from_parent(self.parent, path=self.path)


#: The files of a session in the order in which pytest finds them.
FOUND = pytest.StashKey[list[Later]]()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Later | None:
    """Find, do not import. None, as pytest does it: who asks for a list of tests wants them all."""
    if parent.config.option.collectonly:
        return None
    later = Later.from_parent(parent, path=module_path)
    parent.session.stash.setdefault(FOUND, []).append(later)
    return later


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """As pytest's own, over the units that this run gets. None: the usual loop has a word about the collection."""
    found = session.stash.get(FOUND, [])
    if session.testsfailed or session.config.option.collectonly or not found:
        return None
    units = ordered(in_order(found), os.environ.get("CTCTL_TEST_ORDER", ""))
    mine = _mine(session, units, Path(os.environ["CTCTL_TEST_QUEUE"]))
    item, unit = next(mine, _NOTHING)
    while item is not None:
        # What is set up for both stays; what is behind the last one is torn down with it.
        following, unit_of_it = next(mine, _NOTHING)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        if unit_of_it != unit:
            set_apart()
        item, unit = following, unit_of_it
    session.testscollected = len(session.items) or len(found)  # none: the others were faster, which is no failure
    return True


#: Instead of an item and the number of its unit, behind the last.
_NOTHING = (None, -1)


def _mine(session: pytest.Session, units: list[list[Later]], queue: Path) -> Iterator[tuple[pytest.Item, int]]:
    while (number := _claim(queue)) < len(units):
        items = [item for later in units[number] for item in session.genitems(later.module())]
        session.config.hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
        for item in items:
            asked = _SHARED.keys() & set(getattr(item, "fixturenames", ()))
            assert not asked or shared_by(units[number][0]) or units[number][0].name_in_queue in _APART, (
                f"{item.nodeid} asks for {', '.join(asked)} by a name that is not in _SHARED"
            )
        session.items += items
        session.testscollected = len(session.items) * len(units) // (number + 1)  # of which pytest says a percentage
        yield from ((item, number) for item in items)


def in_order(files: list[Later]) -> list[list[Later]]:
    """The files by unit, in the order in which units are taken; within one as they were found."""
    units: dict[str, list[Later]] = {}
    for file in files:
        units.setdefault(shared_by(file) or file.name_in_queue, []).append(file)
    places = {name: place for place, name in enumerate(LONGEST)}
    sizes = {name: sum(file.path.stat().st_size for file in unit) for name, unit in units.items()}
    return [units[name] for name in sorted(units, key=lambda name: (places.get(name, len(places)), -sizes[name]))]


def shared_by(file: Later) -> str:
    """The fixture of the session for which a file waits, or nothing. By what it says: it is not imported for this."""
    for fixture, (folder, names) in _SHARED.items():
        if file.name_in_queue.startswith(f"{folder}/") and file.name_in_queue not in _APART:
            functions = [
                node for node in ast.walk(ast.parse(file.path.read_bytes())) if isinstance(node, ast.FunctionDef)
            ]
            if names & {word.arg for function in functions for word in function.args.args}:
                return fixture
    return ""


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
