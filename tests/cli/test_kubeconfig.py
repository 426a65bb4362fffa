"""``ctctl cluster`` finds a cluster as kubectl does: several files, programs for credentials, proxies, names of TLS."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.children import run_ctctl
from tests.support.connect_proxy import connect_proxy
from tests.support.kubeapi import Cluster, agent_in, certificate, served

pytest.importorskip("lightkube", reason="clusters need lightkube (ctctl[k8s])")
pytest.importorskip("websockets", reason="clusters need websockets (ctctl[k8s])")


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return agent_in(tmp_path)


@pytest.fixture
def two(agent: Path, tmp_path: Path) -> Iterator[tuple[Cluster, Path]]:
    cluster = Cluster({"node-1": "ok", "node-2": "ok"}, agent)
    with served(cluster, tmp_path) as kubeconfig:
        yield cluster, kubeconfig


def nodes(*words: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """``ctctl cluster nodes``, with these variables and nothing of who runs the test."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "HTTP", "http"))}
    done = run_ctctl("cluster", *words, "nodes", env={**usual, **environment})
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def changed(kubeconfig: Path, **parts: dict[str, Any]) -> None:
    """Its first cluster or user, with other keys."""
    document = yaml.safe_load(kubeconfig.read_text())
    for name, keys in parts.items():
        document[f"{name}s"][0][name] = {**document[f"{name}s"][0][name], **keys}
    kubeconfig.write_text(yaml.safe_dump(document))


def plugin(folder: Path, script: str) -> Path:
    path = folder / "login"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def credentials(kubeconfig: Path, version: str, command: Path | str) -> None:
    """Let a program say who one is, as kubeconfigs of the cloud providers do."""
    said = {"apiVersion": f"client.authentication.k8s.io/{version}", "command": str(command)}
    changed(kubeconfig, user={"exec": {**said, "interactiveMode": "Never"}, "token": None})


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1", "v1"])
def test_a_program_says_who_one_is_once(two: tuple[Cluster, Path], tmp_path: Path, version: str) -> None:
    """For every listing of every node it would be asked a hundred thousand times; it is told what is expected of it."""
    status = json.dumps({"kind": "ExecCredential", "status": {"token": "right"}})
    credentials(
        two[1], version, plugin(tmp_path, f"echo \"$KUBERNETES_EXEC_INFO\" >> {tmp_path}/asked\necho '{status}'")
    )
    nodes("--kubeconfig", two[1])
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert len(two[0].asked) > 2
    (one,) = asked
    assert one["apiVersion"] == f"client.authentication.k8s.io/{version}"
    assert one["spec"] == {"interactive": False}


def test_a_program_is_told_of_the_cluster_and_speaks_to_who_waits(two: tuple[Cluster, Path], tmp_path: Path) -> None:
    status = json.dumps({"kind": "ExecCredential", "status": {"token": "right"}})
    script = plugin(
        tmp_path, f"echo \"$KUBERNETES_EXEC_INFO\" > {tmp_path}/asked\necho log in there >&2\necho '{status}'"
    )
    credentials(two[1], "v1", script)
    user = yaml.safe_load(two[1].read_text())["users"][0]["user"]
    changed(two[1], user={**user, "exec": {**user["exec"], "provideClusterInfo": True}})
    assert nodes("--kubeconfig", two[1]).stderr == "log in there\n"
    server = yaml.safe_load(two[1].read_text())["clusters"][0]["cluster"]["server"]
    assert json.loads((tmp_path / "asked").read_text())["spec"]["cluster"] == {"server": server}


def test_a_program_that_says_so_by_a_certificate(agent: Path, tmp_path: Path) -> None:
    authority, mine = certificate(tmp_path, "right"), certificate(tmp_path, "mine")
    said = {"clientCertificateData": mine.read_text(), "clientKeyData": mine.with_suffix(".pem").read_text()}
    (tmp_path / "said").write_text(json.dumps({"kind": "ExecCredential", "status": {**said, "token": "right"}}))
    with served(Cluster({"a": "ok"}, agent), tmp_path, tls=authority, known_by=mine) as kubeconfig:
        assert nodes("--kubeconfig", kubeconfig, code=1).stderr
        credentials(kubeconfig, "v1", plugin(tmp_path, f"cat {tmp_path}/said"))
        assert nodes("--kubeconfig", kubeconfig).stdout


def test_one_who_acts_as_another_is_asked_as_that_one(two: tuple[Cluster, Path]) -> None:
    user = {"token": "right", "as": "ada", "as-groups": ["lab", "night shift"], "as-user-extra": {"Why/So": ["a", "b"]}}
    changed(two[1], user=user)
    nodes("--kubeconfig", two[1])
    told = [[pair for pair in one if pair[0].startswith("impersonate-")] for one in two[0].headers]
    assert len(told) > 4
    expected = [
        ("user", "ada"),
        ("group", "lab"),
        ("group", "night shift"),
        ("extra-why%2fso", "a"),
        ("extra-why%2fso", "b"),
    ]
    assert all(one == [(f"impersonate-{name}", value) for name, value in expected] for one in told)


