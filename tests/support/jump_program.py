"""What the kernel does with a filter's jump program, in Python: the reference that tests compare it with."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ctctl.tables.query.predicate import ACCEPT, REJECT

#: slot, where to go on true and on false, mask, least and greatest value (bpf/ctscan.bpf.c)
_INSTRUCTION = struct.Struct("=BBB5xQQQ")


def run_program(program: bytes, slot: Callable[[int], int]) -> bool:
    """What the kernel does with a program, in Python: the reference the tests compare it with."""
    at = 0
    while at not in (ACCEPT, REJECT):
        number, yes, no, mask, low, high = _INSTRUCTION.unpack_from(program, at * _INSTRUCTION.size)
        at = yes if low <= slot(number) & mask <= high else no
    return at == ACCEPT
