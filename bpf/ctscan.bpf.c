// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * ctscan.bpf.c - look at every entry of a conntrack table inside the kernel.
 *
 * Loaded by a reader for one table (the "target" map is replaced by it), run
 * once as a SEC("syscall") program, and gone with the reader. Two jobs: copy
 * out the entries that a filter wants, and count for statistics in one pass.
 * Nothing is written to the table.
 *
 * The filter is a jump program over slots: numbers of an entry in host order,
 * numbered as ctctl/decode/columns.py does. It is read-only data, so that the
 * verifier sees its jumps; they only go forward.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

struct bpf_map;

#define CTSCAN_INSNS 64
#define CTSCAN_ACCEPT 254
#define CTSCAN_BUCKETS 40

enum ctscan_slot {
	SLOT_PROTO,
	SLOT_TUPLE_FLAGS,
	SLOT_SRC_HI,
	SLOT_SRC,
	SLOT_DST_HI,
	SLOT_DST,
	SLOT_SRC_PORT,
	SLOT_DST_PORT,
	KEY_SLOTS,
	SLOT_LIFETIME = KEY_SLOTS,
	SLOT_FLAGS,
	SLOT_REV_NAT,
	SLOT_IFINDEX,
	SLOT_TX_FLAGS_SEEN,
	SLOT_RX_FLAGS_SEEN,
	SLOT_SRC_SEC_ID,
	SLOT_LAST_TX_REPORT,
	SLOT_LAST_RX_REPORT,
	SLOT_WORD0,
	SLOT_WORD8,
	SLOT_WORD16,
	SLOT_WORD24,
};

struct ctscan_insn {
	__u8 slot;
	__u8 yes;               /* next instruction if low <= slot & mask <= high, or ACCEPT, REJECT */
	__u8 no;
	__u8 pad[5];
	__u64 mask;
	__u64 low;
	__u64 high;
};

/* One entry that the filter wants. */
struct ctscan_found {
	__u8 key[40];
	struct ct_entry value;
};

struct ctscan_state {
	__u64 visited;
	__u64 matched;          /* more than there is room for: the reader filters for itself */
};

/* What "ct stats" shows of one table. Times in seconds, in buckets by powers
 * of two: bucket 0 counts zero, bucket n from 2^(n-1) to 2^n - 1. */
struct ctscan_stats {
	__u64 entries;
	__u64 proto[256];
	__u64 kind[3][2][4][2]; /* direction, related, state, expired */
	__u64 flags[16];
	__u64 remaining[CTSCAN_BUCKETS];
	__u64 overdue[CTSCAN_BUCKETS];
	__u64 idle[CTSCAN_BUCKETS];
};

volatile const struct ctscan_insn cfg_program[CTSCAN_INSNS];
volatile const __u32 cfg_now;
volatile const __u32 cfg_hz;    /* 0: seconds; else the clock is jiffies >> 8 */
volatile const __u32 cfg_room;  /* elements of ctscan_found */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct ipv4_ct_tuple);
	__type(value, struct ct_entry);
} target4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct ipv6_ct_tuple);
	__type(value, struct ct_entry);
} target6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ctscan_found);
} ctscan_found SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ctscan_state);
} ctscan_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ctscan_stats);
} ctscan_stats SEC(".maps");

static const __u32 zero;

/* A number of the value, read only when a test asks for it: the value is in
 * another cache line than the key, and a line from memory costs more than the
 * whole filter. */
static __always_inline __u64 value_slot(__u32 slot, const struct ct_entry *value)
{
	switch (slot) {
	case SLOT_LIFETIME:
		return value->lifetime;
	case SLOT_FLAGS:
		return value->flags;
	case SLOT_REV_NAT:
		return bpf_ntohs(value->rev_nat_index);
	case SLOT_IFINDEX:
		return value->ifindex;
	case SLOT_TX_FLAGS_SEEN:
		return value->tx_flags_seen;
	case SLOT_RX_FLAGS_SEEN:
		return value->rx_flags_seen;
	case SLOT_SRC_SEC_ID:
		return value->src_sec_id;
	case SLOT_LAST_TX_REPORT:
		return value->last_tx_report;
	case SLOT_LAST_RX_REPORT:
		return value->last_rx_report;
	case SLOT_WORD0:
		return value->reserved0;
	case SLOT_WORD8:
		return value->backend_id;
	case SLOT_WORD16:
		return value->packets;
	default:
		return value->bytes;
	}
}

