"""The Kubernetes API as far as it is needed: pods, names, and a command in a pod.

lightkube reads kubeconfigs and lists objects. Exec is a WebSocket of our own on ``websockets``: what lightkube brings
for it (1.0.1) ends the connection at a message of more than 65,536 bytes, the channel's byte among them, and keeps the
whole output in memory. How long a message is decides the runtime behind the kubelet, which sends each of its writes as
one: mostly up to 32 KiB, which no rule says.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO, Final
from urllib.parse import quote, urlencode

from ctctl.errors import CtctlError, MissingLibraryError, NotFoundError, PermissionDenied, UsageError, first_line

_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _STATUS = 1, 2, 3
#: Bytes of what a command says on stderr, and of an answer that refuses, that are kept.
_SAID: Final = 4096
_CLOSE_S: Final = 1.0


class ClusterError(CtctlError):
    """The API or a node did not answer as it should. The message is the reason, for a row."""


class TransientError(ClusterError):
    """It may go better when tried again: the connection was refused, cut or the server was busy."""


class ExitError(ClusterError):
    """The command ran and ended with a status of its own, ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingLibraryError("clusters need lightkube and websockets", "k8s") from None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that can be asked: where it runs and which container."""

    name: str
    namespace: str
    node: str
    container: str
    ready: bool


class Api:
    """One cluster's API. ``context`` and ``kubeconfig`` as kubectl takes them."""

    def __init__(self, kubeconfig: str | None, context: str | None, timeout_s: float) -> None:
        lightkube, config = _library("lightkube"), _library("lightkube.config.kubeconfig")
        self._http = _library("httpx2" if _has("httpx2") else "httpx")
        self._websockets = _library("websockets.sync.client")
        try:
            read = config.KubeConfig.from_file(kubeconfig) if kubeconfig else config.KubeConfig.from_env()
            self.config = read.get(context)
            self.client = lightkube.Client(self.config, timeout=self._http.Timeout(timeout_s))
        except Exception as error:
            raise NotFoundError(f"kubeconfig: {first_line(error)}") from None
        if self.config is None:
            raise NotFoundError(f"kubeconfig: no context {context!r}")
        self.cluster = str(self.config.context.cluster)
        self.stopped = False
        #: Asked between answers; raises where the command has been told to end.
        self.look: Callable[[], None] = lambda: None
        self._running: set[Any] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End every command that runs in a pod, and let no other begin: from another thread than theirs."""
        with self._lock:
            self.stopped = True
            for connection in self._running:
                with contextlib.suppress(OSError):  # it has ended by itself
                    connection.socket.shutdown(socket.SHUT_RDWR)

    def pods(self, selector: str, namespace: str) -> list[Pod]:
        """The pods with these labels (``a=b,c=d``), by node. Raises UsageError, ClusterError, PermissionDenied."""
        core = _library("lightkube.resources.core_v1")
        found = []
        for one in self._list(core.Pod, namespace=namespace, labels=_labels(selector)):
            containers = one.spec.containers
            names = [container.name for container in containers]
            container = next((name for name in ("cilium-agent", "ctctl") if name in names), names[0])
            ready = one.status is not None and one.status.phase == "Running"
            if one.spec.nodeName:
                found.append(Pod(one.metadata.name, one.metadata.namespace, one.spec.nodeName, container, ready))
        return sorted(found, key=lambda pod: (pod.node, pod.name))

    def nodes(self) -> list[str]:
        """Names of all nodes."""
        core = _library("lightkube.resources.core_v1")
        return sorted(one.metadata.name for one in self._list(core.Node))

    def names(self) -> list[dict[str, Any]]:
        """Pods, services and nodes as objects that ``--names`` reads; of kinds that may not be listed, none."""
        core = _library("lightkube.resources.core_v1")
        found: list[dict[str, Any]] = []
        for kind, resource in (("Pod", core.Pod), ("Service", core.Service), ("Node", core.Node)):
            try:
                namespace = {} if kind == "Node" else {"namespace": "*"}
                for one in self._list(resource, **namespace):
                    found.append({"apiVersion": "v1", "kind": kind, **one.to_dict()})
            except CtctlError:
                continue
        return found

    def _list(self, resource: Any, **how: Any) -> list[Any]:
        errors = _library("lightkube.core.exceptions")
        try:
            found = list(self.client.list(resource, **how))
        except errors.ApiError as error:
            if error.status.code in (401, 403):
                raise PermissionDenied(f"the API server refuses: {error.status.message}") from None
            raise ClusterError(f"the API server: {error.status.message}") from None
        except self._http.HTTPError as error:
            raise ClusterError(f"{self.config.cluster.server}: {first_line(error)}") from None
        # A signal that comes while an answer is decoded gets lost: its decoder drops what a look-up raises.
        self.look()
        return found

    def run(self, pod: Pod, command: Sequence[str], deadline: float, output: BinaryIO) -> None:
        """Run a command in a pod; its stdout goes to ``output`` as it comes. ``deadline``: of ``time.monotonic``.

        Raises ClusterError (TransientError where trying again may help) unless it ended with status 0 in time.
        """
        words = [("command", word) for word in command]
        query = urlencode([*words, ("container", pod.container), ("stdout", "true"), ("stderr", "true")])
        path = f"/api/v1/namespaces/{quote(pod.namespace)}/pods/{quote(pod.name)}/exec?{query}"
        url = self.config.cluster.server.rstrip("/") + path
        exceptions = _library("websockets.exceptions")
        try:
            connection = self._open(url, deadline)
        except exceptions.InvalidStatus as error:
            raise _refusal(error.response.status_code, bytes(error.response.body or b"")[:_SAID]) from None
        except TimeoutError:
            raise ClusterError("no answer in time: the connection was not opened") from None
        except (OSError, exceptions.WebSocketException) as error:
            raise TransientError(f"cannot connect: {first_line(error)}") from None
        try:
            with self._lock:
                self._running.add(connection)
            if self.stopped:
                raise ClusterError("stopped")
            self._receive(connection, deadline, output)
        except TimeoutError:
            raise ClusterError("no answer in time: the command did not end") from None
        except exceptions.ConnectionClosed:
            raise TransientError("the connection ended before the command did") from None
        except exceptions.WebSocketException as error:
            raise TransientError(f"the connection broke: {first_line(error)}") from None
        finally:
            with self._lock:
                self._running.discard(connection)
            connection.socket.close()  # at once: a node that hangs does not answer a farewell

    def _open(self, url: str, deadline: float) -> Any:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.stopped:
            raise ClusterError("stopped")
        adapter = _library("lightkube.config.client_adapter")
        user, cluster = self.config.user, self.config.cluster
        secure = url.startswith("https")
        headers = self._headers(adapter.user_auth(user), url)
        return self._websockets.connect(
            url.replace("http", "ws", 1),
            ssl=adapter.verify_cluster(cluster, user, self.config.abs_file) if secure else None,
            subprotocols=list(_PROTOCOLS),
            additional_headers=headers,
            open_timeout=left,
            close_timeout=_CLOSE_S,
            ping_interval=None,
            compression=None,
            max_size=None,
        )

    def _headers(self, auth: Any, url: str) -> dict[str, str]:
        if auth is None:
            return {}
        request = self._http.Request("GET", url)
        request = next(auth.sync_auth_flow(request))
        return {"Authorization": request.headers["Authorization"]}

    @staticmethod
    def _receive(connection: Any, deadline: float, output: BinaryIO) -> None:
        said = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            message = connection.recv(timeout=left)
            if not isinstance(message, bytes) or not message:
                raise ClusterError("what it answered is no exec of Kubernetes")
            channel, data = message[0], message[1:]
            if channel == _STDOUT:
                output.write(data)
            elif channel == _STDERR:
                said = (said + data)[:_SAID]
            elif channel == _STATUS:
                _check_status(data, said)
                return


def _check_status(data: bytes, said: bytes) -> None:
    """Raise ClusterError unless the command ended well."""
    try:
        status = json.loads(data)
        ended_well, message = status["status"] == "Success", str(status.get("message", ""))
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [int(one["message"]) for one in causes if one.get("reason") == "ExitCode"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ClusterError("what it answered is no exec of Kubernetes") from None
    if not ended_well:
        text = said.decode("utf-8", "replace").strip().splitlines()
        reason = f"{text[-1]} ({message})" if text else message
        raise ExitError(reason, codes[0]) if codes else ClusterError(reason)


def _refusal(code: int, body: bytes) -> ClusterError | PermissionDenied:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP status {code}"
    if code in (401, 403):
        return ClusterError(f"refused: {message}")
    return TransientError(message) if code in (429, 500, 502, 503, 504) else ClusterError(message)


def _labels(selector: str) -> dict[str, str]:
    """``a=b,c=d``. Raises UsageError for anything else: what was left out would select pods that nobody meant."""
    found: dict[str, str] = {}
    for part in selector.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or not name or name.endswith("!") or value.startswith("="):
            raise UsageError(f"-l {selector!r}: write labels as A=B, several with a comma")
        found[name] = value
    return found


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
