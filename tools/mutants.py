#!/usr/bin/env python3
"""How much the tests notice: small faults are planted one at a time, and each should make a test fail.

    tools/mutants.py                    run, and write tests/bench/results/mutants.json anew
    tools/mutants.py --target ct.h      only one target, the others' figures stay
    tools/mutants.py --each 10          so many mutants of each target (default 25, chosen by a fixed seed)
    tools/mutants.py --survivors        only those that survived the last time
    tools/mutants.py --list             name the mutants, run nothing

Ctrl-C or SIGTERM ends it: the figures are of what was tried until then.

A mutant changes one place: a comparison or its boundary, and/or, a sign, a bit operation, a negation, a number,
a condition, in C also a statement that is left out. It is planted in a copy of the tree, so that the tree itself
stays as it is. What does not compile is no mutant; what the verifier refuses counts as noticed. As root.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests/bench/results/mutants.json"
SEED = 1
#: A run that does not end counts as noticed: CPU seconds of one process, and seconds on the wall. The machine
#: may be a busy one and this its least urgent work, so the second says nothing about speed.
BUSY_S, HANG_S = 300, 3600


@dataclass(frozen=True)
class Target:
    """Sources (globs) and the tests (globs) of their own that should notice; those that are fast first.

    The whole suite would notice more: a score is what the nearest tests alone are worth.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "decode": Target(
        ("ctctl/decode/*.py",),
        ("tests/unit/test_layout_1_15.py", "tests/unit/test_decode*.py", "tests/unit/test_query.py",
         "tests/unit/test_rowform.py"),
    ),
    "query": Target(
        ("ctctl/tables/query/*.py",),
        ("tests/unit/test_layout_1_15.py", "tests/unit/test_query.py", "tests/unit/test_nat_filter.py",
         "tests/unit/test_listings_agree.py"),
    ),
    "gc": Target(
        ("ctctl/gc/*.py",),
        ("tests/unit/test_gc*.py", "tests/kernel/test_gc_engines.py", "tests/cli/test_gc.py",
         "tests/cli/test_writer.py"),
    ),
    "gc.bpf.c": Target(
        ("bpf/gc.bpf.c",),
        ("tests/kernel/test_gc_programs.py", "tests/kernel/test_gc_engines.py", "tests/kernel/test_gc_reuse.py"),
    ),
    "ct.h": Target(
        ("bpf/lib/ct.h",),
        ("tests/kernel/test_bpf_corners.py", "tests/kernel/test_bpf_events.py", "tests/kernel/test_bpf_translation.py",
         "tests/kernel/test_bpf_drops.py", "tests/conformance/test_vectors.py"),
    ),
}  # fmt: skip

#: Mutants that change nothing anybody could see, named without their line: with the reason.
EQUIVALENT = {
    "ctctl/decode/services.py: 4 -> (5) in: front, front_port, rev_nat ="
    " value[:width], value[width : width + 2], value[width + 2 : width + 4]": "a slice ends with the value",
    "ctctl/decode/services.py: 12 -> (13) in:"
    ' quarantined = int.from_bytes(value[10:12], "little")': "a slice ends with the value",
    "ctctl/gc/perkey.py: 0 -> (1) in: if job.progress is not None and visits % _TELL_EVERY == 0:": "told a visit later",
    "ctctl/decode/columns.py: False -> (True) in:"
    ' return column.astype(column.dtype.newbyteorder("="), copy=False)': "a copy more, of the same numbers",
}


@dataclass(frozen=True)
class Mutant:
    """One place of a file: the text from ``start`` to ``end`` becomes ``after``."""

    file: str
    start: int
    end: int
    line: int
    before: str
    after: str
    #: the line of the source, for readers
    source: str

    def __str__(self) -> str:
        change = f"{_one_line(self.before)} -> {_one_line(self.after) or '(nothing)'}"
        return f"{self.file}:{self.line}: {change} in: {_one_line(self.source)}"

    def applied(self, text: str) -> str:
        return text[: self.start] + self.after + text[self.end :]


def _one_line(text: str) -> str:
    return " ".join(text.split())


