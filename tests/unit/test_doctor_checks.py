"""The doctor's checks on listings, as people have them: what it finds, what it leaves alone, what it does not know."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from ctctl.abi.constants import CT_ENTRY_LAST_RX_REPORT, CT_ENTRY_LAST_TX_REPORT, CT_ENTRY_LIFETIME
from ctctl.cli.main import main
from ctctl.doctor.diagnose import CHECKS, diagnose, examine
from ctctl.doctor.facts import Facts, gather
from ctctl.doctor.finding import Diagnosis, Finding, Severity, Verdict, Where
from ctctl.gc.preview import explanations
from ctctl.kernel.clock import monotonic_offset_ns
from ctctl.model.clock import Clock
from ctctl.model.nat import NatEntry
from ctctl.model.service import Backend, EndpointRecord, IpcacheRecord, ServiceSlot
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.facts import Fact, NodeFacts
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.open import open_source

NOW = 100_000


def test_the_page_has_every_check() -> None:
    """By the name under which ``not checked`` says it."""
    page = (Path(__file__).parents[2] / "docs" / "gc.md").read_text()
    rows = page.partition("| check | finds | needs |")[2].splitlines()[2:]
    named = [name for row in rows if row.startswith("| ") for name in row.split("|")[1].replace(" ", "").split(",")]
    assert sorted(named) == sorted(check.name for check in CHECKS)


def test_times_that_a_file_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    dump = str(Path(__file__).parents[2] / "examples" / "cilium-bugtool.tar.xz")
    for words, said in (
        (("--sample", "5s"), "--sample needs a live table: a file does not change"),
        (("--sample", "soon"), "Invalid value for '--sample': 'soon' is not a duration"),
        (("--gc-interval", "often"), "Invalid value for '--gc-interval': 'often' is not a duration"),
    ):
        assert main(["doctor", "--from", dump, *words]) == 2
        assert said in capsys.readouterr().err


def line(
    ends: str,
    *,
    left: int = 8000,
    rx: int = 0x1A,
    tx: int = 0x1A,
    flags: int = 0x10,
    rev: int = 0,
    ident: int = 77,
    back: int = 0,
) -> str:
    """A line of ``cilium bpf ct list global -d`` (1.16); ``ends`` is "TCP OUT a -> b"."""
    seen = NOW - 5
    return (
        f"{ends} expires={NOW + left} (remaining: {left} sec(s)) Packets=0 Bytes=0 RxFlagsSeen=0x{rx:02x} "
        f"LastRxReport={seen if rx else 0} TxFlagsSeen=0x{tx:02x} LastTxReport={seen if tx else 0} Flags=0x{flags:04x} "
        f"[ ] RevNAT={rev} SourceSecurityID={ident} IfIndex=0 BackendID={back} \n"
    )


HEALTHY = [line(f"TCP OUT 10.0.0.1:{4000 + i} -> 10.0.1.{i % 9}:80") for i in range(200)]
#: What a node says of the size of its tables, where the listing does not.
SIZES = NodeFacts(capacity={name: Fact(1024, "status") for name in ("cilium_ct4_global", "cilium_ct_any4_global")})


@contextlib.contextmanager
def facts_of(path: Path, lines: Iterable[str], listings: Listings | None, told: NodeFacts | None):
    file = path / "ct.txt"
    file.write_text("".join(lines))
    with open_source(str(file), SourceOptions()) as source:
        if listings is not None:
            source.listings = lambda _node: listings
        if told is not None:
            source.facts = lambda _node: told
        yield gather(source, node=None, gc_interval_s=None, where=Where(f" --from {shlex.quote(str(file))}"))


def look(
    path: Path,
    lines: Iterable[str],
    listings: Listings | None = None,
    told: NodeFacts | None = SIZES,
    **changes: object,
) -> Diagnosis:
    with facts_of(path, lines, listings, told) as facts:
        found = diagnose(replace(facts, **changes))
    for finding in found.findings:
        check_commands(finding, listings is not None)
    return found


def check_commands(finding: Finding, made_up: bool) -> None:
    """Every command that shows runs on the source; every one of ours that mends has the options it names."""
    assert finding.show, finding.check
    assert finding.mend or finding.severity is Severity.INFO, finding.check
    for command in finding.show:
        words = shlex.split(command)
        if words[0] == "ctctl":
            with contextlib.redirect_stdout(io.StringIO()):
                code = main(words[1:])
            # The made up listings are not in the file.
            assert code == 0 or (made_up and words[1] != "ct"), command
    for command in finding.mend:
        words = shlex.split(command)
        if words[0] == "ctctl":
            with contextlib.redirect_stdout(io.StringIO()):
                assert main([*words[1:], "--help"]) == 0, command


def only(found: Diagnosis) -> Finding:
    (finding,) = found.findings
    return finding


def test_healthy_needs_the_size_and_the_time(tmp_path: Path) -> None:
    assert look(tmp_path, HEALTHY).verdict is Verdict.HEALTHY
    unsized = look(tmp_path, HEALTHY, told=None)
    assert unsized.verdict is Verdict.UNKNOWN
    assert unsized.skipped["pressure"] == "the size of the table is unknown"
    untimed = look(tmp_path, [text.replace("(remaining: 8000 sec(s)) ", "") for text in HEALTHY])
    assert untimed.verdict is Verdict.UNKNOWN
    assert {"clock-mismatch", "gc-backlog"} <= untimed.skipped.keys()


def test_a_source_without_conntrack_tables_is_unknown(tmp_path: Path) -> None:
    with facts_of(tmp_path, HEALTHY, Listings(), SIZES) as facts:
        found = diagnose(Facts(facts.source, [], Listings(), has_backends=False, has_nat=False, gc_interval_s=300))
    assert found.verdict is Verdict.UNKNOWN
    assert found.checks == ()
    assert set(found.skipped) == {check.name for check in CHECKS}


@pytest.mark.parametrize(("used", "severity"), [(700, None), (800, Severity.WARNING), (1000, Severity.CRITICAL)])
def test_pressure_by_what_the_node_says_of_its_tables(tmp_path: Path, used: int, severity: Severity | None) -> None:
    lines = [line(f"TCP OUT 10.0.0.1:{1000 + i} -> 10.0.1.1:80") for i in range(used)]
    found = look(tmp_path, lines)
    assert [finding.severity for finding in found.findings] == ([severity] if severity else [])


def test_pressure_that_the_node_tells_itself(tmp_path: Path) -> None:
    told = replace(
        SIZES, pressure={"cilium_ct4_global": Fact(0.992, "metrics"), "cilium_lb4_services_v2": Fact(0.1, "metrics")}
    )
    finding = only(look(tmp_path, HEALTHY, told=told))
    assert (finding.check, finding.severity, finding.map) == ("pressure", Severity.CRITICAL, "cilium_ct4_global")
    assert "99%" in finding.summary
    assert finding.evidence["max_entries"] == 1024
    assert finding.mend == ("cilium config set bpf-ct-global-tcp-max 2048",)


def snat(count: int, remotes: int = 1, first: int = 32768) -> Listings:
    pod, egress, remote = IPv4Address("10.0.3.1"), IPv4Address("192.0.2.5"), IPv4Address("203.0.113.10")
    return Listings(
        nat_entries=[
            NatEntry(
                None, FlowTuple(6, pod, port, remote + port % remotes, 443), Direction.OUT, False, "SRC", egress, port
            )
            for port in range(first, first + count)
        ]
    )


def test_snat_ports_by_egress_and_remote(tmp_path: Path) -> None:
    finding = only(look(tmp_path, HEALTHY, snat(28232)))
    assert (finding.check, finding.severity) == ("snat-ports", Severity.CRITICAL)
    assert "192.0.2.5 -> 203.0.113.10:443 (TCP) uses 28,232 of 28,232 ports" in finding.summary
    assert "the source does not say it" in finding.summary
    assert look(tmp_path, HEALTHY, snat(28232, remotes=4)).findings == ()
    assert only(look(tmp_path, HEALTHY, snat(26000, first=33000))).severity is Severity.CRITICAL
    assert "of 32,768 ports" in only(look(tmp_path, HEALTHY, snat(28000, first=33300))).summary
    assert look(tmp_path, HEALTHY, snat(30000, first=1024)).findings == (), "half of a wide range"


VIP, POD = IPv4Address("10.96.0.9"), IPv4Address("10.0.1.7")


def services(*, count: int, slots: int, backends: int) -> Listings:
    return Listings(
        services=[
            ServiceSlot(VIP, 80, "external", 0, 5, count=count),
            *(ServiceSlot(VIP, 80, "external", 1 + i, 5, backend_id=1 + i) for i in range(slots)),
            ServiceSlot(VIP, 0, "external", 0, 0, count=0),
        ],
        backends=[Backend(1 + i, POD, 6, 8000) for i in range(backends)] + [Backend(99, POD, 6, 9000)],
    )


NEW = [line(f"TCP OUT 10.0.0.1:{5000 + i} -> 10.96.0.9:80", flags=0, left=50, rx=0, tx=2) for i in range(5)]
OPEN = [line("TCP SVC 10.0.0.1:6000 -> 10.96.0.9:80", rev=5, ident=0, back=99)]


def test_frontends_without_backends(tmp_path: Path) -> None:
    assert look(tmp_path, HEALTHY, services(count=2, slots=2, backends=2)).findings == ()
    assert look(tmp_path, HEALTHY, services(count=0, slots=0, backends=0)).findings == (), "nobody uses it"
    assert look(tmp_path, [*HEALTHY, *NEW[:1]], services(count=0, slots=0, backends=0)).findings == (), "a stray one"
    for lines in (NEW, OPEN):
        finding = only(look(tmp_path, [*HEALTHY, *lines], services(count=0, slots=0, backends=0)))
        assert (finding.check, finding.evidence["frontend"]) == ("no-backends", "10.96.0.9:80")
    finding = only(look(tmp_path, HEALTHY, services(count=2, slots=2, backends=0)))
    assert "although it should have 2" in finding.summary
    assert finding.evidence["tried"] == 0
    with facts_of(tmp_path, HEALTHY, services(count=2, slots=2, backends=0), SIZES) as facts:
        alone = only(diagnose(replace(facts, tables=[])))
    assert (alone.check, "tried" in alone.evidence) == ("no-backends", False), "nothing shows who tried"
    # Listings up to 1.16 give a slot's backend by address only.
    listed = services(count=2, slots=2, backends=0)
    listed.services = [
        replace(slot, backend_id=None, backend="10.0.1.7:8000") if slot.slot else slot for slot in listed.services
    ]
    assert look(tmp_path, [*HEALTHY, *NEW], listed).findings == ()


def test_a_backend_that_no_pod_has(tmp_path: Path) -> None:
    listings = services(count=2, slots=2, backends=2)
    listings.endpoints = [EndpointRecord(ip_address("10.0.1.5")), EndpointRecord(ip_address("10.0.1.1"), flags=1)]
    listings.ipcache = [IpcacheRecord("10.0.1.5/32", 77), IpcacheRecord("0.0.0.0/0", 2)]
    finding = only(look(tmp_path, HEALTHY, listings))
    assert (finding.check, finding.evidence["backend_ids"]) == ("backend-without-endpoint", [1, 2, 99])
    for change in (
        {"endpoints": [*listings.endpoints, EndpointRecord(POD)]},
        {"ipcache": [*listings.ipcache, IpcacheRecord(f"{POD}/32", 78, tunnel_endpoint="192.0.2.1")]},
        {"backends": [replace(backend, state="terminating") for backend in listings.backends]},
        {"endpoints": [EndpointRecord(ip_address("10.0.2.5"))]},
    ):
        assert look(tmp_path, HEALTHY, replace(listings, **change)).findings == ()
    assert "backend-without-endpoint" in look(tmp_path, HEALTHY, replace(listings, ipcache=[])).skipped


def hairpin(out: int, in_: int, *, left_in: int = 8000) -> list[str]:
    ends = "169.254.42.1:5555 -> 10.0.1.7:80"
    return [line(f"TCP OUT {ends}", flags=out, rev=17), line(f"TCP IN {ends}", flags=in_, rev=17, left=left_in)]


def test_hairpin_pairs(tmp_path: Path) -> None:
    assert look(tmp_path, [*HEALTHY, *hairpin(0x18, 0x18)]).findings == ()
    assert look(tmp_path, [*HEALTHY, *hairpin(0x1B, 0x1B, left_in=5)]).findings == ()
    split = only(look(tmp_path, [*HEALTHY, *hairpin(0x1A, 0x1B, left_in=10)]))
    assert (split.check, split.evidence["split"], split.evidence["bare"]) == ("hairpin", 1, 0)
    bare = only(look(tmp_path, [*HEALTHY, *hairpin(0x18, 0x00)]))
    assert (bare.evidence["split"], bare.evidence["bare"]) == (0, 1)
    assert len(bare.mend) == 1


def test_finished_service_entries(tmp_path: Path) -> None:
    lines = [
        line(f"TCP SVC 10.0.2.{i}:{7000 + i} -> 10.96.0.1:443", flags=0x12, rx=0, rev=1, ident=0, left=21_000 - i)
        for i in range(150)
    ]
    finding = only(look(tmp_path, [*HEALTHY, *lines]))
    assert (finding.check, finding.evidence["finished"]) == ("service-finished", 150)
    assert look(tmp_path, [*HEALTHY, *lines[:20]]).findings == ()


@pytest.mark.parametrize(
    ("left", "minor", "start"),
    [
        (21_000, 16, "normal before Cilium 1.17: upgrade or shorten bpf-ct-timeout-service-tcp;"),
        (7_000, 16, "normal before Cilium 1.17: upgrade;"),
        (21_000, 17, "not normal from Cilium 1.17 on: shorten bpf-ct-timeout-service-tcp;"),
        (7_000, 17, "not normal from Cilium 1.17 on;"),
    ],
)
def test_finished_service_entries_get_advice_that_helps(tmp_path: Path, left: int, minor: int, start: str) -> None:
    """Nobody is told to shorten a default timeout, nor to upgrade to the version that is there."""
    lines = [
        line(f"TCP SVC 10.0.2.{i}:{7000 + i} -> 10.96.0.1:443", flags=0x12, rx=0, rev=1, ident=0, left=left)
        for i in range(150)
    ]
    finding = only(look(tmp_path, [*HEALTHY, *lines], minor=minor))
    assert finding.check == "service-finished"
    assert finding.advice.startswith(start)
    assert ("bpf-ct-timeout" in " ".join(finding.mend)) == (left > 8000)


def test_replies_that_do_not_pass_are_told_apart_from_servers_that_do_not_close(tmp_path: Path) -> None:
    away = [line(f"TCP OUT 192.0.2.1:{7000 + i} -> 10.0.1.1:443", flags=0x12, rx=0, tx=0x1B) for i in range(150)]
    finding = only(look(tmp_path, [*HEALTHY, *away]))
    assert finding.check == "one-way"
    assert "replies do not pass this node" in finding.summary
    lazy = [line(f"TCP OUT 192.0.2.1:{7000 + i} -> 10.0.1.1:443", flags=0x12, rx=0x1A, tx=0x1B) for i in range(150)]
    assert only(look(tmp_path, [*HEALTHY, *lazy])).check == "half-closed"
    assert {f.check for f in look(tmp_path, [*HEALTHY, *away, *lazy[:0]]).findings} == {"one-way"}


def test_the_side_that_does_not_pass_is_shown_and_a_default_timeout_is_not_blamed(tmp_path: Path) -> None:
    ends = [f"TCP IN 192.0.2.1:{7000 + i} -> 10.0.1.1:443" for i in range(150)]
    found = only(look(tmp_path, [*HEALTHY, *(line(one, rx=0x1A, tx=0, left=7000) for one in ends)]))
    assert "tx_flags_seen == 0" in found.show[0]
    assert len(found.show) == 1
    assert found.mend == ("ip route get 10.0.1.1",)
    assert "bpf-ct-timeout" not in found.advice
    long = only(look(tmp_path, [*HEALTHY, *(line(one, rx=0x1A, tx=0, left=21_000) for one in ends)]))
    assert "bpf-ct-timeout-regular-tcp 2h13m20s" in long.mend[0]


def test_an_answer_that_nobody_acknowledged_is_an_answer(tmp_path: Path) -> None:
    def found(rx: int) -> str:
        ends = (f"TCP OUT 192.0.2.1:{7000 + i} -> 10.0.1.1:443" for i in range(150))
        lines = [line(one, rx=rx, tx=2, flags=0, left=50) for one in ends]
        return next(f.summary for f in look(tmp_path, [*HEALTHY, *lines]).findings if f.check == "syn-only")

    assert "never got an answer to their SYN" in found(0)
    assert "0 without an answer, 150 with one that nobody acknowledged" in found(0x12)


@pytest.mark.parametrize("hz", [100, 250, 1000])
def test_limits_in_seconds_are_seconds_in_every_clock(hz: int, tmp_path: Path) -> None:
    """A table in jiffies has the same findings, with the same times in them, as one in seconds."""
    kinds = {
        "one-way": [line(f"TCP OUT 10.0.{n >> 8}.{n & 255}:9 -> 1.1.1.1:443", left=7000, rx=0) for n in range(300)],
        "held": [line(f"TCP SVC 10.0.{n >> 8}.{n & 255}:9 -> 1.1.1.1:443", left=600, flags=0x12) for n in range(300)],
        "late": [line(f"TCP OUT 10.0.{n >> 8}.{n & 255}:9 -> 1.1.1.1:443", left=-500 if n else 10) for n in range(300)],
    }
    for name, lines in kinds.items():
        (tmp_path / "ct.txt").write_text("\n".join(lines))
        with open_source(str(tmp_path / "ct.txt"), SourceOptions(now=NOW)) as source:
            ((_, plain),) = examine(source, gc_interval_s=300)
            (table,) = source.tables
            table.clock, table.now = Clock(hz), Clock(hz).units(NOW)
            ((keys, values),) = table.read()
            values = values.copy()
            for at in (CT_ENTRY_LIFETIME, CT_ENTRY_LAST_TX_REPORT, CT_ENTRY_LAST_RX_REPORT):
                times = values[:, at : at + 4].copy().view("<u4")
                times[:] = [[Clock(hz).units(int(time))] for (time,) in times]
                values[:, at : at + 4] = times.view("u1")
            source.tables = [replace(table, read=lambda keys=keys, values=values: iter([(keys, values)]))]
            ((_, turned),) = examine(source, gc_interval_s=300)
            explained, _ = explanations(source)
            left = {one.least_s for one in explained}
            assert name == "late" or max(abs(one - (600 if name == "held" else 7000)) for one in left) < 4
        assert bool(plain.findings) is (name == "one-way")
        assert [(one.check, one.advice, one.mend) for one in turned.findings] == [
            (one.check, one.advice, one.mend) for one in plain.findings
        ], name


def test_commands_for_tables_without_times_have_none(tmp_path: Path) -> None:
    with facts_of(tmp_path, OPEN, services(count=0, slots=0, backends=0), SIZES) as facts:
        timed = replace(facts, where=facts.where._replace(time=" --now 99990"))
        (found,) = (f for f in diagnose(timed).findings if f.check == "no-backends")
    assert [("--now" in command, command.split()[1]) for command in found.show] == [(False, "lb"), (True, "ct")]


def test_identity_0_is_only_of_pods_and_of_what_comes_in(tmp_path: Path) -> None:
    host = [
        line("TCP OUT 192.168.49.3:57686 -> 192.168.49.2:8443", ident=0),
        line("TCP OUT 10.0.1.1:9 -> 10.0.2.2:4240", ident=0),
    ]
    assert look(tmp_path, [*HEALTHY, *host]).findings == ()
    strange = line("TCP IN 10.0.9.9:57686 -> 10.0.1.7:80", ident=0)
    assert only(look(tmp_path, [*HEALTHY, strange])).evidence["sources"] == {"10.0.9.9": 1}
    own = Listings(ipcache=[IpcacheRecord("10.0.9.9/32", 1)])
    assert look(tmp_path, [*HEALTHY, strange], own).findings == ()
    pod = Listings(endpoints=[EndpointRecord(ip_address("10.0.1.1"), identity=77)])
    assert only(look(tmp_path, [*HEALTHY, *host], pod)).evidence["entries"] == 1


def test_shadowed_after_the_fact(tmp_path: Path) -> None:
    ends = "[fd00::1]:45948 -> [fd00::2]:8080".replace("[", "").replace("]", "")
    dead = line(f"TCP OUT {ends}", flags=0x33, rev=101, left=-37)
    reset = line(f"TCP IN {ends}", flags=0x13, rx=0x06, tx=0x12, left=-37)
    finding = only(look(tmp_path, [*HEALTHY, dead, reset]))
    assert (finding.check, finding.evidence["reset"]) == ("shadowed", 1)
    closed = line(f"TCP IN {ends}", flags=0x13, rx=0x1B, tx=0x1B, left=-37)
    assert look(tmp_path, [*HEALTHY, dead, closed]).findings == ()


def test_a_time_namespace_and_a_shifted_clock(tmp_path: Path) -> None:
    offsets = tmp_path / "timens_offsets"
    offsets.write_text("monotonic          -3600         0\nboottime               0         0\n")
    assert monotonic_offset_ns(offsets) == -3600 * 10**9
    assert monotonic_offset_ns(tmp_path / "none") == 0
    found = look(tmp_path, HEALTHY, live=True, clock_offset_s=-3600)
    assert only(found).check == "time-namespace"
    assert found.skipped["gc-backlog"] == "the table's clock is another one"
    with open_source(str(tmp_path / "ct.txt"), SourceOptions(now=NOW + 30 * 3600)) as source:
        ((_, late),) = examine(source, gc_interval_s=300)
    assert {finding.check for finding in late.findings} == {"clock-mismatch"}
