"""Names of nodes that only their place tells: alone above a listing, in lines that are alike, in front of each line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from unittest.mock import patch

import pytest

from ctctl.tables.sources import names_alone
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.elsewhere import machine_of
from ctctl.tables.sources.names_alone import reads_as_machine
from tests.support import captures
from tests.support.listings import listed, read_text

CAPTURE = "cilium-1.19-snat-node1"
ROWS = captures.text(CAPTURE, "cli/ct-list-global.txt").split("\n")
FIRST, SECOND = "\n".join(ROWS[:4]) + "\n", "\n".join(ROWS[4:9]) + "\n"
OLDER = "\n".join(captures.text("cilium-1.16-snat-node1", "cli/ct-list-global.txt").split("\n")[:5]) + "\n"
NAMES = (
    ("worker-1", "worker-2"),
    ("ip-10-0-1-2.ec2.internal", "ip-10-0-1-3.ec2.internal"),
    ("kind-control-plane", "kind-worker"),
    ("minikube", "minikube-m02"),
    ("Node1", "Node2"),
    ("10.0.0.5", "10.0.0.6"),
    ("fd00::5", "fd00::6"),
)
DEFAULTED = 'Defaulted container "cilium-agent" out of: cilium-agent, config (init)'
#: What stands above each listing; what only stands beside the name is skipped.
ABOVE = (
    "{}",
    "{}:",
    "{}: ",
    "{}:\n",
    "\n{}\n\n",
    "{}\n--------",
    "---------------\n{}\n---------------",
    f"{{}}\n{DEFAULTED}",
    "{}:\n$ cilium bpf ct list global",
    "{}:\n```",
    "- {}",
    "1. {}:",
    "# {}",
    "#### {} ####",
    "{} (10.1.2.3):",
    "`{}`:",
    "NODE={}",
    "{}: |",
    "Fri Nov 27 17:50:17 UTC 2026\n{}",
    "{}:\n# x",
    "{}:\nroot@laptop:/# cilium bpf ct list global",
)


def counts(source: Source) -> dict[str | None, int]:
    return {node: sum(table.count or 0 for table in source.tables_of(node)) for node in source.nodes()}


@pytest.mark.parametrize("above", ABOVE)
@pytest.mark.parametrize(("one", "two"), NAMES)
def test_each_is_a_node(above: str, one: str, two: str, tmp_path: Path) -> None:
    text = f"{above.format(one)}\n{FIRST}{above.format(two)}\n{SECOND}"
    with read_text(tmp_path / "paste", text) as source:
        assert counts(source) == {one: 4, two: 5}
        assert len(listed(source)) == 9
        assert not source.partial


@pytest.mark.parametrize("name", sorted(name for name in captures.files(CAPTURE) if name.startswith("cli/")))
def test_whatever_is_listed(name: str, tmp_path: Path) -> None:
    one, two = captures.text(CAPTURE, name), captures.text("cilium-1.19-dsr-node1", name)
    with read_text(tmp_path / "paste", f"worker-1:\n{one}\nworker-2:\n{two}") as source:
        found = source.nodes()
        with read_text(tmp_path / "one", one) as first, read_text(tmp_path / "two", two) as second:
            for node, alone in (("worker-1", first), ("worker-2", second)):
                assert source.listings(node) == alone.listings(None)
                assert [table.count for table in source.tables_of(node)] == [table.count for table in alone.tables]
        assert found == ["worker-1", "worker-2"]
        assert not source.partial


@pytest.mark.parametrize("name", ["cmd/status-verbose.txt", "cmd/config.txt", "cmd/metrics-list.txt"])
def test_what_agents_say_below_names(name: str, tmp_path: Path) -> None:
    """It has no head to tell where it starts: not silently one node's."""
    text = captures.text(CAPTURE, name)
    with read_text(tmp_path / "two", f"w-1:\n{text}\n{FIRST}w-2:\n{text}\n{SECOND}") as source:
        assert len(listed(source)) == 9
        assert "'w-2:' between listings may name another machine" in source.partial[0]
    with read_text(tmp_path / "one", f"w-1:\n{text}\n{FIRST}{text}\n{SECOND}") as source:
        assert not source.partial


