"""What an agent's commands print of names for people: ``endpoint list``, ``identity list``, ``node list``.

Forms: Cilium's cilium-dbg/cmd (endpoint_list.go, identity_list.go, node_list.go), 1.14 to 1.19: columns below their
titles, a further label on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ctctl.model.units import decimal

_ENDPOINTS = re.compile(
    r"ENDPOINT {1,40}POLICY \(ingress\) .{1,80}? IDENTITY {1,40}LABELS .{1,300}? IPv6 {1,60}IPv4 {1,40}STATUS"
)
_IDENTITIES = re.compile(r"\bID {1,40}LABELS\b")
_NODES = re.compile(r"\bName {1,200}IPv4 Address {1,20}Endpoint CIDR {1,20}IPv6 Address {1,60}Endpoint CIDR")
#: A label, as ``k8s:app=web`` or ``reserved:host``.
_LABEL = re.compile(r"[a-z][a-z0-9-]{0,30}:\S.{0,300}")
_LONGEST = 2000


def documents_of(text: str) -> Iterator[dict[str, Any]]:
    """The tables in a text, as the agent's own answers have what they say; nothing where there is none."""
    lines = iter(text.splitlines())
    line = next(lines, None)
    while line is not None:
        if len(line) > _LONGEST:
            line = next(lines, None)
        elif (head := _ENDPOINTS.search(line)) is not None:
            at = [line.index(title, head.start()) for title in ("IDENTITY", "LABELS", "IPv6")]
            found, line = _labels(lines, at[0], at[1], at[2])
            yield {"identity-list": found}
        elif (head := _IDENTITIES.search(line)) is not None:
            found, line = _labels(lines, head.start(), line.index("LABELS", head.start()), _LONGEST)
            yield {"identity-list": found}
        elif (head := _NODES.search(line)) is not None:
            first, second = line.index("IPv4", head.start()), line.index("IPv6", head.start())
            after = [line.index("Endpoint", start) for start in (first, second)]
            found, line = _nodes(lines, head.start(), (first, after[0]), (second, after[1]))
            yield {"nodes-added": found}
        else:
            line = next(lines, None)


def _labels(lines: Iterator[str], number: int, label: int, end: int) -> tuple[list[dict[str, Any]], str | None]:
    """Identities with their labels, and the line behind them. A row without a number goes on with the one above."""
    found: list[dict[str, Any]] = []
    for line in lines:
        text, cell = line[label:end].strip(), line[number:label].strip()
        identity = decimal(cell)
        if found == [] and not text and "ENFORCEMENT" in line:
            continue  # the second line of titles
        if text and _LABEL.fullmatch(text) is None:
            return found, line
        if identity is not None:
            found.append({"id": identity, "labels": []})
        elif cell or not text or not found:
            return found, line
        if text:
            found[-1]["labels"].append(text)
    return found, None


def _nodes(
    lines: Iterator[str], name: int, first: tuple[int, int], second: tuple[int, int]
) -> tuple[list[dict[str, Any]], str | None]:
    """Nodes with their addresses, and the line behind them."""
    found: list[dict[str, Any]] = []
    for line in lines:
        called = line[name : first[0]].strip()
        if not called or " " in called:
            return found, line
        ends = {family: {"ip": line[start:end].strip()} for family, (start, end) in (("ipv4", first), ("ipv6", second))}
        found.append({"name": called, "primary-address": ends})
    return found, None
