"""BPF programs: what they are, pins, and test runs with their context."""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass
from functools import cached_property

from ctctl._ffi import libbpf
from ctctl._ffi.structs import KernelProgInfo, SkBuff, TestRunOpts
from ctctl.kernel import info as _info
from ctctl.kernel.failures import kernel_error, operation
from ctctl.kernel.handle import Handle

#: What a program may add in front of or behind the packet in a test run.
_HEADROOM = 512
_CONTEXT_SIZE = ctypes.sizeof(SkBuff)
#: BPF_PROG_TYPE_XDP (enum bpf_prog_type)
_TYPE_XDP = 6
#: Bytes of a packet that a test run takes at least: the kernel puts it, with room around it, into one page.
PAGE_ROOM = 3500


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """``struct bpf_prog_info``. ``name`` is cut to 15 characters by the kernel; ``tag`` is 16 hex digits."""

    id: int
    type: int
    tag: str
    name: str
    map_ids: tuple[int, ...]
    btf_id: int
    loaded_ns: int
    verified_insns: int
    run_count: int
    run_time_ns: int


@dataclass(frozen=True, slots=True)
class TestRun:
    """The result of a test run: ``retval`` as the program returned it (unsigned), the packet, the context after it.

    ``duration_ns`` is the mean of all repeats.
    """

    __test__ = False

    retval: int
    data: bytes
    duration_ns: int
    mark: int
    cb: tuple[int, int, int, int, int]
    priority: int
    tc_classid: int


class Program(Handle):
    """One BPF program behind a descriptor."""

    KIND = "program"
    KERNEL_KIND = "prog"

    @property
    def info(self) -> ProgramInfo:
        """What the kernel says now; run figures count only with kernel.bpf_stats_enabled."""
        label = self._name or "program"
        head = _info.fetch(self.fd, KernelProgInfo, label)
        ids = (ctypes.c_uint32 * max(head.nr_map_ids, 1))()
        raw = KernelProgInfo(nr_map_ids=head.nr_map_ids, map_ids=ctypes.addressof(ids))
        with operation("query", label):
            size = ctypes.c_uint32(ctypes.sizeof(raw))
            libbpf().bpf_obj_get_info_by_fd(self.fd, ctypes.byref(raw), ctypes.byref(size))
        return ProgramInfo(
            id=raw.id,
            type=raw.type,
            tag=bytes(raw.tag).hex(),
            name=raw.name.decode(errors="replace"),
            map_ids=tuple(ids[: raw.nr_map_ids]),
            btf_id=raw.btf_id,
            loaded_ns=raw.load_time,
            verified_insns=raw.verified_insns,
            run_count=raw.run_cnt,
            run_time_ns=raw.run_time_ns,
        )

    @cached_property
    def name(self) -> str:
        """The name in its object or pin; else the kernel's, cut to 15 characters."""
        return self._name or self.info.name

    def test_run(
        self,
        data: bytes,
        *,
        repeat: int = 1,
        mark: int = 0,
        cb: tuple[int, ...] = (0, 0, 0, 0, 0),
        ifindex: int = 0,
        ingress_ifindex: int = 0,
        gso_size: int = 0,
        gso_segs: int = 0,
        data_out_size: int | None = None,
    ) -> TestRun:
        """Run a tc program on the frame ``data`` (Ethernet header first; for IPv4 at least 34 bytes).

        Repeats work on the same packet: what a program changes stays changed. ``data_out_size`` is the
        room for the resulting packet, by default 512 bytes more than went in. Raises KernelError.
        """
        run = self.prepare_test_run(
            repeat=repeat,
            mark=mark,
            cb=cb,
            ifindex=ifindex,
            ingress_ifindex=ingress_ifindex,
            gso_size=gso_size,
            gso_segs=gso_segs,
            max_frame=len(data),
            data_out_size=data_out_size,
        )
        run.run(data)
        return run.result()

    def prepare_test_run(
        self,
        *,
        repeat: int = 1,
        mark: int = 0,
        cb: tuple[int, ...] = (0, 0, 0, 0, 0),
        ifindex: int = 0,
        ingress_ifindex: int = 0,
        gso_size: int = 0,
        gso_segs: int = 0,
        max_frame: int = 2048,
        data_out_size: int | None = None,
    ) -> PreparedRun:
        """A test run whose buffers are made once, for many frames of up to ``max_frame`` bytes.

        An XDP program sees the frame alone: of the context it gets nothing.
        """
        context = SkBuff(
            mark=mark,
            cb=(ctypes.c_uint32 * 5)(*cb),
            ifindex=ifindex,
            ingress_ifindex=ingress_ifindex,
            gso_size=gso_size,
            gso_segs=gso_segs,
        )
        return PreparedRun(self, context, repeat, max_frame, data_out_size)

    def run_syscall(self, context: bytes = b"") -> tuple[int, bytes]:
        """Run a SEC("syscall") program once: its return value and the context after it. Raises KernelError."""
        buffer = ctypes.create_string_buffer(context, max(len(context), 1))
        opts = TestRunOpts()
        if context:
            opts.ctx_in = ctypes.addressof(buffer)
            opts.ctx_size_in = len(context)
        if (result := libbpf().bpf_prog_test_run_opts(self.fd, ctypes.byref(opts))) < 0:
            raise kernel_error("run program", self.name, -result)
        return opts.retval, buffer.raw[: len(context)]


