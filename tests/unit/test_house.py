"""Rules of the house that a tool can hold: licences, names said twice, what the wheel carries."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.abi import layouts, pins
from ctctl.btf import Kind, read_object
from ctctl.model.entry import CtFlags

ROOT = Path(__file__).resolve().parents[2]
BPF_LICENCE = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"


@pytest.mark.parametrize("path", sorted((ROOT / "bpf").rglob("*.[ch]")), ids=lambda p: str(p.relative_to(ROOT)))
def test_bpf_sources_carry_their_licence(path: Path) -> None:
    assert BPF_LICENCE in path.read_text().splitlines()[0]


def test_flag_names_are_those_of_the_kernel_side() -> None:
    def plain(name: str) -> str:
        return name.replace("_", "").lower()

    ours = {plain(flag.name or ""): flag.value for flag in CtFlags}
    theirs = {plain(flag.name or ""): flag.value for flag in layouts.CtctlCtFlags}
    assert ours == {name.removeprefix("ct"): value for name, value in theirs.items()}


PIN_NAMES = {value for key, value in vars(pins).items() if key.isupper() and isinstance(value, str)}


def maps_of(name: str) -> set[str]:
    """Names of the maps of a compiled object."""
    btf = read_object(ROOT / "ctctl" / "bpf" / f"{name}.bpf.o")
    section = btf.find(".maps", Kind.DATASEC)
    assert section is not None
    return {btf[variable.type_id].name for variable in section.members}


def test_table_names_are_those_of_the_objects() -> None:
    datapath = {table for name in ("lxc", "netdev", "overlay", "xdp") for table in maps_of(name) | maps_of(f"{name}6")}
    assert datapath <= PIN_NAMES, "a map of the datapath has no name in ctctl/abi/pins.py"
    ours = {name for name in PIN_NAMES if name.startswith("ctctl_")} - {pins.NODE_RECORD}
    assert ours <= datapath | maps_of("gc") | maps_of("probe") | maps_of("proberet")


def test_a_table_is_named_in_one_place() -> None:
    """Everything else takes it from there: a string that is a table's name stands in no other module."""
    written = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "ctctl").rglob("*.py"))
        if path.relative_to(ROOT) not in (Path("ctctl/abi/pins.py"), Path("ctctl/abi/layouts.py"))
        for name in re.findall(r'"(\w+)"|f"(cilium_(?:ct|snat|lb).*?)"', path.read_text())
        if name[0] in PIN_NAMES or name[1]
    }
    assert written == set()


#: What a module chose for itself, sizes and bounds, by chance as another did; and names of types.
CHOSEN = {"BATCH", "CHUNK", "FEW", "HEAD", "MEMORY", "P", "POLL_S", "SAMPLE", "T", "TEXT"}


def test_a_constant_is_written_down_once() -> None:
    """The same name for the same value in two modules is one fact with two homes."""
    homes: dict[tuple[str, str], list[str]] = {}
    for path in sorted((ROOT / "ctctl").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id.isupper() and value is not None:
                name = target.id.lstrip("_")
                homes.setdefault((name, ast.unparse(value)), []).append(str(path.relative_to(ROOT)))
    assert {name: where for (name, _), where in homes.items() if len(where) > 1 and name not in CHOSEN} == {}


CODE = [
    path
    for folder in ("ctctl", "bpf", "tests", "tools")
    for path in sorted((ROOT / folder).rglob("*"))
    # run.py replays recordings and comes as it is with them.
    if path.suffix in (".py", ".c", ".h", ".sh") and path.relative_to(ROOT) != Path("tests/conformance/run.py")
]


def test_maps_are_opened_for_writing_where_it_is_known_whose_they_are() -> None:
    """Behind a look into the node's record; in a load only where it has just looked through all of the node's pins."""
    by_pin, by_id = set(), set()
    for path in sorted((ROOT / "ctctl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
            if called not in ("open_pinned", "open_id") or ast.unparse(node.func.value) != "Map":  # type: ignore[attr-defined]
                continue
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}  # type: ignore[attr-defined]
            if words.get("read_only", str(called == "open_id")) != "True":
                (by_pin if called == "open_pinned" else by_id).add(str(path.relative_to(ROOT / "ctctl")))
    assert by_pin == {"node/owner.py", "node/pool.py", "node/staging.py"}
    assert by_id == {"tables/writer/targets.py"}


ROOMS = sorted((ROOT / "ctctl").rglob("__init__.py"))


def test_a_room_names_what_is_in_it() -> None:
    """At its door: modules and sources that are there, and every program that it loads."""
    strange = set()
    for door in ROOMS:
        text = ast.get_docstring(ast.parse(door.read_text())) or ""
        for name in re.findall(r"``([a-z_*0-9]+|[a-z_./0-9]+/[a-z_./0-9]+)``", text):
            there = [*door.parent.glob(f"{name}.py"), *door.parent.glob(name)] if "/" not in name else [ROOT / name]
            if not any(path.exists() for path in there) and (door.parent.name, name) != ("ct", "ct"):
                strange.add(f"{door.relative_to(ROOT)}: {name}")
    assert strange == set()


@pytest.mark.parametrize("room", ["gc", "trace", "tables"])
def test_a_room_names_its_kernel_part_at_the_top(room: str) -> None:
    """A reader finds all of it from there."""
    code = "".join(path.read_text() for path in (ROOT / "ctctl" / room).rglob("*.py"))
    loaded = set(re.findall(r'OBJECTS / "(\w+)\.bpf\.o"', code))
    text = ast.get_docstring(ast.parse((ROOT / "ctctl" / room / "__init__.py").read_text())) or ""
    assert loaded
    assert loaded <= set(re.findall(r"``bpf/(\w+)\.bpf\.c``", text))


PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def test_pages_that_code_refers_to_are_in_the_repository() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {page}"
        for path in CODE
        for page in re.findall(r"[\w./-]*[\w-]\.md\b", path.read_text())
        if "tests" not in path.parts or page.startswith(("docs/", "spec/"))
        if not (ROOT / page).is_file() and not (path.parent / page).is_file()
    }
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_refers_to_is_in_the_repository(page: Path) -> None:
    text = page.read_text()
    links = {link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (page.parent / link).exists()}
    places = {
        place
        for place in re.findall(r"`((?:ctctl|bpf|docs|tests|tools|deploy|examples)/[\w./-]+\.\w+)`", text)
        # Objects are compiled.
        if not place.startswith(("ctctl/bpf/", "tests/bench/results/")) and not (ROOT / place).exists()
    }
    assert links | places == set()


def test_every_claim_about_security_names_a_test_that_there_is() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    claims = [line for line in text.splitlines() if line.startswith("| ") and "they must not" not in line]
    assert claims
    for claim in claims:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", claim)
        assert named, claim
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), (file, test)


