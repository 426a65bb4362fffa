"""Reserved security identities: the numbers every cluster has, by name (docs/reference/real-nodes.md)."""

from __future__ import annotations

from typing import Final

HOST: Final = 1
WORLD: Final = 2
HEALTH: Final = 4
REMOTE_NODE: Final = 6
#: the world of a node that has both families
WORLD_IPV4: Final = 9
WORLD_IPV6: Final = 10
RESERVED_IDENTITIES: Final[dict[int, str]] = {
    0: "unknown",
    HOST: "host",
    WORLD: "world",
    3: "unmanaged",
    HEALTH: "health",
    5: "init",
    REMOTE_NODE: "remote-node",
    7: "kube-apiserver",
    8: "ingress",
    WORLD_IPV4: "world-ipv4",
    WORLD_IPV6: "world-ipv6",
}
RESERVED_NUMBERS: Final[dict[str, int]] = {name: number for number, name in RESERVED_IDENTITIES.items()}

#: Identities of labels: above the reserved ones, and without the bits of a scope (pkg/identity of Cilium).
_FIRST_OF_LABELS: Final = 256
_SCOPE_SHIFT: Final = 24


def is_cluster_pod(identity: int) -> bool:
    """Whether it is a pod's: a health endpoint's, or that of labels; a network's has a scope in its upper byte."""
    return identity == HEALTH or (identity >= _FIRST_OF_LABELS and not identity >> _SCOPE_SHIFT)
