"""A list that is kept up to date: on a terminal only the lines that changed are written again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO


class Screen:
    """Lines on a terminal, or one block after the other where the stream is none."""

    def __init__(self, stream: TextIO, height: int | None = None, width: int | None = None) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._height = height
        self._width = width
        self._shown: list[str] | None = None

    def show(self, lines: Sequence[str]) -> int:
        """Show ``lines``; returns how many were written."""
        if not self._terminal:
            self._stream.write("".join(line + "\n" for line in lines) + "\n")
            self._stream.flush()
            return len(lines)
        # A line that wraps would shift all below it: the terminal's width cuts it.
        visible = [line[: self._width] for line in self._fitting(lines)]
        written = 0
        parts: list[str] = []
        if self._shown is None:
            parts.append("\x1b[H\x1b[J")
            self._shown = []
        for number in range(max(len(visible), len(self._shown))):
            new = visible[number] if number < len(visible) else ""
            old = self._shown[number] if number < len(self._shown) else None
            if new != old:
                parts.append(f"\x1b[{number + 1};1H{new}\x1b[K")
                written += 1
        parts.append(f"\x1b[{len(visible) + 1};1H")
        self._stream.write("".join(parts))
        self._stream.flush()
        self._shown = visible
        return written

    def _fitting(self, lines: Sequence[str]) -> Sequence[str]:
        """The lines that there is room for; the last one says how many there are more."""
        if self._height is None or len(lines) <= self._height:
            return lines
        kept = max(self._height - 1, 0)
        return [*lines[:kept], f"… {len(lines) - kept} lines more than this screen has"]
