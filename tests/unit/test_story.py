"""What monitor and Hubble printed, read as a packet story."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.cli.main import main
from ctctl.cli.schemas import SCHEMAS
from ctctl.errors import CtctlError, DecodeError, UsageError
from ctctl.packet.text import parse_flow_text
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.files import read_text
from ctctl.tables.sources.stream import EndedEarlyError
from ctctl.trace.show_story import STORY_SCHEMA, InOrder, story_line, story_record
from ctctl.trace.story_event import StoryEvent, StoryKind, StoryPacket
from ctctl.trace.story_files import story_sources
from ctctl.trace.story_filter import StoryFilter
from ctctl.trace.story_json import time_of
from ctctl.trace.story_text import MAX_IDLE, StoryFile
from tests.support import fuzz_targets
from tests.support.children import run_ctctl
from tests.support.hostile import lines

DATA = Path(__file__).parents[1] / "data" / "story"


def _read(data: bytes | str) -> tuple[StoryFile, list[StoryEvent]]:
    file = StoryFile(io.BytesIO(data.encode() if isinstance(data, str) else data))
    return file, list(file.read())


def _lines(name: str) -> list[str]:
    _, events = _read((DATA / name).read_bytes())
    return ["".join(text for text, _ in story_line(event)) for event in InOrder(events)]


def test_text_and_json_of_one_agent_tell_the_same_story() -> None:
    text, lines = _read((DATA / "monitor-v.txt").read_bytes())
    objects, items = _read((DATA / "monitor-j.txt").read_bytes())
    assert (text.partial, objects.partial) == ([], [])
    assert (len(lines), len(items)) == (30, 17)
    for line, item in zip(lines[:12], items[:12], strict=True):
        one, other = story_record(line), story_record(item)
        other["length"] = one["length"]
        assert one == other


FRONTS = ("cilium-7xk2p cilium-agent ", "2026-11-25T19:14:15.280Z ", "[pod/cilium-7xk2p/cilium-agent] ", "> ", "    ")


@pytest.mark.parametrize("name", ["monitor-v.txt", "monitor-j.txt", "drops.txt"])
@pytest.mark.parametrize("front", FRONTS)
def test_what_stands_around_lines_is_no_part_of_them(front: str, name: str, tmp_path: Path) -> None:
    """A pod and a container, a time, a quotation; a fence around all; PowerShell's UTF-16: also beside other files."""
    text = (DATA / name).read_text()
    whole, events = _read(text)
    fenced = f"```\n{text.rstrip()}\n```\n"
    put = "".join(f"{front}{line}\n" for line in text.splitlines())
    for form in (put.encode(), fenced.encode(), put.encode("utf-16"), put.encode("utf-16-le")):
        file, found = _read(form)
        assert (len(found), file.apart, file.missing) == (len(events), whole.apart, whole.missing)
        assert len(file.partial) == len(whole.partial)
        assert list(map(story_record, found)) == list(map(story_record, events))
    (tmp_path / "seen").write_bytes(put.encode("utf-16"))
    (tmp_path / "notes").write_text("nothing\n")
    with ExitStack() as stack:
        assert [one.name for one in story_sources([str(tmp_path)], BytesIO(), stack).files] == ["seen"]


def test_a_tunnel_and_a_socket_of_a_real_agent() -> None:
    lines = _lines("monitor-v.txt")
    assert lines[0] == "#1  from-endpoint 2958  tcp 10.61.1.101:51346 > 10.96.0.10:80 S  identity 14111 → ?"
    assert lines[-4] == (
        "#27  to-network on eth0  tcp 10.61.1.101:35684 > 10.61.2.103:8000 ."
        "  in tunnel 192.168.61.11:41075 -> 192.168.61.12:8472 vxlan  identity host → ?"
    )
    assert lines[-1] == "#30  pre-xlate-rev  tcp ? > 10.61.2.103:8000"


