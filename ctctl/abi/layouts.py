"""Layouts of bpf/include/ctctl/abi.h.

Generated from its BTF by tools/gen_abi.py (make abi): do not edit.
"""

from __future__ import annotations

from ctypes import Array
from enum import IntEnum, IntFlag
from typing import Any, ClassVar

from ctctl.abi.base import AbiStruct, be16, be32, s16, s32, u8, u16, u32, u64


class CtctlTupleFlags(IntFlag):
    """``enum ctctl_tuple_flags``"""

    TUPLE_OUT = 0x0
    TUPLE_IN = 0x1
    TUPLE_RELATED = 0x2
    TUPLE_SERVICE = 0x4


class CtctlCtFlags(IntFlag):
    """``enum ctctl_ct_flags``"""

    CT_RX_CLOSING = 0x1
    CT_TX_CLOSING = 0x2
    CT_NAT64 = 0x4
    CT_LB_LOOPBACK = 0x8
    CT_SEEN_NON_SYN = 0x10
    CT_NODE_PORT = 0x20
    CT_PROXY_REDIRECT = 0x40
    CT_DSR_INTERNAL = 0x80
    CT_FROM_L7LB = 0x100
    CT_RESERVED9 = 0x200
    CT_FROM_TUNNEL = 0x400


class CtctlSvcFlags(IntFlag):
    """``enum ctctl_svc_flags``"""

    SVC_EXTERNAL_IP = 0x1
    SVC_NODE_PORT = 0x2
    SVC_EXT_LOCAL_SCOPE = 0x4
    SVC_HOST_PORT = 0x8
    SVC_AFFINITY = 0x10
    SVC_LOAD_BALANCER = 0x20
    SVC_ROUTABLE = 0x40
    SVC_SOURCE_RANGE = 0x80


class CtctlSvcFlags2(IntFlag):
    """``enum ctctl_svc_flags2``"""

    SVC2_LOCAL_REDIRECT = 0x1
    SVC2_NAT46X64 = 0x2
    SVC2_L7_LOAD_BALANCER = 0x4
    SVC2_LOOPBACK = 0x8
    SVC2_INT_LOCAL_SCOPE = 0x10
    SVC2_TWO_SCOPES = 0x20


class CtctlBackendState(IntEnum):
    """``enum ctctl_backend_state``"""

    BACKEND_ACTIVE = 0
    BACKEND_TERMINATING = 1
    BACKEND_QUARANTINED = 2
    BACKEND_MAINTENANCE = 3


class CtctlIdentity(IntEnum):
    """``enum ctctl_identity``"""

    IDENTITY_UNKNOWN = 0
    IDENTITY_HOST = 1
    IDENTITY_WORLD = 2
    IDENTITY_UNMANAGED = 3
    IDENTITY_HEALTH = 4
    IDENTITY_INIT = 5
    IDENTITY_REMOTE_NODE = 6
    IDENTITY_KUBE_APISERVER = 7
    IDENTITY_INGRESS = 8
    IDENTITY_WORLD_IPV4 = 9
    IDENTITY_WORLD_IPV6 = 10


class CtctlHook(IntEnum):
    """``enum ctctl_hook``"""

    HOOK_NONE = 0
    HOOK_FROM_CONTAINER = 1
    HOOK_TO_CONTAINER = 2
    HOOK_FROM_NETDEV = 3
    HOOK_TO_NETDEV = 4
    HOOK_FROM_OVERLAY = 5
    HOOK_TO_OVERLAY = 6
    HOOK_CONNECT = 7
    HOOK_SENDMSG = 8
    HOOK_RECVMSG = 9
    HOOK_GETPEERNAME = 10
    HOOK_POST_BIND = 11
    HOOK_XDP_NETDEV = 12
    HOOK_MAX = 13


class CtctlReason(IntEnum):
    """``enum ctctl_reason``"""

    REASON_OK = 0
    REASON_INVALID = 1
    REASON_INVALID_SIP = 2
    REASON_CT_INVALID_HDR = 3
    REASON_CT_UNKNOWN_PROTO = 4
    REASON_CT_CREATE_FAILED = 5
    REASON_CSUM_L3 = 6
    REASON_CSUM_L4 = 7
    REASON_UNKNOWN_L3 = 8
    REASON_FRAG_NOT_FOUND = 9
    REASON_POLICY = 10
    REASON_NO_SERVICE = 11
    REASON_IS_CLUSTER_IP = 12
    REASON_NOT_IN_SRC_RANGE = 13
    REASON_NO_TUNNEL_ENDPOINT = 14
    REASON_NO_TUNNEL_KEY = 15
    REASON_ENCAP_PROHIBITED = 16
    REASON_TTL_EXCEEDED = 17
    REASON_INVALID_IDENTITY = 18
    REASON_UNKNOWN_CT = 19
    REASON_WRITE_ERROR = 20
    REASON_UNSUPPORTED_L2 = 21
    REASON_FRAG_NOSUPPORT = 22
    REASON_NAT_NO_MAPPING = 23
    REASON_NAT_UNSUPP_PROTO = 24
    REASON_UNKNOWN_ICMP_CODE = 25
    REASON_UNKNOWN_L4 = 26
    REASON_INVALID_EXTHDR = 27
    REASON_UNKNOWN_TARGET = 28
    REASON_ADDRESS_IN_USE = 29
    REASON_MAX = 30


