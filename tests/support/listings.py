"""Listings in files: opened as a source, and written again as they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctctl.model.entry import CtEntry
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.open import open_source

#: Dumps that people had, each in a folder whose name begins with its number.
CASES = Path(__file__).resolve().parents[1] / "data" / "cases" / "dumps"


def case(number: str) -> Path:
    """The folder of a case."""
    return next(CASES.glob(f"{number}-*"))


def read(path: Path | str, **options: Any) -> Source:
    """The source that a file or folder is; ``options`` as in SourceOptions."""
    return open_source(str(path), SourceOptions(**options))


def read_text(path: Path, text: str | bytes) -> Source:
    """The source that a file with this text is, which is written to ``path``."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def entries(source: Source) -> Iterator[tuple[CtEntry, CtTable]]:
    """Every conntrack entry of a source with its table."""
    for table in source.tables:
        for columns in table.columns():
            for index in range(len(columns)):
                yield columns.entry(index, table.name, table.absent), table


def listed(source: Source) -> list[str]:
    """The line of every conntrack entry, as the agent's command lists it."""
    return [cilium_line(entry, table.layout) or "" for entry, table in entries(source)]
