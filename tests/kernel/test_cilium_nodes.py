"""Real Cilium nodes of several versions, restored byte for byte: what ctctl says is what their own CLI says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import captures
from tests.support.captures import CapturedNode, captured_node

pytestmark = pytest.mark.kernel


@pytest.fixture(params=captures.NAMES, scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[CapturedNode]:
    with captured_node(request.param) as found:
        yield found


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_conntrack_lines_are_those_of_that_versions_cli(node: CapturedNode) -> None:
    done = node.done("ct", "list", "-o", "cilium")
    assert lines(done.stdout) == lines(captures.text(node.name, "cli/ct-list-global.txt"))
    assert done.stderr == ""


def test_time_diff_adds_what_is_left_to_the_same_lines(node: CapturedNode) -> None:
    now = int(captures.document(node.name, "maps.json")["monotonic_s"])
    expected = []
    for line in captures.text(node.name, "cli/ct-list-global.txt").splitlines():
        head, mark, rest = line.partition(" expires=")
        lifetime, space, tail = rest.partition(" ")
        left = f" (remaining: {int(lifetime) - now} sec(s))" if mark else ""
        expected.append(f"{head}{mark}{lifetime}{left}{space}{tail}")
    assert lines(node.run("ct", "list", "-o", "cilium", "--time-diff", "--now", str(now))) == sorted(expected)
