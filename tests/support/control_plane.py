"""A real Kubernetes API server on this machine: etcd, kube-apiserver with RBAC, and kubelets that answer exec.

The programs are made once by ``tools/build_cluster.sh``. Nodes are objects of the API whose kubelet is one server of
ours, over TLS as the API server wants it: WebSockets, real commands (``tests.support.kubeapi``). Everything listens on
127.0.0.1 and is gone at the end.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.children import started
from tests.support.kubeapi import Cluster, certificate, listening
from tests.support.net import free_ports
from tests.support.wait import PATIENCE_S, wait_for

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctctl/cluster"
PARTS = Path(os.environ.get("CTCTL_CLUSTER") or _CACHE)
#: Users by token: who may do everything, who may do what deploy/operator-role.yaml says, and who may do nothing.
USERS = {"admin": "system:masters", "reader": "", "nobody": ""}


def why_not(*programs: str) -> str | None:
    """The reason why there is no such control plane; None where it was built."""
    missing = [name for name in programs if not (PARTS / name).exists()]
    return f"{', '.join(missing)} not in {PARTS}: make test-cluster builds them" if missing else None


@dataclass(frozen=True)
class ControlPlane:
    """``url`` of the API server; ``folder`` has its certificate and the kubeconfigs."""

    url: str
    folder: Path

    def ask(self, method: str, path: str, document: object = None, kind: str = "application/json") -> Any:
        """The API's answer to its administrator. Raises urllib's HTTPError."""
        body = json.dumps(document).encode() if document is not None else None
        headers = {"Authorization": "Bearer token-of-admin", "Content-Type": kind}
        request = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, context=self._trust(), timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "apiserver.crt"))

    def apply(self, path: Path) -> list[dict[str, Any]]:
        """Create the objects of a file, as ``kubectl apply`` does with new ones; what the server made of them."""
        return [self.create(one) for one in yaml.safe_load_all(path.read_text())]

    def create(self, document: dict[str, Any]) -> Any:
        """Create one object."""
        version = document["apiVersion"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        namespace = document["metadata"].get("namespace")
        within = f"/namespaces/{namespace}" if namespace else ""
        return self.ask("POST", f"{root}{within}/{_plural(document['kind'])}", document)

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig of one of ``USERS``."""
        path = self.folder / f"{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "apiserver.crt")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "real", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": f"token-of-{user}"}}],
            "contexts": [{"name": "here", "context": {"cluster": "real", "user": user}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def add_node(self, name: str, kubelet_port: int) -> None:
        """A node whose kubelet is there."""
        self.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        }
        self._status(f"/api/v1/nodes/{name}", status)

    def add_pod(self, name: str, node: str, labels: dict[str, str], container: str, namespace: str) -> None:
        """A running pod."""
        spec = {"nodeName": node, "containers": [{"name": container, "image": "none"}], "hostNetwork": True}
        spec |= {"tolerations": [{"operator": "Exists"}]}
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self._status(f"/api/v1/namespaces/{namespace}/pods/{name}", {"phase": "Running"})

    def _status(self, path: str, status: dict[str, Any]) -> None:
        self.ask("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")


def _plural(kind: str) -> str:
    return {"NetworkPolicy": "networkpolicies"}.get(kind, f"{kind.lower()}s")


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """The control plane, ready; its log is ``folder``/apiserver.log."""
    with ExitStack() as stack:
        etcd, peers, port = free_ports(3)
        store = f"http://127.0.0.1:{etcd}"
        words = ["--data-dir", folder / "etcd", "--listen-client-urls", store, "--advertise-client-urls", store]
        words += ["--listen-peer-urls", f"http://127.0.0.1:{peers}", "--unsafe-no-fsync"]
        _start(stack, folder, "etcd", *words)
        (folder / "tokens.csv").write_text(
            "".join(f'token-of-{user},{user},{user},"{group}"\n' for user, group in USERS.items())
        )
        key = folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], capture_output=True, check=True)
        server = _start(
            stack,
            folder,
            "kube-apiserver",
            *("--etcd-servers", store, "--bind-address", "127.0.0.1", "--secure-port", port, "--cert-dir", folder),
            *("--token-auth-file", folder / "tokens.csv", "--authorization-mode", "RBAC"),
            *("--service-account-issuer", "https://here", "--service-account-key-file", key),
            *("--service-account-signing-key-file", key, "--disable-admission-plugins", "ServiceAccount"),
            *("--service-cluster-ip-range", "10.96.0.0/24", "--allow-privileged=true"),
            *("--kubelet-preferred-address-types", "InternalIP"),
        )
        made = ControlPlane(f"https://127.0.0.1:{port}", folder)

        def ready() -> bool:
            assert server.poll() is None, (folder / "kube-apiserver.log").read_text()[-3000:]
            try:
                made.ask("GET", "/api/v1/namespaces/kube-system")
            except (OSError, urllib.error.HTTPError):
                return False
            return True

        wait_for(ready, what="the API server answers")
        yield made


def _start(stack: ExitStack, folder: Path, name: str, *words: object) -> subprocess.Popen[str]:
    log = stack.enter_context((folder / f"{name}.log").open("w"))
    return stack.enter_context(started(PARTS / name, *map(str, words), stdout=log, stderr=log))


def kubelet(cluster: Cluster, folder: Path) -> AbstractContextManager[int]:
    """A kubelet for every node of ``cluster``, over TLS; gives its port."""
    return listening(cluster, cluster.refusal, certificate(folder, "kubelet"))
