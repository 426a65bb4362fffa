/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h - every table of the datapath. Names, types and layouts of the
 * cilium_* ones are Cilium 1.16's; the loader sets sizes from the node file.
 */
#ifndef CTCTL_MAPS_H
#define CTCTL_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "family.h"

#define CTCTL_MAP(NAME, TYPE, KEY, VALUE, SIZE, FLAGS)	\
	struct {						\
		__uint(type, TYPE);				\
		__type(key, KEY);				\
		__type(value, VALUE);				\
		__uint(max_entries, SIZE);			\
		__uint(map_flags, FLAGS);			\
	} NAME SEC(".maps")

/* ---- the family's: one name here, Cilium's outside ---- */
#define MAP_CT_TCP FAMILY_NAME(cilium_ct4_global, cilium_ct6_global)
#define MAP_CT_ANY FAMILY_NAME(cilium_ct_any4_global, cilium_ct_any6_global)
#define MAP_SNAT FAMILY_NAME(cilium_snat_v4_external, cilium_snat_v6_external)
#define MAP_AFFINITY FAMILY_NAME(cilium_lb4_affinity, cilium_lb6_affinity)
#define MAP_SERVICES FAMILY_NAME(cilium_lb4_services_v2, cilium_lb6_services_v2)
#define MAP_BACKENDS FAMILY_NAME(cilium_lb4_backends_v3, cilium_lb6_backends_v3)
#define MAP_REVERSE_NAT FAMILY_NAME(cilium_lb4_reverse_nat, cilium_lb6_reverse_nat)
#define MAP_SOURCE_RANGE FAMILY_NAME(cilium_lb4_source_range, cilium_lb6_source_range)
#define MAP_MAGLEV FAMILY_NAME(cilium_lb4_maglev, cilium_lb6_maglev)

/* ---- state ---- */
CTCTL_MAP(MAP_CT_TCP, BPF_MAP_TYPE_LRU_HASH, struct FAMILY_NAME(ipv4_ct_tuple, ipv6_ct_tuple), struct ct_entry, 524288, 0);
CTCTL_MAP(MAP_CT_ANY, BPF_MAP_TYPE_LRU_HASH, struct FAMILY_NAME(ipv4_ct_tuple, ipv6_ct_tuple), struct ct_entry, 262144, 0);
CTCTL_MAP(MAP_SNAT, BPF_MAP_TYPE_LRU_HASH, struct FAMILY_NAME(ipv4_ct_tuple, ipv6_ct_tuple), nat_entry_t, 524288, 0);
CTCTL_MAP(MAP_AFFINITY, BPF_MAP_TYPE_LRU_HASH, affinity_key_t, struct lb_affinity_val, 65536, 0);
#if FAMILY == 4
CTCTL_MAP(cilium_ipv4_frag_datagrams, BPF_MAP_TYPE_LRU_HASH, struct ipv4_frag_id, struct ipv4_frag_l4ports, 8192, 0);
#endif

/* ---- settings ---- */
CTCTL_MAP(MAP_SERVICES, BPF_MAP_TYPE_HASH, lb_key_t, struct lb4_service, 65536, BPF_F_NO_PREALLOC);
CTCTL_MAP(MAP_BACKENDS, BPF_MAP_TYPE_HASH, __u32, lb_backend_t, 65536, BPF_F_NO_PREALLOC);
CTCTL_MAP(MAP_REVERSE_NAT, BPF_MAP_TYPE_HASH, __u16, struct FAMILY_NAME(lb4_reverse_nat, lb6_reverse_nat), 65536, BPF_F_NO_PREALLOC);
CTCTL_MAP(cilium_lb_affinity_match, BPF_MAP_TYPE_HASH, struct lb_affinity_match, __u8, 65536, BPF_F_NO_PREALLOC);
CTCTL_MAP(MAP_SOURCE_RANGE, BPF_MAP_TYPE_LPM_TRIE, src_range_key_t, __u8, 65536, BPF_F_NO_PREALLOC);
CTCTL_MAP(cilium_lxc, BPF_MAP_TYPE_HASH, struct endpoint_key, struct endpoint_info, 65535, BPF_F_NO_PREALLOC);
CTCTL_MAP(cilium_ipcache, BPF_MAP_TYPE_LPM_TRIE, struct ipcache_key, struct remote_endpoint_info, 512000,
	  BPF_F_NO_PREALLOC);
CTCTL_MAP(ctctl_policy, BPF_MAP_TYPE_HASH, struct ctctl_policy_key, struct ctctl_policy_entry, 16384,
	  BPF_F_NO_PREALLOC);

/* One array of cfg_maglev_size backend ids a service, behind its rev-NAT id. */
struct maglev_lut {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32) * 16381);
	__uint(max_entries, 1);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(key_size, sizeof(__u16));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__array(values, struct maglev_lut);
} MAP_MAGLEV SEC(".maps");

/* ---- what listeners and operators see ---- */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ctctl_events SEC(".maps");

CTCTL_MAP(ctctl_trace_ctl, BPF_MAP_TYPE_ARRAY, __u32, struct ctctl_trace_ctl, 1, BPF_F_MMAPABLE);
#define MAP_TRACE_FOLLOW FAMILY_NAME(ctctl_trace_follow, ctctl_trace_follow6)
CTCTL_MAP(MAP_TRACE_FOLLOW, BPF_MAP_TYPE_LRU_HASH, struct FAMILY_NAME(ipv4_ct_tuple, ipv6_ct_tuple), __u8, 4096, 0);
CTCTL_MAP(ctctl_tunnel_in, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct ctctl_tunnel_in, 1, 0);
CTCTL_MAP(ctctl_sim, BPF_MAP_TYPE_ARRAY, __u32, struct ctctl_sim, 1, BPF_F_MMAPABLE);
CTCTL_MAP(ctctl_metrics, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct ctctl_counter, HOOK_MAX * REASON_MAX, 0);
CTCTL_MAP(ctctl_stats, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, STAT_MAX, 0);

/* The event of the packet in hand, built up while somebody listens. */
CTCTL_MAP(ctctl_scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct ctctl_event, 1, 0);

/* For values that other CPUs write at the same time. */
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

static __always_inline void stat_inc(enum ctctl_stat stat)
{
	__u32 index = stat;
	__u64 *count = bpf_map_lookup_elem(&ctctl_stats, &index);

	if (count)
		*count += 1;
}

static __always_inline void stat_set(enum ctctl_stat stat, __u64 value)
{
	__u32 index = stat;
	__u64 *slot = bpf_map_lookup_elem(&ctctl_stats, &index);

	if (slot)
		*slot = value;
}

#endif /* CTCTL_MAPS_H */
