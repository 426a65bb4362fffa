"""Hooks and probes tell at once: what one of them says stands whole among what the other says."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from ctctl.cli import trace_listen
from ctctl.errors import NotFoundError
from ctctl.out.options import OutputOptions
from ctctl.tables.query.filter import Filter


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


@pytest.mark.parametrize("form", trace_listen.TraceFormat)
def test_a_file_of_names_that_is_not_there_is_said_before_anything_is_waited_for(
    form: trace_listen.TraceFormat, tmp_path: Path
) -> None:
    where = trace_listen.Where((), (), (), (), names=[str(tmp_path / "names.yaml")])
    output = trace_listen.Output(form, OutputOptions(), raw=False, verbose=False)
    ways = trace_listen.Ways(hooks=True)
    with pytest.raises(NotFoundError, match=r"--names .*names\.yaml: no such file"):
        trace_listen.listen(None, where, ways, trace_listen.Limits(None, None), Filter(), output)
