"""The cgroups of a lab: one a pod, below one a node, which socket programs are attached to.

Made with the first process that is started in them, removed with the lab. Without a cgroup2 file system
the lab does without: then there is no story about sockets.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from ctctl.kernel.cgroup import cgroup2_mount
from ctctl.lab.topology import Topology


def lab_cgroup(topology: Topology) -> Path | None:
    """The cgroup of the whole lab, there or not; None: this machine has no cgroup2."""
    mount = cgroup2_mount()
    return None if mount is None else mount / f"ctctl-{topology.name}"


def ensure_cgroup(topology: Topology, member: str) -> Path | None:
    """The cgroup of a node, or of a pod below its node's; None for other members and without cgroup2."""
    top = lab_cgroup(topology)
    pod = next((pod for pod in topology.pods if pod.name == member), None)
    if top is None or (pod is None and member not in {node.name for node in topology.nodes}):
        return None
    place = top / member if pod is None else top / pod.node / pod.name
    # Others may be removed at the same time, never made: a lab is locked.
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
    return place if place.is_dir() else None


def remove_cgroups(topology: Topology) -> None:
    """Remove what there is; processes must have ended. A cgroup that is in use stays."""
    top = lab_cgroup(topology)
    if top is None or not top.is_dir():
        return
    below = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for place in (*below, top):
        with contextlib.suppress(OSError):
            place.rmdir()
