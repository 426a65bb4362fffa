"""How the tests judge checksums: as a receiver does."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP

from tests.support.checksums import same_checksum


def test_zero_has_two_forms_but_for_udp() -> None:
    for layer in (IP, TCP, ICMP):
        assert same_checksum(layer, 0, 0xFFFF)
        assert same_checksum(layer, 0xFFFF, 0)
    assert not same_checksum(UDP, 0, 0xFFFF)
    assert not same_checksum(UDP, 0xFFFF, 0)


def test_any_other_difference_is_wrong() -> None:
    for layer in (IP, TCP, UDP, ICMP):
        assert same_checksum(layer, 0x1234, 0x1234)
        assert not same_checksum(layer, 0x1234, 0x1235)
        assert not same_checksum(layer, 0, 1)
        assert not same_checksum(layer, 0xFFFE, 0xFFFF)