def test_a_node_again_and_one_before_the_first_name(tmp_path: Path) -> None:
    with read_text(tmp_path / "again", f"w-1\n{FIRST}w-2\n{SECOND}w-1\n{SECOND}") as source:
        assert counts(source) == {"w-1": 9, "w-2": 5}
    with read_text(tmp_path / "before", f"{FIRST}w-2\n{SECOND}w-3\n{FIRST}") as source:
        assert len(listed(source)) == 13
        assert {"w-2", "w-3"} < {table.node for table in source.tables}


@pytest.mark.parametrize(
    "text",
    [
        f"worker-1\n{FIRST}{SECOND}",
        f"worker-1\n{FIRST}worker-1\n{SECOND}",
        f"{FIRST}enable-x: true\nlocal-router-ipv6:\n{SECOND}",
        f"{FIRST}dead\n{SECOND}",
        f"conntrack-table:\n{FIRST}ct-entries:\n{SECOND}",
        f"$ cilium bpf ct list global | grep 10.0.0.5\n{FIRST}$ cilium bpf ct list global | grep 10.0.0.6\n{SECOND}",
        f"root@a:~# cilium bpf ct list | grep w-1\n{FIRST}root@a:~# cilium bpf ct list | grep w-2\n{SECOND}",
        f"v1.16.4\n{FIRST}v1.17.1\n{SECOND}",
        f"2026-11-27T10:00:00Z\n{FIRST}2026-11-27T10:01:00Z\n{SECOND}",
        f"what a client sees:\n{FIRST}what a server sees:\n{SECOND}",
        f"me@laptop:~$ x\n{FIRST}me@laptop:~$",
        f"bash-5.1# cilium bpf ct list global\n{FIRST}sh-4.4# cilium bpf ct list global\n{SECOND}",
    ],
)
def test_one_node_and_nothing_to_say(text: str, tmp_path: Path) -> None:
    with read_text(tmp_path / "paste", text) as source:
        assert not source.nodes()
        assert not source.partial


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{FIRST}worker-2\n{SECOND}", "worker-2"),
        (f"master:\n{FIRST}worker:\n{SECOND}", "worker:"),
        (f"client\n{FIRST}server\n{SECOND}", "server"),
        (f"w-1:\nKVStore: x\n{FIRST}w-2:\nKVStore: x\n{SECOND}", "w-2:"),
        (f"w-1:\n{FIRST}w-2:\nKVStore: x\n{SECOND}", "w-2:"),
        (f"step1\n{FIRST}step2\n{SECOND}", "step2"),
        (f"x: 1\nnode-a1:\n{FIRST}y: 2\nnode-b1:\n{SECOND}", "node-b1:"),
        (f"on w-1:\n{FIRST}on w-2:\n{SECOND}", "on w-2:"),
        (f"Output of w-1 at 10:00:\n{FIRST}Output of w-2 at 10:01:\n{SECOND}", "Output of w-2 at 10:01:"),
        (f"{FIRST}Connection to w-1 closed.\n{SECOND}Connection to w-2 closed.\n", "Connection to w-2 closed."),
        (f"== w-1 ==\nweb-1:\n{FIRST}web-2:\n{SECOND}", "web-2:"),
        ("".join(f"w-{number}:\n" + "\n".join(ROWS[number % 32 :][:8]) + "\n" for number in range(600)), "w-500:"),
    ],
)
def test_what_may_be_a_name_is_said(text: str, line: str, tmp_path: Path) -> None:
    """Shown as one node's, with every row, and not silently."""
    with read_text(tmp_path / "paste", text) as source:
        assert len(source.nodes()) < 2
        assert f"{line!r} between listings may name another machine" in source.partial[-1]
        assert len(listed(source)) == len({row for row in text.split("\n") if "expires=" in row})