@pytest.mark.parametrize("user", [None, {}, {"token": ""}, {"tokenFile": "", "token": "right"}])
def test_nobody_in_particular(two: tuple[Cluster, Path], user: dict[str, str] | None) -> None:
    """A context without a user, and what is left empty: the server says whether that is enough."""
    document = yaml.safe_load(two[1].read_text())
    if user is None:
        del document["contexts"][0]["context"]["user"]
    document["users"][0]["user"] = user
    two[1].write_text(yaml.safe_dump(document))
    done = nodes("--kubeconfig", two[1], code=0 if user and user.get("token") else 4)
    assert done.stdout or done.stderr == "ctctl: the API server refuses: Unauthorized\n"


def test_a_kubeconfig_may_be_a_pipe(two: tuple[Cluster, Path], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", two[1], pipe]):
        assert nodes("--kubeconfig", pipe).stdout


def test_a_file_that_is_named_and_not_there_is_named(two: tuple[Cluster, Path]) -> None:
    changed(two[1], user={"client-certificate": "mine.crt", "client-key": "mine.pem"})
    (line,) = nodes("--kubeconfig", two[1], code=1).stderr.splitlines()
    assert line == f"ctctl: kubeconfig: {two[1].parent}/mine.crt not found, its client-certificate"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "login returned 3"),
        ("echo nothing", "its program printed none"),
        ("echo '{}'", "its program printed none"),
        (None, "No such file or directory"),
    ],
)
def test_a_program_that_cannot_say_who_one_is(
    two: tuple[Cluster, Path], tmp_path: Path, script: str | None, said: str
) -> None:
    credentials(two[1], "v1", plugin(tmp_path, script) if script is not None else tmp_path / "login")
    (line,) = nodes("--kubeconfig", two[1], code=1).stderr.splitlines()
    assert line.startswith("ctctl: the kubeconfig's credentials: ")
    assert said in line


def test_several_files_are_one_as_kubectl_has_it(agent: Path, tmp_path: Path) -> None:
    """A context here, its cluster and user there; of two of a name the first; names of files beside who names them."""
    authority = certificate(tmp_path, "right")
    with served(Cluster({"node-1": "ok"}, agent), tmp_path, tls=authority) as kubeconfig:
        document = yaml.safe_load(kubeconfig.read_text())
        clusters, users = tmp_path / "clusters", tmp_path / "users"
        for folder in (clusters, users):
            folder.mkdir()
        (clusters / "right.crt").write_text(authority.read_text())
        (users / "secret").write_text("right")
        document["clusters"][0]["cluster"]["certificate-authority"] = "right.crt"
        (clusters / "config").write_text(yaml.safe_dump({"clusters": document["clusters"]}))
        user = {"name": "reader", "user": {"tokenFile": "secret"}}
        (users / "config").write_text(yaml.safe_dump({"users": [user], "current-context": "nowhere"}))
        kubeconfig.write_text(yaml.safe_dump({**document, "clusters": [], "users": []}))
        wrong = {"clusters": [{"name": "testing", "cluster": {"server": "https://127.0.0.1:1"}}]}
        (tmp_path / "last").write_text(yaml.safe_dump({**wrong, "users": [{"name": "reader", "user": {}}]}))
        files = [tmp_path / "missing", kubeconfig, clusters / "config", users / "config", tmp_path / "last"]
        assert "node-1" in nodes(KUBECONFIG=":".join(map(str, files))).stdout
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube/config").write_text((tmp_path / "last").read_text())
        here = nodes(HOME=str(tmp_path), KUBECONFIG="", code=1).stderr
    assert "kubeconfig: " in here


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not found"),
        ("- a list\n", "is none"),
        ("{", "kubeconfig: "),
        ("clusters: []\n", "no current context"),
        ("clusters: [{nme: a}]\n", "one of its clusters has no name"),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: b, user: c}}]\n",
            "the cluster 'b' is named, and not found there",
        ),
    ],
)
def test_a_file_that_leads_nowhere(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    (line,) = nodes("--kubeconfig", path, code=1).stderr.splitlines()
    assert line.startswith("ctctl: kubeconfig: ")
    assert said in line


@pytest.mark.parametrize("where", ["kubeconfig", "environment"])
def test_through_a_proxy(agent: Path, tmp_path: Path, where: str) -> None:
    """Lists and commands both."""
    tls = certificate(tmp_path, "right")
    with connect_proxy() as (url, asked), served(Cluster({"a": "ok"}, agent), tmp_path, tls=tls) as kubeconfig:
        environment = {"NO_PROXY": "", "no_proxy": ""}
        if where == "kubeconfig":
            changed(kubeconfig, cluster={"proxy-url": url})
        else:
            environment["HTTPS_PROXY"] = url
        assert nodes("--kubeconfig", kubeconfig, **environment).stdout
        server = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]).netloc
    assert len(asked) > 2
    assert set(asked) == {f"CONNECT {server}"}


def test_a_server_by_another_name(agent: Path, tmp_path: Path) -> None:
    """By an address of which its certificate says nothing: through a tunnel, from outside."""
    tls = certificate(tmp_path, "right", of="DNS:api.cluster.example")
    with served(Cluster({"a": "ok"}, agent), tmp_path, tls=tls) as kubeconfig:
        assert "certificate verify failed" in nodes("--kubeconfig", kubeconfig, code=1).stderr
        changed(kubeconfig, cluster={"tls-server-name": "api.cluster.example"})
        assert nodes("--kubeconfig", kubeconfig).stdout
        changed(kubeconfig, cluster={"tls-server-name": "other.example"})
        assert "certificate verify failed" in nodes("--kubeconfig", kubeconfig, code=1).stderr
