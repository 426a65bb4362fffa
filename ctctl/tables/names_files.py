"""Names from files beside a source: Kubernetes objects as YAML or JSON, a sysdump or bugtool, the agent's answers.

Only objects that name addresses are looked at (pods, services, nodes, slices, Cilium's endpoints, identities
and nodes); everything else is passed over. Sizes are bounded, members of archives are never unpacked to disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ctctl.config.budget import Budget
from ctctl.errors import ConfigError, DecodeError, NotFoundError, PermissionDenied
from ctctl.model.tuples import PROTOCOL_NUMBERS
from ctctl.model.units import decimal
from ctctl.tables.namebook import NameBook
from ctctl.tables.names_agent import FAMILIES, add_endpoints, add_identities, add_nodes, add_services, part
from ctctl.tables.names_text import documents_of
from ctctl.tables.sources import archive
from ctctl.tables.sources.named import is_wanted
from ctctl.tables.sources.stream import Prefixed, nothing_spent

#: Bytes of one document.
MAX_DOCUMENT = 64 << 20
_MAX_DEPTH = 100


def add_file(book: NameBook, path: Path) -> list[str]:
    """The names that a file, a folder or an archive holds. The answer says what of it was left unread.

    Raises NotFoundError, PermissionDenied, and DecodeError where nothing in it could be read.
    """
    read = 0

    def visit(stream: Prefixed, name: PurePosixPath, budget: Budget) -> None:
        nonlocal read
        if (single and len(name.parts) == 1) or is_wanted(name.name):
            for document in _parsed(stream, budget):
                read += 1
                add_document(book, document)

    single = not path.is_dir()
    walk = archive.Walk(visit)
    try:
        if not single:
            walk.folder(path, 1)
            return _left_unread(path, walk)
        with path.open("rb") as file:
            walk.file(file, path.name, 1)
    except FileNotFoundError:
        raise NotFoundError(f"--names {path}: no such file or directory") from None
    except PermissionError:
        raise PermissionDenied(f"--names {path}: no permission") from None
    except OSError as error:
        raise DecodeError(f"--names {path}: {error.strerror}") from None
    if not read:
        why = walk.partial[0] if walk.partial else "neither YAML nor JSON, nor a list of an agent's"
        raise DecodeError(f"--names {path}: {why}")
    return _left_unread(path, walk)


def _left_unread(path: Path, walk: archive.Walk) -> list[str]:
    return [f"--names {path}: {walk.ended}"] if walk.ended else []


#: YAML that is read for names without being asked for, once what names nothing is left out.
_MAX_OWN_YAML = 3 << 20
#: Parts of Kubernetes objects that name nothing and are most of them.
_HEAVY = re.compile(
    r"( *)(?:- )?(?:managedFields|containers|initContainers|ephemeralContainers|volumes|tolerations|conditions|images"
    r"|containerStatuses|initContainerStatuses|ephemeralContainerStatuses|annotations|volumesAttached|volumesInUse"
    r"|named-ports|log|controllers|policy|affinity):\s*$"
)


def add_own(book: NameBook, data: bytes) -> bool:
    """The names of one of a source's own files. False: it is more than is read without being asked for."""
    text = data.decode("utf-8", "replace")
    if not text.lstrip().startswith(("{", "[")):
        text = _light(text)
        if len(text) > _MAX_OWN_YAML:
            return False
    for document in _documents(text):
        add_document(book, document)
    return True


def _light(text: str) -> str:
    """Block YAML without the parts of objects that name nothing."""
    kept: list[str] = []
    indent: int | None = None
    for line in text.split("\n"):
        left = len(line) - len(line.lstrip(" "))
        within = indent is not None and (left > indent or (left == indent and line[left : left + 2] == "- "))
        if within and line.strip():
            continue
        heavy = _HEAVY.match(line)
        indent = None
        if heavy is not None:
            indent = len(heavy[1]) + (2 if line[len(heavy[1]) :].startswith("- ") else 0)
        kept.append(line if heavy is None else f"{line.rstrip()} null")
    return "\n".join(kept)


def _parsed(stream: Prefixed, budget: Budget) -> Iterator[Any]:
    """The documents of a text; nothing where it is neither JSON nor YAML. Raises DecodeError, LimitError."""
    parts, size = [], 0
    while chunk := stream.read():
        size += len(chunk)
        if size > MAX_DOCUMENT:
            raise DecodeError(f"more than {MAX_DOCUMENT >> 20} MiB")
        parts.append(chunk)
    text = b"".join(parts).decode("utf-8", "replace")
    budget.spend(size >> 3)
    yield from _documents(text, budget.spend)


def _documents(text: str, spend: Callable[[int], None] = nothing_spent) -> Iterator[Any]:
    """The documents of a text; nothing where it is neither JSON nor YAML, nor a table of names for people."""
    try:
        yield json.loads(text)
        return
    except (ValueError, RecursionError):
        pass
    tables = list(documents_of(text))
    if tables:
        yield from tables
        return
    from ctctl.config.yamltree import parse_yaml

    if _too_deep(text):
        return
    try:
        documents = parse_yaml(text, "", spend)
    except ConfigError:
        return
    for item in documents:
        yield item.plain()


def _too_deep(text: str) -> bool:
    """Whether brackets are nested deeper than any object is: the YAML parser in C would run out of stack."""
    depth = 0
    for match in re.finditer(r"[\[\]{}]", text):
        depth += 1 if match[0] in "[{" else -1
        if depth > _MAX_DEPTH:
            return True
    return False


