"""Listings of several machines in one paste: whose each is, by the prompts and headings above them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import captures
from tests.support.listings import listed, read_text

ROWS = captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt").split("\n")
FIRST, SECOND = "\n".join(ROWS[:4]) + "\n", "\n".join(ROWS[4:9]) + "\n"
OLDER = "\n".join(captures.text("cilium-1.16-snat-node1", "cli/ct-list-global.txt").split("\n")[:5]) + "\n"
#: What stands above the first listing, above the second.
HEADINGS = (
    ("root@node1:/home/cilium# cilium bpf ct list global", "root@node2:/home/cilium# cilium bpf ct list global", ""),
    ("[root@node1 ~]# cilium bpf ct list global", "[root@node2.example.org ~]# ct", "[root@node2.example.org ~]# "),
    ("core@node1 ~ $ ./list", "core@node2 ~ $ ./list", "core@node2 ~ $"),
    ("node1 | CHANGED | rc=0 >>", "node2 | CHANGED | rc=0 >>", ""),
    ("[1] 10:42:01 [SUCCESS] node1", "[2] 10:42:01 [SUCCESS] node2", ""),
    ("==> node1-ct-list.txt <==", "==> node2-ct-list.txt <==", ""),
)
EXEC = "me@laptop:~$ kubectl -n kube-system exec {} -c cilium-agent -- cilium bpf ct list global"


@pytest.mark.parametrize(("above", "between", "below"), HEADINGS)
def test_each_is_a_node(above: str, between: str, below: str, tmp_path: Path) -> None:
    text = f"{above}\n{FIRST}\n{between}\n{SECOND}{below}\n"
    with read_text(tmp_path / "paste", text) as source:
        assert {node: sum(table.count or 0 for table in source.tables_of(node)) for node in source.nodes()} == {
            "node1": 4,
            "node2": 5,
        }
        assert not source.partial


#: What a loop prints above each node's listing, with {} in the place of its name.
LOOPS = (
    "{}",
    "{}:",
    "== {} ==",
    "=== node {} ===",
    "==== {}",
    "--- {} ---",
    "### {}",
    "# {}",
    "** {} **",
    "[{}]",
)
LOOPS += (
    ">>> {}",
    "Node: {}",
    "node {}",
    "node/{}",
    "pod/{}",
    "kube-system/{}",
    "== {} (10.0.0.1) ==",
    "*** Host {} ***",
)


#: Those in which any name is one of a machine: alone it may be a setting's, or a row of another listing.
DRESSED = tuple(
    form for form in LOOPS if form.strip("{}") not in ("", ":", "# ", "### ", ">>> ", "node/", "pod/", "kube-system/")
)
PODS = ("cilium-7xk2p", "cilium-p4wzq")
NAMES = (("worker-1", "worker-2"), ("ip-10-0-1-5.ec2.internal", "ip-10-0-1-6.ec2.internal"))
ADDRESSES = (("10.0.0.5", "10.0.0.6"), ("fd00::5", "fd00::6"))


@pytest.mark.parametrize(
    ("form", "one", "two"),
    [(form, *PODS) for form in LOOPS] + [(form, *both) for form in DRESSED for both in (*NAMES, *ADDRESSES)],
)
def test_a_loop_over_nodes(form: str, one: str, two: str, tmp_path: Path) -> None:
    """``for pod in …; do echo "== $pod =="; kubectl exec $pod …``: each is a node, not all of them one."""
    text = f"{form.format(one)}\n{FIRST}\n{form.format(two)}\n{SECOND}"
    with read_text(tmp_path / "paste", text) as source:
        assert {node: sum(table.count or 0 for table in source.tables_of(node)) for node in source.nodes()} == {
            one: 4,
            two: 5,
        }
        assert not source.partial


@pytest.mark.parametrize(
    "line",
    [
        *("ct", "== ct ==", "### nat", "tcp4", "--- ipv6 ---", "[tcp]", "ct4:", "cilium_ct_any4_global", "bpf-ct-list"),
        *("", "3", "0a", "4b", "dead", "v1.16.4", "1.16.4", "2026-11-27", "14:05:06", "done", "exit", "total", "----"),
        *(
            "--b1",
            "--0000000000a1b2",
            "quoted-printable",
            " quoted-printable",
            "application/octet-stream",
            "  two-words",
        ),
        *(
            "node-labels:",
            "k8s-endpoint   : ",
            "local-router-ipv6:",
            "worker-1",
            "10.0.0.1",
            "cilium-agent",
            "#### kvstore-locks",
            "(terminating)",
            "node ready",
            "pod deleted",
            "hosts found",
        ),
        *("== before ==", "```", "total 9", "look here", "# exit", "TCP IN", "Summary:", "status:", "(9 rows)", "end"),
    ],
)
def test_other_words_between_listings(line: str, tmp_path: Path) -> None:
    """Of the same machine still."""
    with read_text(tmp_path / "paste", f"{FIRST}{line}\n{SECOND}") as source:
        assert len(listed(source)) == 9
        assert not [node for node in source.nodes() if node is not None]


def test_pods_that_a_command_names(tmp_path: Path) -> None:
    """Not the machine on which it was typed; nor is a pod's listing at an end with that one's prompt."""
    text = f"{EXEC.format('cilium-7xk2p')}\n{OLDER}{EXEC.format('cilium-p4wzq')}\n{SECOND}me@laptop:~$ \n{FIRST}"
    with read_text(tmp_path / "paste", text) as source:
        assert {node: len(source.tables_of(node)) > 0 for node in source.nodes()} == {
            "cilium-7xk2p": True,
            "cilium-p4wzq": True,
        }
        assert {table.layout.value for table in source.tables} == {"1.16", "1.19"}
        assert len(listed(source)) == 14
        assert not source.partial


@pytest.mark.parametrize(
    "text",
    [
        f"root@node1:~# a\n{FIRST}root@node1:~# b\n{SECOND}",
        f"{FIRST}root@node1:~# b\n{SECOND}",
        f"{FIRST}{SECOND}root@node1:~# ",
        f"$ kubectl exec ds/cilium -- a\n{FIRST}$ kubectl exec ds/cilium -- a\n{SECOND}",
    ],
)
def test_one_machine_is_one_node(text: str, tmp_path: Path) -> None:
    """Also where the first prompt was not copied: what stands above one was printed on the same machine."""
    with read_text(tmp_path / "paste", text) as source:
        assert len(listed(source)) == 9
        assert not [node for node in source.nodes() if node is not None]


def test_another_version_is_another_node(tmp_path: Path) -> None:
    """Where no prompt tells whose it is, that is said."""
    with read_text(tmp_path / "paste", f"{OLDER}\n{SECOND}") as source:
        assert "5 line(s) of another version than those before, so of another node" in source.partial[0]


def test_the_same_machine_again(tmp_path: Path) -> None:
    services = captures.text("cilium-1.19-snat-node1", "cli/lb-list.txt")
    parts = [
        f"root@{host}:~# x\n{text}" for host, text in (("a", FIRST), ("b", SECOND), ("a", services), ("a", services))
    ]
    with read_text(tmp_path / "paste", "".join(parts)) as source, read_text(tmp_path / "lb", services) as alone:
        assert source.listings("a").services == alone.listings(None).services
        assert not source.listings("b").services
        assert not source.partial


FRONTS = (
    ("[pod/cilium-7xk2p/cilium-agent] ", "[pod/cilium-p4wzq/cilium-agent] "),
    ("cilium-7xk2p cilium-agent ", "cilium-p4wzq cilium-agent "),
    ("a/node1-ct.txt:", "a/node2-ct.txt:"),
    ("node-a/ct.txt:12:", "node-b/ct.txt:7:"),
    (
        "cilium-bugtool-cilium-7xk2p-20260101-000000/ct.md:3:",
        "cilium-bugtool-cilium-p4wzq-20260101-000000/ct.md:3:",
    ),
)


@pytest.mark.parametrize(("front", "other"), FRONTS)
def test_words_in_front_that_name_several_nodes(front: str, other: str, tmp_path: Path) -> None:
    """What ``kubectl logs``, stern and ``grep -r`` write: whose each is, is not shown, so it is said."""
    lines = [front + row for row in FIRST.splitlines()] + [other + row for row in SECOND.splitlines()]
    with read_text(tmp_path / "paste", "\n".join(lines) + "\n") as source:
        assert len(listed(source)) == 9
        assert "lines of several nodes" in source.partial[0]
    one = [front + row for row in (FIRST + SECOND).splitlines()]
    with read_text(tmp_path / "one", "\n".join(one) + "\n") as source:
        assert len(listed(source)) == 9
        assert not source.partial
