"""Run a story on a lab that is up: tables emptied, hooks listened to, configuration put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ctctl.events.tap import EventTap
from ctctl.lab import datapaths, processes
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
        for node in topology.nodes:
            datapaths.apply_node(topology, node, states=states, without=without)

    require_up(topology)
    with locked(topology):
        require_up(topology)
        if not all(datapaths.is_as_built(topology, node) for node in topology.nodes):
            configure({}, frozenset())
        report.begin(story.name, story.about)
        with EventTap(list(names)) as tap:
            session = Session(topology, pins, report, _LabTap(tap, names), configure)
            session.empty_tables()
            try:
                story.run(session)
            finally:
                session.restore()
            report.account(session.events(), tap.lost())
