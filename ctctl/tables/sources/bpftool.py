"""``bpftool map dump`` of the tables that are read live: JSON (with or without BTF), plain with BTF, hex.

In JSON the raw key and value stand beside what BTF makes of them, so they are used; plain output with BTF has only the
latter (``btf_fields``), and is no JSON for its bit fields, which are bare hex numbers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ctctl.abi import pins
from ctctl.decode import services
from ctctl.decode.ct import VALUE_SIZE, layout_of_fields, table_name
from ctctl.decode.nat import VALUE_SIZE as NAT_SIZE
from ctctl.decode.policy import decode_counter, decode_policy
from ctctl.errors import DecodeError
from ctctl.tables.sources.btf_fields import fields_like, key_of, names_in, packed, value_of
from ctctl.tables.sources.ct_elements import FAMILIES, add_octets, has_room
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.octet_forms import hex_like, json_like
from ctctl.tables.sources.regular import ElementRuns, Learned, Sample
from ctctl.tables.sources.stream import EndedEarlyError, Lines
from ctctl.tables.sources.values import whole

if TYPE_CHECKING:
    from ctctl.abi.maps import Shape
    from ctctl.decode.columns import Matrix

#: A number that plain output of a map with BTF has for a bit field, and JSON has not.
BARE_HEX = re.compile(r":\s{0,8}(0x[0-9a-fA-F]{1,16})(?=\s{0,8}[,}\r\n]|$)")
_OCTETS = re.compile(r"[0-9a-f]{2}(?:[ \t]{1,4}[0-9a-f]{2}){0,63}")
_UNREADABLE = re.compile(r"[A-Z<][A-Za-z0-9 ,<>()'-]{2,80}")
_FOUND = re.compile(r"Found (\d{1,9}) elements?")
#: Records that are of no table that is read: after so many the rest is not looked at.
MAX_UNREAD = 200_000
#: No key or value of a table that is read here is longer.
MAX_RECORD = 4096
_COUNTER_STRIDE = 16
#: CPUs of a machine, at most.
_MAX_CPUS = 4096


def add_item(dump: Dump, hint: str, item: Any) -> None:
    """One element of ``-j``, ``-p`` or plain output with BTF; ``hint`` is the file's name: the content names no table.

    Records of other tables are left out. Raises DecodeError for what is no record.
    """
    if not isinstance(item, dict) or "key" not in item or "value" not in item:
        if isinstance(item, dict) and "key" in item and ("values" in item or "error" in item):
            _per_cpu_item(dump, hint, item)
            return
        raise DecodeError("an element has no key and value")
    key, value = item["key"], item["value"]
    formatted = item.get("formatted")
    names: Collection[str] | None = None
    try:
        if isinstance(key, list) and isinstance(value, list):
            raw = _octets(key), _octets(value)
            if isinstance(formatted, dict):
                names = names_in(formatted["value"])
        elif isinstance(key, dict) and isinstance(value, dict) and "daddr" in key and "nexthdr" in key:
            names = names_in(value)
            raw = key_of(key), value_of(value)
        elif item.keys() == {"key", "value"} and not isinstance(key, str) and (shapes := _shapes(hint)) is not None:
            whole_key, whole_value = packed(shapes[0], key), packed(shapes[1], value)
            if whole_key is None or whole_value is None:
                return
            raw = whole_key, whole_value
        else:
            return
    except (KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise DecodeError(f"an element is no table record: {error}") from error
    add_raw(dump, hint, *raw, names)


def element_like(hint: str, dump: Dump, sample: Sample) -> Learned | None:
    """The form of conntrack or SNAT records like this one, which was added, None: it has none."""
    key, value, formatted = (sample.element.get(name) for name in ("key", "value", "formatted"))
    if isinstance(key, dict) and isinstance(value, dict) and "daddr" in key:
        return fields_like(dump, hint, _ct_name(hint), sample)
    if not isinstance(key, list) or not isinstance(value, list):
        return None
    names = names_in(formatted.get("value")) if isinstance(formatted, dict) else None
    add = _adder(dump, hint, (len(key), len(value)), names)
    return None if add is None else json_like(sample, add)


def _adder(
    dump: Dump, hint: str, sizes: tuple[int, int], names: Collection[str] | None
) -> Callable[[Matrix, Matrix], None] | None:
    """Who takes records of these sizes by the many; None: they go one by one."""
    kind, family = _kind_and_family(hint, sizes, names)
    if kind == "nat":
        return dump.listings.listed_nat().add_many
    if kind != "ct" or not has_room(dump):
        return None
    name, layout = _ct_name(hint), layout_of_fields(names) if names is not None else None
    return lambda keys, values: add_octets(dump, name, (keys, values), family=family, layout=layout)


def _shapes(hint: str) -> tuple[Shape, Shape] | None:
    """The layouts of key and value of the other table that a file's name names. Only ctctl's own have BTF."""
    if not kind_of(hint):
        return None
    from ctctl.abi.maps import MAPS  # the layouts take long to import

    name = max((name for name in MAPS if name in hint), key=len, default=None)
    return None if name is None else MAPS[name]


def is_dump(hint: str) -> bool:
    """Whether a file's name says that it is a dump of a table, and nothing else of it: the agent has events of maps."""
    pin = _PIN.search(hint)
    return pin is not None and ("bpftool" in hint or pin[0] == hint.rpartition("/")[2].partition(".")[0])


