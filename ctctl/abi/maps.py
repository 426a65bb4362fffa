"""Key and value layout of every table, by pinned name (docs/reference/abi.md). A plain number is a size in bytes."""

from __future__ import annotations

from typing import Final, TypeAlias

from ctctl.abi import layouts, pins
from ctctl.abi.base import AbiStruct

Shape: TypeAlias = "type[AbiStruct] | int"

MAPS: Final[dict[str, tuple[Shape, Shape]]] = {
    pins.CT4_TCP: (layouts.ipv4_ct_tuple, layouts.ct_entry),
    pins.CT4_ANY: (layouts.ipv4_ct_tuple, layouts.ct_entry),
    pins.CT6_TCP: (layouts.ipv6_ct_tuple, layouts.ct_entry),
    pins.CT6_ANY: (layouts.ipv6_ct_tuple, layouts.ct_entry),
    pins.SNAT4: (layouts.ipv4_ct_tuple, layouts.ipv4_nat_entry),
    pins.SNAT6: (layouts.ipv6_ct_tuple, layouts.ipv6_nat_entry),
    pins.LB6_SERVICES: (layouts.lb6_key, layouts.lb4_service),
    pins.LB6_BACKENDS: (4, layouts.lb6_backend),
    pins.LB6_REVERSE_NAT: (2, layouts.lb6_reverse_nat),
    pins.LB6_MAGLEV: (2, 4),
    pins.LB6_AFFINITY: (layouts.lb6_affinity_key, layouts.lb_affinity_val),
    pins.LB6_SOURCE_RANGE: (layouts.lb6_src_range_key, 1),
    pins.TRACE_FOLLOW6: (layouts.ipv6_ct_tuple, 1),
    pins.TUNNEL_IN: (4, layouts.ctctl_tunnel_in),
    pins.LB4_SERVICES: (layouts.lb4_key, layouts.lb4_service),
    pins.LB4_BACKENDS: (4, layouts.lb4_backend),
    pins.LB4_REVERSE_NAT: (2, layouts.lb4_reverse_nat),
    pins.LB4_MAGLEV: (2, 4),
    pins.LB4_AFFINITY: (layouts.lb4_affinity_key, layouts.lb_affinity_val),
    pins.LB_AFFINITY_MATCH: (layouts.lb_affinity_match, 1),
    pins.LB4_SOURCE_RANGE: (layouts.lb4_src_range_key, 1),
    pins.LB4_SOCKETS: (layouts.lb4_reverse_sk_key, layouts.lb4_reverse_sk),
    pins.LB6_SOCKETS: (layouts.lb6_reverse_sk_key, layouts.lb6_reverse_sk),
    pins.ENDPOINTS: (layouts.endpoint_key, layouts.endpoint_info),
    pins.IPCACHE: (layouts.ipcache_key, layouts.remote_endpoint_info),
    pins.FRAGMENTS: (layouts.ipv4_frag_id, layouts.ipv4_frag_l4ports),
    pins.POLICY: (layouts.ctctl_policy_key, layouts.ctctl_policy_entry),
    pins.TRACE_CTL: (4, layouts.ctctl_trace_ctl),
    pins.TRACE_FOLLOW: (layouts.ipv4_ct_tuple, 1),
    pins.SIM: (4, layouts.ctctl_sim),
    pins.METRICS: (4, layouts.ctctl_counter),
    pins.STATS: (4, 8),
    pins.XDP_NEXT: (4, 4),
}
