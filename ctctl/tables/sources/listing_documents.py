"""Documents in a stream (JSON, YAML, a dump of bpftool): what each is, by its beginning, and who reads it."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, TypeAlias

from ctctl.errors import DecodeError
from ctctl.tables.sources import (
    agent_text,
    bpftool,
    counter_text,
    ct_records,
    nat_elements,
    nat_text,
    own_json,
    policy_text,
)
from ctctl.tables.sources.documents import (
    ELEMENT_WORK,
    DamagedJsonError,
    Elements,
    Members,
    YamlItems,
    json_array,
    json_object,
    members_of,
)
from ctctl.tables.sources.dress import is_dressed, without_dress, without_quotes
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.listing_text import is_pair, read_pairs_json
from ctctl.tables.sources.regular import ElementRuns, Learned, Sample
from ctctl.tables.sources.shape import HEAD
from ctctl.tables.sources.stream import CHUNK, Lines, Reader, Unquoted

#: A JSON object (no array) is read whole, up to this size: as Python's objects it takes twenty times that.
MAX_DOCUMENT = 8 << 20
#: How much of a document is looked at to tell its form.
_HEAD = 4096
#: Elements of a list of no known form that are looked through for the text of listings, within ``MAX_DOCUMENT``.
_KEPT = 1000
_JSON = re.compile(r"\s*(?:\[\s*(?:$|\{|\]|\[)|\{\s*(?:$|\"|\}))")
_YAML = re.compile(r"\s*- [Kk]ey:\s*(?:$|\{)")
_HEX = re.compile(r"\s*(?:key:\s*(?:$|[0-9a-f]{2}(?:\s|$))|key \(CPU |Found \d{1,9} elements?\s*$)")
_BPFTOOL = r'\[\s*\{\s*"key"\s*:'
_OWN = '{"schema": "ctctl/'
#: An object a line, as logs are kept: what was said is in one of its fields.
_LOGGED = re.compile(r'\s*\{"[\w@.-]{1,40}": ?.{1,8000}\}\s*')
_SAID = ("log", "message", "msg", "MESSAGE", "line", "content", "text")
#: What the text of a listing has, wherever in a document it is kept.
_TOLD = re.compile(
    r"expires=\d|\"(?:Lifetime|NeedsCT)\": ?\d|XLATE_[SD]|identity=\d|sec_id=\d|" + HEAD.pattern, re.MULTILINE
)


#: Makes the form of an element that was read into a dump.
Like: TypeAlias = "Callable[[Dump, Sample], Learned | None]"


class Form(Enum):
    """How a document is written."""

    JSON = "json"
    YAML = "yaml"
    HEX = "hex"
    OWN_YAML = "own yaml"


def form_of(line: str) -> Form | None:
    """The form of the document that a line starts; None: it starts none."""
    if _JSON.match(line):
        return Form.JSON
    if _YAML.match(line):
        return Form.YAML
    if _HEX.match(line):
        return Form.HEX
    return Form.OWN_YAML if line.startswith("schema: ctctl/ct-entry/") else None


def is_listing(head: str) -> bool:
    """Whether the beginning of a document is that of a listing."""
    if (form := form_of(head.partition("\n")[0])) is not Form.JSON:
        return form is not None
    listed = _list_kind(head) or _list_kind(f"[{head}") or head.startswith(_OWN)
    return bool(listed) or re.match(_BPFTOOL, head) is not None or _is_known(head)


class Documents:
    """Reads the documents of a stream into ``dump``. ``found`` is told what listing each is."""

    def __init__(self, lines: Lines, dump: Dump, found: Callable[[str], None]) -> None:
        self._lines = lines
        self._dump = dump
        self._found = found
        self._hint = ""
        #: how many there were; a line of ctctl's own, and an element of a list by itself, is none
        self.count = 0
        #: marks of elements left out by hand; whether the last document was one of a row that may go on behind such
        self.left_out = 0
        self.goes_on = False
        #: lines of ctctl's own that were read in passes, and the length of lines that are not (``Shape.other_length``)
        self.passed = 0
        self.other_length: Callable[[], int | None] = lambda: None
        self._own = ElementRuns(functools.partial(own_json.record_like, dump))
        #: what a document of no known form was
        self.foreign = ""

    def read(self, form: Form, hint: str, *, quoted: bool) -> None:
        """Read the document that starts at the next line. ``hint`` may name its table; ``quoted``: as mails do."""
        lines, self._hint = self._lines, hint
        self.count += lines.peek(len(_OWN)) != _OWN
        self.goes_on = form is not Form.JSON
        if form is Form.JSON:
            self._json(Unquoted(lines) if quoted else lines)
        elif form is Form.YAML:
            self._found("Cilium ct list (YAML)")
            self._cilium_yaml()
        elif form is Form.HEX:
            self._found("bpftool (hex)")
            bpftool.read_hex(lines, self._dump, hint)
        else:
            self._found("ctctl ct list (YAML)")
            own_json.read_yaml(lines, self._dump)

    def _cilium_yaml(self) -> None:
        items = YamlItems(self._lines)
        runs = ElementRuns(functools.partial(ct_records.element_like, self._dump))

        def others(item: Any) -> None:
            count = runs.read_on(self._lines, lambda: items.sample(item))
            self._lines.spend(runs.work + ELEMENT_WORK * count)

        self._take(iter(items), lambda item: ct_records.add_record(self._dump, item), others)

    def _json(self, stream: Lines | Unquoted) -> None:
        head = self._lines.peek(_HEAD).lstrip()
        if stream is self._lines and is_dressed(head):
            stream, head = Unquoted(self._lines), without_dress(head)
        if stream is not self._lines:
            head = without_quotes(head)
        if head.startswith("["):
            self._array(stream, head)
        elif re.match(r'\{"schema": "ctctl/ct-entry/v1", "map"', head) or re.match(
            r'\{"schema": "ctctl/ct-entry/v1"[^\[]{0,2000}\}\s*\n', head
        ):
            self._found("ctctl ct list (JSON lines)")
            self._own_line(head)
        elif head.startswith('{"schema": "ctctl/ct-entry/v1"'):
            self._found("ctctl ct list (JSON)")
            own_json.read_document(self._lines, self._dump)
        else:
            self._object(stream, head)

    def _own_line(self, head: str) -> None:
        """A line of ctctl's own, and those that are written like it."""
        record, text = own_json.read_line(self._lines, self._dump)
        other = self.other_length()
        if record is None or other is None or not head.startswith('{"schema": "ctctl/ct-entry/v1", "map"'):
            return
        self.passed += self._own.read_on(self._lines, lambda: Sample(record, text, behind=None), other)
        self._lines.spend(2 * self._own.work)  # a line is looked at, and then read

    def _array(self, stream: Reader, head: str) -> None:
        if re.match(r"\[\s*\]", head):
            self._found("empty dump")
            if bpftool.is_dump(self._hint):
                bpftool.note_table(self._dump, self._hint)
            self._take(json_array(stream), lambda _item: None)
        elif (kind := _list_kind(head)) is not None:
            self._found(kind[0])
            self._take_array(Elements(stream), lambda item: kind[1](self._dump, item), _LIKE.get(kind[1]))
        elif re.match(_BPFTOOL, head):
            self._found("bpftool (JSON)")
            plain = re.match(r'\[\s*\{\s*"key"\s*:\s*\[', head) is None
            elements = Elements(stream, bpftool.BARE_HEX if plain else None)
            hint = self._hint
            like = functools.partial(bpftool.element_like, hint)
            self._take_array(elements, lambda item: bpftool.add_item(self._dump, hint, item), like)
        else:
            self._ignore(json_array(stream, lenient=True), "a JSON array of no known form", head)

    def _gap(self) -> None:
        self.left_out += 1

    def _take_array(self, elements: Elements, add: Callable[[Any], None], like: Like | None) -> None:
        """The elements of an array; ``like`` makes a form of one, by which those that follow are read in passes."""
        runs = ElementRuns(functools.partial(like, self._dump)) if like is not None else None

        def others(item: Any) -> None:
            if runs is not None:
                self._lines.spend(ELEMENT_WORK * runs.read_on(elements, lambda: elements.sample(item)))

        self._take(json_array(elements, left_out=self._gap), add, others)

    def _take(
        self, items: Iterator[Any], add: Callable[[Any], None], others: Callable[[Any], None] = lambda _item: None
    ) -> None:
        """Every element of a listing; one that cannot be read does not hide the others.

        ``others`` is told of each that was read: it may take some of those that follow.
        """
        try:
            for item in items:
                self._lines.spend(ELEMENT_WORK)
                try:
                    add(item)
                except DecodeError as error:
                    self._dump.lose("record(s)", str(error))
                else:
                    others(item)
        except DecodeError as error:
            self._dump.partial.append(str(error))

    def _ignore(self, items: Iterator[Any], what: str, head: str) -> None:
        self.foreign = self.foreign or what
        told, start = _TOLD.search(head) is not None, self._lines.position
        kept: list[Any] = []
        left_out = 0
        with contextlib.suppress(DecodeError):  # no JSON after all: what follows may still be lines of a listing
            for item in items:
                self._lines.spend(ELEMENT_WORK)
                if told and len(kept) < _KEPT and self._lines.position - start <= MAX_DOCUMENT:
                    kept.append(item)
                else:
                    left_out += 1
        if self._told_in(kept) and left_out:
            self._dump.partial.append(f"{left_out} element(s) of a JSON array were not looked through for listings")

    def _told_in(self, document: Any) -> bool:
        """Read the text of listings that a document of another kind keeps (what a tool reports of a command's output).

        False: it keeps none.
        """
        texts = [text for text in _texts_in(document) if _TOLD.search(text)]
        if texts:
            self._lines.spend(sum(map(len, texts)) >> 3)
            self._lines.back("\n".join(texts) + "\n")
        return bool(texts)

    def _object(self, stream: Lines | Unquoted, head: str) -> None:
        """A JSON object: a listing by pairs, one looked-up record, an agent's configuration; or of no form of ours."""
        try:
            document = json_object(stream, MAX_DOCUMENT)
        except DecodeError as error:
            self._unreadable(error, head)
            return
        if (kind := _list_kind(f"[{head}")) is not None:  # an element of a list by itself
            self._found(kind[0])
            self.count -= 1
            self.goes_on = True
            self._take(iter([document]), lambda item: kind[1](self._dump, item))
        elif agent_text.is_agent_config(document):
            self._found("agent configuration")
            agent_text.add_config(self._dump, document)
        elif isinstance(document, dict) and "key" in document and "value" in document:
            self._found("bpftool (JSON)")
            self._take(iter([document]), lambda item: bpftool.add_item(self._dump, self._hint, item))
        elif document == {} or _is_listing(document):
            self._found("Cilium listing")
            read_pairs_json(document, self._dump)
        elif agent_text.add_config_map(self._dump, document):
            self._found("config map")
        elif isinstance(document, dict) and str(document.get("schema")).startswith(("ctctl/undo/", "ctctl/gc-undo/")):
            self.foreign = self.foreign or "an undo journal: ctctl gc undo FILE brings back what it holds"
        else:
            self.foreign = self.foreign or "a JSON object that is no listing of any known form"
            self._told_in(document)

    def _unreadable(self, error: DecodeError, head: str) -> None:
        """An object that is too long, damaged or cut off: of a listing by pairs its whole members."""
        members = Members()
        if isinstance(error, DamagedJsonError):
            self._lines.spend(len(error.text) >> 2)
            members = members_of(error.text)
        pairs = _is_known(head) or _is_listing(members.found)
        if pairs and members.marks and members.end is not None and isinstance(error, DamagedJsonError):
            self._found("Cilium listing")
            read_pairs_json(members.found, self._dump)
            self.left_out += members.marks
            self._lines.back(error.text[members.end :])
            return
        self.foreign = self.foreign or str(error)
        if self._dump.kinds or pairs:
            self._found("Cilium listing")
            self._dump.partial.append(str(error))
        if pairs:
            read_pairs_json(members.found, self._dump)
        while self._lines.read(CHUNK):
            pass


