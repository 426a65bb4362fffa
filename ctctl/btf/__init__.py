"""BTF: type information of objects, maps and the kernel, read from bytes into plain records."""

from __future__ import annotations

from ctctl.btf.elf import btf_section, sections
from ctctl.btf.reader import Btf, load_kernel_btf, read_object
from ctctl.btf.types import BtfType, EnumValue, Kind, Member

__all__ = ["Btf", "BtfType", "EnumValue", "Kind", "Member", "btf_section", "load_kernel_btf", "read_object", "sections"]
