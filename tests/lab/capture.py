"""What is on a member's wire, read past every program: frames for scapy to take apart."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ctctl.kernel.netns import run_in_netns
from ctctl.lab.topology import Topology
from tests.support.checksums import same_checksum
from tests.support.wait import PATIENCE_S

ETH_P_ALL = 3


@contextmanager
def capture(topology: Topology, member: str) -> Iterator[list[bytes]]:
    """Every frame on ``member``'s eth0, both ways."""

    def open_socket() -> socket.socket:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tap.bind(("eth0", 0))
        return tap

    frames: list[bytes] = []
    done = threading.Event()

    def read(tap: socket.socket) -> None:
        tap.settimeout(0.05)
        while True:
            try:
                frames.append(tap.recv(65536))
            except TimeoutError:
                if done.is_set():
                    return

    with run_in_netns(topology.netns(member), open_socket) as tap:
        reader = threading.Thread(target=read, args=(tap,))
        reader.start()
        try:
            yield frames
        finally:
            done.set()
            reader.join(PATIENCE_S)


def packets(frames: list[bytes]) -> list[Any]:
    """The frames as scapy reads them."""
    from scapy.contrib.geneve import GENEVE  # noqa: F401 - makes scapy know the protocol
    from scapy.layers.l2 import Ether

    return [Ether(frame) for frame in frames]


def wrong_checksums(found: list[Any]) -> list[str]:
    """TCP, UDP and ICMP packets whose checksums are not what scapy makes of them, as a receiver judges.

    A device that is to fill a checksum in gets the pseudo header's: a capture on its way out shows that one, so
    only what was received is told apart by it.
    """
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.l2 import Ether

    wrong = []
    for packet in found:
        again = packet.copy()
        for layer in (IP, TCP, UDP, ICMP):
            if layer in again:
                del again[layer].chksum
        again = Ether(bytes(again))
        wrong += [
            f"{layer.__name__} {packet.summary()}"
            for layer in (IP, ICMP)
            if layer in packet and not same_checksum(layer, packet[layer].chksum, again[layer].chksum)
        ]
    return wrong
