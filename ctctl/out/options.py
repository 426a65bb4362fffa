"""What the user said about how rows are to be written."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TextIO

from ctctl.model.light import light_value


class Format(StrEnum):
    """Values of ``-o`` (docs/reference/cli.md)."""

    table = "table"
    wide = "wide"
    cilium = "cilium"
    json = "json"
    jsonl = "jsonl"
    yaml = "yaml"
    csv = "csv"
    name = "name"  # shadows Enum.name, which nothing here reads


class ColorMode(StrEnum):
    """Values of ``--color``."""

    auto = "auto"
    always = "always"
    never = "never"


@light_value
class OutputOptions:
    """How to write rows. ``sort`` may start with ``-`` for descending; ``follow``: flush every row."""

    format: Format = Format.table
    fields: tuple[str, ...] = ()
    sort: str | None = None
    limit: int | None = None
    no_headers: bool = False
    color: ColorMode = ColorMode.auto
    follow: bool = False

    @property
    def asks_for_rows(self) -> bool:
        """Whether something was said of rows, where people are told a text without it."""
        return bool(self.fields or self.sort) or self.limit is not None

    def __post_init__(self) -> None:
        # More rows than can be counted are all rows.
        if self.limit is not None and self.limit > sys.maxsize:
            object.__setattr__(self, "limit", sys.maxsize)


def use_color(options: OutputOptions, stream: TextIO) -> bool:
    """Whether to colour: ``--color``, else NO_COLOR, else whether the stream is a terminal."""
    if options.color is not ColorMode.auto:
        return options.color is ColorMode.always
    return not os.environ.get("NO_COLOR") and stream.isatty()
