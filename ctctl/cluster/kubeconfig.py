"""Which cluster is meant and the way to it, as kubectl reads it.

lightkube (1.0.1) reads one file, prefers a pod's service account to it, and knows neither ``proxy-url`` nor
``tls-server-name``. Sources: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
(how files are merged, and paths relative to each), https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ctctl.cluster.libraries import http_library, library
from ctctl.config.yamltree import load_yaml
from ctctl.errors import ConfigError, NotFoundError

_KINDS: Final = ("clusters", "contexts", "users")
#: Keys of a cluster or a user that are a file's name.
_FILES: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True, slots=True)
class Way:
    """A context of lightkube's, and what it does not know of it: ``cluster`` and ``user`` as the kubeconfig has them.

    The user of ``config`` has no program.
    """

    config: Any
    cluster: Mapping[str, Any] = field(default_factory=dict)
    user: Mapping[str, Any] = field(default_factory=dict)

    def transport(self, verify: Any) -> Any:
        """What brings requests there in an unusual way; None for httpx's own, which heeds the environment's proxies."""
        proxy, server_name = self.cluster.get("proxy-url"), self.cluster.get("tls-server-name")
        if not proxy and not server_name:
            return None
        http, extensions = http_library(), {"sni_hostname": server_name} if server_name else {}
        base: Any = http.HTTPTransport

        class Transport(base):  # type: ignore[misc]
            def handle_request(self, request: Any) -> Any:
                request.extensions = {**request.extensions, **extensions}
                return super().handle_request(request)

        proxy = proxy or _environments_proxy(self.config.cluster.server)
        return Transport(verify=verify, proxy=proxy, limits=http.Limits(max_connections=None))

    def headers(self) -> list[tuple[str, str]]:
        """Whom the user acts as, where the kubeconfig says so: without them it would be asked as another one."""
        said = [("Impersonate-User", self.user.get("as")), ("Impersonate-Uid", self.user.get("as-uid"))]
        said += [("Impersonate-Group", group) for group in self.user.get("as-groups") or ()]
        for name, values in (self.user.get("as-user-extra") or {}).items():
            header = "Impersonate-Extra-" + quote(str(name), safe="").lower()
            said += [(header, value) for value in values]
        return [(name, str(value)) for name, value in said if value]


def way_to(kubeconfig: str | None, context: str | None) -> Way:
    """The context of that name, or the current one, of a file, or of where kubectl looks.

    Raises NotFoundError, and whatever lightkube makes of a file that is none.
    """
    library_of = library("lightkube.config.kubeconfig").KubeConfig
    paths = _paths(kubeconfig)
    present = [path for path in paths if path.exists()]
    if not present:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return Way(library_of.from_service_account().get(context))
        raise NotFoundError(f"kubeconfig: {' and '.join(map(str, paths))} not found")
    merged = _merged(present)
    name = context or merged["current-context"]
    if not name:
        raise NotFoundError("kubeconfig: it has no current context: name one with --context")
    chosen = _named(merged, "context", name)
    cluster = _named(merged, "cluster", chosen.get("cluster"))
    user = _named(merged, "user", chosen["user"]) if chosen.get("user") else {}
    for key in _FILES:
        path = cluster.get(key) or user.get(key)
        if path and not Path(path).exists():
            raise NotFoundError(f"kubeconfig: {path} not found, its {key}")
    config = library_of.from_dict(
        {
            "clusters": [{"name": chosen["cluster"], "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": chosen["cluster"], "user": "user"}}],
            "users": [{"name": "user", "user": {key: value for key, value in user.items() if key != "exec"}}],
        }
    ).get(name)
    return Way(config, cluster, user)


def _named(merged: Mapping[str, Any], kind: str, name: object) -> dict[str, Any]:
    """What the kubeconfig has by that name, without what is left empty there."""
    for one in merged[f"{kind}s"]:
        if one["name"] == name:
            return {key: value for key, value in (one.get(kind) or {}).items() if value not in (None, "")}
    raise NotFoundError(f"kubeconfig: the {kind} {name!r} is named, and not found there")


def _paths(kubeconfig: str | None) -> list[Path]:
    if kubeconfig is not None:
        return [Path(kubeconfig).expanduser()]
    named = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    return named or [Path.home() / ".kube" / "config"]


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """One file's content of several: of two of a name the first counts."""
    merged: dict[str, Any] = {kind: [] for kind in _KINDS}
    for path in paths:
        try:
            documents = load_yaml(path)
        except ConfigError as error:
            raise NotFoundError(f"kubeconfig: {error}") from None
        document = documents[0].plain() if len(documents) == 1 else None
        if not isinstance(document, dict):
            raise NotFoundError(f"kubeconfig: {path} is none")
        for kind in _KINDS:
            known = {one["name"] for one in merged[kind]}
            for one in document.get(kind) or ():
                if not isinstance(one, dict) or "name" not in one:
                    raise NotFoundError(f"kubeconfig: {path}: one of its {kind} has no name")
                if one["name"] not in known:
                    known.add(one["name"])
                    merged[kind].append(_absolute(one, path.absolute().parent))
        if not merged.get("current-context"):
            merged["current-context"] = document.get("current-context")
    return merged


def _absolute(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """With the names of its files as they are meant: relative to the file that names them."""
    found = dict(entry)
    for inner in ("cluster", "user"):
        if isinstance(entry.get(inner), dict):
            found[inner] = dict(entry[inner])
            for key in _FILES:
                if found[inner].get(key):
                    found[inner][key] = str(folder / found[inner][key])
            program = found[inner].get("exec")
            if isinstance(program, dict) and os.sep in str(program.get("command")):
                found[inner]["exec"] = {**program, "command": str(folder / program["command"])}
    return found


def _environments_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    known = urllib.request.getproxies()
    return None if urllib.request.proxy_bypass(parts.netloc) else known.get(parts.scheme) or known.get("all")
