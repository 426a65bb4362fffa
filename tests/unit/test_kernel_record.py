"""What the booted kernels say: kept line by line, gone on with, and told on the page for what it is."""

from __future__ import annotations

import json
import struct
from collections.abc import Container
from pathlib import Path

import pytest

from ctctl.btf import sections
from ctctl.btf.types import BtfType, Kind, Member
from ctctl.kernel.object import OBJECTS
from tests.kernels import report
from tests.kernels.complexity import FIGURES, LIMIT, cases
from tests.kernels.guest import APART, LAB, STEPS, TESTS, XDP, chosen
from tests.kernels.record import ALL, Record, join, plain, read, substance
from tests.kernels.vectors import VECTORS, name_of

ROOT = Path(__file__).resolve().parents[2]
FILE = TESTS[0]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "6.1.record")


def test_what_failed_is_tried_again_and_what_is_said_last_counts(record: Record) -> None:
    record.add("tests", "a")
    record.add("tests", "b", failed=["no"])
    assert record.said("tests") == {"a": {}}
    record.add("tests", "b")
    assert record.said("tests").keys() == {"a", "b"}
    assert Record(record.path).said("tests").keys() == {"a", "b"}


def test_a_line_that_was_cut_off_is_not_counted(record: Record) -> None:
    record.add("vectors", "whole")
    with record.path.open("a", encoding="utf-8") as file:
        file.write('{"step": "vectors", "na')
    assert read(record.path)[1] == {"vectors": {"whole": {}}}


def test_a_record_of_another_kernel_is_begun_anew(record: Record) -> None:
    record.add("vectors", "old")
    record.path.write_text(record.path.read_text(encoding="utf-8").replace('"release": "', '"release": "0'), "utf-8")
    assert Record(record.path).said("vectors") == {}


def test_what_is_of_other_objects_is_not_counted(record: Record) -> None:
    record.add("figures", "of gc", ["gc"])
    record.add("figures", "of writer", ["writer"])
    record.add("vectors", "of all", ALL)
    gone = record.path.read_text(encoding="utf-8").replace('["gc"], "digest": "', '["gc"], "digest": "0')
    record.path.write_text(gone.replace('"objects": ["ctscan", ', '"objects": ["renamed", '), "utf-8")
    assert record.said("figures").keys() == {"of writer"}
    assert record.said("vectors") == {}


def test_what_a_debugger_is_told_of_an_object_does_not_count() -> None:
    image = (OBJECTS / "gc.bpf.o").read_bytes()
    path = b"bpf/gc.bpf.c"
    assert path in image
    assert substance(image.replace(path, b"ask/gc.tpf.c")) == substance(image)


@pytest.mark.parametrize(
    ("before", "after"),
    [("syscall", None), ("license", None), (".maps", None), (".relsyscall", None), (".BTF", b"cfg_gc_recheck")],
    ids=["an instruction", "data", "a map", "a relocation", "a type"],
)
def test_what_is_loaded_counts(before: str, after: bytes | None) -> None:
    image = (OBJECTS / "gc.bpf.o").read_bytes()
    (contents,) = [contents for name, contents in sections(image) if name == before]
    old = contents if after is None else after
    new = bytes([old[0] ^ 1]) + old[1:]
    assert old in contents
    assert substance(image.replace(old, new)) != substance(image)


def test_what_a_loader_fits_to_the_kernel_counts() -> None:
    image = (OBJECTS / "proberet.bpf.o").read_bytes()
    (extension,) = [contents for name, contents in sections(image) if name == ".BTF.ext"]
    length, start = struct.unpack_from("<I", extension, 4)[0], struct.unpack_from("<I", extension, 24)[0]
    # After the record size, the section's name and its count: the offset of the first instruction.
    at = length + start + 12
    other = extension[:at] + bytes([extension[at] ^ 8]) + extension[at + 1 :]
    assert substance(image.replace(extension, other)) != substance(image)


def test_objects_say_nothing_of_where_they_were_compiled() -> None:
    assert [name for name in ALL if bytes(ROOT) in (OBJECTS / f"{name}.bpf.o").read_bytes()] == []


