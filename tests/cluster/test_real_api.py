"""``ctctl cluster`` against a real kube-apiserver with RBAC: fifty nodes, ten of which fail, as who may only read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.children import run_ctctl
from tests.support.control_plane import ControlPlane, control_plane, kubelet, why_not
from tests.support.kubeapi import FRAME, Cluster
from tests.support.nodes import OUTSIDE_IP, make_node, run
from tests.support.samples import ROOT
from tests.support.wait import PATIENCE_S, wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
LISTED = ROOT / "cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"
STORY = Path(__file__).parents[1] / "data/story/monitor-v.txt"
FAILING = ("hang", "die", "garbage", "refuse", "slow")
_MISSING = why_not("etcd", "kube-apiserver")

pytestmark = [
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
    pytest.mark.slow,
]

_AGENT = f"""#!/bin/sh
if [ "$1" = monitor ]; then
    cat {STORY}
    trap 'exit 0' INT
    while :; do sleep 0.1; done
fi
case "$2 $3" in "ct list") cat "${{CT_LIST:-{LISTED}}}";; esac
"""


@dataclass(frozen=True)
class Fleet:
    """The API with fifty nodes; ``cluster`` is what their kubelets do."""

    api: ControlPlane
    cluster: Cluster
    port: int

    def ctctl(self, *words: object, user: str = "reader", code: int = 0) -> subprocess.CompletedProcess[str]:
        """``ctctl cluster`` as one of the users."""
        config = self.api.kubeconfig(user)
        done = run_ctctl("cluster", "--kubeconfig", config, *words, timeout=10 * PATIENCE_S)
        assert done.returncode == code, (words, done.stdout[-2000:], done.stderr[-4000:])
        assert "Traceback" not in done.stderr
        return done

    def seconds(self, *words: object) -> float:
        """How long the slowest node that answers takes now."""
        rows = json.loads(self.ctctl("--node", "node-*", "--deadline", 60, "--jobs", 50, *words, "-o", "json").stdout)
        return float(max(row["seconds"] for row in rows["nodes"]))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("cluster")
    programs = folder / "bin"
    programs.mkdir()
    agent = programs / "cilium-dbg"
    agent.write_text(_AGENT)
    agent.chmod(0o755)
    nodes = {f"node-{number:02d}": "ok" for number in range(40)}
    nodes |= {f"bad-{way}-{number}": way for way in FAILING for number in range(2)}
    cluster = Cluster(nodes, programs)
    with control_plane(folder) as api, kubelet(cluster, folder) as port:
        api.apply(DEPLOY / "daemonset.yaml")
        api.apply(DEPLOY / "network-policy.yaml")
        api.apply(DEPLOY / "operator-role.yaml")
        bind(api, "ClusterRole", "ctctl-names", None)
        bind(api, "Role", "ctctl-read", "kube-system")
        for name in nodes:
            api.add_node(name, port)
            api.add_pod(f"cilium-{name}", name, {"k8s-app": "cilium"}, "cilium-agent", "kube-system")
        yield Fleet(api, cluster, port)


def bind(api: ControlPlane, kind: str, role: str, namespace: str | None) -> None:
    """Give a role of deploy/ to the reader."""
    group = "rbac.authorization.k8s.io"
    where = {"namespace": namespace} if namespace else {}
    api.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{'Cluster' if namespace is None else ''}RoleBinding",
            "metadata": {"name": role, **where},
            "roleRef": {"apiGroup": group, "kind": kind, "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "reader"}],
        }
    )
    if namespace is not None:
        wait_for(lambda: may_exec(api, namespace), what="the authorizer knows the binding")


def may_exec(api: ControlPlane, namespace: str) -> bool:
    """Whether the server lets the reader exec in a namespace by now."""
    attributes = {"namespace": namespace, "verb": "get", "resource": "pods", "subresource": "exec"}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}}
    review["spec"] = {"user": "reader", "resourceAttributes": attributes}
    return bool(api.create(review)["status"]["allowed"])


def count() -> int:
    return len(run_ctctl("ct", "list", "-o", "jsonl", "--from", LISTED).stdout.splitlines())


def test_fifty_nodes_of_which_ten_fail_in_five_ways(fleet: Fleet) -> None:
    deadline = 5 + 3 * fleet.seconds("nodes")
    words = ["--deadline", f"{deadline:.1f}", "--jobs", 50, "ct", "list", "-o", "jsonl"]
    done = fleet.ctctl(*words, code=5)
    rows = Counter(json.loads(line)["node"] for line in done.stdout.splitlines())
    assert rows == dict.fromkeys((f"node-{number:02d}" for number in range(40)), count())
    said = {line.split(": ")[1]: line for line in done.stderr.splitlines() if line.startswith("ctctl: bad-")}
    assert set(said) == {f"bad-{way}-{number}" for way in FAILING for number in range(2)}
    reasons = {"hang": "no answer in time", "slow": "no answer in time", "garbage": "cannot be read"}
    for way, reason in reasons.items():
        for number in range(2):
            assert reason in said[f"bad-{way}-{number}"]
    for way in ("die", "refuse"):
        assert said[f"bad-{way}-0"].strip() != f"ctctl: bad-{way}-0:"


def test_frames_of_64_kib_pass_the_real_server(fleet: Fleet, tmp_path: Path) -> None:
    """What a kubelet's copy buffer holds and the channel's byte before it: 65,537 bytes a message."""
    big = tmp_path / "big.txt"
    lines = LISTED.read_text().splitlines(keepends=True)
    big.write_text("".join(lines * (1 + 4 * FRAME // LISTED.stat().st_size)))
    agent = fleet.cluster.bin / "cilium-dbg"
    agent.write_text(f"#!/bin/sh\ncat {big}\n")
    try:
        rows = json.loads(fleet.ctctl("--node", "node-00", "nodes", "-o", "json").stdout)["nodes"]
    finally:
        agent.write_text(_AGENT)
    assert rows[0]["bytes"] >= 3 * big.stat().st_size > 3 * FRAME


def test_who_may_not_is_told_so(fleet: Fleet) -> None:
    """By RBAC itself: who may list nothing; and who may list, but not exec there."""
    assert "refuses" in fleet.ctctl("ct", "list", user="nobody", code=4).stderr
    fleet.api.ask("DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/ctctl-read")
    try:
        wait_for(lambda: not may_exec(fleet.api, "kube-system"), what="the authorizer knows that it is gone")
        done = fleet.ctctl("--node", "node-0[01]", "ct", "list", code=5)
        assert "refused: pods" in done.stderr
        assert 'cannot create resource "pods/exec"' in done.stderr or 'cannot get resource "pods/exec"' in done.stderr
    finally:
        bind(fleet.api, "Role", "ctctl-read", "kube-system")


def test_a_trace_listens_on_every_node(fleet: Fleet) -> None:
    flow = "tcp 10.61.1.101:51346 > 10.96.0.10:80"
    done = fleet.ctctl("--node", "node-0*", "trace", flow, "--for", "1s", "-o", "jsonl")
    told = Counter(json.loads(line)["node"] for line in done.stdout.splitlines())
    plain = len(run_ctctl("trace", "--from", STORY, flow, "-o", "jsonl").stdout.splitlines())
    assert told == {f"node-{number:02d}": plain for number in range(10)}


@pytest.mark.kernel
def test_our_own_pods_answer_of_real_tables(fleet: Fleet) -> None:
    """Two loaded nodes with entries of real packets: the DaemonSet's pods are asked, and filter in their kernel."""
    bind(fleet.api, "Role", "ctctl-read", "ctctl")
    with ExitStack() as stack:
        loaded = [stack.enter_context(make_node()) for _ in range(2)]
        script = fleet.cluster.bin / "ctctl"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@" --node "$NODE"\n')
        script.chmod(0o755)
        stack.callback(script.unlink)
        nodes = fleet.cluster.nodes
        assert isinstance(nodes, dict)
        for number, node in enumerate(loaded, 1):
            file = fleet.api.folder / f"{node.name}.yaml"
            file.write_text(node.text())
            assert run_ctctl("load", "-f", file, "--netns", node.name).returncode == 0
            stack.callback(run_ctctl, "unload", "--node", node.name, "--yes")
            for _ in range(number):
                run("ip", "netns", "exec", node.pod(1), "ping", "-c1", OUTSIDE_IP)
            nodes[node.name] = "ok"
            fleet.api.add_node(node.name, fleet.port)
            fleet.api.add_pod(f"ctctl-{node.name}", node.name, {"app.kubernetes.io/name": "ctctl"}, "ctctl", "ctctl")
        names = [node.name for node in loaded]
        asked = len(fleet.cluster.asked)
        pattern = "t[0-9]*n"
        done = fleet.ctctl("--node", pattern, "ct", "list", "icmp", "-o", "jsonl")
        told = Counter(json.loads(line)["node"] for line in done.stdout.splitlines())
        for name in names:
            here = run_ctctl("ct", "list", "icmp", "--node", name, "-o", "jsonl").stdout.splitlines()
            assert told[name] == len(here) > 0
        commands = [command for _, command in fleet.cluster.asked[asked:]]
        assert [command[-1] for command in commands] == ["icmp", "icmp"]
