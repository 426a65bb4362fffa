"""The network namespace a node's devices are in: entered, named, and found again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ctctl.errors import CtctlError
from ctctl.kernel.netns import run_in_netns
from ctctl.node.record import NodeRecord
from ctctl.node.resolve import interface_name, netns_inode

T = TypeVar("T")

_NAMED = Path("/run/netns")


def in_netns(netns: str | None, function: Callable[[], T]) -> T:
    """``function()`` in that network namespace (name or path); None is this thread's.

    Raises NotFoundError if there is none of that name, KernelError if it cannot be entered.
    """
    return function() if netns is None else run_in_netns(netns, function)


def describe(netns: str | None) -> str:
    """A namespace in the words of an error message."""
    return "this network namespace" if netns is None else f"network namespace {netns}"


def interface_name_in(netns: str | None, ifindex: int) -> str | None:
    """The interface's name there; None if it or the namespace is gone."""
    if not ifindex:
        return None
    with contextlib.suppress(CtctlError):
        return in_netns(netns, lambda: interface_name(ifindex))
    return None


def candidates(record: NodeRecord | None) -> Iterator[str | None]:
    """Namespaces a node may be in, each once: where it was loaded, else every one that a name or a process holds."""
    if record is not None:
        if record.netns is not None:
            yield record.netns
            return
        if record.netns_inode == netns_inode():
            yield None
            return
    seen = {netns_inode()}
    yield None
    for path in (*_listed(_NAMED, "*"), *_listed(Path("/proc"), "[0-9]*/ns/net")):
        with contextlib.suppress(OSError):
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                yield str(path)


def _listed(directory: Path, pattern: str) -> list[Path]:
    try:
        return sorted(directory.glob(pattern))
    except OSError:
        return []
