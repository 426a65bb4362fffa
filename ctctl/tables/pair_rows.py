"""``tables.pairs`` for whole tables: row programs that write the key that belongs to a row's."""

from __future__ import annotations

from ctctl._ffi.rows import Field
from ctctl.abi.constants import TUPLE_OUT
from ctctl.decode.columns import fields_of
from ctctl.decode.nat_rows import nat_fields
from ctctl.out.rowtext import RowProgram

_END = bytes([TUPLE_OUT])


def key_itself(family: int) -> RowProgram:
    """The key of any row."""
    return RowProgram().copy(fields_of(family)["key"])


def out_key(family: int) -> RowProgram:
    """The key of a conntrack OUT entry; nothing of others."""
    fields, program = fields_of(family), RowProgram()
    with program.where(fields["tuple_flags"], 0xFF, TUPLE_OUT):
        program.copy(fields["key"])
    return program


def dsr_nat_key(family: int) -> RowProgram:
    """``pairs.nat_key`` of a DSRInternal entry."""
    fields, half, program = fields_of(family), 4 if family == 4 else 16, RowProgram()
    for field in (Field(0, 0, 2 * half), fields["sport"], fields["dport"], fields["proto"]):
        program.copy(field)
    return program.literal(_END)


def keeper(family: int, *, dsr: bool) -> RowProgram:
    """The conntrack OUT key that keeps an SNAT entry (``pairs.ct_keys``), of a reply's that of its other half."""
    nat, program = nat_fields(family), RowProgram()
    for reply, (local, local_port, remote, remote_port) in (
        (False, ("src", "src_port", "dst", "dst_port")),
        (True, ("to_addr", "to_port", "src", "src_port")),
    ):
        names = (remote, local, local_port, remote_port) if dsr else (local, remote, remote_port, local_port)
        with program.where(nat["tuple_flags"], 0xFF, TUPLE_OUT, other=reply):
            for name in (*names, "proto"):
                program.copy(nat[name])
            program.literal(_END)
    return program
