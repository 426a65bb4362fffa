"""What a terminal shows: nothing wraps, nothing that matters is cut, a pager where there is much."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.captures import BUGTOOL, NAMES, captured_node
from tests.support.children import PROGRAM, run_ctctl
from tests.support.commands import commands
from tests.support.screens import ELSEWHERE, PIPED, Screen, screens
from tests.support.terminal import on_terminal

DATA = Path(__file__).resolve().parents[1] / "data"
WIDTHS = (80, 120, 200)
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
    done = run_ctctl("ct", "list", "--from", str(DUMP))
    assert done.returncode == 0, done.stderr
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
    piped = run_ctctl("trace", *words, *block)
    assert piped.returncode == 0, piped.stderr
    assert "".join("".join(lines).split()) == "".join(piped.stdout.split())


@pytest.mark.kernel
def test_a_trace_is_a_line_a_hook_and_has_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = run_ctctl("trace", *SIMULATED)
    assert done.returncode == 0, done.stderr
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


#: What people type without options, on a node; every one is a screen. FLOW: a connection of the node.
SCREENS = (
    *("ct list", "ct get FLOW", "ct stats", "ct top", "ct top --by pair", "nat list", "nat stats"),
    *("lb list", "lb list --backends", "lb list --frontends", "lb list --revnat", "lb list --source-ranges"),
    *("ipcache list", "endpoint list", "tunnel list", "socknat list", "policy list", "policy get FLOW"),
    *(
        "metrics drops",
        "status",
        "features",
        "doctor",
        "gc --dry-run",
        "gc --explain",
        "gc simulate --from auto --for 1h",
    ),
    *("sizing --from auto --for 1h", "fleet ask", "lab list", "lab run --list", "version"),
)
#: Commands without such a screen, and why; what they show is looked at by the tests of their features.
OTHERS = {
    "goes on until it is stopped": ("ct events", "ui", "metrics serve"),
    "changes a table, or a node": (
        *("ct import", "ct delete", "ct flush", "gc undo"),
        *("load", "apply", "unload", "lab up", "lab down", "lab exec"),
    ),
    "writes a file": ("ct export", "report", "completion"),
    "has its screens in test_other_screens": ELSEWHERE,
    "is a document": ("schema",),
}


def test_every_command_has_a_screen_or_a_reason() -> None:
    leaves = {" ".join(path) for path, command in commands() if not hasattr(command, "list_commands")}
    groups = {" ".join(path) for path, command in commands() if getattr(command, "invoke_without_command", False)}
    known = [name for names in OTHERS.values() for name in names]
    known += {name for name in leaves | groups for screen in SCREENS if f"{screen} ".startswith(f"{name} ")}
    assert sorted(known) == sorted(leaves | (groups - {""}))


def _words(screen: str, flow: str) -> list[str]:
    return [flow if word == "FLOW" else word for word in screen.split()]


#: Screens that say nothing of a node: once is enough.
_OF_THE_MACHINE = ("features", "fleet ask", "lab list", "lab run --list", "version")


@pytest.fixture(scope="module", params=NAMES)
def on_a_captured_node(request: pytest.FixtureRequest) -> list[Screen]:
    """Every screen of a node that was captured, at 80 columns; of the first at every width."""
    with captured_node(request.param) as node:
        entry = node.json("ct", "list", "--limit", "1")["entries"][0]
        flow = f"{entry['proto_name'].lower()} {entry['src']}:{entry['src_port']} > {entry['dst']}:{entry['dst_port']}"
        inside = ["/usr/bin/nsenter", "-t", str(node.pid), "-m"]
        first = request.param == NAMES[0]
        asked = [_words(screen, flow) for screen in SCREENS if first or screen not in _OF_THE_MACHINE]
        return screens(asked, WIDTHS if first else WIDTHS[:1], inside)


def test_nothing_wraps_on_a_captured_node(on_a_captured_node: list[Screen]) -> None:
    for screen in on_a_captured_node:
        assert screen.lines, screen
        if screen.code in (1, 4):
            assert screen.lines[0].startswith("ctctl: "), screen
        assert screen.code in (0, 1, 3, 4, 5), screen
        _fits(screen)


def _fits(screen: Screen) -> None:
    assert screen.lines, screen
    assert not [line for line in screen.lines if len(line) > screen.columns], screen
    assert not [line for line in screen.lines if "…" in line], screen


def test_help_fits() -> None:
    shown = screens([[*path, "--help"] for path, _command in commands()], [80])
    assert len(shown) > 50
    for screen in shown:
        assert screen.code == 0, screen
        assert not [line for line in screen.lines if len(line) > screen.columns], screen


def test_a_row_is_a_line_on_a_captured_node(on_a_captured_node: list[Screen]) -> None:
    """IPv4 and IPv6 beside each other: what is short must not be laid out for what is long."""
    listed = [one for one in on_a_captured_node if one.columns == 80 and one.words in (("ct", "list"), ("nat", "list"))]
    assert len(listed) == 2
    for screen in listed:
        rows = [line for line in screen.lines if line.startswith(("TCP ", "UDP ", "ICMP ")) and "[" not in line]
        assert rows
        assert all(len(line.split()) >= 5 for line in rows), screen


#: Screens of a file; how long ago something was is the file's to say, so they are the same every day.
FROM_A_FILE = tuple(
    screen
    for screen in SCREENS
    if screen.split()[0] not in ("status", "features", "version", "lab", "fleet", "schema")
    and "--from" not in screen
    and screen != "gc --dry-run"  # says how long it took
)
#: Lines of a screen that a golden holds.
_SHOWN = 24


@pytest.mark.parametrize("columns", [*WIDTHS, PIPED], ids=str)
def test_goldens_of_a_bugtool_archive(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every screen of a node that was captured whole. ``CTCTL_WRITE_GOLDENS=1`` writes the files anew."""
    monkeypatch.chdir(ROOT)
    flow = "tcp 10.61.1.101:38202 > 10.61.2.103:8000"
    asked = [[*_words(screen, flow), "--from", str(BUGTOOL.relative_to(ROOT))] for screen in FROM_A_FILE]
    # On terminals it is read once for all of them; piped, by each command for itself.
    found = screens(asked, [columns], of=asked[0][-1] if columns != PIPED else None)
    shown = [([*screen.words], "".join(f"{line}\n" for line in screen.lines)) for screen in found]
    _compare(f"bugtool.{columns or 'piped'}.txt", "\n".join(_cut(words, text) for words, text in shown))


