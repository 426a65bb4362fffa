"""Where the tables of this machine are: the nodes that ctctl loaded, and a live Cilium's, in every bpffs.

The one search that every command makes, and the one sentence for each way it can fail. ``bpffs`` is the
file system to look in; None: every one that is mounted, the usual one first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ctctl.abi import pins
from ctctl.errors import NotFoundError, PermissionDenied, UsageError
from ctctl.kernel.bpffs import DEFAULT_ROOT, mounts
from ctctl.model.suggest import nearest
from ctctl.node.paths import ROOT, NodePaths

#: Where Cilium pins its tables below a bpffs.
CILIUM_GLOBALS = Path("tc/globals")
#: The node's bpffs as a pod of Cilium mounts it.
_IN_POD = Path("/run/cilium/bpffs")
#: What there is to do where a node of ours is wanted and none is loaded.
HOW_TO_LOAD = "ctctl load -f FILE or ctctl lab up"


def bpffs_roots(bpffs: Path | None = None) -> list[Path]:
    """The BPF file systems to look in, the usual one first."""
    if bpffs is not None:
        return [bpffs]
    return sorted(dict.fromkeys(mounts()), key=lambda root: root != DEFAULT_ROOT)


def not_readable(directory: Path) -> PermissionDenied:
    """What is said of a directory of pins that only root may look into."""
    return PermissionDenied(
        f"{directory} is not readable for this user: run as root, to look with CAP_DAC_READ_SEARCH, or --from a file"
    )


def own_nodes(bpffs: Path | None = None) -> dict[str, NodePaths]:
    """The nodes with a pin directory, half-made ones included, by name. Raises PermissionDenied."""
    found: dict[str, NodePaths] = {}
    for root in bpffs_roots(bpffs):
        try:
            directories = sorted((root / ROOT).iterdir())
        except PermissionError:
            raise not_readable(root) from None
        except OSError:
            continue
        for directory in directories:
            paths = NodePaths.at(directory)
            if paths is not None and directory.is_dir():
                found.setdefault(paths.node, paths)
    return found


def list_nodes(bpffs: Path | None = None) -> list[str]:
    """Names of ``own_nodes``. Raises PermissionDenied."""
    return list(own_nodes(bpffs))


def choose_node(name: str | None, bpffs: Path | None = None) -> NodePaths:
    """The node called ``name``, or the only one there is. Raises NotFoundError, UsageError when several."""
    return _choose(name, own_nodes(bpffs), bpffs)


def choose_nodes(names: Iterable[str] = (), bpffs: Path | None = None) -> list[NodePaths]:
    """The nodes of these names, or all there are. Raises NotFoundError also where none is loaded."""
    nodes = own_nodes(bpffs)
    if not nodes:
        raise NotFoundError(_nothing(bpffs))
    return [_choose(name, nodes, bpffs) for name in dict.fromkeys(names)] or list(nodes.values())


def find_tables(node: str | None = None, bpffs: Path | None = None) -> Path:
    """The directory of the tables meant by "auto": the node called so or the only one, else a live Cilium's.

    A node that was only half made has no tables and is passed over unless it is named. Raises
    NotFoundError where there is neither, UsageError where a node must be named, PermissionDenied.
    """
    nodes = own_nodes(bpffs)
    if node is None:
        nodes = {name: paths for name, paths in nodes.items() if has_tables(paths.dir)}
    if node is not None or nodes:
        return _choose(node, nodes, bpffs).dir
    found = cilium_tables(bpffs)
    if found is not None:
        return found
    why = "no ctctl node is loaded and no Cilium is running"
    if not bpffs_roots(bpffs):
        why = "no BPF file system is mounted here"
    raise NotFoundError(f"no table: {why}; name a source with --from, or {HOW_TO_LOAD}")


def node_directories(names: Iterable[str] = (), bpffs: Path | None = None) -> list[Path]:
    """Where the tables of these nodes are, or of every one here, a live Cilium's among them.

    Raises NotFoundError, also where there is nothing; PermissionDenied.
    """
    wanted = tuple(names)
    if wanted:
        return [paths.dir for paths in choose_nodes(wanted, bpffs)]
    found = [paths.dir for paths in own_nodes(bpffs).values() if has_tables(paths.dir)]
    cilium = cilium_tables(bpffs)
    return [*found, *([cilium] if cilium is not None else [])] or [find_tables(None, bpffs)]


def node_at(directory: Path) -> str | None:
    """The name of the node whose directory this is by its place, None for any other directory."""
    paths = NodePaths.at(directory)
    return None if paths is None else paths.node


def cilium_tables(bpffs: Path | None = None) -> Path | None:
    """The directory where a live Cilium has pinned its tables, None where there is none."""
    roots = [*bpffs_roots(bpffs), _IN_POD] if bpffs is None else [bpffs]
    return next(filter(has_tables, (root / CILIUM_GLOBALS for root in roots)), None)


def has_tables(directory: Path) -> bool:
    """Whether a conntrack table is pinned in ``directory``. Raises PermissionDenied."""
    try:
        return any((directory / name).exists() for name in pins.CT_TABLES)
    except PermissionError:
        raise not_readable(directory) from None


def _choose(name: str | None, nodes: Mapping[str, NodePaths], bpffs: Path | None) -> NodePaths:
    if name is None:
        if not nodes:
            raise NotFoundError(_nothing(bpffs))
        if len(nodes) > 1:
            raise UsageError(f"several nodes are loaded ({', '.join(nodes)}): say which with --node")
        return next(iter(nodes.values()))
    if name in nodes:
        return nodes[name]
    close = nearest(name, nodes)
    if close is not None:
        raise NotFoundError(f"no node {name!r} is loaded; did you mean {close!r}?")
    if not nodes and bpffs is None and _has_cilium():
        raise NotFoundError(f"no node {name!r} of ctctl's own is loaded; Cilium's tables here are read without --node")
    loaded = f"loaded: {', '.join(nodes)}" if nodes else f"none is: {HOW_TO_LOAD}"
    raise NotFoundError(f"no node {name!r} is loaded ({loaded})")


def _nothing(bpffs: Path | None) -> str:
    where = f" under {bpffs / ROOT}" if bpffs is not None else ""
    if bpffs is None and _has_cilium():
        return (
            "no node of ctctl's own is loaded, only Cilium's tables are here: ctctl ct list reads them, "
            "ctctl trace --probe follows packets, --simulate starts from them"
        )
    return f"no node is loaded{where}: {HOW_TO_LOAD}"


def _has_cilium() -> bool:
    with contextlib.suppress(PermissionDenied):
        return cilium_tables() is not None
    return False
