"""What a story says while it runs, and what it listens to: the seams between stories, hands and screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ctctl.errors import CtctlError
from ctctl.model.entry import CtEntry
from ctctl.model.event import HookEvent


class StoryError(CtctlError):
    """A story's expectation did not hold: the datapath did something else than it had to."""


@dataclass(frozen=True, slots=True)
class SnatRow:
    """An entry of the SNAT table: replies of ``flow`` leave as ``to`` (address:port)."""

    flow: str
    to: str


class EventSource(Protocol):
    """What the nodes' hooks report while a story runs."""

    def events(self) -> Sequence[HookEvent]:
        """Everything so far, in order of time; ``node`` is the name in the lab."""


class Reporter(Protocol):
    """Where a story tells what it does. The command line writes it out."""

    def begin(self, name: str, about: str) -> None:
        """The story ``name`` starts; ``about`` is what it shows."""

    def say(self, text: str) -> None:
        """One sentence about what happens next or what was seen."""

    def command(self, member: str, command: str, answer: str) -> None:
        """A program ran in ``member``'s namespace; ``answer`` is what it printed, in a line."""

    def checked(self, text: str) -> None:
        """An expectation held."""

    def table(self, node: str, entries: Sequence[CtEntry], snat: Sequence[SnatRow], now: int) -> None:
        """The tables of a node at second ``now`` of the monotonic clock."""

    def account(self, events: Sequence[HookEvent], lost: int) -> None:
        """The hooks that wrote something, in order of time; ``lost``: events that no reader had."""