class CtctlVerdict(IntEnum):
    """``enum ctctl_verdict``"""

    VERDICT_PASS = 0
    VERDICT_REDIRECT = 1
    VERDICT_DROP = 2


class CtctlLookupKind(IntEnum):
    """``enum ctctl_lookup_kind``"""

    LOOKUP_NONE = 0
    LOOKUP_SERVICE = 1
    LOOKUP_CT = 2
    LOOKUP_NODE_PORT = 3
    LOOKUP_DSR = 4
    LOOKUP_REV_DNAT = 5
    LOOKUP_SNAT = 6
    LOOKUP_SOCKET = 7


class CtctlCtDir(IntEnum):
    """``enum ctctl_ct_dir``"""

    CT_DIR_EGRESS = 0
    CT_DIR_INGRESS = 1
    CT_DIR_SERVICE = 2


class CtctlCtResult(IntEnum):
    """``enum ctctl_ct_result``"""

    CT_RESULT_NEW = 0
    CT_RESULT_ESTABLISHED = 1
    CT_RESULT_REPLY = 2
    CT_RESULT_RELATED = 3


class CtctlWhy(IntFlag):
    """``enum ctctl_why``"""

    WHY_HIT = 0x1
    WHY_CREATED = 0x2
    WHY_RELATED_CREATED = 0x4
    WHY_WRONG_TYPE = 0x8
    WHY_GRACE_OVER = 0x10
    WHY_REOPENED = 0x20
    WHY_HALF_CLOSED = 0x40
    WHY_CLOSED = 0x80
    WHY_DEAD = 0x100
    WHY_LONG_LIFETIME = 0x200
    WHY_REV_NAT_CHANGED = 0x400
    WHY_BACKEND_AFFINITY = 0x800
    WHY_BACKEND_MAGLEV = 0x1000
    WHY_BACKEND_RANDOM = 0x2000
    WHY_BACKEND_KEPT = 0x4000
    WHY_BACKEND_GONE = 0x8000
    WHY_BACKEND_INACTIVE = 0x10000
    WHY_NO_BACKEND = 0x20000
    WHY_POLICY_ALLOWED = 0x40000
    WHY_POLICY_DENIED = 0x80000
    WHY_POLICY_SKIPPED = 0x100000
    WHY_CREATE_FAILED = 0x200000
    WHY_SNAT_CREATED = 0x400000
    WHY_DSR_OPTION = 0x800000
    WHY_SNAT_KEPT = 0x1000000
    WHY_SNAT_STALE = 0x2000000
    WHY_SNAT_PORT_TAKEN = 0x4000000
    WHY_SNAT_EXHAUSTED = 0x8000000
    WHY_BACKEND_COOKIE = 0x10000000
    WHY_SOCKET_WRITTEN = 0x20000000
    WHY_SOCKET_STALE = 0x40000000


class CtctlStat(IntEnum):
    """``enum ctctl_stat``"""

    STAT_EVENTS_LOST = 0
    STAT_CT_CREATE_FAILED = 1
    STAT_CT_CREATE_ERRNO = 2
    STAT_SNAT_EXHAUSTED = 3
    STAT_MAX = 4


class CtctlGcStatus(IntEnum):
    """``enum ctctl_gc_status``"""

    GC_UNTOUCHED = 0
    GC_DELETED = 1
    GC_REFRESHED = 2
    GC_GONE = 3
    GC_FOUND = 4
    GC_STAYED = 5


class CtctlWriterPhase(IntEnum):
    """``enum ctctl_writer_phase``"""

    WRITER_PAIRS = 1
    WRITER_DELETE = 2
    WRITER_DELETE_NAT = 3
    WRITER_DELETE_ORPHANS = 4


class CtctlWriterStatus(IntEnum):
    """``enum ctctl_writer_status``"""

    WRITER_UNTOUCHED = 0
    WRITER_DELETED = 1
    WRITER_CHANGED = 2
    WRITER_GONE = 3
    WRITER_STAYED = 4