/* Ports and addresses in the connection's original direction: a SERVICE tuple
 * stands as the packet's, any other reversed (spec/abi.md). */
static __always_inline void key4_slots(__u64 *slot, const struct ipv4_ct_tuple *key)
{
	bool service = key->flags & TUPLE_SERVICE;

	slot[SLOT_PROTO] = key->nexthdr;
	slot[SLOT_TUPLE_FLAGS] = key->flags;
	slot[SLOT_SRC_HI] = 0;
	slot[SLOT_DST_HI] = 0;
	slot[SLOT_SRC] = bpf_ntohl(service ? key->saddr : key->daddr);
	slot[SLOT_DST] = bpf_ntohl(service ? key->daddr : key->saddr);
	slot[SLOT_SRC_PORT] = bpf_ntohs(service ? key->dport : key->sport);
	slot[SLOT_DST_PORT] = bpf_ntohs(service ? key->sport : key->dport);
}

static __always_inline __u64 word_of(const __u8 *address)
{
	__u64 word;

	__builtin_memcpy(&word, address, sizeof(word));
	return bpf_be64_to_cpu(word);
}

static __always_inline void key6_slots(__u64 *slot, const struct ipv6_ct_tuple *key)
{
	bool service = key->flags & TUPLE_SERVICE;
	const __u8 *src = service ? key->saddr : key->daddr;
	const __u8 *dst = service ? key->daddr : key->saddr;

	slot[SLOT_PROTO] = key->nexthdr;
	slot[SLOT_TUPLE_FLAGS] = key->flags;
	slot[SLOT_SRC_HI] = word_of(src);
	slot[SLOT_SRC] = word_of(src + 8);
	slot[SLOT_DST_HI] = word_of(dst);
	slot[SLOT_DST] = word_of(dst + 8);
	slot[SLOT_SRC_PORT] = bpf_ntohs(service ? key->dport : key->sport);
	slot[SLOT_DST_PORT] = bpf_ntohs(service ? key->sport : key->dport);
}

static __always_inline bool wanted(const __u64 *key_slot, const struct ct_entry *value)
{
	__u32 at = 0;

	for (int i = 0; i < CTSCAN_INSNS; i++) {
		volatile const struct ctscan_insn *insn = &cfg_program[at % CTSCAN_INSNS];
		__u32 index = insn->slot;
		__u64 number = index < KEY_SLOTS ? key_slot[index] : value_slot(index, value);

		number &= insn->mask;
		at = number >= insn->low && number <= insn->high ? insn->yes : insn->no;
		if (at >= CTSCAN_ACCEPT)
			return at == CTSCAN_ACCEPT;
	}
	return false;
}

/* Room for one more entry; NULL when there is none: stop the walk. */
static __always_inline struct ctscan_found *take(struct ctscan_state *state)
{
	__u32 index = state->matched++;

	return index < cfg_room ? bpf_map_lookup_elem(&ctscan_found, &index) : NULL;
}

static long filter4(struct bpf_map *map, struct ipv4_ct_tuple *key, struct ct_entry *value, void *ctx)
{
	struct ctscan_state *state = bpf_map_lookup_elem(&ctscan_state, &zero);
	struct ctscan_found *found;
	__u64 slot[KEY_SLOTS];

	(void)map;
	(void)ctx;
	if (!state)
		return 1;
	state->visited++;
	key4_slots(slot, key);
	if (!wanted(slot, value))
		return 0;
	found = take(state);
	if (!found)
		return 1;
	__builtin_memcpy(found->key, key, sizeof(*key));
	found->value = *value;
	return 0;
}