# ---- documents


def add_document(book: NameBook, document: Any) -> None:
    """Whatever names one document gives: a Kubernetes object or list of them, or an answer of the agent."""
    if isinstance(document, list):
        _add_list(book, document)
    elif isinstance(document, dict):
        for key, add in _ANSWERS.items():
            if key in document:
                add(book, document[key])
        if "nodes-added" in document:
            add_nodes(book, document)
        items = document.get("items")
        for item in items if isinstance(items, list) else [document]:
            if isinstance(item, dict):
                kind = str(item.get("kind") or str(document.get("kind", "")).removesuffix("List"))
                add_object = _KINDS.get(kind)
                if add_object is not None:
                    add_object(book, item)


def _add_list(book: NameBook, document: list[Any]) -> None:
    first = next((item for item in document if isinstance(item, dict)), None)
    if first is None:
        return
    if "frontend-address" in part(first, "spec"):
        add_services(book, document)
    elif "status" in first and "id" in first:
        add_endpoints(book, document)
    elif "primary-address" in first:
        add_nodes(book, {"nodes-added": document})
    elif "labels" in first and "id" in first:
        add_identities(book, document)
    else:
        for item in document:
            if isinstance(item, dict) and "kind" in item:
                add_document(book, item)


_ANSWERS: dict[str, Callable[[NameBook, Any], None]] = {
    "endpoint-list": add_endpoints,
    "service-list": add_services,
    "identity-list": add_identities,
}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _name(item: dict[str, Any]) -> str:
    about = part(item, "metadata")
    return "/".join(str(about[key]) for key in ("namespace", "name") if about.get(key))


def _add_pod(book: NameBook, item: dict[str, Any]) -> None:
    status = part(item, "status")
    if part(item, "spec").get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return  # its address is the node's, or another pod's by now
    ends = [str(one.get("ip", "")) for one in _dicts(status.get("podIPs"))]
    book.add_pod(_name(item), [*ends, str(status.get("podIP", ""))])


def _add_service(book: NameBook, item: dict[str, Any]) -> None:
    spec = part(item, "spec")
    given = [str(one.get("ip", "")) for one in _dicts(part(item, "status", "loadBalancer").get("ingress"))]
    ends = [*_strings(spec.get("clusterIPs")), *_strings(spec.get("externalIPs")), str(spec.get("clusterIP", ""))]
    for port in _dicts(spec.get("ports")):
        proto = PROTOCOL_NUMBERS.get(str(port.get("protocol", "TCP")).lower(), 0)
        if isinstance(port.get("port"), int):
            book.add_service(_name(item), [*ends, *given], port["port"], proto)
        if isinstance(port.get("nodePort"), int):
            for rev_nat in book.listings.rev_nats:
                if rev_nat.port == port["nodePort"]:
                    book.add_service(_name(item), [str(rev_nat.addr)], rev_nat.port, proto, rev_nat.rev_nat)
    for rev_nat in book.listings.rev_nats:
        if any(end[:2] == (rev_nat.addr, rev_nat.port) for end in book.services.get(_name(item), ())):
            book.service_ids.setdefault(rev_nat.rev_nat, _name(item))


def _add_node(book: NameBook, item: dict[str, Any]) -> None:
    ends = [one for one in _dicts(part(item, "status").get("addresses")) if str(one.get("type", "")).endswith("IP")]
    book.add_node(str(part(item, "metadata").get("name", "")), [str(one.get("address", "")) for one in ends])


def _add_cilium_node(book: NameBook, item: dict[str, Any]) -> None:
    ends = [str(one.get("ip", "")) for one in _dicts(part(item, "spec").get("addresses"))]
    book.add_node(str(part(item, "metadata").get("name", "")), ends)


def _add_slice(book: NameBook, item: dict[str, Any]) -> None:
    for endpoint in _dicts(item.get("endpoints")):
        target = part(endpoint, "targetRef")
        if target.get("kind") == "Pod":
            full = "/".join(str(target[key]) for key in ("namespace", "name") if target.get(key))
            book.add_pod(full, _strings(endpoint.get("addresses")))


def _add_cilium_endpoint(book: NameBook, item: dict[str, Any]) -> None:
    status = part(item, "status")
    ends = [str(one.get(key, "")) for one in _dicts(part(status, "networking").get("addressing")) for key in FAMILIES]
    book.add_pod(_name(item), ends)
    identity = part(status, "identity")
    if isinstance(identity.get("id"), int):
        book.add_labels(identity["id"], _strings(identity.get("labels")))


def _add_cilium_identity(book: NameBook, item: dict[str, Any]) -> None:
    number, labels = decimal(str(part(item, "metadata").get("name", ""))), part(item, "security-labels")
    if number is not None:
        book.add_labels(number, [f"{key}={value}" if value else str(key) for key, value in labels.items()])


_KINDS: dict[str, Callable[[NameBook, dict[str, Any]], None]] = {
    "Pod": _add_pod,
    "Service": _add_service,
    "Node": _add_node,
    "EndpointSlice": _add_slice,
    "CiliumEndpoint": _add_cilium_endpoint,
    "CiliumIdentity": _add_cilium_identity,
    "CiliumNode": _add_cilium_node,
}