def test_drops_and_verdicts_of_all_forms() -> None:
    file, events = _read((DATA / "drops.txt").read_bytes())
    assert file.partial == []
    assert file.notes == ["messages about no packet are left out: 1 agent, 1 debug"]
    assert [(e.kind.value, e.verdict, e.reason, e.file, e.line) for e in events] == [
        ("drop", "dropped", "Policy denied", "bpf_lxc.c", 2110),
        ("drop", "dropped", "Stale or unroutable IP", "bpf_host.c", 711),
        ("drop", "dropped", "No tunnel/encapsulation endpoint (datapath BUG!)", "bpf_lxc.c", 1201),
        ("drop", "dropped", "Policy denied", None, None),
        ("drop", "dropped", "Unsupported L3 protocol", "bpf_lxc.c", 1368),
        ("policy", "deny", None, None, None),
        ("policy", "redirect", None, None, None),
        ("trace", None, None, None, None),
        ("trace", None, None, None, None),
        ("trace", None, None, None, None),
        ("drop", "dropped", "Policy denied", None, None),
    ]
    lines = _lines("drops.txt")
    assert lines[0].endswith("10.7.1.29:8080 S  identity 51234 → 33901  dropped: Policy denied (bpf_lxc.c:2110)")
    assert lines[5].startswith("#6  policy ingress endpoint 812  tcp")
    assert lines[10] == (
        "#11  drop endpoint 59  tcp [fd07::5]:33130 > [fd07::6]:80 F.  54 bytes"
        "  identity 19110 → 19111  dropped: Policy denied"
    )


def test_a_drop_in_json_names_its_file() -> None:
    item = {
        "type": "drop",
        "reason": "Policy denied",
        "source": 1,
        "bytes": 9,
        "srcLabel": 7,
        "dstLabel": 0,
        "dstID": 5,
    }
    for given_file, name in ((2, "bpf_lxc.c"), ("bpf_host.c", "bpf_host.c"), (99, "file 99"), (0, None)):
        _, (event,) = _read(json.dumps({**item, "Line": 12, "File": given_file}))
        assert (event.file, event.line, event.endpoint, event.src_identity) == (name, 12, 5, 7)


def test_hubble_in_the_order_of_time() -> None:
    lines = _lines("hubble.jsonl")
    assert lines[0].startswith("04:06:10.000000  node-c  policy ingress  icmp 10.7.1.60 > 10.7.1.5 type 8 code 0")
    assert lines[1] == (
        "05:06:07.500000  prod/node-a  to-stack on lxc_db  tcp 10.7.1.60:44916 > 10.7.1.5:80 S."
        "  shop/cart-0 (51234) → shop/db-0 (33901)  reply  forwarded"
    )
    assert lines[2].endswith("dropped: POLICY_DENIED (bpf_lxc.c:2110)")
    assert "dns.example (world)  dns request db.shop.svc.cluster.local.  forwarded" in lines[3]
    file, _ = _read((DATA / "hubble.jsonl").read_bytes())
    assert file.partial == ["12 event(s) that Hubble lost: not read"]


def test_objects_over_several_lines_are_read_alike() -> None:
    raw = (DATA / "hubble.jsonl").read_text()
    items = [json.loads(line) for line in raw.splitlines()]
    wide = "\n".join(json.dumps(item, indent=4) for item in items)
    assert _read(wide)[1] == _read(raw)[1]
    assert _read(json.dumps(items, indent=2).replace("\n  {", "\n{"))[1] == _read(raw)[1]


def test_what_is_not_read_is_said_once_by_name() -> None:
    good = (DATA / "monitor-v.txt").read_text().splitlines()[1]
    text = f"{good}\nnonsense\nmore of it\n-> endpoint 1 flow 0x1 , cut\n<- Request http from 0 to 1\n{{bad\n"
    file, events = _read(text)
    assert len(events) == 1
    assert file.partial == [
        "1 damaged JSON object(s): not read",
        "1 line(s) that start as an event and cannot be read: not read",
        "1 message(s) of a proxy (L7): not read",
        "2 line(s) of no known form, the first: 'nonsense'",
    ]
    file, _ = _read(good + "\nx" * (MAX_IDLE + 5))
    assert file.ended == f"{MAX_IDLE} lines without an event: not read on"
    with pytest.raises(DecodeError, match="nothing in it is an event"):
        _read("nonsense\n")