def test_of_each_key_the_last_entry_counts_below_a_doubtful_name(tmp_path: Path) -> None:
    """As in a listing that nothing stands in."""
    later = ROWS[0].replace("expires=", "expires=1")
    with read_text(tmp_path / "paste", f"{FIRST}worker-2\n{later}\n") as source:
        assert later in listed(source)
        assert len(listed(source)) == 4


def test_another_version_below_a_name_is_another_node(tmp_path: Path) -> None:
    with read_text(tmp_path / "paste", f"{OLDER}worker-2\n{SECOND}") as source:
        assert len(listed(source)) == 10
        assert [table.layout.value for table in source.tables_of("worker-2")] == ["1.19"]
        assert not source.partial


def test_what_a_node_answered_instead_is_said_of_it(tmp_path: Path) -> None:
    text = f"w-1:\n{FIRST}w-2:\nError from server: no such pod\nw-3:\n{SECOND}"
    with read_text(tmp_path / "paste", text) as source:
        assert counts(source) == {"w-1": 4, "w-3": 5}
        assert "what is below 'w-2:' ends with an error" in source.partial[0]


#: Tools and commands that name a machine, with {} in its place.
TOLD = (
    "$ ssh {} cilium bpf ct list global",
    "+ ssh -i key -p 22 root@{} sudo cilium bpf ct list global",
    "me@laptop:~$ docker exec -u 0 {} cilium bpf ct list global",
    "$ kubectl debug node/{} -it --image=x -- cilium bpf ct list global",
    "$ minikube ssh -n {} -- sudo conntrack -L",
    "Linux {} 6.1.0-27-amd64 #1 SMP PREEMPT_DYNAMIC Debian x86_64 GNU/Linux",
    "Finished on {}:",
    "{} | FAILED | rc=1 >>",
    "{}$ cilium bpf ct list global",
    "{}:~# cilium bpf ct list global",
    "root@{}# cilium bpf ct list global",
    "== Worker {} ==",
)


@pytest.mark.parametrize("above", TOLD)
def test_what_tools_and_shells_say(above: str, tmp_path: Path) -> None:
    with read_text(tmp_path / "paste", f"{above.format('w-1')}\n{FIRST}{above.format('w-2')}\n{SECOND}") as source:
        assert counts(source) == {"w-1": 4, "w-2": 5}
        assert not source.partial


def test_a_number_behind_what_a_machine_is(tmp_path: Path) -> None:
    for above in ("Node {}:", "== Node {} ==", "### node {}"):
        with read_text(tmp_path / "paste", f"{above.format(1)}\n{FIRST}{above.format(2)}\n{SECOND}") as source:
            assert counts(source) == {"node-1": 4, "node-2": 5}


def test_what_ansible_writes_as_json(tmp_path: Path) -> None:
    for above in ("{} | CHANGED => ", "ok: [{}] => "):
        for member in ({"stdout": "{}"}, {"stdout_lines": []}):
            parts = []
            for node, text in (("w-1", FIRST), ("w-2", SECOND)):
                said = {name: text if value else text.splitlines() for name, value in member.items()}
                parts.append(above.format(node) + json.dumps({"changed": True, **said}, indent=4) + "\n")
            with read_text(tmp_path / "paste", "".join(parts)) as source:
                assert counts(source) == {"w-1": 4, "w-2": 5}
                assert not source.partial