def test_what_a_guest_said_over_a_line_is_added_to_what_it_went_on_from(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.add("vectors", "before")
    lines = tmp_path / "lines"
    inside = tmp_path / "inside"
    inside.write_text(record.path.read_text(encoding="utf-8"), "utf-8")
    device = tmp_path / "device"
    monkeypatch.setenv("CTCTL_RECORD_COPY", str(device))
    guest, sent = Record(inside), []
    for say in (guest.begin, lambda: guest.add("vectors", "then"), lambda: guest.add("vectors", "last")):
        say()
        sent.append(device.read_text(encoding="utf-8").replace("\n", "\r\n"))
    lines.write_text("".join(sent) + '{"step": "vec', "utf-8")
    join(record.path, lines)
    assert read(record.path)[1]["vectors"].keys() == {"before", "then", "last"}
    join(record.path, tmp_path / "absent")
    assert read(record.path)[1]["vectors"].keys() == {"before", "then", "last"}


def test_another_kernel_that_was_booted_begins_a_record(record: Record, tmp_path: Path) -> None:
    record.add("vectors", "before")
    lines = tmp_path / "lines"
    lines.write_text('{"release": "another"}\n{"step": "vectors", "name": "new"}\n', "utf-8")
    join(record.path, lines)
    assert read(record.path) == ("another", {"vectors": {"new": {}}})


def told(record: Record) -> list[str]:
    """The page's lines about one kernel."""
    record.add("features", "tcx", available=False, used_for="attach", detail="no TCX")
    return report.page(report.outcomes(record.path.parent)).splitlines()


def test_a_step_that_was_not_run_is_said_not_to_have_been(record: Record) -> None:
    lines = told(record)
    assert "| conformance vectors | not run |" in lines
    assert f"- {read(record.path)[0]}: {len(VECTORS)} conformance vectors of {len(VECTORS)}." in lines
    assert f"- {read(record.path)[0]}: {len(VECTORS)} conformance vectors, XDP first of {len(VECTORS)}." in lines
    assert f"- {read(record.path)[0]}: the lab, geneve devices." in lines
    assert any(line.startswith("| `lxc-from_container` | not measured |") for line in lines)


def test_a_step_that_was_run_in_part_says_what_is_missing(record: Record) -> None:
    record.add("tests of a file", FILE, tests=4)
    record.add("tests", f"{FILE}::one")
    record.add("tests", f"{FILE}::two", skipped="this kernel has no TCX")
    record.add("tests", f"{FILE}::three", failed=["it broke"])
    record.add("vectors", name_of(VECTORS[0]))
    record.add("accelerated", name_of(VECTORS[0]))
    record.add("accelerated", name_of(VECTORS[1]), failed=["step 1: another packet"])
    lines = told(record)
    assert f"| conformance vectors, XDP first | 1 passed, 1 **failed**, {len(VECTORS) - 2} not run |" in lines
    assert any(f"`{name_of(VECTORS[1])}`: step 1: another packet" in line for line in lines)
    assert "| kernel tests | 1 passed, 1 **failed**, 1 left out, some not run |" in lines
    assert f"| conformance vectors | 1 passed, {len(VECTORS) - 1} not run |" in lines
    assert any(f"`{FILE}::three`: it broke" in line for line in lines)
    assert any("this kernel has no TCX (1)." in line for line in lines)
    assert any(f"1 of 4 tests of `{FILE}`." in line for line in lines)
    assert any(line.endswith(f": `{TESTS[1]}`.") for line in lines)


def test_a_boot_for_parts_is_told_behind_the_page_of_a_whole_one(record: Record) -> None:
    record.add("xdp of a file", XDP[0], tests=2)
    record.add("xdp", f"{XDP[0]}::one")
    record.add("figures", "xdp-xdp_netdev compiled", program="xdp-xdp_netdev", variant="compiled", figure=1234)
    found = report.outcomes(record.path.parent)
    before = "# What was\n\n| `lxc-from_container` | 5 |\n"
    text = report.written(before, found)
    assert text is not None
    assert text.startswith(before + report.SINCE)
    assert report.written(text, found) == text
    lines = text.splitlines()
    assert "| conformance vectors | not run |" in lines
    assert "| lab, XDP | 1 passed, 1 not run |" in lines
    assert "| `xdp-xdp_netdev` | 1,234 |" in lines
    assert [line for line in lines if "lxc-from_container" in line] == ["| `lxc-from_container` | 5 |"]
    assert f"- {read(record.path)[0]}, lab, XDP: `lab/test_xdp` (1)." in lines
    assert report.written(before, {}) is None


def test_a_program_that_is_newer_than_the_page_has_its_committed_figure(record: Record, tmp_path: Path) -> None:
    release = read(record.path)[0]
    figures = {
        "kernel": release,
        "programs": {name: {"compiled": 7, "snat": 9000} for name in ("gc-gc_walk4", "xdp-xdp_netdev")},
    }
    path = tmp_path / f"{'.'.join(release.split('-')[0].split('.')[:2])}.json"
    path.write_text(json.dumps(figures), "utf-8")
    found = report.outcomes(record.path.parent)
    before = "\n| `gc-gc_walk4` | 5 |\n"
    lines = report.since(found, before, tmp_path).splitlines()
    assert "| `xdp-xdp_netdev` | 9,000 |" in lines
    assert "| `gc-gc_walk6` | not measured |" in lines
    assert not any("gc-gc_walk4" in line for line in lines)
    path.write_text(json.dumps(figures | {"kernel": "another"}), "utf-8")
    assert "| `xdp-xdp_netdev` | not measured |" in report.since(found, before, tmp_path).splitlines()


def test_where_every_kernel_did_every_step_the_page_is_written_anew(tmp_path: Path) -> None:
    for name in report.KERNELS:
        record = Record(tmp_path / f"{name}.record")
        record.add("features", "tcx", available=True, used_for="attach", detail="")
        for step in STEPS.keys() - {"features"}:
            record.add(step, f"of {step}")
    text = report.written("# What was\n" + report.SINCE, report.outcomes(tmp_path))
    assert text is not None
    assert text.startswith(report.HEAD)
    assert report.SINCE not in text


def test_figures_of_some_programs_are_put_among_those_of_the_others(record: Record, tmp_path: Path) -> None:
    def say(program: str, figure: int, variants: Container[str]) -> None:
        for case in cases((program,)):
            if case.variant in variants:
                name = f"{case.object}-{case.program}"
                record.add("figures", f"{name} {case.variant}", program=name, variant=case.variant, figure=figure)

    def written() -> dict[str, dict[str, int]]:
        (outcome,) = report.outcomes(tmp_path).values()
        report.write_figures(outcome, tmp_path)
        release = read(record.path)[0]
        path = tmp_path / f"{'.'.join(release.split('-')[0].split('.')[:2])}.json"
        found: dict[str, dict[str, int]] = json.loads(path.read_text("utf-8"))["programs"] if path.is_file() else {}
        return found

    every = {case.variant for case in cases()}
    say("gc-gc_walk4", 10, every)
    assert written() == {}  # nothing is known of the others on this kernel
    say("", 20, every)
    whole = written()
    assert whole.keys() == {f"{case.object}-{case.program}" for case in cases()}
    record.path.unlink()
    Record(record.path)  # begun anew
    say("gc-gc_walk4", 30, every)
    say("gc-gc_walk6", 30, {"compiled"})
    later = written()
    assert list(later) == list(whole)
    assert [name for name in whole if later[name] != whole[name]] == ["gc-gc_walk4"]
    assert set(later["gc-gc_walk4"].values()) == {30}


def test_what_a_kernel_does_not_load_is_told(record: Record) -> None:
    for number, case in enumerate(cases()):
        program = f"{case.object}-{case.program}"
        figure = LIMIT if case.variant == "compiled" and program == "lxc-from_container" else number
        record.add("figures", f"{program} {case.variant}", program=program, variant=case.variant, figure=figure)
    record.add("figures", "netdev-from_netdev compiled", program="netdev-from_netdev", failed=["too complex"])
    for variant in ("compiled", "everything"):
        record.add("figures", f"proberet-probe_return {variant}", program="proberet-probe_return", error="EPERM")
    lines = told(record)
    assert "| `proberet-probe_return` | not loaded |" in lines
    assert f"| `lxc-from_container` | **{LIMIT:,}**, over it |" in lines
    assert any("`netdev-from_netdev compiled`: too complex" in line for line in lines)


def test_every_file_of_kernel_tests_is_for_a_guest_or_has_a_reason() -> None:
    there = {f"tests/kernel/{path.name}" for path in (ROOT / "tests/kernel").glob("test_*.py")}
    assert there == {*APART, *(path for path in TESTS if path.startswith("tests/kernel/"))}
    assert not APART.keys() & set(TESTS)
    page = report.PAGE.read_text(encoding="utf-8")
    assert [file for file, reason in APART.items() if f"`{Path(file).stem}`" not in page or reason not in page] == []


def test_a_step_is_of_all_files_of_one_or_of_a_test() -> None:
    assert chosen(XDP, "") == (list(XDP), [])
    assert chosen(LAB, "proof") == (["tests/lab/test_proof.py"], [])
    assert chosen(LAB, "snat-tunnel-4") == (list(LAB), ["-k", "snat-tunnel-4"])


def test_every_file_that_is_named_is_there() -> None:
    assert [path for path in (*TESTS, *LAB, *XDP) if not (ROOT / path).is_file()] == []
    assert FIGURES.is_dir()


def test_a_digest_is_not_of_the_classes_that_types_are_told_by() -> None:
    """Else a change of our own reader would make every object another one than was measured."""
    members = (Member("a", 1), Member("b", 2, 32))
    told = plain(BtfType(3, Kind.STRUCT, "pair", members=members))
    assert repr(told) == repr((3, Kind.STRUCT, "pair", 0, 0, False, 0, 0, (("a", 1, 0, 0, 0), ("b", 2, 32, 0, 0)), ()))
