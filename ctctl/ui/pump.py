"""The thread that reads, so that the screen never waits; how often it looks follows from what a look costs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ctctl.errors import CtctlError
from ctctl.ui.look import Ask, Frame, Looker

#: Of one core: a look that costs more is made less often.
SHARE = 0.27


@dataclass(frozen=True, slots=True)
class Paged:
    """The text of a page that was asked for by name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an ask has no answer; ``error`` is a CtctlError, or a fault of ours that ends the program."""

    ask: Ask | None
    error: Exception


Answer = Frame | Paged | Failed


def interval_of(wanted_s: float, cpu_s: float, took_s: float) -> float:
    """Seconds from the start of a look to the next: as wanted, longer where that would be more than ``SHARE``."""
    return max(wanted_s, cpu_s / SHARE, took_s * 1.2)


class Pump:
    """Answers asks one after the other, the newest only, and the last one again every interval.

    ``show`` is called in the reading thread. ``interval_s`` is what looks are apart now.
    """

    def __init__(self, looker: Looker, show: Callable[[Answer], object], wanted_s: float) -> None:
        self.interval_s = wanted_s
        self._wanted_s = wanted_s
        self._looker = looker
        self._show = show
        self._ask: Ask | None = None
        self._fresh = False
        self._stopped = False
        self._jobs: deque[tuple[str, Callable[[Looker], str]]] = deque()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin; asks made before are answered first."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look that is being made, so that nothing reads a source that is closed."""
        with self._more:
            self._stopped = True
            self._more.notify()
        self._thread.join()

    def ask(self, ask: Ask) -> None:
        """Look for this now, and again every interval."""
        with self._more:
            self._ask, self._fresh = ask, True
            self._more.notify()

    def page(self, name: str, make: Callable[[Looker], str]) -> None:
        """Make a page's text; an older wish for the same page that still waits is dropped."""
        with self._more:
            self._jobs = deque(job for job in self._jobs if job[0] != name)
            self._jobs.append((name, make))
            self._more.notify()

    def _run(self) -> None:
        due = 0.0
        while True:
            with self._more:
                while not (self._stopped or self._fresh or self._jobs):
                    again = self._looker.live and self._ask is not None
                    left = due - time.monotonic() if again else None
                    if left is not None and left <= 0:
                        break
                    self._more.wait(left)
                if self._stopped:
                    return
                # A look that was asked for goes before pages, and a page before a look that is only due.
                job = self._jobs.popleft() if self._jobs and not self._fresh else None
                ask = self._ask
                self._fresh = self._fresh and job is not None
            started, cpu = time.monotonic(), time.process_time()
            self._answer(ask, job)
            spent = interval_of(self._wanted_s, time.process_time() - cpu, time.monotonic() - started)
            if job is None:
                self.interval_s = spent
            due = max(due, started + spent)

    def _answer(self, ask: Ask | None, job: tuple[str, Callable[[Looker], str]] | None) -> None:
        try:
            if job is not None:
                self._show(Paged(job[0], job[1](self._looker)))
            elif ask is not None:
                self._show(self._looker.look(ask))
        except CtctlError as error:
            self._show(Paged(job[0], str(error)) if job is not None else Failed(ask, error))
        except Exception as error:
            self._show(Failed(None, error))
