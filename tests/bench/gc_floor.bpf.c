// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The least a GC inside the kernel can do: walk, test, delete, count. For comparison only. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

struct bpf_map;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct ipv4_ct_tuple);
	__type(value, struct ct_entry);
} floor_ct SEC(".maps");

volatile const __u32 cfg_now = 0;
__u64 floor_alive = 0, floor_deleted = 0;

static long visit(struct bpf_map *map __attribute__((unused)), struct ipv4_ct_tuple *key, struct ct_entry *entry,
		  void *ctx __attribute__((unused)))
{
	if (entry->lifetime >= cfg_now) {
		floor_alive++;
		return 0;
	}
	bpf_map_delete_elem(&floor_ct, key);
	floor_deleted++;
	return 0;
}

SEC("syscall")
int floor_gc(void *ctx __attribute__((unused)))
{
	bpf_for_each_map_elem(&floor_ct, visit, (void *)0, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
