"""Loads, updates and unloads that fail or are killed at every one of their steps."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from ctctl.errors import CtctlError
from ctctl.kernel import tc
from ctctl.kernel.netns import run_in_netns
from ctctl.node.attach import AttachMode
from ctctl.node.loader import LoadRequest, load
from ctctl.node.unload import unload
from ctctl.node.update import update
from tests.support.loaded import (
    attached_ids,
    config_tables,
    entries,
    link_ids,
    map_ids,
    put_entries,
    status,
    tcx_programs,
)
from tests.support.nodes import TestNode, make_node
from tests.support.standin import stand_ins

pytestmark = pytest.mark.kernel

MODES = [AttachMode.tcx, AttachMode.tc]
Action = Callable[[Callable[[str], None]], object]


class InjectedError(CtctlError):
    """The failure that a test causes."""


@pytest.fixture
def node() -> Iterator[TestNode]:
    """A node whose programs load in no time: what is tested is the order of the steps."""
    with stand_ins(), make_node() as made:
        yield made
        if made.dir.exists():
            unload(made.name)


def steps_of(action: Action) -> list[str]:
    """The steps that ``action`` takes when nothing goes wrong."""
    taken: list[str] = []
    action(taken.append)
    return taken


class FailingAt:
    """Raises at step ``number``, counted from 0; ``last`` is the step it was at."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.last = ""

    def __call__(self, name: str) -> None:
        self.last = name
        if not self._left:
            raise InjectedError(f"at {name}")
        self._left -= 1


def kill_at(number: int, action: Action) -> None:
    """Run ``action`` in a child that kills itself with SIGKILL at its step ``number``."""
    counter = count()

    def step(_name: str) -> None:
        if next(counter) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(lambda: action(step))) == signal.SIGKILL


