"""``ctctl cluster`` against a small API server: every node's answer, and for every node without one its reason."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import jsonschema
import pytest

from ctctl.cli.answers import Ending
from ctctl.cli.schemas import SCHEMAS
from ctctl.cluster import fetch
from tests.support.children import CTCTL, run_ctctl, signalled_before, started, wait_for_line
from tests.support.kubeapi import FRAME, Cluster, agent_in, certificate, served
from tests.support.samples import ROOT
from tests.support.wait import PATIENCE_S, wait_for

if TYPE_CHECKING:
    from ctctl.cluster.kube import Api, Pod

pytest.importorskip("lightkube", reason="clusters need lightkube (ctctl[k8s])")
pytest.importorskip("websockets", reason="clusters need websockets (ctctl[k8s])")

STORY = Path(__file__).parents[1] / "data/story/monitor-v.txt"
LISTED = ROOT / "cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"
FAILING = ("hang", "die", "garbage", "refuse", "slow")
DEADLINE_S = 60
#: The least that a node which hangs is waited for.
HANG_S = 5.0


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """A folder with a ``cilium-dbg`` that prints what a real one printed."""
    return agent_in(tmp_path, LISTED)


def ctctl(kubeconfig: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    # One deadline for those that hang, and what a busy machine takes for fifty.
    done = run_ctctl("cluster", "--kubeconfig", kubeconfig, *words, timeout=10 * DEADLINE_S)
    assert done.returncode == code, (words, done.stdout[-2000:], done.stderr)
    assert "Traceback" not in done.stderr
    return done


def answering(kubeconfig: Path) -> float:
    """Seconds in which the slowest of the nodes that do answer has done so, asked as all are: this machine's now."""
    words = ("--node", "node-*", "--deadline", DEADLINE_S, "--jobs", 50, "nodes", "-o", "json")
    return float(max(row["seconds"] for row in json.loads(ctctl(kubeconfig, *words).stdout)["nodes"]))


def count() -> int:
    return len(run_ctctl("ct", "list", "-o", "jsonl", "--from", LISTED).stdout.splitlines())


@pytest.fixture
def two(agent: Path, tmp_path: Path) -> Iterator[tuple[Cluster, Path]]:
    cluster = Cluster({"node-1": "ok", "node-2": "ok"}, agent)
    with served(cluster, tmp_path) as kubeconfig:
        yield cluster, kubeconfig


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_fifty_nodes_of_which_ten_fail_in_five_ways(agent: Path, tmp_path: Path, *, secure: bool) -> None:
    """Over TLS too: there a socket is ready when nothing can be read, and a refusal comes in front of a ticket."""
    nodes = {f"node-{number:02d}": "ok" for number in range(40)}
    nodes |= {f"bad-{way}-{number}": way for way in FAILING for number in range(2)}
    tls = certificate(tmp_path, "right") if secure else None
    with served(Cluster(nodes, agent), tmp_path, tls=tls) as kubeconfig:
        deadline = HANG_S + 6 * answering(kubeconfig)
        words = ["--deadline", f"{deadline:.1f}", "--jobs", 50, "ct", "list", "-o", "jsonl"]
        done = ctctl(kubeconfig, *words, code=5)
    rows = Counter(json.loads(line)["node"] for line in done.stdout.splitlines())
    assert rows == dict.fromkeys((f"node-{number:02d}" for number in range(40)), count())
    reasons = {
        "hang": "no answer in time",
        "slow": "no answer in time",
        "die": "the connection ended before the command did",
        "garbage": "cannot be read",
        "refuse": "refused: pods",
    }
    for way in FAILING:
        for number in range(2):
            (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"ctctl: bad-{way}-{number}: ")]
            assert reasons[way] in line


