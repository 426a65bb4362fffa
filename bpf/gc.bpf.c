// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * gc.bpf.c - garbage collection inside the kernel.
 *
 * gc_walk4/6: walk the whole table, delete an expired entry in the same callback
 * that tested it. gc_check4/6: the batch engine's candidates; each is tested again
 * in the live table and deleted at once.
 *
 * Between test and delete lie some instructions, without a lock: a packet on
 * another CPU can refresh the entry in between and lose the refresh. It can only
 * hit an entry that was past its lifetime already.
 *
 * All are run by BPF_PROG_RUN on tables of any owner: ctctl_gc_ct4/6 and
 * ctctl_gc_nat4/6 are replaced by the live tables before loading.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#include "bound.h"

struct bpf_map;

volatile const __u8 cfg_gc_dry_run = 0; /* count, delete nothing */
volatile const __u8 cfg_gc_recheck = 1; /* 0: delete candidates without another look */
volatile const __u8 cfg_gc_nat = 0;     /* there is an SNAT table */
volatile const __u8 cfg_gc_log = 0;     /* record what was deleted */

#define TABLE(_name, _key, _value)                      \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);    \
		__uint(max_entries, 1);                 \
		__type(key, struct _key);               \
		__type(value, struct _value);           \
	} _name SEC(".maps")

TABLE(ctctl_gc_ct4, ipv4_ct_tuple, ct_entry);
TABLE(ctctl_gc_ct6, ipv6_ct_tuple, ct_entry);
TABLE(ctctl_gc_nat4, ipv4_ct_tuple, ipv4_nat_entry);
TABLE(ctctl_gc_nat6, ipv6_ct_tuple, ipv6_nat_entry);

#define SHARED(_name, _value, _entries)                 \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_ARRAY);       \
		__uint(map_flags, BPF_F_MMAPABLE);      \
		__uint(max_entries, _entries);          \
		__type(key, __u32);                     \
		__type(value, struct _value);           \
	} _name SEC(".maps")

SHARED(ctctl_gc_ctl, ctctl_gc_ctl, 1);
SHARED(ctctl_gc_slots4, ctctl_gc_slot4, 1);
SHARED(ctctl_gc_slots6, ctctl_gc_slot6, 1);
SHARED(ctctl_gc_log4, ctctl_gc_log4, 1);
SHARED(ctctl_gc_log6, ctctl_gc_log6, 1);

/* What a callback carries from entry to entry. */
struct run {
	struct ctctl_gc_ctl *ctl;
	__u64 left;                     /* of the budget */
	__u64 skip;
	__u32 now;
};

enum { GO_ON = 0, END = 1 };

static __always_inline struct ctctl_gc_ctl *control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ctctl_gc_ctl, &zero);
}

static __always_inline __u32 class_of(__u8 proto, __u8 flags)
{
	return bound_index((__u32)proto << 3 | (flags & 7), CTCTL_GC_CLASSES);
}

static __always_inline bool is_stopped(struct ctctl_gc_ctl *ctl)
{
	return *(volatile __u32 *)&ctl->stop;
}

/* Lifetime as it is now: packets write it while we look. */
static __always_inline bool is_expired(struct ct_entry *entry, __u32 now)
{
	return *(volatile __u32 *)&entry->lifetime < now;
}

/* The SNAT entry of a deleted OUT entry, and its reverse. The SNAT key is in packet
 * order: the OUT key with its addresses exchanged, or its ports for a DSR entry
 * (its key is the client's connection, the SNAT key the pod's reply).
 * Returns how many SNAT entries went; *value is the forward one's. */
static __always_inline __u8 delete_nat4(struct ipv4_ct_tuple *ct, bool dsr, struct ipv4_nat_entry *value)
{
	struct ipv4_ct_tuple key = *ct, reverse = {};
	struct ipv4_nat_entry *nat;

	if (dsr) {
		key.dport = ct->sport;
		key.sport = ct->dport;
	} else {
		key.daddr = ct->saddr;
		key.saddr = ct->daddr;
	}
	nat = bpf_map_lookup_elem(&ctctl_gc_nat4, &key);
	if (!nat)
		return 0;
	*value = *nat;
	if (bpf_map_delete_elem(&ctctl_gc_nat4, &key))
		return 0;
	if (dsr)
		return 1;
	reverse.daddr = value->to_saddr;
	reverse.saddr = key.daddr;
	reverse.dport = value->to_sport;
	reverse.sport = key.dport;
	reverse.nexthdr = key.nexthdr;
	reverse.flags = TUPLE_IN;
	return bpf_map_delete_elem(&ctctl_gc_nat4, &reverse) ? 1 : 2;
}