class CtctlWriterPair(IntFlag):
    """``enum ctctl_writer_pair``"""

    PAIR_FORWARD = 0x1
    PAIR_REVERSE = 0x2
    PAIR_FORWARD_DELETED = 0x4
    PAIR_REVERSE_DELETED = 0x8
    PAIR_FORWARD_STAYED = 0x10
    PAIR_REVERSE_STAYED = 0x20


class CtctlSlot(IntEnum):
    """``enum ctctl_slot``"""

    SLOT_PROTO = 0
    SLOT_TUPLE_FLAGS = 1
    SLOT_SRC_HI = 2
    SLOT_SRC = 3
    SLOT_DST_HI = 4
    SLOT_DST = 5
    SLOT_SRC_PORT = 6
    SLOT_DST_PORT = 7
    SLOT_LIFETIME = 8
    SLOT_FLAGS = 9
    SLOT_REV_NAT = 10
    SLOT_IFINDEX = 11
    SLOT_TX_FLAGS_SEEN = 12
    SLOT_RX_FLAGS_SEEN = 13
    SLOT_SRC_SEC_ID = 14
    SLOT_LAST_TX_REPORT = 15
    SLOT_LAST_RX_REPORT = 16
    SLOT_WORD0 = 17
    SLOT_WORD8 = 18
    SLOT_WORD16 = 19
    SLOT_WORD24 = 20


class CtctlScan(IntEnum):
    """``enum ctctl_scan``"""

    SCAN_BUCKETS = 40
    SCAN_INSNS = 64
    SCAN_ACCEPT = 254
    SCAN_REJECT = 255


class CtctlProbeKind(IntEnum):
    """``enum ctctl_probe_kind``"""

    PROBE_PACKET = 1
    PROBE_RETURN = 2
    PROBE_FREED = 3


class CtctlProbeEntry(IntEnum):
    """``enum ctctl_probe_entry``"""

    PROBE_ENTRY_SERVICE = 0
    PROBE_ENTRY_FORWARD_OUT = 1
    PROBE_ENTRY_FORWARD_IN = 2
    PROBE_ENTRY_REPLY_OUT = 3
    PROBE_ENTRY_REPLY_IN = 4


class CtctlProbeTunnel(IntEnum):
    """``enum ctctl_probe_tunnel``"""

    PROBE_NO_TUNNEL = 0
    PROBE_VXLAN = 1
    PROBE_GENEVE = 2


class ipv4_ct_tuple(AbiStruct):  # noqa: N801
    """``struct ipv4_ct_tuple``, 14 bytes."""

    daddr: int
    saddr: int
    dport: int
    sport: int
    nexthdr: int
    flags: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("daddr", be32),
        ("saddr", be32),
        ("dport", be16),
        ("sport", be16),
        ("nexthdr", u8),
        ("flags", u8),
    ]


class ipv6_ct_tuple(AbiStruct):  # noqa: N801
    """``struct ipv6_ct_tuple``, 38 bytes."""

    daddr: Array[Any]
    saddr: Array[Any]
    dport: int
    sport: int
    nexthdr: int
    flags: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("daddr", u8 * 16),
        ("saddr", u8 * 16),
        ("dport", be16),
        ("sport", be16),
        ("nexthdr", u8),
        ("flags", u8),
    ]


class ct_entry(AbiStruct):  # noqa: N801
    """``struct ct_entry``, 56 bytes."""

    reserved0: int
    backend_id: int
    packets: int
    bytes: int
    lifetime: int
    flags: int
    rev_nat_index: int
    ifindex: int
    tx_flags_seen: int
    rx_flags_seen: int
    src_sec_id: int
    last_tx_report: int
    last_rx_report: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("reserved0", u64),
        ("backend_id", u64),
        ("packets", u64),
        ("bytes", u64),
        ("lifetime", u32),
        ("flags", u16),
        ("rev_nat_index", be16),
        ("ifindex", u16),
        ("tx_flags_seen", u8),
        ("rx_flags_seen", u8),
        ("src_sec_id", u32),
        ("last_tx_report", u32),
        ("last_rx_report", u32),
    ]


class ipv4_nat_entry(AbiStruct):  # noqa: N801
    """``struct ipv4_nat_entry``, 40 bytes."""

    created: int
    needs_ct: int
    pad1: int
    pad2: int
    to_saddr: int
    to_sport: int
    pad3: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("created", u64),
        ("needs_ct", u64),
        ("pad1", u64),
        ("pad2", u64),
        ("to_saddr", be32),
        ("to_sport", be16),
        ("pad3", u16),
    ]


