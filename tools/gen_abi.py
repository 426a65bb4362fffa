"""Generate ctctl/abi/layouts.py and constants.py from the BTF of bpf/include/ctctl/abi.h.

The header is compiled into an object of its own that uses each of its structs and enums, so the
layouts do not depend on what the datapath happens to use. ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import keyword
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "bpf" / "include" / "ctctl" / "abi.h"
OUTPUT = ROOT / "ctctl" / "abi" / "layouts.py"
CONSTANTS = ROOT / "ctctl" / "abi" / "constants.py"

sys.path.insert(0, str(ROOT))

from ctctl.btf import Btf, BtfType, Kind, read_object  # noqa: E402

PREAMBLE = '''"""Layouts of bpf/include/ctctl/abi.h.

Generated from its BTF by tools/gen_abi.py (make abi): do not edit.
"""

from __future__ import annotations

from ctypes import Array
from enum import IntEnum, IntFlag
from typing import Any, ClassVar

from ctctl.abi.base import {imports}
'''

CONSTANTS_PREAMBLE = '''"""Numbers of bpf/include/ctctl/abi.h, without ctypes: layouts.py takes long to import.

Generated from its BTF by tools/gen_abi.py (make abi): do not edit. Sizes and offsets are bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final
'''

#: Enums whose values stand in constants.py as plain numbers, as a class without their prefix, and structs
#: whose size and offsets do.
PLAIN_ENUMS = ("ctctl_tuple_flags", "ctctl_scan")
CLASS_ENUMS = {"ctctl_slot": ("Slot", "SLOT_", "One number of an entry, in host order: what filters compare.")}
OFFSETS = ("ipv4_ct_tuple", "ipv6_ct_tuple", "ct_entry", "ipv4_nat_entry", "ipv6_nat_entry", "ctscan_found")

#: Byte order and width, by the typedef that the header uses.
BIG_ENDIAN = {"__be16": "be16", "__be32": "be32", "__be64": "be64"}


def declared(header: Path = HEADER) -> tuple[list[str], list[str]]:
    """Names of the structs and enums the header defines, in its order."""
    text = header.read_text(encoding="utf-8")
    return re.findall(r"^struct (\w+) \{", text, re.M), re.findall(r"^enum (\w+) \{", text, re.M)


def compile_probe(directory: Path, clang: str) -> Path:
    """Compile an object whose BTF has every struct and enum of the header."""
    structs, enums = declared()
    source, target = directory / "abi_probe.c", directory / "abi_probe.o"
    uses = [f"struct {name} use_{name};" for name in structs] + [f"enum {name} use_{name};" for name in enums]
    source.write_text("#include <ctctl/abi.h>\n" + "\n".join(uses) + "\n", encoding="utf-8")
    multiarch = (
        subprocess.run(["gcc", "-print-multiarch"], check=False, capture_output=True, text=True).stdout.strip()
        or f"{os.uname().machine}-linux-gnu"
    )
    subprocess.run(
        [clang, "-target", "bpf", "-g", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{HEADER.parent.parent}",
         f"-I/usr/include/{multiarch}", "-c", str(source), "-o", str(target)],
        check=True,
    )  # fmt: skip
    return target


class Generator:
    """Writes one module from one BTF."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.used: set[str] = {"AbiStruct"}

    def module(self) -> str:
        structs, enums = declared()
        enum_blocks = [self.enum(name) for name in enums]
        struct_blocks = [self.struct(name) for name in structs]
        listing = "".join(f'    "{name}": {name},\n' for name in structs)
        tail = f"#: Every struct of abi.h by its C name.\nSTRUCTS: dict[str, type[AbiStruct]] = {{\n{listing}}}\n"
        body = "\n\n".join([*enum_blocks, *struct_blocks, tail])
        preamble = PREAMBLE.format(imports=", ".join(sorted(self.used, key=natural)))
        return f"{preamble}\n\n{body}"

    def constants(self) -> str:
        """The module of plain numbers."""
        blocks = []
        for name in PLAIN_ENUMS:
            values = self.values(name)
            blocks.append("".join(f"{value}: Final = {number}\n" for value, number in values.items()))
        for name in OFFSETS:
            entry = self.btf.find(name, Kind.STRUCT)
            if entry is None:
                raise SystemExit(f"gen_abi: struct {name} is not in the BTF")
            fields = {"size": entry.size} | {m.name: m.bit_offset // 8 for m in entry.members if "pad" not in m.name}
            lines = [f"{name.upper()}_{field.upper()}: Final = {number}\n" for field, number in fields.items()]
            blocks.append(f"#: struct {name}\n" + "".join(lines))
        for name, (title, prefix, doc) in CLASS_ENUMS.items():
            values = self.values(name)
            members = "".join(f"    {value.removeprefix(prefix)} = {number}\n" for value, number in values.items())
            blocks.append(f'\nclass {title}(IntEnum):\n    """{doc}"""\n\n{members}')
        return CONSTANTS_PREAMBLE + "\n" + "\n".join(blocks)

    def values(self, name: str) -> dict[str, int]:
        """The enumerators of an enum."""
        entry = self.btf.find(name, Kind.ENUM, Kind.ENUM64)
        if entry is None:
            raise SystemExit(f"gen_abi: enum {name} is not in the BTF")
        return {value.name: value.value for value in entry.values}

    def enum(self, name: str) -> str:
        entry = self.btf.find(name, Kind.ENUM, Kind.ENUM64)
        if entry is None:
            raise SystemExit(f"gen_abi: enum {name} is not in the BTF")
        values = [value.value for value in entry.values]
        # Powers of two beyond 2: a set of bits. {0, 1, 2} alone is as likely an ordinary numbering.
        bits = all(value & (value - 1) == 0 for value in values) and max(values) >= 4
        lines = [f"class {camel(name)}({'IntFlag' if bits else 'IntEnum'}):", f'    """``enum {name}``"""', ""]
        lines += [f"    {value.name} = {f'0x{value.value:x}' if bits else value.value}" for value in entry.values]
        return "\n".join(lines) + "\n"

    def struct(self, name: str) -> str:
        entry = self.btf.find(name, Kind.STRUCT)
        if entry is None:
            raise SystemExit(f"gen_abi: struct {name} is not in the BTF")
        self.reject_holes(entry)
        fields = [(member, *self.field(member.type_id, f"{name}.{member.name}")) for member in entry.members]
        lines = [f"class {name}(AbiStruct):  # noqa: N801", f'    """``struct {name}``, {entry.size} bytes."""', ""]
        # A member named like a keyword cannot be annotated: it is reached by getattr.
        lines += [f"    {member.name}: {note}" for member, _type, note in fields if not keyword.iskeyword(member.name)]
        lines += ["", "    _pack_ = 1", "    _fields_: ClassVar = ["]
        lines += [f'        ("{member.name}", {ctype}),' for member, ctype, _annotation in fields]
        return "\n".join([*lines, "    ]"]) + "\n"

    def reject_holes(self, entry: BtfType) -> None:
        """abi.h pads explicitly and has no bit fields, so packed declarations have its offsets."""
        at = 0
        for member in entry.members:
            if member.bit_size or member.bit_offset != at * 8:
                raise SystemExit(f"gen_abi: {entry.name}.{member.name}: bit field or implicit padding")
            at += self.btf.size_of(member.type_id)
        if at != entry.size:
            raise SystemExit(f"gen_abi: {entry.name}: implicit padding at its end")

    def field(self, type_id: int, where: str) -> tuple[str, str]:
        """(ctypes expression, annotation) of a member's type."""
        for typedef in self.btf.typedef_names(type_id):
            if typedef in BIG_ENDIAN:
                self.used.add(BIG_ENDIAN[typedef])
                return BIG_ENDIAN[typedef], "int"
        entry = self.btf.resolve(type_id)
        match entry.kind:
            case Kind.INT:
                ctype = f"{'s' if entry.signed else 'u'}{entry.size * 8}"
                self.used.add(ctype)
                return ctype, "int"
            case Kind.STRUCT:
                return entry.name, entry.name
            case Kind.ARRAY:
                ctype, _annotation = self.field(entry.type_id, where)
                return f"{ctype} * {entry.count}", "Array[Any]"
        raise SystemExit(f"gen_abi: {where}: a {entry.kind.name.lower()} has no fixed layout")


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def natural(name: str) -> list[tuple[bool, str | int]]:
    """Sort key that puts u8 ahead of u16, classes ahead of variables: as ruff orders imports."""
    return [
        (not name[0].isupper(), 0),
        *((part.isdigit(), int(part) if part.isdigit() else part) for part in re.findall(r"\d+|\D+", name)),
    ]


def generate(clang: str) -> dict[Path, str]:
    """The modules' texts. Raises CalledProcessError if the header does not compile."""
    with tempfile.TemporaryDirectory() as directory:
        btf = read_object(compile_probe(Path(directory), clang))
    return {OUTPUT: Generator(btf).module(), CONSTANTS: Generator(btf).constants()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is stale")
    parser.add_argument("--clang", default=os.environ.get("CLANG", "clang-19"))
    arguments = parser.parse_args()
    stale = {
        path: text
        for path, text in generate(arguments.clang).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    if stale and arguments.check:
        print(f"{', '.join(str(path.relative_to(ROOT)) for path in stale)}: stale, run make abi", file=sys.stderr)
        return 1
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
