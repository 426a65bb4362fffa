// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program the verifier must refuse: it uses what a lookup returned without a look at it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

SEC("tc")
int unchecked(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	__u64 *value = bpf_map_lookup_elem(&table, &key);

	return *value;
}

char _license[] SEC("license") = "Dual BSD/GPL";