class lb4_key(AbiStruct):  # noqa: N801
    """``struct lb4_key``, 12 bytes."""

    address: int
    dport: int
    backend_slot: int
    proto: int
    scope: int
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", be32),
        ("dport", be16),
        ("backend_slot", u16),
        ("proto", u8),
        ("scope", u8),
        ("pad", u8 * 2),
    ]


class lb4_service(AbiStruct):  # noqa: N801
    """``struct lb4_service``, 12 bytes."""

    backend_id: int
    count: int
    rev_nat_index: int
    flags: int
    flags2: int
    qcount: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("backend_id", u32),
        ("count", u16),
        ("rev_nat_index", be16),
        ("flags", u8),
        ("flags2", u8),
        ("qcount", u16),
    ]


class lb4_backend(AbiStruct):  # noqa: N801
    """``struct lb4_backend``, 12 bytes."""

    address: int
    port: int
    proto: int
    flags: int
    cluster_id: int
    zone: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", be32),
        ("port", be16),
        ("proto", u8),
        ("flags", u8),
        ("cluster_id", u16),
        ("zone", u8),
        ("pad", u8),
    ]


class lb6_key(AbiStruct):  # noqa: N801
    """``struct lb6_key``, 24 bytes."""

    address: Array[Any]
    dport: int
    backend_slot: int
    proto: int
    scope: int
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", u8 * 16),
        ("dport", be16),
        ("backend_slot", u16),
        ("proto", u8),
        ("scope", u8),
        ("pad", u8 * 2),
    ]


class lb6_backend(AbiStruct):  # noqa: N801
    """``struct lb6_backend``, 24 bytes."""

    address: Array[Any]
    port: int
    proto: int
    flags: int
    cluster_id: int
    zone: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", u8 * 16),
        ("port", be16),
        ("proto", u8),
        ("flags", u8),
        ("cluster_id", u16),
        ("zone", u8),
        ("pad", u8),
    ]


class lb6_reverse_nat(AbiStruct):  # noqa: N801
    """``struct lb6_reverse_nat``, 18 bytes."""

    address: Array[Any]
    port: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", u8 * 16),
        ("port", be16),
    ]


class lb6_affinity_key(AbiStruct):  # noqa: N801
    """``struct lb6_affinity_key``, 24 bytes."""

    client_id: Array[Any]
    rev_nat_id: int
    netns_cookie: int
    pad1: int
    pad2: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("client_id", u8 * 16),
        ("rev_nat_id", be16),
        ("netns_cookie", u8),
        ("pad1", u8),
        ("pad2", u32),
    ]


class lb6_src_range_key(AbiStruct):  # noqa: N801
    """``struct lb6_src_range_key``, 24 bytes."""

    prefixlen: int
    rev_nat_id: int
    pad: int
    addr: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("prefixlen", u32),
        ("rev_nat_id", u16),
        ("pad", u16),
        ("addr", u8 * 16),
    ]


class lb4_reverse_nat(AbiStruct):  # noqa: N801
    """``struct lb4_reverse_nat``, 6 bytes."""

    address: int
    port: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", be32),
        ("port", be16),
    ]


class lb4_affinity_key(AbiStruct):  # noqa: N801
    """``struct lb4_affinity_key``, 16 bytes."""

    client_id: int
    rev_nat_id: int
    netns_cookie: int
    pad1: int
    pad2: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("client_id", u64),
        ("rev_nat_id", be16),
        ("netns_cookie", u8),
        ("pad1", u8),
        ("pad2", u32),
    ]


class lb_affinity_val(AbiStruct):  # noqa: N801
    """``struct lb_affinity_val``, 16 bytes."""

    last_used: int
    backend_id: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("last_used", u64),
        ("backend_id", u32),
        ("pad", u32),
    ]


class lb_affinity_match(AbiStruct):  # noqa: N801
    """``struct lb_affinity_match``, 8 bytes."""

    backend_id: int
    rev_nat_id: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("backend_id", u32),
        ("rev_nat_id", be16),
        ("pad", u16),
    ]


class lb4_src_range_key(AbiStruct):  # noqa: N801
    """``struct lb4_src_range_key``, 12 bytes."""

    prefixlen: int
    rev_nat_id: int
    pad: int
    addr: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("prefixlen", u32),
        ("rev_nat_id", u16),
        ("pad", u16),
        ("addr", be32),
    ]


class lb4_reverse_sk_key(AbiStruct):  # noqa: N801
    """``struct lb4_reverse_sk_key``, 16 bytes."""

    cookie: int
    address: int
    port: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("cookie", u64),
        ("address", be32),
        ("port", be16),
        ("pad", u16),
    ]


class lb4_reverse_sk(AbiStruct):  # noqa: N801
    """``struct lb4_reverse_sk``, 8 bytes."""

    address: int
    port: int
    rev_nat_index: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", be32),
        ("port", be16),
        ("rev_nat_index", be16),
    ]