#: Decorators that change how a function is called; with any other, the decorator hands it to somebody who calls it.
_PLAIN = ("property", "staticmethod", "classmethod", "contextmanager", "cache", "lru_cache", "overload", "override")


def _definitions(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    """Names of what a module defines to be used by name: not what a framework calls, by a base class or a decorator."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
            if any(ast.unparse(base).split("[")[0] not in ours for base in node.bases):
                continue
        body = node.body if isinstance(node, ast.ClassDef | ast.Module) else []
        for each in body:
            if isinstance(each, ast.FunctionDef):
                by = [ast.unparse(one).split("(")[0].rpartition(".")[2] for one in each.decorator_list]
                if all(name in _PLAIN for name in by):
                    yield each.name


def test_nothing_is_there_for_tests_alone() -> None:
    """A function, method or class whose name stands once in the package (and the tools) is called by nobody there."""
    package = sorted((ROOT / "ctctl").rglob("*.py"))
    texts = [path.read_text() for folder in ("ctctl", "tools") for path in (ROOT / folder).rglob("*.*")
             if path.suffix in (".py", ".j2")]  # fmt: skip
    said = Counter(word for text in texts for word in re.findall(r"\w+", text))
    trees = {path: ast.parse(path.read_text()) for path in package if path.parent.name != "abi"}
    ours = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    ours |= {"Protocol", "Generic", "Exception", "NamedTuple", "object"}
    dead = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in trees.items()
        for name in _definitions(tree, ours)
        if said[name] == 1 and not name.startswith("__")
    ]
    assert dead == []


def test_what_changed_is_named_as_the_changelog_takes_it() -> None:
    """Of another name it would stand there with the name behind it, as if that were an issue's number."""
    named = re.compile(r"(\d+|\+[a-z0-9-]+)\.(added|changed|fixed|security)\.md|README\.md")
    assert [path.name for path in (ROOT / "changes").iterdir() if not named.fullmatch(path.name)] == []


def calls_of(path: Path, module: str) -> set[str]:
    """What a module's own text asks of another by its name."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    }


def test_yaml_is_parsed_where_its_work_is_bounded() -> None:
    """Little YAML may take minutes: every file of a user's goes through one door, which asks who pays."""
    parsers = re.compile(r".*load|compose|parse|scan|.*Loader|load_all|.*_all")
    callers = {
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "ctctl").rglob("*.py"))
        if any(map(parsers.fullmatch, calls_of(path, "yaml")))
        or re.search(r"from yaml\b.*import|import yaml\..* as|import yaml as", path.read_text())
    }
    assert callers == {"ctctl/config/yamltree.py", "ctctl/tables/sources/documents.py"}


#: What says when something was read or written, and no more.
_STAMPS = {
    "ct/events.py",
    "ct/hook_events.py",
    "fleet/collect.py",
    "gc/audit.py",
    "tables/sources/live.py",
    "tables/writer/journal.py",
    "trace/live.py",
    "trace/probe.py",
    "ui/look.py",
}


def test_the_machines_clock_is_asked_for_stamps_only() -> None:
    """It may jump while a command runs: nothing waits, ends or expires by it."""
    asking = set()
    for path in (ROOT / "ctctl").rglob("*.py"):
        calls = calls_of(path, "time") | {f"datetime.{name}" for name in calls_of(path, "datetime")}
        if calls & {"time", "time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}:
            asking.add(str(path.relative_to(ROOT / "ctctl")))
    assert asking == _STAMPS
