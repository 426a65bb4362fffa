"""What stands against a program of ours as the XDP of the node's device, found before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable

from ctctl.config.node import NodeFile
from ctctl.errors import UnsupportedError
from ctctl.kernel.attached import xdp_programs
from ctctl.kernel.link import XDP_MODES
from ctctl.node.attach import XDP, Attachment
from ctctl.node.netns import in_netns
from ctctl.node.tunnel import DEVICE

_ITS_OWN = "lb.acceleration"


def check_acceleration(node: NodeFile, netns: str | None, attached: Iterable[Attachment]) -> None:
    """Refuse what a resolved node cannot have in XDP. ``attached``: what there is of it. Raises UnsupportedError."""
    lb, device = node.datapath.lb, node.node.device
    if lb.acceleration not in XDP_MODES:
        return
    if device is None:
        raise UnsupportedError(f"{_ITS_OWN}: {lb.acceleration}: the node file names no device for XDP to run on")
    geneve = node.datapath.routing == "tunnel" or (lb.mode != "snat" and lb.dispatch == "geneve")
    if node.datapath.tunnel == DEVICE and geneve:
        raise UnsupportedError(
            f"{_ITS_OWN}: {lb.acceleration}: XDP cannot send through a geneve device: use tunnel: bpf, or"
            " lb.dispatch: opt"
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