class lb6_reverse_sk_key(AbiStruct):  # noqa: N801
    """``struct lb6_reverse_sk_key``, 32 bytes."""

    cookie: int
    address: Array[Any]
    port: int
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("cookie", u64),
        ("address", u8 * 16),
        ("port", be16),
        ("pad", u16 * 3),
    ]


class lb6_reverse_sk(AbiStruct):  # noqa: N801
    """``struct lb6_reverse_sk``, 20 bytes."""

    address: Array[Any]
    port: int
    rev_nat_index: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("address", u8 * 16),
        ("port", be16),
        ("rev_nat_index", be16),
    ]


class endpoint_key(AbiStruct):  # noqa: N801
    """``struct endpoint_key``, 20 bytes."""

    addr: Array[Any]
    family: int
    key: int
    cluster_id: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("addr", u8 * 16),
        ("family", u8),
        ("key", u8),
        ("cluster_id", u16),
    ]


class endpoint_info(AbiStruct):  # noqa: N801
    """``struct endpoint_info``, 48 bytes."""

    ifindex: int
    unused: int
    lxc_id: int
    flags: int
    pad1: int
    mac: Array[Any]
    node_mac: Array[Any]
    sec_id: int
    pad2: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("ifindex", u32),
        ("unused", u16),
        ("lxc_id", u16),
        ("flags", u32),
        ("pad1", u32),
        ("mac", u8 * 8),
        ("node_mac", u8 * 8),
        ("sec_id", u32),
        ("pad2", u32 * 3),
    ]


class ipcache_key(AbiStruct):  # noqa: N801
    """``struct ipcache_key``, 24 bytes."""

    prefixlen: int
    cluster_id: int
    pad1: int
    family: int
    addr: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("prefixlen", u32),
        ("cluster_id", u16),
        ("pad1", u8),
        ("family", u8),
        ("addr", u8 * 16),
    ]


class remote_endpoint_info(AbiStruct):  # noqa: N801
    """``struct remote_endpoint_info``, 12 bytes."""

    sec_identity: int
    tunnel_endpoint: int
    pad: int
    key: int
    flags: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("sec_identity", u32),
        ("tunnel_endpoint", be32),
        ("pad", u16),
        ("key", u8),
        ("flags", u8),
    ]


class ipv4_frag_id(AbiStruct):  # noqa: N801
    """``struct ipv4_frag_id``, 12 bytes."""

    daddr: int
    saddr: int
    id: int
    proto: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("daddr", be32),
        ("saddr", be32),
        ("id", be16),
        ("proto", u8),
        ("pad", u8),
    ]


class ipv4_frag_l4ports(AbiStruct):  # noqa: N801
    """``struct ipv4_frag_l4ports``, 4 bytes."""

    sport: int
    dport: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("sport", be16),
        ("dport", be16),
    ]


class ctctl_policy_key(AbiStruct):  # noqa: N801
    """``struct ctctl_policy_key``, 12 bytes."""

    endpoint_id: int
    identity: int
    dport: int
    proto: int
    egress: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("endpoint_id", u32),
        ("identity", u32),
        ("dport", be16),
        ("proto", u8),
        ("egress", u8),
    ]


class ctctl_policy_entry(AbiStruct):  # noqa: N801
    """``struct ctctl_policy_entry``, 4 bytes."""

    deny: int
    others: int
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("deny", u8),
        ("others", u8),
        ("pad", u8 * 2),
    ]


class ctctl_lookup(AbiStruct):  # noqa: N801
    """``struct ctctl_lookup``, 160 bytes."""

    tuple: ipv6_ct_tuple
    kind: int
    dir: int
    result: int
    any_map: int
    err: int
    why: int
    before: ct_entry
    after: ct_entry

    _pack_ = 1
    _fields_: ClassVar = [
        ("tuple", ipv6_ct_tuple),
        ("kind", u8),
        ("dir", u8),
        ("result", u8),
        ("any_map", u8),
        ("err", s16),
        ("why", u32),
        ("before", ct_entry),
        ("after", ct_entry),
    ]


