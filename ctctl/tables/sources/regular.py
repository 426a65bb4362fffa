"""Text as a program wrote it, by the million: forms of records, and rows of numbers read by them (``native/lines.c``).

A *form* is what a program's format string says: literals, numbers, addresses, words. It reads only what it is sure
of, and stops in front of anything else: a careful reader takes that, and the form goes on behind it. Whatever a form
reads, the careful reader must read alike; a property test holds every pair of them together.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ctctl._ffi.lines import LineFlags, LineKind, LineOps, LinesOp, LinesRun, line_ops, read_lines
from ctctl._ffi.rows import address_of
from ctctl.errors import DecodeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.model.tuples import Address

#: Rows at most that one pass fills, bytes ahead that are worth one, and records at most that are read one by one
#: after passes in vain.
ROOM, WORTH, MAX_WAIT = 1 << 13, 1 << 16, 256
#: Records that take as long to read one by one as numpy to import. With it there, an eighth of the bytes is worth it.
_MANY = 2000
#: A pass that takes fewer records was in vain.
_FEW = 2
#: What a line of a pass costs beside its bytes: a tenth of one that is read by itself.
PASS_WORK = 2
_asked = itertools.count()
#: An element of a document may be so long, and a document may have them in so many forms.
MAX_ELEMENT, MAX_FORMS = 1 << 14, 12
_NUMPY = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
_BIG = {1: "u1", 2: ">u2", 4: ">u4", 8: ">u8"}
#: Digits that a number of so many bytes may have, and what is no longer than a program writes.
_DIGITS = {1: 3, 2: 5, 4: 10, 8: 20}


class Ahead(Protocol):
    """Text that is read ahead."""

    def window(self) -> tuple[bytes, int]:
        """What was read ahead, and from where on in it nothing was taken."""

    def has(self, size: int, /) -> bool:
        """Whether so many bytes follow; they are read ahead."""

    def pass_to(self, at: int, /) -> None:
        """Take the window up to there."""

    def read_on(self) -> bool:
        """Make the window longer. False: nothing follows."""


class Form:
    """The form of one record, built part by part; each field of it has a name.

    ``types`` are the fields of a row as numpy has records. A field's place is behind the one before it, or ``at``.
    ``strict``: it is JSON, where numbers have no zero in front, and text has no marks or escapes.
    """

    def __init__(self, *, strict: bool = False) -> None:
        #: the work of reading one record, where that is always the same; 0: that of a line
        self.work = 0
        #: other files have records of it too: who reads them keeps its memory
        self.shared = True
        self._strict = LineFlags.STRICT if strict else LineFlags.NONE
        self._ops: list[LinesOp] = []
        self._texts: list[bytes] = []
        self._fields: dict[str, tuple[str, int]] = {}
        self._size = self._choice = 0

    # ---- parts

    def room(self, name: str, size: int) -> Form:
        """So many bytes, 0 where no field has its place in them."""
        self._field(name, f"V{size}", size, None)
        return self

    def space(self, name: str, width: int, *, at: int | None = None, signed: bool = False) -> Form:
        """A number that is not read: whoever takes the rows fills it in."""
        self._field(name, _NUMPY[width].replace("u", "i") if signed else _NUMPY[width], width, at)
        return self

    def literal(self, text: str) -> Form:
        """This text."""
        return self._add(LineKind.LITERAL, text=text.encode())

    def before(self, text: str) -> Form:
        """This text follows, and is no part of it: the record has ended."""
        return self._add(LineKind.NEXT, text=text.encode())

    def blanks(self, least: int = 1) -> Form:
        """Spaces and tabs; where it is strict, no tabs: a string of JSON has none."""
        return self._add(LineKind.BLANKS, self._strict, count=least)

    def decimal(
        self, name: str, width: int, *, at: int | None = None, big: bool = False, most: int | None = None
    ) -> Form:
        """An unsigned number that fits in ``width`` bytes, or is ``most``; ``big``: stored in network order."""
        place = self._field(name, (_BIG if big else _NUMPY)[width], width, at)
        flags = (LineFlags.BIG if big else LineFlags.NONE) | self._strict
        limit = (1 << 8 * width) - 1 if most is None else most
        return self._add(LineKind.DECIMAL, flags, at=place, width=width, count=_DIGITS[width], limit=limit)

    def hex(self, name: str, width: int, *, at: int | None = None) -> Form:
        """The same in hex digits."""
        place = self._field(name, _NUMPY[width], width, at)
        return self._add(LineKind.HEX, at=place, width=width, count=2 * width, limit=(1 << 8 * width) - 1)

    def signed(self, name: str, digits: int = 18) -> Form:
        """An int64 in up to so many digits."""
        place = self._field(name, "<i8", 8, None)
        return self._add(
            LineKind.DECIMAL, LineFlags.MINUS | self._strict, at=place, width=8, count=digits, limit=(1 << 63) - 1
        )

    def octets(self, name: str, width: int, *, at: int | None = None) -> Form:
        """So many bytes of two hex digits each."""
        return self._add(LineKind.BYTES, at=self._field(name, f"V{width}", width, at), width=width)

    def address(self, name: str, *, port: bool = False) -> Form:
        """An address as ``NAME`` (16 bytes, IPv4 in the first four) and ``NAME_family``; with a ``NAME_port``."""
        place = self._field(name, "V16", 16, None)
        self._field(f"{name}_family", "u1", 1, None)
        if port:
            self._field(f"{name}_port", "<u2", 2, None)
        return self._add(LineKind.ADDRESS, LineFlags.PORT if port else LineFlags.NONE, at=place)

    def word(self, name: str, words: Mapping[str, int]) -> Form:
        """One of these words, as its number (below 256)."""
        text = b"".join(bytes((len(word), number)) + word.encode() for word, number in words.items())
        return self._add(LineKind.WORD, at=self._field(name, "u1", 1, None), count=len(words), text=text)

    def names(self, most: int) -> Form:
        """So many words of letters or fewer, a blank behind each; not kept."""
        return self._add(LineKind.NAMES, count=most)

    def text(self, name: str, longest: int, before: str = "\0") -> Form:
        """Up to ``longest`` (255) printable characters before the one that is ``before``: their number, then they.

        Without ``before`` they end at a blank or with the line.
        """
        width = longest + 1
        place = self._field(name, f"V{width}", width, None)
        return self._add(LineKind.TEXT, self._strict, at=place, width=width, limit=ord(before))

    def end_of(self, name: str) -> Form:
        """Address and port as listings have them: an IPv6 address, and no other, has brackets."""
        with self.maybe(f"{name}_six"):
            self.before("[").address(name, port=True).check(f"{name}_family", 6)
        with self.otherwise():
            self.address(name, port=True).check(f"{name}_family", 4)
        return self

    def value(self) -> Form:
        """Any value of JSON; not kept."""
        return self._add(LineKind.VALUE)

    def token(self) -> Form:
        """A word of letters, digits, points, lines and strokes; not kept."""
        return self._add(LineKind.TOKEN)

    def items(self, front: str) -> Form:
        """Any number of lines with such a word behind ``front``; not kept."""
        return self._add(LineKind.ITEMS, text=front.encode())

    @contextlib.contextmanager
    def maybe(self, name: str) -> Iterator[None]:
        """What is added inside, where the text goes on with it: ``name`` is 1 then, else 0. None stands in another."""
        self._choice = len(self._ops)
        self._add(LineKind.MAYBE, at=self._field(name, "u1", 1, None))
        yield
        self._ops[self._choice].count = len(self._ops) - self._choice - 1

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        """Right behind a ``maybe``: what the text goes on with where not with its parts. A field may be in both."""
        before = len(self._ops)
        yield
        self._ops[self._choice].limit = len(self._ops) - before

    def check(self, name: str, wanted: int, *, unlike: bool = False) -> Form:
        """Go on only where a field of one byte is this, or ``unlike`` it."""
        return self._add(LineKind.CHECK, LineFlags.NOT if unlike else LineFlags.NONE, at=self.place(name), limit=wanted)

    def same(self, name: str, other: str) -> Form:
        """Go on only where two fields of one byte are alike."""
        return self._add(LineKind.SAME, at=self.place(name), limit=self.place(other))

    def end(self) -> Form:
        """Blanks, and the line's end."""
        return self._add(LineKind.END)

    # ---- what it is

    def place(self, name: str) -> int:
        """At which byte of a row a field is."""
        return self._fields[name][1]

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return self._size

    @functools.cached_property
    def types(self) -> np.dtype[Any]:
        """A row as numpy has records."""
        import numpy as np

        kinds, places = [kind for kind, _ in self._fields.values()], [at for _, at in self._fields.values()]
        return np.dtype({"names": list(self._fields), "formats": kinds, "offsets": places, "itemsize": self.size})

    @functools.cached_property
    def ops(self) -> LineOps:
        """The operations as ``native/lines.c`` has them."""
        return line_ops([*self._ops, LinesOp()])  # an empty literal: something stands behind every part

    def _field(self, name: str, kind: str, width: int, at: int | None) -> int:
        if name in self._fields:  # of the other way that the text may go on
            return self.place(name)
        place = self._size if at is None else at
        self._fields[name] = (kind, place)
        self._size = max(self._size, place + width)
        return place

    def _add(self, kind: LineKind, flags: LineFlags = LineFlags.NONE, *, text: bytes = b"", **fields: int) -> Form:
        op = LinesOp(kind=kind, flags=flags, size=len(text), **fields)
        if text:
            self._texts.append(text)
            op.text = address_of(text)
        self._ops.append(op)
        return self


