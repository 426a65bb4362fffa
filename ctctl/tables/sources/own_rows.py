"""What ``ctctl ct list -o csv`` and ``-o wide`` wrote, read back: rows below a line of titles."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable

from ctctl.decode.ct import OPTIONAL_FIELDS, TUPLE_RELATED
from ctctl.errors import CtctlError, DecodeError
from ctctl.model.tuples import ICMP, ICMPV6
from ctctl.tables.sources import own_json
from ctctl.tables.sources.base import ROWS_EVIDENCE
from ctctl.tables.sources.ct_forms import DIRECTIONS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.own_cells import end_of, flags_of, is_related, number_of, protocol_of, seconds_of
from ctctl.tables.sources.own_runs import MAX_TITLES, OwnRuns

#: The titles that a table has in any case.
TITLES = re.compile(r"\s*+(?:[A-Z_]+ {2,})?PROTO {2,}DIR {2,}SOURCE {2,}|(?:[a-z_]+,)*?proto,direction,source,")
_BLANKS = re.compile(r"[ \t]*(?:  |\t)[ \t]*")
#: A table's first line is no longer.
_MAX_LINE = 4096
#: What a row must tell of an entry; the rest can be done without.
_NEEDED = ("proto", "direction", "source", "destination", "lifetime", "flag_names")
_NUMBERS = ("lifetime", "rev_nat", "src_sec_id", "tx_flags_seen", "rx_flags_seen", "last_tx_report", "last_rx_report")


class OwnRows:
    """Rows of ctctl's own tables. What they do not show (when each side was last seen) is unknown.

    ``open``: the lines that follow may be rows.
    """

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._titles: list[str] = []
        self._split: Callable[[str], list[str]] = _of_csv
        self._says_related = False
        #: rows that follow one, in passes
        self.runs = OwnRuns(dump)

    @property
    def open(self) -> bool:
        """Whether there was a line of titles, and no end of its table since."""
        return bool(self._titles)

    def end(self) -> None:
        """What follows is of no table."""
        self._titles = []

    def header(self, line: str) -> bool:
        """Whether a line is one of titles. A table that leaves out too much is said to."""
        if TITLES.match(line) is None:
            return False
        if line.count(",") >= MAX_TITLES or len(line) > _MAX_LINE:
            self._titles = []
            self._dump.say(f"a table of more than {MAX_TITLES} columns, which ctctl does not print")
            return True
        self._split = _of_csv if "," in line else _of_columns
        titles = [title.lower() for title in self._split(line)]
        titles = ["direction" if title == "dir" else title for title in titles]
        missing = [name for name in _NEEDED if name not in titles]
        self._titles = [] if missing else titles
        # In CSV the state is one word; for people it says that an entry is related.
        self._says_related = "related" in titles or self._split is _of_columns
        self.runs.begin(self._titles, csv=self._split is _of_csv, says_related=self._says_related)
        if missing:
            self._dump.say(
                f"a table for people, as ctctl prints it, without {', '.join(missing)}; ct list -o wide, csv or jsonl,"
                " and ct export, have them"
            )
        return True

    def add(self, line: str) -> bool:
        """Whether a line has as many cells as there are titles: then it is a row. Raises DecodeError."""
        cells = self._split(line)
        if len(cells) != len(self._titles) or TITLES.match(line) is not None:
            return False
        row = {name: cell.strip() for name, cell in zip(self._titles, cells, strict=True)}
        try:
            if not self._says_related and _may_be_related(row):
                self._dump.lose("row(s) of ICMP", line, "that do not say whether they are of an error")
                return True
            record = _record_of({name: "" if cell == "-" else cell for name, cell in row.items()})
            own_json.add(self._dump, record, ROWS_EVIDENCE)
            family = 6 if ":" in str(record["src"]) else 4
            self.runs.learn(cells, family, own_json.layout_of(record), interface="ifindex" in record)
        except (KeyError, ValueError, CtctlError) as error:
            raise DecodeError(f"a row of ctctl's that is no entry: {error}") from error
        return True


def _may_be_related(row: dict[str, str]) -> bool:
    """Whether an entry may be of an ICMP error: those have no ports."""
    return protocol_of(row["proto"]) in (ICMP, ICMPV6) and all(
        row[end].endswith(":0") for end in ("source", "destination")
    )


def _of_csv(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _of_columns(line: str) -> list[str]:
    return _BLANKS.split(line.strip())


def _record_of(row: dict[str, str]) -> dict[str, object]:
    """A row as the JSON form has it."""
    src, src_port = end_of(row["source"])
    dst, dst_port = end_of(row["destination"])
    flags = DIRECTIONS[row["direction"]] | (TUPLE_RELATED if is_related(row) else 0)
    record: dict[str, object] = {
        "map": row.get("map") or None,
        "proto": protocol_of(row["proto"]),
        "src": src,
        "src_port": src_port,
        "dst": dst,
        "dst_port": dst_port,
        "tuple_flags": flags,
        "flags": flags_of(row["flag_names"]) | (number_of(row.get("other_bits", "")) or 0),
        "node": row.get("node") or None,
    }
    record |= {name: number_of(row.get(name, "")) or 0 for name in _NUMBERS}
    record |= {
        name: number_of(row[name]) if name != "nat_addr" else row[name] or None
        for name in OPTIONAL_FIELDS
        if name in row
    }
    # Columns are the same for all versions: what none of its entries has, its table has not.
    if record.get("ifindex") is None:
        record.pop("ifindex", None)
    if row.get("remaining"):
        record["remaining"] = seconds_of(row["remaining"])
    return record
