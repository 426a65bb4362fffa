"""Run a story on a lab that is up: tables emptied, hooks listened to, configuration put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ctctl.errors import UnsupportedError
from ctctl.events.tap import EventTap
from ctctl.lab import datapaths, network, processes
from ctctl.lab.cgroups import ensure_cgroup
from ctctl.lab.cluster import require_up
from ctctl.lab.lock import locked
from ctctl.lab.report import Reporter
from ctctl.lab.session import Session
from ctctl.lab.story import Story
from ctctl.lab.topology import Topology
from ctctl.model.event import HookEvent


class _LabTap:
    """The events of a lab's nodes, under the nodes' names in the lab."""

    def __init__(self, tap: EventTap, names: dict[str, str]) -> None:
        self._tap = tap
        self._names = names

    def events(self) -> Sequence[HookEvent]:
        """Everything so far, in order of time."""
        return [replace(event, node=self._names.get(event.node or "")) for event in self._tap.events()]


def run_story(topology: Topology, story: Story, report: Reporter) -> None:
    """Tell one story on the lab.

    Raises:
        NotFoundError: the lab is not up.
        UnsupportedError: a program it needs is not installed.
        StoryError: something was not as it has to be.
        BusyError: another ctctl works on the lab, or listens to its nodes.
    """
    processes.require_programs(story.programs)
    names = {topology.datapath_node(node.name): node.name for node in topology.nodes}
    pins = {node.name: datapaths.pin_dir(topology, node.name) for node in topology.nodes}

    def configure(states: dict[str, str], without: frozenset[str]) -> None:
        if story.mode or story.sockets:
            raise AssertionError("a story with a mode of its own changes no backends")
        for node in topology.nodes:
            datapaths.apply_node(topology, node, states=states, without=without)

    require_up(topology)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(topology))
        require_up(topology)
        if not all(datapaths.is_as_built(topology, node) for node in topology.nodes):
            # Also after a story in another mode that was killed.
            _as_built(topology)
        report.begin(story.name, story.about)
        stack.enter_context(in_mode(topology, story.mode, sockets=story.sockets))
        with EventTap(list(names)) as tap:
            session = Session(topology, pins, report, _LabTap(tap, names), configure)
            session.empty_tables()
            try:
                story.run(session)
            finally:
                session.restore()
            report.account(session.events(), tap.lost())


@contextlib.contextmanager
def in_mode(topology: Topology, wanted: Mapping[str, Any], *, sockets: bool = False) -> Iterator[None]:
    """The nodes with another datapath (``nodefile.py``), and its addresses; afterwards as they were built.

    ``sockets``: with services for the sockets of each node's pods. Raises UnsupportedError: there is no cgroup2.
    """
    if not wanted and not sockets:
        yield
        return
    try:
        if wanted.get("ipv6"):
            network.enable_ipv6(topology)
        for node in topology.nodes:
            mode = dict(wanted)
            if sockets:
                cgroup = ensure_cgroup(topology, node.name)
                if cgroup is None:
                    raise UnsupportedError("this is about sockets: no cgroup2 file system is mounted here")
                mode["lb"] = {**mode.get("lb", {}), "socket": {"cgroup": str(cgroup)}}
            datapaths.change_mode(topology, node, mode)
        yield
    finally:
        _as_built(topology)


def _as_built(topology: Topology) -> None:
    for node in topology.nodes:
        datapaths.change_mode(topology, node, {})
    network.disable_ipv6(topology)