def is_worth(ahead: Ahead) -> bool:
    """Whether enough follows for a pass. Asked behind each record that was read one by one, of whatever file."""
    cheap = "numpy" in sys.modules or next(_asked) >= _MANY
    return ahead.has(WORTH >> 3 if cheap else WORTH)


class RegularReader:
    """Reads records of one form, as many as there are beside each other."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._memory = bytearray(ROOM * form.size)
        #: of the last pass: the work of reading its lines, how many had blanks at their end, how many the last one had
        self.work = self.padded = self.blanks = 0

    def read(self, text: Ahead, *, span: int = 0, other_length: int = 0) -> NDArray[Any]:
        """The records that follow, up to ``ROOM``; a line of ``other_length`` is none. Valid until the next pass.

        ``span``: a record has lines in it, and may be so long: one that seems to be none may only go on. Whoever
        takes the records spends ``work`` then.
        """
        import numpy as np

        form, memory = self._form, self._memory
        run = LinesRun(rows=address_of(memory), row_size=form.size, room=ROOM, other_length=other_length)
        self.work = self.padded = 0
        while run.used < ROOM:
            data, run.at = text.window()
            run.data, run.size = address_of(data), len(data)
            before = run.used
            read_lines(run, form.ops)
            text.pass_to(run.at)
            taken = run.used - before
            self.work += form.work * taken if form.work else (run.work >> 2) + PASS_WORK * taken
            self.padded += run.padded
            whole = data.find(b"\n", run.at) >= 0 if not span else len(data) - run.at >= span
            if whole or not text.read_on():
                break
        self.blanks = run.blanks
        return np.frombuffer(memory, form.types, count=run.used)


class Patience:
    """Whether another pass is worth it: after one in vain a record goes one by one, then two, up to ``MAX_WAIT``.

    One that takes a record is in vain too: it takes longer than to read that by itself.
    """

    def __init__(self) -> None:
        self._wait = 0
        self._next = 1

    def ready(self) -> bool:
        """Asked behind each record that was read one by one."""
        self._wait = max(self._wait - 1, -1)
        return self._wait < 0

    def after(self, count: int) -> None:
        """A pass has read so many records."""
        vain = count < max(self._next, _FEW)
        self._wait = self._next if vain else 0
        self._next = min(2 * self._next, MAX_WAIT) if vain else 1


def octets(column: NDArray[Any]) -> NDArray[np.uint8]:
    """A column of bytes as a matrix of them."""
    import numpy as np

    return np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)


def addresses(rows: NDArray[Any], name: str) -> list[Address]:
    """The addresses of a field of a form's rows, each made once."""
    known: dict[bytes, Address] = {}
    found: list[Address] = []
    for family, raw in zip(rows[f"{name}_family"].tolist(), rows[name].tolist(), strict=True):
        one = known.get(raw)
        if one is None or one.version != family:
            one = known[raw] = IPv4Address(raw[:4]) if family == 4 else IPv6Address(raw)
        found.append(one)
    return found


