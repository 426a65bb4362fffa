"""The nodes' datapaths: the same loader as ``ctctl load``, with node files the lab writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctctl.config.node import load_node_file
from ctctl.errors import NotFoundError, PermissionDenied
from ctctl.lab.nodefile import NO_MODE, node_document, node_yaml
from ctctl.lab.topology import Node, Topology
from ctctl.node.attach import AttachMode
from ctctl.node.find import list_nodes
from ctctl.node.loader import LoadRequest, load
from ctctl.node.paths import DEFAULT_BPFFS, NodePaths
from ctctl.node.record import MAP_NAME, read_record
from ctctl.node.tunnel import BPF
from ctctl.node.unload import unload
from ctctl.node.update import update

Say = Callable[[str], None]


def pin_dir(topology: Topology, node: str) -> Path:
    """Where a node's maps are pinned."""
    return NodePaths(DEFAULT_BPFFS, topology.datapath_node(node)).dir


def is_loaded(topology: Topology, node: str) -> bool | None:
    """Whether the node has a pin directory; None where this user may not look."""
    try:
        return topology.datapath_node(node) in list_nodes(DEFAULT_BPFFS)
    except PermissionDenied:
        return None


def load_node(
    topology: Topology,
    node: Node,
    say: Say,
    attach: AttachMode = AttachMode.auto,
    tunnel: str = BPF,
    *,
    mode: Mapping[str, Any] = NO_MODE,
) -> None:
    """Write the node's file and load it; a second time replaces programs and services, connections stay.

    ``tunnel`` is who encapsulates, bpf or device; ``mode`` what the datapath does otherwise (``nodefile.py``).
    Raises what ``ctctl.node.loader.load`` raises.
    """
    document = node_document(topology, node, tunnel=tunnel, mode=mode)
    load(replace(_request(topology, node, say, document), attach=attach, resize=True))


def change_mode(topology: Topology, node: Node, mode: Mapping[str, Any]) -> None:
    """Load a node again with another mode of its datapath, as it was attached and with the tunnel it had.

    Raises what ``ctctl.node.loader.load`` raises.
    """
    record = read_record(NodePaths(DEFAULT_BPFFS, topology.datapath_node(node.name)).map(MAP_NAME))
    attach = AttachMode(record.attach) if record is not None else AttachMode.auto
    load_node(topology, node, lambda _line: None, attach, tunnel_of(topology, node), mode=mode)


def apply_node(topology: Topology, node: Node, *, states: Mapping[str, str], without: Collection[str]) -> None:
    """Change the services of a loaded node in place, as ``ctctl apply`` does.

    Raises what ``ctctl.node.update.update`` and ``load`` raise.
    """
    document = node_document(topology, node, states=states, without=without, tunnel=tunnel_of(topology, node))
    request = _request(topology, node, lambda _line: None, document)
    try:
        update(request)
    except NotFoundError:
        # An update that was killed half way is for a load to complete.
        load(request)


def is_as_built(topology: Topology, node: Node) -> bool:
    """Whether the node's file says what ``lab up`` wrote; not so after a story that was killed half way."""
    path = topology.node_file(node.name)
    wanted = node_document(topology, node, tunnel=tunnel_of(topology, node))
    return path.exists() and path.read_text() == node_yaml(wanted)


def tunnel_of(topology: Topology, node: Node) -> str:
    """Who encapsulates at the node according to its file: ``lab up`` decided, and what comes later keeps it."""
    path = topology.node_file(node.name)
    return load_node_file(path).datapath.tunnel if path.exists() else BPF


def _request(topology: Topology, node: Node, say: Say, document: dict[str, Any]) -> LoadRequest:
    text = node_yaml(document)
    path = topology.node_file(node.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return LoadRequest(node=load_node_file(path), text=text, netns=topology.netns(node.name), say=say)


def unload_node(topology: Topology, node: str) -> bool:
    """Unload the node, whatever state it is in. False: there was nothing of it."""
    if not is_loaded(topology, node):
        return False
    with contextlib.suppress(NotFoundError):
        unload(topology.datapath_node(node))
    return True
