"""The full-screen view: what is on it, and which key does what."""

from __future__ import annotations

import select
import sys
import time
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, ScrollableContainer
from textual.message import Message
from textual.widgets import ContentSwitcher, Input, Sparkline, Static

from ctctl.ct.top import By
from ctctl.doctor.finding import Where
from ctctl.errors import CtctlError, UsageError
from ctctl.out.text import safe
from ctctl.tables.query.filter import Filter
from ctctl.tables.show.entry import entry_name
from ctctl.tables.sources.base import Source
from ctctl.ui import pages
from ctctl.ui.entries import PAGE, SORT_AS, Entries
from ctctl.ui.follow import follow
from ctctl.ui.look import Ask, Frame, Looker
from ctctl.ui.pump import Answer, Failed, Paged, Pump
from ctctl.ui.trend import History, Trend, figures

_NUMBERED = ("entries", "trend", "talkers", "findings", "source")
_PAGES = ("talkers", "findings", "source", "connection", "keys")
_TYPING = "Enter or Esc: done typing"
_COUNTED = ("entries", "new", "established", "closing", "closed")
_KEYS = "/ filter  s sort  1 table 2 time 3 top 4 doctor 5 source  ? all keys  q quit"


class Answered(Message):
    """The reading thread has something to show."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Screenful(App[None]):
    """The program. ``fault`` is an error of ours that ended it."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #counts, #note { height: 1; }
    #head { text-style: bold; }
    #strip { height: 1; }
    #pressure { width: auto; padding: 0 1 0 0; }
    #course { width: 1fr; height: 1; }
    #gc { width: auto; padding: 0 0 0 1; }
    .line { height: 1; }
    .label { width: 8; }
    Input { width: 1fr; }
    #sorting { display: none; }
    ContentSwitcher { height: 1fr; }
    ScrollableContainer Static { width: auto; }
    #text-findings, #text-source { width: 1fr; }
    #text-talkers, #text-connection, #head, #counts, #note { text-wrap: nowrap; text-overflow: ellipsis; }
    #bottom { height: 1; text-style: reverse; }
    Trend Static, Trend Sparkline { height: 1; }
    """
    # Heard before the focused widget, so that what is typed next goes where the key led (see ``check_action``).
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, show=False, priority=True)
        for key, action in (
            ("slash", "filter"),
            ("s", "sort"),
            ("less_than_sign", "next_sort(-1)"),
            ("greater_than_sign", "next_sort(1)"),
            ("r", "reverse"),
            ("b", "next_by"),
            ("t", "trace"),
            *((str(number), f"show('{name}')") for number, name in enumerate(_NUMBERED, 1)),
            ("question_mark", "show('keys')"),
            ("escape", "leave"),
            ("q", "end"),
            ("ctrl+c", "quit"),
        )
    ]

    def __init__(self, source: Source, expression: str, sort: str | None, interval_s: float, where: Where) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self._source = source
        self._expression = expression
        self._wanted = Filter.parse(expression)
        self._sort = sort
        self._where = where
        self._looker = Looker(source)
        self._pump = Pump(self._looker, lambda answer: self.post_message(Answered(answer)), interval_s)
        self._wanted_s = interval_s
        self._history = History()
        self._latest: Frame | None = None
        self._error = ""
        self._by = By.src
        self._flow = ""
        self._gc = pages.gc_text(source)

    def compose(self) -> ComposeResult:
        """The screen from top to bottom."""
        yield Static("", id="head", markup=False)
        yield Static("", id="counts", markup=False)
        with Horizontal(id="strip"):
            yield Static("", id="pressure", markup=False)
            yield Sparkline([], id="course")
            yield Static("", id="gc", markup=False)
        with Horizontal(classes="line", id="filtering"):
            yield Static("filter", classes="label", markup=False)
            yield Input(self._expression, id="filter", compact=True, select_on_focus=False)
        with Horizontal(classes="line", id="sorting"):
            yield Static("sort by", classes="label", markup=False)
            yield Input(placeholder="[-]FIELD", id="sort", compact=True)
        yield Static("", id="note", markup=False)
        with ContentSwitcher(initial="entries", id="body"):
            yield Entries()
            yield Trend(id="trend")
            for name in _PAGES:
                with ScrollableContainer(id=name):
                    yield Static("reading …", id=f"text-{name}", markup=False)
        yield Static(_KEYS, id="bottom", markup=False)

    def on_mount(self) -> None:
        """Begin to read."""
        self.watch(self.screen, "focused", self._say_keys)
        self.set_interval(1.0, self._end_without_terminal)
        self.set_focus(self.query_one(Entries))
        self._ask()
        self._pump.start()

    def on_unmount(self) -> None:
        """Stop reading."""
        self._pump.stop()

    def _end_without_terminal(self) -> None:
        """End where nobody can see the screen any more: SIGHUP may be ignored, as under nohup."""
        terminal = select.poll()
        terminal.register(sys.stdin.fileno(), 0)
        if any(event & (select.POLLHUP | select.POLLERR) for _fd, event in terminal.poll(0)):
            self.exit()

    def _say_keys(self) -> None:
        typing = isinstance(self.focused, Input)
        self.query_one("#bottom", Static).update(_TYPING if typing else _KEYS)

    # ---- asking

    def _ask(self) -> None:
        entries = self.query_one(Entries)
        width = max(entries.size.width or self.size.width, 20)
        self._pump.ask(Ask(self._wanted, self._sort, entries.first_wanted, max(PAGE, 2 * entries.room), width))

    def on_entries_wanted(self) -> None:
        """Rows are missing."""
        self._ask()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed; a filter that cannot be read leaves the last good one in place."""
        if event.input.id != "filter":
            return
        self._say(_why_not(event.value))
        if self._error:
            return
        wanted = Filter.parse(event.value)
        if wanted != self._wanted:
            self._wanted = wanted
            self.query_one(Entries).restart()
            self._ask()
            if self._page == "talkers":
                self._talkers()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table; a sort field is taken."""
        if event.input.id == "sort":
            field = event.value.strip()
            try:
                if field:
                    self._looker.view.column(field.removeprefix("-"), "sort field")
            except UsageError as error:
                self._say(str(error))
                return
            self._sort_by(field or None)
        self.action_leave()

    def _sort_by(self, field: str | None) -> None:
        if field is not None:
            name = field.removeprefix("-")
            field = field.replace(name, SORT_AS.get(name, name))
        self._sort = field
        self._say("")
        self.query_one(Entries).restart()
        self._ask()

    def on_entries_sorted_by(self, message: Entries.SortedBy) -> None:
        """A click on the header: again turns the order round."""
        name = SORT_AS.get(message.name, message.name)
        self._sort_by(f"-{name}" if self._sort == name else name)

    # ---- keys

    @property
    def _page(self) -> str:
        return self.query_one("#body", ContentSwitcher).current or ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """While something is typed, keys are what they say, but for those that leave."""
        return action in ("leave", "quit") or not isinstance(self.focused, Input)

    def action_end(self) -> None:
        """End."""
        self.exit()

    def action_filter(self) -> None:
        """Type a filter."""
        self.set_focus(self.query_one("#filter", Input))

    def action_sort(self) -> None:
        """Type a field."""
        self.query_one("#sorting").display = True
        self.query_one("#filtering").display = False
        field = self.query_one("#sort", Input)
        field.value = self._sort or ""
        self.set_focus(field)

    def action_next_sort(self, by: int) -> None:
        """Sort by the next column of the screen; before the first and after the last: the table's own order."""
        if self._latest is None:
            return
        names: list[str | None] = [None, *(SORT_AS.get(c.name, c.name) for c in self._latest.head.shown)]
        field = self._sort.removeprefix("-") if self._sort else None
        at = names.index(field) if field in names else 0
        self._sort_by(names[(at + by) % len(names)])

    def action_reverse(self) -> None:
        """Turn the order round; on the doctor's page look again."""
        if self._page == "findings":
            self._findings()
        elif self._sort is not None:
            self._sort_by(self._sort[1:] if self._sort.startswith("-") else f"-{self._sort}")
        else:
            self._say("nothing to reverse: s or < > choose what to sort by")

    def action_show(self, name: str) -> None:
        """Show a page."""
        self.query_one("#body", ContentSwitcher).current = name
        self._error = _why_not(self.query_one("#filter", Input).value)
        if name == "talkers":
            self._talkers()
        elif name == "findings":
            self._findings()
        elif name == "keys":
            self._put("keys", pages.KEYS)
        self._draw()
        self.set_focus(self.query_one(f"#{name}"))

    def action_next_by(self) -> None:
        """Group top talkers by the next field."""
        if self._page == "talkers":
            kinds = list(By)
            self._by = kinds[(kinds.index(self._by) + 1) % len(kinds)]
            self._talkers()
            self._draw()

    def action_trace(self) -> None:
        """Follow the connection on the page, live, on the whole terminal."""
        if self._page != "connection":
            return
        if not self._looker.live:
            self._say("a file does not change: there is nothing to trace")
            return
        with self.suspend():
            follow(self._flow)
        self.refresh()

    def action_leave(self) -> None:
        """From an input to the page, from a page to the table."""
        self.query_one("#sorting").display = False
        self.query_one("#filtering").display = True
        if isinstance(self.focused, Input):
            self.set_focus(self.query_one(f"#{self._page}"))
        else:
            self.action_show("entries")

    def on_entries_opened(self, message: Entries.Opened) -> None:
        """Open the connection of a row."""
        flow = self._flow = entry_name(message.row.entry)
        self._put("connection", "reading …")
        self.action_show("connection")
        width = max(self.size.width - 2, 20)
        self._pump.page("connection", lambda looker: pages.connection_text(looker.source, flow, width))

    def _talkers(self) -> None:
        by, wanted = self._by, self._wanted
        self._pump.page("talkers", lambda looker: pages.talkers_text(looker.source, by, wanted, looker.names))

    def _findings(self) -> None:
        width = max(self.size.width - 2, 20)
        self._pump.page("findings", lambda looker: pages.findings_text(looker.source, self._where, width))

    # ---- showing

    def on_answered(self, message: Answered) -> None:
        """Show what was read."""
        answer = message.answer
        if isinstance(answer, Paged):
            self._put(answer.name, answer.text)
        elif isinstance(answer, Failed):
            self._failed(answer)
        else:
            self._latest = answer
            self._history.add(answer)
            self.query_one(Entries).show(answer)
            if self._page == "talkers":
                self._talkers()
            self._draw()

    def _failed(self, failed: Failed) -> None:
        if not isinstance(failed.error, CtctlError):
            self.fault = failed.error
            self.exit()
        elif failed.ask is None or (failed.ask.wanted == self._wanted and failed.ask.sort == self._sort):
            self._say(str(failed.error))

    def _say(self, error: str) -> None:
        self._error = error
        self._draw()

    def _put(self, name: str, text: str) -> None:
        self.query_one(f"#text-{name}", Static).update(Text(text, no_wrap=True))

    def _draw(self) -> None:
        """The lines above the page, and the pages that follow from the last look."""
        frame = self._latest
        note = self.query_one("#note", Static)
        if self._error:
            note.update(Text(safe(self._error), style="bold red"))
        if frame is None:
            return
        if not self._error:
            note.update(Text(self._note(frame)))
        self.query_one("#head", Static).update(Text(self._head(frame), no_wrap=True, overflow="ellipsis"))
        now = figures(frame)
        words = [f"{name} {value:.0f}" for name, value in now.items() if value is not None and name in _COUNTED]
        late = now["expired"]
        self.query_one("#gc", Static).update(f"expired {'unknown' if late is None else f'{late:.0f}'}, {self._gc}")
        self.query_one("#counts", Static).update(Text("  ".join(words), no_wrap=True, overflow="ellipsis"))
        self.query_one("#pressure", Static).update(f"pressure {pages.percent(now['pressure'])}")
        self.query_one("#course").visible = now["pressure"] is not None
        self.query_one("#course", Sparkline).data = self._history.of("pressure")
        if self._page == "trend":
            self.query_one(Trend).show(self._history, live=self._looker.live)
        elif self._page == "source":
            self._put("source", pages.source_text(self._source, frame.tables))

    def _head(self, frame: Frame) -> str:
        what = safe(self._source.description)
        if not self._looker.live:
            return _tail("a file, read once  ", what, self.size.width)
        every = self._pump.interval_s
        slow = ", as reading takes long" if every > self._wanted_s * 1.05 else ""
        clock = time.strftime("%H:%M:%S", time.localtime(frame.at))
        return _tail(f"{clock}  every {every:.3g} s{slow}  ", what, self.size.width)

    def _note(self, frame: Frame) -> str:
        if self._page == "talkers":
            return f"most entries by {self._by.value} (b: another), of what the filter wants"
        if self._page == "connection":
            return f"Esc: back  {'t: trace it live  ' if self._looker.live else ''}{self._flow}"
        at = self.query_one(Entries).cursor + 1 if frame.matched else 0
        parts = [f"row {at} of {frame.matched} that match, of {frame.entries}"]
        if frame.ask.sort:
            field = frame.ask.sort
            parts.append(f"sorted by {field.removeprefix('-')}{', descending' if field.startswith('-') else ''}")
        entries = self.query_one(Entries)
        if entries.runs_over:
            parts.append("→ for the rest of the line")
        dropped = entries.dropped
        if dropped:
            parts.append(f"no room for {', '.join(dropped)}")
        return "; ".join(parts)


def _why_not(expression: str) -> str:
    """Why this is no filter; empty if it is one."""
    try:
        Filter.parse(expression)
    except UsageError as error:
        return str(error)
    return ""


def _tail(start: str, text: str, room: int) -> str:
    """``text`` after ``start``; where there is no room the end of it, which tells files apart."""
    left = max(room - len(start), 8)
    return start + (text if len(text) <= left else "…" + text[1 - left :])
