"""The Kubernetes API as far as it is needed: pods, names, and a command in a pod.

lightkube reads kubeconfigs; ``ctctl.cluster.exec`` runs commands. Lists are read here, a page at a time and of each
object what is asked for: lightkube (1.0.1) makes all pods of a cluster its own objects, and takes none that lacks a
field.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote, urlencode

from ctctl.cluster.credentials import Program, in_turn, known
from ctctl.cluster.errors import ClusterError, TransientError
from ctctl.cluster.exec import Execs, refusal, told
from ctctl.cluster.kubeconfig import way_to
from ctctl.cluster.libraries import http_library, library
from ctctl.errors import CtctlError, NotFoundError, PermissionDenied, UsageError, first_line

#: Objects of a list that are asked for at once.
_PAGE: Final = 500
#: What is asked three times, and how long is waited before the second and the third: who is busy is so for a while.
TRIES: Final = 3
_PAUSES_S: Final = (0.25, 1.0)
_GONE: Final = 410
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that can be asked: where it runs and which container. ``fit``: it says of itself that it is well, too."""

    name: str
    namespace: str
    node: str
    container: str
    ready: bool
    fit: bool = True


class Api:
    """One cluster's API. ``context`` and ``kubeconfig`` as kubectl takes them."""

    def __init__(self, kubeconfig: str | None, context: str | None, timeout_s: float) -> None:
        adapter = library("lightkube.config.client_adapter")
        self._http = http_library()
        try:
            way = way_to(kubeconfig, context)
            config = way.config
            verify = adapter.verify_cluster(config.cluster, config.user, config.abs_file)
            named = way.user.get("exec")
            auth = in_turn(
                Program(named, way.cluster, verify.load_cert_chain) if named else adapter.user_auth(config.user)
            )
            self.server = str(config.cluster.server).rstrip("/")
            known(auth, self.server)
            self._client = self._http.Client(
                auth=auth,
                verify=verify,
                headers=way.headers(),
                limits=self._http.Limits(max_connections=None),  # how many run at once says who asks
                timeout=self._http.Timeout(timeout_s),
                transport=way.transport(verify),
            )
            self._execs = Execs(self._client)
        except CtctlError:
            raise
        except KeyError as error:
            raise NotFoundError(f"kubeconfig: {error} is named, and is not there") from None
        except Exception as error:
            raise NotFoundError(f"kubeconfig: {first_line(error)}") from None
        self.cluster = str(config.context.cluster)
        #: Asked between answers; raises where the command has been told to end.
        self.look: Callable[[], None] = lambda: None
        #: what is being asked, until when: (node, deadline)
        self._asked: list[tuple[str, float]] = []
        self._lock = threading.Lock()

    def pause(self, turn: int) -> None:
        """Wait before asking again for the second (``turn`` 1) or the third time, unless all is stopped."""
        self._execs.pause(_PAUSES_S[turn - 1])

    def stop(self) -> None:
        """End every command that runs in a pod, and let no other begin: from another thread than theirs."""
        self._execs.stop()

    @property
    def stopped(self) -> bool:
        return self._execs.stopped

    def pods(self, selector: str, namespace: str) -> list[Pod]:
        """The pods with these labels (``a=b,c=d``), by node. Raises UsageError, ClusterError, PermissionDenied."""
        where = "" if namespace == "*" else f"/namespaces/{quote(namespace, safe='')}"
        found = self._list(f"/api/v1{where}/pods", _pod, labelSelector=_labels(selector))
        return sorted((one for one in found if one.node), key=lambda pod: (pod.node, pod.name))

    def nodes(self) -> list[str]:
        """Names of all nodes."""
        return sorted(self._list("/api/v1/nodes", lambda one: str(one["metadata"]["name"])))

    def names(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Pods, services and nodes as objects that ``--names`` reads; and why those of a kind are not known.

        Of kinds that may not be listed there are none.
        """
        found: list[dict[str, Any]] = []
        unknown = []
        for kind in _OF_SPEC:
            try:
                found += self._list(f"/api/v1/{kind.lower()}s", partial(_nameable, kind))
            except PermissionDenied:
                continue
            except ClusterError as error:
                unknown.append(f"the names of {kind.lower()}s are not known: {error}")
        return found, unknown

    def _list(self, path: str, take: Callable[[Mapping[str, Any]], T], **query: str) -> list[T]:
        """What is taken of each object of a list. Raises ClusterError, PermissionDenied."""
        found: list[T] = []
        page: dict[str, str] = {"limit": str(_PAGE)}
        while True:
            document = self._read(f"{path}?{urlencode({**query, **page})}")
            if document is None:  # it lasted too long: the list has changed
                found.clear()
                page = {}
                continue
            try:
                found += [take(one) for one in document["items"]]
                more = (document.get("metadata") or {}).get("continue")
            except (LookupError, TypeError, AttributeError) as error:
                raise ClusterError(f"what the API server answered cannot be read: {first_line(error)}") from None
            # A signal that comes while an answer is decoded gets lost: its decoder drops what a look-up raises.
            self.look()
            if not more:
                return found
            page = {"limit": str(_PAGE), "continue": str(more)}

    def _read(self, path: str) -> Any:
        """An answer's JSON, asked for again where that may help; None where a list cannot be gone on with."""
        for turn in range(1, TRIES + 1):
            try:
                return self._read_once(path)
            except TransientError as error:
                if turn == TRIES:
                    raise ClusterError(str(error)) from None
                self.pause(turn)
                self.look()
        raise AssertionError

    def _read_once(self, path: str) -> Any:
        try:
            response = self._client.get(self.server + path)
        except self._http.TimeoutException:
            raise ClusterError(f"{self.server}: no answer in time") from None
        except (self._http.NetworkError, self._http.RemoteProtocolError) as error:
            raise TransientError(f"{self.server}: {first_line(error)}") from None
        except self._http.HTTPError as error:
            raise ClusterError(f"{self.server}: {first_line(error)}") from None
        except CtctlError:
            raise
        except Exception as error:
            raise ClusterError(f"{self.server}: {first_line(error)}") from None
        if response.status_code == _GONE and "continue=" in path:
            return None
        if response.status_code in (401, 403):
            raise PermissionDenied(f"the API server refuses: {told(response.status_code, response.content)}")
        if not response.is_success:
            raise type(problem := refusal(response.status_code, response.content))(f"the API server: {problem}")
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise ClusterError(f"what the API server answered cannot be read: {first_line(error)}") from None

    def run(self, pod: Pod, command: Sequence[str], deadline: float, output: BinaryIO) -> None:
        """Run a command in a pod; its stdout goes to ``output`` as it comes. ``deadline``: of ``time.monotonic``.

        Raises ClusterError (TransientError where trying again may help) unless it ended with status 0 in time.
        """
        asked = (pod.node, deadline)
        with self._lock:
            self._asked.append(asked)
        try:
            self._run(pod, command, deadline, output)
        finally:
            with self._lock:
                self._asked.remove(asked)

    def overdue(self, grace_s: float) -> set[str]:
        """The nodes of which who asks has not come back so long after its deadline, whatever it waits for."""
        end = time.monotonic() - grace_s
        with self._lock:
            return {node for node, deadline in self._asked if deadline < end}

    def _run(self, pod: Pod, command: Sequence[str], deadline: float, output: BinaryIO) -> None:
        words = [("command", word) for word in command]
        query = urlencode([*words, ("container", pod.container), ("stdout", "true"), ("stderr", "true")])
        pods = f"/api/v1/namespaces/{quote(pod.namespace, safe='')}/pods"
        self._execs.run(f"{self.server}{pods}/{quote(pod.name, safe='')}/exec?{query}", deadline, output)


def _pod(one: Mapping[str, Any]) -> Pod:
    about, spec, status = one["metadata"], one["spec"], one.get("status") or {}
    names = [container["name"] for container in spec["containers"]]
    container = next((name for name in ("cilium-agent", "ctctl") if name in names), names[0])
    states = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    well = states.get("Ready", "True") == "True" and not about.get("deletionTimestamp")
    running = status.get("phase") == "Running"
    return Pod(about["name"], about["namespace"], spec.get("nodeName") or "", container, running, running and well)


#: Of which kinds names are read, and by what of them.
_OF_SPEC: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("hostNetwork",),
    "Service": ("clusterIP", "clusterIPs", "externalIPs", "ports"),
    "Node": (),
}
_OF_STATUS: Final = ("phase", "podIP", "podIPs", "loadBalancer", "addresses")


def _nameable(kind: str, one: Mapping[str, Any]) -> dict[str, Any]:
    """As much of an object as names are made of: whole, those of a large cluster are gigabytes."""
    about, spec, status = one["metadata"], one.get("spec") or {}, one.get("status") or {}
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {key: about[key] for key in ("name", "namespace") if key in about},
        "spec": {key: spec[key] for key in _OF_SPEC[kind] if key in spec},
        "status": {key: status[key] for key in _OF_STATUS if key in status},
    }


def _labels(selector: str) -> str:
    """``a=b,c=d``. Raises UsageError for anything else: what was left out would select pods that nobody meant."""
    found = []
    for part in selector.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or not name or name.endswith("!") or value.startswith("="):
            raise UsageError(f"-l {selector!r}: write labels as A=B, several with a comma")
        found.append(f"{name.strip()}={value.strip()}")
    return ",".join(found)
