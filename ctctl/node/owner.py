"""Whose a map is and whose a directory: decided by the object, never by the name it is reached under.

A map is ours if its id is in the record of a node that ctctl loaded. Records are looked for only
where ctctl puts them, in directories that nobody else can write, reached without a link or a mount
on the way: a symbolic link, a bind mount or a directory that another user planted leads to no record.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.errors import CtctlError
from ctctl.kernel.bpffs import mount_of, mounts
from ctctl.kernel.map import Map
from ctctl.node.paths import ROOT, NodePaths

if TYPE_CHECKING:
    from ctctl.node.record import NodeRecord

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: pinned by a load besides the tables with a layout of their own
_OTHER_PINS = frozenset({pins.NODE_RECORD, pins.EVENTS})
#: Maps of ours that carry no type information: their kinds cannot.
_WITHOUT_BTF = frozenset({pins.NODE_RECORD, pins.EVENTS, pins.LB4_MAGLEV, pins.LB6_MAGLEV, pins.XDP_NEXT})


@functools.cache
def _programs() -> frozenset[str]:
    """Names of our programs, as the kernel cuts them."""
    from ctctl.node.slots import program_names

    return frozenset(name[:15] for name in program_names())


def _read_record(pin: Path) -> NodeRecord | None:
    from ctctl.node.record import read_record

    return read_record(pin)


class NotOursError(CtctlError):
    """Something that is reached under a name of ctctl's, and is another's."""

    exit_code = 4


def check_place(directory: Path) -> None:
    """Make sure that ``directory``, which need not exist, is where ctctl put it: in no link, mount or other's hands.

    Raises NotOursError. Outside a bpffs nothing is checked: pins cannot be there.
    """
    reason = why_not_ours(directory)
    if reason is not None:
        raise NotOursError(f"{reason}: this is not ctctl's own directory, nothing in it is touched")


def why_not_ours(directory: Path) -> str | None:
    """What is wrong with the way from the bpffs's root to ``directory``, None where nothing is."""
    # The mount point itself may be reached by a link (/sys/fs/bpf on some systems is one).
    found = _mount_above(directory)
    if found is None:
        return None
    mount, below = found
    try:
        root = mount.stat()
    except OSError as error:
        return f"{mount}: {error.strerror}"
    reason = _others_hands(mount, root, sticky=True)
    if reason is not None:
        return reason
    device, mounted = root.st_dev, frozenset(mounts())
    at = mount
    for part in below:
        at /= part
        try:
            status = os.lstat(at)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{at}: {error.strerror}"
        if stat.S_ISLNK(status.st_mode):
            return f"{at} is a symbolic link"
        if not stat.S_ISDIR(status.st_mode):
            return f"{at} is no directory"
        if status.st_dev != device or at in mounted:
            return f"something is mounted on {at}"
        reason = _others_hands(at, status)
        if reason is not None:
            return reason
    return None


def _others_hands(at: Path, status: os.stat_result, *, sticky: bool = False) -> str | None:
    """How another user can put things into a directory. ``sticky``: it may be, where nobody can move what is others'.

    A mount's root may be: a bpffs has mode 1777 by default. What a bind mount has for a root may be anybody's.
    """
    if status.st_uid not in (0, os.geteuid()):
        return f"{at} belongs to user {status.st_uid}"
    if status.st_mode & _OTHERS_MAY_WRITE and not (sticky and status.st_mode & stat.S_ISVTX):
        return f"{at} may be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _mount_above(directory: Path) -> tuple[Path, tuple[str, ...]] | None:
    """The bpffs that ctctl's directory lies in, and the names below it; the last ``ctctl/NODE`` is not followed."""
    target = Path(os.path.normpath(directory.absolute()))
    below: tuple[str, ...] = ()
    if ROOT in target.parts:
        cut = len(target.parts) - 1 - target.parts[::-1].index(ROOT)
        target, below = Path(*target.parts[:cut]), target.parts[cut:]
    target = target.resolve()
    mount = mount_of(target)
    return None if mount is None else (mount, (*target.relative_to(mount).parts, *below))


def own_maps() -> dict[int, str]:
    """The node of every map that ctctl loaded, by map id, over every bpffs that this process sees."""
    found: dict[int, str] = {}
    for record in _records():
        found.update(dict.fromkeys(record.maps.values(), record.node))
    return found


def own_ids(directory: Path) -> frozenset[int]:
    """Ids of the maps of the node of ours there, by its record. Raises NotOursError where the place is another's."""
    check_place(directory)
    paths, record = NodePaths.at(directory), _read_record(directory / pins.NODE_RECORD)
    return frozenset() if paths is None or record is None else _known_ids(paths, record)


