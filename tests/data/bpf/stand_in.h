/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The datapath's maps and settings behind programs that only count packets: for
 * tests of the loader, which load them hundreds of times.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ctctl/abi.h"
#include "maps.h"
#include "config.h"

#define USE(MAP) (bpf_map_lookup_elem(&MAP, zeros) != 0)

static __always_inline int count(struct __sk_buff *ctx, enum ctctl_hook hook)
{
	__u64 zeros[8] = {};
	__u32 index = hook * REASON_MAX;
	struct ctctl_counter *counter = bpf_map_lookup_elem(&ctctl_metrics, &index);
	void *event = bpf_ringbuf_reserve(&ctctl_events, 8, 0);
	int used = 0;

	if (counter) {
		counter->packets += 1;
		counter->bytes += ctx->len;
	}
	if (event)
		bpf_ringbuf_discard(event, 0);
	used += USE(cilium_ct4_global) + USE(cilium_ct_any4_global) + USE(cilium_snat_v4_external);
	used += USE(cilium_lb4_affinity) + USE(cilium_ipv4_frag_datagrams);
	used += USE(cilium_lb4_services_v2) + USE(cilium_lb4_backends_v3) + USE(cilium_lb4_reverse_nat);
	used += USE(cilium_lb4_maglev) + USE(cilium_lb_affinity_match) + USE(cilium_lb4_source_range);
	used += USE(cilium_lxc) + USE(cilium_ipcache) + USE(ctctl_policy);
	used += USE(ctctl_trace_ctl) + USE(ctctl_trace_follow) + USE(ctctl_sim) + USE(ctctl_stats) + USE(ctctl_scratch);
	/* Every map counted as used, and settings that the loader sets referred to. */
	return used > 64 && cfg_sim ? 2 : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
