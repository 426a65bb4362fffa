"""The lab for people: a story as it happens, its tables, and which hook wrote what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from ctctl.events.brief import what_was_written
from ctctl.events.lines import NOT_TAKEN, packet_words
from ctctl.lab.cluster import Member
from ctctl.lab.report import SnatRow
from ctctl.lab.story import Story
from ctctl.model.entry import CtEntry
from ctctl.model.event import HookEvent
from ctctl.out.cells import cell
from ctctl.out.text import safe
from ctctl.out.view import Column, View
from ctctl.tables.show.cilium import cilium_line

#: An account is short: after this many lines it only says how many more there are.
ACCOUNT_LINES = 24

MEMBER_VIEW: View[Member] = View(
    schema="ctctl/lab/v1",
    plural="members",
    columns=(
        Column("name", "NAME", lambda m: m.name),
        Column("kind", "KIND", lambda m: m.kind),
        Column("ip", "IP", lambda m: m.ip),
        Column("node", "NODE", lambda m: m.node),
        Column("netns", "NETNS", lambda m: m.netns, priority=1),
        Column("up", "UP", lambda m: m.up),
        Column("datapath", "DATAPATH", lambda m: m.datapath, priority=4),
        Column("loaded", "LOADED", lambda m: m.loaded, priority=3),
        Column("processes", "PROCESSES", lambda m: m.processes, right=True, priority=2),
        Column("interface", "INTERFACE", lambda m: m.interface, wide=True),
        Column("identity", "IDENTITY", lambda m: m.identity, wide=True, right=True),
    ),
    name=lambda m: m.name,
)

STORY_VIEW: View[Story] = View(
    schema="ctctl/lab-stories/v1",
    plural="stories",
    columns=(
        Column("name", "NAME", lambda s: s.name),
        Column("about", "ABOUT", lambda s: s.about, prose=True),
        Column("programs", "PROGRAMS", lambda s: list(s.programs), wide=True),
    ),
    name=lambda s: s.name,
)


class StoryWriter:
    """Writes stories to a stream (``ctctl.lab.story.Reporter``). ``color``: with terminal styles."""

    def __init__(self, stream: TextIO, *, color: bool = False) -> None:
        self._stream = stream
        self._color = color

    def begin(self, name: str, about: str) -> None:
        self._line(f"== {name}: {about}", "1")

    def say(self, text: str) -> None:
        self._line(text)

    def command(self, member: str, command: str, answer: str) -> None:
        self._line(f"  {member}$ {command}", "36")
        self._line(f"      {safe(answer)}")

    def checked(self, text: str) -> None:
        self._line(f"  ok  {text}", "32")

    def table(self, node: str, entries: Sequence[CtEntry], snat: Sequence[SnatRow], now: int) -> None:
        self._line(f"\n-- {node}: {len(entries)} conntrack entries, {len(snat)} SNAT entries, now={now}", "1")
        for entry in entries:
            self._line(cilium_line(entry) or "")
        for row in snat:
            self._line(f"SNAT {row.flow} => {row.to}")

    def account(self, events: Sequence[HookEvent], lost: int) -> None:
        self._line("\n-- which hook wrote what", "1")
        rows = [
            (event.node or "", str(event.hook), event.device or str(event.ifindex), packet_words(event), wrote)
            for event in events
            if (wrote := what_was_written(event))
        ]
        shown = rows[:ACCOUNT_LINES]
        widths = [max((len(row[column]) for row in shown), default=0) for column in range(4)]
        for row in shown:
            cells = "  ".join(f"{cell(text):<{width}}" for text, width in zip(row, widths, strict=False))
            self._line(f"{cells}  {row[4]}")
        if len(rows) > len(shown):
            self._line(f"... and {len(rows) - len(shown)} more like these")
        if lost:
            self._line(f"({lost} events were lost: {NOT_TAKEN})", "33")

    def end(self, story: Story) -> None:
        """The story went as it had to."""
        self._line(f"\n== {story.name}: as it has to be\n", "1;32")

    def _line(self, text: str, style: str = "") -> None:
        if self._color and style:
            text = f"\x1b[{style}m{text}\x1b[0m"
        self._stream.write(text + "\n")
        self._stream.flush()
