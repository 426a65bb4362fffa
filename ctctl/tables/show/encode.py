"""Values as text in each style: for people, JSON, CSV and YAML."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ctctl.out.cells import cell, csv_cell


class Style(Enum):
    """How a value is written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    YAML = "yaml"
    #: the same within a mapping that is a value itself
    DEEP_YAML = "deep yaml"

    @property
    def yaml(self) -> bool:
        """Whether it is YAML: what comes after a key's colon, with the end of the line."""
        return self in (Style.YAML, Style.DEEP_YAML)


def encode(style: Style, value: object, text: str | None = None) -> bytes:
    """A value in a style; ``text`` is what people see. YAML: all that comes after the key's colon."""
    from ctctl.out.cells import jsonable
    from ctctl.out.text import safe

    if style is Style.TEXT:
        return (safe(text) if text is not None else cell(value)).encode()
    if style is Style.JSON:
        import json

        return json.dumps(jsonable(value)).encode()
    if style is Style.CSV:
        import csv
        import io

        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([csv_cell(value), ""])
        return line.getvalue()[:-1].encode()
    return _yaml(jsonable(value), "    " if style is Style.DEEP_YAML else "  ")


def _yaml(value: Any, behind: str) -> bytes:
    import yaml

    document = yaml.safe_dump({"k": value}, sort_keys=False, width=2**30)
    first, *rest = document[2:].splitlines()
    return "\n".join([first, *(behind + line for line in rest), ""]).encode()


def bare(style: Style, name: str) -> bytes:
    """A name within a text of that style, whose quotes stand around it already."""
    if style is Style.JSON:
        return encode(style, name)[1:-1]
    return name.replace("'", "''").encode() if style.yaml else encode(Style.TEXT, None, name)


def with_name(number: int, name: str | None) -> bytes:
    return encode(Style.TEXT, None, f"{number} ({name})" if name is not None else str(number))
