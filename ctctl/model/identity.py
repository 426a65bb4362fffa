"""Reserved security identities: the numbers every cluster has, by name (spec/real-cilium.md)."""

from __future__ import annotations

from typing import Final

RESERVED_IDENTITIES: Final[dict[int, str]] = {
    0: "unknown",
    1: "host",
    2: "world",
    3: "unmanaged",
    4: "health",
    5: "init",
    6: "remote-node",
    7: "kube-apiserver",
    8: "ingress",
    9: "world-ipv4",
    10: "world-ipv6",
}
RESERVED_NUMBERS: Final[dict[str, int]] = {name: number for number, name in RESERVED_IDENTITIES.items()}