def _texts_in(document: Any) -> Iterator[str]:
    """Texts of several lines in a document of JSON, and lists of lines as one text; in order."""
    left: list[Any] = [document]
    while left:
        item = left.pop()
        if isinstance(item, str):
            if "\n" in item:
                yield item
        elif isinstance(item, dict):
            left += reversed(item.values())
        elif isinstance(item, list) and item and all(isinstance(text, str) for text in item):
            yield "\n".join(item)
        elif isinstance(item, list):
            left += reversed(item)


def _add_nat(dump: Dump, item: Any) -> None:
    dump.listings.listed_nat().add_bytes(*nat_text.bytes_of_record(item))


def _list_kind(head: str) -> tuple[str, Callable[[Dump, Any], None]] | None:
    """What a JSON list is by its beginning: its name, and who reads its elements; None for what is told elsewhere."""
    if re.match(r'\[\s*\{\s*"Key"\s*:\s*\{', head):
        if '"Lifetime"' in head:
            return "Cilium ct list (JSON)", ct_records.add_record
        if '"Created"' in head:
            return "Cilium nat list (JSON)", _add_nat
    if re.match(r'\[\s*\{\s*"EndpointID"\s*:', head) or (
        re.match(r'\[\s*\{\s*"', head) and '"TrafficDirection"' in head[:2000]
    ):
        return "Cilium policy list (JSON)", policy_text.add_item
    if re.match(r'\[\s*\{\s*"Key"\s*:\s*"(?:AgentLiveness|UTimeOffset)"', head):
        return "agent status", agent_text.add_runtime_config
    if re.match(r'\[\s*\{\s*"reason"\s*:', head) and ('"direction"' in head or '"values"' in head):
        return "Cilium metrics list (JSON)", counter_text.add_item
    return None


#: Who makes the form of elements like one, by who reads one.
_LIKE: dict[Callable[[Dump, Any], None], Like] = {
    ct_records.add_record: ct_records.element_like,
    _add_nat: nat_elements.element_like,
}


def _is_known(head: str) -> bool:
    """Whether the start of a JSON object that cannot be read is one of a listing by pairs."""
    match = re.match(r'\{\s*"([^"]{3,120})"\s*:\s*\[\s*"([^"]{0,400})"', head)
    return match is not None and is_pair(match[1].strip(), match[2].strip())


def _is_listing(document: Any) -> bool:
    if not isinstance(document, dict) or not document:
        return False
    left, texts = next(iter(document.items()))
    return isinstance(texts, list) and bool(texts) and is_pair(str(left).strip(), str(texts[0]).strip())


def said_in(line: str) -> str:
    """What was said in a line of a log of objects; the line itself where that is none."""
    if _LOGGED.fullmatch(line) is None:
        return line
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        return line
    texts = [item[name] for name in _SAID if isinstance(item.get(name), str)]
    if len(texts) != 1 or "\n" in texts[0].rstrip("\n"):
        return line
    return str(texts[0]).rstrip()
