"""What a terminal shows: nothing wraps, nothing that matters is cut, a pager where there is much."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.captures import NAMES, captured_node
from tests.support.children import PROGRAM
from tests.support.terminal import on_terminal

DATA = Path(__file__).resolve().parents[1] / "data"
DUMP = DATA / "samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_a_list_fits(columns: int) -> None:
    code, lines = on_terminal([PROGRAM, "ct", "list", "--from", str(DUMP)], columns, environment={"CTCTL_PAGER": ""})
    rows = [line for line in lines if not line.startswith("ctctl:")]
    assert code == 0
    assert len(rows) > 100
    assert max(map(len, rows)) <= columns
    assert not any("…" in line for line in rows)


def test_piped_is_whole(capfd: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([PROGRAM, "ct", "list", "--from", str(DUMP)], capture_output=True, text=True, check=True)
    header = done.stdout.splitlines()[0]
    assert header.split() == ["PROTO", "DIR", "SOURCE", "DESTINATION", "STATE"]


ROOT = Path(__file__).resolve().parents[2]
SIMULATED = ("--simulate", "tcp 10.64.0.36:54260 > 10.64.1.64:8000", "-f", "examples/two-nodes.yaml", "--handshake")


@pytest.mark.kernel
@pytest.mark.parametrize("words", [SIMULATED, ("--scenario", "examples/pod-to-pod.yaml")], ids=["simulate", "scenario"])
@pytest.mark.parametrize("block", [(), ("-v",)], ids=["lines", "blocks"])
def test_a_trace_wraps_at_words(
    words: tuple[str, ...], block: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    code, lines = on_terminal([PROGRAM, "trace", *words, *block], 80, environment={"NO_COLOR": "1"})
    assert code == 0
    assert max(map(len, lines)) <= 80
    piped = subprocess.run([PROGRAM, "trace", *words, *block], capture_output=True, text=True, check=True).stdout
    assert "".join("".join(lines).split()) == "".join(piped.split())


@pytest.mark.kernel
def test_a_trace_is_a_line_a_hook_and_has_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = subprocess.run([PROGRAM, "trace", *SIMULATED], capture_output=True, text=True, check=True)
    shown = done.stdout.splitlines()
    assert shown[0] == (
        "step 1  t=1000000s  node-a  from_container client  tcp 10.64.0.36:54260 > 10.64.1.64:8000 S  "
        "created OUT with its ICMP related entry  passed"
    )
    assert any("OUT +SeenNonSyn, 60 s → 8000 s" in line for line in shown)
    assert "verdict: delivered to web-2 on node-b, answered, still open" in shown


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_differences_fit(columns: int, tmp_path: Path) -> None:
    changed = tmp_path / "later.txt"
    lines = DUMP.read_text().splitlines(keepends=True)
    changed.write_text("".join(line.replace("TxFlagsSeen=0x00", "TxFlagsSeen=0x12") for line in lines[3:]))
    words = [PROGRAM, "ct", "diff", str(DUMP), str(changed)]
    code, shown = on_terminal(words, columns, environment={"CTCTL_PAGER": "", "NO_COLOR": "1"})
    assert code == 3
    assert max(map(len, shown)) <= columns
    assert any("tx_flags_seen none → S." in line for line in shown)
    assert any("10.64.2.110:45641 > 10.64.0.153:9090" in line for line in shown)


@pytest.mark.parametrize("words", [("lab", "list"), ("lab", "run", "--list")], ids=" ".join)
def test_the_lab_fits(words: tuple[str, ...]) -> None:
    code, shown = on_terminal([PROGRAM, *words], 80, environment={"CTCTL_PAGER": "", "NO_COLOR": "1"})
    assert code == 0
    assert max(map(len, shown)) <= 80
    assert not any("…" in line for line in shown)


#: What people type without options, on a node; every one is a screen.
SCREENS = (
    *("ct list", "ct stats", "ct top", "ct top --by pair", "nat list", "nat stats", "lb list", "lb list --backends"),
    *("lb list --frontends", "lb list --revnat", "lb list --source-ranges", "ipcache list", "endpoint list"),
    *("socknat list", "policy list", "metrics drops", "status", "features", "doctor"),
    *("gc --dry-run", "gc --explain", "sizing --from auto"),
)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_wraps_on_a_captured_node(name: str) -> None:
    with captured_node(name) as node:
        asked = [screen.split() for screen in SCREENS]
        entry = node.json("ct", "list", "--limit", "1")["entries"][0]
        flow = f"{entry['src']}:{entry['src_port']} > {entry['dst']}:{entry['dst_port']}"
        asked.append(["ct", "get", f"{entry['proto_name'].lower()} {flow}"])
        for screen in asked:
            words = ["/usr/bin/nsenter", "-t", str(node.pid), "-m", PROGRAM, *screen]
            _code, lines = on_terminal(words, 80, environment={"CTCTL_PAGER": "", "NO_COLOR": "1"})
            assert lines, screen
            assert not [line for line in lines if len(line) > 80], screen
            assert not [line for line in lines if "…" in line], screen


@pytest.mark.parametrize("columns", [80, 120, 200, None], ids=str)
@pytest.mark.parametrize("command", ["ct list", "ct stats"])
def test_golden(command: str, columns: int | None) -> None:
    """``CTCTL_WRITE_GOLDENS=1`` writes the files anew; look at what changed."""
    words = [PROGRAM, *command.split(), "--from", str(DUMP)]
    if columns is None:
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    else:
        environment = {"CTCTL_PAGER": "", "NO_COLOR": "1"}
        code, shown = on_terminal(words, columns, environment=environment)
        assert code == 0
    golden = DATA / "screens" / f"{command.replace(' ', '-')}.{columns or 'piped'}.txt"
    text = "".join(f"{line}\n" for line in shown)
    if os.environ.get("CTCTL_WRITE_GOLDENS"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_a_pager_reads_what_is_listed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    environment = {"PAGER": f"cat > {told}"}
    code, lines = on_terminal([PROGRAM, "ct", "list", "--from", str(DUMP)], 80, environment=environment)
    assert code == 0
    assert not [line for line in lines if "10." in line and not line.startswith("ctctl:")]
    assert "DESTINATION" in told.read_text()
    code, lines = on_terminal([PROGRAM, "--no-pager", "ct", "list", "--from", str(DUMP)], 80, environment=environment)
    assert code == 0
    assert any("DESTINATION" in line for line in lines)


def test_a_pager_that_ends_early_is_no_failure() -> None:
    environment = {"PAGER": "head -n 1"}
    code, _lines = on_terminal([PROGRAM, "ct", "list", "--from", str(DUMP)], 80, environment=environment)
    assert code == 0