static __always_inline __u8 delete_nat6(struct ipv6_ct_tuple *ct, bool dsr, struct ipv6_nat_entry *value)
{
	struct ipv6_ct_tuple key = *ct, reverse = {};
	struct ipv6_nat_entry *nat;

	if (dsr) {
		key.dport = ct->sport;
		key.sport = ct->dport;
	} else {
		__builtin_memcpy(key.daddr, ct->saddr, sizeof(key.daddr));
		__builtin_memcpy(key.saddr, ct->daddr, sizeof(key.saddr));
	}
	nat = bpf_map_lookup_elem(&ctctl_gc_nat6, &key);
	if (!nat)
		return 0;
	*value = *nat;
	if (bpf_map_delete_elem(&ctctl_gc_nat6, &key))
		return 0;
	if (dsr)
		return 1;
	__builtin_memcpy(reverse.daddr, value->to_saddr, sizeof(reverse.daddr));
	__builtin_memcpy(reverse.saddr, key.daddr, sizeof(reverse.saddr));
	reverse.dport = value->to_sport;
	reverse.sport = key.dport;
	reverse.nexthdr = key.nexthdr;
	reverse.flags = TUPLE_IN;
	return bpf_map_delete_elem(&ctctl_gc_nat6, &reverse) ? 1 : 2;
}

/* ---- the kernel engine ----------------------------------------------------- */

/* What a walk does with the entry at hand. Live ones are counted here. */
enum step { STEP_NEXT, STEP_END, STEP_DELETE };

static __always_inline enum step next_step(struct run *run, __u8 proto, __u8 flags, struct ct_entry *entry)
{
	struct ctctl_gc_ctl *ctl = run->ctl;

	if (!run->left || is_stopped(ctl))
		return STEP_END;
	if (run->skip) {
		run->skip--;
		ctl->passed++;
		return STEP_NEXT;
	}
	if (!is_expired(entry, run->now)) {
		ctl->alive[class_of(proto, flags)]++;
		ctl->passed++;
		return STEP_NEXT;
	}
	if (cfg_gc_dry_run) {
		ctl->skipped[class_of(proto, flags)]++;
		ctl->passed++;
		return STEP_NEXT;
	}
	return STEP_DELETE;
}

/* Evicted or deleted by somebody else between test and delete: not ours to count as deleted. */
static __always_inline void count_delete(struct run *run, __u32 class, long err)
{
	struct ctctl_gc_ctl *ctl = run->ctl;

	if (err) {
		ctl->skipped[class]++;
		return;
	}
	ctl->deleted[class]++;
	ctl->nr_deleted++;
	run->left--;
}

static long walk4(struct bpf_map *map __attribute__((unused)), struct ipv4_ct_tuple *key,
		  struct ct_entry *entry, struct run *run)
{
	struct ipv4_nat_entry scratch = {}, *nat_value = &scratch;
	struct ctctl_gc_log4 *log = NULL;
	struct ipv4_ct_tuple tuple;
	enum step step;
	__u32 slot;
	__u8 nat = 0;
	__u16 flags;
	long err;

	step = next_step(run, key->nexthdr, key->flags, entry);
	if (step != STEP_DELETE)
		return step == STEP_END ? END : GO_ON;
	tuple = *key;
	flags = entry->flags;
	if (cfg_gc_log) {
		slot = run->ctl->nr_deleted;
		log = bpf_map_lookup_elem(&ctctl_gc_log4, &slot);
		if (!log)
			return END; /* full: the caller reads it and comes back */
		log->slot.key = tuple;
		log->entry = *entry;
		nat_value = &log->slot.nat_value;
	}
	err = bpf_map_delete_elem(&ctctl_gc_ct4, &tuple);
	if (cfg_gc_nat && !err && tuple.flags == TUPLE_OUT) {
		nat = delete_nat4(&tuple, flags & CT_DSR_INTERNAL, nat_value);
		run->ctl->nr_nat_deleted += nat;
	}
	if (log)
		log->slot.nat = nat;
	count_delete(run, class_of(tuple.nexthdr, tuple.flags), err);
	return GO_ON;
}

static long walk6(struct bpf_map *map __attribute__((unused)), struct ipv6_ct_tuple *key,
		  struct ct_entry *entry, struct run *run)
{
	struct ipv6_nat_entry scratch = {}, *nat_value = &scratch;
	struct ctctl_gc_log6 *log = NULL;
	struct ipv6_ct_tuple tuple;
	enum step step;
	__u32 slot;
	__u8 nat = 0;
	__u16 flags;
	long err;

