"""The directory a load builds in, and what becomes of it when the load was killed.

The record is pinned into it last, before the first program is exchanged: with it, staging holds all
that the node needs, and finishing the renames is right; without it nothing was attached that
anybody needs, and dropping it is.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

from ctctl.kernel.map import Map, MapType, UpdateMode
from ctctl.node.paths import NodePaths, remove_tree
from ctctl.node.pool import STATE_MAPS, copy_entries
from ctctl.node.record import MAP_NAME

#: state maps whose entries are worth carrying over
_TABLES = (MapType.HASH, MapType.LRU_HASH)


def begin(paths: NodePaths) -> None:
    """Make an empty staging directory. The node's lock is held, so what is left there is nobody's."""
    remove_tree(paths.staging)
    paths.staged_links.mkdir(mode=0o700, parents=True)
    paths.links.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the renames are done. SIGKILL does not: see ``finish_interrupted``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def publish_maps(paths: NodePaths) -> None:
    """Rename every staged map but the record over the node's own."""
    for path in sorted(paths.staging.iterdir()):
        if path.is_file() and path.name != MAP_NAME:
            path.rename(paths.map(path.name))


def publish_record(paths: NodePaths) -> None:
    """The last rename: from here on the load is done."""
    (paths.staging / MAP_NAME).rename(paths.map(MAP_NAME))
    remove_tree(paths.staging)


def finish_interrupted(paths: NodePaths, step: Callable[[str], None]) -> bool:
    """Put right what a killed load left: finish its renames, or drop what it built. True if there was one."""
    if not paths.staging.exists():
        return False
    step("clean up after a load that was interrupted")
    if (paths.staging / MAP_NAME).exists():
        paths.links.mkdir(mode=0o700, exist_ok=True)
        for name in STATE_MAPS:
            _carry_over(paths, name)
        publish_maps(paths)
        for pin in sorted(paths.staged_links.iterdir()) if paths.staged_links.exists() else ():
            pin.rename(paths.links / pin.name)
        publish_record(paths)
    remove_tree(paths.staging)
    return True


def _carry_over(paths: NodePaths, name: str) -> None:
    """Entries that only the map about to be replaced has (it was being resized) go into the new one."""
    staged, pinned = paths.staging / name, paths.map(name)
    if not (staged.exists() and pinned.exists()):
        return
    with contextlib.ExitStack() as closing:
        new = closing.enter_context(Map.open_pinned(staged))
        old = closing.enter_context(Map.open_pinned(pinned))
        shape = (old.info.type, old.info.key_size, old.info.value_size)
        if old.info.type in _TABLES and shape == (new.info.type, new.info.key_size, new.info.value_size):
            copy_entries(old, new, UpdateMode.NOEXIST)
