"""Names that a Cilium agent knows: from its API, else from the endpoints it stored in its state directory."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from ctctl.model.tuples import PROTOCOL_NUMBERS
from ctctl.node import agent
from ctctl.tables.namebook import NameBook, namespace_of

#: The endpoint as JSON, in base64, as versions up to 1.15 put it into a C header.
_HEADER = re.compile(rb"CILIUM_BASE64_([A-Za-z0-9+/=]+)")
_MAX_ENDPOINT = 8 << 20


def add_agent(book: NameBook) -> None:
    """What this machine's agent knows of its tables."""
    endpoints = agent.ask("/endpoint")
    if isinstance(endpoints, list):
        add_endpoints(book, endpoints)
        add_services(book, agent.ask("/service"))
        add_identities(book, agent.ask("/identity"))
        add_nodes(book, agent.ask("/cluster/nodes"))
    else:
        for stored in stored_endpoints():
            add_stored_endpoint(book, stored)


def _text(document: Any, *path: str) -> str:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, str) else ""


def part(document: Any, *path: str) -> dict[str, Any]:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def add_endpoints(book: NameBook, document: Any) -> None:
    """``GET /endpoint``, or ``cilium endpoint list -o json``."""
    for item in _list(document):
        status, number = part(item, "status"), item.get("id") if isinstance(item, dict) else None
        identity = part(status, "identity")
        labels = [str(label) for label in _list(identity.get("labels"))]
        if isinstance(identity.get("id"), int):
            book.add_labels(identity["id"], labels)
        ends = [_text(one, key) for one in _list(part(status, "networking").get("addressing")) for key in FAMILIES]
        name = _pod_name(part(status, "external-identifiers"), labels)
        if name:
            book.add_pod(name, ends, number if isinstance(number, int) else None)
        elif isinstance(number, int) and "reserved:host" in labels:
            book.endpoint_ids[number] = "host"


FAMILIES = ("ipv4", "ipv6")


def _pod_name(about: dict[str, Any], labels: list[str]) -> str:
    """``namespace/pod``; without Kubernetes the container's name, or what the CNI plugin called it."""
    full = _text(about, "pod-name").strip("/")
    if not full:
        parts = (_text(about, "k8s-namespace"), _text(about, "k8s-pod-name"))
        full = "/".join(part for part in parts if part) if parts[1] else ""
    if full:
        return full
    short = _text(about, "container-name") or _text(about, "cni-attachment-id").partition(":")[0]
    short = short or _text(about, "container-id")[:12]
    namespace = namespace_of(labels)
    return f"{namespace}/{short}" if short and namespace else short


def add_services(book: NameBook, document: Any) -> None:
    """``GET /service``, or ``cilium service list -o json``. Services without a name are passed over."""
    for item in _list(document):
        spec = part(item, "spec")
        flags, end = part(spec, "flags"), part(spec, "frontend-address")
        name = "/".join(part for part in (_text(flags, "namespace"), _text(flags, "name")) if part)
        port, number = end.get("port"), spec.get("id")
        if name and isinstance(port, int):
            proto = PROTOCOL_NUMBERS.get(_text(end, "protocol").lower(), 0)
            book.add_service(name, [_text(end, "ip")], port, proto, number if isinstance(number, int) else None)
        for backend in _list(spec.get("backend-addresses")):
            node = _text(backend, "nodeName")
            if node:
                book.nodes.setdefault(node, {})


def add_identities(book: NameBook, document: Any) -> None:
    """``GET /identity``, or ``cilium identity list -o json``."""
    for item in _list(document):
        if isinstance(item, dict) and isinstance(item.get("id"), int):
            book.add_labels(item["id"], [str(label) for label in _list(item.get("labels"))])


def add_nodes(book: NameBook, document: Any) -> None:
    """``GET /cluster/nodes``."""
    for item in _list(part(document).get("nodes-added")):
        name = _text(item, "name").rpartition("/")[2]
        if name:
            ends = [_text(item, "primary-address", key, "ip") for key in FAMILIES]
            others = [_text(one, "ip") for one in _list(part(item).get("secondary-addresses"))]
            book.add_node(name, [end for end in (*ends, *others) if end])


def stored_endpoints() -> Iterator[dict[str, Any]]:
    """The endpoints that the agent keeps to restore them: ``<id>/ep_config.json``, up to 1.15 in a header."""
    directory = agent.state_directory()
    if directory is None:
        return
    with contextlib.suppress(OSError):
        for path in sorted(directory.glob("[0-9]*/ep_config.*")):
            data = agent.read_limited(path, _MAX_ENDPOINT)
            found = _HEADER.search(data) if data is not None and path.suffix == ".h" else None
            with contextlib.suppress(ValueError, RecursionError):
                raw = base64.b64decode(found[1]) if found else data
                document = json.loads(raw) if raw else None
                if isinstance(document, dict):
                    yield document


def add_stored_endpoint(book: NameBook, document: dict[str, Any]) -> None:
    """One endpoint as the agent stores it."""
    identity, number = part(document, "SecLabel"), document.get("ID")
    labels = [
        f"{_text(one, 'source')}:{_text(one, 'key')}" + (f"={_text(one, 'value')}" if _text(one, "value") else "")
        for one in part(identity, "labels").values()
    ]
    if isinstance(identity.get("id"), int) and labels:
        book.add_labels(identity["id"], labels)
    namespace = _text(document, "K8sNamespace") or namespace_of(labels)
    short = _text(document, "K8sPodName") or _text(document, "ContainerName")
    short = short or _text(document, "CNIAttachmentID").partition(":")[0] or _text(document, "dockerID")[:12]
    name = f"{namespace}/{short}" if namespace and short else short
    if name:
        ends = [_text(document, key) for key in ("IPv4", "IPv6")]
        book.add_pod(name, [end for end in ends if end], number if isinstance(number, int) else None)
