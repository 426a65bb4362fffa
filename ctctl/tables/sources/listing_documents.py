"""Documents in a stream (JSON, YAML, a dump of bpftool): what each is, by its beginning, and who reads it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Any

from ctctl.errors import DecodeError
from ctctl.tables.sources import agent_text, bpftool, ct_records, own_json
from ctctl.tables.sources.documents import (
    ELEMENT_WORK,
    DamagedJsonError,
    Elements,
    Members,
    TooLongError,
    YamlItems,
    json_array,
    json_object,
    members_of,
)
from ctctl.tables.sources.dress import as_printed, is_dressed, without_dress, without_quotes
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.enclosed import CONNECTIONS, TOLD, Enclosed, encloses_rows, kept_in, node_of
from ctctl.tables.sources.hosts import heading_of
from ctctl.tables.sources.json_kinds import (
    BPFTOOL,
    CUT_PAIRS,
    Like,
    cut_kind,
    is_known,
    is_listing_by_pairs,
    is_rows,
    list_kind,
)
from ctctl.tables.sources.listing_text import PairLines
from ctctl.tables.sources.own_listings import listing_of
from ctctl.tables.sources.pair_members import read_pairs
from ctctl.tables.sources.regular import ElementRuns, Sample
from ctctl.tables.sources.stream import EndedEarlyError, Lines, Reader, Unquoted, text_of
from ctctl.tables.sources.unread import pass_over, reads_as_listing, say_unread

#: A JSON object (no array) is read whole, up to this size: as Python's objects it takes twenty times that.
MAX_DOCUMENT = 8 << 20
#: How much of a document is looked at to tell its form.
_HEAD = 4096
#: Elements of a list of no known form that are looked through for the text of listings, within ``MAX_DOCUMENT``.
_KEPT = 1000
#: What an element costs that is read by itself.
_BY_ITSELF_WORK = 4 * ELEMENT_WORK
#: What one costs beside its bytes that is of no known form: it is looked at for a listing's marks.
_IGNORED_WORK = 8
#: Names that are said of those that a document gives its lists.
_SHOWN_NAMES = 5
#: How a document starts, its form the name of the group: one pattern, for every line is asked.
_START = re.compile(
    r"\s*+(?:(?P<json>\[\s*(?:$|\{|\]|\[)|\{\s*(?:$|[\"\u201c-\u201f\u2033\uff02]|\}))|(?P<yaml>- [Kk]ey:\s*(?:$|\{))"
    r"|(?P<hex>key:\s*(?:$|[0-9a-f]{2}(?:\s|$))|key \(CPU |Found \d{1,9} elements?\s*$))"
    r"|(?P<own_yaml>schema: ctctl/ct-entry/)"
)
_OWN = '{"schema": "ctctl/'
#: An object a line, as logs are kept: what was said is in one of its fields.
_LOGGED = re.compile(r'\s*+\{"[\w@.-]{1,40}": ?.{1,8000}\}\s*')
_SAID = ("log", "message", "msg", "MESSAGE", "line", "content", "text")


class Form(Enum):
    """How a document is written."""

    JSON = "json"
    YAML = "yaml"
    HEX = "hex"
    OWN_YAML = "own_yaml"


_FORMS = {form.value: form for form in Form}


def form_of(line: str) -> Form | None:
    """The form of the document that a line starts; None: it starts none."""
    start = _START.match(line)
    return _FORMS[start.lastgroup or ""] if start is not None else None


def is_listing(head: str) -> bool:
    """Whether the beginning of a document is that of a listing."""
    if (form := form_of(head.partition("\n")[0])) is not Form.JSON:
        return form is not None
    listed = list_kind(head) or list_kind(f"[{head}") or head.startswith(_OWN)
    return bool(listed) or re.match(BPFTOOL, head) is not None or is_known(head)


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
        #: of the lists within one document, by what they are: there may be many of them, each short
        self._shared: dict[str, ElementRuns] = {}
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
        self._lines.spend(self._own.work)

    def _array(self, stream: Reader, head: str) -> None:
        if re.match(r"\[\s*\]", head):
            self._found("empty dump")
            if bpftool.is_dump(self._hint):
                bpftool.note_table(self._dump, self._hint)
            self._take(json_array(stream), lambda _item: None)
        elif not self._rows(stream, head):
            if (listing := listing_of(head)) is not None:
                self._found(f"ctctl {listing.command}")
                self._dump.say(listing.missing)
                self._take(json_array(stream), lambda _item: None)
            elif encloses_rows(head, self._lines.spend):
                self._enclosed(stream)
            else:
                self._ignore(Elements(stream), "a JSON array of no known form", head)

    def _rows(self, stream: Reader | Elements, head: str) -> bool:
        """Read a list of rows; False: it is none."""
        if (kind := list_kind(head)) is not None:
            self._found(kind.name)
            elements = stream if isinstance(stream, Elements) else Elements(stream)
            self._take_array(elements, lambda item: kind.add(self._dump, item), kind.like, kind.name)
        elif re.match(BPFTOOL, head):
            self._found("bpftool (JSON)")
            plain = re.match(r'\[\s*\{\s*"key"\s*:\s*\[', head) is None
            elements = stream if isinstance(stream, Elements) else Elements(stream, bpftool.BARE_HEX if plain else None)
            hint = self._hint
            like = functools.partial(bpftool.element_like, hint)
            self._take_array(elements, lambda item: bpftool.add_item(self._dump, hint, item), like, hint)
        else:
            return False
        return True

    def _enclosed(self, stream: Reader) -> None:
        """A document with lists of rows in it, however long they are."""
        elements = Elements(stream)
        self._shared = {}
        names: dict[str, list[str]] = {}

        whole, last = self._dump, ""

        def read_rows(head: str, name: str, node: str | None) -> bool:
            nonlocal last
            by_pairs = head[0] == "{" and is_known(head)
            if not by_pairs and not is_rows(head):
                return False
            kind = list_kind(head)
            called = "Cilium listing" if by_pairs else kind.name if kind is not None else "bpftool"
            if node is not None and node != last:
                last, self._shared = node, {}  # what was learnt of elements adds them to another node's
            self._dump = whole if node is None else whole.of_node(node)
            try:
                self._dump.found(called)
                if by_pairs:
                    marks, called = read_pairs(elements, self._dump, self._lines.spend)
                    self.left_out += marks
                else:
                    self._rows(elements, head)
            finally:
                part, self._dump = self._dump, whole
            if part is not whole:
                part.settle()
            if node is None:
                names.setdefault(called, []).append(name)
            return True

        enclosed = Enclosed(elements, read_rows, self._lines.spend)
        broken = len(self._dump.partial)
        try:
            enclosed.read()
        except DecodeError as error:
            if len(self._dump.partial) == broken:
                self._dump.partial.append(str(error))
        for kind, found in names.items():
            self._say_shared(kind, found)
        self._kept_in(enclosed.rest)

    def _say_shared(self, kind: str, names: Collection[str]) -> None:
        """Several lists of one kind may be of several nodes, whatever the members that they are in are called."""
        if len(names) > 1:
            shown = sorted({name[:40] for name in names if name})
            more = ", …" if len(shown) > _SHOWN_NAMES else ""
            called = f": {', '.join(shown[:_SHOWN_NAMES])}{more}" if shown else ""
            self._dump.say(
                f"a JSON document with several lists ({kind}{called}): shown as one node's; if they are not, give each"
                " a file"
            )

    def _gap(self) -> None:
        self.left_out += 1

    def _take_array(self, elements: Elements, add: Callable[[Any], None], like: Like | None, name: str) -> None:
        """The elements of an array; ``like`` makes a form of one, by which those that follow are read in passes."""
        runs = None
        if like is not None:
            shared = self._shared if elements.held else {}
            runs = shared.setdefault(name, ElementRuns(functools.partial(like, self._dump)))

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
                self._lines.spend(_BY_ITSELF_WORK)
                try:
                    add(item)
                except DecodeError as error:
                    self._dump.lose("record(s)", str(error))
                else:
                    others(item)
        except DecodeError as error:
            self._dump.partial.append(str(error))

    def _ignore(self, elements: Elements, what: str, head: str) -> None:
        """A list of no known form: read are the listings that its elements keep."""
        self.foreign = self.foreign or what
        told, start = TOLD.search(head) is not None, self._lines.position
        kept: list[Any] = []
        left_out = 0
        try:
            for item in json_array(elements, lenient=True):
                self._lines.spend(_IGNORED_WORK + (len(elements.last) >> 5))
                told = told or TOLD.search(elements.last) is not None
                if told and len(kept) < _KEPT and self._lines.position - start <= MAX_DOCUMENT:
                    kept.append(item)
                else:
                    left_out += reads_as_listing(elements.last)
        except EndedEarlyError:
            if not kept and (cut := cut_kind(head)) is not None:
                self._found("Cilium listing (JSON)")
                self._dump.partial.append(f"{cut}, cut off within its first element")
        except TooLongError as error:
            if reads_as_listing(error.text):
                say_unread(self._dump, str(error))
        except DecodeError:  # no JSON after all: what follows may still be lines of a listing
            pass
        self._kept_in(kept)
        if left_out:
            say_unread(self._dump, f"{left_out} element(s) of a JSON array")

    def _kept_in(self, document: Any) -> bool:
        """Read the listings that a document of another kind keeps (what a tool reports of a command's output).

        False: it keeps none.
        """
        found = list(kept_in(document))
        by_node: dict[str | None, list[str]] = {None: []}  # what is of no node is not of the one before it
        for kept in found:
            by_node.setdefault(kept.node, []).append(kept.text)
        parts: list[str] = []
        for node, texts in by_node.items():
            several = len(by_node) > 2 or by_node[None] or self._dump.others or self._dump.host not in (None, node)
            if node is not None and several:
                parts.append(heading_of(node))
            parts += texts
        entries = {
            kept.text.strip(): kept.member for kept in found if CONNECTIONS.search(kept.text) and kept.node is None
        }
        self._say_shared("conntrack entries", [*entries.values()])
        if found:
            self._lines.spend(sum(map(len, parts)) >> 3)
            self._lines.add("\n".join(parts) + "\n")
        return bool(found)

    def _object(self, stream: Lines | Unquoted, head: str) -> None:
        """A JSON object: a listing by pairs, one looked-up record, an agent's configuration; or of no form of ours."""
        if is_known(head):
            self._found("Cilium listing")
            self.left_out += read_pairs(Elements(stream), self._dump, self._lines.spend)[0]
            return
        if list_kind(f"[{head}") is None and encloses_rows(head, self._lines.spend):
            self._enclosed(stream)
            return
        try:
            document = json_object(stream, MAX_DOCUMENT)
        except DecodeError as error:
            self._unreadable(error, head)
            return
        if (kind := list_kind(f"[{head}")) is not None:  # an element of a list by itself
            self._found(kind.name)
            self.count -= 1
            self.goes_on = True
            self._take(iter([document]), lambda item: kind.add(self._dump, item))
        elif agent_text.is_agent_config(document):
            self._found("agent configuration")
            agent_text.add_config(self._dump, document)
        elif isinstance(document, dict) and "key" in document and "value" in document:
            self._found("bpftool (JSON)")
            self._take(iter([document]), lambda item: bpftool.add_item(self._dump, self._hint, item))
        elif document == {} or is_listing_by_pairs(document):
            self._found("Cilium listing")
            self._pairs(document)
        elif agent_text.add_config_map(self._dump, document):
            self._found("config map")
        elif isinstance(document, dict) and str(document.get("schema")).startswith(("ctctl/undo/", "ctctl/gc-undo/")):
            self.foreign = self.foreign or "an undo journal: ctctl gc undo FILE brings back what it holds"
        elif (listing := listing_of(head)) is not None:
            self._found(f"ctctl {listing.command}")
            self._dump.say(listing.missing)
        elif isinstance(document, dict) and str(document.get("schema")).startswith("ctctl/"):
            self.foreign = self.foreign or (
                f"{str(document['schema'])[:40]} of ctctl: of its own JSON only that of ct list is read back"
            )
        else:
            self.foreign = self.foreign or "a JSON object that is no listing of any known form"
            self._kept_in(document)

    def _pairs(self, document: dict[str, Any]) -> None:
        """The rows of a listing by pairs that was read whole."""
        rows = PairLines(self._dump)
        for left, texts in document.items():
            rows.add_member(left, texts)

    def _unreadable(self, error: DecodeError, head: str) -> None:
        """An object that is too long, damaged or cut off: of a listing by pairs its whole members."""
        members = Members()
        if isinstance(error, DamagedJsonError):
            self._lines.spend(len(error.text) >> 2)
            members = members_of(error.text)
        pairs = is_known(head) or is_listing_by_pairs(members.found)
        if not pairs and CUT_PAIRS.fullmatch(head) is not None:
            self._found("Cilium listing")
            self._dump.partial.append("a listing by pairs, cut off within its first element")
            return
        if pairs and members.marks and members.end is not None and isinstance(error, DamagedJsonError):
            self._found("Cilium listing")
            self._pairs(members.found)
            self.left_out += members.marks
            self._lines.back(error.text[members.end :])
            return
        self.foreign = self.foreign or str(error)
        if self._dump.kinds or pairs:
            self._found("Cilium listing")
            self._dump.partial.append(str(error))
        if pairs:
            self._pairs(members.found)
        told = isinstance(error, TooLongError) and reads_as_listing(error.text)
        if pass_over(self._lines) or told:
            say_unread(self._dump, str(error))


def _text_of(value: Any) -> str | None:
    """What was said: a text, or the numbers of its bytes, which journald writes where one of them cannot be printed."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(type(byte) is int and 0 <= byte < 256 for byte in value):
        return as_printed(text_of(bytes(value)))
    return None


def said_in(line: str) -> tuple[str, str | None]:
    """What was said in a line of a log of objects, and on which node; the line itself where that is none."""
    if _LOGGED.fullmatch(line) is None:
        return line, None
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        return line, None
    texts = [text for name in _SAID if (text := _text_of(item.get(name))) is not None]
    kept = list(kept_in(item)) if not texts else []
    if len(kept) == 1:
        texts = [kept[0].text]
    if len(texts) != 1 or "\n" in texts[0].rstrip("\n"):
        return line, None
    text = str(texts[0]).rstrip()
    return text, (kept[0].node if kept else node_of(item)) if TOLD.search(text) else None
