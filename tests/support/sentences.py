"""The sentences of a module, listed from its source: what is yielded, returned, raised, put together or kept."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

#: Letters that make it a sentence: less is punctuation, or a unit.
_LETTERS = 5
#: Words that make one wherever it stands in a module: less is a format, a name, a key.
_WORDS = 3
#: What is no sentence: patterns; what ``--help`` says, which other tests read.
_NO_SPEECH = ("compile", "Option", "Argument")

#: Who holds whose sentences: a test, and the modules it lists them from. tests/unit/test_sentences_said.py holds this
#: to what there is: all that a trace, a simulation or the lines of hooks say.
HELD: dict[str, tuple[str, ...]] = {
    "cli/test_trace_options.py": ("ctctl.cli.trace_modes",),
    "kernel/test_probe_truth.py": ("ctctl.trace.probe_tables", "ctctl.trace.show_probe"),
    "kernel/test_sentences.py": (
        "ctctl.events.brief",
        "ctctl.events.ending",
        "ctctl.events.explain",
        "ctctl.events.lines",
    ),
    "kernel/test_simulation_sentences.py": (
        "ctctl.cli.trace",
        "ctctl.cli.trace_simulate",
        *(
            f"ctctl.simulate.{name}"
            for name in (
                *("call", "carry", "carry_tables", "changes", "conversation", "evidence", "journey", "replay"),
                *("scenario", "show", "show_scenario", "simulator", "sockets", "start", "whatif"),
            )
        ),
    ),
    "kernel/test_trace_sentences.py": (
        "ctctl.cli.trace_listen",
        "ctctl.events.stream",
        "ctctl.trace.mermaid",
        "ctctl.trace.picture",
        "ctctl.trace.probe",
        "ctctl.trace.probe_event",
        "ctctl.trace.probe_filters",
        "ctctl.trace.probe_points",
        "ctctl.trace.sequence",
        "ctctl.trace.show",
        "ctctl.trace.svg",
    ),
    "unit/test_config_scenario.py": ("ctctl.simulate.scenario_file",),
    "unit/test_expect.py": ("ctctl.simulate.expect",),
    "unit/test_limits.py": ("ctctl.simulate.limits",),
    "unit/test_sentences_said.py": (
        *("ctctl.ct.answer", "ctctl.ct.get", "ctctl.ct.sentence"),
        *("ctctl.cli.trace_story", "ctctl.events.decode", "ctctl.events.listeners", "ctctl.trace.decode_probe"),
        *(f"ctctl.trace.{name}" for name in ("show_story", "story_files", "story_filter", "story_json", "story_text")),
    ),
}
#: Modules of those packages that say nothing of their own: what others say stands in them by name.
SILENT = ("ctctl.trace.schema",)


def spoken(module: ModuleType) -> list[str]:
    """Every text of the module of some words, wherever it stands and whoever says it, as a pattern."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    unsaid = {id(part) for node in ast.walk(tree) for part in _unsaid(node)}
    texts = (_pattern(node) for node in ast.walk(tree) if id(node) not in unsaid)
    return list(dict.fromkeys(text for text in texts if text is not None and _is_spoken(text)))


def _unsaid(node: ast.AST) -> Iterator[ast.AST]:
    """What of a node is no text by itself: docstrings, patterns, parts of a text, forms of its values."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _NO_SPEECH:
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from ast.walk(part)
    elif isinstance(node, ast.AnnAssign):
        alias = isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias"
        yield from (node.annotation, node.value) if alias and node.value is not None else (node.annotation,)
    elif isinstance(node, ast.JoinedStr):
        yield from (part for part in node.values if isinstance(part, ast.Constant))
    elif isinstance(node, ast.FormattedValue) and node.format_spec is not None:
        yield from ast.walk(node.format_spec)


def _pattern(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*" for p in node.values)
    return re.escape(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_spoken(pattern: str) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", pattern.replace("\\", " ").replace(".*", " "))
    return len(words) >= _WORDS and pattern.count("\\ ") >= _WORDS - 1 and pattern.lstrip("\\ ")[:1] not in ("<", ":")


def modules_of(*packages: ModuleType) -> Iterator[ModuleType]:
    """The modules of packages."""
    for package in packages:
        for found in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{found.name}")


def held_by(test: str) -> list[ModuleType]:
    """The modules whose sentences a test holds, by its file (``HELD``)."""
    name = "/".join(Path(test).parts[-2:])
    return [importlib.import_module(module) for module in HELD[name]]


def unsaid(module: ModuleType, said: str, apart: Iterable[str] = ()) -> list[str]:
    """The sentences of a module that ``said`` has none of; those with one of the words ``apart`` count for none."""
    known = [one for one in sentences(module) if not any(word in one.replace("\\", "") for word in apart)]
    # What is put in by name (``{place}``) may be anything.
    return [one.replace("\\", "") for one in known if re.search(re.sub(r"\\\{\w+\\\}", ".*", one), said) is None]


def sentences(module: ModuleType) -> list[str]:
    """Every sentence of a module as a pattern: what it yields, raises or keeps, and whatever else has words."""
    found = [one for one in templates(module) if one.count("\\ ") >= _WORDS - 1 and not one.startswith("<")]
    return list(dict.fromkeys([*found, *spoken(module)]))


def templates(module: ModuleType) -> list[str]:
    """Every sentence of the module as a pattern, each alternative by itself, in the order of its lines."""
    assert module.__file__ is not None
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        for value in _said(node):
            found |= dict.fromkeys(_patterns(value))
    return list(found)


def _said(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Yield | ast.Return):
        return [] if node.value is None else [node.value]
    if isinstance(node, ast.Raise):
        return list(node.exc.args) if isinstance(node.exc, ast.Call) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        return node.args
    if isinstance(node, ast.AnnAssign | ast.Assign):
        if isinstance(node.value, ast.Dict):
            return [one for one in node.value.values if isinstance(one, ast.Constant | ast.JoinedStr)]
        if isinstance(node.value, ast.Tuple):
            return [one for part in node.value.elts for one in (part.elts if isinstance(part, ast.Tuple) else [part])]
        if isinstance(node.value, ast.JoinedStr | ast.IfExp):
            return [node.value]
    return []


def _patterns(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.IfExp():
            parts = [value.body, value.orelse]
        case ast.BoolOp():
            parts = value.values
        case ast.BinOp():
            parts = [value.left, value.right]
        case ast.Call():
            parts = value.args
        case ast.List():
            parts = value.elts
        case ast.Tuple():
            # A piece of a line: the second one is its style.
            parts = value.elts[:1]
        case ast.JoinedStr():
            parts = []
            text = "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*" for p in value.values)
            if _is_sentence(text.replace(".*", "")):
                yield text
        case ast.Constant(value=str(words)):
            parts = []
            if _is_sentence(words):
                yield re.escape(words)
        case _:
            parts = []
    for part in parts:
        yield from _patterns(part)


def _is_sentence(words: str) -> bool:
    return len(re.sub(r"[^a-z]", "", words, flags=re.IGNORECASE)) >= _LETTERS
