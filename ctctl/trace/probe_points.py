"""Where probes can go: the devices that carry BPF programs, and which programs those are."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctctl.abi import pins
from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.kernel.link import Direction, query_tcx
from ctctl.kernel.map import Map
from ctctl.kernel.netns import NETNS_DIR, netns_path, run_in_netns
from ctctl.kernel.program import Program
from ctctl.kernel.tc import list_filters
from ctctl.kernel.tracing import entry_function
from ctctl.node.attach import AttachMode, choose_mode
from ctctl.trace.probe_event import ProgramRef

#: What the programs of bpf/probe.bpf.c are called.
_PROBES = ("probe_ingress", "probe_egress")
_OWN_NAMESPACE = Path("/proc/self/ns/net")


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One direction of one device, with the programs that run there, in order.

    ``netns`` is the namespace's file, ``netns_inode`` its number, ``node`` how it is called in output, ``attach``
    how the probe goes in front of them: never ``auto``.
    """

    netns: Path
    netns_inode: int
    node: str | None
    ifindex: int
    device: str
    direction: Direction
    programs: tuple[ProgramRef, ...]
    attach: AttachMode = AttachMode.tcx


def find_points(
    devices: Sequence[str] = (), namespaces: Sequence[str] = (), attach: AttachMode = AttachMode.auto
) -> list[ProbePoint]:
    """Every direction of every device that carries BPF programs, found by query; TCX chain, then clsact.

    ``devices`` restricts to those names and takes them also without programs. ``namespaces`` are names of
    ip-netns(8) or paths; none: the caller's. Other traces' probes are nobody's programs. Raises UnsupportedError
    for TCX where there is none, UsageError for filters where TCX programs run before them, NotFoundError,
    KernelError.
    """
    mode = choose_mode(attach)
    points: list[ProbePoint] = []
    for name in namespaces or [""]:
        path = netns_path(name) if name else _OWN_NAMESPACE
        label = name_of_namespace(name) if name else None
        try:
            inode = path.stat().st_ino
        except OSError:
            raise NotFoundError(f"no network namespace {name!r}") from None
        points += run_in_netns(str(path), lambda p=path, i=inode, n=label: list(_scan(p, i, n, devices, mode)))  # type: ignore[misc]
    missing = set(devices) - {point.device for point in points}
    if missing:
        raise NotFoundError(f"no device {', '.join(sorted(missing))} in {', '.join(namespaces) or 'this namespace'}")
    if not points:
        raise UsageError(
            "no device carries a BPF program here: name devices with --device, or a namespace with --netns"
        )
    return points


def name_of_namespace(name: str) -> str:
    """How a namespace is called in output: by its file's name; one that only a process holds, by that process."""
    match Path(name).parts:
        case ("/", "proc", number, "ns", "net"):
            return f"pid-{number}"
        case (*_, last):
            return last
    return name


def foreign_points() -> list[ProbePoint]:
    """The points of this network namespace whose programs are not all those of nodes that ctctl loaded.

    Empty where there are none. Raises as ``find_points`` does.
    """
    try:
        points = find_points()
    except UsageError:
        return []
    return _not_ours(points)


def foreign_points_elsewhere() -> list[ProbePoint]:
    """The same of the machine's other network namespaces that have a name; one that cannot be entered has none."""
    here = _OWN_NAMESPACE.stat().st_ino
    points: list[ProbePoint] = []
    for name in sorted(path.name for path in NETNS_DIR.glob("*")):
        with contextlib.suppress(CtctlError, OSError):
            if netns_path(name).stat().st_ino != here:
                points += find_points(namespaces=[name])
    return _not_ours(points)


def _not_ours(points: Iterable[ProbePoint]) -> list[ProbePoint]:
    from ctctl.node.owner import own_maps

    ours = own_maps().keys()
    return [point for point in points if not all(_uses(program.id, ours) for program in point.programs)]


def _uses(program_id: int, maps: Collection[int]) -> bool:
    """Whether a program uses one of these maps."""
    try:
        with Program.from_id(program_id) as program:
            return any(number in maps for number in program.info.map_ids)
    except NotFoundError:
        return True


def _scan(path: Path, inode: int, node: str | None, devices: Sequence[str], mode: AttachMode) -> Iterator[ProbePoint]:
    chained = choose_mode(AttachMode.auto) is AttachMode.tcx
    for ifindex, device in socket.if_nameindex():
        if devices and device not in devices:
            continue
        filters = list_filters(ifindex)
        for direction in Direction:
            chain = query_tcx(ifindex, direction) if chained else []
            programs = [(attached.prog_id, "tcx") for attached in chain]
            programs += [(found.prog_id, "clsact") for found in filters if found.direction is direction]
            refs = tuple(ref for number, via in programs if not _is_probe(ref := _reference(number, via)))
            if refs and refs[0].via == "tcx" and mode is AttachMode.tc:
                raise UsageError(
                    f"a filter at {direction} of {device} would not see what {refs[0]} sees, which runs before all"
                    " filters: use --attach auto"
                )
            if refs or devices:
                yield ProbePoint(path, inode, node, ifindex, device, direction, refs, mode)


def _is_probe(ref: ProgramRef) -> bool:
    """Whether a program is the probe of a trace: it has that name, and the map that tells what to follow."""
    if ref.name not in _PROBES:
        return False
    try:
        with Program.from_id(ref.id) as program:
            return any(_map_name(number) == pins.PROBE_CTL for number in program.info.map_ids)
    except CtctlError:
        return False


def _map_name(number: int) -> str:
    with Map.open_id(number) as found:
        return found.info.name


def _reference(program_id: int, via: str) -> ProgramRef:
    try:
        with Program.from_id(program_id) as program:
            info = program.info
            try:
                name = entry_function(program)
            except CtctlError:
                name = info.name
            return ProgramRef(program_id, name, info.tag, via)
    except NotFoundError:
        return ProgramRef(program_id, "gone", "", via)


def describe_points(points: Sequence[ProbePoint]) -> list[str]:
    """A line for each device and direction: what the probe goes in front of."""
    lines = []
    for point in points:
        where = f"{point.node}/{point.device}" if point.node else point.device
        programs = ", ".join(str(program) for program in point.programs) or "nothing"
        how = "" if point.attach is AttachMode.tcx else "a clsact filter "
        lines.append(f"{where} {point.direction}: {how}before {programs}")
    return lines
