"""What programs take of the stack on the oldest kernel that ctctl promises, found without booting it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ctctl.btf import sections

OBJECTS = Path(__file__).resolve().parents[2] / "ctctl" / "bpf"
#: MAX_BPF_STACK: of a program and everything that is called at once. A frame counts as so many bytes at least, and in
#: such steps (check_max_stack_depth in Linux 6.1's verifier; later ones count in steps of 16).
LIMIT, STEP = 512, 32
#: st_info's type, r_info's type, and of an instruction: class, how it is made, register
_FUNC, _CALL_RELOCATION = 2, 10
_LOADS_AND_STORES = frozenset({1, 2, 3})
_CALL, _MOVE, _ADD, _OF_OURS, _FRAME = 0x85, 0xBF, 0x07, 1, 10


@dataclass
class Function:
    name: str
    frame: int = 0
    calls: set[tuple[int, int]] = field(default_factory=set)


#: by section's number and first instruction
Functions = dict[tuple[int, int], Function]


def functions(image: bytes) -> tuple[Functions, list[str]]:
    """Every function of an object, and its sections' names."""
    found = list(sections(image))
    names, contents = [name for name, _ in found], [content for _, content in found]
    strings = contents[names.index(".strtab")]
    symbols = list(struct.iter_unpack("<IBBHQQ", contents[names.index(".symtab")]))
    made: Functions = {}
    for name, info, _, section, value, size in symbols:
        if info & 0xF != _FUNC:
            continue
        function = Function(strings[name : strings.index(b"\0", name)].decode())
        relocated = relocations(dict(found).get(f".rel{names[section]}", b""), symbols)
        read(function, section, value // 8, contents[section][value : value + size], relocated)
        made[section, value // 8] = function
    return made, names


def relocations(table: bytes, symbols: list[tuple[int, ...]]) -> dict[int, tuple[int, int]]:
    """Of calls: where the symbol that is called lies, by instruction."""
    entries = struct.iter_unpack("<QQ", table)
    of_calls = ((at // 8, symbols[info >> 32]) for at, info in entries if info & 0xFFFFFFFF == _CALL_RELOCATION)
    return {at: (symbol[3], symbol[4] // 8) for at, symbol in of_calls}


def read(function: Function, section: int, start: int, code: bytes, relocated: dict[int, tuple[int, int]]) -> None:
    """What the function's instructions take of its frame, and what they call."""
    copies: set[int] = set()
    for at, (op, registers, offset, imm) in enumerate(struct.iter_unpack("<BBhi", code), start):
        to, by = registers & 0xF, registers >> 4
        if op & 7 in _LOADS_AND_STORES and (by if op & 7 == 1 else to) == _FRAME:
            function.frame = max(function.frame, -offset)
        if op == _CALL and by == _OF_OURS:
            section_of, base = relocated.get(at, (section, at))
            # Relative to the instruction behind the call, or to the symbol's section.
            function.calls.add((section_of, base + imm + 1))
        if op == _MOVE and by == _FRAME:
            copies.add(to)
        elif op == _ADD and to in copies and imm < 0:
            function.frame = max(function.frame, -imm)
            copies.discard(to)
        elif op & 7 in {1, 7} and to in copies:
            copies.discard(to)


def deepest(all_of_them: Functions, at: tuple[int, int]) -> tuple[int, tuple[str, ...]]:
    """The most of the stack that a function and what it calls take at once, and by which calls."""
    function = all_of_them[at]
    below = max((deepest(all_of_them, other) for other in function.calls), default=(0, ()))
    return -(-max(function.frame, 1) // STEP) * STEP + below[0], (function.name, *below[1])


def programs() -> Iterator[tuple[str, str]]:
    for path in sorted(OBJECTS.glob("*.bpf.o")):
        made, names = functions(path.read_bytes())
        yield from ((path.name, function.name) for (section, _), function in made.items() if names[section] != ".text")


@pytest.mark.parametrize(("name", "program"), list(programs()))
def test_stack_by_the_oldest_kernels_count(name: str, program: str) -> None:
    made, _ = functions((OBJECTS / name).read_bytes())
    (at,) = (at for at, function in made.items() if function.name == program)
    taken, calls = deepest(made, at)
    assert taken <= LIMIT, f"{taken} bytes by {' > '.join(calls)}"


def test_frames_and_calls_are_found() -> None:
    """What the count stands on: a program with calls of ours has frames in it."""
    made, _ = functions((OBJECTS / "netdev6.bpf.o").read_bytes())
    at = next(at for at, function in made.items() if function.name == "from_netdev_v6")
    assert made[at].frame > 0
    assert {made[other].name for other in made[at].calls} >= {"ipv6_l4", "event_emit"}
