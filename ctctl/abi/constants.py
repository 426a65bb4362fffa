"""Numbers of bpf/include/ctctl/abi.h, without ctypes: layouts.py takes long to import.

Generated from its BTF by tools/gen_abi.py (make abi): do not edit. Sizes and offsets are bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

TUPLE_OUT: Final = 0
TUPLE_IN: Final = 1
TUPLE_RELATED: Final = 2
TUPLE_SERVICE: Final = 4

SCAN_BUCKETS: Final = 40
SCAN_INSNS: Final = 64
SCAN_ACCEPT: Final = 254
SCAN_REJECT: Final = 255

#: struct ipv4_ct_tuple
IPV4_CT_TUPLE_SIZE: Final = 14
IPV4_CT_TUPLE_DADDR: Final = 0
IPV4_CT_TUPLE_SADDR: Final = 4
IPV4_CT_TUPLE_DPORT: Final = 8
IPV4_CT_TUPLE_SPORT: Final = 10
IPV4_CT_TUPLE_NEXTHDR: Final = 12
IPV4_CT_TUPLE_FLAGS: Final = 13

#: struct ipv6_ct_tuple
IPV6_CT_TUPLE_SIZE: Final = 38
IPV6_CT_TUPLE_DADDR: Final = 0
IPV6_CT_TUPLE_SADDR: Final = 16
IPV6_CT_TUPLE_DPORT: Final = 32
IPV6_CT_TUPLE_SPORT: Final = 34
IPV6_CT_TUPLE_NEXTHDR: Final = 36
IPV6_CT_TUPLE_FLAGS: Final = 37

#: struct ct_entry
CT_ENTRY_SIZE: Final = 56
CT_ENTRY_RESERVED0: Final = 0
CT_ENTRY_BACKEND_ID: Final = 8
CT_ENTRY_PACKETS: Final = 16
CT_ENTRY_BYTES: Final = 24
CT_ENTRY_LIFETIME: Final = 32
CT_ENTRY_FLAGS: Final = 36
CT_ENTRY_REV_NAT_INDEX: Final = 38
CT_ENTRY_IFINDEX: Final = 40
CT_ENTRY_TX_FLAGS_SEEN: Final = 42
CT_ENTRY_RX_FLAGS_SEEN: Final = 43
CT_ENTRY_SRC_SEC_ID: Final = 44
CT_ENTRY_LAST_TX_REPORT: Final = 48
CT_ENTRY_LAST_RX_REPORT: Final = 52

#: struct ipv4_nat_entry
IPV4_NAT_ENTRY_SIZE: Final = 40
IPV4_NAT_ENTRY_CREATED: Final = 0
IPV4_NAT_ENTRY_NEEDS_CT: Final = 8
IPV4_NAT_ENTRY_TO_SADDR: Final = 32
IPV4_NAT_ENTRY_TO_SPORT: Final = 36

#: struct ipv6_nat_entry
IPV6_NAT_ENTRY_SIZE: Final = 56
IPV6_NAT_ENTRY_CREATED: Final = 0
IPV6_NAT_ENTRY_NEEDS_CT: Final = 8
IPV6_NAT_ENTRY_TO_SADDR: Final = 32
IPV6_NAT_ENTRY_TO_SPORT: Final = 48

#: struct ctscan_found
CTSCAN_FOUND_SIZE: Final = 96
CTSCAN_FOUND_KEY: Final = 0
CTSCAN_FOUND_VALUE: Final = 40


class Slot(IntEnum):
    """One number of an entry, in host order: what filters compare."""

    PROTO = 0
    TUPLE_FLAGS = 1
    SRC_HI = 2
    SRC = 3
    DST_HI = 4
    DST = 5
    SRC_PORT = 6
    DST_PORT = 7
    LIFETIME = 8
    FLAGS = 9
    REV_NAT = 10
    IFINDEX = 11
    TX_FLAGS_SEEN = 12
    RX_FLAGS_SEEN = 13
    SRC_SEC_ID = 14
    LAST_TX_REPORT = 15
    LAST_RX_REPORT = 16
    WORD0 = 17
    WORD8 = 18
    WORD16 = 19
    WORD24 = 20
