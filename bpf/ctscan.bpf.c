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

#include "bound.h"
#include "owntable.h"

volatile const struct ctscan_insn cfg_program[SCAN_INSNS];
volatile const __u32 cfg_now;
volatile const __u32 cfg_hz;    /* 0: seconds; else the clock is jiffies >> 8 */
volatile const __u32 cfg_room;  /* elements of ctscan_found */

STAND_IN(target4, ipv4_ct_tuple, ct_entry);
STAND_IN(target6, ipv6_ct_tuple, ct_entry);
SHARED(ctscan_found, ctscan_found);

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

/* A key of either family: the addresses, then the same for both. Hash tables
 * align keys to 8 bytes, so its fields are loaded as the numbers they are. SIX
 * is a constant wherever these are inlined. */
#define ADDRESS_SIZE(_six) ((_six) ? 16 : 4)

struct key_tail {
	__be16 dport;
	__be16 sport;
	__u8   nexthdr;
	__u8   flags;
};

static __always_inline const struct key_tail *tail_of(const void *key, const bool six)
{
	return key + 2 * ADDRESS_SIZE(six);
}

/* An address as two numbers, the upper one 0 for IPv4. */
static __always_inline void address_slots(__u64 *hi, __u64 *lo, const void *address, const bool six)
{
	const __be64 *words = address;

	*hi = six ? bpf_be64_to_cpu(words[0]) : 0;
	*lo = six ? bpf_be64_to_cpu(words[1]) : bpf_ntohl(*(const __be32 *)address);
}

/* Ports and addresses in the connection's original direction: a SERVICE tuple
 * stands as the packet's, any other reversed (docs/reference/abi.md). */
static __always_inline void key_slots(__u64 *slot, const void *key, const bool six)
{
	const void *daddr = key, *saddr = key + ADDRESS_SIZE(six);
	const struct key_tail *tail = tail_of(key, six);
	bool service = tail->flags & TUPLE_SERVICE;

	slot[SLOT_PROTO] = tail->nexthdr;
	slot[SLOT_TUPLE_FLAGS] = tail->flags;
	address_slots(&slot[SLOT_SRC_HI], &slot[SLOT_SRC], service ? saddr : daddr, six);
	address_slots(&slot[SLOT_DST_HI], &slot[SLOT_DST], service ? daddr : saddr, six);
	slot[SLOT_SRC_PORT] = bpf_ntohs(service ? tail->dport : tail->sport);
	slot[SLOT_DST_PORT] = bpf_ntohs(service ? tail->sport : tail->dport);
}

static __always_inline bool wanted(const __u64 *key_slot, const struct ct_entry *value)
{
	__u32 at = 0;

	for (int i = 0; i < SCAN_INSNS; i++) {
		volatile const struct ctscan_insn *insn = &cfg_program[at % SCAN_INSNS];
		__u32 index = insn->slot;
		__u64 number = index < SLOT_LIFETIME ? key_slot[index] : value_slot(index, value);

		number &= insn->mask;
		at = number >= insn->low && number <= insn->high ? insn->yes : insn->no;
		if (at >= SCAN_ACCEPT)
			return at == SCAN_ACCEPT;
	}
	return false;
}

/* Room for one more entry; NULL when there is none: stop the walk. */
static __always_inline struct ctscan_found *take(struct ctscan_state *state)
{
	__u32 index = state->matched++;

	return index < cfg_room ? bpf_map_lookup_elem(&ctscan_found, &index) : NULL;
}

static __always_inline long filter(const void *key, const struct ct_entry *value, const bool six)
{
	struct ctscan_state *state = bpf_map_lookup_elem(&ctscan_state, &first_element);
	struct ctscan_found *found;
	__u64 slot[SLOT_LIFETIME];

	if (!state)
		return 1;
	state->visited++;
	key_slots(slot, key, six);
	if (!wanted(slot, value))
		return 0;
	found = take(state);
	if (!found)
		return 1;
	if (six)
		__builtin_memcpy(found->key, key, sizeof(struct ipv6_ct_tuple));
	else
		__builtin_memcpy(found->key, key, sizeof(struct ipv4_ct_tuple));
	found->value = *value;
	return 0;
}

/* How many bits the number needs: all bits below its highest are set, then they are counted, in pairs, fours, octets.
 * No branches: times are random, and a branch guessed wrong is the dearest part of an entry. */
static __always_inline __u32 bucket_of(__u64 seconds)
{
	__u32 bits;

#pragma unroll
	for (int shift = 1; shift < 64; shift <<= 1)
		seconds |= seconds >> shift;
	seconds -= seconds >> 1 & 0x5555555555555555ULL;
	seconds = (seconds & 0x3333333333333333ULL) + (seconds >> 2 & 0x3333333333333333ULL);
	seconds = (seconds + (seconds >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	bits = seconds * 0x0101010101010101ULL >> 56;
	return bound_below(&bits, SCAN_BUCKETS) ? bits : 0;
}

static __always_inline __u64 seconds_of(__u64 time)
{
	return cfg_hz ? (time << 8) / cfg_hz : time;
}

static __always_inline long count(const void *key, const struct ct_entry *value, const bool six)
{
	struct ctscan_stats *stats = bpf_map_lookup_elem(&ctscan_stats, &first_element);
	__u8 proto = tail_of(key, six)->nexthdr, tuple_flags = tail_of(key, six)->flags;
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
	stats->flags[0][value->flags & 0xff]++;
	stats->flags[1][value->flags >> 8]++;
	return 0;
}

#define UNUSED __attribute__((unused))

#define CALLBACK(_name, _body, _key, _six)                                                      \
	static long _name(struct bpf_map *map UNUSED, struct _key *key, struct ct_entry *value, \
			  void *ctx UNUSED)                                                     \
	{                                                                                       \
		return _body(key, value, _six);                                                 \
	}

CALLBACK(filter4, filter, ipv4_ct_tuple, false)
CALLBACK(filter6, filter, ipv6_ct_tuple, true)
CALLBACK(count4, count, ipv4_ct_tuple, false)
CALLBACK(count6, count, ipv6_ct_tuple, true)

#define SCAN(_name, _target, _callback)                                                         \
	SEC("syscall")                                                                          \
	int _name(void *ctx UNUSED)                                                             \
	{                                                                                       \
		return bpf_for_each_map_elem(&_target, _callback, NULL, 0) < 0;                 \
	}

SCAN(scan_filter4, target4, filter4)
SCAN(scan_filter6, target6, filter6)
SCAN(scan_stats4, target4, count4)
SCAN(scan_stats6, target6, count6)

char _license[] SEC("license") = "Dual BSD/GPL";
