// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The least that must happen in the kernel: visit every entry, and delete the expired ones. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

struct bpf_map;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct ipv4_ct_tuple);
	__type(value, struct ct_entry);
} target SEC(".maps");

struct request {
	__u64 now;
	__u64 visited;
	__u64 deleted;
	__u64 expired;
};

static long visit(struct bpf_map *map, const void *key, void *value, struct request *request)
{
	request->visited++;
	return 0;
}

/* Reads of each entry what its state is told by: a second line of memory. */
static long look(struct bpf_map *map, const void *key, void *value, struct request *request)
{
	const struct ct_entry *entry = value;

	request->visited++;
	request->expired += entry->lifetime < request->now;
	return 0;
}

static long collect(struct bpf_map *map, const void *key, void *value, struct request *request)
{
	const struct ct_entry *entry = value;

	request->visited++;
	if (entry->lifetime < request->now && !bpf_map_delete_elem(map, key))
		request->deleted++;
	return 0;
}

SEC("syscall")
int count(struct request *request)
{
	struct request local = {};

	bpf_for_each_map_elem(&target, visit, &local, 0);
	request->visited = local.visited;
	return 0;
}

SEC("syscall")
int tally(struct request *request)
{
	struct request local = { .now = request->now };

	bpf_for_each_map_elem(&target, look, &local, 0);
	request->visited = local.visited;
	request->expired = local.expired;
	return 0;
}

SEC("syscall")
int gc(struct request *request)
{
	struct request local = { .now = request->now };

	bpf_for_each_map_elem(&target, collect, &local, 0);
	request->visited = local.visited;
	request->deleted = local.deleted;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
