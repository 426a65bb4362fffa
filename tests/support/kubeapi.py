"""A small API server with kubelets behind it: real HTTP, real WebSockets, real commands.

Each node's agent pod runs what it is told as a process whose ``cilium-dbg`` prints what a real one printed. Nodes
can fail in the ways nodes do.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.wait import PATIENCE_S

#: A write of a runtime, which is one message however long it is: with the channel's byte more than other clients take.
FRAME = 64 << 10


def agent_in(folder: Path, listing: Path | None = None, **answers: str) -> Path:
    """A folder there with a ``cilium-dbg`` that prints a listing of conntrack tables, or nothing.

    ``answers``: the shell's words for other listings by name, ``nat_list`` for one.
    """
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    script = programs / "cilium-dbg"
    known = {"ct_list": f"cat {listing}"} if listing is not None else {}
    known |= answers
    cases = "".join(f'"{name.replace("_", " ")}") {words};; ' for name, words in known.items())
    script.write_text(f'#!/bin/sh\ncase "$2 $3" in {cases}*) exit 0;; esac\n')
    script.chmod(0o755)
    return programs


@dataclass
class Cluster:
    """Nodes by name with how they behave: ok, hang, die, garbage, refuse, slow. ``bin``: their commands."""

    nodes: Mapping[str, str]
    bin: Path
    ours: frozenset[str] = frozenset()
    addresses: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    headers: list[list[tuple[str, str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    # ---- the API

    def request(self, connection: Any, request: Any) -> Any:
        """The answer to a plain request; None: it goes on as a WebSocket."""
        url = urlsplit(request.path)
        parts = url.path.strip("/").split("/")
        self.headers.append([(name.lower(), value) for name, value in request.headers.raw_items()])
        if request.headers.get("Authorization") != "Bearer right":
            return self._says(connection, HTTPStatus.UNAUTHORIZED, "Unauthorized")
        if parts[-1] == "exec":
            return self.refusal(connection, request)
        labels = parse_qs(url.query).get("labelSelector", [""])[0]
        lists = {"pods": lambda: self._pods(labels), "nodes": self._nodes, "services": list}
        if parts[-1] not in lists:
            return self._says(connection, HTTPStatus.NOT_FOUND, "not found")
        kind = {"pods": "PodList", "nodes": "NodeList", "services": "ServiceList"}[parts[-1]]
        document = {"kind": kind, "apiVersion": "v1", "metadata": {}, "items": lists[parts[-1]]()}
        return self._json(connection, HTTPStatus.OK, document)

    def _says(self, connection: Any, status: HTTPStatus, message: str) -> Any:
        about = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": int(status)}
        return self._json(connection, status, about)

    @staticmethod
    def _json(connection: Any, status: HTTPStatus, document: object) -> Any:
        answer = connection.respond(status, json.dumps(document))
        del answer.headers["Content-Type"]
        answer.headers["Content-Type"] = "application/json"
        return answer

    def _pods(self, labels: str) -> list[dict[str, Any]]:
        ours = "name=ctctl" in labels
        names = self.ours if ours else self.nodes
        prefix, container = ("ctctl", "ctctl") if ours else ("cilium", "cilium-agent")
        return [
            {
                "metadata": {"name": f"{prefix}-{node}", "namespace": "kube-system"},
                "spec": {"nodeName": node, "containers": [{"name": container}]},
                "status": {"phase": "Running", "podIP": self.addresses.get(f"{prefix}-{node}", "")},
            }
            for node in names
        ]

    def _nodes(self) -> list[dict[str, Any]]:
        return [{"metadata": {"name": node}, "spec": {}, "status": {}} for node in self.nodes]

    @staticmethod
    def _node(pod: str) -> str:
        return pod.split("-", 1)[1]

    # ---- the kubelet

    def refusal(self, connection: Any, request: Any) -> Any:
        """The answer of a node that refuses an exec; None: it goes on as a WebSocket."""
        pod = urlsplit(request.path).path.split("/")[-2]
        if self.nodes[self._node(pod)] != "refuse":
            return None
        return self._says(connection, HTTPStatus.FORBIDDEN, f'pods "{pod}" is forbidden: cannot create pods/exec')

    def exec(self, connection: Any) -> None:
        """Run a command in a pod, or fail as this node does."""
        url = urlsplit(connection.request.path)
        node, command = self._node(url.path.split("/")[-2]), parse_qs(url.query)["command"]
        self.asked.append((node, command))
        behaviour = self.nodes[node]
        if behaviour == "hang":
            self.over.wait(PATIENCE_S)
            return
        if behaviour == "garbage":
            connection.send(b"\x01" + bytes(range(1, 256)) * 40)
            self._ended(connection, 0)
            return
        env = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "NODE": node}
        done = subprocess.run(command, capture_output=True, env=env, check=False)
        if behaviour == "die":
            connection.send(b"\x01" + done.stdout[: len(done.stdout) // 2])
            # Not closed: the library's thread reads it still, and would read of the next one that gets its number.
            socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
            return
        if behaviour == "slow":
            for byte in done.stdout:
                connection.send(bytes([1, byte]))
                if self.over.wait(0.5):
                    return
        for start in range(0, len(done.stdout), FRAME):
            connection.send(b"\x01" + done.stdout[start : start + FRAME])
        if done.stderr:
            connection.send(b"\x02" + done.stderr)
        self._ended(connection, done.returncode)

    @staticmethod
    def _ended(connection: Any, code: int) -> None:
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            message = f"command terminated with non-zero exit code: exit status {code}"
            status = {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": message,
                "details": {"causes": [cause]},
            }
        connection.send(b"\x03" + json.dumps(status).encode())


def certificate(folder: Path, name: str, of: str = "IP:127.0.0.1") -> Path:
    """A certificate of 127.0.0.1, unless of another, that is its own authority; the key is beside it (``.pem``)."""
    path = folder / f"{name}.crt"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "1"]
    words += ["-addext", f"subjectAltName={of}", "-keyout", str(path.with_suffix(".pem")), "-out", str(path)]
    subprocess.run(words, capture_output=True, check=True)
    return path


def _secured(path: Path, known_by: Path | None) -> ssl.SSLContext:
    """What a server with this certificate speaks; with whom: anybody, or who has that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, path.with_suffix(".pem"))
    if known_by is not None:
        context.load_verify_locations(known_by)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def listening(
    cluster: Cluster, answer: Callable[[Any, Any], Any], tls: Path | None, known_by: Path | None = None
) -> Iterator[int]:
    """The cluster's pods on a port of this machine, over TLS with a ``certificate``; gives the port.

    ``answer`` is a method of the cluster: what a request is answered before it may go on as a WebSocket.
    """
    from websockets.sync.server import serve

    with serve(
        cluster.exec,
        "127.0.0.1",
        0,
        ssl=_secured(tls, known_by) if tls is not None else None,
        process_request=answer,
        subprotocols=["v4.channel.k8s.io"],
        compression=None,
        ping_interval=None,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            cluster.over.set()
            server.shutdown()
            thread.join(PATIENCE_S)


@contextlib.contextmanager
def served(cluster: Cluster, folder: Path, *, tls: Path | None = None, known_by: Path | None = None) -> Iterator[Path]:
    """The cluster's API and its pods on one port of this machine; gives its kubeconfig.

    ``known_by``: over TLS, to who has that certificate only.
    """
    with listening(cluster, cluster.request, tls, known_by) as port:
        path = folder / "kubeconfig"
        scheme = "https" if tls is not None else "http"
        path.write_text(yaml.safe_dump(_kubeconfig(f"{scheme}://127.0.0.1:{port}", tls)))
        yield path


def _kubeconfig(url: str, authority: Path | None) -> dict[str, Any]:
    trust = {"certificate-authority": str(authority)} if authority is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "testing", "cluster": {"server": url, **trust}}],
        "users": [
            {"name": "reader", "user": {"token": "right"}},
            {"name": "nobody", "user": {"token": "wrong"}},
        ],
        "contexts": [
            {"name": "here", "context": {"cluster": "testing", "user": "reader"}},
            {"name": "refused", "context": {"cluster": "testing", "user": "nobody"}},
        ],
    }
