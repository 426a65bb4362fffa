"""``ctctl trace --from FILE``: what monitor or Hubble printed, as a story."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from heapq import merge
from typing import TYPE_CHECKING

from ctctl.errors import CtctlError, DecodeError, PartialDataError
from ctctl.model.units import counted
from ctctl.out.text import safe

if TYPE_CHECKING:
    from ctctl.tables.namebook import NameBook
    from ctctl.tables.query.filter import Filter
    from ctctl.trace.story_event import StoryEvent
    from ctctl.trace.story_files import StorySource, StorySources
    from ctctl.trace.story_filter import StoryFilter
    from ctctl.trace.story_text import StoryFile


def run(
    paths: Sequence[str],
    packet: str | None,
    wanted: Filter,
    nodes: Sequence[str],
    *,
    names: Sequence[str] = (),
    count: int | None,
    json_lines: bool,
    color: bool,
) -> None:
    """Print the story of ``paths`` ("-" is stdin). Raises CtctlError, PartialDataError after all that could be read."""
    from ctctl.cli.report import say
    from ctctl.config.allowance import shared
    from ctctl.trace.show_story import StoryJson, StoryTable
    from ctctl.trace.story_files import story_sources

    sink = StoryJson(sys.stdout) if json_lines else StoryTable(sys.stdout, color=color)
    shown = 0
    with shared(), ExitStack() as stack:
        sources = story_sources(paths, sys.stdin.buffer, stack)
        chosen = _chosen(packet, wanted, nodes, names, sources)
        stories = [_Story(source, len(sources.files) > 1) for source in sources.files]
        for event in merge(*(story.events(chosen, stack) for story in stories), key=_time):
            if count is not None and shown == count:
                break
            sink.event(event)
            shown += 1
    sys.stdout.flush()
    for note in dict.fromkeys(note for story in stories for note in story.notes):
        say(note)
    whole = count is None or shown < count
    events = sum(story.file.events for story in stories if story.file is not None)
    print(
        f"{shown} of {counted(events, 'event')}" if whole else f"{counted(shown, 'event')}, by --count",
        file=sys.stderr,
        flush=True,
    )
    if whole and not events and not any(story.file and story.file.apart for story in stories):
        raise next(story.failed for story in stories if story.failed)
    partial = [*sources.partial, *(text for story in stories for text in story.partial)]
    if partial:
        raise PartialDataError("partial data: " + safe("; ".join(partial)))


def _time(event: StoryEvent) -> int:
    return event.time_ns or 0


class _Story:
    """One file's events in order; what came of reading it once they have been taken."""

    def __init__(self, source: StorySource, named: bool) -> None:
        self._source = source
        self._named = named
        self._late = 0
        self.file: StoryFile | None = None
        self.failed: CtctlError | None = None

    def events(self, chosen: StoryFilter, stack: ExitStack) -> Iterator[StoryEvent]:
        """Those that are wanted, with the file's node where it says none. One that cannot be read ends its own."""
        from ctctl.config.budget import LimitError
        from ctctl.trace.show_story import InOrder
        from ctctl.trace.story_text import StoryFile

        self.file = StoryFile(self._source.open(stack))
        order = InOrder(event for event in map(self._of_node, self.file.read()) if chosen(event))
        try:
            yield from order
        except (DecodeError, LimitError) as error:
            self.failed = type(error)(f"{self._source.name}: {error}; tables: ctctl ct list --from FILE")
        self._late = order.late

    def _of_node(self, event: StoryEvent) -> StoryEvent:
        if not self._named or event.node is not None:
            return event
        return replace(event, node=self._source.node or self._source.name)

    @property
    def notes(self) -> list[str]:
        """What is to be said of it."""
        late = f"{self._late} event(s) came too late to be put in order: they stand where the file has them"
        return [*(self.file.notes if self.file is not None else []), *([late] if self._late else [])]

    @property
    def partial(self) -> list[str]:
        """What of it is missing, with its name where there are several."""
        found = [str(self.failed)] if self.failed is not None else list(self.file.partial if self.file else [])
        return [f"{self._source.name}: {text}" if self._named and self.failed is None else text for text in found]


def _chosen(
    packet: str | None, wanted: Filter, nodes: Sequence[str], names: Sequence[str], sources: StorySources
) -> StoryFilter:
    """The filter of the story, which knows names: of ``--names``, and those that its own events have."""
    from ctctl.packet.text import parse_flow_text
    from ctctl.tables.flow_text import has_names, with_addresses
    from ctctl.tables.namebook import LazyBook
    from ctctl.trace.story_filter import StoryFilter

    book = LazyBook(lambda: _book_of(names, sources))
    text = with_addresses(packet, book.book) if packet is not None and has_names(packet) else packet
    chosen = StoryFilter(None if text is None else parse_flow_text(text), wanted, nodes, book)
    chosen.check()
    return chosen


def _book_of(names: Sequence[str], sources: StorySources) -> NameBook:
    """Names of files, then those of the events where these can be read twice. Raises CtctlError."""
    from pathlib import Path

    from ctctl.cli.report import say
    from ctctl.tables.namebook import NameBook
    from ctctl.tables.names_files import add_file
    from ctctl.trace.story_filter import names_of_events
    from ctctl.trace.story_text import StoryFile

    book = NameBook()
    for path in names:
        for text in add_file(book, Path(path)):
            say(text)
    if sources.again:
        with ExitStack() as stack:
            for source in sources.files:
                names_of_events(book, StoryFile(source.open(stack)).read())
    return book