class ctctl_event(AbiStruct):  # noqa: N801
    """``struct ctctl_event``, 640 bytes."""

    time_ns: int
    now_s: int
    ifindex: int
    mark_in: int
    mark_out: int
    src_identity: int
    dst_identity: int
    packet_len: int
    redirect_ifindex: int
    tunnel_remote: int
    tunnel_vni: int
    dsr_vip: Array[Any]
    dsr_port: int
    endpoint_id: int
    backend_id: int
    rev_nat_index: int
    hook: int
    verdict: int
    reason: int
    tcp_flags: int
    icmp_type: int
    icmp_code: int
    fragment: int
    nr_lookups: int
    family: int
    pad: int
    out: ipv6_ct_tuple
    lookup: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("time_ns", u64),
        ("now_s", u32),
        ("ifindex", u32),
        ("mark_in", u32),
        ("mark_out", u32),
        ("src_identity", u32),
        ("dst_identity", u32),
        ("packet_len", u32),
        ("redirect_ifindex", u32),
        ("tunnel_remote", be32),
        ("tunnel_vni", u32),
        ("dsr_vip", u8 * 16),
        ("dsr_port", be16),
        ("endpoint_id", u16),
        ("backend_id", u32),
        ("rev_nat_index", be16),
        ("hook", u8),
        ("verdict", u8),
        ("reason", u8),
        ("tcp_flags", u8),
        ("icmp_type", u8),
        ("icmp_code", u8),
        ("fragment", u8),
        ("nr_lookups", u8),
        ("family", u8),
        ("pad", u8),
        ("in", ipv6_ct_tuple),
        ("out", ipv6_ct_tuple),
        ("lookup", ctctl_lookup * 3),
    ]


class ctctl_trace_ctl(AbiStruct):  # noqa: N801
    """``struct ctctl_trace_ctl``, 88 bytes."""

    until_ns: int
    addr: Array[Any]
    mask: Array[Any]
    filter: int
    port: Array[Any]
    proto: int
    family: int
    near: int
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("until_ns", u64),
        ("addr", u8 * 16 * 2),
        ("mask", u8 * 16 * 2),
        ("filter", u32),
        ("port", be16 * 2),
        ("proto", u8),
        ("family", u8),
        ("near", u8),
        ("pad", u8 * 5),
    ]


class ctctl_sim(AbiStruct):  # noqa: N801
    """``struct ctctl_sim``, 64 bytes."""

    now_ns: int
    random: int
    has_tunnel_key: int
    tunnel_vni: int
    tunnel_remote: int
    option_len: int
    option: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("now_ns", u64),
        ("random", u32),
        ("has_tunnel_key", u32),
        ("tunnel_vni", u32),
        ("tunnel_remote", be32),
        ("option_len", u32),
        ("option", u8 * 36),
    ]


class ctctl_tunnel_in(AbiStruct):  # noqa: N801
    """``struct ctctl_tunnel_in``, 40 bytes."""

    remote: int
    vni: int
    option_len: int
    option: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("remote", be32),
        ("vni", u32),
        ("option_len", u32),
        ("option", u8 * 28),
    ]


class ctctl_counter(AbiStruct):  # noqa: N801
    """``struct ctctl_counter``, 16 bytes."""

    packets: int
    bytes: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("packets", u64),
        ("bytes", u64),
    ]


class ipv6_nat_entry(AbiStruct):  # noqa: N801
    """``struct ipv6_nat_entry``, 56 bytes."""

    created: int
    needs_ct: int
    pad1: int
    pad2: int
    to_saddr: Array[Any]
    to_sport: int
    pad3: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("created", u64),
        ("needs_ct", u64),
        ("pad1", u64),
        ("pad2", u64),
        ("to_saddr", u8 * 16),
        ("to_sport", be16),
        ("pad3", u16 * 3),
    ]


class ctctl_gc_ctl(AbiStruct):  # noqa: N801
    """``struct ctctl_gc_ctl``, 49216 bytes."""

    now: int
    stop: int
    skip: int
    budget: int
    nr_slots: int
    nr_refused: int
    passed: int
    nr_deleted: int
    nr_found: int
    nr_nat_deleted: int
    alive: Array[Any]
    deleted: Array[Any]
    skipped: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("now", u32),
        ("stop", u32),
        ("skip", u64),
        ("budget", u64),
        ("nr_slots", u32),
        ("nr_refused", u32),
        ("passed", u64),
        ("nr_deleted", u64),
        ("nr_found", u64),
        ("nr_nat_deleted", u64),
        ("alive", u64 * 2048),
        ("deleted", u64 * 2048),
        ("skipped", u64 * 2048),
    ]


class ctctl_gc_slot4(AbiStruct):  # noqa: N801
    """``struct ctctl_gc_slot4``, 16 bytes."""

    key: ipv4_ct_tuple
    status: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", ipv4_ct_tuple),
        ("status", u8),
        ("pad", u8),
    ]


class ctctl_gc_slot6(AbiStruct):  # noqa: N801
    """``struct ctctl_gc_slot6``, 40 bytes."""

    key: ipv6_ct_tuple
    status: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", ipv6_ct_tuple),
        ("status", u8),
        ("pad", u8),
    ]