# ---- Python

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def python_mutants(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a module. Types, docstrings and what only type checkers run are left alone."""
    tree = ast.parse(text)
    # ast counts bytes in a line; texts here are cut by characters.
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:
        whole = text[starts[line - 1] : starts[line]]
        return starts[line - 1] + len(whole.encode()[:column].decode())

    skipped = {id(node) for part in _not_run(tree) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped or not hasattr(node, "lineno"):
            continue
        for after in _replacements(node):
            start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno or 0, node.end_col_offset or 0)
            yield _mutant(file, text, start, end, f"({after})")


def _not_run(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield node
        elif isinstance(node, ast.AnnAssign) or (isinstance(node, ast.arg) and node.annotation is not None):
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("cast", "TypeVar", "dataclass")):
            yield node
        elif isinstance(node, ast.JoinedStr):
            yield node  # cannot be cut apart: its parts have no places of their own before Python 3.12


def _replacements(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield ast.unparse(ast.Compare(node.left, [_COMPARISONS[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_text(node):
        yield ast.unparse(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.IfExp):
        yield ast.unparse(ast.IfExp(node.test, node.orelse, node.body))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield str(node.value + 1)


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(side, ast.Constant | ast.JoinedStr) and not isinstance(getattr(side, "value", None), int)
               for side in (node.left, node.right))  # fmt: skip


# ---- C

_C_TOKENS = re.compile(r"<=|>=|==|!=|&&|\|\||(?<= )<(?= )|(?<= )>(?= )|(?<= )[-+|&](?= )|(?<=[( ])!(?=[a-z(])")
_C_SWAPS = {"<=": "<", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "<": "<=", ">": ">=", "+": "-",
            "-": "+", "|": "&", "&": "|", "!": ""}  # fmt: skip
#: A whole statement of one line: an assignment, a counter, a call whose result nobody takes.
_C_STATEMENT = re.compile(r"^\t+((?:\w+\(|\*?[\w.>-]+(?:\[[^]]*\])? ?(?:[-+|&]?= |\+\+|--)).*;)$", re.M)


def c_mutants(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a C file; comments, the preprocessor and texts are left alone."""
    code = re.sub(r'/\*.*?\*/|//[^\n]*|^[ \t]*#[^\n]*|"[^"\n]*"', _blank, text, flags=re.S | re.M)
    for found in _C_TOKENS.finditer(code):
        yield _mutant(file, text, found.start(), found.end(), _C_SWAPS[found[0]])
    for found in _C_STATEMENT.finditer(code):
        if not found[1].startswith(("return", "if", "for", "while", "switch")):
            yield _mutant(file, text, found.start(1), found.end(1), ";")


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def _mutant(file: str, text: str, start: int, end: int, after: str) -> Mutant:
    line = text.count("\n", 0, start)
    return Mutant(file, start, end, line + 1, text[start:end], after, text.splitlines()[line])


# ---- the run


def mutants_of(target: Target) -> list[Mutant]:
    """All of a target, in the order of its text."""
    found: list[Mutant] = []
    for pattern in target.sources:
        for path in sorted(ROOT.glob(pattern)):
            name, text = str(path.relative_to(ROOT)), path.read_text()
            found += python_mutants(name, text) if path.suffix == ".py" else c_mutants(name, text)
    unlike = (one for one in found if _without_line(str(one)) not in EQUIVALENT)
    return sorted(unlike, key=lambda one: (one.file, one.start, one.after))


class Tree:
    """A copy of the tree in which mutants are planted one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "build", ".*_cache")
        shutil.copytree(ROOT, path, ignore=ignored, symlinks=True)
        # The copy's modules come before the installed ones, in the programs that tests start too.
        self.environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}

    def noticed(self, mutant: Mutant, tests: list[str]) -> str | None:
        """The test that fails with it, empty if none does; None if it does not compile."""
        file = self.path / mutant.file
        text = file.read_text()
        file.write_text(mutant.applied(text))
        try:
            return self.failure(tests) if self._compiles(mutant) else None
        finally:
            file.write_text(text)

    def _compiles(self, mutant: Mutant) -> bool:
        return mutant.file.endswith(".py") or self.make()

    def make(self) -> bool:
        """Compile those BPF objects of the copy whose sources were written since."""
        return subprocess.run(["make", "-s", "bpf"], cwd=self.path, capture_output=True, check=False).returncode == 0

    def failure(self, tests: list[str]) -> str:
        """The first test that fails, empty if all pass; what the run said where it did not come to a test."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider", *tests]
        with tempfile.TemporaryFile("w+") as output:
            running = subprocess.Popen(
                command,
                cwd=self.path,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_bounded,  # noqa: PLW1509 - one thread here
            )
            try:
                if running.wait(HANG_S) == 0:
                    return ""
            except subprocess.TimeoutExpired:
                return "does not end"
            finally:
                running.terminate()
                running.wait()
            output.seek(0)
            lines = output.read().splitlines() or [f"exit status {running.returncode}"]
        return next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), lines[-1])


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (BUSY_S, BUSY_S))


