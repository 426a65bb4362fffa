"""Names of tables as they are pinned: those of Cilium that ctctl knows, and its own (docs/reference/abi.md).

The only place where one is written down; a test compares them with the maps of the compiled objects.
"""

from __future__ import annotations

from typing import Final

CT4_TCP: Final = "cilium_ct4_global"
CT4_ANY: Final = "cilium_ct_any4_global"
CT6_TCP: Final = "cilium_ct6_global"
CT6_ANY: Final = "cilium_ct_any6_global"
#: The conntrack tables, in the order in which they are shown.
CT_TABLES: Final = (CT4_TCP, CT4_ANY, CT6_TCP, CT6_ANY)
#: IP version of each.
CT_FAMILY: Final = {CT4_TCP: 4, CT4_ANY: 4, CT6_TCP: 6, CT6_ANY: 6}
#: Those that our own datapath writes, with one family and with both.
OWN_CT_TABLES: Final = (CT4_TCP, CT4_ANY)
OWN_CT6_TABLES: Final = (CT6_TCP, CT6_ANY)
#: What the names of Cilium's per-cluster tables (maps of conntrack tables) begin with.
CT_PER_CLUSTER: Final = "cilium_per_cluster_ct_"

SNAT4: Final = "cilium_snat_v4_external"
SNAT6: Final = "cilium_snat_v6_external"
#: SNAT tables by IP version.
SNAT_TABLES: Final = {4: SNAT4, 6: SNAT6}
#: Maps of SNAT tables by cluster id, beside the per-cluster conntrack tables.
SNAT_PER_CLUSTER: Final = {4: "cilium_per_cluster_snat_v4_external", 6: "cilium_per_cluster_snat_v6_external"}

LB4_SERVICES: Final = "cilium_lb4_services_v2"
LB6_SERVICES: Final = "cilium_lb6_services_v2"
LB4_BACKENDS: Final = "cilium_lb4_backends_v3"
LB6_BACKENDS: Final = "cilium_lb6_backends_v3"
LB4_REVERSE_NAT: Final = "cilium_lb4_reverse_nat"
LB6_REVERSE_NAT: Final = "cilium_lb6_reverse_nat"
LB4_SOURCE_RANGE: Final = "cilium_lb4_source_range"
LB6_SOURCE_RANGE: Final = "cilium_lb6_source_range"
LB4_MAGLEV: Final = "cilium_lb4_maglev"
LB6_MAGLEV: Final = "cilium_lb6_maglev"
LB4_AFFINITY: Final = "cilium_lb4_affinity"
LB6_AFFINITY: Final = "cilium_lb6_affinity"
LB_AFFINITY_MATCH: Final = "cilium_lb_affinity_match"

ENDPOINTS: Final = "cilium_lxc"
IPCACHE: Final = "cilium_ipcache"
#: From Cilium 1.18 on (docs/reference/real-nodes.md).
IPCACHE_V2: Final = "cilium_ipcache_v2"
FRAGMENTS: Final = "cilium_ipv4_frag_datagrams"

#: What the names of the policy maps of endpoints begin with; the endpoint's number follows.
CILIUM_POLICY: Final = "cilium_policy_"
CILIUM_POLICY_V2: Final = "cilium_policy_v2_"
CILIUM_POLICY_STATS: Final = "cilium_policystats"
CILIUM_EVENTS: Final = "cilium_events"
CILIUM_METRICS: Final = "cilium_metrics"
TUNNELS: Final = "cilium_tunnel_map"
LB4_SOCKETS: Final = "cilium_lb4_reverse_sk"
LB6_SOCKETS: Final = "cilium_lb6_reverse_sk"

# Of these only the presence is read: it tells Cilium's versions apart (node/cilium.py).
ENCRYPT: Final = "cilium_encrypt_state"
L2_RESPONDER6: Final = "cilium_l2_responder_v6"
NODE_IDS: Final = "cilium_node_map"
NODE_IDS_V2: Final = "cilium_node_map_v2"
PERCPU_TRACE_ID: Final = "cilium_percpu_trace_id"
RATELIMIT: Final = "cilium_ratelimit"
RATELIMIT_METRICS: Final = "cilium_ratelimit_metrics"
RUNTIME_CONFIG: Final = "cilium_runtime_config"
SKIP_LB4: Final = "cilium_skip_lb4"
SKIP_LB6: Final = "cilium_skip_lb6"
SNAT4_RETRIES: Final = "cilium_snat_v4_alloc_retries"

POLICY: Final = "ctctl_policy"
EVENTS: Final = "ctctl_events"
TRACE_CTL: Final = "ctctl_trace_ctl"
TRACE_FOLLOW: Final = "ctctl_trace_follow"
TRACE_FOLLOW6: Final = "ctctl_trace_follow6"
TUNNEL_IN: Final = "ctctl_tunnel_in"
ROOM6: Final = "ctctl_room6"
METRICS: Final = "ctctl_metrics"
STATS: Final = "ctctl_stats"
SIM: Final = "ctctl_sim"
SCRATCH: Final = "ctctl_scratch"
#: A program array: IPv6's XDP program, to which IPv4's goes on. Its pin is what keeps it filled.
XDP_NEXT: Final = "ctctl_xdp_next"
#: What was loaded (node/record.py); made by the loader, not by an object.
NODE_RECORD: Final = "ctctl_node"

PROBE_EVENTS: Final = "ctctl_probe_events"
PROBE_CTL: Final = "ctctl_probe_ctl"
PROBE_FOLLOW: Final = "ctctl_probe_follow"
PROBE_SLOTS: Final = "ctctl_probe_slots"
PROBE_LOST: Final = "ctctl_probe_lost"
PROBE_CURRENT: Final = "ctctl_probe_current"

GC_CTL: Final = "ctctl_gc_ctl"

#: The IPv6 table beside each IPv4 one that a node file fills.
TWINS: Final = {
    LB4_SERVICES: LB6_SERVICES,
    LB4_BACKENDS: LB6_BACKENDS,
    LB4_REVERSE_NAT: LB6_REVERSE_NAT,
    LB4_SOURCE_RANGE: LB6_SOURCE_RANGE,
    LB4_MAGLEV: LB6_MAGLEV,
}


_OF_IPV4: Final = {six: four for four, six in TWINS.items()}


def of_ipv4(name: str) -> str:
    """The IPv4 table whose twin ``name`` is; ``name`` itself for any other."""
    return _OF_IPV4.get(name, name)


def of_family(name: str, version: int) -> str:
    """The table that has for IP version ``version`` (4 or 6) what ``name`` has for IPv4."""
    return TWINS.get(name, name) if version == 6 else name
