"""Nodes of versions that no capture is of: the maps of one that has the same bytes, the names of maps that it has.

What its own CLI prints is made by rule from what the captured version's prints: the fields of a line that differ
between the two versions are the ones that ``docs/reference/formats.md`` lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support import captures
from tests.support.captures import CapturedNode, captured_node

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@dataclass(frozen=True)
class Between:
    """A version by one before or behind it: what its lines are, and maps that it does not have."""

    version: str
    capture: str
    turn: Callable[[str], str]
    without: tuple[str, ...] = ()
    #: its other listings are those of the captured version
    same_listings: bool = True


def _as_1_15(text: str) -> str:
    return re.sub(r"(\w+) OUT (\S+) -> (\S+) service ", r"\1 SVC \3 -> \2 ", text)


BETWEEN = (
    Between("1.15.9", "cilium-1.14-snat-node1", _as_1_15, ("cilium_encrypt_state",)),
    Between("1.17.4", "cilium-1.16-snat-node1", lambda text: text, same_listings=False),
    Between(
        "1.18.3",
        "cilium-1.19-snat-node1",
        lambda text: re.sub(r" NatPort=\d+", "", text),
        ("cilium_l2_responder_v6", "cilium_percpu_trace_id"),
    ),
)
LISTINGS = {
    "cli/lb-list.txt": ("lb", "list"),
    "cli/lb-list.frontends.txt": ("lb", "list", "--frontends"),
    "cli/lb-list.backends.txt": ("lb", "list", "--backends"),
    "cli/ipcache-list.txt": ("ipcache", "list"),
    "cli/endpoint-list.txt": ("endpoint", "list"),
    "cli/policy-all.txt": ("policy", "list"),
}


@pytest.fixture(params=BETWEEN, ids=lambda one: one.version, scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[tuple[Between, CapturedNode]]:
    one: Between = request.param
    said = f"{one.version} 0123abcd 2025-01-01T00:00:00+00:00 go version go1.23 linux/amd64"
    with captured_node(one.capture, agent=True, version=said, without=one.without) as node:
        yield one, node


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_its_lines_are_those_of_its_version(found: tuple[Between, CapturedNode]) -> None:
    one, node = found
    done = node.done("-v", "ct", "list", "-o", "cilium")
    assert lines(done.stdout) == lines(one.turn(captures.text(one.capture, "cli/ct-list-global.txt")))
    assert f"Cilium {one.version} by" in done.stderr
    for file, words in LISTINGS.items() if one.same_listings else ():
        if file in captures.files(one.capture):
            assert lines(node.run(*words, "-o", "cilium")) == lines(captures.text(one.capture, file)), file


def test_from_1_17_on_the_protocol_is_told(found: tuple[Between, CapturedNode]) -> None:
    one, node = found
    rows = node.run("lb", "list", "-o", "cilium").splitlines()[1:]
    assert rows
    assert all(bool(re.match(r"\S+/[A-Z]+(?:/i)? \(", row)) == (one.version > "1.17") for row in rows)


def test_its_entries_have_the_fields_of_its_version(found: tuple[Between, CapturedNode]) -> None:
    one, node = found
    entries = node.json("ct", "list")["entries"]
    assert len(entries) == sum(
        " expires=" in line for line in lines(captures.text(one.capture, "cli/ct-list-global.txt"))
    )
    for entry in entries:
        assert ("rx_packets" in entry) == (one.version < "1.16")
        assert ("ifindex" in entry) == (one.version < "1.18")
        assert "nat_port" not in entry


@pytest.mark.parametrize("one", [one for one in BETWEEN if one.without], ids=lambda one: one.version)
def test_without_an_agent_the_names_of_its_maps_tell(one: Between) -> None:
    with captured_node(one.capture, without=one.without) as node:
        done = node.done("-v", "ct", "list", "-o", "cilium")
        assert lines(done.stdout) == lines(one.turn(captures.text(one.capture, "cli/ct-list-global.txt")))
        assert f"Cilium {one.version[:4]} by" in done.stderr
