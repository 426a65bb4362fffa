"""Hooks and probes tell at once: what one of them says stands whole among what the other says."""

from __future__ import annotations

import io
import os
import threading

import pytest

from ctctl.cli import trace_listen


class _Slow(io.StringIO):
    """A stream that lets others run between any two characters."""

    def write(self, text: str) -> int:
        for character in text:
            super().write(character)
            os.sched_yield()
        return len(text)


def test_lines_of_two_threads_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Slow()
    monkeypatch.setattr("sys.stderr", stream)
    words = ("ready: probes attached", "ready: listening on node-a")
    threads = [
        threading.Thread(target=lambda word=word: [trace_listen._tell(word) for _ in range(200)]) for word in words
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert [lines.count(word) for word in words] == [200, 200]
    assert len(lines) == 400