@pytest.mark.parametrize(
    "front", ["{}: ", "{} ", "[{}] ", "{}\t", "[{}] out: ", "Nov 27 10:00:00 {} agent[7]: ", "{}:"]
)
@pytest.mark.parametrize(("one", "two"), [*NAMES[:3], NAMES[5], ("worker-1", "worker-12")])
def test_names_in_front_of_each_line(front: str, one: str, two: str, tmp_path: Path) -> None:
    """What clush, pdsh, dsh and syslog write: shown as one node's, which is said."""
    lines = [front.format(one) + row for row in FIRST.splitlines()]
    lines += [front.format(two) + row for row in SECOND.splitlines()]
    with read_text(tmp_path / "paste", "\n".join(lines) + "\n") as source:
        assert len(listed(source)) == 9
        assert f"lines of several nodes, by the words in front ({one}, {two})" in source.partial[0]
    with read_text(tmp_path / "one", "\n".join(lines[:4]) + "\n") as source:
        assert len(listed(source)) == 4
        assert not source.partial


@pytest.mark.parametrize("form", ["txt", "json", "yaml"])
def test_names_in_front_of_many_lines_and_of_documents(form: str, tmp_path: Path) -> None:
    """Read in passes, where numbers in words may be any."""
    texts = (captures.text(CAPTURE, f"cli/ct-list-global.{form}"),) * 2
    lines = [f"{node}: {line}" for node, text in zip(("w-1", "w-2"), texts, strict=True) for line in text.splitlines()]
    with read_text(tmp_path / "paste", "\n".join(lines) + "\n") as source:
        assert "lines of several nodes, by the words in front (w-1, w-2)" in source.partial[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for both in NAMES[:3] for name in both),
        *((name, True) for name in ("k8s1", "web.example.org", "aks-nodepool1-12345678-vmss000000", "talos-abc-123")),
        *(
            (name, False)
            for name in ("client", "half-open", "step-1", "conn12", "eth0", "nginx-7d9c6b8f4-x2x7k", "pod-1")
        ),
    ],
)
def test_which_names_read_as_those_of_machines(name: str, expected: bool) -> None:
    assert reads_as_machine(name) is expected


@pytest.mark.parametrize(
    ("line", "machine"),
    [
        ("ssh -o StrictHostKeyChecking=no -tt core@10.0.0.5 'sudo cilium bpf ct list global'", "10.0.0.5"),
        ("for n in a b; do ssh $n cilium bpf ct list global; done", None),
        ("$ ssh worker-1 uptime", None),
        ("cilium bpf ct list global | ssh worker-1 tee x", None),
        ("sshd: cilium bpf ct list", None),
        ("minikube ssh --node=m02 'sudo cilium bpf ct list global'", "m02"),
        ("minikube ssh -n m02 -- sudo cilium bpf ct list global", "m02"),
        ("minikube ssh -- sudo cilium bpf ct list global", None),
        ("vagrant ssh node1 -c 'sudo cilium bpf ct list global'", "node1"),
        ("vagrant ssh -c 'sudo cilium bpf ct list global'", None),
        ("docker exec -it kind-worker cilium bpf ct list global", "kind-worker"),
        ("docker exec --tty --user=root kind-worker cilium bpf ct list global", "kind-worker"),
        ("docker exec --user root kind-worker cilium bpf ct list global", None),
        ("kubectl debug -it node/w1 --image x -- cilium bpf ct list global", "w1"),
        ("kubectl debug -n kube-system node/w1 -- cilium bpf ct list global", "w1"),
    ],
)
def test_where_a_command_is_run(line: str, machine: str | None) -> None:
    assert machine_of(line) == machine


@pytest.mark.parametrize("line", ["w-{}\n", "w-{}:\n$ x\n", "talk\n", "10.0.{}.1\n"])
def test_names_without_a_listing_cost_as_much_as_other_lines(line: str) -> None:
    """Nothing is asked of them at length: only of one with a listing below it."""
    text = "".join(line.format(number % 250) for number in range(12_000)).encode()
    with patch.object(names_alone, "is_name", side_effect=AssertionError):
        assert not read_content(io.BytesIO(text), Dump())
