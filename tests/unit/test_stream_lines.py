"""Lines of a stream whose pieces end anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from ctctl.tables.sources.stream import Lines


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
