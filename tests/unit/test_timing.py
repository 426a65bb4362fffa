"""What a test may do with time, by rule: none says how fast a machine is.

A test waits for a condition, with the one bound there is (``tests/support/wait.py``): it finds what hangs. It never
sleeps, and never passes or fails by a clock; what is about time itself is named here, and why it is true everywhere.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
#: Figures are what the first two are for, and no part of ``make test``; the runner of the vectors is no test.
ELSEWHERE = ("bench", "kernels", "data", "conformance")
MODULES = [path for path in sorted(TESTS.rglob("*.py")) if path.relative_to(TESTS).parts[0] not in ELSEWHERE]
#: Who looks at a clock, and why it is right on every machine.
CLOCKS = {
    "kernel/test_gc_engines.py": "no sooner than the limit allows; later is right too",
    "kernel/test_gc_safety.py": "how long traffic goes on, and when a run is hit: right after any time",
    "kernel/test_machine.py": "our clock is the one that Python reads",
    "kernel/test_replay.py": "a ratio of two times of the same run",
    "lab/test_load.py": "the bound, for many sockets at once",
    "cli/test_cluster.py": "a deadline, which is a moment: one that is over, and the bound",
    "cli/test_root.py": "a ratio of two programs in the same run",
    "cli/test_shells.py": "the bound, between two looks at a screen",
    "support/cost.py": "against what the smallest listing takes in the same run",
    "support/fuzz_targets.py": "against what the smallest listing takes in the same run",
    "support/tracing.py": "looks at least so long for what must not come",
    "support/wait.py": "the bound itself",
    "unit/test_exec_frames.py": "a deadline, which is a moment: the bound",
    "unit/test_hostile_input.py": "against what the smallest listing takes in the same run",
    "unit/test_linear_patterns.py": "a ratio of two times of the same run",
    "unit/test_predict.py": "a ratio of two computations of the same run",
}
SLEEPS = {"support/wait.py": "between two looks"}

_CLOCK = re.compile(r"(?:monotonic|perf_counter|process_time|thread_time|time)(?:_ns)?")
_WAITS = {"wait", "join", "settimeout", "communicate", "wait_for", "create_connection"}
_BOUNDS = {"timeout", "timeout_s", "wait_s"}
#: The same in what other interpreters, shells and programs are told.
_TOLD = re.compile(
    r"\bsleep[ (]+[1-9]|\bgetrusage\(|\.(?:wait|join|settimeout)\([1-9]|\btimeout=[1-9]"
    r"|(?:^|\s)-W ?[0-9]|--max-time [0-9]"
)
_SAID = {"sleep": "sleep", "getrusage": "clock"}
_OPTIONS = {"-W", "--max-time", "--connect-timeout"}


def _is_bound(node: ast.expr) -> bool:
    """A bound as a number. Under a second it is a pause between two looks, or a look for what must not come."""
    return isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value >= 1


def _of_a_call(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    if name == "sleep":
        yield "sleep"
    if (owner == "time" and _CLOCK.fullmatch(name)) or name == "getrusage":
        yield "clock"
    bounds = [word.value for word in node.keywords if word.arg in _BOUNDS]
    if name in _WAITS and node.args:
        bounds.append(node.args[-1])
    if any(map(_is_bound, bounds)):
        yield "bound"


def uses(text: str) -> Iterator[tuple[str, int]]:
    """What a module does with time: ``sleep``, ``clock`` or ``bound``, and the line."""
    tree = ast.parse(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ((kind, node.lineno) for kind in _of_a_call(node))
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            words = [getattr(word, "value", None) for word in node.elts]
            if any(word in _OPTIONS and str(after).isdigit() for word, after in itertools.pairwise(words)):
                yield "bound", node.lineno
        elif isinstance(node, ast.Constant) and id(node) not in prose and (found := _TOLD.search(str(node.value))):
            yield next((kind for word, kind in _SAID.items() if word in found[0]), "bound"), node.lineno


def test_no_test_says_how_fast_a_machine_is() -> None:
    found = defaultdict(set)
    for path in MODULES:
        for kind, line in uses(path.read_text()) if path != Path(__file__) else ():
            found[kind].add((str(path.relative_to(TESTS)), line))
    assert found["bound"] == set(), "PATIENCE_S of tests/support/wait.py is the one bound"
    assert {name for name, _ in found["sleep"]} == SLEEPS.keys()
    assert {name for name, _ in found["clock"]} == CLOCKS.keys()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("time.sleep(0.1)", "sleep"),
        ("await asyncio.sleep(pause)", "sleep"),
        ('run("sh", "-c", "sleep 5; ls")', "sleep"),
        ('CODE = "import time\\ntime.sleep(3)"', "sleep"),
        ("assert time.monotonic() - started < 2", "clock"),
        ("ended_ns = time.perf_counter_ns()", "clock"),
        ("used = resource.getrusage(resource.RUSAGE_CHILDREN)", "clock"),
        ('CODE = "print(resource.getrusage(0).ru_utime)"', "clock"),
        ("process.wait(30)", "bound"),
        ("process.wait(timeout=30)", "bound"),
        ("wait_for(ready, 20)", "bound"),
        ("subprocess.run(words, timeout=60)", "bound"),
        ("sock.settimeout(5)", "bound"),
        ('CODE = "s.settimeout(5)"', "bound"),
        ('run(["ping", "-c1", "-W3", address])', "bound"),
        ('words = ["curl", "--max-time", "5"]', "bound"),
        ('LOOP = "while :; do ping -c1 -W1 10.0.0.1; done"', "bound"),
    ],
)
def test_the_rule_sees(line: str, kind: str) -> None:
    assert [found for found, _ in uses(line)] == [kind]


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(PATIENCE_S)",
        "wait_for(ready)",
        "thread.join(0.2)",
        '"a sleep of 3 s"',
        "clock.monotonic_s()",
        "poll(1000)",
    ],
)
def test_the_rule_leaves(line: str) -> None:
    assert list(uses(line)) == []
