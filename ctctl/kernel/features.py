"""What this machine can do: each feature is tried, never guessed from a version number.

Probes leave nothing behind: objects are closed at once, a device is made only in a namespace that
ends with the probe.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ctctl._ffi import CallError, Fd, libbpf
from ctctl._ffi.structs import ProgLoadOpts
from ctctl.errors import CtctlError, KernelError, UnsupportedError
from ctctl.kernel import bpffs
from ctctl.kernel.failures import PRIVILEGE_HINT
from ctctl.kernel.link import Direction, query_tcx
from ctctl.kernel.map import Map, MapFlag, MapType
from ctctl.kernel.netns import run_in_new_netns
from ctctl.kernel.program import Program

_PROG_SCHED_CLS = 3
_PROG_TRACING = 26
_PROG_SYSCALL = 31
_ATTACH_FENTRY = 24
_ATTACH_ITER = 28
_HELPER_FOR_EACH = 164
_SLEEPABLE = 1 << 4
#: r0 = 0; exit
_RETURN_ZERO = bytes.fromhex("b700000000000000" "9500000000000000")  # fmt: skip

#: Bit numbers of capabilities(7) that ctctl can use, and what for.
_CAPABILITIES: Final = {
    "CAP_NET_ADMIN": (12, "attach programs, change network devices"),
    "CAP_SYS_ADMIN": (21, "mount the BPF file system, enter namespaces"),
    "CAP_SYS_RESOURCE": (24, "raise RLIMIT_MEMLOCK; not needed since Linux 5.11"),
    "CAP_PERFMON": (38, "trace programs"),
    "CAP_BPF": (39, "maps and programs"),
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing the kernel or a library has or lacks. ``detail``: the evidence. ``used_for``: by what."""

    name: str
    available: bool
    detail: str
    used_for: str = ""


def libbpf_version() -> str | None:
    """Version of the installed libbpf, or None without one."""
    try:
        return ".".join(str(part) for part in libbpf().version)
    except UnsupportedError:
        return None


def probe() -> list[Feature]:
    """Every feature, each tried on its own. Raises nothing: a failed probe says why in its detail."""
    version = libbpf_version()
    found = [Feature("libbpf", version is not None, version or "not installed", "everything on live tables")]
    if version is not None:
        found += [_try(name, used_for, check) for name, used_for, check in _PROBES]
    return found + _capabilities()


def _try(name: str, used_for: str, check: Callable[[], str]) -> Feature:
    try:
        return Feature(name, True, check(), used_for)
    except CtctlError as error:
        return Feature(name, False, str(error), used_for)
    except CallError as error:
        return Feature(name, False, _reason(error), used_for)
    except OSError as error:
        return Feature(name, False, error.strerror or str(error), used_for)


def _reason(error: CallError) -> str:
    text = f"{errno.errorcode.get(error.errno, error.errno)} from {error.function}"
    if error.errno != errno.EPERM:
        return text
    privileged = effective_capabilities() >> _CAPABILITIES["CAP_SYS_ADMIN"][0] & 1
    return f"{text}: {'this kernel forbids it' if privileged else PRIVILEGE_HINT}"


def _bpf_syscall() -> str:
    with Map.create("ctctl_probe", MapType.ARRAY, 4, 8, 1):
        return "a map can be made"


def _map_type(kind: MapType) -> Callable[[], str]:
    def check() -> str:
        sizes = (0, 0, 4096) if kind is MapType.RINGBUF else (8, 8, 1)
        flags = MapFlag.NO_PREALLOC if kind is MapType.LPM_TRIE else 0
        with Map.create("ctctl_probe", kind, *sizes, flags=flags):
            return f"map type {int(kind)}"

    return check


def _map_of_maps() -> str:
    with (
        Map.create("ctctl_inner", MapType.ARRAY, 4, 8, 1) as inner,
        Map.create("ctctl_probe", MapType.HASH_OF_MAPS, 4, 4, 1, inner=inner),
    ):
        return f"map type {int(MapType.HASH_OF_MAPS)}"


def _batch() -> str:
    with Map.create("ctctl_probe", MapType.LRU_HASH, 4, 8, 16) as table:
        table.update((1).to_bytes(4, "little"), bytes(8))
        rows = sum(len(batch) for batch in table.batches(16))
        deleted = table.delete_batch((1).to_bytes(4, "little")).deleted
        if (rows, deleted) != (1, 1):
            raise UnsupportedError(f"batch lookup gave {rows} of 1 entry, batch delete {deleted}")
    return "lookup and delete on an LRU hash"


def _mmapable() -> str:
    with Map.create("ctctl_probe", MapType.ARRAY, 4, 8, 1, flags=MapFlag.MMAPABLE) as table:
        table.mmap().release()
    return "arrays can be mapped into memory"


def _load(kind: int, **options: int) -> Program:
    number = libbpf().bpf_prog_load(
        kind, b"ctctl_probe", b"GPL", _RETURN_ZERO, len(_RETURN_ZERO) // 8, ctypes.byref(ProgLoadOpts(**options))
    )
    return Program(Fd(number, "probe program"), "ctctl_probe")