def test_who_hangs_beyond_the_deadline_costs_one_node_only(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a library waits for: the others are asked by another, and what comes later still counts no more."""
    from ctctl.cluster.kube import Api

    over = threading.Event()
    monkeypatch.setattr(Api, "_run", lambda *_args: over.wait())
    monkeypatch.setattr(fetch, "_GRACE_S", 0.0)

    def ask(api: Api, node: str, pod: Pod, *_rest: object) -> fetch.Answer:
        if node == "a":
            api.run(pod, ["cilium-dbg"], time.monotonic(), io.BytesIO())
        return fetch.Answer(node, "agent")

    monkeypatch.setattr(fetch, "_ask", ask)
    told: list[str] = []
    with served(Cluster({"a": "ok", "b": "ok"}, agent), tmp_path) as kubeconfig:
        api = Api(str(kubeconfig), None, PATIENCE_S)
        pods: dict[str, Pod | None] = {pod.node: pod for pod in api.pods("k8s-app=cilium", "kube-system")}
        wanted = fetch.Wanted((), jobs=1)
        answers = fetch.fetch(api, pods, wanted, tmp_path / "out", lambda answer: told.append(answer.node))
    over.set()
    assert told == ["a", "b"]
    assert [(answer.node, answer.way, answer.reason) for answer in answers] == [
        ("a", None, "no answer in time: who asked it hangs"),
        ("b", "agent", None),
    ]
    wait_for(lambda: not api.overdue(0), what="who hung has come back")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ended_command_waits_for_no_node(agent: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Neither for those that are being asked nor for those whose turn it is not yet: each would have an hour."""
    nodes = {"a": "refuse"} | {f"b-{number}": "hang" for number in range(6)}
    with served(Cluster(nodes, agent), tmp_path) as kubeconfig:
        words = ("--kubeconfig", kubeconfig, "--deadline", 3600, "--jobs", 2, "ct", "list")
        with started(*CTCTL, "cluster", *map(str, words), env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
            wait_for_line(process, process.stderr, "a: refused")
            process.send_signal(how)
            assert process.wait(PATIENCE_S) == 128 + how
            said = process.communicate()[1]
    assert "Traceback" not in said
    assert not list(tmp_path.glob("ctctl-cluster-*")), "answers of nodes stay"


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("ctctl.cluster.kube:Api.pods", 1),
        ("ctctl.cluster.fetch:_ask", 1),
        ("ctctl.cluster.fetch:_ask", 2),
        ("ctctl.cluster.exec:Execs._ask", 1),
        ("ctctl.cluster.exec:Execs._receive", 2),
        ("ctctl.cluster.kube:Api.stop", 1),
    ],
    ids=lambda value: str(value).rpartition(":")[2],
)
def test_a_signal_is_heeded_whichever_thread_gets_it(agent: Path, tmp_path: Path, function: str, call: int) -> None:
    """At every stage; the kernel may give a signal to a thread that asks a node, while the main one waits."""
    nodes = {f"b-{number}": "hang" for number in range(3)} | ({"a": "refuse"} if function.endswith("stop") else {})
    ending = (signal.SIGINT, 130) if function.endswith("stop") else (signal.SIGTERM, 143)
    with served(Cluster(nodes, agent), tmp_path) as kubeconfig:
        words = ("cluster", "--kubeconfig", kubeconfig, "--deadline", 3600, "ct", "list")
        command = (*signalled_before(function, call, ending[0]), *map(str, words))
        with started(*command, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
            if function.endswith("stop"):
                wait_for_line(process, process.stderr, "a: refused")
                process.send_signal(signal.SIGINT)  # and the second while it ends
            assert process.wait(PATIENCE_S) == ending[1]
            said = process.communicate()[1]
    assert "Traceback" not in said
    assert not list(tmp_path.glob("ctctl-cluster-*")), "answers of nodes stay"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heeded_where_its_exception_got_lost(number: signal.Signals) -> None:
    """Python drops what a handler raises inside some look-ups; while the folder is made nothing may be raised."""
    ending = Ending()
    ending.heard(number, None)
    with pytest.raises(BaseException, match=r"^(15)?$"):
        ending.make()
    with pytest.raises(BaseException, match=r"^(15)?$"):
        ending.look()
    ending.heard(number, None)  # the same signal once more, by the group
    ending.hold()
    ending.look()
    ending.remove()


def test_what_fails_here_is_no_answer_to_wait_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_words: object) -> None:
        raise OSError(errno.ESTALE, "stale file handle")

    monkeypatch.setattr(fetch, "_ask", fails)
    api = cast("Api", SimpleNamespace(stopped=False, stop=lambda: None, look=lambda: None, overdue=lambda _s: set()))
    wanted = fetch.Wanted((), deadline_s=1, jobs=1)
    with pytest.raises(OSError, match="stale"):
        fetch.fetch(api, {"a": None, "b": None}, wanted, tmp_path, lambda _answer: None)


