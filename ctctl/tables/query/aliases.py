"""Other spellings of the fields that filters and outputs have."""

from __future__ import annotations

#: Other spellings: what Hubble, the Cilium CLI or a packet header calls the field.
ALIASES = {
    "protocol": "proto",
    "dir": "direction",
    "sport": "src_port",
    "from_port": "src_port",
    "dport": "dst_port",
    "to_port": "dst_port",
    "from_ip": "src",
    "source": "src",
    "destination": "dst",
    "src_ip": "src",
    "to_ip": "dst",
    "dst_ip": "dst",
    "addr": "ip",
    "address": "ip",
    "backend": "backend_id",
    "revnat": "rev_nat",
    "rev_nat_index": "rev_nat",
    "identity": "src_sec_id",
    "expires": "lifetime",
}
#: What SNAT entries print beside them: the end that a packet is translated to.
NAT_ALIASES = {"to": "nat_addr", "to_addr": "nat_addr"}
#: A word that means two things there: of SNAT entries ``to_port`` is printed of the translated end, and is typed of the
#: packet's destination.
NAT_UNCLEAR = {"to_port": ("dst_port", "nat_port")}
