"""What is in parts of a file that are passed over unread: with the marks of a listing they are not so silently."""

from __future__ import annotations

import re

from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import CHUNK, Lines, Reader

#: What entries, translations and the heads of tables have, and next to nothing else.
_MARKS = (
    r"expires=\d|XLATE_[SD]|\"(?:Lifetime|NeedsCT)\\*\"\s*:\s*\d|SERVICE ADDRESS|PREFIX/ADDRESS|BACKEND ADDRESS"
    r"| src=[0-9a-f.:]{2,45} dst=[0-9a-f]"
)
_IN_TEXT, _IN_BYTES = re.compile(_MARKS), re.compile(_MARKS.encode())
#: A mark is no longer.
_LONGEST_MARK = 200


def reads_as_listing(text: str) -> bool:
    """Whether text has a listing's marks."""
    return _IN_TEXT.search(text) is not None


def pass_over(stream: Reader) -> bool:
    """Read a stream to its end. Whether it had a listing's marks. Raises what its ``read`` does."""
    tail, found = b"", False
    while chunk := stream.read(CHUNK):
        data = tail + chunk
        found = found or _IN_BYTES.search(data) is not None
        tail = data[-_LONGEST_MARK:]
    return found


def go_to_listing(lines: Lines) -> bool:
    """Pass over lines up to one with a listing's marks. False: none follows."""
    line = b""  # the last one, as far as it goes
    while chunk := lines.read():
        data = line + chunk
        if (mark := _IN_BYTES.search(data)) is not None:
            lines.back(data[data.rfind(b"\n", 0, mark.start()) + 1 :])
            return True
        line = data[max(data.rfind(b"\n") + 1, len(data) - (1 << 16)) :]
    return False


def say_unread(dump: Dump, what: str) -> None:
    """Say that a part of the file was not read that has a listing's marks: also where nothing else of it is known."""
    dump.say(f"{what}: not read, and it has what reads as a listing")
    dump.broken = True