def test_order_within_a_window_and_late_ones_counted() -> None:
    events = [StoryEvent(StoryKind.TRACE, StoryPacket(), n, time) for n, time in enumerate([5, 3, None, 9, 1], 1)]
    order = InOrder(events)
    assert ([e.number for e in order], order.late) == ([5, 2, 3, 1, 4], 0)
    order = InOrder(events, window=1)
    assert [e.number for e in order] == [2, 3, 1, 5, 4]
    assert order.late == 1


def test_filters_by_flow_and_by_flags() -> None:
    _, events = _read((DATA / "monitor-v.txt").read_bytes())

    def numbers(flow: str | None = None, text: str = "", nodes: tuple[str, ...] = ()) -> list[int]:
        chosen = StoryFilter(None if flow is None else parse_flow_text(flow), Filter.parse(text), nodes)
        return [event.number for event in events if chosen(event)]

    assert numbers("tcp [fd10:61:1::101]:33130 > any") == [4, 5]
    assert numbers("ip 10.96.0.0/16 > any:51346") == [1, 2, 3]
    assert numbers("icmp fd61::/64 > any") == [12]
    assert numbers("icmp any > any") == [10, 11]
    assert numbers(text="src == 192.168.61.11 and proto == tcp") == [3, 9]
    assert numbers(text="src == fd10:61:1::/64 and dst_port == 80") == [4, 5]
    assert numbers(text="src == 10.61.1.101", nodes=("a",)) == []
    with pytest.raises(UsageError, match="a printed packet has no state"):
        StoryFilter(None, Filter.parse("state == closing")).check()


def test_records_hold_to_their_schema() -> None:
    for path in sorted(DATA.iterdir()):
        for event in _read(path.read_bytes())[1]:
            jsonschema.validate({"schema": STORY_SCHEMA, **story_record(event)}, SCHEMAS[STORY_SCHEMA])


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_it_is_no_listing_but_the_error_says_what_reads_it(path: Path) -> None:
    with pytest.raises(DecodeError, match="no listing; ctctl trace --from FILE reads it"):
        read_text(io.BytesIO(path.read_bytes()), path.name)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress((DATA / "hubble.jsonl").read_bytes()))
    assert main(["trace", "--from", str(packed), "--node", "node-a", "--protocol", "tcp", "-o", "jsonl"]) == 5
    out, err = capsys.readouterr()
    assert [json.loads(line)["number"] for line in out.splitlines()] == [2]
    assert err == "1 of 4 events\nctctl: partial data: 12 event(s) that Hubble lost: not read\n"
    assert main(["trace", "--from", str(DATA / "drops.txt"), "--count", "2"]) == 0
    assert capsys.readouterr().err == "2 events, by --count\n"
    assert main(["trace", "--from", str(tmp_path)]) == 5  # a folder: what is in it
    packed.write_bytes(packed.read_bytes()[:-40])
    assert main(["trace", "--from", str(packed)]) == 5
    assert "cut off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
        ("2026-02-31T00:00:00Z", None),
        ({"seconds": 3, "nanos": 4}, 3_000_000_004),
        ("9999-99-99T00:00:00Z", None),
        ("yesterday", None),
        (7, None),
    ],
)
def test_times(text: object, ns: int | None) -> None:
    assert time_of(text) == ns


SEEDS = [line for path in sorted(DATA.iterdir()) for line in path.read_bytes().splitlines()]


