// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program that runs until it is told to end, as one does that was in the middle of a packet. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

enum { STARTED, END, ENDED, WORDS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} words SEC(".maps");

static volatile __u64 *word(__u32 index)
{
	return bpf_map_lookup_elem(&words, &index);
}

static long inner(__u32 index __attribute__((unused)), void *ctx __attribute__((unused)))
{
	volatile __u64 *end = word(END);

	return !end || *end;
}

static long outer(__u32 index __attribute__((unused)), void *ctx __attribute__((unused)))
{
	volatile __u64 *end = word(END);

	/* Some hundredths of a second each. */
	bpf_loop(1 << 20, inner, NULL, 0);
	return !end || *end;
}

SEC("tc")
int slow(struct __sk_buff *skb __attribute__((unused)))
{
	volatile __u64 *at = word(STARTED);

	if (at)
		*at = 1;
	/* Ten seconds at most: the kernel complains of more than twenty. */
	bpf_loop(400, outer, NULL, 0);
	at = word(ENDED);
	if (at)
		*at = 1;
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
