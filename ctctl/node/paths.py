"""Where a node's maps and links are pinned: ``<bpffs>/ctctl/<node>/`` and nowhere else.

Everything the loader knows about a node lives below that directory, the record of what was
loaded included (``record.py``), so that no second place can disagree with the kernel's.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ctctl.errors import CtctlError, NotFoundError, PermissionDenied, UsageError

DEFAULT_BPFFS = Path("/sys/fs/bpf")
_ROOT = "ctctl"
_STAGING = "staging"
_LINKS = "links"


def _encode(name: str) -> str:
    """A node's name as a bpffs file name: the kernel keeps names with dots for itself (EPERM)."""
    return name.replace("%", "%25").replace(".", "%2E")


def _decode(file_name: str) -> str:
    return file_name.replace("%2E", ".").replace("%25", "%")


@dataclass(frozen=True, slots=True)
class NodePaths:
    """The pin directory of one node. Raises UsageError for a name that cannot be a directory's."""

    bpffs: Path
    node: str

    def __post_init__(self) -> None:
        encoded = _encode(self.node)
        if not self.node or "/" in self.node or not self.node.isprintable() or len(encoded) > 128:
            raise UsageError(f"node name {self.node!r}: 1 to 128 printable characters without '/'")

    @property
    def dir(self) -> Path:
        return self.bpffs / _ROOT / _encode(self.node)

    @property
    def links(self) -> Path:
        return self.dir / _LINKS

    @property
    def staging(self) -> Path:
        """What a load is about to put in place; there only while one runs, or after one was killed."""
        return self.dir / _STAGING

    @property
    def staged_links(self) -> Path:
        return self.staging / _LINKS

    def map(self, name: str) -> Path:
        return self.dir / name

    def map_pins(self) -> dict[str, Path]:
        """Every map pinned for this node, by name."""
        return {path.name: path for path in _entries(self.dir) if path.is_file()}

    def link_pins(self) -> dict[str, Path]:
        """Every link pinned for this node, by slot name; those of a load that was killed included."""
        pins = {path.name: path for path in _entries(self.staged_links)}
        return pins | {path.name: path for path in _entries(self.links)}


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_nodes(bpffs: Path = DEFAULT_BPFFS) -> list[str]:
    """Names of the nodes with a pin directory, half-made ones included. Raises PermissionDenied."""
    try:
        return [_decode(path.name) for path in _entries(bpffs / _ROOT) if path.is_dir()]
    except PermissionError:
        raise PermissionDenied(f"{bpffs} is not readable for this user: run as root") from None


def choose_node(name: str | None, bpffs: Path = DEFAULT_BPFFS) -> NodePaths:
    """The node called ``name``, or the only one there is. Raises NotFoundError, UsageError when several."""
    nodes = list_nodes(bpffs)
    if name is None:
        if len(nodes) > 1:
            raise UsageError(f"several nodes are loaded ({', '.join(nodes)}): say which with --node")
        if not nodes:
            raise NotFoundError(f"no node is loaded under {bpffs}/{_ROOT}")
        name = nodes[0]
    if name not in nodes:
        loaded = f"loaded: {', '.join(nodes)}" if nodes else "none is loaded"
        raise NotFoundError(f"no node {name!r} under {bpffs}/{_ROOT} ({loaded})")
    return NodePaths(bpffs, name)


def remove_tree(directory: Path) -> None:
    """Unpin everything below ``directory`` and remove it. An absent one is fine."""
    for root, dirs, files in os.walk(directory, topdown=False):
        for name in files:
            Path(root, name).unlink(missing_ok=True)
        for name in dirs:
            Path(root, name).rmdir()
    _rmdir(directory)


def remove_if_empty(directory: Path) -> None:
    """Remove ``directory`` unless something is in it or it is gone already."""
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _rmdir(directory: Path) -> None:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CtctlError(f"remove {directory}: {error.strerror}") from error
