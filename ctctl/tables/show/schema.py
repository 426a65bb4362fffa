"""JSON of what tables hold: conntrack entries, SNAT entries, backends."""

from __future__ import annotations

from ctctl.model.entry import CtFlags, CtState
from ctctl.out.schema_words import (
    ADDRESS,
    BOOL,
    COUNT,
    HEX,
    INT,
    PORT,
    STRING,
    Schema,
    array,
    maybe,
    record,
    words,
)

DIRECTION = words("OUT", "IN", "SVC")
_STATE = words(*(state.value for state in CtState))
_FLAG_NAMES: Schema = array(words(*(str(flag.name) for flag in CtFlags if flag is not CtFlags.Reserved9)))
TUPLE = {
    "proto": {"type": "integer", "minimum": 0, "maximum": 255},
    "proto_name": maybe(STRING),
    "src": ADDRESS,
    "src_port": PORT,
    "dst": ADDRESS,
    "dst_port": PORT,
}
_COUNTERS = ("backend_id", "packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "ifindex")

#: An entry of ``ct list`` and of every other command that shows entries.
ENTRY = record(
    {
        "map": maybe(STRING),
        **TUPLE,
        "direction": DIRECTION,
        "related": BOOL,
        "state": _STATE,
        "lifetime": COUNT,
        "flags": {"type": "integer", "minimum": 0, "maximum": 65535},
        "flag_names": _FLAG_NAMES,
        "other_bits": COUNT,
        "rev_nat": PORT,
        "tx_flags_seen": COUNT,
        "rx_flags_seen": COUNT,
        "src_sec_id": COUNT,
        "last_tx_report": COUNT,
        "last_rx_report": COUNT,
        "tuple_flags": COUNT,
    },
    {
        **{name: maybe(COUNT) for name in _COUNTERS},
        "nat_addr": maybe(ADDRESS),
        "nat_port": maybe(PORT),
        "remaining": INT,
        "expired": BOOL,
        "node": STRING,
        "src_name": STRING,
        "dst_name": STRING,
        "backend": STRING,
        "src_identity": STRING,
        "key_hex": maybe(HEX),
        "value_hex": maybe(HEX),
        "mark": words("new", "closing", "gone", ""),
    },
)
NAT = record(
    {
        "map": maybe(STRING),
        **TUPLE,
        "direction": DIRECTION,
        "related": BOOL,
        "xlate": words("SRC", "DST"),
        "to_addr": ADDRESS,
        "to_port": PORT,
        "created": maybe(COUNT),
        "age": maybe(INT),
        "needs_ct": maybe(COUNT),
        "key_hex": maybe(HEX),
    }
)
BACKEND = record(
    {
        "backend_id": COUNT,
        "addr": ADDRESS,
        "port": maybe(PORT),
        "proto": maybe(COUNT),
        "state": maybe(STRING),
        "cluster_id": maybe(COUNT),
        "zone": maybe(COUNT),
    }
)