class ctctl_gc_log4(AbiStruct):  # noqa: N801
    """``struct ctctl_gc_log4``, 72 bytes."""

    key: ipv4_ct_tuple
    pad: Array[Any]
    entry: ct_entry

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", ipv4_ct_tuple),
        ("pad", u8 * 2),
        ("entry", ct_entry),
    ]


class ctctl_gc_log6(AbiStruct):  # noqa: N801
    """``struct ctctl_gc_log6``, 96 bytes."""

    key: ipv6_ct_tuple
    pad: Array[Any]
    entry: ct_entry

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", ipv6_ct_tuple),
        ("pad", u8 * 2),
        ("entry", ct_entry),
    ]


class ctctl_writer_ctl(AbiStruct):  # noqa: N801
    """``struct ctctl_writer_ctl``, 24 bytes."""

    phase: int
    nr_slots: int
    ktime_ns: int
    jiffies: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("phase", u32),
        ("nr_slots", u32),
        ("ktime_ns", u64),
        ("jiffies", u64),
    ]


class ctctl_writer_slot4(AbiStruct):  # noqa: N801
    """``struct ctctl_writer_slot4``, 184 bytes."""

    key: ipv4_ct_tuple
    status: int
    pair: int
    entry: ct_entry
    forward: ipv4_nat_entry
    reverse: ipv4_nat_entry
    forward_key: ipv4_ct_tuple
    reverse_key: ipv4_ct_tuple
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", ipv4_ct_tuple),
        ("status", u8),
        ("pair", u8),
        ("entry", ct_entry),
        ("forward", ipv4_nat_entry),
        ("reverse", ipv4_nat_entry),
        ("forward_key", ipv4_ct_tuple),
        ("reverse_key", ipv4_ct_tuple),
        ("pad", u8 * 4),
    ]


class ctctl_writer_slot6(AbiStruct):  # noqa: N801
    """``struct ctctl_writer_slot6``, 288 bytes."""

    key: ipv6_ct_tuple
    status: int
    pair: int
    entry: ct_entry
    forward: ipv6_nat_entry
    reverse: ipv6_nat_entry
    forward_key: ipv6_ct_tuple
    reverse_key: ipv6_ct_tuple
    pad: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", ipv6_ct_tuple),
        ("status", u8),
        ("pair", u8),
        ("entry", ct_entry),
        ("forward", ipv6_nat_entry),
        ("reverse", ipv6_nat_entry),
        ("forward_key", ipv6_ct_tuple),
        ("reverse_key", ipv6_ct_tuple),
        ("pad", u8 * 4),
    ]


class ctscan_insn(AbiStruct):  # noqa: N801
    """``struct ctscan_insn``, 32 bytes."""

    slot: int
    yes: int
    no: int
    pad: Array[Any]
    mask: int
    low: int
    high: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("slot", u8),
        ("yes", u8),
        ("no", u8),
        ("pad", u8 * 5),
        ("mask", u64),
        ("low", u64),
        ("high", u64),
    ]


class ctscan_found(AbiStruct):  # noqa: N801
    """``struct ctscan_found``, 96 bytes."""

    key: Array[Any]
    value: ct_entry

    _pack_ = 1
    _fields_: ClassVar = [
        ("key", u8 * 40),
        ("value", ct_entry),
    ]


class ctscan_state(AbiStruct):  # noqa: N801
    """``struct ctscan_state``, 16 bytes."""

    visited: int
    matched: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("visited", u64),
        ("matched", u64),
    ]


class ctscan_stats(AbiStruct):  # noqa: N801
    """``struct ctscan_stats``, 7496 bytes."""

    entries: int
    proto: Array[Any]
    kind: Array[Any]
    flags: Array[Any]
    remaining: Array[Any]
    overdue: Array[Any]
    idle: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("entries", u64),
        ("proto", u64 * 256),
        ("kind", u64 * 2 * 4 * 2 * 3),
        ("flags", u64 * 256 * 2),
        ("remaining", u64 * 40),
        ("overdue", u64 * 40),
        ("idle", u64 * 40),
    ]


class ctctl_probe_ctl(AbiStruct):  # noqa: N801
    """``struct ctctl_probe_ctl``, 72 bytes."""

    addr: Array[Any]
    mask: Array[Any]
    port: Array[Any]
    filter: int
    proto: int
    family: int
    following: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("addr", u8 * 16 * 2),
        ("mask", u8 * 16 * 2),
        ("port", be16 * 2),
        ("filter", u8),
        ("proto", u8),
        ("family", u8),
        ("following", u8),
    ]


class ctctl_probe_current(AbiStruct):  # noqa: N801
    """``struct ctctl_probe_current``, 16 bytes."""

    skb: int
    sign: int
    pad: int

    _pack_ = 1
    _fields_: ClassVar = [
        ("skb", u64),
        ("sign", u32),
        ("pad", u32),
    ]


