"""The BPF file system: where it is mounted, and mounting it where it is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ctctl._ffi import CallError, syscall
from ctctl.errors import KernelError
from ctctl.kernel.failures import SYS_ADMIN, kernel_error, permission_hint

DEFAULT_ROOT = Path("/sys/fs/bpf")


def mounts(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    """Mount points of every bpffs this process sees, in mount order (proc(5), mountinfo)."""
    found = []
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "bpf":
            fields = before.split(" ")
            place = Path(_unescape(fields[4]))
            if not _is_hidden(place, device=fields[2]):
                found.append(place)
    return found


def _is_hidden(place: Path, device: str) -> bool:
    """Whether something else was mounted over it, or over what it is in: the list has both."""
    try:
        number = place.stat().st_dev
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return f"{os.major(number)}:{os.minor(number)}" != device


def _unescape(field: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def mount_of(path: str | Path) -> Path | None:
    """The bpffs mount point that ``path`` lies under, or None."""
    target = Path(path).absolute()
    holders = [mount for mount in mounts() if target == mount or mount in target.parents]
    return max(holders, key=lambda mount: len(mount.parts), default=None)


def is_bpffs(path: str | Path) -> bool:
    """Whether ``path`` lies in a bpffs. It need not exist."""
    return mount_of(path) is not None


def ensure_mounted(path: str | Path = DEFAULT_ROOT) -> bool:
    """Mount a bpffs at ``path`` unless one is there. True if this call mounted it.

    Raises KernelError if it cannot be mounted.
    """
    target = Path(path)
    if is_bpffs(target):
        return False
    try:
        target.mkdir(parents=True, exist_ok=True)
        # As systemd mounts it: the kernel's default lets every user make directories in it.
        syscall.mount("bpf", str(target), "bpf", "mode=0700")
    except CallError as error:
        if error.errno == errno.EBUSY and is_bpffs(target):
            return False
        raise kernel_error("mount the BPF file system at", str(target), error.errno, _hint(error.errno)) from error
    except OSError as error:
        raise KernelError("mount the BPF file system at", str(target), error.errno or errno.EIO) from error
    return True


def _hint(err: int) -> str:
    if err in (errno.EPERM, errno.EACCES):
        return permission_hint(SYS_ADMIN)
    if err == errno.ENODEV:
        return "this kernel has no BPF file system (CONFIG_BPF_SYSCALL)"
    return ""
