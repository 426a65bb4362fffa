"""Every refusal of what changes tables, on every command that can meet it: one line, one exit code.

The table of ``docs/changing-tables.md`` is what is tested: a row there without a test here fails, and so does one
here without a row there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctctl.kernel.clock import boot_id, monotonic_s
from tests.support.children import run_ctctl
from tests.support.gctables import TableDir, contents, entry, key4, table_dir
from tests.support.needs import need_program
from tests.support.terminal import typed

pytestmark = pytest.mark.kernel

PAGE = Path(__file__).resolve().parents[2] / "docs/changing-tables.md"
ROW = re.compile(r"^\| (?P<what>[^|`]+) \| `(?P<line>[^`]+)` \| (?P<code>\d) \|$", re.M)
REFUSALS = {
    row["what"]: (row["line"], int(row["code"]))
    for row in ROW.finditer(PAGE.read_text().replace("no `--yes`", "no --yes"))
}

DELETING: list[tuple[str, ...]] = [
    ("ct", "delete", "tcp"),
    ("ct", "flush"),
    ("gc", "--endpoint", "10.0.0.1"),
    ("gc", "--backend", "7"),
]
RESTORING: list[tuple[str, ...]] = [
    ("gc", "undo", "journal"),
    ("ct", "import", "journal"),
    ("ct", "import", "snapshot"),
]
COLLECTING: list[tuple[str, ...]] = [("gc",), ("gc", "--engine", "kernel"), ("gc", "--engine", "per-key")]
ALL = [*DELETING, *RESTORING, *COLLECTING]
#: what keeps a journal, and the option that names it
JOURNALS = [(("ct", "delete", "tcp"), "--undo-file"), (("ct", "flush"), "--undo-file"), (("gc",), "--undo"),
            (("gc", "--endpoint", "10.0.0.1"), "--undo")]  # fmt: skip
YES = ("--yes",)


@pytest.fixture
def node(tmp_path: Path, own_directory: Path) -> Iterator[TableDir]:
    """A node of ours with an entry that is alive and one that is not, and files of it: journal and snapshot."""
    (tmp_path / "own").mkdir()
    with table_dir(tmp_path / "own") as made:
        table = made.create("cilium_ct4_global")
        # Of a service, so that every command finds something to delete.
        table.update(
            key4("10.0.0.1", 1000, "10.0.0.2", 80, flags=4), entry(lifetime=monotonic_s() + 5000, backend_id=7)
        )
        table.update(key4("10.0.0.1", 1001, "10.0.0.2", 80), entry(lifetime=monotonic_s() + 5000))
        table.update(key4("10.0.0.1", 1002, "10.0.0.2", 80), entry(lifetime=1))
        assert run_ctctl("ct", "export", "snapshot", "--from", made.path).returncode == 0
        assert run_ctctl("ct", "flush", "--yes", "--undo-file", "journal", "--from", made.path).returncode == 0
        assert run_ctctl("gc", "undo", "journal", "--yes", "--from", made.path).returncode == 0
        assert sorted(path.name for path in own_directory.iterdir()) == ["journal", "snapshot"]
        yield made


@pytest.fixture
def foreign(tmp_path: Path, node: TableDir) -> Iterator[TableDir]:
    (tmp_path / "other").mkdir()
    with table_dir(tmp_path / "other", own=False) as made:
        table = made.create("cilium_ct4_global")
        for key, value in contents(node.maps["cilium_ct4_global"]).items():
            table.update(key, value)
        # What an older ctctl wrote does not say whose entries it has: it goes into either.
        head, _, rest = Path("journal").read_text().partition("\n")
        Path("journal").write_text(json.dumps(json.loads(head) | {"node": None, "source": ""}) + "\n" + rest)
        yield made


def refused(what: str, done: subprocess.CompletedProcess[str], *tables: TableDir) -> None:
    """One line, the one of the table, with its exit code; the tables and files as they were."""
    line, code = REFUSALS[what]
    assert (done.returncode, line in done.stderr.splitlines()[-1]) == (code, True), (done.args, done.stderr)
    for made in tables:
        assert len(contents(made.maps["cilium_ct4_global"])) == 3, done.args
    assert {path.name for path in Path.cwd().iterdir()} <= {"journal", "snapshot", "text", "both.tar"}, done.args


def test_another_programs_tables(foreign: TableDir, node: TableDir) -> None:
    for command in ALL:
        refused("another program's tables", run_ctctl(*command, *YES, "--from", foreign.path), foreign, node)


#: Many commands in one process, which takes the time of one start.
ONE_AFTER_THE_OTHER = """
import json, sys
from ctctl.cli.main import main
print(json.dumps([main(words) for words in json.loads(sys.argv[1])]), file=sys.stderr)
"""


def opened(commands: Iterable[tuple[str, ...]], *more: object) -> tuple[list[int], list[str], list[str]]:
    """Exit codes of the commands, and the maps that they opened by name or id: to read, and to write."""
    lines = json.dumps([[*command, *map(str, more)] for command in commands])
    record = Path("text")
    watched = ["strace", "-f", "-e", "bpf", "-o", record, sys.executable, "-c", ONE_AFTER_THE_OTHER, lines]
    done = subprocess.run(watched, capture_output=True, text=True, check=True)
    calls = [line for line in record.read_text().splitlines() if re.search("BPF_OBJ_GET,|BPF_MAP_GET_FD_BY_ID", line)]
    to_write = [line for line in calls if "BPF_F_RDONLY" not in line]
    return json.loads(done.stderr.splitlines()[-1]), [line for line in calls if line not in to_write], to_write


def test_nothing_is_opened_for_writing_that_is_not_written(node: TableDir, foreign: TableDir) -> None:
    """Neither in a dry run, whose tables it may be, nor before a refusal."""
    need_program("strace")
    for tables, more, code in ((node, "--dry-run", 0), (foreign, "--dry-run", 0), (foreign, "--yes", 4)):
        codes, to_read, to_write = opened(ALL, more, "--from", tables.path)
        assert codes == [code] * len(ALL)
        assert len(to_read) >= len(ALL)
        assert to_write == []
        assert len(contents(tables.maps["cilium_ct4_global"])) == 3
    assert opened([("gc",)], "--from", node.path)[2]


def test_no_terminal(node: TableDir, foreign: TableDir) -> None:
    what = "no terminal to ask, and no --yes"
    for command in (*DELETING, *RESTORING, ("gc", "--now", str(monotonic_s() + 9999))):
        refused(what, run_ctctl(*command, "--from", node.path), node)
        refused(what, run_ctctl(*command, "--from", node.path, input="y\ny\n"), node)
    for command in (*DELETING, *RESTORING, *COLLECTING):
        refused(what, run_ctctl(*command, "--allow-foreign", "--from", foreign.path), foreign)


def test_answered_no(node: TableDir) -> None:
    for command in ALL:
        with typed(b"n\n") as terminal:
            refused("answered no", run_ctctl(*command, "--from", node.path, stdin=terminal), node)


def test_a_question_shows_no_name_as_a_terminal_would_take_it(node: TableDir) -> None:
    """Of a file, a link, a pod: what is in it is not for the screen."""
    strange = "j\x1b]0;other title\x07\x1b[2J"
    Path("journal").rename(strange)
    Path(f"{strange}.d").symlink_to(node.path)
    asked = [("gc", "undo", strange, "--from", node.path), ("gc", "--from", f"{strange}.d"),
             ("gc", "--endpoint", strange, "--from", node.path)]  # fmt: skip
    for command in asked:
        with typed(b"n\n") as terminal:
            done = run_ctctl(*command, stdin=terminal)
        assert (done.returncode, "[y/N]" in done.stderr) == (1, True), done.stderr
        assert ("\x1b" in done.stderr, r"\x1b]0;other" in done.stderr) == (False, True), done.stderr


def test_not_live(node: TableDir) -> None:
    for command in ALL:
        refused("tables that are not live", run_ctctl(*command, *YES, "--from", "snapshot"), node)


def test_several_nodes(node: TableDir, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with table_dir(tmp_path / "second") as second:
        second.create("cilium_ct4_global")
        for command in (*DELETING[:2], *RESTORING[1:]):  # gc takes one --from
            done = run_ctctl(*command, *YES, "--from", node.path, "--from", second.path)
            refused("tables of several nodes", done, node)


def test_an_empty_file_name(node: TableDir) -> None:
    for command, option in JOURNALS:
        refused("an empty file name", run_ctctl(*command, *YES, option, "", "--from", node.path), node)
    for command in (("gc", "undo"), ("ct", "import"), ("ct", "export")):
        refused("an empty file name", run_ctctl(*command, "", "--from", node.path), node)


def test_a_journal_that_cannot_be_written(node: TableDir) -> None:
    for command, option in JOURNALS:
        done = run_ctctl(*command, *YES, option, "none/such", "--from", node.path)
        refused("a journal that cannot be written", done, node)
        done = run_ctctl(*command, *YES, option, "journal", "--from", node.path)
        refused("a journal that is there already", done, node)


def test_no_journal(node: TableDir) -> None:
    Path("text").write_text("nothing\n")
    for file in ("text", "snapshot"):
        done = run_ctctl("gc", "undo", file, *YES, "--from", node.path)
        refused("a file that is no journal", done, node)


def test_a_journal_of_another_node(node: TableDir, tmp_path: Path) -> None:
    """By its name; where it has none, by where its tables are pinned; and of another boot, whose times are others."""
    whole = Path("journal").read_text()
    head, _, rest = whole.partition("\n")
    said = json.loads(head)
    assert (said["boot_id"], list(said["maps"])) == (boot_id(), ["cilium_ct4_global"])
    elsewhere = {"node": None, "source": "/sys/fs/bpf/no/such"}
    strange = [{"node": "other", "maps": {}}, elsewhere | {"maps": None}, {"boot_id": "of-another"}]
    for command in RESTORING[:2]:
        for how in ("--yes", "--dry-run"):
            for words in strange:
                Path("journal").write_text(json.dumps(said | words) + "\n" + rest)
                refused("a journal of another node", run_ctctl(*command, how, "--from", node.path), node)
    # What an older ctctl wrote says less, and a bind mount is another name for the same place.
    table, before = node.maps["cilium_ct4_global"], contents(node.maps["cilium_ct4_global"])
    with table_dir(tmp_path, own=False) as foreign, bind_mount(node.path, tmp_path / "bound") as bound:
        foreign.create("cilium_ct4_global")
        Path("journal").write_text(whole)
        done = run_ctctl("gc", "undo", "journal", "--yes", "--allow-foreign", "--from", foreign.path)
        refused("a journal of another node", done, node)
        older = {"node": None, "source": "", "boot_id": None, "maps": None}
        by_place = {"node": None, "maps": {"cilium_ct4_global": 0}}
        # What is the same table is the same under any name, and a node loaded anew has other tables of its name.
        anew = {"maps": {"cilium_ct4_global": 0}}
        for words, where in ((older, node.path), (by_place, bound), (elsewhere, bound), (anew, node.path)):
            Path("journal").write_text(json.dumps(said | words) + "\n" + rest)
            table.delete(next(iter(before)))
            done = run_ctctl("gc", "undo", "journal", "--yes", "--same-boot", "--allow-foreign", "--from", where)
            assert (done.returncode, contents(table)) == (0, before), done.stderr


@contextmanager
def bind_mount(of: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "--bind", of, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def test_a_journal_that_names_no_boot(node: TableDir) -> None:
    """As an older ctctl wrote them: what would tell is said, and the user may know it."""
    head, _, rest = Path("journal").read_text().partition("\n")
    said = json.loads(head)
    older = {name: value for name, value in said.items() if name not in ("boot_id", "maps")}
    for words in (older | {"schema": "ctctl/gc-undo/v1"}, said | {"boot_id": None}, said | {"boot_id": ""}):
        Path("journal").write_text(json.dumps(words) + "\n" + rest)
        for command, how in zip(RESTORING[:2], ("--yes", "--dry-run"), strict=True):
            done = run_ctctl(*command, how, "--from", node.path)
            refused("a journal that names no boot", done, node)
            assert f"written at {said['time']}" in done.stderr
            done = run_ctctl(*command, "--dry-run", "--same-boot", "--from", node.path)
            assert (done.returncode, "0 entries would be restored, 3 left" in done.stdout) == (0, True), done.stderr
    # The user may know what it does not say, and not what it says otherwise.
    Path("journal").write_text(json.dumps(said | {"boot_id": "of-another"}) + "\n" + rest)
    refused("a journal of another node", run_ctctl(*RESTORING[0], "--yes", "--same-boot", "--from", node.path), node)


def test_a_clock_that_is_not_the_datapaths(node: TableDir) -> None:
    table = node.maps["cilium_ct4_global"]
    for key, value in contents(table).items():
        table.update(key, value[:48] + (monotonic_s() + 90_000).to_bytes(4, "little") + value[52:])
    for command in (*COLLECTING, ("ct", "delete", "expired")):
        for how in ("--yes", "--dry-run"):
            refused("a clock that is not the datapath's", run_ctctl(*command, how, "--from", node.path), node)


def test_no_such_node(node: TableDir) -> None:
    for command in (*ALL, ("unload",)):
        refused("no such node", run_ctctl(*command, *YES, "--node", "no-such-node-at-all"), node)


def test_every_row_of_the_page_is_tried() -> None:
    here = Path(__file__).read_text()
    assert len(REFUSALS) == PAGE.read_text().count("| 1 |") + PAGE.read_text().count("| 2 |") + 1
    assert [what for what in REFUSALS if f'refused("{what}"' not in here and f'what = "{what}"' not in here] == []
