"""What this machine can do: each feature is tried, never guessed from a version number.

What our own programs are needed for is there if those programs load, and attach where they would be.

Probes leave nothing behind: objects are closed at once, a device is made only in a namespace that
ends with the probe.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ctctl._ffi import CallError, Fd, libbpf
from ctctl._ffi.structs import ProgLoadOpts
from ctctl.errors import CtctlError, KernelError, NotFoundError, UnsupportedError
from ctctl.kernel import bpffs, trial
from ctctl.kernel.capabilities import Capability, effective_capabilities
from ctctl.kernel.failures import permission_hint
from ctctl.kernel.link import Direction, TcxLink, has_tcx
from ctctl.kernel.map import Map, MapFlag, MapType
from ctctl.kernel.netns import run_in_new_netns
from ctctl.kernel.program import Program
from ctctl.kernel.tc import attach_filter
from ctctl.kernel.tracing import TracingLink
from ctctl.model.suggest import unknown_name

_PROG_SCHED_CLS = 3
_PROG_SYSCALL = 31
_SLEEPABLE = 1 << 4
#: r0 = 0; exit
_RETURN_ZERO = bytes.fromhex("b700000000000000" "9500000000000000")  # fmt: skip

#: The capabilities that ctctl can use, and what for.
_CAPABILITIES: Final = {
    Capability.CAP_DAC_READ_SEARCH: "look at pinned tables without being root",
    Capability.CAP_NET_ADMIN: "attach programs, change network devices",
    Capability.CAP_SYS_ADMIN: "change tables (opened by their ids), mount the BPF file system, enter namespaces",
    Capability.CAP_SYS_RESOURCE: "raise RLIMIT_MEMLOCK; not needed since Linux 5.11",
    Capability.CAP_PERFMON: "trace programs",
    Capability.CAP_BPF: "maps and programs",
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


def probe(only: Collection[str] = ()) -> list[Feature]:
    """Every feature, or ``only`` those of these names, each tried on its own. A failed probe says why in its detail.

    Takes seconds: the verifier goes through every program of ours. Raises NotFoundError for a name that there is not.
    """
    known = {name: partial(_try, name, used_for, check) for name, used_for, check in _PROBES}
    if only:
        if strange := sorted(set(only) - known.keys()):
            raise NotFoundError(unknown_name("feature", strange[0], known))
        return [known[name]() for name in only]
    version = libbpf_version()
    found = [Feature("libbpf", version is not None, version or "not installed", "everything on live tables")]
    if version is not None:
        found += [tried() for tried in known.values()]
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
    return f"{text}: {permission_hint()}" if error.errno == errno.EPERM else text


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


def _vmlinux_btf() -> str:
    path = Path("/sys/kernel/btf/vmlinux")
    size = path.stat().st_size
    return f"{path}, {size // 1024} KiB"


def _own(name: str, programs: tuple[str, ...] = (), **config: int) -> Callable[[], str]:
    """A check that this kernel takes ``programs`` of one of our objects (none named: all of them)."""

    def check() -> str:
        with trial.opened(name, frozenset(programs) or None, config) as bpf:
            bpf.load()
            return f"{', '.join(programs or bpf.program_names())} of {bpf.name} can be loaded"

    return check


def _both(name: str, **config: int) -> Callable[[], str]:
    """The same for a datapath object of both families."""
    checks = (_own(name, (), **config), _own(f"{name}6", (), **config))
    return lambda: "; ".join(check() for check in checks)


def _freed() -> str:
    with trial.opened("proberet", frozenset({"probe_freed"})) as bpf:
        bpf.load()
        TracingLink.attach(bpf.program("probe_freed")).close()
    return "probe_freed of proberet.bpf.o can be attached"


def _returns() -> str:
    with trial.returns_probe() as bpf:
        TracingLink.attach(bpf.program("probe_return")).close()
    return "probe_return of proberet.bpf.o can be attached (fexit)"


def _probes() -> str:
    chained = has_tcx()
    with trial.opened("probe", None, {"cfg_tables": 1}) as bpf:
        bpf.load()
        attach = _attach_both if chained else _attach_filters
        run_in_new_netns(attach, bpf.program("probe_ingress"), bpf.program("probe_egress"))
    way = "TCX links" if chained else "clsact filters, which a process of their own takes off"
    return f"probe_ingress, probe_egress of probe.bpf.o can be attached: {way}"


def _attach_both(ingress: Program, egress: Program) -> None:
    """To the loopback device of this namespace, and off again."""
    with (
        TcxLink.attach(ingress, 1, Direction.INGRESS, before="first"),
        TcxLink.attach(egress, 1, Direction.EGRESS, before="first"),
    ):
        pass


def _attach_filters(ingress: Program, egress: Program) -> None:
    """To the loopback device of this namespace, whose end takes them off."""
    for program, direction in ((ingress, Direction.INGRESS), (egress, Direction.EGRESS)):
        attach_filter(program, 1, direction, name=program.name)


def _tcx() -> str:
    with _load(_PROG_SCHED_CLS) as program:
        run_in_new_netns(_attach_both, program, program)
    return "links on device ingress and egress"


def _clsact() -> str:
    with _load(_PROG_SCHED_CLS) as program:
        run_in_new_netns(_attach_filters, program, program)
    return "filters on device ingress and egress"


def _geneve() -> str:
    def add() -> None:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with IPRoute() as ip:
                ip.link("add", ifname="ctctl_probe", kind="geneve", geneve_id=1, geneve_remote="192.0.2.1")
        except NetlinkError as error:
            hint = "the kernel has none; the datapath encapsulates by itself"
            raise KernelError("make", "geneve device", error.code, hint) from error

    run_in_new_netns(add)
    return "geneve devices can be made"


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
    ("prog-syscall", "gc, ct stats and filters in the kernel", _syscall_program),
    ("btf-vmlinux", "load: the verifier; tracing", _vmlinux_btf),
    ("tcx", "attach by link; else clsact", _tcx),
    ("clsact", "attach where there is no TCX", _clsact),
    ("geneve-device", "overlay by the kernel; else in BPF", _geneve),
    ("datapath-pods", "load, lab, trace --simulate", _both("lxc")),
    ("datapath-device", "load, lab, trace --simulate", _both("netdev")),
    ("datapath-overlay", "load with a geneve device", _both("overlay", cfg_overlay_device=1)),
    ("datapath-sockets", "load with lb.socket", _both("sock")),
    (
        "gc-kernel",
        "gc --engine kernel; else batch",
        _own("gc", ("gc_walk4", "gc_walk6"), cfg_gc_nat=1, cfg_gc_log=1),
    ),
    (
        "gc-recheck",
        "gc --engine batch; else per-key",
        _own("gc", ("gc_check4", "gc_check6"), cfg_gc_nat=1),
    ),
    ("writer", "ct delete, flush and gc: what is deleted", _own("writer", cfg_writer_nat=1)),
    ("ct-filter", "ct list: filters in the kernel; else here", _own("ctscan", ("scan_filter4", "scan_filter6"))),
    ("ct-stats", "ct stats in the kernel; else here", _own("ctscan", ("scan_stats4", "scan_stats6"))),
    ("probe", "trace --probe, on any datapath", _probes),
    ("probe-drops", "trace --probe: drops by the kernel", _freed),
    ("probe-returns", "trace --probe: return codes; else none", _returns),
)


def _capabilities() -> list[Feature]:
    effective = effective_capabilities()
    return [
        Feature(capability.name, bool(held := effective >> capability & 1), "held" if held else "not held", used_for)
        for capability, used_for in _CAPABILITIES.items()
    ]