class ctctl_probe_event(AbiStruct):  # noqa: N801
    """``struct ctctl_probe_event``, 512 bytes."""

    time_ns: int
    location: int
    netns: int
    ifindex: int
    mark: int
    packet_len: int
    prog_id: int
    code: int
    outer_saddr: int
    outer_daddr: int
    vni: int
    tuple: ipv6_ct_tuple
    kind: int
    egress: int
    found: int
    tcp_flags: int
    icmp_type: int
    icmp_code: int
    fragment: int
    head_len: int
    same_packet: int
    family: int
    tunnel: int
    pad: int
    cpu: int
    entry: Array[Any]
    head: Array[Any]

    _pack_ = 1
    _fields_: ClassVar = [
        ("time_ns", u64),
        ("location", u64),
        ("netns", u32),
        ("ifindex", u32),
        ("mark", u32),
        ("packet_len", u32),
        ("prog_id", u32),
        ("code", s32),
        ("outer_saddr", be32),
        ("outer_daddr", be32),
        ("vni", u32),
        ("tuple", ipv6_ct_tuple),
        ("kind", u8),
        ("egress", u8),
        ("found", u8),
        ("tcp_flags", u8),
        ("icmp_type", u8),
        ("icmp_code", u8),
        ("fragment", u8),
        ("head_len", u8),
        ("same_packet", u8),
        ("family", u8),
        ("tunnel", u8),
        ("pad", u8),
        ("cpu", u16),
        ("entry", ct_entry * 5),
        ("head", u8 * 128),
    ]


#: Every struct of abi.h by its C name.
STRUCTS: dict[str, type[AbiStruct]] = {
    "ipv4_ct_tuple": ipv4_ct_tuple,
    "ipv6_ct_tuple": ipv6_ct_tuple,
    "ct_entry": ct_entry,
    "ipv4_nat_entry": ipv4_nat_entry,
    "lb4_key": lb4_key,
    "lb4_service": lb4_service,
    "lb4_backend": lb4_backend,
    "lb6_key": lb6_key,
    "lb6_backend": lb6_backend,
    "lb6_reverse_nat": lb6_reverse_nat,
    "lb6_affinity_key": lb6_affinity_key,
    "lb6_src_range_key": lb6_src_range_key,
    "lb4_reverse_nat": lb4_reverse_nat,
    "lb4_affinity_key": lb4_affinity_key,
    "lb_affinity_val": lb_affinity_val,
    "lb_affinity_match": lb_affinity_match,
    "lb4_src_range_key": lb4_src_range_key,
    "lb4_reverse_sk_key": lb4_reverse_sk_key,
    "lb4_reverse_sk": lb4_reverse_sk,
    "lb6_reverse_sk_key": lb6_reverse_sk_key,
    "lb6_reverse_sk": lb6_reverse_sk,
    "endpoint_key": endpoint_key,
    "endpoint_info": endpoint_info,
    "ipcache_key": ipcache_key,
    "remote_endpoint_info": remote_endpoint_info,
    "ipv4_frag_id": ipv4_frag_id,
    "ipv4_frag_l4ports": ipv4_frag_l4ports,
    "ctctl_policy_key": ctctl_policy_key,
    "ctctl_policy_entry": ctctl_policy_entry,
    "ctctl_lookup": ctctl_lookup,
    "ctctl_event": ctctl_event,
    "ctctl_trace_ctl": ctctl_trace_ctl,
    "ctctl_sim": ctctl_sim,
    "ctctl_tunnel_in": ctctl_tunnel_in,
    "ctctl_counter": ctctl_counter,
    "ipv6_nat_entry": ipv6_nat_entry,
    "ctctl_gc_ctl": ctctl_gc_ctl,
    "ctctl_gc_slot4": ctctl_gc_slot4,
    "ctctl_gc_slot6": ctctl_gc_slot6,
    "ctctl_gc_log4": ctctl_gc_log4,
    "ctctl_gc_log6": ctctl_gc_log6,
    "ctctl_writer_ctl": ctctl_writer_ctl,
    "ctctl_writer_slot4": ctctl_writer_slot4,
    "ctctl_writer_slot6": ctctl_writer_slot6,
    "ctscan_insn": ctscan_insn,
    "ctscan_found": ctscan_found,
    "ctscan_state": ctscan_state,
    "ctscan_stats": ctscan_stats,
    "ctctl_probe_ctl": ctctl_probe_ctl,
    "ctctl_probe_current": ctctl_probe_current,
    "ctctl_probe_event": ctctl_probe_event,
}
