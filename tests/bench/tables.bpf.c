// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The two IPv4 conntrack tables with type information, for fill.py. Sizes are set before loading. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#define TABLE(_name)                                     \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);     \
		__uint(max_entries, 1);                  \
		__type(key, struct ipv4_ct_tuple);       \
		__type(value, struct ct_entry);          \
	} _name SEC(".maps")

TABLE(cilium_ct4_global);
TABLE(cilium_ct_any4_global);

char _license[] SEC("license") = "Dual BSD/GPL";
