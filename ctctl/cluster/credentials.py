"""Who one is to a cluster. lightkube does it; here is what it (1.0.1) leaves out of programs that a kubeconfig names.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final

from ctctl.cluster.errors import ClusterError
from ctctl.cluster.libraries import http_library
from ctctl.errors import CtctlError, first_line

_VERSIONS: Final = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_UNAUTHORIZED: Final = 401
#: What a program is told of the cluster, where the kubeconfig wants it to be.
_TOLD: Final = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)


class Program:
    """A program that says who one is, by a token, a certificate or both; asked again where they are refused.

    ``certify`` takes a certificate and its key, as PEM files.
    """

    def __init__(
        self, named: Mapping[str, Any], cluster: Mapping[str, Any], certify: Callable[[str, str], None]
    ) -> None:
        if named.get("apiVersion") not in _VERSIONS:
            raise ClusterError(f"the kubeconfig's credentials: apiVersion {named.get('apiVersion')!r} is not known")
        self._named, self._cluster, self._certify = named, cluster, certify
        self._token: str | None = None
        self._asked = 0

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Requests to send, each after the response to the one before, as httpx asks for them."""
        if self._asked:
            asked = self._asked
            response = yield self._with_token(request)
            if response.status_code != _UNAUTHORIZED:
                return
            if asked == self._asked:  # nobody else has found that out meanwhile
                self._ask()
        else:
            self._ask()
        yield self._with_token(request)

    def _with_token(self, request: Any) -> Any:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _ask(self) -> None:
        command = [str(self._named["command"]), *map(str, self._named.get("args") or ())]
        given = {str(one["name"]): str(one["value"]) for one in self._named.get("env") or ()}
        asks = self._named.get("interactiveMode") != "Never" and sys.stdin.isatty()
        spec: dict[str, Any] = {"interactive": asks}
        if self._named.get("provideClusterInfo"):
            spec["cluster"] = {key: self._cluster[key] for key in _TOLD if key in self._cluster}
        expected = {"kind": "ExecCredential", "apiVersion": self._named["apiVersion"], "spec": spec}
        env = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(expected)}
        try:
            # Its stderr is for who waits: the address of a page to log in at.
            done = subprocess.run(
                command, env=env, stdin=None if asks else subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
            )
        except OSError as error:
            hint = str(self._named.get("installHint") or "").strip().splitlines()[:1]
            raise ClusterError(": ".join([f"{command[0]}: {error.strerror or error}", *hint])) from None
        if done.returncode:
            raise ClusterError(f"{command[0]} returned {done.returncode}")
        status = json.loads(done.stdout)["status"]
        token, certificate = status.get("token"), status.get("clientCertificateData")
        if not token and not certificate:
            raise LookupError
        if certificate:
            self._take(str(certificate), str(status["clientKeyData"]))
        self._token = str(token) if token else None
        self._asked += 1

    def _take(self, certificate: str, key: str) -> None:
        """The library of TLS reads files only; these two are ours alone, and gone at once."""
        with tempfile.NamedTemporaryFile("w") as first, tempfile.NamedTemporaryFile("w") as second:
            for file, text in ((first, certificate), (second, key)):
                file.write(text)
                file.flush()
            self._certify(first.name, second.name)


def in_turn(auth: Any) -> Any:
    """The same credentials, asked for by one thread at a time: a program that says who one is runs once."""
    if auth is None:
        return None
    base: Any = http_library().Auth
    lock = threading.Lock()

    class InTurn(base):  # type: ignore[misc]
        def sync_auth_flow(self, request: Any) -> Iterator[Any]:
            flow = auth.sync_auth_flow(request)
            try:
                with lock:
                    request = next(flow)
                while True:
                    response = yield request
                    with lock:
                        request = flow.send(response)
            except StopIteration:
                return
            finally:
                flow.close()

    return InTurn()


def known(auth: Any, url: str) -> None:
    """Find out who one is before anything is asked. Raises ClusterError where that cannot be said."""
    if auth is None:
        return
    try:
        next(auth.sync_auth_flow(http_library().Request("GET", url)))
    except CtctlError as error:
        raise ClusterError(f"the kubeconfig's credentials: {error}") from None
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ClusterError("the kubeconfig's credentials: its program printed none") from None
    except Exception as error:
        raise ClusterError(f"the kubeconfig's credentials: {first_line(error)}") from None
