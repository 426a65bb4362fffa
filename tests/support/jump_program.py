"""What the kernel does with a filter's jump program, in Python: the reference that tests compare it with."""

from __future__ import annotations

from collections.abc import Callable

from ctctl.tables.query.predicate import ACCEPT, INSTRUCTION, REJECT


def run_program(program: bytes, slot: Callable[[int], int]) -> bool:
    """What the kernel does with a program, in Python: the reference the tests compare it with."""
    at = 0
    while at not in (ACCEPT, REJECT):
        number, yes, no, mask, low, high = INSTRUCTION.unpack_from(program, at * INSTRUCTION.size)
        at = yes if low <= slot(number) & mask <= high else no
    return at == ACCEPT
