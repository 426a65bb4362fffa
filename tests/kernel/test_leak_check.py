"""The leak check sees what it is there to see."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ctctl.kernel.map import Map, MapType
from tests.support.leaks import take_inventory
from tests.support.names import unique_name
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.kernel

Undo = Callable[[], object]


def _descriptor() -> Undo:
    return Map.create("leak", MapType.ARRAY, 4, 4, 1).close


def _pin() -> Undo:
    path = Path("/sys/fs/bpf") / unique_name("leak")
    with Map.create("leak", MapType.ARRAY, 4, 4, 1) as table:
        table.pin(path)
    return path.unlink


def _pin_in_a_directory() -> Undo:
    directory = Path("/sys/fs/bpf") / unique_name("dir")
    directory.mkdir()
    return directory.rmdir


def _namespace() -> Undo:
    name = unique_name("leak")
    subprocess.run(["ip", "netns", "add", name], check=True)
    return lambda: subprocess.run(["ip", "netns", "del", name], check=True)


def _namespace_of_a_lab() -> Undo:
    name = f"ctctl-{unique_name('lab')}-pod1"
    subprocess.run(["ip", "netns", "add", name], check=True)
    return lambda: subprocess.run(["ip", "netns", "del", name], check=True)


def _interface() -> Undo:
    name = unique_name("leak")
    subprocess.run(["ip", "link", "add", name, "type", "veth"], check=True)
    return lambda: subprocess.run(["ip", "link", "del", name], check=True)


def _process() -> Undo:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    return lambda: child.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("leak", "word"),
    [
        (_descriptor, "anon_inode:bpf-map"),
        (_pin, "pin /sys/fs/bpf/"),
        (_pin_in_a_directory, "pin /sys/fs/bpf/"),
        (_namespace, "netns "),
        (_namespace_of_a_lab, "netns "),
        (_interface, "interface "),
        (_process, "process "),
    ],
)
def test_each_kind_of_leak_is_seen_and_its_end_too(leak: Callable[[], Undo], word: str) -> None:
    before = take_inventory()
    undo = leak()
    try:
        assert [thing for thing in take_inventory().leaked_since(before) if word in thing]
    finally:
        undo()
    assert take_inventory().leaked_since(before) == []