def open_own(pin: Path, ids: Collection[int]) -> Map:
    """A map of a node of ours, open for writing if it is one of ``ids``, which are the node's (``own_ids``).

    What is open is asked for its id, so that no link or later pin leads to another's; not opened by it, which takes
    CAP_SYS_ADMIN. Raises NotFoundError, NotOursError, KernelError.
    """
    with Map.open_pinned(pin, read_only=True) as found:
        number = found.info.id
    if number in ids:
        opened = Map.open_pinned(pin)
        if opened.info.id in ids:
            return opened
        opened.close()
    raise NotOursError(f"{pin} is in no record of a node that this ctctl loaded, and is not written: ctctl load again")


def _records() -> Iterator[NodeRecord]:
    for root in dict.fromkeys(mounts()):
        try:
            directories = sorted((root / ROOT).iterdir())
        except OSError:
            continue
        for paths in filter(None, map(NodePaths.at, directories)):
            # A load that was killed between its renames: its maps are in place, its record still in staging.
            for place in (paths.dir, paths.staging):
                if why_not_ours(place) is None and _is_ours(place / pins.NODE_RECORD):
                    record = _read_record(place / pins.NODE_RECORD)
                    if record is not None:
                        yield record


def _is_ours(pin: Path) -> bool:
    try:
        status = os.lstat(pin)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid())


def check_pins(paths: NodePaths, record: NodeRecord | None) -> None:
    """Make sure that what is about to be unpinned, renamed over or written is the node's own. Raises NotOursError.

    Without a record (a load was killed, or another version wrote it) names have to do.
    """
    for place in (paths.dir, paths.links, paths.staging, paths.staged_links):
        check_place(place)
    strange = sorted(_strange(paths, record))
    if strange:
        names = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
        raise NotOursError(f"{paths.dir}: {names}: not pinned there by ctctl; move it away first, nothing was changed")


def _strange(paths: NodePaths, record: NodeRecord | None) -> Iterator[str]:
    from ctctl.abi.maps import MAPS  # with the layouts, which only this question needs

    known = {*MAPS, *_OTHER_PINS, *(record.maps if record is not None else ())}
    ids = _known_ids(paths, record) if record is not None and record.maps else frozenset()
    for directory in (paths.dir, paths.staging):
        for entry in _entries(directory):
            if entry.is_dir():
                if entry not in (paths.links, paths.staging, paths.staged_links):
                    yield f"{entry.name}/"
            elif entry.name not in known or (entry.name in MAPS and not _is_our_map(entry, paths, ids)):
                yield entry.name
    for directory in (paths.links, paths.staged_links):
        yield from (f"{directory.name}/{entry.name}" for entry in _entries(directory) if not _is_our_link(entry, ids))


def _is_our_map(pin: Path, paths: NodePaths, ids: Collection[int]) -> bool:
    """By its id in the record; where none can tell (there is none, or a load was killed before it wrote its own),
    by what only our maps carry."""
    unrecorded = not ids or pin.parent == paths.staging
    return has_id(pin, ids) or (unrecorded and _is_made_by_us(pin))


def _is_made_by_us(pin: Path) -> bool:
    """Whether a map carries type information, as ours do and no Cilium agent's do."""
    if pin.name in _WITHOUT_BTF:
        return True
    try:
        with Map.open_pinned(pin, read_only=True) as table:
            return bool(table.info.btf_id)
    except CtctlError:
        return False


def _is_our_link(pin: Path, ids: Collection[int]) -> bool:
    """Whether a pin is a link of a program that uses the node's maps; without a record, of one by our name."""
    from ctctl.kernel.link import Link
    from ctctl.kernel.program import Program

    try:
        with Link.open_pinned(pin) as link, Program.from_id(link.info.prog_id) as program:
            info = program.info
    except CtctlError:
        return False
    return bool(set(info.map_ids) & set(ids)) if ids else info.name in _programs()


def _known_ids(paths: NodePaths, record: NodeRecord) -> frozenset[int]:
    staged = _read_record(paths.staging / pins.NODE_RECORD)
    return frozenset([*record.maps.values(), *(staged.maps.values() if staged else ())])


def has_id(pin: Path, ids: Collection[int]) -> bool:
    """Whether the map pinned there is one of those."""
    try:
        with Map.open_pinned(pin, read_only=True) as table:
            return table.info.id in ids
    except CtctlError:
        return False


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
