"""``ctctl trace --from FILE``: what monitor or Hubble printed, as a story."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.errors import DecodeError, NotFoundError, PartialDataError, PermissionDenied, UsageError
from ctctl.out.text import safe

if TYPE_CHECKING:
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.stream import Reader


def run(
    path: str,
    packet: str | None,
    wanted: Filter,
    nodes: Sequence[str],
    *,
    count: int | None,
    json_lines: bool,
    color: bool,
) -> None:
    """Print the story of ``path`` ("-" is stdin). Raises CtctlError, PartialDataError after all that could be read."""
    from ctctl.cli.report import say
    from ctctl.packet.text import parse_flow_ends
    from ctctl.tables.sources.unpack import LimitError
    from ctctl.trace.show_story import InOrder, StoryJson, StoryTable
    from ctctl.trace.story_filter import StoryFilter
    from ctctl.trace.story_text import StoryFile

    chosen = StoryFilter(None if packet is None else parse_flow_ends(packet), wanted, nodes)
    chosen.check()
    sink = StoryJson(sys.stdout) if json_lines else StoryTable(sys.stdout, color=color)
    shown = 0
    with _opened(path) as stream:
        file = StoryFile(stream)
        order = InOrder(event for event in file.read() if chosen(event))
        try:
            for event in order:
                if count is not None and shown == count:
                    break
                sink.event(event)
                shown += 1
        except (DecodeError, LimitError) as error:
            raise type(error)(f"{path}: {error}; tables: ctctl ct list --from FILE") from error
    sys.stdout.flush()
    for note in file.notes:
        say(note)
    if order.late:
        say(f"{order.late} event(s) came too late to be put in order: they stand where the file has them")
    whole = count is None or shown < count
    print(f"{shown} of {file.events} events" if whole else f"{shown} events, by --count", file=sys.stderr, flush=True)
    if file.partial:
        raise PartialDataError("partial data: " + safe("; ".join(file.partial)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Reader]:
    """The file unpacked, as far as it is packed; raises UsageError for a folder, NotFoundError, PermissionDenied."""
    from ctctl.tables.sources.stream import Prefixed
    from ctctl.tables.sources.unpack import Budget, Packed, Unpacked, packed_form

    with contextlib.ExitStack() as stack:
        try:
            raw = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
            budget = Budget()
            stream = Prefixed(b"", Packed(raw, budget))
            form = packed_form(stream.peek(8))
        except PermissionError:
            raise PermissionDenied(f"{path}: no permission to read it") from None
        except IsADirectoryError:
            raise UsageError(f"{path}: a folder; trace --from reads one file of monitor's or Hubble's output") from None
        except OSError as error:
            raise NotFoundError(f"{path}: {error.strerror}") from None
        yield stream if form is None else Unpacked(stream, form, budget)