class Sample(NamedTuple):
    """An element of a document that was read: what it is, its text, what stands before each, and behind it.

    ``behind`` None: the end of a line. ``yaml``: it is no JSON.
    """

    element: Any
    text: str
    before: str = ""
    behind: str | None = ""
    yaml: bool = False


class Learned(NamedTuple):
    """The form of records like one that was read, and who takes them."""

    form: Form
    add: Callable[[NDArray[Any]], None]


class ElementRuns:
    """Passes over the elements of a document that are written like one before them.

    ``learn`` makes a form of an element; None: it is not to be had.
    """

    def __init__(self, learn: Callable[[Sample], Learned | None]) -> None:
        self._learn = learn
        self._known: list[tuple[RegularReader, Learned]] = []
        self._patience = Patience()
        #: of the last pass: the work of reading its lines
        self.work = 0

    def read_on(self, ahead: Ahead, sample: Callable[[], Sample], other_length: int = 0) -> int:
        """Take the elements that follow one that was taken, which is the sample; how many."""
        self.work = 0
        if not self._patience.ready() or not is_worth(ahead):
            return 0
        count = self._pass(ahead, other_length)
        if not count and len(self._known) < MAX_FORMS and (learned := self._learnt(sample())) is not None:
            self._known.insert(0, (RegularReader(learned.form), learned))
            count = self._pass(ahead, other_length)
        self._patience.after(count)
        return count

    def _learnt(self, sample: Sample) -> Learned | None:
        """What an element that was read tells of those like it: nothing, where what it has more makes it odd."""
        try:
            return self._learn(sample)
        except DecodeError:
            return None

    def _pass(self, ahead: Ahead, other_length: int) -> int:
        count, vain = 0, 0
        while vain < len(self._known):
            reader, learned = self._known[0]
            rows = reader.read(ahead, span=MAX_ELEMENT, other_length=other_length)
            if len(rows):
                learned.add(rows)
                self.work += reader.work
                count, vain = count + len(rows), 0
            if len(rows) < ROOM:
                vain += 1
                self._known.append(self._known.pop(0))
        return count
