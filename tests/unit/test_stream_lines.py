"""Lines of a stream whose pieces end anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.tables.sources.stream import EndedEarlyError, Lines, Prefixed, utf8


class Pieces:
    """A stream that gives these pieces one by one, and knows how many it gave."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.given = 0

    def read(self, _size: int = 0, /) -> bytes:
        if self.given == len(self._pieces):
            return b""
        self.given += 1
        return self._pieces[self.given - 1]


def all_of(lines: Lines) -> list[str]:
    found = []
    while (line := lines.next()) is not None:
        found.append(line)
    return found


@given(st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n", b"\r\n", b"\r\r", b"cd"]), max_size=12))
def test_lines_are_the_same_wherever_pieces_end(pieces: list[bytes]) -> None:
    assert all_of(Lines(Pieces(*pieces))) == all_of(Lines(Pieces(b"".join(pieces))))


def test_returns_at_the_ends_of_pieces_are_no_reason_to_read_on() -> None:
    stream = Pieces(*[b"a line\r"] * 1000)
    lines = Lines(stream)
    assert lines.next() == "a line"
    assert stream.given <= 2
    assert all_of(lines) == ["a line"] * 999


def test_nothing_but_returns_is_work() -> None:
    spent = 0

    def spend(work: int) -> None:
        nonlocal spent
        spent += work

    assert all_of(Lines(Pieces(*[b"\r" * 1600] * 10), spend)) == [""]
    assert spent >= 1000


class Broken(Pieces):
    """One that says once, behind its last piece, that it ended early, and then no more."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self._said = False

    def read(self, _size: int = 0, /) -> bytes:
        piece = super().read()
        if not piece and not self._said:
            self._said = True
            raise EndedEarlyError("cut off")
        return piece


@pytest.mark.parametrize("seen", [0, 1, 4, 1 << 14])
def test_who_looks_ahead_loses_neither_what_came_nor_that_it_ended(seen: int) -> None:
    stream = Prefixed(b"", Broken(b"ab\nc", b"d\n"))
    assert stream.peek(seen) == b"ab\ncd\n"[:seen]
    found: list[bytes] = []
    with pytest.raises(EndedEarlyError, match="cut off"):
        found.extend(iter(lambda: stream.read(2), b""))
    assert b"".join(found) == b"ab\ncd\n"


@pytest.mark.parametrize("rows", [1, 3000])
def test_a_mail_that_is_cut_off_gives_all_that_came(rows: int) -> None:
    """Also what stands behind the last end of a line, and that it was cut off is said behind that."""
    whole = b"".join(b"a=3D%d =\nand more\n" % n for n in range(rows)) + b"last=3D1 =\nof it"
    lines, found = Lines(utf8(Broken(*(whole[at : at + 700] for at in range(0, len(whole), 700))))), list[str | None]()
    with pytest.raises(EndedEarlyError, match="cut off"):
        found.extend(iter(lines.next, None))
    assert found == [f"a={n} and more" for n in range(rows)] + ["last=1 of it"]
