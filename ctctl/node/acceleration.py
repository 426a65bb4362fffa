"""What stands against a program of ours as the XDP of the node's device, found before anything is changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from ctctl.config.node import NodeFile
from ctctl.errors import CtctlError, UnsupportedError
from ctctl.kernel.attached import sends_from_xdp, xdp_programs
from ctctl.kernel.link import XDP_MODES
from ctctl.node.attach import XDP, Attachment
from ctctl.node.netns import in_netns
from ctctl.node.tunnel import DEVICE

_ITS_OWN = "lb.acceleration"
NATIVE = "native"
#: What a veth needs for a frame to leave it from XDP, said where it lacks it.
OTHER_END = "the other end of the veth needs a native XDP program too, one that passes everything on"


def loses_frames(netns: str | None, ifindex: int) -> bool:
    """Whether what native XDP sends by a device does not get out. False where it cannot be told: the device is gone."""
    from pyroute2.netlink.exceptions import NetlinkError

    with contextlib.suppress(CtctlError, OSError, NetlinkError):
        return not in_netns(netns, lambda: sends_from_xdp(ifindex))
    return False


def check_acceleration(node: NodeFile, netns: str | None, attached: Iterable[Attachment]) -> None:
    """Refuse what a resolved node cannot have in XDP. ``attached``: what there is of it. Raises UnsupportedError."""
    lb, device = node.datapath.lb, node.node.device
    if lb.acceleration not in XDP_MODES:
        return
    if device is None:
        raise UnsupportedError(f"{_ITS_OWN}: {lb.acceleration}: the node file names no device for XDP to run on")
    routed, dispatched = node.datapath.routing == "tunnel", lb.mode != "snat" and lb.dispatch == "geneve"
    if node.datapath.tunnel == DEVICE and (routed or dispatched):
        other = "" if routed else ", or lb.dispatch: opt"
        raise UnsupportedError(
            f"{_ITS_OWN}: {lb.acceleration}: XDP cannot send through a geneve device: use tunnel: bpf{other}"
        )
    own = {found.program_id: found for found in attached if found.mode == XDP and found.there}
    for found in in_netns(netns, xdp_programs):
        if found.ifindex != device.ifindex:
            continue
        if found.prog_id not in own:
            raise UnsupportedError(
                f"{_ITS_OWN}: {lb.acceleration}: {device.name} has an XDP program of another owner (id {found.prog_id},"
                f" {found.mode}): a device runs one"
            )
        if found.mode != lb.acceleration:
            raise UnsupportedError(
                f"{_ITS_OWN}: {lb.acceleration}: XDP runs {found.mode} now: load with {_ITS_OWN}: disabled in between"
            )
        return  # whether what runs already loses anything is for ``ctctl status`` to say
    if lb.acceleration == NATIVE and loses_frames(netns, device.ifindex or 0):
        raise UnsupportedError(
            f"{_ITS_OWN}: {NATIVE}: {device.name} would lose every packet that XDP sends: {OTHER_END}; or use"
            f" {_ITS_OWN}: generic"
        )