def note_table(dump: Dump, hint: str) -> None:
    """Say that the dump shows the table that a file's name names, be it empty."""
    if pin := _PIN.search(hint):
        dump.pins[pin[0]] = None
        if kind := kind_of(pin[0]):
            dump.listings.shown.add(kind)


def _ct_name(hint: str) -> str | None:
    """The conntrack table that a file's name names."""
    return next((name for name in pins.CT_TABLES if name in hint), None)


def _per_cpu_item(dump: Dump, hint: str, item: dict[str, Any]) -> None:
    """An element of a per-CPU table, or a key that was deleted while it was read."""
    values = item.get("values")
    if not isinstance(values, list) or not isinstance(item["key"], list) or len(values) > _MAX_CPUS:
        return
    try:
        parts = [_octets(part["value"]) for part in values]
        key = _octets(item["key"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"an element is no record of a per-CPU table: {error}") from error
    _add_per_cpu(dump, hint, key, b"".join(parts))


def _octets(words: list[Any]) -> bytes:
    if len(words) > MAX_RECORD:
        raise DecodeError(f"a record of more than {MAX_RECORD} bytes")
    return bytes(int(word[:6], 16) if isinstance(word, str) else whole(word, 8) for word in words)


def add_raw(dump: Dump, hint: str, key: bytes, value: bytes, names: Collection[str] | None = None) -> None:
    """One record by its sizes: conntrack, SNAT, or a table whose name ``hint`` contains. Others are left out.

    ``names`` are the BTF field names of the value, where known. Raises DecodeError.
    """
    if max(len(key), len(value)) > MAX_RECORD:
        raise DecodeError(f"a record of more than {MAX_RECORD} bytes")
    kind, family = _kind_and_family(hint, (len(key), len(value)), names)
    if kind == "ct":
        layout = layout_of_fields(names) if names is not None else None
        name = _ct_name(hint) or table_name(family, key[-2])
        table = dump.table(name, family)
        if not len(table) and layout is not None:
            table.layout, table.evidence = layout, "BTF"
        table.add(key, value)
    elif kind == "nat":
        dump.listings.listed_nat().add_bytes(key, value)
    else:
        _add_other(dump, hint, key, value)


def _kind_and_family(hint: str, sizes: tuple[int, int], names: Collection[str] | None) -> tuple[str, int]:
    """Whether a record is one of conntrack ("ct") or of SNAT ("nat"), by the sizes of its key and value; else empty.

    An IPv6 SNAT value has the size of a conntrack one: only names, or the file's name, tell.
    """
    family = FAMILIES.get(sizes[0], 0)
    is_nat = "snat" in hint or (names is not None and "created" in names)
    if family and sizes[1] == VALUE_SIZE and not is_nat:
        return "ct", family
    return ("nat" if family and sizes[1] == NAT_SIZE[family] else "", family)


_TABLES: tuple[tuple[str, str, Callable[[bytes, bytes], object] | None], ...] = (
    ("_services_v2", "services", services.decode_service),
    ("_backends_v3", "backends", services.decode_backend),
    ("_reverse_nat", "rev_nats", services.decode_rev_nat),
    ("_source_range", "source_ranges", services.decode_source_range),
    ("_reverse_sk", "sockets", services.decode_socket_nat),
    (pins.TUNNELS, "tunnels", services.decode_tunnel),
    (pins.IPCACHE, "ipcache", services.decode_ipcache),
    (pins.ENDPOINTS, "endpoints", services.decode_endpoint),
    ("cilium_snat_v", "nat", None),
    (pins.CILIUM_METRICS, "counters", None),
)
_POLICY_OF = re.compile(rf"{pins.CILIUM_POLICY}(?:v2_)?(\d{{1,5}})(?!\d)")


def kind_of(hint: str) -> str:
    """Which listing (attribute of ``Listings``) a dump of the map that ``hint`` names shows; empty for none."""
    if _POLICY_OF.search(hint):
        return "policy"
    return next((kind for part, kind, _ in _TABLES if part in hint and "alloc_retries" not in hint), "")


def _add_other(dump: Dump, hint: str, key: bytes, value: bytes) -> None:
    try:
        if (policy := _POLICY_OF.search(hint)) is not None:
            dump.listings.policy.append(decode_policy(key, value, int(policy[1]), policy[0]))
            return
        for part, kind, decode in _TABLES:
            if part in hint and decode is not None:
                getattr(dump.listings, kind).append(decode(key, value))
                return
        dump.unknown_map = True
    except (struct.error, ValueError, IndexError) as error:
        raise DecodeError(f"a record of {hint} that is none: {error}") from error


def _add_per_cpu(dump: Dump, hint: str, key: bytes, values: bytes) -> None:
    """A record of a per-CPU table, its values of all CPUs one after the other. Raises DecodeError."""
    if kind_of(hint) == "counters":
        dump.listings.counters.append(decode_counter(key, values, _COUNTER_STRIDE))


_PIN = re.compile(r"cilium_[a-z0-9_]{2,60}")


def read_hex(lines: Lines, dump: Dump, hint: str) -> None:
    """Plain output of a map without BTF: ``key:`` and ``value:`` in hex, then ``Found N elements``.

    It ends after that line, or before a line that is none of it.
    """
    dumped = _Hex(dump, hint)
    runs = ElementRuns(dumped.like)
    note_table(dump, hint)
    found = None
    try:
        while (line := lines.next()) is not None:
            text = line.strip()
            if match := _FOUND.fullmatch(text):
                found = int(match[1])
                break
            if text and not dumped.add(text):
                lines.back(line + "\n")
                break
            dumped.keep(line)
            if lines.window_starts(b"key:") and dumped.is_whole():
                dumped.flush()
                dumped.count += runs.read_on(lines, dumped.sample)
                lines.spend(runs.work)
            if dumped.count - dump.listings.count("nat") - sum(map(len, dump.tables.values())) > MAX_UNREAD:
                dump.ended = True  # a large table that nothing here reads
                return
    except EndedEarlyError as error:
        dump.partial.append(str(error))
    dumped.flush(last=True)
    if found is None and not dumped.per_cpu:
        dump.partial.append("the dump does not end with its number of elements: it is cut off")
    elif found not in (None, dumped.count):
        dump.partial.append(f"the dump says {found} elements, it has {dumped.count}")


_PARTS = ("key", "value", "values")


def _parts() -> dict[str, bytearray]:
    return {name: bytearray() for name in _PARTS}


class _Hex:
    """The records of one hex dump, line by line. Values of a per-CPU table are gathered over its CPUs."""

    def __init__(self, dump: Dump, hint: str) -> None:
        self._dump = dump
        self._hint = hint
        self._parts = _parts()
        self._into = self._text = ""
        self._last = 0, 0
        self.count = 0
        self.per_cpu = False

    def add(self, text: str) -> bool:
        """Whether the line is one of the dump; it is taken then."""
        label, colon, rest = text.partition(":")
        if colon and label == "key":
            self.flush()
            key, value, rest = rest.partition("value:")
            self._into = "key"
            if not self._octets(key.strip()):
                return False
            if not value:
                return True
            self._into, text = "value", rest.strip()
            return self._octets(text)
        if colon and label == "value":
            self._into = "value"
            return self._octets(rest.strip())
        if label.startswith("value (CPU ") and colon:
            self.per_cpu, self._into = True, "values"
            return self._octets(rest.strip())
        if self._into == "value" and not self._parts["value"] and _UNREADABLE.fullmatch(text):
            self._parts["key"].clear()  # a table whose values user space cannot look up
            self._into = "skipped"
            return True
        return self._into in self._parts and self._octets(text)

    def _octets(self, text: str) -> bool:
        if not text:
            return True
        limit = MAX_RECORD if self._into != "values" else _MAX_CPUS * _COUNTER_STRIDE
        if _OCTETS.fullmatch(text) is None or len(self._parts[self._into]) > limit:
            return False
        self._parts[self._into] += bytes.fromhex(text)
        return True

    def keep(self, line: str) -> None:
        """The text of a record, for others that are written like it."""
        self._text = line + "\n" if line.startswith("key:") else self._text + line + "\n"

    def _sizes(self) -> tuple[int, int]:
        return len(self._parts["key"]), len(self._parts["value"])

    def is_whole(self) -> bool:
        """Whether what was read so far of a record is a whole one of a conntrack or SNAT table."""
        return bool(_kind_and_family(self._hint, self._sizes(), None)[0]) and not self._parts["values"]

    def sample(self) -> Sample:
        """The last record."""
        return Sample(None, self._text)

    def like(self, sample: Sample) -> Learned | None:
        """The form of records like the last one."""
        add = _adder(self._dump, self._hint, self._last, None)
        return None if add is None else hex_like(sample, self._last, add)

    def flush(self, *, last: bool = False) -> None:
        """Add the record that was read; one that is cut off is said."""
        key, value, values = (bytes(self._parts[name]) for name in _PARTS)
        self._parts = _parts()
        if not key:
            return
        self._last = len(key), len(value)
        self.count += 1
        try:
            if self.per_cpu:
                _add_per_cpu(self._dump, self._hint, key, values)
            elif value:
                add_raw(self._dump, self._hint, key, value)
        except DecodeError as error:
            if last:
                self._dump.partial.append(f"the last record is cut off: {error}")
            else:
                self._dump.lose("record(s)", str(error))
