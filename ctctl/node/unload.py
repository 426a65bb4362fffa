"""Remove a node: programs first, then its maps, whatever state a load or a crash left them in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ctctl.errors import CtctlError, UsageError
from ctctl.node.attach import detach, find_attachments
from ctctl.node.find import choose_node, list_nodes
from ctctl.node.lock import DEFAULT_WAIT_S, node_lock
from ctctl.node.netns import candidates, in_netns
from ctctl.node.owner import check_pins
from ctctl.node.paths import DEFAULT_BPFFS, NodePaths, remove_if_empty, remove_tree
from ctctl.node.preflight import require_privileges
from ctctl.node.record import MAP_NAME, NodeRecord, read_record
from ctctl.node.tunnel import DEVICE, remove_overlays


@dataclass(frozen=True, slots=True)
class UnloadReport:
    """What was removed or, planned, would be."""

    node: str
    path: str
    detached: tuple[str, ...]
    maps: tuple[str, ...]
    planned: bool = False


def unload(
    node: str,
    bpffs: Path = DEFAULT_BPFFS,
    *,
    wait_s: float = DEFAULT_WAIT_S,
    say: Callable[[str], None] = lambda _line: None,
    step: Callable[[str], None] = lambda _line: None,
) -> UnloadReport:
    """Remove all of one node, half-made remains included. Nothing of other nodes is touched.

    Raises NotFoundError, PermissionDenied, BusyError, KernelError, NotOursError (what is pinned there is not
    ctctl's). Killed half way, it can be run again.
    """
    require_privileges("ctctl unload")
    paths = NodePaths(bpffs, node)
    with node_lock(paths.dir, create=False, wait_s=wait_s, on_wait=say):
        record = read_record(paths.map(MAP_NAME))
        check_pins(paths, record)
        report = _report(paths, record)
        for found in find_attachments(paths, record, thorough=True):
            step(f"detach {found.slot}")
            detach(found)
        _remove_overlays(paths, record)
        step("unpin")
        remove_tree(paths.dir)
    remove_if_empty(paths.dir.parent)
    return report


def plan_unload(node: str, bpffs: Path = DEFAULT_BPFFS) -> UnloadReport:
    """What ``unload`` would remove; changes nothing."""
    require_privileges("ctctl unload")
    paths = choose_node(node, bpffs)
    record = read_record(paths.map(MAP_NAME))
    check_pins(paths, record)
    report = _report(paths, record)
    return UnloadReport(report.node, report.path, report.detached, report.maps, planned=True)


def nodes_to_unload(node: str | None, everything: bool, bpffs: Path = DEFAULT_BPFFS) -> list[str]:
    """Names of the nodes meant: the one named, the only one, or all. Raises NotFoundError, UsageError."""
    if everything:
        return list_nodes(bpffs)
    try:
        return [choose_node(node, bpffs).node]
    except UsageError as several:
        raise UsageError(f"{several}, or --all") from None


def _report(paths: NodePaths, record: NodeRecord | None) -> UnloadReport:
    attached = sorted({found.slot for found in find_attachments(paths, record, thorough=True)})
    return UnloadReport(paths.node, str(paths.dir), tuple(attached), tuple(paths.map_pins()))


def _remove_overlays(paths: NodePaths, record: NodeRecord | None) -> None:
    """The geneve device that a load made, where there may be one."""
    if record is not None and record.tunnel != DEVICE and not paths.staging.exists():
        return
    for netns in candidates(record):
        with contextlib.suppress(CtctlError):
            in_netns(netns, lambda: remove_overlays(paths.node))
