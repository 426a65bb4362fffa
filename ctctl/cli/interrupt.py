"""Ctrl-C for commands that follow something: what happened up to it is still shown."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ctctl.kernel.stopping import hear_interrupts


class Interrupt:
    """Whether the user wants to stop."""

    def __init__(self) -> None:
        self._seen = False

    def __call__(self) -> bool:
        return self._seen

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler: the first Ctrl-C is remembered, a second one interrupts at once."""
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Collect Ctrl-C inside the block; at its end it becomes the KeyboardInterrupt that it was."""
    hear_interrupts()
    interrupt = Interrupt()
    before = signal.signal(signal.SIGINT, interrupt.note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupt():
        raise KeyboardInterrupt