static long filter6(struct bpf_map *map, struct ipv6_ct_tuple *key, struct ct_entry *value, void *ctx)
{
	struct ctscan_state *state = bpf_map_lookup_elem(&ctscan_state, &zero);
	struct ctscan_found *found;
	__u64 slot[KEY_SLOTS];

	(void)map;
	(void)ctx;
	if (!state)
		return 1;
	state->visited++;
	key6_slots(slot, key);
	if (!wanted(slot, value))
		return 0;
	found = take(state);
	if (!found)
		return 1;
	__builtin_memcpy(found->key, key, sizeof(*key));
	found->value = *value;
	return 0;
}

static __always_inline __u32 bucket_of(__u64 seconds)
{
	__u32 bucket = 0;

	/* 32-bit times: six halvings find the highest bit. */
#pragma unroll
	for (int shift = 32; shift; shift >>= 1) {
		if (seconds >> shift) {
			seconds >>= shift;
			bucket += shift;
		}
	}
	return (bucket + (seconds != 0)) % CTSCAN_BUCKETS;
}

static __always_inline __u64 seconds_of(__u64 time)
{
	return cfg_hz ? (time << 8) / cfg_hz : time;
}

static __always_inline long count(const struct ct_entry *value, __u8 proto, __u8 tuple_flags)
{
	struct ctscan_stats *stats = bpf_map_lookup_elem(&ctscan_stats, &zero);
	__u32 last = value->last_tx_report > value->last_rx_report ? value->last_tx_report : value->last_rx_report;
	__u32 direction = tuple_flags & TUPLE_SERVICE ? 2 : tuple_flags & TUPLE_IN;
	__u32 closing = value->flags & (CT_RX_CLOSING | CT_TX_CLOSING);
	__u32 expired = value->lifetime < cfg_now;
	__u64 now = seconds_of(cfg_now), expires = seconds_of(value->lifetime);
	__u32 state, bucket;

	if (!stats)
		return 1;
	if (closing)
		state = closing == (CT_RX_CLOSING | CT_TX_CLOSING) ? 3 : 2;
	else
		state = value->flags & CT_SEEN_NON_SYN ? 1 : 0;
	stats->entries++;
	stats->proto[proto]++;
	stats->kind[direction][!!(tuple_flags & TUPLE_RELATED)][state][expired]++;
	if (expired) {
		bucket = bucket_of(now - expires);
		stats->overdue[bucket]++;
	} else {
		bucket = bucket_of(expires - now);
		stats->remaining[bucket]++;
	}
	if (last && last <= cfg_now) {
		bucket = bucket_of(now - seconds_of(last));
		stats->idle[bucket]++;
	}
#pragma unroll
	for (int bit = 0; bit < 16; bit++)
		stats->flags[bit] += value->flags >> bit & 1;
	return 0;
}

static long count4(struct bpf_map *map, struct ipv4_ct_tuple *key, struct ct_entry *value, void *ctx)
{
	(void)map;
	(void)ctx;
	return count(value, key->nexthdr, key->flags);
}

static long count6(struct bpf_map *map, struct ipv6_ct_tuple *key, struct ct_entry *value, void *ctx)
{
	(void)map;
	(void)ctx;
	return count(value, key->nexthdr, key->flags);
}

SEC("syscall")
int scan_filter4(void *ctx)
{
	(void)ctx;
	return bpf_for_each_map_elem(&target4, filter4, NULL, 0) < 0;
}

SEC("syscall")
int scan_filter6(void *ctx)
{
	(void)ctx;
	return bpf_for_each_map_elem(&target6, filter6, NULL, 0) < 0;
}

SEC("syscall")
int scan_stats4(void *ctx)
{
	(void)ctx;
	return bpf_for_each_map_elem(&target4, count4, NULL, 0) < 0;
}

SEC("syscall")
int scan_stats6(void *ctx)
{
	(void)ctx;
	return bpf_for_each_map_elem(&target6, count6, NULL, 0) < 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
