"""What was loaded, kept in a map of its own beside the node's other maps.

bpffs holds no ordinary files, and a file elsewhere could outlive the pins or be torn. A pinned
array with one value can do neither: it is replaced by one rename, and goes when the pins go. It is
a convenience all the same: load, unload and status work without it (``attach.py`` finds what is
attached in the kernel).
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from ctctl import __version__
from ctctl.abi import pins
from ctctl.errors import CtctlError
from ctctl.kernel.map import Map, MapType
from ctctl.model.light import light_value

MAP_NAME = pins.NODE_RECORD

_KEY = bytes(4)
_LENGTH = 4
_FORMAT = 1


@light_value
class SlotRecord:
    """One place where a program is meant to be attached: a device, or a cgroup.

    Of a cgroup ``interface`` is the path and ``direction`` the hook of sockets, as ``kernel.link`` names it.
    """

    name: str
    program: str
    interface: str
    ifindex: int
    direction: str
    #: the endpoint's name; empty for the node's own devices
    endpoint: str = ""
    #: 0: a device
    cgroup_id: int = 0


@light_value
class NodeRecord:
    """A node as it was loaded. ``rodata`` is each slot's configuration, values as hex or int."""

    node: str
    #: path of the network namespace, None: that of the process that loaded
    netns: str | None
    netns_inode: int
    attach: str
    tunnel: str
    device: str
    slots: tuple[SlotRecord, ...]
    file_path: str
    file_text: str
    rodata: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    #: kernel ids of the node's maps by pinned name: what makes a map ours (``owner.py``)
    maps: dict[str, int] = field(default_factory=dict)
    version: str = __version__


def write_record(path: Path, record: NodeRecord) -> None:
    """Pin ``record`` at ``path``, which must be free."""
    payload = zlib.compress(json.dumps({"format": _FORMAT, **asdict(record)}).encode())
    value = len(payload).to_bytes(_LENGTH, "little") + payload
    size = -(-len(value) // 8) * 8
    with Map.create(MAP_NAME, MapType.ARRAY, 4, size, 1) as table:
        table.update(_KEY, value.ljust(size, b"\0"))
        table.pin(path)


def read_record(path: Path) -> NodeRecord | None:
    """The record pinned at ``path``; None if there is none or it cannot be read as one."""
    if not path.exists():
        return None
    try:
        with Map.open_pinned(path, read_only=True) as table:
            value = table.lookup(_KEY) or b""
        length = int.from_bytes(value[:_LENGTH], "little")
        document = json.loads(zlib.decompress(value[_LENGTH : _LENGTH + length]))
        if document.pop("format") != _FORMAT:
            return None
        document["slots"] = tuple(SlotRecord(**slot) for slot in document["slots"])
        return NodeRecord(**document)
    except (CtctlError, ValueError, KeyError, TypeError, zlib.error):
        # Another version's record, or a map of that name that is none: as good as absent.
        return None