def some(candidates: list[Mutant], number: int) -> list[Mutant]:
    """So many of them, the same each time."""
    return sorted(random.Random(SEED).sample(candidates, min(number, len(candidates))), key=candidates.index)


def again(name: str, before: dict[str, Any]) -> dict[str, Any]:
    """The figures of a target after its survivors were tried again."""
    names = {_without_line(survivor) for survivor in before["survivors"]}
    candidates = mutants_of(TARGETS[name])
    found = run(name, TARGETS[name], [one for one in candidates if _without_line(str(one)) in names])
    # Those that an ended run did not come to survive still.
    noticed = {_without_line(one) for one in found["gone"]}
    left = [one for one in before["survivors"] if _without_line(one) not in noticed]
    return {**before, "candidates": len(candidates), "noticed": before["tried"] - len(left), "survivors": left}


def _without_line(mutant: str) -> str:
    return re.sub(r":\d+: ", ": ", mutant, count=1)


def run(name: str, target: Target, chosen: list[Mutant]) -> dict[str, Any]:
    """Try these mutants of a target; its figures."""
    tests = list(dict.fromkeys(str(p.relative_to(ROOT)) for glob in target.tests for p in sorted(ROOT.glob(glob))))
    survivors: list[str] = []
    gone: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ctctl-mutants-") as directory:
        tree = Tree(Path(directory) / "tree")
        failure = tree.failure(tests) if tree.make() else "does not compile"
        if failure:
            raise SystemExit(f"{name}: without any mutant: {failure}")
        with contextlib.suppress(KeyboardInterrupt):
            for mutant in chosen:
                started = time.monotonic()
                noticed = tree.noticed(mutant, tests)
                if noticed is None:
                    continue
                (gone if noticed else survivors).append(str(mutant))
                word = f"noticed by {noticed}" if noticed else "SURVIVED"
                print(f"{name}: {mutant}\n    {word} ({time.monotonic() - started:.0f} s)", flush=True)
    return {
        "candidates": len(mutants_of(target)),
        "tried": len(gone) + len(survivors),
        "noticed": len(gone),
        "gone": gone,
        "survivors": survivors,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--target", action="append", choices=TARGETS)
    arguments.add_argument("--each", type=int, default=25, metavar="N")
    arguments.add_argument("--survivors", action="store_true")
    arguments.add_argument("--list", action="store_true")
    asked = arguments.parse_args()
    ended: list[int] = []

    def end(number: int, _frame: object) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # also where the parent ignores them
        signal.signal(number, end)
    figures = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in asked.target or TARGETS:
        if ended:
            break
        if asked.list:
            print("\n".join(map(str, mutants_of(TARGETS[name]))))
            continue
        if asked.survivors:
            figures[name] = again(name, figures[name])
        else:
            figures[name] = run(name, TARGETS[name], some(mutants_of(TARGETS[name]), asked.each))
        figures[name].pop("gone", None)
        RESULTS.write_text(json.dumps(dict(sorted(figures.items())), indent=2) + "\n")
        print(f"{name}: {figures[name]['noticed']} of {figures[name]['tried']} noticed")


if __name__ == "__main__":
    main()
