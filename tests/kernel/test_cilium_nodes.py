"""Real Cilium nodes of several versions, restored byte for byte: what ctctl says is what their own CLI says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ctctl.decode.nat import decode_nat
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


LISTINGS = {
    "cli/lb-list.txt": ("lb", "list"),
    "cli/lb-list.frontends.txt": ("lb", "list", "--frontends"),
    "cli/lb-list.backends.txt": ("lb", "list", "--backends"),
    "cli/lb-list.revnat.txt": ("lb", "list", "--revnat"),
    "cli/lb-list.source-ranges.txt": ("lb", "list", "--source-ranges"),
    "cli/ipcache-list.txt": ("ipcache", "list"),
    "cli/endpoint-list.txt": ("endpoint", "list"),
    "cli/socknat-list.txt": ("socknat", "list"),
    "cli/tunnel-list.txt": ("tunnel", "list"),
    "cli/policy-all.txt": ("policy", "list"),
}


@pytest.mark.parametrize("file", LISTINGS)
def test_other_lines_are_those_of_that_versions_cli(node: CapturedNode, file: str) -> None:
    if file not in captures.files(node.name):
        pytest.skip("that version's CLI has no such listing")
    done = node.done(*LISTINGS[file], "-o", "cilium")
    assert lines(done.stdout) == lines(captures.text(node.name, file))
    assert done.stderr == ""


def test_nat_lines_are_those_of_that_versions_cli(node: CapturedNode) -> None:
    expected = captures.text(node.name, "cli/nat-list.txt")
    created = {}
    for table in captures.document(node.name, "maps.json")["maps"]:
        if table["pin"].startswith("cilium_snat_v") and table["pin"].endswith("_external"):
            for key, value in table["entries"]:
                entry = decode_nat(bytes.fromhex(key), bytes.fromhex(value))
                created[(str(entry.tuple.src), entry.tuple.src_port, str(entry.tuple.dst))] = entry.created or 0
    # The CLI ran some time after the capture: its now stands in the ages it printed.
    first = expected.splitlines()[0]
    _, _, source, _, target, *_ = first.split()
    host, _, port = source.rpartition(":")
    age = int(first.partition("Created=")[2].partition("sec")[0])
    now = created[(host.strip("[]"), int(port), target.rpartition(":")[0].strip("[]"))] + age
    assert lines(node.run("nat", "list", "-o", "cilium", "--now", str(now))) == lines(expected)
