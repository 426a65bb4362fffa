"""Key and value layout of every table, by pinned name (spec/abi.md). A plain number type is its size in bytes."""

from __future__ import annotations

from typing import Final, TypeAlias

from ctctl.abi import layouts
from ctctl.abi.base import AbiStruct

Shape: TypeAlias = "type[AbiStruct] | int"

MAPS: Final[dict[str, tuple[Shape, Shape]]] = {
    "cilium_ct4_global": (layouts.ipv4_ct_tuple, layouts.ct_entry),
    "cilium_ct_any4_global": (layouts.ipv4_ct_tuple, layouts.ct_entry),
    "cilium_ct6_global": (layouts.ipv6_ct_tuple, layouts.ct_entry),
    "cilium_ct_any6_global": (layouts.ipv6_ct_tuple, layouts.ct_entry),
    "cilium_snat_v4_external": (layouts.ipv4_ct_tuple, layouts.ipv4_nat_entry),
    "cilium_lb4_services_v2": (layouts.lb4_key, layouts.lb4_service),
    "cilium_lb4_backends_v3": (4, layouts.lb4_backend),
    "cilium_lb4_reverse_nat": (2, layouts.lb4_reverse_nat),
    "cilium_lb4_maglev": (2, 4),
    "cilium_lb4_affinity": (layouts.lb4_affinity_key, layouts.lb_affinity_val),
    "cilium_lb_affinity_match": (layouts.lb_affinity_match, 1),
    "cilium_lb4_source_range": (layouts.lb4_src_range_key, 1),
    "cilium_lxc": (layouts.endpoint_key, layouts.endpoint_info),
    "cilium_ipcache": (layouts.ipcache_key, layouts.remote_endpoint_info),
    "cilium_ipv4_frag_datagrams": (layouts.ipv4_frag_id, layouts.ipv4_frag_l4ports),
    "ctctl_policy": (layouts.ctctl_policy_key, layouts.ctctl_policy_entry),
    "ctctl_trace_ctl": (4, layouts.ctctl_trace_ctl),
    "ctctl_trace_follow": (layouts.ipv4_ct_tuple, 1),
    "ctctl_sim": (4, layouts.ctctl_sim),
    "ctctl_metrics": (4, layouts.ctctl_counter),
    "ctctl_stats": (4, 8),
}