def in_child(action: Callable[[], object]) -> int:
    """Wait status of a forked child that runs ``action``."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def request(node: TestNode, mode: AttachMode, step: Callable[[str], None], **changes: object) -> LoadRequest:
    return node.request(request={"attach": mode, "step": step}, **changes)


def nothing_left(node: TestNode) -> bool:
    return not node.dir.exists() and not tcx_programs(node) and not run_in_netns(node.name, tc.list_filters)


def snapshot(node: TestNode) -> tuple[object, ...]:
    return map_ids(node), attached_ids(node), link_ids(node), sorted(entries(node).items())


@pytest.mark.parametrize("mode", MODES)
def test_first_load_failing_at_any_step_leaves_nothing(node: TestNode, mode: AttachMode) -> None:
    names = steps_of(lambda step: load(request(node, mode, step)))
    unload(node.name)
    assert len(names) >= 10
    for number in range(names.index("put in place") + 1):
        with pytest.raises(InjectedError):
            load(request(node, mode, FailingAt(number)))
        assert nothing_left(node), names[number]


@pytest.mark.parametrize("mode", MODES)
def test_reload_failing_at_any_step_changes_nothing(node: TestNode, mode: AttachMode) -> None:
    load(request(node, mode, lambda _step: None))
    put_entries(node, [100, 200])
    before = snapshot(node)
    larger = {"ct": {"tcp-max": 8192, "any-max": 4096, "snat-max": 4096}, "lb": {"maglev-table-size": 251}}

    def reload(step: Callable[[str], None]) -> None:
        changed = node.request(datapath=larger, request={"attach": mode, "step": step, "resize": True})
        load(changed)

    for number in count():
        step = FailingAt(number)
        with pytest.raises(InjectedError):
            reload(step)
        assert snapshot(node) == before, step.last
        assert status(node).problems == ()
        if step.last == "put in place":
            break
    assert number >= 8


@pytest.mark.parametrize("mode", MODES)
def test_first_load_killed_at_any_step(node: TestNode, mode: AttachMode) -> None:
    names = steps_of(lambda step: load(request(node, mode, step)))
    for number, name in enumerate(names):
        unload(node.name)
        assert nothing_left(node), name
        kill_at(number, lambda step: load(request(node, mode, step)))
        if number % 2:  # every other time the unload above is what has to put it right
            load(request(node, mode, lambda _step: None))
            assert status(node).problems == (), name
            assert len(attached_ids(node)) == 4


@pytest.mark.parametrize(("before", "after"), [*zip(MODES, MODES, strict=True), (AttachMode.tc, AttachMode.tcx)])
def test_reload_killed_at_any_step(node: TestNode, before: AttachMode, after: AttachMode) -> None:
    def reset() -> None:
        load(request(node, before, lambda _step: None))

    reset()
    put_entries(node, [100, 200])
    names = steps_of(lambda step: load(request(node, after, step)))
    for number, name in enumerate(names):
        reset()
        assert status(node).problems == (), name
        kill_at(number, lambda step: load(request(node, after, step)))
        # Whatever is half way, packets go through programs: as many as before are attached.
        assert len(attached_ids(node)) >= 4, name
    load(request(node, after, lambda _step: None))
    assert status(node).problems == ()
    assert len(tcx_programs(node)) + len(run_in_netns(node.name, tc.list_filters)) == 4
    assert sorted(entries(node).values()) == [100, 200]


def test_resize_killed_at_any_step_keeps_the_entries(node: TestNode) -> None:
    sizes = {False: 4096, True: 8192}

    def resize(step: Callable[[str], None], larger: bool) -> None:
        ct = {"tcp-max": sizes[larger], "any-max": 4096, "snat-max": 4096}
        datapath = {"ct": ct, "lb": {"maglev-table-size": 251}}
        load(node.request(datapath=datapath, request={"step": step, "resize": True}))

    resize(lambda _step: None, False)
    put_entries(node, [100, 200])
    names = steps_of(lambda step: resize(step, True))
    for number, name in enumerate(names):
        resize(lambda _step: None, False)
        assert sorted(entries(node).values()) == [100, 200], name
        kill_at(number, lambda step: resize(step, True))
    resize(lambda _step: None, True)
    assert sorted(entries(node).values()) == [100, 200]
    assert status(node).problems == ()


@pytest.mark.parametrize("mode", MODES)
def test_unload_killed_at_any_step(node: TestNode, mode: AttachMode) -> None:
    load(request(node, mode, lambda _step: None))
    names = steps_of(lambda step: unload(node.name, step=step))
    for number, name in enumerate(names):
        load(request(node, mode, lambda _step: None))
        assert status(node).problems == (), name
        kill_at(number, lambda step: unload(node.name, step=step))
        unload(node.name)
        assert nothing_left(node), name


def test_update_failing_at_any_step_changes_nothing(node: TestNode) -> None:
    load(node.request())
    changed = another(node)
    before = (snapshot(node), config_tables(node))
    for number in count():
        step = FailingAt(number)
        with pytest.raises(InjectedError):
            update(node.request(request={"step": step}, **changed))
        assert (snapshot(node), config_tables(node)) == before, step.last
        if step.last == "put in place":
            break
    assert number >= 5


def test_update_killed_at_any_step_is_put_right_by_a_load(node: TestNode) -> None:
    load(node.request())
    changed = another(node)
    names = steps_of(lambda step: update(node.request(request={"step": step}, **changed)))
    wanted = config_tables(node)
    for number, name in enumerate(names):
        load(node.request())
        kill_at(number, lambda step: update(node.request(request={"step": step}, **changed)))
        load(node.request(**changed))
        assert config_tables(node) == wanted, name
        assert status(node).problems == (), name


def another(node: TestNode) -> dict[str, object]:
    """Changes of every kind: a service gone, one new, identity and policy of the pod changed."""
    document = node.document()
    document["endpoints"][0]["identity"] = 4001
    document["remote"] = [{"cidr": "10.244.9.0/24", "identity": 3098, "node": "10.9.9.3"}]
    document["services"] = [{"ip": "10.68.0.2", "port": 81, "id": 16, "backends": [{"ip": "10.244.8.9", "port": 1}]}]
    document["policy"] = [{"endpoint": "pod1", "direction": "egress", "port": 81, "protocol": "TCP"}]
    return document


def test_killed_at_random_moments(node: TestNode) -> None:
    """Between steps too: a child that loads and unloads in turn is killed at moments nobody chose."""
    chosen = random.Random(7)
    for _ in range(12):
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    load(node.request())
                    unload(node.name)
            finally:
                os._exit(0)
        # A real timer rather than a condition: the moment is the input of this test.
        signal.sigtimedwait([signal.SIGCHLD], chosen.uniform(0.005, 0.4))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if chosen.random() < 0.5:
            load(node.request())
            assert status(node).problems == ()
        if node.dir.exists():
            unload(node.name)
        assert nothing_left(node)
