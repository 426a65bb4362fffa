"""Rows of ctctl's own tables in passes: those that are written like rows that were read.

What a cell says is its careful reader's to say (``own_cells``). Of columns that say the same few things again and
again, what was read once is known: a cell with the same text says the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ctctl.decode.ct import OPTIONAL_FIELDS, TUPLE_RELATED, VALUE_SIZE
from ctctl.model.entry import Layout
from ctctl.model.tuples import ICMP, ICMPV6
from ctctl.tables.sources.base import ROWS_EVIDENCE
from ctctl.tables.sources.ct_elements import OwnEntries, has_room, own_place
from ctctl.tables.sources.ct_forms import DIRECTIONS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.own_cells import flags_of, is_related, protocol_of
from ctctl.tables.sources.regular import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What a row costs beside its line, by itself and in a pass: each of its fields has a cell.
ROW_WORK, _PASS_WORK = 100, 20
#: Columns of few texts, and so many of each at most.
_TEXTS = ("proto", "direction", "state", "flag_names", "map", "node", "related")
_MAX_TEXTS = 24
#: Columns of a table at most: it has a third of that.
MAX_TITLES = 64
#: A text in which nothing has to be looked at twice; CSV has marks around one with a comma.
_PLAIN = re.compile(r"[\w.:/(),-]*(?: [\w.:/(),-]+)*", re.ASCII)
#: How long a state lasts, in a table for people.
_TIME = re.compile(r", [A-Za-z0-9][\w.-]* (?:left|over)\Z", re.ASCII)
#: Units of what is left, with the most that is written of each.
_UNITS = {"d": (86400, 30_000), "h": (3600, 99), "m": (60, 99), "s": (1, 99)}


class OwnRuns:
    """A ``passes.Listing``. It knows what ``learn`` was told of the rows before."""

    work = _PASS_WORK

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._titles: list[str] = []
        self._csv = self._says_related = False
        #: the texts of each column, and the IP version of each table
        self._known: dict[str, list[str]] = {}
        self._families: dict[str, int] = {}
        #: of two nodes, tables of both versions have one name: their rows go one by one
        self._mixed = False
        #: forms of what is known, by whether there is an interface
        self._forms: dict[bool, Form] = {}
        self._sample: list[str] = []
        self._interface = False
        self._layout = Layout.V1_18

    def begin(self, titles: list[str], *, csv: bool, says_related: bool) -> None:
        """A table begins."""
        if (titles, csv) != (self._titles, self._csv):
            self._known, self._families, self._forms, self._mixed = {}, {}, {}, False
        self._titles, self._csv, self._says_related, self._sample = titles, csv, says_related, []

    def learn(self, cells: Sequence[str], family: int, layout: Layout, *, interface: bool) -> None:
        """Take a row that was read for a sample of others."""
        self._sample, self._interface, self._layout = list(cells), interface, layout
        known = self._known
        for title, cell in zip(self._titles, cells, strict=True):
            texts = known.setdefault(title, []) if title in _TEXTS else None
            text = _TIME.sub("", cell) if title == "state" and not self._csv else cell
            if title == "map" and self._families.get(text, family) != family:
                self._mixed = True
            if texts is None or text in texts or len(texts) >= _MAX_TEXTS or not self._is_plain(text):
                continue
            if title == "proto" and not self._says_related and protocol_of(text) in (ICMP, ICMPV6):
                continue  # whether they are of an error is looked at
            texts.append(text)
            self._forms = {}
            if title == "map" and _said(text):
                self._families[text] = family

    def _is_plain(self, cell: str) -> bool:
        return _PLAIN.fullmatch(cell) is not None and not (self._csv and "," in cell)

    def next_form(self, _room: int) -> Form | None:
        """The form of rows like the last one."""
        if self._mixed or not self._sample or len(self._titles) > MAX_TITLES:
            return None
        nodes = (self._dump.others.get(_said(text)) for text in self._texts_of("node"))
        if not all(has_room(part) for part in (self._dump, *nodes) if part is not None):
            return None
        if self._interface not in self._forms:
            known = all(self._texts_of(title) for title in self._titles if title in _TEXTS)
            if not known or len(set(self._titles)) < len(self._titles):
                return None
            self._forms[self._interface] = self._form()
        return self._forms[self._interface]

    def _texts_of(self, title: str) -> list[str]:
        return self._known.get(title, [])

    # ---- the form

    def _form(self) -> Form:
        form = Form().room("value", VALUE_SIZE).space("proto", 1).space("tuple_flags", 1)
        form.space("flags", 2, at=own_place("flags", self._layout)[1])
        form.shared = False
        for number, (title, cell) in enumerate(zip(self._titles, self._sample, strict=True)):
            last = number == len(self._titles) - 1
            between = "" if last else "," if self._csv else "  "
            if title == "state" and not self._csv:
                _one_of(form, title, self._texts_of(title), "")
                with form.maybe("state's time"):
                    form.literal(", ").token().literal(" ").word("state's end", {"left": 0, "over": 1})
                form.literal(between)
            elif title in _TEXTS:
                _one_of(form, title, self._texts_of(title), between, self._families if title == "map" else {})
            else:
                self._cell(form, title, cell)
                form.literal(between)
            if last:
                form.end()
            elif not self._csv:
                form.blanks(0)
        if "ifindex" in self._titles:
            form.check("ifindex_given", int(self._interface))
        return form.same("src_family", "dst_family")

    def _cell(self, form: Form, title: str, sample: str) -> None:
        if title in ("source", "destination"):
            form.address("src" if title == "source" else "dst", port=True)
            self._name(form, title)
        elif title == "remaining":
            self._remaining(form)
        elif title == "nat_addr":
            with form.maybe("nat_addr_given"):
                form.address(title)
            self._or_nothing(form)
        elif own_place(title, self._layout)[0]:
            self._number(form, title, hexed=sample.strip().startswith("0x"))
        else:
            with form.maybe(title):
                form.token()
            self._or_nothing(form)

    def _number(self, form: Form, title: str, *, hexed: bool) -> None:
        width, at = own_place(title, self._layout)

        def number() -> None:
            if hexed and title not in ("rev_nat", "nat_port"):
                form.literal("0x").hex(title, width, at=at)
            else:
                form.decimal(title, width, at=at, big=title in ("rev_nat", "nat_port"))

        if title not in OPTIONAL_FIELDS:
            number()
            self._name(form, title)
            return
        with form.maybe(f"{title}_given"):
            number()
        self._or_nothing(form)
        self._name(form, title, given=f"{title}_given")

    def _or_nothing(self, form: Form) -> None:
        if not self._csv:
            with form.otherwise():
                form.literal("-")

    def _name(self, form: Form, title: str, given: str | None = None) -> None:
        """What an address or a number is called, which says nothing more: a word, or two with a stroke."""
        for count in (1, 2) if not self._csv else ():
            with form.maybe(f"{title} named by {count}"):
                if given is not None:
                    form.check(given, 1)
                form.literal(" (").token()
                if count == 2:
                    form.literal("/").token()
                form.literal(")")

    def _remaining(self, form: Form) -> None:
        if self._csv:
            with form.maybe("remaining_given"):
                form.signed("remaining", digits=12)
            return
        with form.maybe("expired"):
            form.literal("expired ")
        for unit, (_, most) in _UNITS.items():
            with form.maybe(f"has {unit}"):
                form.decimal(unit, 4, most=most).literal(unit)
        with form.maybe("ago"):
            form.check("expired", 1).literal(" ago")
        with form.maybe("without units"):
            for unit in _UNITS:
                form.check(f"has {unit}", 0)
        with form.maybe("nothing"):
            form.check("without units", 1).check("expired", 0).literal("-")
        form.same("expired", "ago").same("without units", "nothing")
        form.space("remaining", 8, signed=True).space("remaining_given", 1)

    # ---- its rows

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of that form, by the table that they are of."""
        import numpy as np

        number = {title: self._numbers(title, rows) for title in _TEXTS if title in self._titles}
        texts = {title: [_said(text) for text in self._texts_of(title)] for title in number}
        directions = np.array([DIRECTIONS[text] for text in texts["direction"]], np.uint8)
        rows["proto"] = np.array([protocol_of(text) for text in texts["proto"]], np.uint8)[number["proto"]]
        said = "related" if "related" in texts else "state"
        related = np.array([TUPLE_RELATED * is_related({said: text}) for text in texts.get(said, [""])], np.uint8)
        rows["tuple_flags"] = directions[number["direction"]] | related[number.get(said, np.zeros(len(rows), np.intp))]
        flags = np.array([flags_of(text) for text in texts["flag_names"]], np.uint16)[number["flag_names"]]
        rows["flags"] = flags | rows["other_bits"] if "other_bits" in self._titles else flags
        if "remaining" in self._titles and not self._csv:
            left = sum(rows[unit].astype(np.int64) * rows[f"has {unit}"] * size for unit, (size, _) in _UNITS.items())
            rows["remaining"] = np.where(rows["expired"] == 1, -left, left)
            rows["remaining_given"] = 1 - rows["nothing"]
        zeros = np.zeros(len(rows), np.intp)
        nodes, maps = texts.get("node", [""]), texts.get("map", [""])
        whose = 2 * (number.get("node", zeros) * len(maps) + number.get("map", zeros)) + (rows["src_family"] == 6)
        found, first = np.unique(whose, return_index=True)
        told = [name for name in OPTIONAL_FIELDS if name in self._titles and (name != "ifindex" or self._interface)]
        for which in found[np.argsort(first)]:
            node, name = divmod(int(which) >> 1, len(maps))
            record = dict.fromkeys(told) | {"map": maps[name] or None}
            dump, family = self._dump.of_node(nodes[node] or None), 6 if which & 1 else 4
            entries = OwnEntries(dump, record, family, self._layout, evidence=ROWS_EVIDENCE)
            entries.add(rows[whose == which])

    def _numbers(self, title: str, rows: NDArray[Any]) -> NDArray[Any]:
        """Which of its texts a column has in each row."""
        import numpy as np

        found = np.zeros(len(rows), np.intp)
        for number in range(len(self._texts_of(title))):
            found[rows[f"{title} is {number}"] == 1] = number
        return found


def _said(text: str) -> str:
    """What a cell says: nothing has a stroke in a table for people."""
    return "" if text.strip() == "-" else text.strip()


def _one_of(
    form: Form, title: str, texts: Sequence[str], between: str, families: Mapping[str, int] = MappingProxyType({})
) -> None:
    """One of these texts and what stands behind it: of ``TITLE is N`` one is 1. ``families``: only with addresses of
    this IP version."""
    none = ""
    for number, text in sorted(enumerate(texts), key=lambda pair: -len(pair[1])):
        with form.maybe(f"{title} is {number}"):
            form.literal(text + between)
            if none:
                form.check(none, 1)
            if text in families:
                form.check("src_family", families[text])
        with form.maybe(f"{title} up to {number} is none"):
            if none:
                form.check(none, 1)
            form.check(f"{title} is {number}", 0)
        none = f"{title} up to {number} is none"
    form.check(none, 0)
