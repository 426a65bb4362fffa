"""Commands run as a user who is not root, from wherever the checkout and its Python lie.

Either may be where other users cannot go: below ``/root``, in a home, in a build's own folder. What is closed is opened
in a mount namespace of the command's own: an empty, open file system over it, with what the command needs put back
in its place. Nothing changes outside.

As a program (it imports nothing of ours): ``otheruser.py PATHS COMMAND…``, PATHS a JSON list, in a mount namespace
that is its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
_MS_BIND_REC = 0x1000 | 0x4000  # include/uapi/linux/mount.h


def other_user(capabilities: Iterable[str] = (), reach: Iterable[Path] = ()) -> tuple[str, ...]:
    """What to put before a command: it runs as nobody, with these capabilities ("CAP_BPF") and no others.

    It reaches this checkout, the Python of this run, and the folders ``reach``, as far as their own modes allow.
    """
    held = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    paths = json.dumps([*map(str, [*_of_this_run(), *reach])])
    return (
        *("unshare", "--mount", "--propagation", "private", sys.executable, "-IS", __file__, paths),
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *(f"--bounding-set={held}", f"--inh-caps={held}", f"--ambient-caps={held}"),
    )


def _of_this_run() -> Iterator[Path]:
    """The checkout, the environment, and every folder that its interpreter, or that one's library, is looked for in."""
    yield ROOT
    yield Path(sysconfig.get_config_var("LIBDIR"))
    yield Path(sys.prefix)
    yield Path(sys.base_prefix)
    link = Path(sys.executable)
    while link.is_symlink():
        link = Path(os.path.normpath(link.parent / link.readlink()))
        yield link.parent.parent


# ---- in the namespace


def _allows(path: Path, bits: int) -> bool:
    return path.stat().st_mode & bits == bits


def _closed(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other users cannot search."""
    return next((folder for folder in reversed(path.parents) if not _allows(folder, stat.S_IXOTH)), None)


def _pieces(path: Path) -> Iterator[Path]:
    """``path``, and where it leads; what is in it instead, where it is closed itself."""
    if path.is_symlink():
        yield path
        path = path.resolve()
    if path.is_dir() and not _allows(path, stat.S_IXOTH | stat.S_IROTH):
        yield from path.iterdir()
    else:
        yield path


def _mount(source: str, target: Path, fstype: str, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(word) for word in (source, target, fstype)]
    if libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)) != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} {os.strerror(ctypes.get_errno())}", str(target))


def _put_back(held: int, path: Path) -> None:
    """The file or folder that ``held`` has open, at its old name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(os.fstat(held).st_mode):
        path.symlink_to(os.readlink("", dir_fd=held))
        return
    if stat.S_ISDIR(os.fstat(held).st_mode):
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    _mount(f"/proc/self/fd/{held}", path, "", _MS_BIND_REC, "")


def open_the_way(paths: Iterable[Path]) -> None:
    """Make ``paths`` reachable by every user, in this mount namespace."""
    pieces = sorted({piece for path in paths for piece in _pieces(path.absolute())})  # a folder before what is in it
    held = {piece: os.open(piece, os.O_PATH | os.O_NOFOLLOW) for piece in pieces}
    for piece in pieces:
        while closed := _closed(piece):
            _mount("tmpfs", closed, "tmpfs", 0, "mode=0755")
            for inside in pieces:
                if inside.is_relative_to(closed) and not os.path.lexists(inside):
                    _put_back(held[inside], inside)
    for descriptor in held.values():
        os.close(descriptor)


if __name__ == "__main__":
    here = Path.cwd()
    open_the_way(map(Path, json.loads(sys.argv[1])))
    os.chdir(here if here.is_dir() else "/")
    os.execvp(sys.argv[2], sys.argv[2:])
