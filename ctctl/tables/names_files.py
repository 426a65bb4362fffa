"""Names from files beside a source: Kubernetes objects as YAML or JSON, a sysdump or bugtool, the agent's answers.

Only objects that name addresses are looked at (pods, services, nodes, slices, Cilium's endpoints, identities
and nodes); everything else is passed over. Sizes are bounded, members of archives are never unpacked to disk.
"""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ctctl.errors import DecodeError, NotFoundError, PermissionDenied
from ctctl.model.tuples import PROTOCOL_NUMBERS
from ctctl.tables.namebook import NameBook
from ctctl.tables.names_agent import add_endpoints, add_identities, add_nodes, add_services
from ctctl.tables.sources.named import is_wanted

#: Bytes of one document, and of all that one archive or folder gives.
MAX_DOCUMENT = 64 << 20
MAX_ALL = 512 << 20
_MAX_MEMBERS = 50_000
_MAX_DEPTH = 100


def add_file(book: NameBook, path: Path) -> None:
    """The names that a file, a folder or an archive holds.

    Raises NotFoundError, PermissionDenied, and DecodeError where nothing in it could be read.
    """
    try:
        documents = list(_documents(path))
    except FileNotFoundError:
        raise NotFoundError(f"--names {path}: no such file or directory") from None
    except PermissionError:
        raise PermissionDenied(f"--names {path}: no permission") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DecodeError(f"--names {path}: damaged: {error}") from None
    for document in documents:
        add_document(book, document)


def _documents(path: Path) -> Iterator[Any]:
    if path.is_dir():
        left = MAX_ALL
        for member in sorted(path.rglob("*")):
            if member.is_file() and is_wanted(member.name) and member.stat().st_size <= min(left, MAX_DOCUMENT):
                data = member.read_bytes()
                left -= len(data)
                yield from _parsed(data)
    elif zipfile.is_zipfile(path):
        yield from _of_zip(path)
    elif tarfile.is_tarfile(path):
        yield from _of_tar(path)
    else:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise DecodeError(f"--names {path}: more than {MAX_DOCUMENT >> 20} MiB")
        found = list(_parsed(data))
        if not found:
            raise DecodeError(f"--names {path}: neither YAML nor JSON")
        yield from found


def _of_zip(path: Path) -> Iterator[Any]:
    left = MAX_ALL
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist()[:_MAX_MEMBERS]:
            if is_wanted(member.filename):
                with archive.open(member) as stream:
                    data = stream.read(min(left, MAX_DOCUMENT) + 1)
                left -= len(data)
                if left >= 0 and len(data) <= MAX_DOCUMENT:
                    yield from _parsed(data)


def _of_tar(path: Path) -> Iterator[Any]:
    left, count = MAX_ALL, 0
    with tarfile.open(path) as archive:
        for member in archive:
            count += 1
            if count > _MAX_MEMBERS:
                return
            stream = archive.extractfile(member) if member.isfile() and is_wanted(member.name) else None
            if stream is not None:
                data = stream.read(min(left, MAX_DOCUMENT) + 1)
                left -= len(data)
                if left >= 0 and len(data) <= MAX_DOCUMENT:
                    yield from _parsed(data)


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
    for document in _parsed(text.encode()):
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


def _parsed(data: bytes) -> Iterator[Any]:
    """The documents of a text; nothing where it is neither JSON nor YAML."""
    text = data.decode("utf-8", "replace")
    try:
        yield json.loads(text)
        return
    except (ValueError, RecursionError):
        pass
    import yaml

    if _too_deep(text):
        return
    try:
        yield from yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError):
        return


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
    if "frontend-address" in _part(first, "spec"):
        add_services(book, document)
    elif "status" in first and "id" in first:
        add_endpoints(book, document)
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


def _part(document: Any, *path: str) -> dict[str, Any]:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _name(item: dict[str, Any]) -> str:
    about = _part(item, "metadata")
    return "/".join(str(about[key]) for key in ("namespace", "name") if about.get(key))


def _add_pod(book: NameBook, item: dict[str, Any]) -> None:
    status = _part(item, "status")
    if _part(item, "spec").get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return  # its address is the node's, or another pod's by now
    ends = [str(one.get("ip", "")) for one in _dicts(status.get("podIPs"))]
    book.add_pod(_name(item), [*ends, str(status.get("podIP", ""))])


def _add_service(book: NameBook, item: dict[str, Any]) -> None:
    spec = _part(item, "spec")
    given = [str(one.get("ip", "")) for one in _dicts(_part(item, "status", "loadBalancer").get("ingress"))]
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
    ends = [one for one in _dicts(_part(item, "status").get("addresses")) if str(one.get("type", "")).endswith("IP")]
    book.add_node(str(_part(item, "metadata").get("name", "")), [str(one.get("address", "")) for one in ends])


def _add_cilium_node(book: NameBook, item: dict[str, Any]) -> None:
    ends = [str(one.get("ip", "")) for one in _dicts(_part(item, "spec").get("addresses"))]
    book.add_node(str(_part(item, "metadata").get("name", "")), ends)


def _add_slice(book: NameBook, item: dict[str, Any]) -> None:
    for endpoint in _dicts(item.get("endpoints")):
        target = _part(endpoint, "targetRef")
        if target.get("kind") == "Pod":
            full = "/".join(str(target[key]) for key in ("namespace", "name") if target.get(key))
            book.add_pod(full, _strings(endpoint.get("addresses")))


def _add_cilium_endpoint(book: NameBook, item: dict[str, Any]) -> None:
    status = _part(item, "status")
    ends = [str(one.get(key, "")) for one in _dicts(_part(status, "networking").get("addressing")) for key in _FAMILIES]
    book.add_pod(_name(item), ends)
    identity = _part(status, "identity")
    if isinstance(identity.get("id"), int):
        book.add_labels(identity["id"], _strings(identity.get("labels")))


_FAMILIES = ("ipv4", "ipv6")


def _add_cilium_identity(book: NameBook, item: dict[str, Any]) -> None:
    number, labels = str(_part(item, "metadata").get("name", "")), _part(item, "security-labels")
    if number.isdecimal():
        book.add_labels(int(number), [f"{key}={value}" if value else str(key) for key, value in labels.items()])


_KINDS: dict[str, Callable[[NameBook, dict[str, Any]], None]] = {
    "Pod": _add_pod,
    "Service": _add_service,
    "Node": _add_node,
    "EndpointSlice": _add_slice,
    "CiliumEndpoint": _add_cilium_endpoint,
    "CiliumIdentity": _add_cilium_identity,
    "CiliumNode": _add_cilium_node,
}
