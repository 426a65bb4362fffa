"""Do something in another network namespace. setns(2) is per thread, so each call gets a thread of its own."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ctctl._ffi import CallError, syscall
from ctctl.errors import NotFoundError
from ctctl.kernel.failures import SYS_ADMIN, kernel_error

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71
#: NETNSA_NSID_NOT_ASSIGNED, as unsigned.
_NO_NUMBER = 0xFFFFFFFF
#: Where iproute2 keeps named namespaces (ip-netns(8)).
NETNS_DIR = Path("/run/netns")

P = ParamSpec("P")
T = TypeVar("T")


def netns_path(name_or_path: str | Path | int) -> Path:
    """The namespace file: of a name as ``ip netns`` knows it, of a process id, or the path itself."""
    if isinstance(name_or_path, int):
        return Path(f"/proc/{name_or_path}/ns/net")
    text = str(name_or_path)
    return Path(text) if "/" in text else NETNS_DIR / text


def run_in_netns(name_or_path: str | Path | int, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``fn`` in a new thread inside that namespace; returns its result or raises what it raised.

    Only the network namespace changes: /sys stays the caller's. Raises NotFoundError, KernelError.
    """
    path = netns_path(name_or_path)

    def enter_and_call() -> T:
        _enter(path)
        return fn(*args, **kwargs)

    return _in_thread(enter_and_call, f"netns {path.name}")


def run_in_new_netns(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``fn`` in a new thread inside a fresh, empty network namespace that goes away with the thread."""

    def enter_and_call() -> T:
        try:
            syscall.unshare(_CLONE_NEWNET)
        except CallError as error:
            raise kernel_error("make", "network namespace", error.errno, needed=SYS_ADMIN) from error
        return fn(*args, **kwargs)

    return _in_thread(enter_and_call, "new netns")


def _in_thread(call: Callable[[], T], name: str) -> T:
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def netns_id(name_or_path: str | Path | int | None = None) -> tuple[int, int]:
    """(device, inode) that identify a namespace; None: the calling thread's own."""
    path = Path("/proc/thread-self/ns/net") if name_or_path is None else netns_path(name_or_path)
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise NotFoundError(f"no network namespace at {path}") from error
    return stat.st_dev, stat.st_ino


def netns_cookie() -> int:
    """The kernel's number of the calling thread's namespace, which it gives to no other (Linux 5.14).

    Raises KernelError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_one:
        try:
            return int.from_bytes(any_one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError as error:
            raise kernel_error("read cookie of", "network namespace", error.errno or errno.EIO) from error


def has_link_to(fd: int) -> bool:
    """Whether a device of this thread's namespace has its other end in the namespace of ``fd``.

    The kernel numbers a namespace in another when a link joins them (NETNSA_NSID). Raises KernelError.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ip:
            ip.get_links()  # numbers those that have none yet
            found = ip.get_netnsid(fd=fd)
    except NetlinkError as error:
        raise kernel_error("look for links to", "network namespace", error.code) from error
    return found is not None and found["nsid"] != _NO_NUMBER


def _enter(path: Path) -> None:
    # Where the thread is already: that takes no right.
    if path.exists() and os.path.samestat(path.stat(), Path("/proc/thread-self/ns/net").stat()):
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(f"no network namespace at {path}") from error
    except OSError as error:
        raise kernel_error("open network namespace", str(path), error.errno or errno.EIO) from error
    try:
        syscall.setns(fd, _CLONE_NEWNET)
    except CallError as error:
        hint = "it is no network namespace" if error.errno == errno.EINVAL else ""
        raise kernel_error("enter network namespace", str(path), error.errno, hint, SYS_ADMIN) from error
    finally:
        os.close(fd)