def _cut(words: list[str], text: str) -> str:
    lines = text.splitlines()
    more = [f"({len(lines) - _SHOWN} more lines)"] if len(lines) > _SHOWN else []
    return "\n".join([f"$ ctctl {' '.join(words[:-2])}", *lines[:_SHOWN], *more, ""])


def _compare(name: str, text: str) -> None:
    golden = DATA / "screens" / name
    if os.environ.get("CTCTL_WRITE_GOLDENS"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


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
    text = "".join(f"{line}\n" for line in shown)
    _compare(f"{command.replace(' ', '-')}.{columns or 'piped'}.txt", text)


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


@pytest.mark.parametrize(
    ("pager", "code", "said"),
    [("no-such-pager -x", 0, "$PAGER is 'no-such-pager -x', which is not there: not paged"),
     ("X=1 no-such-pager", 1, "the pager 'X=1 no-such-pager' could not be run: --no-pager lists without it")],
)  # fmt: skip
def test_a_pager_that_is_not_there_takes_no_row_without_a_word(pager: str, code: int, said: str) -> None:
    words = [PROGRAM, "ct", "list", "--from", str(DUMP)]
    done, lines = on_terminal(words, 120, environment={"PAGER": pager})
    assert done == code
    assert f"ctctl: {said}" in lines
    assert any("DESTINATION" in line for line in lines) is (code == 0)
