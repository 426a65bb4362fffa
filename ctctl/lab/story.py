"""What a story is: a name, what it shows, and a function that makes real traffic and says what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctctl.lab.session import Session


@dataclass(frozen=True, slots=True)
class Story:
    """``run`` raises ``StoryError`` where something is not as it has to be."""

    name: str
    about: str
    run: Callable[[Session], None]
    #: ordinary programs it needs
    programs: tuple[str, ...] = ("curl",)
    #: what the nodes' datapaths do otherwise while it runs: keys of a node file's ``datapath``
    mode: Mapping[str, Any] = field(default_factory=dict)
    #: whether sockets are balanced in it, those of the pods' processes
    sockets: bool = False