def test_nodes_are_rows_with_their_reasons(agent: Path, tmp_path: Path) -> None:
    with served(Cluster({"a": "ok", "b": "refuse"}, agent), tmp_path) as kubeconfig:
        done = ctctl(kubeconfig, "nodes", "-o", "json", code=5)
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMAS[document["schema"]])
    found = {row["node"]: row for row in document["nodes"]}
    assert (found["a"]["status"], found["a"]["reason"], found["a"]["way"]) == ("read", None, "agent")
    assert found["b"]["status"] == "failed"
    assert "forbidden" in found["b"]["reason"]


def test_every_kind_of_answer_is_over_all_nodes(two: tuple[Cluster, Path]) -> None:
    _, kubeconfig = two
    flow = json.loads(run_ctctl("ct", "list", "-o", "jsonl", "--from", LISTED, "--limit", 1).stdout)
    text = f"{flow['proto_name']} {flow['src']}:{flow['src_port']} > {flow['dst']}:{flow['dst_port']}"
    assert "node-1" in (got := ctctl(kubeconfig, "ct", "get", text).stdout)
    assert "node-2" in got
    stats = json.loads(ctctl(kubeconfig, "ct", "stats", "-o", "json").stdout)["tables"]
    assert sum(table["entries"] for table in stats) == 2 * count()
    assert {table["node"] for table in stats} == {"node-1", "node-2"}


def test_a_glob_asks_no_other_node(two: tuple[Cluster, Path]) -> None:
    cluster, kubeconfig = two
    ctctl(kubeconfig, "ct", "list", "--node", "*-2", "-o", "name")
    assert {node for node, _ in cluster.asked} == {"node-2"}
    assert "no node is called" in ctctl(kubeconfig, "ct", "list", "--node", "x*", code=1).stderr


def test_a_context_that_is_refused_says_so(two: tuple[Cluster, Path]) -> None:
    _, kubeconfig = two
    assert "refuses" in ctctl(kubeconfig, "--context", "refused", "ct", "list", code=4).stderr
    assert "not found" in ctctl(kubeconfig, "--context", "none", "ct", "list", code=1).stderr


@pytest.mark.parametrize(
    "words", [("ct", "delete", "tcp"), ("ct", "flush"), ("gc",), ("gc", "run"), ("ct", "list", "--from", "x")]
)
def test_nothing_is_changed(two: tuple[Cluster, Path], words: tuple[str, ...]) -> None:
    cluster, kubeconfig = two
    assert "only reads" in (said := ctctl(kubeconfig, *words, code=2).stderr) or "leave out --from" in said
    assert not cluster.asked


@pytest.mark.parametrize("option", ["-A", "--all-nodes"])
def test_every_node_is_what_it_reads_anyway(two: tuple[Cluster, Path], option: str) -> None:
    cluster, kubeconfig = two
    assert "leave out --all-nodes" in ctctl(kubeconfig, "ct", "list", option, code=2).stderr
    assert not cluster.asked


@pytest.mark.parametrize("words", [("fleet", "ask", "skew"), ("ct", "diff", "a", "b"), ("ct", "decode", "0x13")])
def test_what_reads_no_nodes_tables_asks_none(two: tuple[Cluster, Path], words: tuple[str, ...]) -> None:
    cluster, kubeconfig = two
    assert "leave out cluster" in ctctl(kubeconfig, *words, code=2).stderr
    assert "id you mean 'list'" in ctctl(kubeconfig, "ct", "lits", code=2).stderr
    assert not cluster.asked


@pytest.mark.parametrize("labels", ["k8s-app", "k8s-app!=cilium", "k8s-app in (cilium)", "a=b,", "k8s-app==cilium"])
def test_labels_that_are_not_understood_ask_nobody(two: tuple[Cluster, Path], labels: str) -> None:
    """What was passed over would ask every pod of the namespace."""
    cluster, kubeconfig = two
    assert "write labels as A=B" in ctctl(kubeconfig, "-l", labels, "ct", "list", code=2).stderr
    assert not cluster.asked


