"""The lab's network namespaces: made, found, removed. Names are those of ``ip netns``."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ctctl.errors import KernelError, PermissionDenied
from ctctl.kernel.netns import NETNS_DIR, run_in_netns

T = TypeVar("T")


def namespace_path(name: str) -> Path:
    return NETNS_DIR / name


def is_live(name: str) -> bool:
    """Whether ``name`` is a mounted namespace; a crash can leave its empty mount point behind."""
    path = namespace_path(name)
    try:
        return path.stat().st_dev != NETNS_DIR.stat().st_dev
    except FileNotFoundError:
        return False


def _number(error: OSError) -> int:
    """The kernel's number. Without one pyroute2 waited in vain for the process that it starts for this."""
    return error.errno or errno.ETIMEDOUT


def ensure(name: str) -> None:
    """Make the namespace unless it is there; what a crash left of it is cleared first.

    Raises:
        PermissionDenied: not allowed to make namespaces.
        KernelError: the kernel refused.
    """
    if is_live(name):
        return
    remove(name)
    from pyroute2 import netns

    try:
        netns.create(name)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PermissionDenied("the lab makes network namespaces: run it as root (CAP_SYS_ADMIN)") from None
        raise KernelError("make network namespace", name, _number(error)) from None
    if not is_live(name):
        raise KernelError("make network namespace", name, errno.EIO, "is /run/netns mounted read-only?")


def remove(name: str) -> bool:
    """Remove the namespace's name; it goes with its devices once no process is in it. False: there was none."""
    from pyroute2 import netns

    removed = False
    # A namespace can be mounted twice over one name after two labs raced before there was a lock.
    while namespace_path(name).exists():
        try:
            netns.remove(name)
        except FileNotFoundError:
            break
        except OSError as error:
            if error.errno == errno.EBUSY:
                continue
            raise KernelError("remove network namespace", name, _number(error)) from None
        removed = True
    return removed


def inode(name: str) -> int | None:
    """The namespace's inode number, as in ``/proc/PID/ns/net``; None where there is none."""
    return namespace_path(name).stat().st_ino if is_live(name) else None


def with_route(name: str, work: Callable[[Any], T]) -> T:
    """Run ``work(ip)`` inside the namespace with a pyroute2 ``IPRoute`` of it.

    Raises:
        KernelError: netlink refused; the message names the namespace.
    """

    def inside() -> T:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with IPRoute() as ip:
                return work(ip)
        except NetlinkError as error:
            raise KernelError("configure network of", name, int(error.code)) from error

    return run_in_netns(name, inside)


def write_sysctls(name: str, values: dict[str, str]) -> None:
    """Set sysctls of the namespace. Keys that this kernel was built without are skipped if they are IPv6's."""

    def inside() -> None:
        for key, value in values.items():
            path = Path("/proc/sys") / key
            try:
                path.write_text(value)
            except FileNotFoundError:
                if "/ipv6/" not in key:
                    raise

    try:
        run_in_netns(name, inside)
    except OSError as error:
        raise KernelError("set sysctl in", name, _number(error)) from None
