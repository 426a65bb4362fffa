"""C structures and opaque handles of bpf(2) and libbpf (linux/bpf.h, bpf/bpf.h; native byte order).

The kernel fills as much of an info structure as its caller's size asks for, so a shorter
declaration than the running kernel's is fine.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from typing import ClassVar


class BpfObjectHandle(ctypes.Structure):
    """Opaque ``struct bpf_object``."""


class BpfProgramHandle(ctypes.Structure):
    """Opaque ``struct bpf_program``."""


class BpfMapHandle(ctypes.Structure):
    """Opaque ``struct bpf_map``."""


class BtfHandle(ctypes.Structure):
    """Opaque ``struct btf``."""


class RingBufferHandle(ctypes.Structure):
    """Opaque ``struct ring_buffer``."""


ObjectPtr = POINTER(BpfObjectHandle)
ProgramPtr = POINTER(BpfProgramHandle)
MapPtr = POINTER(BpfMapHandle)
BtfPtr = POINTER(BtfHandle)
RingBufferPtr = POINTER(RingBufferHandle)


class _Sized(ctypes.Structure):
    """An option structure that carries its own size first."""

    def __init__(self, **values: object) -> None:
        super().__init__(sz=ctypes.sizeof(self), **values)


class MapCreateOpts(_Sized):
    _fields_: ClassVar = [
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    ]


class MapBatchOpts(_Sized):
    _fields_: ClassVar = [("sz", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64)]


class ObjGetOpts(_Sized):
    _fields_: ClassVar = [("sz", c_size_t), ("file_flags", c_uint32), ("_pad", c_uint32)]


class ProgLoadOpts(_Sized):
    _fields_: ClassVar = [
        ("sz", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_uint32),
        ("prog_btf_fd", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_ifindex", c_uint32),
        ("kern_version", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
        ("_pad", c_uint32),
        ("fd_array", c_void_p),
        ("func_info", c_void_p),
        ("func_info_cnt", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("line_info", c_void_p),
        ("line_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_void_p),
    ]


class TestRunOpts(_Sized):
    __test__ = False
    _fields_: ClassVar = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


class SkBuff(ctypes.Structure):
    """``struct __sk_buff``, the context of tc programs."""

    _fields_: ClassVar = [
        ("len", c_uint32),
        ("pkt_type", c_uint32),
        ("mark", c_uint32),
        ("queue_mapping", c_uint32),
        ("protocol", c_uint32),
        ("vlan_present", c_uint32),
        ("vlan_tci", c_uint32),
        ("vlan_proto", c_uint32),
        ("priority", c_uint32),
        ("ingress_ifindex", c_uint32),
        ("ifindex", c_uint32),
        ("tc_index", c_uint32),
        ("cb", c_uint32 * 5),
        ("hash", c_uint32),
        ("tc_classid", c_uint32),
        ("data", c_uint32),
        ("data_end", c_uint32),
        ("napi_id", c_uint32),
        ("family", c_uint32),
        ("remote_ip4", c_uint32),
        ("local_ip4", c_uint32),
        ("remote_ip6", c_uint32 * 4),
        ("local_ip6", c_uint32 * 4),
        ("remote_port", c_uint32),
        ("local_port", c_uint32),
        ("data_meta", c_uint32),
        ("flow_keys", c_uint64),
        ("tstamp", c_uint64),
        ("wire_len", c_uint32),
        ("gso_segs", c_uint32),
        ("sk", c_uint64),
        ("gso_size", c_uint32),
        ("tstamp_type", c_uint8),
        ("_pad", c_uint8 * 3),
        ("hwtstamp", c_uint64),
    ]


class KernelMapInfo(ctypes.Structure):
    """``struct bpf_map_info``."""

    _fields_: ClassVar = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("_pad", c_uint32),
        ("map_extra", c_uint64),
    ]


class KernelProgInfo(ctypes.Structure):
    """``struct bpf_prog_info`` up to ``verified_insns``."""

    _fields_: ClassVar = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("bits", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", c_uint64),
        ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
        ("verified_insns", c_uint32),
        ("_pad", c_uint32),
    ]


class KernelBtfInfo(ctypes.Structure):
    """``struct bpf_btf_info``."""

    _fields_: ClassVar = [
        ("btf", c_uint64),
        ("btf_size", c_uint32),
        ("id", c_uint32),
        ("name", c_uint64),
        ("name_len", c_uint32),
        ("kernel_btf", c_uint32),
    ]


class KernelLinkInfo(ctypes.Structure):
    """``struct bpf_link_info``; ``ifindex`` and ``attach_type`` as TCX links fill them, ``cgroup_attach_type`` and
    the two words before it, a cgroup's id, as cgroup links do."""

    _fields_: ClassVar = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("_pad", c_uint32),
        ("ifindex", c_uint32),
        ("attach_type", c_uint32),
        ("cgroup_attach_type", c_uint32),
        ("_pad2", c_uint32),
        ("_rest", c_uint64 * 3),
    ]