@given(st.lists(st.tuples(st.sampled_from(SEEDS), st.integers(0, 3000), st.binary(max_size=12)), max_size=8))
@settings(max_examples=120, deadline=None)
def test_damaged_lines_never_end_it_unexpectedly(parts: list[tuple[bytes, int, bytes]]) -> None:
    fuzz_targets.run("story", b"\n".join(line[:at] + noise + line[at + len(noise) :] for line, at, noise in parts))


#: jsonschema.validate() would look at the schema itself for every event: a hundred times what an event takes.
_STORY = jsonschema.Draft202012Validator(SCHEMAS[STORY_SCHEMA])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_NAMES = ["flow", "IP", "l4", "TCP", "flags", "source", "destination", "verdict", "time", "l7", "http", "dns", "file"]
_NAMES += ["event_type", "interface", "source_names", "lost_events", "type", "summary", "l3", "tunnel", "File", "tcp"]


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON | st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4)))
@settings(max_examples=120, deadline=None)
def test_objects_of_any_shape_never_end_it_unexpectedly(item: dict[str, object]) -> None:
    for kind in ({}, {"type": "trace", "observationPoint": "to-stack"}, {"type": "drop", "reason": "x"}):
        for form in ({**item, **kind}, {"flow": {**item, **kind}}):
            fuzz_targets.run("story", json.dumps(form).encode())
            file = StoryFile(io.BytesIO(json.dumps(form).encode()))
            try:
                events = list(file.read())
            except CtctlError:
                continue
            for event in events:
                _STORY.validate({"schema": STORY_SCHEMA, **story_record(event)})


COMPACT = (
    "Nov 25 19:14:31.402: default/client:54260 (ID:14111) -> default/web:8000 (ID:59775) to-endpoint FORWARDED"
    " (TCP Flags: SYN)\n"
    "Nov 25 19:14:31.403 [node-b]: default/client:54260 (ID:14111) <- default/web:8000 (ID:59775) to-endpoint FORWARDED"
    " (TCP Flags: SYN, ACK)\n"
    "Nov 25 19:14:31.404: 10.0.0.1:43210 (world) <> 10.0.0.2:80(http) (ID:59775) policy-verdict:none INGRESS DENIED"
    " (TCP Flags: SYN)\n"
    "Nov 25 19:14:31.404: 10.0.0.1:43210 (world) <> 10.0.0.2:80 (ID:59775) Policy denied DROPPED (TCP Flags: SYN)\n"
)
DICT = (
    "  TIMESTAMP: 2026-11-25T19:14:30.402Z\n     SOURCE: 10.0.0.9:54260\nDESTINATION: 10.0.0.2:8000\n"
    "       TYPE: to-endpoint\n    VERDICT: FORWARDED\n    SUMMARY: TCP Flags: SYN\n------------\n"
    "  TIMESTAMP: 2026-11-25T19:14:32.402Z\n     SOURCE: 10.0.0.1:54260\nDESTINATION: 10.0.0.2:8000\n"
    "       TYPE: Policy denied\n    VERDICT: DROPPED\n    SUMMARY: UDP\n"
)
TAB = (
    "TIMESTAMP             SOURCE           DESTINATION       TYPE          VERDICT     SUMMARY\n"
    "2026-11-25T19:14:31Z   10.0.0.1:54260   10.0.0.2:8000     to-endpoint   FORWARDED   TCP Flags: ACK\n"
)