class PreparedRun:
    """Test runs of one program through buffers made once: about as cheap as one system call.

    ``context`` is the ``__sk_buff`` that goes in (mark, cb, ifindex … may be set between runs), but not to an
    XDP program; what the program made of it is in ``mark_out``, ``result`` and ``data``, until the next run.
    """

    def __init__(
        self, program: Program, context: SkBuff, repeat: int, max_frame: int, data_out_size: int | None
    ) -> None:
        self.context = context
        self._context_size = 0 if program.info.type == _TYPE_XDP else _CONTEXT_SIZE
        self._program = program
        self._after = SkBuff()
        self._in = ctypes.create_string_buffer(max(max_frame, 1))
        self._max_frame = max_frame
        self._room = data_out_size if data_out_size is not None else max_frame + _HEADROOM
        self._out = ctypes.create_string_buffer(max(self._room, 1))
        self._opts = TestRunOpts(
            data_in=ctypes.addressof(self._in),
            data_out=ctypes.addressof(self._out),
            ctx_in=ctypes.addressof(context) if self._context_size else None,
            ctx_out=ctypes.addressof(self._after) if self._context_size else None,
            ctx_size_in=self._context_size,
            repeat=repeat,
        )
        self._opts_ref = ctypes.byref(self._opts)
        self._call = libbpf().bpf_prog_test_run_opts
        self._in_address = ctypes.addressof(self._in)

    def run(self, data: bytes) -> int:
        """Run on one frame; returns the program's return value. Raises KernelError, ValueError if too long."""
        size = len(data)
        if size > self._max_frame:
            raise ValueError(f"frame of {size} bytes, room for {self._max_frame}")
        opts = self._opts
        ctypes.memmove(self._in_address, data, size)
        opts.data_size_in = size
        opts.data_size_out = self._room
        opts.ctx_size_out = self._context_size
        result = self._call(self._program.fd, self._opts_ref)
        if result < 0:
            raise kernel_error("run program", self._program.name, -result, _run_hint(-result, size))
        retval: int = opts.retval
        return retval

    @property
    def data(self) -> bytes:
        """The packet after the last run."""
        return ctypes.string_at(self._out, min(self._opts.data_size_out, self._room))

    @property
    def mark_out(self) -> int:
        """skb->mark after the last run."""
        return int(self._after.mark)

    def result(self) -> TestRun:
        """The whole result of the last run."""
        after = self._after
        return TestRun(
            retval=self._opts.retval,
            data=self.data,
            duration_ns=self._opts.duration,
            mark=after.mark,
            cb=tuple(after.cb),
            priority=after.priority,
            tc_classid=after.tc_classid,
        )


def _run_hint(err: int, size: int) -> str:
    if err == errno.EINVAL and size < 34:
        return f"a frame of {size} bytes is too short: Ethernet and IP header are needed"
    if err == errno.EINVAL and size > PAGE_ROOM:
        return f"a frame of {size} bytes is too long: a test run takes about a page"
    if err == errno.ENOSPC:
        return "the resulting packet does not fit data_out_size"
    return ""
