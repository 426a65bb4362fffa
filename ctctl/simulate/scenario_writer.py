"""A scenario's steps on a stream, as they come."""

from __future__ import annotations

import json
from typing import TextIO

from ctctl.simulate.show_scenario import (
    STEP_SCHEMA,
    StepLike,
    brief_step_lines,
    change_words,
    step_lines,
    step_record,
    table_lines,
)
from ctctl.trace.picture import CaptureTrace, DiagramTrace
from ctctl.trace.show import LineWriter


class ScenarioWriter:
    """Steps as lines (``verbose``: as blocks) with the tables at the end, or a JSON line for every step with a packet.

    ``steps`` counts what was written, ``failed`` the steps whose expectations did not hold.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        json_lines: bool,
        color: bool = False,
        raw: bool = False,
        verbose: bool = False,
        made_up: bool = False,
    ) -> None:
        self._verbose = verbose
        self._made_up = made_up
        self._stream = stream
        self._json = json_lines
        self._raw = raw
        self._writer = LineWriter(stream, color=color)
        self._last: StepLike | None = None
        self.steps = 0
        self.failed = 0

    def step(self, record: StepLike) -> None:
        """Write one step."""
        self._last = record
        self.steps += 1
        self.failed += bool(record.failures)
        if not self._json:
            self._writer.lines(step_lines(record) if self._verbose else brief_step_lines(record, made_up=self._made_up))
        elif record.result is not None:
            line = {"schema": STEP_SCHEMA, **step_record(record, raw=self._raw)}
            if record.failures:
                line["failures"] = list(record.failures)
            self._stream.write(json.dumps(line) + "\n")

    def finish(self) -> None:
        """Write what comes after the last step."""
        if self._last is not None and not self._json:
            self._writer.lines(table_lines(self._last.tables, self._last.now))


class PictureWriter:
    """A scenario's or a simulation's packets as a diagram or a capture.

    ``made_up``: of a simulation, whose steps have no notes of their own.
    """

    def __init__(self, picture: CaptureTrace | DiagramTrace, *, made_up: bool = False) -> None:
        self._picture = picture
        self._made_up = made_up
        self.steps = 0
        self.failed = 0

    def step(self, record: StepLike) -> None:
        """Take one step; one without a packet is words between the packets."""
        self.steps += 1
        self.failed += bool(record.failures)
        note = record.step.step.note if not self._made_up else None
        said = [change_words(record.step)] if record.result is None else []
        said += [note] if note else []
        said += [f"expected {failure}" for failure in record.failures]
        if said:
            self._picture.remark(f"step {record.number}: {'; '.join(said)}")
        if record.result is None:
            return
        result = record.result
        if result.hook.of_sockets:
            # A call: there is no packet yet.
            for event in result.events:
                self._picture.event(event)
            return
        left = result.wire or result.frame
        for number, event in enumerate(result.events):
            # Between the hooks of one step the packet is not known but for what its events say.
            frame = left if number == len(result.events) - 1 else None
            self._picture.event(event, frame=frame, came=(result.came or None) if number == 0 else None)

    def finish(self) -> None:
        """Write what was collected."""
        self._picture.finish()