	step = next_step(run, key->nexthdr, key->flags, entry);
	if (step != STEP_DELETE)
		return step == STEP_END ? END : GO_ON;
	tuple = *key;
	flags = entry->flags;
	if (cfg_gc_log) {
		slot = run->ctl->nr_deleted;
		log = bpf_map_lookup_elem(&ctctl_gc_log6, &slot);
		if (!log)
			return END;
		log->slot.key = tuple;
		log->entry = *entry;
		nat_value = &log->slot.nat_value;
	}
	err = bpf_map_delete_elem(&ctctl_gc_ct6, &tuple);
	if (cfg_gc_nat && !err && tuple.flags == TUPLE_OUT) {
		nat = delete_nat6(&tuple, flags & CT_DSR_INTERNAL, nat_value);
		run->ctl->nr_nat_deleted += nat;
	}
	if (log)
		log->slot.nat = nat;
	count_delete(run, class_of(tuple.nexthdr, tuple.flags), err);
	return GO_ON;
}

/* What every pass starts with; false where there is nothing to tell it what to do. */
static __always_inline bool run_begin(struct run *run)
{
	run->ctl = control();
	if (!run->ctl)
		return false;
	run->now = run->ctl->now;
	return true;
}

SEC("syscall")
int gc_walk4(void *ctx __attribute__((unused)))
{
	struct run run = {};

	if (!run_begin(&run))
		return -1;
	run.left = run.ctl->budget;
	run.skip = run.ctl->skip;
	return bpf_for_each_map_elem(&ctctl_gc_ct4, walk4, &run, 0) < 0;
}

SEC("syscall")
int gc_walk6(void *ctx __attribute__((unused)))
{
	struct run run = {};

	if (!run_begin(&run))
		return -1;
	run.left = run.ctl->budget;
	run.skip = run.ctl->skip;
	return bpf_for_each_map_elem(&ctctl_gc_ct6, walk6, &run, 0) < 0;
}

/* ---- the batch engine's re-check ------------------------------------------- */

/* What became of one key; *flags are those its entry had. */
static __always_inline __u8 delete_if_expired(void *table, const void *key, struct run *run, __u16 *flags)
{
	struct ct_entry *entry = bpf_map_lookup_elem(table, key);

	if (!entry)
		return GC_GONE;
	*flags = entry->flags;
	if (cfg_gc_recheck && !is_expired(entry, run->now))
		return GC_REFRESHED;
	if (bpf_map_delete_elem(table, key))
		return GC_GONE;
	run->ctl->nr_deleted++;
	return GC_DELETED;
}

static long check4(struct bpf_map *map __attribute__((unused)), __u32 *index, struct ctctl_gc_slot4 *slot,
		   struct run *run)
{
	struct ipv4_ct_tuple key = slot->key;
	__u16 flags = 0;

	if (*index >= run->left || is_stopped(run->ctl))
		return END;
	slot->status = delete_if_expired(&ctctl_gc_ct4, &key, run, &flags);
	if (slot->status == GC_DELETED && cfg_gc_nat && key.flags == TUPLE_OUT) {
		slot->nat = delete_nat4(&key, flags & CT_DSR_INTERNAL, &slot->nat_value);
		run->ctl->nr_nat_deleted += slot->nat;
	}
	return GO_ON;
}

static long check6(struct bpf_map *map __attribute__((unused)), __u32 *index, struct ctctl_gc_slot6 *slot,
		   struct run *run)
{
	struct ipv6_ct_tuple key = slot->key;
	__u16 flags = 0;

	if (*index >= run->left || is_stopped(run->ctl))
		return END;
	slot->status = delete_if_expired(&ctctl_gc_ct6, &key, run, &flags);
	if (slot->status == GC_DELETED && cfg_gc_nat && key.flags == TUPLE_OUT) {
		slot->nat = delete_nat6(&key, flags & CT_DSR_INTERNAL, &slot->nat_value);
		run->ctl->nr_nat_deleted += slot->nat;
	}
	return GO_ON;
}

SEC("syscall")
int gc_check4(void *ctx __attribute__((unused)))
{
	struct run run = {};

	if (!run_begin(&run))
		return -1;
	run.left = run.ctl->nr_slots;
	return bpf_for_each_map_elem(&ctctl_gc_slots4, check4, &run, 0) < 0;
}

SEC("syscall")
int gc_check6(void *ctx __attribute__((unused)))
{
	struct run run = {};

	if (!run_begin(&run))
		return -1;
	run.left = run.ctl->nr_slots;
	return bpf_for_each_map_elem(&ctctl_gc_slots6, check6, &run, 0) < 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
