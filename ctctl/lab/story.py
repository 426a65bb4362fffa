"""What a story is: a name, what it shows, and a function that makes real traffic and says what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ctctl.lab.session import Session


@dataclass(frozen=True, slots=True)
class Story:
    """``run`` raises ``StoryError`` where something is not as it has to be."""

    name: str
    about: str
    run: Callable[[Session], None]
    #: ordinary programs it needs
    programs: tuple[str, ...] = ("curl",)
