"""What a stream holds: told line by line, so that listings of all kinds may follow one another in one file.

People paste what their terminal shows: a prompt, kubectl's "Defaulted container", quotes, a heading,
one listing after the other. A line that starts a document (JSON, YAML, a dump of bpftool) hands the
stream to that document's reader, and gets it back where the document ends. Names are only hints for
table names.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from ctctl.abi import pins
from ctctl.errors import DecodeError
from ctctl.tables.sources import agent_text, counter_text, ct_text, nat_text, nf_text, policy_text
from ctctl.tables.sources.apart import Apart
from ctctl.tables.sources.ct_runs import CtRuns
from ctctl.tables.sources.ct_text import CtLines
from ctctl.tables.sources.documents import RECORD_WORK
from ctctl.tables.sources.dump import MAX_HOSTS, Dump, OtherVersionError, host_work
from ctctl.tables.sources.gaps import is_left_out, is_pager
from ctctl.tables.sources.hosts import Hosts, is_prompt
from ctctl.tables.sources.listing_documents import Documents, Form, form_of, is_listing, said_in
from ctctl.tables.sources.listing_text import HEADERS, PairLines
from ctctl.tables.sources.names_alone import NamesAlone, may_be_alone
from ctctl.tables.sources.nat_runs import NatRuns
from ctctl.tables.sources.nf_runs import ConntrackRuns
from ctctl.tables.sources.own_listings import listing_of
from ctctl.tables.sources.own_rows import OwnRows
from ctctl.tables.sources.own_runs import ROW_WORK
from ctctl.tables.sources.pages import shown
from ctctl.tables.sources.pair_members import pair_runs
from ctctl.tables.sources.passes import Listing, Passes
from ctctl.tables.sources.policy_text import PolicyLines
from ctctl.tables.sources.service_list_runs import AgentServiceRuns
from ctctl.tables.sources.service_runs import MapsRuns
from ctctl.tables.sources.service_text import MAPS_DUMP, SERVICE_HEADER, ServiceLines, add_maps_dump
from ctctl.tables.sources.shape import Shape, head_of, may_be_head
from ctctl.tables.sources.stream import EndedEarlyError, Lines, Reader, nothing_spent, utf8
from ctctl.tables.sources.unread import go_to_listing, pass_over, say_unread
from ctctl.tables.sources.values import has_any
from ctctl.tables.sources.whose import Whose
from ctctl.tables.sources.worded import HEAD, Worded, starts_document

#: Of a file without a listing in its first lines only what may be one is looked at; one that has goes on for twice as
#: many.
MAX_TALK = 20_000
#: So many lines beside one that was none after all are looked at again.
_MORE_TALK = 200
#: What it costs to try a line by itself. Where no reader knows a line, all have looked at it: eight bytes beyond the
#: first cost three, of what is looked at of any line one.
_ALONE_WORK, _SHORT = 150, 64
#: Documents (arrays, objects, dumps in hex) in one file.
MAX_DOCUMENTS = 2000
_OTHER_VERSION = "of another version than those before, so of another node: give each a file"
#: What a line of no record costs beside being read, and one whose columns stand two blanks apart.
_OTHER_WORK, _SQUEEZED_WORK = 40, 40
#: What a table's head costs beside that, where a table of another kind may have been before.
_HEADER_WORK = 40
#: What it costs to look at a line of a log of objects for what was said.
_SAID_WORK = 20
#: Errors below listings that are said each.
_MAX_ERRORS = 20
_TABLE_NAME = re.compile(r"(?<![\w-])cilium_[a-z0-9_]{3,60}")
_FENCE = re.compile(r"\s*+(?:`{3,}|~{3,})")
#: What is no damaged record however it looks: prompts, comments, headings, what kubectl and an agent say.
_TALK = re.compile(
    r"\s*+(?:[#$%❯*=-]|[^\s@:]{1,80}+[@:]\S{0,80}[#$%](?: |$)|Defaulted |command terminated|Failed to get clocksource"
    r"|Unable to |time=|level=|Warning|WARNING|Using |\.\.\.|…)"
)
#: What ``bpf policy get --all`` and ``bpf metrics list`` say of no tables and no records.
_NOTHING = re.compile(r"\s*+(?:(no maps found)|No entries found\.)\s*")
#: The command that prints an empty line behind each conntrack table: of one family, of both.
_LISTS_CT, _EMPTY = re.compile(r"\bbpf ct list\b"), (2, 4)
_ERROR = re.compile(r"\s*+Error\b:? ?")
#: What may stand between a listing and the name above it, beside a prompt and a table's head.
_BETWEEN = re.compile("|".join(pattern.pattern for pattern in (_TALK, _FENCE, _ERROR)))
_DIGIT = re.compile(r"\d")
#: Tables of which every line up to an empty one is a row.
_STRICT = ("pairs", "policy", "counters", "services", "own")
#: A line of an element of a JSON or YAML list, where its beginning is missing.
_PIECE = re.compile(r'\s*"\w{2,30}": .{0,60}|\s{2,}[a-z][a-z0-9]{2,20}:(?: \d{1,20})?')
#: Ends of lines as programs write them for others to read, and what stands around such text.
_WRITTEN_END = re.compile(r"(?:\\r)?\\n")
_WRITTEN = re.compile(r"""b?(?P<mark>['"])(?P<text>.*)(?P=mark),?""", re.DOTALL)


class NoListingError(DecodeError):
    """JSON, but of no form that is known."""


def read_content(stream: Reader, dump: Dump, hint: str = "", spend: Callable[[int], None] = nothing_spent) -> bool:
    """Read everything that is known in a stream into ``dump``. False: nothing was.

    ``hint`` is the file's name; ``spend`` is told the work, and may end it (LimitError). What is recognised
    and cannot be read is in ``dump.partial``. Raises NoListingError for JSON of no known form, DecodeError
    for a document that is known and cannot be read. Listings of another machine, by the prompts between them, are
    in ``dump.others``.
    """

    def lost_of_mail(line: str) -> None:
        dump.lose("part(s) of a mail, or the rest of one,", line, "that are not decoded")

    lines = Lines(shown(utf8(stream, spend, lost_of_mail), spend), spend, starts_document)
    part, hosts, foreign = dump, Hosts(), ""
    dump.spend = spend
    apart = Apart(dump, hosts, spend)
    try:
        while True:
            mixed = _Mixed(lines, part, hint, Whose(hosts, apart.names, _is_between))
            try:
                mixed.read()
            except EndedEarlyError as error:
                part.partial.append(str(error))
                part.broken = True
            finally:
                mixed.finish()
                dump.host = dump.host or (hosts.name if part is dump and not hosts.alone else None)
            foreign = foreign or mixed.documents.foreign
            if mixed.whose.moved is None:
                break
            if len(dump.others) >= MAX_HOSTS:
                dump.partial.append(f"listings of more than {MAX_HOSTS} machines in one file: not reading on")
                break
            hosts = mixed.whose.moved
            if hosts.alone:
                part = apart.part(hosts.name, part)
                continue
            part = dump.of_host(hosts.name)
            part.spend = spend
            spend(host_work())
    finally:
        dump.settle()  # what was lost of a mail while another machine's was read
        apart.settle()
        dump.settle_hosts()
    if not dump.kinds and foreign and not dump.broken:
        raise NoListingError(foreign)
    return bool(dump.kinds)


def _is_between(line: str) -> bool:
    """Whether a line may stand between a listing and the name above it."""
    return _BETWEEN.match(line) is not None or head_of(line) is not None or is_prompt(line)


class _Mixed:
    """A stream in whatever order its parts come. ``table`` is the two-column table that rows belong to now."""

    def __init__(self, lines: Lines, dump: Dump, hint: str, whose: Whose) -> None:
        self.lines = lines
        self.dump = dump
        self.hint = hint
        self.ct = CtLines(dump)
        self.pairs = PairLines(dump)
        self.services = ServiceLines(dump)
        self.policy = PolicyLines(dump)
        self.own = OwnRows(dump)
        self.documents = Documents(lines, dump, self._not_ct)
        self.shape = Shape(self.lines, self._alone)
        self.documents.other_length = self.shape.other_length
        self.worded = Worded(self.lines, self.shape, dump, self._alone, self._record)
        self.passes = Passes(self.lines, self.shape)
        self.ct_runs, self.nat_runs, self._maps_runs = CtRuns(self.ct), NatRuns(dump), MapsRuns(dump)
        self._connection_runs = ConntrackRuns(dump)
        self._pair_runs = pair_runs(self.pairs)
        self._agent_runs = AgentServiceRuns(self.services)
        #: the listing of the last record, where others may follow that are read in one pass
        self._listing: Listing | None = None
        self.table = ""
        #: there is something else than lines of a conntrack listing
        self.other = False
        self._blank = 0
        #: empty lines since the command that lists conntrack tables, with nothing else but what is around a listing;
        #: whether a fence was opened since; how many tables are empty by that
        self._since: int | None = None
        self._fenced = False
        self._empty = 0
        #: since a table's head there was no row; the last line was empty; each line of this table has one behind it
        self._head = self._after_blank = self._spaced = False
        #: how often records came after something else: one listing may be there twice
        self._runs = 0
        #: marks of lines left out beside records; whether the last line was a record or a head, or such a mark
        self._omitted = 0
        self._near = self._gap_before = False
        #: lines without a record since the last one
        self._idle = 0
        self._patience = MAX_TALK
        self._old = 0
        #: the first of the lines before this one that were of an element without its beginning
        self._piece = ""
        self._errors = 0
        #: what follows is of a listing of ctctl's own that is not read
        self._is_own = False
        self.whose = whose

    def read(self) -> None:
        """Everything up to the end."""
        while (line := self.shape.next()) is not None:
            if line.startswith('{"') and not line.startswith('{"schema"'):
                self.lines.spend(_SAID_WORK + (len(line) >> 4))
                line, node = said_in(line)
                self.shape.name(node)
            if not line.strip():
                self._blank_line()
            elif "\\n" in line and form_of(line) is None:
                self._written(line)
            elif self._stands_for_others(line):
                self.dump.skip(line)
                self._idle += 1
            elif self.whose.above is not None and self._moves_below(line):
                return
            elif self.shape.cut and self._alone(line) is not None:
                self.dump.found(self.dump.kind or "Cilium listing")
                self.dump.lose("line(s) cut off at the end", line)
            elif self._record(line) or self.worded.record(line):
                self.shape.record()
                self.whose.listed()
                self._since = None
                self._omitted += self._gap_before
                self._gap_before, self._near = False, True
                self._runs += self._idle > 0
                self._idle = 0
                self._spaced &= self._after_blank
                self._head = self._after_blank = False
                while self._in_pass() or self.shape.plain(self._is_row):
                    self._spaced = False
            elif self._moves(line):
                return
            elif not self._document(line) and not self.worded.document(line):
                self._no_record(line)
            if self._enough():
                return

    def _in_pass(self) -> bool:
        """Read what follows the last record in one pass, if it is of a listing of which that can be done."""
        listing, self._listing = self._listing, None
        worded = listing in (self.ct_runs, self.nat_runs, self.own.runs)
        return listing is not None and self.passes.read_on(listing, worded=worded)

    def _is_row(self, line: str) -> bool:
        """Whether a line is a record, and nothing else that it could be before that."""
        if line.startswith('{"') or "\\" in line or is_left_out(line) or is_pager(line):
            return False
        return self._record(line)

    def _moves(self, line: str) -> bool:
        """Whether a line says that what follows is of another machine."""
        if self.whose.told(line, before=bool(self.dump.kinds)):
            return True
        if form_of(line) is None:
            self.whose.look(line)
        return False

    def _moves_below(self, line: str) -> bool:
        """Whether a listing starts with this line that may be of another machine, by the name above it."""
        form = form_of(line)
        if form is None and (_TALK.match(line) is not None or may_be_alone(line)):
            return False
        if (name := self.whose.name_above()) is None:
            return False
        if form is Form.JSON:
            starts = is_listing(f"{line}\n{self.lines.peek(HEAD)}")
        else:
            starts = form is not None or self._alone(line) is not None
        if not starts or not self.whose.moves_below(name, before=bool(self.dump.kinds)):
            return False
        self.shape.give_back()
        if not self.lines.is_head:
            self.lines.back(line + ("" if self.shape.unfinished else "\n"))
        return True

    def _no_record(self, line: str) -> None:
        if self.shape.unfinished and not self._idle and self.dump.kinds and not _TALK.match(line):
            self.dump.lose("line(s) cut off at the end", line)
        self._idle += 1
        self._other(line)
        self._gap_before, self._near = False, self._head

    def _written(self, line: str) -> None:
        """Several lines in one, their ends written as two characters: what they are is read next."""
        self.shape.give_back()
        self.lines.spend(2 * RECORD_WORK)
        whole = _WRITTEN.fullmatch(line.strip())
        text = whole["text"] if whole is not None else line
        self.lines.add(_WRITTEN_END.sub("\n", text).replace("\\t", "\t") + "\n")

    def _stands_for_others(self, line: str) -> bool:
        """Whether a line is a pager's, or says that others were left out: of a listing, where one is beside it."""
        if not is_left_out(line):
            return bool(self.dump.kinds) and is_pager(line)
        self._omitted += self._near
        self._gap_before = not self._near
        return True

    def _blank_line(self) -> None:
        """The end of a table, unless every line of it has an empty one behind it, its head first."""
        self._spaced = (self._spaced or self._head) and not self._after_blank
        if not self._spaced:
            self._leave()
        self._after_blank = True
        self.whose.look("")
        self._blank += 1
        self._since = None if self._since is None else self._since + 1
        self._idle += 1
        self.ct.blank()

    def _passes(self, line: str) -> bool:
        """A line between listings: the command of one, what opens or ends it, or what says that there was none.

        Whether it is a fence.
        """
        fence = _FENCE.match(line) is not None
        if (fence and not self._fenced) or line.lstrip().startswith("Defaulted "):
            self._fenced |= fence
            self._since = None if self._since is None else 0
        elif self._since is not None:
            self._listed(ended=fence or is_prompt(line) or _TALK.match(line) is not None)
        if "bpf ct list" in line and _LISTS_CT.search(line[:HEAD]) is not None:
            self._since, self._fenced = 0, False
        return fence

    def _listed(self, *, ended: bool) -> None:
        """What the last command listed: nothing but empty lines is tables without entries."""
        if ended and self._since in _EMPTY:
            self.dump.found("Cilium ct list")
            self._empty = max(self._empty, self._since)
        self._since = None

    def _leave(self) -> None:
        """What follows is of no table with a header."""
        self.table, self._is_own = "", False
        self.pairs.end()
        self.own.end()
        self.policy.open = False

    def _enough(self) -> bool:
        """Whether reading on is in vain: a log, or something made to take time."""
        if self.dump.ended:
            return True
        if not self.dump.kinds and self.documents.count <= MAX_DOCUMENTS:
            return self._idle > self._patience and not self._passes_talk()
        if not self.dump.kinds:
            if pass_over(self.lines):
                say_unread(self.dump, f"what follows {MAX_DOCUMENTS} documents of other kinds")
            return True
        if self.documents.count <= MAX_DOCUMENTS and max(self._idle, self.dump.losses) <= 2 * MAX_TALK:
            return False
        self.dump.partial.append("too much of it is no listing: not reading on")
        return True

    def _passes_talk(self) -> bool:
        """Pass over what is no listing, up to what may be one. False: nothing more is."""
        self.shape.give_back()
        self._idle, self._patience = 0, _MORE_TALK
        return go_to_listing(self.lines)

    def finish(self) -> None:
        """What can be said only at the end."""
        dump = self.dump
        self._listed(ended=True)
        empty = not dump.kinds and self._blank and not dump.skipped and not self.documents.foreign
        if "Cilium ct list" in dump.kinds or empty:
            dump.found("Cilium ct list")
            self.ct.finish(alone=not self.other)
        self.ct.interrupt()
        for name in pins.CT_TABLES[: self._empty]:
            dump.table(name, pins.CT_FAMILY[name])
        if self.lines.overlong:
            dump.partial.append(f"{self.lines.overlong} line(s) of more than 1 MiB: not read")
        if omitted := self._omitted + self.documents.left_out:
            dump.partial.append(f"{omitted} mark(s) of lines left out by hand: what stood there is missing")
        if len(self.shape.named) > 1:
            names = ", ".join(self.shape.named)
            dump.partial.append(
                f"lines of several nodes, by the words in front ({names}): shown as one's, give each a file"
            )
        if self._old:
            dump.partial.append(f"{self._old} line(s) of a listing of before 1.6 (rx_packets=): not read")
        dump.settle()
        if self._runs > 1:
            dump.join(again=True)

    def _alone(self, line: str) -> str | None:
        """What a line is by itself, be it the head of a table; None for no record. Nothing is added."""
        self.lines.spend(_ALONE_WORK + (len(line) >> 3))
        probe = _Mixed(Lines(io.BytesIO()), Dump(), self.hint, Whose(Hosts(), NamesAlone()))
        probe.table, probe.pairs.kind, probe.pairs.group = self.table, self.pairs.kind, self.pairs.group
        probe.services.front = self.services.front
        if self.policy.open and self.dump.listings.policy:
            probe.dump.listings.policy.append(self.dump.listings.policy[-1])
            probe.policy.open = True
        if head_of(line) is not None:
            return "head"
        if not probe._record(line) or probe.dump.losses:
            return None
        tables = [bytes(table.keys + table.values) for table in probe.dump.tables.values()]
        return f"{probe.dump.listings} {probe.dump.facts} {tables}"

    # ---- lines

    def _record(self, line: str) -> bool:
        """A line that is a record by itself, of whatever listing."""
        if line.startswith('{"'):
            return False
        if len(line) <= HEAD and (
            self._translation(line) or self._entry(line) or self._connection(line) or self._service(line)
        ):
            self._leave()
            return True
        if self.policy.whose(line):
            self._not_ct("Cilium policy list")
            return True
        if self.policy.add(line):
            self._not_ct("Cilium policy list")
            self.lines.spend(RECORD_WORK + (self.policy.labels >> 7))
            self.table = "policy"
            # Behind a row: behind one of its labels it was looked at whether all are as printed.
            if self.policy.labels == 1 and (labels := self.shape.taken(policy_text.LABELS)):
                self.policy.add_labels(labels)
            return True
        if counter_text.add_line(self.dump, line):
            self._not_ct("Cilium metrics list")
            self.lines.spend(RECORD_WORK)
            self.table = "counters"
            return True
        if self.own.open and self._own_row(line):
            return True
        if self.pairs.add(line):
            self._not_ct("Cilium listing")
            self.lines.spend(RECORD_WORK + (_SQUEEZED_WORK if self.pairs.squeezed else 0) + (len(line) >> 3))
            self._listing = self._pair_runs.get(self.pairs.grown)
            return True
        if self.services.add(line, inside=self.table == "services"):
            self._not_ct("service list")
            self.lines.spend(3 * RECORD_WORK)  # a frontend and a backend, shown as one of each
            self.table = "services"
            self._listing = self._agent_runs
            return True
        if agent_text.may_say(line[:200]) and agent_text.add_line(self.dump, line[:400]):
            self._not_ct("agent status")
            self.lines.spend(RECORD_WORK // 2)
            return True
        return False

    def _entry(self, line: str) -> bool:
        if "->" not in line or "expires=" not in line:
            return False
        start = ct_text.START.search(line)
        if start is None or not line.startswith("expires=", start.end()):
            return False
        another = "->" in line[start.end() :] and ct_text.START.search(line, start.end()) is not None
        if another or (start["proto"] is None and line[: start.start()].strip()):
            return False  # several entries in one line, or the end of a word that is no protocol
        if ct_text.OLD in line:
            self._old += 1
            self.dump.found("Cilium ct list")
            return True
        if start.start() > 0 and not self.shape.learn(line[: start.start()]):
            self._interrupt()
        self.dump.found("Cilium ct list")
        self.lines.spend(RECORD_WORK)
        try:
            self.ct.add(line, start)
            self._listing = self.ct_runs
        except OtherVersionError:
            self.dump.lose("line(s)", line, _OTHER_VERSION)
        except DecodeError:
            self.dump.lose("line(s)", line)
        return True

    def _translation(self, line: str) -> bool:
        if "XLATE_" not in line:
            return False
        self._not_ct("Cilium nat list")
        self.lines.spend(RECORD_WORK)
        try:
            if line.count("XLATE_") > 1:
                raise DecodeError("several entries in one line")
            self.dump.listings.add_nat(nat_text.nat_of_line(line), text=True)
            self.shape.learn(line[: nat_text.start_of(line)])
            self._listing = self.nat_runs
        except DecodeError:
            self.dump.lose("line(s) of a nat list", line)
        return True

    def _own_row(self, line: str) -> bool:
        try:
            if not self.own.add(line):
                return False
            self._listing = self.own.runs
        except DecodeError:
            self.dump.lose("row(s) of ctctl's own table", line)
        self.dump.found("ctctl ct list (rows)")
        self.lines.spend(ROW_WORK)
        return True

    def _connection(self, line: str) -> bool:
        if "src=" not in line:
            return "conntrack v" in line and nf_text.END.search(line) is not None
        match = nf_text.LINE.match(line)
        if match is None:
            return False
        self._not_ct("conntrack list")
        self.lines.spend(3 * RECORD_WORK)  # two flows, an entry and a translation
        try:
            nf_text.add_line(self.dump, match)
            self._listing = self._connection_runs
        except DecodeError:
            self.dump.lose("line(s) of a conntrack list", line)
        return True

    def _service(self, line: str) -> bool:
        if not MAPS_DUMP.match(line):
            return False
        self._not_ct("lb/maps-dump")
        self.lines.spend(RECORD_WORK)
        try:
            add_maps_dump(self.dump, line)
            self._maps_runs.of_backends = line.lstrip().startswith("BE:")
            self._listing = self._maps_runs
        except DecodeError:
            self.dump.lose("line(s) of lb/maps-dump", line)
        return True

    def _not_ct(self, kind: str) -> None:
        self.dump.found(kind)
        self._interrupt()

    def _interrupt(self) -> None:
        """What follows is no conntrack listing, or another one."""
        self.ct.interrupt()
        self.other = True

    def _other(self, line: str) -> None:
        """A line of no record: a header, talk between listings, or something that is damaged."""
        beyond = max(len(line) - HEAD, 0)
        self.lines.spend(_OTHER_WORK + (3 * max(len(line) - beyond - _SHORT, 0) + beyond >> 3))
        if self._spaced and self._head:
            self._leave()  # an empty table, and what follows it
        self._spaced, self._after_blank = self._spaced and not self._head, False
        self._head = head_of(line) is not None
        if self._is_header(line):
            self.lines.spend(_HEADER_WORK)
            return
        if (nothing := _NOTHING.fullmatch(line)) is not None and (nothing[1] is not None or "metrics" in self.hint):
            kind = "policy" if nothing[1] is not None else "counters"
            self._not_ct(f"Cilium {kind} list")
            self.dump.listings.shown.add(kind)
        elif self.dump.kinds and (error := _ERROR.match(line)) is not None:
            self._errors += 1
            if self._errors > _MAX_ERRORS:
                self.dump.lose("line(s)", line, "that are errors, too")
                return
            above = self.whose.above
            what = "the listing" if above is None else f"what is below {above.strip()[:80]!r}"
            self.dump.partial.append(f"{what} ends with an error: {line[error.end() :][:160]}")
        elif self._is_damaged(line):
            self.dump.found(self.dump.kind or "Cilium listing")
            self.dump.lose("line(s)" if "Cilium ct list" in self.dump.kinds else "line(s) of a listing", line)
        else:
            self._interrupt()
            if self.table in _STRICT:
                self._leave()
            if "cilium_" in line and (name := _TABLE_NAME.search(line[:HEAD])) is not None:
                self.hint = name[0]  # "# bpftool map dump pinned …/cilium_ct4_global"
            if not self._is_own:
                self._piece = self._piece or (line if _PIECE.fullmatch(line) else "")
            if not self._passes(line):
                self.dump.skip(line)

    def _is_header(self, line: str) -> bool:
        """Whether a line is the head of a table, of which rows may follow."""
        may_be = may_be_head(line)
        if may_be and (header := HEADERS.match(line.lstrip())) is not None:
            self._not_ct("Cilium listing")
            self.table = "pairs"
            self.pairs.header(header)
        elif (listing := listing_of(line)) is not None:
            self._not_ct(f"ctctl {listing.command}")
            self.dump.say(listing.missing)
            self._leave()
            self._is_own = True
        elif not may_be:
            return False
        elif self.own.header(line):
            self._interrupt()
            self.table = "own" if self.own.open else ""
            if self.own.open:
                self.dump.found("ctctl ct list (rows)")
        elif policy_text.HEADER.match(line):
            self._not_ct("Cilium policy list")
            self.table = "policy"
            self.policy.header(line)
        elif counter_text.HEADER.match(line):
            self._not_ct("Cilium metrics list")
            self.table = "counters"
            self.dump.listings.shown.add("counters")
        elif SERVICE_HEADER.match(line):
            self._not_ct("service list")
            self.table, self.services.front = "services", None
            self.dump.listings.shown.add("services")
        else:
            return False
        return True

    def _is_damaged(self, line: str) -> bool:
        """Whether a line is of a listing and cannot be read: it has the fields, stands in a table, or is no text."""
        if "=" in line and " --> " not in line and sum(mark in line for mark in ct_text.MARKS) > 1:
            return True  # "a --> b" is how the agent's own cache of maps writes keys
        if has_any(line, nat_text.MARKS):
            return True
        arrow = "->" in line[:HEAD] and ct_text.START.search(line[:HEAD]) is not None
        if arrow or policy_text.MARK.match(line) is not None:
            return True
        if self.table in _STRICT and not _TALK.match(line) and not _FENCE.match(line) and _DIGIT.search(line):
            return True  # each row has a number or an address
        return bool(self.dump.kinds) and (self.shape.damaged or (not line.isprintable() and "\t" not in line))

    # ---- documents

    def _document(self, line: str) -> bool:
        """A line that starts a document: the document's reader takes the stream over, as far as that goes."""
        form = form_of(line)
        if form is None:
            return False
        quoted = self.shape.quoted
        self._runs += 1
        self.whose.listed()
        self.shape.give_back()
        if not self.lines.is_head:
            self.lines.back(line + "\n")
        before = self.lines.position
        self._interrupt()
        passed = self.documents.passed
        self.documents.read(form, self.hint, quoted=quoted)
        self._runs += self.documents.passed > passed
        self._gap_before, self._near = False, self.documents.goes_on
        if self._piece and any("JSON" in kind or "YAML" in kind for kind in self.dump.kinds):
            self.dump.lose("element(s) without their beginning", self._piece)
        self._piece = ""
        if self.lines.position <= before:  # a reader that takes nothing must not be asked for ever
            self.lines.next()
            self.dump.lose("line(s) of a listing", line)
        return True
