"""The widget that shows the rows of a frame, with a cursor: of a million entries only those on the screen are text."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ctctl.model.row import CtRow
from ctctl.ui.look import Frame, Head, Line

#: Rows are asked for so many at a time, so that scrolling rarely waits.
PAGE = 512
#: SGR codes of a row's colour as styles.
_STYLES = {
    "36": Style(color="cyan"),
    "32": Style(color="green"),
    "33": Style(color="yellow"),
    "2": Style(dim=True),
    "2;31": Style(color="red", dim=True),
}
_HEADER = Style(bold=True, reverse=True)
_SORTED = Style(bold=True, reverse=True, underline=True)


class Entries(Widget, can_focus=True):
    """Rows under a header, scrolled by its cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("left", "shift(-8)", show=False),
        Binding("right", "shift(8)", show=False),
        Binding("home,g", "jump(0)", show=False),
        Binding("end,G", "jump(-1)", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Wanted(Message):
        """Rows are missing on the screen."""

    class Opened(Message):
        """A row was chosen."""

        def __init__(self, row: CtRow) -> None:
            super().__init__()
            self.row = row

    class SortedBy(Message):
        """A column's header was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__(id="entries")
        self._frame: Frame | None = None
        self.top = 0
        self.cursor = 0
        self._left = 0

    @property
    def room(self) -> int:
        """Rows that the screen has room for."""
        return max(self.size.height - 1, 1)

    @property
    def first_wanted(self) -> int:
        """The row that an ask begins with: the screen stands in the middle of what is asked for."""
        return max(0, self.top - (PAGE - self.room) // 2)

    def show(self, frame: Frame) -> None:
        """Show a frame; the cursor stays where it is, as far as there are rows."""
        self._frame = frame
        self._go(self.cursor)
        self.refresh()

    def restart(self) -> None:
        """Go to the first row: the order or the filter is another one."""
        self.top = self.cursor = 0

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by screens."""
        self._go(self.cursor + by * self.room)

    def action_jump(self, to: int) -> None:
        """Move the cursor to a row; -1: the last."""
        self._go(to if to >= 0 else (self._frame.matched if self._frame is not None else 1) - 1)

    def action_shift(self, by: int) -> None:
        """Move the lines sideways, as far as any of them is longer than the screen."""
        longest = max((len(line.text) for line in self._frame.lines), default=0) if self._frame is not None else 0
        self._left = max(0, min(self._left + by, longest - self.size.width + 1))
        self.refresh()

    def action_open(self) -> None:
        """Open the row under the cursor."""
        row = self._frame.row(self.cursor) if self._frame is not None else None
        if row is not None:
            self.post_message(self.Opened(row))

    def _go(self, to: int) -> None:
        if self._frame is None:
            return
        if not self.size.height:  # another page is in its place
            return
        self.cursor = min(max(to, 0), max(self._frame.matched - 1, 0))
        if self.cursor < self.top:
            self.top = self.cursor
        elif self.cursor >= self.top + self.room:
            self.top = self.cursor - self.room + 1
        first, end = self._frame.ask.first, min(self.top + self.room, self._frame.matched)
        if self.top < first or end > first + len(self._frame.lines):
            self.post_message(self.Wanted())
        self.refresh()

    def on_resize(self) -> None:
        """Rows are laid out anew for another width."""
        self._go(self.cursor)
        self.post_message(self.Wanted())

    def on_mouse_scroll_down(self) -> None:
        """Three rows a notch."""
        self._go(self.cursor + 3)

    def on_mouse_scroll_up(self) -> None:
        """Three rows a notch."""
        self._go(self.cursor - 3)

    def on_click(self, event: events.Click) -> None:
        """A header sorts, a row is chosen, the chosen one opened."""
        if self._frame is None:
            return
        if event.y == 0:
            for column in self._over(self._frame).shown:
                if column.start <= event.x + self._left < column.start + column.width + 2:
                    self.post_message(self.SortedBy(column.name))
            return
        at = self.top + event.y - 1
        if at == self.cursor:
            self.action_open()
        else:
            self._go(at)

    def render_line(self, y: int) -> Strip:
        """A line of the screen."""
        frame, width = self._frame, self.size.width
        if frame is None:
            return Strip([Segment("reading …" if y == 0 else "")]).adjust_cell_length(width)
        if y == 0:
            return self._header(frame).crop(self._left, self._left + width).adjust_cell_length(width, _HEADER)
        index = self.top + y - 1
        if index >= frame.matched:
            text = "nothing matches" if y == 1 and not frame.matched else ""
            return Strip([Segment(text)]).adjust_cell_length(width)
        line = self._line(frame, index)
        style = _STYLES.get(line.style, Style.null()) if line is not None else Style.null()
        if index == self.cursor:
            style += Style(reverse=True, bold=self.has_focus)
        strip = Strip([Segment(line.text if line is not None else "…", style)])
        return strip.crop(self._left, self._left + width).adjust_cell_length(width, style)

    @staticmethod
    def _line(frame: Frame, index: int) -> Line | None:
        at = index - frame.ask.first
        return frame.lines[at] if 0 <= at < len(frame.lines) else None

    def _over(self, frame: Frame) -> Head:
        """What stands over the first row of the screen."""
        line = self._line(frame, self.top)
        return line.head if line is not None else frame.head

    def _header(self, frame: Frame) -> Strip:
        field = (frame.ask.sort or "").removeprefix("-")
        head = self._over(frame)
        segments = []
        for column in head.shown:
            text = head.titles[column.start : column.start + column.width].ljust(column.width)
            by = field in (column.name, SORT_AS.get(column.name))
            segments += [Segment(text, _SORTED if by and field else _HEADER), Segment("  ", _HEADER)]
        return Strip(segments)

    @property
    def runs_over(self) -> bool:
        """Whether lines on the screen go on to the right of it."""
        lines = [self._line(self._frame, self.top + at) for at in range(self.room)] if self._frame is not None else []
        return any(line is not None and len(line.text) - self._left > self.size.width for line in lines)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Columns that the rows on the screen have no room for."""
        return self._over(self._frame).dropped if self._frame is not None else ()


#: Columns of an end are sorted by the address, which has an order that people expect.
SORT_AS = {"source": "src", "destination": "dst", "source_short": "src", "destination_short": "dst"}
