"""Records of tables that ``bpftool`` prints as octets, in JSON or in hex: the form of those written like one.

What a record is, and whose, is its careful reader's to say (``bpftool``): here is only where its octets stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ctctl.tables.sources.json_forms import Path, form_like
from ctctl.tables.sources.regular import PASS_WORK, Form, Learned, Sample, octets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.decode.columns import Matrix

_OCTET = re.compile(r"(?<![0-9a-z])[0-9a-f]{2}(?![0-9a-z:])")


def json_like(sample: Sample, add: Callable[[Matrix, Matrix], None]) -> Learned | None:
    """The form of elements like this one, whose key and value are octets, which ``add`` takes. None: it has none."""
    key, value = sample.element["key"], sample.element["value"]
    form = Form(strict=True).room("key", len(key)).room("value", len(value)).literal(sample.before)

    def place(form: Form, path: Path, word: str) -> bool:
        if len(path) == 2 and path[0] in ("key", "value") and word.startswith('"0x') and len(word) == 6:
            at = form.place(str(path[0])) + int(path[1])
            form.literal('"0x').octets(f"{path[0]}.{path[1]}", 1, at=at).literal('"')
            taken.add(path)
            return True
        if path and path[0] == "formatted":
            return False
        odd.append(path)
        return False

    taken: set[Path] = set()
    odd: list[Path] = []
    found = form_like(sample.text, form, place, ("key", "value"))
    if found is None or odd or len(taken) != len(key) + len(value):
        return None
    return Learned(form, _taker(add))


def hex_like(sample: Sample, sizes: tuple[int, int], add: Callable[[Matrix, Matrix], None]) -> Learned | None:
    """The form of records like this one, of lines with ``key:`` and ``value:`` and octets in hex of these sizes."""
    head, mark, tail = sample.text.partition("value:")
    if tuple(len(_OCTET.findall(part)) for part in (head, tail)) != sizes or not head.startswith("key:"):
        return None
    form = Form().room("key", sizes[0]).room("value", sizes[1])
    for part, text in (("key", head), ("value", mark + tail)):
        between = _OCTET.split(text)
        for number, literal in enumerate(between):
            form.literal(literal)
            if number < len(between) - 1:
                form.octets(f"{part}.{number}", 1, at=form.place(part) + number)
    form.before("key:")  # or its value goes on
    lines = [len(line) for line in sample.text.splitlines()]
    form.work = sum(PASS_WORK + (length >> 6) for length in lines)
    return Learned(form, _taker(add))


def _taker(add: Callable[[Matrix, Matrix], None]) -> Callable[[NDArray[Any]], None]:
    return lambda rows: add(octets(rows["key"]), octets(rows["value"]))
