// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Keeps writing a table whose elements are reused all the time: live entries and
 * expired ones by turns, as fast as it goes. Counts live entries it finds gone. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#define PAIRS 16

volatile const __u32 cfg_now = 0;
volatile const __u32 cfg_rounds = 0;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct ipv4_ct_tuple);
	__type(value, struct ct_entry);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static long turn(__u32 index, void *ctx)
{
	struct ipv4_ct_tuple key = { .daddr = index % PAIRS + 1, .nexthdr = 6 };
	struct ct_entry live = { .lifetime = cfg_now + 1000 }, expired = { .lifetime = cfg_now - 1000 };
	__u64 *count;
	__u32 zero = 0;

	(void)ctx;
	if (index >= PAIRS && !bpf_map_lookup_elem(&target, &key)) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			*count += 1;
	}
	bpf_map_update_elem(&target, &key, &live, BPF_ANY);
	key.saddr = 1;
	bpf_map_update_elem(&target, &key, &expired, BPF_ANY);
	return 0;
}

SEC("syscall")
int churn(void *ctx)
{
	(void)ctx;
	return bpf_loop(cfg_rounds, turn, NULL, 0) < 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