def _test_run() -> str:
    with _load(_PROG_SCHED_CLS) as program:
        result = program.test_run(bytes(12) + b"\x08\x00" + bytes(46), mark=7)
        if (result.retval, result.mark) != (0, 7):
            raise UnsupportedError("a test run does not return its context")
    return "tc programs, with context in and out"


def _syscall_program() -> str:
    with _load(_PROG_SYSCALL, prog_flags=_SLEEPABLE) as program:
        program.run_syscall()
    return "programs run on request"


def _for_each() -> str:
    # libbpf's helper probe takes "no permission" for "there": rule that out first.
    _load(_PROG_SYSCALL, prog_flags=_SLEEPABLE).close()
    result = libbpf().libbpf_probe_bpf_helper(_PROG_SYSCALL, _HELPER_FOR_EACH, None)
    if result != 1:
        raise UnsupportedError("no helper bpf_for_each_map_elem")
    return "bpf_for_each_map_elem in a syscall program"


def _vmlinux_btf() -> str:
    path = Path("/sys/kernel/btf/vmlinux")
    size = path.stat().st_size
    return f"{path}, {size // 1024} KiB"


def _fentry() -> str:
    target = b"bpf_fentry_test1"
    btf_id = libbpf().libbpf_find_vmlinux_btf_id(target, _ATTACH_FENTRY)
    with _load(_PROG_TRACING, expected_attach_type=_ATTACH_FENTRY, attach_btf_id=btf_id) as program:
        Fd(libbpf().bpf_raw_tracepoint_open(None, program.fd), "probe link").close()
    return "kernel functions can be traced"


def _iterator() -> str:
    btf_id = libbpf().libbpf_find_vmlinux_btf_id(b"bpf_map_elem", _ATTACH_ITER)
    _load(_PROG_TRACING, expected_attach_type=_ATTACH_ITER, attach_btf_id=btf_id).close()
    return "bpf_map_elem iterator"


def _tcx() -> str:
    run_in_new_netns(query_tcx, 1, Direction.INGRESS)
    return "links on device ingress and egress"


def _clsact() -> str:
    def add() -> None:
        from pyroute2 import IPRoute

        with IPRoute() as ip:
            ip.tc("add", "clsact", 1)

    _rtnetlink("make", "clsact qdisc", add)
    return "qdisc clsact"


def _geneve() -> str:
    def add() -> None:
        from pyroute2 import IPRoute

        with IPRoute() as ip:
            ip.link("add", ifname="ctctl_probe", kind="geneve", geneve_id=1, geneve_remote="192.0.2.1")

    _rtnetlink("make", "geneve device", add)
    return "geneve devices can be made"


def _rtnetlink(what: str, name: str, call: Callable[[], None]) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        run_in_new_netns(call)
    except NetlinkError as error:
        hint = "the kernel has none; the datapath encapsulates by itself" if "geneve" in name else ""
        raise KernelError(what, name, error.code, hint) from error


def _bpffs() -> str:
    found = bpffs.mounts()
    if not found:
        raise UnsupportedError(f"not mounted; load and lab up mount it at {bpffs.DEFAULT_ROOT}")
    return ", ".join(str(path) for path in found)


def _jit() -> str:
    value = Path("/proc/sys/net/core/bpf_jit_enable").read_text(encoding="utf-8").strip()
    if value == "0":
        raise UnsupportedError("net.core.bpf_jit_enable is 0: programs are interpreted")
    return f"net.core.bpf_jit_enable = {value}"


_PROBES: Final[tuple[tuple[str, str, Callable[[], str]], ...]] = (
    ("bpf-syscall", "everything on live tables", _bpf_syscall),
    ("bpffs", "pins: load, live tables", _bpffs),
    ("jit", "fast programs", _jit),
    ("map-lru-hash", "conntrack tables", _map_type(MapType.LRU_HASH)),
    ("map-lpm-trie", "ipcache, source ranges", _map_type(MapType.LPM_TRIE)),
    ("map-hash-of-maps", "Maglev tables", _map_of_maps),
    ("map-ringbuf", "trace --live, ct events", _map_type(MapType.RINGBUF)),
    ("map-batch", "fast ct list and gc; else one by one", _batch),
    ("map-mmap", "trace control without system calls", _mmapable),
    ("prog-test-run", "trace --simulate and --scenario", _test_run),
    ("prog-syscall", "gc --engine kernel", _syscall_program),
    ("for-each-map-elem", "gc --engine kernel, ct stats in the kernel", _for_each),
    ("map-iterator", "filters in the kernel", _iterator),
    ("btf-vmlinux", "load: the verifier; iterators, tracing", _vmlinux_btf),
    ("tcx", "attach by link; else clsact", _tcx),
    ("clsact", "attach where there is no TCX", _clsact),
    ("fentry", "tracing of foreign programs", _fentry),
    ("geneve-device", "overlay by the kernel; else in BPF", _geneve),
)


def _capabilities() -> list[Feature]:
    effective = effective_capabilities()
    return [
        Feature(name, bool(effective >> bit & 1), "held" if effective >> bit & 1 else "not held", used_for)
        for name, (bit, used_for) in _CAPABILITIES.items()
    ]


def effective_capabilities() -> int:
    """This thread's effective capabilities as a bit set (proc(5), CapEff)."""
    for line in Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
