"""The lab as a whole: up, down, and what of it is there.

``down`` works from what it finds in the kernel (namespaces by name, processes by namespace, pins by
node name) and needs no record, so that it also clears up after an ``up`` that was killed at any point.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from ctctl.errors import CtctlError, NotFoundError
from ctctl.events.listeners import sweep as sweep_listeners
from ctctl.lab import datapaths, namespaces, network, processes, servers
from ctctl.lab.cgroups import remove_cgroups
from ctctl.lab.lock import forget, locked
from ctctl.lab.topology import CLIENT, CLIENT_IP, MEMBERS, ROUTER, ROUTER_NODE_IP, SERVE_PORT, Topology
from ctctl.node.attach import AttachMode
from ctctl.node.preflight import require_privileges
from ctctl.node.tunnel import BPF

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Member:
    """One namespace of the lab and what is in it. ``loaded`` is None for members without a datapath."""

    name: str
    kind: str
    ip: str
    netns: str
    up: bool
    processes: int
    node: str | None = None
    identity: int | None = None
    interface: str | None = None
    datapath: str | None = None
    loaded: bool | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """What ``down`` found and removed."""

    processes: int
    datapaths: int
    namespaces: int

    @property
    def anything(self) -> bool:
        return bool(self.processes or self.datapaths or self.namespaces)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a lab: process ids, and names."""

    processes: tuple[int, ...]
    datapaths: tuple[str, ...]
    namespaces: tuple[str, ...]


def find(topology: Topology) -> Found:
    """Everything that ``down`` would remove; changes nothing."""
    names = (topology.netns(member) for member in MEMBERS)
    return Found(
        tuple(processes.lab_pids(topology)),
        tuple(topology.datapath_node(n.name) for n in topology.nodes if datapaths.is_loaded(topology, n.name)),
        tuple(name for name in names if namespaces.namespace_path(name).exists()),
    )


def up(topology: Topology, say: Say, attach: AttachMode = AttachMode.auto, tunnel: str = BPF) -> None:
    """Bring the lab up, or complete and repair what is up already.

    ``say`` gets a line per step, ``attach`` is how programs are attached, ``tunnel`` who encapsulates
    (bpf, device). An ``up`` that fails removes what it made, unless the lab was there before.

    Raises:
        PermissionDenied: not root.
        BusyError: another ctctl is working on this lab.
        KernelError, UnsupportedError, CtctlError: a step failed; names it.
    """
    require_privileges("ctctl lab up")
    with locked(topology):
        was_there = any(namespaces.is_live(topology.netns(member)) for member in MEMBERS)
        try:
            _build(topology, say, attach, tunnel)
        except BaseException:
            if not was_there:
                say("failed: removing what was made")
                _remove(topology)
                forget(topology)
            raise


def _build(topology: Topology, say: Say, attach: AttachMode, tunnel: str) -> None:
    say(f"network: {len(topology.nodes)} nodes, {len(topology.pods)} pods, a router, a client outside")
    network.build(topology)
    for node in topology.nodes:
        say(f"datapath of {node.name}: node {topology.datapath_node(node.name)}")
        datapaths.load_node(topology, node, say, attach, tunnel)
    say(f"servers: every pod answers HTTP and datagrams on port {SERVE_PORT}")
    _start_servers(topology)


def _start_servers(topology: Topology) -> None:
    for pod in topology.pods:
        if servers.answers(topology, pod.name):
            continue
        with (topology.state_dir / f"{pod.name}.log").open("wb") as log:
            servers.start(topology, pod.name, output=log.fileno())
    for pod in topology.pods:
        if not servers.is_ready(topology, pod.name):
            log_text = (topology.state_dir / f"{pod.name}.log").read_text(errors="replace").strip()
            last = log_text.splitlines()[-1] if log_text else "it printed nothing"
            raise CtctlError(f"the server of {pod.name} does not answer on port {SERVE_PORT}: {last}")


def down(topology: Topology) -> Removed:
    """Remove everything of the lab that is found; nothing found is fine.

    Raises:
        PermissionDenied: not root.
        BusyError: another ctctl is working on this lab.
    """
    require_privileges("ctctl lab down")
    with locked(topology, remove=True):
        return _remove(topology)


def _remove(topology: Topology) -> Removed:
    ended = processes.kill_all(topology)
    unloaded, failures = 0, []
    for node in topology.nodes:
        try:
            unloaded += datapaths.unload_node(topology, node.name)
        except CtctlError as error:
            failures.append(error)
    gone = sum(namespaces.remove(topology.netns(member)) for member in MEMBERS)
    # A process may have started between the first search and the end of its namespace's name.
    ended += processes.kill_all(topology)
    remove_cgroups(topology)
    shutil.rmtree(topology.state_dir, ignore_errors=True)
    sweep_listeners()
    if failures:
        raise failures[0]
    return Removed(ended, unloaded, gone)


def require_up(topology: Topology) -> None:
    """Raises NotFoundError unless every namespace and datapath of the lab is there."""
    missing = [member for member in MEMBERS if not namespaces.is_live(topology.netns(member))]
    missing += [f"the datapath of {n.name}" for n in topology.nodes if not datapaths.is_loaded(topology, n.name)]
    if missing:
        option = "" if topology.name == Topology().name else f" --name {topology.name}"
        state = "is not up" if len(missing) > len(MEMBERS) else f"is not complete ({missing[0]} is missing)"
        raise NotFoundError(f"the lab {topology.name!r} {state}: run ctctl lab up{option}")


def members(topology: Topology) -> list[Member]:
    """Every member and its state."""
    return [*_nodes(topology), *_pods(topology), *_outside(topology)]


def _nodes(topology: Topology) -> list[Member]:
    return [
        Member(
            node.name,
            "node",
            node.ip,
            topology.netns(node.name),
            *_state(topology, node.name),
            interface="eth0",
            datapath=topology.datapath_node(node.name),
            loaded=datapaths.is_loaded(topology, node.name),
        )
        for node in topology.nodes
    ]


def _pods(topology: Topology) -> list[Member]:
    return [
        Member(
            pod.name,
            "pod",
            pod.ip,
            topology.netns(pod.name),
            *_state(topology, pod.name),
            node=pod.node,
            identity=pod.identity,
            interface=pod.interface,
        )
        for pod in topology.pods
    ]


def _outside(topology: Topology) -> list[Member]:
    return [
        Member(name, name, ip, topology.netns(name), *_state(topology, name))
        for name, ip in ((ROUTER, ROUTER_NODE_IP), (CLIENT, CLIENT_IP))
    ]


def _state(topology: Topology, member: str) -> tuple[bool, int]:
    """Whether the member's namespace is there, and how many processes are in it."""
    inode = namespaces.inode(topology.netns(member))
    return inode is not None, 0 if inode is None else processes.count_in(inode)