def told(*words: str | Path) -> list[dict[str, Any]]:
    done = run_ctctl("trace", *map(str, words), "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_hubble_prints_for_people(tmp_path: Path) -> None:
    (tmp_path / "c").write_text(COMPACT)
    events = told("--from", tmp_path / "c")
    assert [(e["kind"], e["verdict"], e["tcp_flags"]) for e in events] == [
        ("trace", "forwarded", "S"),
        ("trace", "forwarded", "SA"),
        ("policy", "denied", "S"),
        ("drop", "dropped", "S"),
    ]
    # An arrow to the left: who sends stands on the right.
    assert (events[1]["name"], events[1]["state"]) == ({"src": "default/web", "dst": "default/client"}, "reply")
    assert (events[2]["dst"], events[2]["dst_port"], events[3]["reason"]) == ("10.0.0.2", 80, "Policy denied")
    (tmp_path / "d").write_text(DICT)
    first, second = told("--from", tmp_path / "d")
    assert (first["src"], first["verdict"], second["reason"], second["proto"]) == (
        "10.0.0.9",
        "forwarded",
        "Policy denied",
        17,
    )
    (tmp_path / "t").write_text(TAB)
    (one,) = told("--from", tmp_path / "t")
    assert (one["src"], one["place"], one["tcp_flags"]) == ("10.0.0.1", "to-endpoint", "A")


def test_several_files_folders_and_archives_are_one_story(tmp_path: Path) -> None:
    for node, text in (("node-a", DICT), ("node-b", TAB)):
        (tmp_path / "all" / node).mkdir(parents=True)
        (tmp_path / "all" / node / "flows.txt").write_text(text)
    (tmp_path / "all" / "notes.md").write_text("nothing of interest\n")
    expected = [("node-a", 30), ("node-b", 31), ("node-a", 32)]  # in the order of time
    by_folder = told("--from", tmp_path / "all")
    assert [(e["node"], int(e["time"][17:19])) for e in by_folder] == expected
    files = [word for node in ("node-a", "node-b") for word in ("--from", tmp_path / "all" / node / "flows.txt")]
    assert [e["time"] for e in told(*files)] == [e["time"] for e in by_folder]
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "all" / "node-a", "node-a")
        archive.add(tmp_path / "all" / "node-b", "node-b")
    assert [(e["node"], int(e["time"][17:19])) for e in told("--from", tmp_path / "all.tar.gz")] == expected


def test_a_story_is_asked_for_by_names(tmp_path: Path) -> None:
    (tmp_path / "c").write_text(COMPACT)
    assert len(told("--from", tmp_path / "c", "--ip", "default/web")) == 2
    assert len(told("--from", tmp_path / "c", "tcp client > web:8000")) == 2
    pod = {"kind": "Pod", "metadata": {"namespace": "test", "name": "server"}}
    (tmp_path / "pods.json").write_text(
        json.dumps({**pod, "status": {"podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}]}})
    )
    named = told("--from", tmp_path / "c", "--names", tmp_path / "pods.json", "--to-ip", "test/server")
    assert [e["dst"] for e in named] == ["10.0.0.2", "10.0.0.2"]
    wrong = run_ctctl("trace", "--from", tmp_path / "c", "--ip", "default/wep")
    assert (wrong.returncode, "did you mean 'default/web'" in wrong.stderr) == (2, True)


def test_a_packed_story_ends_where_its_own_bytes_no_longer_pay(tmp_path: Path) -> None:
    """A hundred thousand times the same event in 38 KB: what a file of that size may cost is read, the rest is said."""
    same = tmp_path / "monitor.txt.gz"
    same.write_bytes(gzip.compress(lines("monitor", 100_000, same=True), 9, mtime=0))
    with ExitStack() as stack:
        (file,) = story_sources([str(same)], BytesIO(), stack).files
        parts = iter(partial(file.open(stack).read, 1 << 16), b"")
        read = next(parts).count(b"\n")
        with pytest.raises(EndedEarlyError, match="repeats itself"):
            read += sum(part.count(b"\n") for part in parts)
    assert 0 < read < 40_000
    different = tmp_path / "log.gz"
    different.write_bytes(gzip.compress(lines("monitor", 20_000), 9, mtime=0))
    with ExitStack() as stack:
        (file,) = story_sources([str(different)], BytesIO(), stack).files
        parts = iter(partial(file.open(stack).read, 1 << 16), b"")
        assert sum(part.count(b"\n") for part in parts) == 20_000
