"""Elements of conntrack listings in JSON by the million: the Cilium CLI's, ``bpftool``'s, ctctl's own.

What an element means is its careful reader's to say (``ct_text``, ``bpftool``, ``own_json``): here is only where the
values of one that it has read lie in the bytes of a table, so that those written alike go there in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from ctctl.decode.ct import KEY_SIZE, OPTIONAL_FIELDS, TUPLE_SERVICE, VALUE_SIZE, table_name
from ctctl.model.entry import Layout
from ctctl.model.tuples import TCP
from ctctl.tables.sources.ct_forms import built_keys
from ctctl.tables.sources.dump import MAX_RECORDS, Dump
from ctctl.tables.sources.json_forms import Path, Place, form_like
from ctctl.tables.sources.regular import ROOM, Form, Learned, Sample, octets
from ctctl.tables.sources.yaml_forms import yaml_form_like, yaml_work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.decode.columns import Matrix

#: IP version by the size of a key.
FAMILIES = {size: family for family, size in KEY_SIZE.items()}
#: Width, and place in a value, of its numbers behind the first four words.
_REST = {
    "lifetime": (4, 32),
    "flags": (2, 36),
    "rev_nat": (2, 38),
    "word40": (2, 40),
    "tx_flags_seen": (1, 42),
    "rx_flags_seen": (1, 43),
    "src_sec_id": (4, 44),
    "last_tx_report": (4, 48),
    "last_rx_report": (4, 52),
}


def by_table(keys: Matrix, values: Matrix, family: int) -> Iterator[tuple[str, Matrix, Matrix]]:
    """Records by the table that they lie in when nothing says: its name, their keys and values."""
    tcp = keys[:, -2] == TCP
    for mask, proto in ((tcp, TCP), (~tcp, 0)):
        if mask.any():
            yield table_name(family, proto), keys[mask], values[mask]


def has_room(dump: Dump) -> bool:
    """Whether no table of a dump can become too large by one pass."""
    return all(len(table) <= MAX_RECORDS - ROOM for table in dump.tables.values())


# ---- the Cilium CLI's

_CILIUM_KEY = {"destport": (2, 0), "sourceport": (2, 2), "nextheader": (1, 4), "flags": (1, 5)}
_CILIUM_REST = {
    "lifetime": "lifetime",
    "flags": "flags",
    "revnat": "rev_nat",
    "txflagsseen": "tx_flags_seen",
    "rxflagsseen": "rx_flags_seen",
    "sourcesecurityid": "src_sec_id",
    "lasttxreport": "last_tx_report",
    "lastrxreport": "last_rx_report",
}


#: Lists that count, as JSON and YAML spell them, and structs that a key is wrapped in.
_LISTS = ("DestAddr", "SourceAddr", "Union0", "destaddr", "sourceaddr", "union0")
_WRAPPED = "tuplekey"


def _like(sample: Sample) -> Callable[[str, Form, Place, Collection[str]], Form | None]:
    return yaml_form_like if sample.yaml else form_like


class _CiliumPlaces:
    """Where the values of an element of ``bpf ct list -o json`` go. ``taken`` are those that had a place."""

    def __init__(self, half: int, value: dict[str, Any], heads: Collection[str], word40: str) -> None:
        self.taken: set[Path] = set()
        self._half = half
        self._value = {name: (8, 8 * number) for number, name in enumerate(heads)}
        self._value.update((name, _REST[ours]) for name, ours in _CILIUM_REST.items())
        self._value[word40] = _REST["word40"]
        self._pair = "union0" in value

    def __call__(self, form: Form, path: Path, _text: str) -> bool:
        lowered = tuple(part for part in (str(part).lower() for part in path) if not part.startswith(_WRAPPED))
        found = self._of_key(lowered[1:]) if lowered[:1] == ("key",) else self._of_value(lowered[1:])
        if found is None or lowered[0] not in ("key", "value"):
            return False
        self.taken.add(lowered)
        width, place = found
        at = form.place(lowered[0]) + place
        form.decimal(".".join(lowered), width, at=at)
        return True

    def _of_key(self, path: Path) -> tuple[int, int] | None:
        if len(path) == 2 and path[0] in ("destaddr", "sourceaddr"):
            return 1, self._half * (path[0] == "sourceaddr") + int(path[1])
        found = _CILIUM_KEY.get(str(path[0])) if len(path) == 1 else None
        return (found[0], 2 * self._half + found[1]) if found is not None else None

    def _of_value(self, path: Path) -> tuple[int, int] | None:
        if self._pair and len(path) == 2 and path[0] == "union0":
            return 8, 8 * int(path[1])
        return self._value.get(str(path[0])) if len(path) == 1 else None


def cilium_like(
    dump: Dump, sample: Sample, parts: tuple[dict[str, Any], dict[str, Any]], heads: Collection[str], layout: Layout
) -> Learned | None:
    """The form of elements like this one, of whose value the first four words have the names ``heads``.

    ``parts`` are its key and value, their names in lower case.
    """
    key, value = parts
    half = len(key.get("destaddr", ()))
    if FAMILIES.get(2 * half + 6) is None or not has_room(dump) or len(sample.element) != 2:
        return None
    word40 = next((name for name in ("ifindex", "natport", "reserved4") if name in value), "")
    places = _CiliumPlaces(half, value, heads, word40)
    form = Form(strict=True).room("key", 2 * half + 6).room("value", VALUE_SIZE).literal(sample.before)
    wanted: set[Path] = {("key", name, str(at)) for name in ("destaddr", "sourceaddr") for at in range(half)}
    wanted |= {("key", name) for name in _CILIUM_KEY}
    wanted |= {("value", name) for name in value if name in {*_CILIUM_REST, word40, *heads}}
    wanted |= {("value", "union0", str(at)) for at in range(2) if "union0" in value}
    found = _like(sample)(sample.text, form, places, _LISTS)
    form.work = yaml_work(sample.text) if sample.yaml else 0
    if found is None or places.taken != wanted or {"union0", "reserved0"} <= value.keys():
        return None
    family = FAMILIES[2 * half + 6]

    def add(rows: NDArray[Any]) -> None:
        for name, keys, values in by_table(octets(rows["key"]), octets(rows["value"]), family):
            dump.add_described(name, family, layout, keys, values)

    return Learned(form, add)


# ---- as they lie


def add_octets(
    dump: Dump, name: str | None, rows: tuple[Matrix, Matrix], *, family: int, layout: Layout | None
) -> None:
    """Add records by their bytes, to the table called ``name`` or to those that they are of. ``layout``: by BTF."""
    for shown, some_keys, some_values in by_table(*rows, family):
        table = dump.table_for(len(some_keys), name or shown, family)
        if table is None:
            continue
        if not len(table) and layout is not None:
            table.layout, table.evidence = layout, "BTF"
        table.add_many(some_keys, some_values)


# ---- ctctl's own

_OWN = {"proto": (1, None), "src_port": (2, None), "dst_port": (2, None), "tuple_flags": (1, None)}
_OWN_BITS = {"ifindex": 2, "nat_port": 2}


def own_place(name: str, layout: Layout) -> tuple[int, int | None]:
    """How wide a number of ctctl's own records is, and where it is in a value, if it has a place there; width 0: it is
    none of them."""
    heads: tuple[str | None, ...] = (None, "backend_id", "packets", "bytes")
    if layout.split_counters:
        heads = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
    if name in heads:
        return 8, 8 * heads.index(name)
    if name == ("nat_port" if layout.has_nat else "ifindex"):
        return _REST["word40"]
    if name in _REST and name != "word40":
        return _REST[name]
    if name == "other_bits":
        return 2, None
    return (_OWN_BITS.get(name, 8) if name in OPTIONAL_FIELDS and name != "nat_addr" else 0), None


def own_like(dump: Dump, sample: Sample, layout: Layout) -> Learned | None:
    """The form of records like this one."""
    record = sample.element
    family = 6 if ":" in record["src"] else 4
    raw = record.get("key_hex") is not None and record.get("value_hex") is not None
    if not has_room(dump) or (raw and sample.yaml) or (raw and len(record["key_hex"]) != 2 * KEY_SIZE[family]):
        return None
    form = Form(strict=True).room("value", VALUE_SIZE).literal(sample.before)
    if raw:
        form.room("key", KEY_SIZE[family]).room("raw_value", VALUE_SIZE)
    places = _OwnPlaces(layout, raw=raw, yaml=sample.yaml)
    if _like(sample)(sample.text, form, places, ()) is None:
        return None
    form.work = yaml_work(sample.text) if sample.yaml else 0
    form.end() if sample.behind is None else form.literal(sample.behind)
    form.same("src_family", "dst_family").check("src_family", family)
    return Learned(form, OwnEntries(dump, record, family, layout, raw=raw).add)


class _OwnPlaces:
    """Where the values of a record of ``ct list -o json`` go."""

    def __init__(self, layout: Layout, *, raw: bool, yaml: bool) -> None:
        self._raw, self._yaml = raw, yaml
        self._layout = layout

    def __call__(self, form: Form, path: Path, word: str) -> bool:
        name = str(path[0]) if len(path) == 1 else ""
        if name in ("schema", "map", "node"):
            form.literal(word)
        elif name in ("src", "dst"):
            quote = word[:1] if not word[:1].isalnum() else ""
            form.literal(quote).address(name).literal(quote)
        elif name in _OWN:
            form.decimal(name, _OWN[name][0])
        elif name in _REST and name != "word40":
            width, place = _REST[name]
            form.decimal(name, width, at=form.place("value") + place, big=name == "rev_nat")
        elif name == "remaining":
            _optional(form, name, lambda: form.signed(name))
        elif name == "nat_addr":
            _optional(form, name, lambda: self._address(form, name))
        elif name in OPTIONAL_FIELDS:
            _optional(form, name, lambda: self._number(form, name))
        elif name in ("key_hex", "value_hex") and self._raw:
            size, kept = (len(word) // 2 - 1, "key" if name == "key_hex" else "raw_value")
            form.literal('"').octets(name, size, at=form.place(kept)).literal('"')
        elif name in ("key_hex", "value_hex"):
            form.literal(word)
        else:
            return False
        return True

    def _address(self, form: Form, name: str) -> None:
        if self._yaml:  # one of IPv6 has marks around it there, or might be read as a number
            form.address(name).check(f"{name}_family", 4)
        else:
            form.literal('"').address(name).literal('"')

    def _number(self, form: Form, name: str) -> Form:
        width, place = own_place(name, self._layout)
        at = None if place is None else form.place("value") + place
        return form.decimal(name, width, at=at, big=name == "nat_port")


def _optional(form: Form, name: str, given: Callable[[], object]) -> None:
    with form.maybe(f"{name}_given"):
        given()
    with form.otherwise():
        form.literal("null")


class OwnEntries:
    """Takes rows of ctctl's own records to the tables that they are of. ``evidence``: of their layout."""

    def __init__(
        self,
        dump: Dump,
        record: dict[str, Any],
        family: int,
        layout: Layout,
        *,
        raw: bool = False,
        evidence: str = "the records' fields",
    ) -> None:
        self._dump, self._family, self._layout, self._raw = dump, family, layout, raw
        self._evidence = evidence
        self._name: str | None = record.get("map")
        #: optional fields that its records have, be they null
        self._told = frozenset(name for name in OPTIONAL_FIELDS if name in record)

    def add(self, rows: NDArray[Any]) -> None:
        """Take them."""
        tcp = rows["proto"] == TCP
        if self._name is not None:
            self._add(self._name, rows)
            return
        for mask, proto in ((tcp, TCP), (~tcp, 0)):
            if mask.any():
                self._add(table_name(self._family, proto), rows[mask])

    def _add(self, name: str, rows: NDArray[Any]) -> None:
        table = self._dump.table_for(len(rows), name, self._family)
        if table is None:
            return
        first = len(table) == 0
        if first:
            table.layout, table.evidence, table.raw = self._layout, self._evidence, self._raw
            table.absent = frozenset(field for field in self._told if not rows[f"{field}_given"][0])
        given = {field for field in self._told if rows[f"{field}_given"].any()}
        table.absent &= OPTIONAL_FIELDS - given
        table.raw = table.raw and self._raw
        if self._raw:
            table.add_many(octets(rows["key"]), octets(rows["raw_value"]))
        else:
            table.add_many(self._keys(rows), self._values(rows))
        if "remaining_given" in (rows.dtype.names or ()):
            for row in rows[rows["remaining_given"] == 1][: table.room_to_show]:
                lifetime, report = _times_of(row["value"].tobytes())
                table.show(lifetime, int(row["remaining"]), report)

    def _keys(self, rows: NDArray[Any]) -> Matrix:
        return built_keys(rows, self._family, rows["tuple_flags"] & TUPLE_SERVICE != 0, rows["tuple_flags"])

    def _values(self, rows: NDArray[Any]) -> Matrix:
        """Values by their fields (``decode.ct.encode_value``)."""
        values = octets(rows["value"]).copy()
        if self._layout.split_counters and "backend_id" in self._told:
            service = rows["tuple_flags"] & TUPLE_SERVICE != 0
            values[service, 8:16] = octets(rows["backend_id"].copy())[service]
        if self._layout.has_nat and "nat_addr" in self._told:
            addresses = octets(rows["nat_addr"])
            given, four = rows["nat_addr_given"] == 1, rows["nat_addr_family"] == 4
            values[given & four, :12], values[given & four, 12:16] = 0, addresses[given & four, :4]
            values[given & ~four, :16] = addresses[given & ~four]
        return values


def _times_of(value: bytes) -> tuple[int, int]:
    """The lifetime and the last report of either side."""
    (_, at), (_, first), (_, second) = (_REST[name] for name in ("lifetime", "last_tx_report", "last_rx_report"))
    lifetime, one, other = (int.from_bytes(value[place : place + 4], "little") for place in (at, first, second))
    return lifetime, max(one, other)
