"""Where a node's maps and links are pinned: ``<bpffs>/ctctl/<node>/`` and nowhere else.

Everything the loader knows about a node lives below that directory, the record of what was
loaded included (``record.py``), so that no second place can disagree with the kernel's.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Self

from ctctl.errors import CtctlError, UsageError
from ctctl.kernel.bpffs import DEFAULT_ROOT
from ctctl.model.light import light_value

DEFAULT_BPFFS = DEFAULT_ROOT
#: The directory below a bpffs that holds a directory for each node.
ROOT = "ctctl"
_STAGING = "staging"
_LINKS = "links"


def _encode(name: str) -> str:
    """A node's name as a bpffs file name: the kernel keeps names with dots for itself (EPERM)."""
    return name.replace("%", "%25").replace(".", "%2E")


def _decode(file_name: str) -> str:
    return file_name.replace("%2E", ".").replace("%25", "%")


@light_value
class NodePaths:
    """The pin directory of one node. Raises UsageError for a name that cannot be a directory's."""

    bpffs: Path
    node: str

    def __post_init__(self) -> None:
        encoded = _encode(self.node)
        if not self.node or "/" in self.node or not self.node.isprintable() or len(encoded) > 128:
            raise UsageError(f"node name {self.node!r}: 1 to 128 printable characters without '/'")

    @classmethod
    def at(cls, directory: Path) -> Self | None:
        """The node whose directory this is by its place, None for any other directory."""
        name = _decode(directory.name)
        if directory.parent.name != ROOT or _encode(name) != directory.name:
            return None
        try:
            return cls(directory.parent.parent, name)
        except UsageError:
            return None

    @property
    def dir(self) -> Path:
        return self.bpffs / ROOT / _encode(self.node)

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
