"""What must be so before anything is touched: privileges, kernel BTF, a bpffs that outlives us."""

from __future__ import annotations

import os
from pathlib import Path

from ctctl.errors import PermissionDenied, UnsupportedError
from ctctl.kernel import bpffs as _bpffs
from ctctl.kernel.capabilities import Capability, missing_capabilities

_KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")


def require_privileges(what: str) -> None:
    """Raises PermissionDenied that names the missing capabilities.

    CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, as in the kernel (capabilities(7)).
    """
    missing = missing_capabilities(Capability.CAP_NET_ADMIN, Capability.CAP_BPF, Capability.CAP_PERFMON)
    if missing:
        raise PermissionDenied(f"{what} needs {', '.join(missing)}: run as root (sudo ctctl ...)")


def require_kernel_btf() -> None:
    """Raises UnsupportedError. The verifier checks our global functions' context argument against kernel BTF."""
    if not _KERNEL_BTF.exists():
        raise UnsupportedError(
            f"this kernel offers no BTF ({_KERNEL_BTF} is missing): ctctl needs one built with CONFIG_DEBUG_INFO_BTF"
        )


def ensure_bpffs(path: Path) -> bool:
    """Mount a bpffs at ``path`` unless it lies in one. True if this call mounted it.

    Raises UnsupportedError in a mount namespace of its own, where the mount and every pin in it would
    vanish with the process, KernelError if mounting fails.
    """
    if _bpffs.is_bpffs(path):
        path.mkdir(parents=True, exist_ok=True)
        return False
    if _in_private_mount_namespace():
        raise UnsupportedError(
            f"{path} is no bpffs here, and one mounted now would vanish with this process's mount namespace"
            " (ip netns exec makes one): run ctctl outside it with --netns, or mount the bpffs first"
        )
    return _bpffs.ensure_mounted(path)


def _in_private_mount_namespace() -> bool:
    """Whether this process is the first in its mount namespace: its parent lives in another one."""
    try:
        return Path(f"/proc/{os.getppid()}/ns/mnt").stat().st_ino != Path("/proc/self/ns/mnt").stat().st_ino
    except OSError:
        return False
