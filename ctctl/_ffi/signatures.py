"""The one table of every libbpf function ctctl calls: name, result, arguments, error check, first version.

Names and prototypes are those of bpf/bpf.h, bpf/btf.h and bpf/libbpf.h of libbpf 1.1.
"""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from enum import Enum
from typing import Any, Final, NamedTuple

from ctctl._ffi import structs as s


class Check(Enum):
    """How a result tells failure."""

    NONE = "cannot fail"
    NEGATIVE = "negative is -errno: raise CallError"
    NULL = "NULL, errno set: raise CallError"
    CALLER = "negative is -errno: the caller looks, because failing is an everyday answer"


class Signature(NamedTuple):
    name: str
    restype: Any
    argtypes: tuple[Any, ...]
    check: Check
    since: str = "1.0"


#: ``int (*)(enum libbpf_print_level, const char *format, va_list)``. A va_list travels as a pointer on
#: x86-64, arm64 and every other ABI whose va_list is an array or a structure above 16 bytes.
PrintFn = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
#: ``int (*)(void *ctx, void *data, size_t size)``
RingBufferSampleFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)

_NEG, _NULL, _NONE, _CALLER = Check.NEGATIVE, Check.NULL, Check.NONE, Check.CALLER
_U32P = POINTER(c_uint32)
_BATCH_OPTS = POINTER(s.MapBatchOpts)
_LOOKUP_BATCH = (c_int, c_void_p, c_void_p, c_void_p, c_void_p, _U32P, _BATCH_OPTS)

SIGNATURES: Final[tuple[Signature, ...]] = (
    # library
    Signature("libbpf_major_version", c_uint32, (), _NONE),
    Signature("libbpf_minor_version", c_uint32, (), _NONE),
    Signature("libbpf_set_print", c_void_p, (PrintFn,), _NONE),
    Signature("libbpf_strerror", c_int, (c_int, c_char_p, c_size_t), _NONE),
    # maps, by descriptor
    Signature("bpf_map_create", c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, POINTER(s.MapCreateOpts)), _NEG),
    Signature("bpf_map_lookup_elem", c_int, (c_int, c_void_p, c_void_p), _CALLER),
    Signature("bpf_map_update_elem", c_int, (c_int, c_void_p, c_void_p, c_uint64), _CALLER),
    Signature("bpf_map_delete_elem", c_int, (c_int, c_void_p), _CALLER),
    Signature("bpf_map_get_next_key", c_int, (c_int, c_void_p, c_void_p), _CALLER),
    Signature("bpf_map_lookup_batch", c_int, _LOOKUP_BATCH, _CALLER),
    Signature("bpf_map_lookup_and_delete_batch", c_int, _LOOKUP_BATCH, _CALLER),
    Signature("bpf_map_update_batch", c_int, (c_int, c_void_p, c_void_p, _U32P, _BATCH_OPTS), _CALLER),
    Signature("bpf_map_delete_batch", c_int, (c_int, c_void_p, _U32P, _BATCH_OPTS), _CALLER),
    # pins, ids, info
    Signature("bpf_obj_pin", c_int, (c_int, c_char_p), _NEG),
    Signature("bpf_obj_get_opts", c_int, (c_char_p, POINTER(s.ObjGetOpts)), _NEG),
    Signature("bpf_obj_get_info_by_fd", c_int, (c_int, c_void_p, _U32P), _NEG),
    Signature("bpf_map_get_fd_by_id", c_int, (c_uint32,), _NEG),
    Signature("bpf_prog_get_fd_by_id", c_int, (c_uint32,), _NEG),
    Signature("bpf_btf_get_fd_by_id", c_int, (c_uint32,), _NEG),
    Signature("bpf_link_get_fd_by_id", c_int, (c_uint32,), _NEG),
    # programs and links, by descriptor
    Signature("bpf_prog_load", c_int, (c_int, c_char_p, c_char_p, c_void_p, c_size_t, POINTER(s.ProgLoadOpts)), _NEG),
    Signature("bpf_raw_tracepoint_open", c_int, (c_char_p, c_int), _NEG),
    Signature("bpf_prog_test_run_opts", c_int, (c_int, POINTER(s.TestRunOpts)), _CALLER),
    Signature("bpf_link_update", c_int, (c_int, c_int, c_void_p), _NEG),
    Signature("bpf_link_detach", c_int, (c_int,), _NEG),
    # objects
    Signature("bpf_object__open_file", s.ObjectPtr, (c_char_p, c_void_p), _NULL),
    Signature("bpf_object__load", c_int, (s.ObjectPtr,), _NEG),
    Signature("bpf_object__close", None, (s.ObjectPtr,), _NONE),
    Signature("bpf_object__btf", s.BtfPtr, (s.ObjectPtr,), _NONE),
    Signature("bpf_object__next_program", s.ProgramPtr, (s.ObjectPtr, s.ProgramPtr), _NONE),
    Signature("bpf_object__next_map", s.MapPtr, (s.ObjectPtr, s.MapPtr), _NONE),
    Signature("btf__raw_data", c_void_p, (s.BtfPtr, _U32P), _NULL),
    Signature("btf__load_vmlinux_btf", s.BtfPtr, (), _NULL),
    Signature("btf__find_by_name_kind", c_int, (s.BtfPtr, c_char_p, c_uint32), _CALLER),
    Signature("btf__type_by_id", c_void_p, (s.BtfPtr, c_uint32), _NULL),
    Signature("btf__name_by_offset", c_char_p, (s.BtfPtr, c_uint32), _NONE),
    Signature("btf__free", None, (s.BtfPtr,), _NONE),
    Signature("bpf_program__name", c_char_p, (s.ProgramPtr,), _NONE),
    Signature("bpf_program__fd", c_int, (s.ProgramPtr,), _NEG),
    Signature("bpf_program__set_autoload", c_int, (s.ProgramPtr, c_bool), _NEG),
    Signature("bpf_program__set_attach_target", c_int, (s.ProgramPtr, c_int, c_char_p), _NEG),
    Signature("bpf_map__name", c_char_p, (s.MapPtr,), _NONE),
    Signature("bpf_map__fd", c_int, (s.MapPtr,), _NEG),
    Signature("bpf_map__is_internal", c_bool, (s.MapPtr,), _NONE),
    Signature("bpf_map__type", c_int, (s.MapPtr,), _NONE),
    Signature("bpf_map__key_size", c_uint32, (s.MapPtr,), _NONE),
    Signature("bpf_map__value_size", c_uint32, (s.MapPtr,), _NONE),
    Signature("bpf_map__max_entries", c_uint32, (s.MapPtr,), _NONE),
    Signature("bpf_map__set_max_entries", c_int, (s.MapPtr, c_uint32), _NEG),
    Signature("bpf_map__set_inner_map_fd", c_int, (s.MapPtr, c_int), _NEG),
    Signature("bpf_map__reuse_fd", c_int, (s.MapPtr, c_int), _NEG),
    Signature("bpf_map__initial_value", c_void_p, (s.MapPtr, POINTER(c_size_t)), _NONE),
    # ring buffer
    Signature("ring_buffer__new", s.RingBufferPtr, (c_int, RingBufferSampleFn, c_void_p, c_void_p), _NULL),
    Signature("ring_buffer__free", None, (s.RingBufferPtr,), _NONE),
    Signature("ring_buffer__poll", c_int, (s.RingBufferPtr, c_int), _CALLER),
    Signature("ring_buffer__consume", c_int, (s.RingBufferPtr,), _CALLER),
    Signature("ring_buffer__epoll_fd", c_int, (s.RingBufferPtr,), _NEG),
)