def test_a_table_that_an_agent_does_not_have_hides_no_other(agent: Path, tmp_path: Path) -> None:
    """Without BPF masquerading there is no SNAT table; what cannot be listed for another reason is missing."""
    gone = "Unable to open /sys/fs/bpf/tc/globals/cilium_snat_v4_external: no such file or directory"
    agent_in(tmp_path, LISTED, nat_list=f'echo "{gone}" >&2; exit 1')
    with served(Cluster({"a": "ok", "b": "ok"}, agent), tmp_path) as kubeconfig:
        done = ctctl(kubeconfig, "ct", "get", "tcp 10.64.0.36 > 10.64.0.64", code=1)  # no such flow, but they were read
        assert "no entry of" in done.stderr
        assert done.stderr.count("no such file or directory") == 1
        assert "(a, b)" in done.stderr
        assert "a: Unable to open" in ctctl(kubeconfig, "nat", "list", code=5).stderr
    agent_in(tmp_path, LISTED, nat_list='echo "Killed" >&2; exit 137')
    with served(Cluster({"a": "ok", "b": "ok"}, agent), tmp_path) as kubeconfig:
        done = ctctl(kubeconfig, "doctor", code=5)
        assert "nat list: Killed" in done.stderr
        assert done.stdout


def test_partial_data_of_our_own_pod_is_shown_and_said(agent: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ctsnap"
    assert run_ctctl("ct", "export", cut, "--from", LISTED).returncode == 0
    cut.write_bytes(cut.read_bytes()[:-1000])
    plain = run_ctctl("ct", "list", "-o", "jsonl", "--from", cut)
    assert plain.returncode == 5
    script = agent / "ctctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@" --from {cut}\n')
    script.chmod(0o755)
    with served(Cluster({"a": "ok"}, agent, ours=frozenset({"a"})), tmp_path) as kubeconfig:
        done = ctctl(kubeconfig, "ct", "list", "-o", "jsonl", code=5)
        assert count() > len(done.stdout.splitlines()) == len(plain.stdout.splitlines()) > 0
        assert "partial data" in done.stderr
        stats = ctctl(kubeconfig, "ct", "stats", "-o", "json", code=5)
    assert sum(table["entries"] for table in json.loads(stats.stdout)["tables"]) == len(plain.stdout.splitlines())
    assert "partial data" in stats.stderr


def test_every_listing_has_the_node(agent: Path, tmp_path: Path) -> None:
    folder = ROOT / "cilium-dbg-1.16.4"
    listed = {
        "nat list": "nat-list",
        "lb list": "lb-list",
        "ipcache list": "ipcache-list",
        "endpoint list": "endpoint-list",
    }
    cases = "".join(f'"{words}") [ $# -gt 3 ] || cat {folder}/{name}.txt;; ' for words, name in listed.items())
    (agent / "cilium-dbg").write_text(f'#!/bin/sh\ncase "$2 $3" in {cases} esac\n')
    with served(Cluster({"a": "ok", "b.internal": "ok"}, agent), tmp_path) as kubeconfig:
        for words, name in listed.items():
            rows = [json.loads(row) for row in ctctl(kubeconfig, *words.split(), "-o", "jsonl").stdout.splitlines()]
            plain = run_ctctl(*words.split(), "-o", "jsonl", "--from", folder / f"{name}.txt").stdout.splitlines()
            assert Counter(row["node"] for row in rows) == {"a": len(plain), "b.internal": len(plain)}, words


def test_a_refusal_names_the_whole_command(two: tuple[Cluster, Path]) -> None:
    refused = ctctl(two[1], "ct", "list", "-oxml", code=2).stderr
    assert refused.endswith("(see 'ctctl cluster ct list --help')\n")


def test_what_garbage_collection_would_do_is_told_of_each_node(two: tuple[Cluster, Path]) -> None:
    _, kubeconfig = two
    shown = ctctl(kubeconfig, "gc", "--dry-run").stdout.splitlines()
    assert [line for line in shown if line.endswith(":")] == ["node-1:", "node-2:"]
    for words in (("-ojson",), ("--output=json",)):
        assert "node-1:" not in ctctl(kubeconfig, "gc", "--dry-run", *words).stdout.splitlines()
    text, plain = ctctl(kubeconfig, "gc", "--dry-run", "-o", "json").stdout, []
    while text.strip():
        document, end = json.JSONDecoder().raw_decode(text.strip())
        plain.append(document)
        text = text.strip()[end:]
    alone = json.loads(run_ctctl("gc", "--dry-run", "-o", "json", "--from", LISTED).stdout)
    assert [one["source"] for one in plain] == ["node-1", "node-2"]
    assert [(one["alive"], one["expired"]) for one in plain] == 2 * [(alone["alive"], alone["expired"])]
    assert alone["expired"] > 0


def test_a_node_that_fails_is_a_row_of_what_is_shown_by_nodes(agent: Path, tmp_path: Path) -> None:
    with served(Cluster({"a": "ok", "b": "refuse"}, agent), tmp_path) as kubeconfig:
        lake = ctctl(kubeconfig, "fleet", "collect", tmp_path / "lake", "-o", "jsonl", code=5)
        rows = {row["node"]: row for row in map(json.loads, lake.stdout.splitlines())}
        assert {node: row["status"] for node, row in rows.items()} == {"a": "collected", "b": "failed"}
        assert f"ctctl: b: {rows['b']['problem']}" in lake.stderr.splitlines()
        shown = ctctl(kubeconfig, "gc", "--dry-run", code=5).stdout
        assert shown.endswith(f"b:\n  {rows['b']['problem']}\n")


def test_over_tls_with_the_clusters_own_authority(agent: Path, tmp_path: Path) -> None:
    right, wrong = certificate(tmp_path, "right"), certificate(tmp_path, "wrong")
    with served(Cluster({"a": "ok"}, agent), tmp_path, tls=right) as kubeconfig:
        assert len(ctctl(kubeconfig, "ct", "list", "-o", "name").stdout.splitlines()) == count()
        kubeconfig.write_text(kubeconfig.read_text().replace(str(right), str(wrong)))
        refused = ctctl(kubeconfig, "ct", "list", code=1).stderr
    assert "certificate verify failed" in refused
    assert len(refused.splitlines()) <= 2


@pytest.mark.parametrize("body", ["<html>sign in</html>", "{}", "[]", '{"items": [{"metadata": 3}]}', ""])
def test_an_api_that_is_none(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A page to sign in, another service: its answer is no list of pods."""
    monkeypatch.setattr(Cluster, "request", lambda _self, connection, _request: connection.respond(200, body))
    with served(Cluster({"a": "ok"}, agent), tmp_path) as kubeconfig:
        (line,) = ctctl(kubeconfig, "ct", "list", code=1).stderr.splitlines()
    assert line.startswith("ctctl: ")


def test_frames_as_large_as_a_kubelet_sends(agent: Path, tmp_path: Path) -> None:
    """Several of 64 KiB and the channel's byte, and the last one cut at a line."""
    big = tmp_path / "big.txt"
    lines = LISTED.read_text().splitlines(keepends=True)
    big.write_text("".join(lines * (1 + 4 * FRAME // LISTED.stat().st_size)))
    (agent / "cilium-dbg").write_text(f"#!/bin/sh\ncat {big}\n")
    with served(Cluster({"a": "ok"}, agent), tmp_path) as kubeconfig:
        rows = json.loads(ctctl(kubeconfig, "nodes", "-o", "json").stdout)["nodes"]
    assert rows[0]["bytes"] >= 3 * big.stat().st_size > 3 * FRAME


def test_our_own_pods_filter_where_they_are(agent: Path, tmp_path: Path) -> None:
    """A node with a pod of the DaemonSet is asked for what matches only, by the real command."""
    script = agent / "ctctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@" --from {LISTED}\n')
    script.chmod(0o755)
    cluster = Cluster({"a": "ok"}, agent, ours=frozenset({"a"}))
    with served(cluster, tmp_path) as kubeconfig:
        done = ctctl(kubeconfig, "ct", "list", "udp", "--to-port", 53, "-o", "jsonl")
    plain = run_ctctl("ct", "list", "udp", "--to-port", 53, "-o", "jsonl", "--from", LISTED).stdout.splitlines()
    assert len(done.stdout.splitlines()) == len(plain)
    ((node, command),) = cluster.asked
    assert node == "a"
    assert command[-3:] == ["udp", "--to-port", "53"]


@pytest.mark.parametrize("command", [("stats",), ("stats", "udp"), ("top",), ("top", "tcp", "--by", "port")])
def test_sums_are_made_where_the_tables_are(agent: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A node of ours counts itself and sends a few kilobytes; one of an agent is counted here. The same sums."""
    script = agent / "ctctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@" --from {LISTED}\n')
    script.chmod(0o755)
    cluster = Cluster({"a": "ok", "b": "ok"}, agent, ours=frozenset({"a"}))
    with served(cluster, tmp_path) as kubeconfig:
        done = json.loads(ctctl(kubeconfig, "ct", *command, "-o", "json").stdout)
        shown = ctctl(kubeconfig, "ct", *command, "--limit", 3).stdout
    plain = json.loads(run_ctctl("ct", *command, "-o", "json", "--from", LISTED).stdout)
    if command[0] == "stats":
        assert {one.pop("node") for one in done["tables"]} == {"a", "b"}
        for one in plain["tables"]:
            del one["node"]
        assert sorted(map(str, done["tables"])) == sorted(map(str, 2 * plain["tables"]))
    else:
        counts = {one["key"]: (one["entries"], one["bytes"]) for one in done["talkers"]}
        known = {one["key"]: one for one in plain["talkers"]}
        assert len(counts.keys() & known.keys()) > 1
        for key in counts.keys() & known.keys():
            octets = known[key]["bytes"]
            assert counts[key] == (2 * known[key]["entries"], None if octets is None else 2 * octets)
    assert len(shown.splitlines()) > 1
    (asked,) = [words for node, words in cluster.asked if node == "a"][:1]
    assert asked[:3] == ["ctctl", "ct", command[0]]
    assert asked[-2:] == ["-o", "json"]


def test_a_name_in_a_filter_is_the_apis_and_not_the_nodes(agent: Path, tmp_path: Path) -> None:
    """A node knows its own pods; what is asked for may be another's."""
    script = agent / "ctctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@" --from {LISTED}\n')
    script.chmod(0o755)
    first = json.loads(run_ctctl("ct", "list", "-o", "jsonl", "--from", LISTED, "--limit", 1).stdout)
    cluster = Cluster({"a": "ok"}, agent, ours=frozenset({"a"}), addresses={"cilium-a": first["src"]})
    plain = run_ctctl("ct", "list", "--ip", first["src"], "-o", "jsonl", "--from", LISTED).stdout.splitlines()
    with served(cluster, tmp_path) as kubeconfig:
        for words in (("--ip", "kube-system/cilium-a"), ("ip == kube-system/cilium-a",)):
            found = ctctl(kubeconfig, "ct", "list", *words, "-o", "jsonl").stdout.splitlines()
            assert len(found) == len(plain) > 0
            tables = json.loads(ctctl(kubeconfig, "ct", "stats", *words, "-o", "json").stdout)["tables"]
            assert sum(one["entries"] for one in tables) == len(plain)


def test_a_filter_that_is_none_asks_nobody(two: tuple[Cluster, Path]) -> None:
    cluster, kubeconfig = two
    for command in ("list", "stats", "top"):
        assert "bogus" in ctctl(kubeconfig, "ct", command, "bogus == 3", code=2).stderr
    assert "--by" in ctctl(kubeconfig, "ct", "top", "--by", "bogus", code=2).stderr
    assert not cluster.asked


def test_sums_that_are_none_are_a_reason(agent: Path, tmp_path: Path) -> None:
    script = agent / "ctctl"
    cluster = Cluster({"a": "ok", "b": "ok"}, agent, ours=frozenset({"a"}))
    for answer in ('{"tables": [{"map": 1}]}', "[]", "{}", '{"tables": 7, "talkers": [3]}'):
        script.write_text(f"#!/bin/sh\necho '{answer}'\n")
        script.chmod(0o755)
        with served(cluster, tmp_path) as kubeconfig:
            for command in ("stats", "top"):
                assert "a: what it answered cannot be read" in ctctl(kubeconfig, "ct", command, code=5).stderr


def monitors(agent: Path) -> None:
    """Agents whose monitor prints what a real one printed, until it is told to end."""
    script = agent / "cilium-dbg"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = monitor ] || exit 1\ncat {STORY}\ntrap "exit 0" INT\nwhile :; do sleep 0.1; done\n'
    )


def test_a_connection_is_traced_on_every_node(agent: Path, tmp_path: Path) -> None:
    nodes = {"ip-10-0-0-1.internal": "ok", "node-2": "ok", "bad-1": "garbage", "bad-2": "die"}
    with served(Cluster({"node-2": "ok"}, agent), tmp_path) as kubeconfig:
        listened = f"{1 + 5 * answering(kubeconfig):.1f}s"
    monitors(agent)
    with served(Cluster(nodes, agent), tmp_path) as kubeconfig:
        words = ("trace", "tcp 10.61.1.101:51346 > 10.96.0.10:80", "--for", listened, "-o", "jsonl")
        done = ctctl(kubeconfig, *words, code=5)
    plain = run_ctctl("trace", "--from", STORY, words[1], "-o", "jsonl").stdout.splitlines()
    told = Counter(json.loads(line)["node"] for line in done.stdout.splitlines())
    assert told == {"ip-10-0-0-1.internal": len(plain), "node-2": len(plain)}
    assert len(plain) > 1
    assert "bad-1: what it answered cannot be read" in done.stderr
    assert "bad-2: the connection ended before the command did" in done.stderr


def test_nothing_seen_is_said(agent: Path, tmp_path: Path) -> None:
    (agent / "cilium-dbg").write_text("#!/bin/sh\nexit 0\n")
    with served(Cluster({"a": "ok"}, agent), tmp_path) as kubeconfig:
        assert "no event in 0.5 s on 1 node" in ctctl(kubeconfig, "trace", "tcp", "--for", "0.5s").stderr
        assert "leave out --probe" in ctctl(kubeconfig, "trace", "--probe", code=2).stderr
        assert "leave out --attach" in ctctl(kubeconfig, "trace", "--attach", "tc", code=2).stderr


def test_without_the_extra_one_line_says_how_to_get_it() -> None:
    block = "import sys; sys.modules['lightkube'] = None\nfrom ctctl.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", block, "cluster", "nodes"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
    assert "pip install 'ctctl[k8s]'" in done.stderr


def test_options_of_the_command_are_not_read_letter_by_letter(two: tuple[Cluster, Path]) -> None:
    # The letters of -ojson are not the cluster's -n; its own may be joined to their value too.
    _, kubeconfig = two
    apart = ctctl(kubeconfig, "ct", "list", "-o", "jsonl", "-n", "kube-system").stdout
    assert apart.count("\n") == 2 * count()
    assert ctctl(kubeconfig, "ct", "list", "-ojsonl", "-nkube-system").stdout == apart
    few = ctctl(kubeconfig, "ct", "list", "-o", "jsonl", "--no-related").stdout
    assert few.count("\n") < apart.count("\n")
    assert ctctl(kubeconfig, "ct", "list", "-ojsonl", "--no-related", "-nkube-system").stdout == few


def test_what_was_fetched_is_called_by_its_node_and_commands_that_are_advised_fetch_anew(
    agent: Path, tmp_path: Path
) -> None:
    """The folder that answers lie in is gone when the command ends: nothing names it."""
    gone = "ctctl-cluster-"
    with served(Cluster({"a": "ok", "b": "ok"}, agent), tmp_path) as kubeconfig:
        absent = ctctl(kubeconfig, "ct", "get", "tcp 192.0.2.1:1 > 192.0.2.2:2", code=1)
        empty = ctctl(kubeconfig, "nat", "list")  # the agents list no pair
        lake = ctctl(kubeconfig, "fleet", "collect", tmp_path / "lake", "-o", "jsonl")
        found = ctctl(kubeconfig, "--node", "*", "doctor", "-o", "json", code=3)
        for done in (absent, empty, lake, found):
            assert not [line for line in (done.stdout + done.stderr).splitlines() if gone in line]
        assert not [path for path in (tmp_path / "lake").rglob("*.json") if gone in path.read_text()]
        assert {json.loads(line)["source"] for line in lake.stdout.splitlines()} == {"a", "b"}
        shown = [word for one in json.loads(found.stdout)["findings"] for word in one["show"]]
        fetching = [shlex.split(word) for word in shown if word.startswith("ctctl cluster ")]
        assert fetching
        assert {word[word.index("--kubeconfig") + 1] for word in fetching} == {str(kubeconfig)}
        assert {word[word.index("--node") + 1] for word in fetching} == {"a", "b"}
        again = run_ctctl(*fetching[0][1:], timeout=10 * DEADLINE_S)
        assert again.returncode == 0, again.stderr
        assert again.stdout
