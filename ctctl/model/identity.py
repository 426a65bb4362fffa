"""Security identities: the reserved ones by name, and what a number tells (docs/reference/real-nodes.md)."""

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

#: Identities of labels: above the reserved ones, and the same on every node.
_FIRST_OF_LABELS: Final = 256
#: From here on each agent numbers by itself, prefixes and other nodes' addresses: a scope is in the highest byte
#: (cilium/cilium, pkg/identity/numericidentity.go, IdentityScopeMask).
FIRST_LOCAL: Final = 1 << 24


def is_cluster_pod(identity: int) -> bool:
    """Whether it is a pod's: a health endpoint's, or that of labels."""
    return identity == HEALTH or _FIRST_OF_LABELS <= identity < FIRST_LOCAL
