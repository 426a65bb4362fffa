"""``-o cilium`` of a whole batch: the lines of ``cilium_line``, from columns."""

from __future__ import annotations

from ctctl._ffi.rows import OpFlags
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_RELATED, TUPLE_SERVICE, direction_of
from ctctl.model.entry import Layout
from ctctl.out.rowtext import RowProgram
from ctctl.tables.show.cilium import cilium_flags, cilium_protocol
from ctctl.tables.show.encode import Style
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.show.shared_texts import shared_texts


def cilium_program(form: EntryForm) -> RowProgram:
    """The Cilium CLI's lines; rows of protocol 0 have none."""
    old = form.table.layout is Layout.V1_14  # which reads the tuple of a SERVICE entry like any other's
    program = RowProgram() if old else form.program()
    with program.where(form.fields["proto"], 0xFF, 0, other=True):
        _add_start(form, program, old=old)
        _add_rest(form, program)
    return program


def _add_start(form: EntryForm, program: RowProgram, *, old: bool) -> None:
    layout, fields = form.table.layout, form.fields

    def head(number: int) -> bytes:
        shown = number & 255 & ~TUPLE_SERVICE if old else number & 255
        return f"{cilium_protocol(number >> 8, layout)} {direction_of(shown).value} ".encode()

    def after(number: int) -> bytes:
        service = " service" if old and number & TUPLE_SERVICE else ""
        return f"{' related' if number & TUPLE_RELATED else ''}{service} expires=".encode()

    program.text(fields["key_end"], shared_texts(f"cilium head {layout} {old}", Style.TEXT, 1 << 16, head))
    for side, end in (("src", b" -> "), ("dst", b"")):
        program.address(fields[side], OpFlags.MAPPED).literal(b":")
        program.decimal(fields[f"{side}_port"]).literal(end)
    program.text(fields["tuple_flags"], form.coded("cilium after", Style.TEXT, 256, after))
    program.decimal(fields["lifetime"])
    if form.time_diff and form.table.now is not None:
        program.literal(b" (remaining: ").signed(form.remaining(program)).literal(b" sec(s))")


def _add_rest(form: EntryForm, program: RowProgram) -> None:
    layout, fields = form.table.layout, form.fields

    def add(label: bytes, name: str) -> None:
        program.literal(label).decimal(fields[name])

    def seen(side: str, label: bytes) -> None:
        program.literal(b" " + label + b"FlagsSeen=0x").hexadecimal(fields[f"{side}_flags_seen"], 2)
        add(b" Last" + label + b"Report=", f"last_{side}_report")

    if layout.split_counters:
        add(b" RxPackets=", "word0")
        add(b" RxBytes=", "word8")
        seen("rx", b"Rx")
        add(b" TxPackets=", "word16")
        add(b" TxBytes=", "word24")
    else:
        add(b" Packets=", "word16")
        add(b" Bytes=", "word24")
        seen("rx", b"Rx")
    seen("tx", b"Tx")
    flags = shared_texts("cilium flags", Style.TEXT, 1 << 16, lambda n: cilium_flags(n).encode())
    program.literal(b" ").text(fields["flags"], flags)
    add(b" RevNAT=", "rev_nat")
    add(b" SourceSecurityID=", "src_sec_id")
    if "ifindex" not in LAYOUT_LACKS[layout]:
        add(b" IfIndex=", "ifindex")
    if not layout.split_counters:
        add(b" BackendID=", "word8")
    if layout.has_nat:
        program.literal(b" NatPort=").decimal(fields["nat_port"])
    program.literal(b" \n")
