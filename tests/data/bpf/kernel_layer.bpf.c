// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the tests of the kernel layer load: one of each thing it wraps. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u16);
	__type(value, __u32);
} outer SEC(".maps");

volatile const __u8 cfg_byte = 0;
volatile const __u32 cfg_word = 7;
volatile const __s16 cfg_signed = -1;
volatile const __u8 cfg_mac[6] = {};

/* Counts the frame under cfg_word, tells its length, changes mark and cb, appends 4 bytes if the mark is 99. */
SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 key = cfg_word, zero = 0;
	__u64 *length, value = skb->len;
	__u32 *runs;

	bpf_map_update_elem(&seen, &key, &value, BPF_ANY);
	runs = bpf_map_lookup_elem(&per_cpu, &zero);
	if (runs)
		(*runs)++;
	length = bpf_ringbuf_reserve(&ring, sizeof(*length), 0);
	if (length) {
		*length = value;
		bpf_ringbuf_submit(length, 0);
	}
	if (skb->mark == 99)
		bpf_skb_change_tail(skb, skb->len + 4, 0);
	skb->mark = skb->mark + 1;
	skb->cb[1] = cfg_mac[5];
	skb->cb[2] = skb->cb[2] + cfg_signed;
	return cfg_byte;
}

/* A second program, to stand beside and to replace the first. */
SEC("tc")
int other(struct __sk_buff *skb)
{
	return skb->ifindex ? -1 : 7;
}

struct question {
	__u32 a, b, sum;
};

SEC("syscall")
int add(struct question *question)
{
	__u32 index = 2;
	__u64 *cell = bpf_map_lookup_elem(&shared, &index);

	question->sum = question->a + question->b;
	if (cell)
		*cell = question->sum;
	return 5;
}

char _license[] SEC("license") = "Dual BSD/GPL";
