// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * gc.bpf.c - garbage collection inside the kernel.
 *
 * gc_walk4/6: walk the whole table; what looks expired is collected in the same
 * callback. gc_check4/6: the batch engine's candidates. To collect is the same
 * for both: copy the key, look it up, test what is found, delete at once. The
 * element a walk stands on may be reused for another connection at any moment,
 * its key written before its value: it is only a hint which key to look up.
 *
 * Between test and delete lie some instructions, without a lock: a packet on
 * another CPU can refresh the entry in between and lose the refresh. It can only
 * hit an entry that was past its lifetime already.
 *
 * Both families have one body; SIX is a constant wherever it is inlined.
 *
 * All are run by BPF_PROG_RUN on tables of any owner: ctctl_gc_ct4/6 and
 * ctctl_gc_nat4/6 are replaced by the live tables before loading.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#include "bound.h"
#include "owntable.h"
#include "snatpair.h"

volatile const __u8 cfg_gc_dry_run = 0; /* count, delete nothing */
volatile const __u8 cfg_gc_recheck = 1; /* 0: delete candidates without another look */
volatile const __u8 cfg_gc_nat = 0;     /* there is an SNAT table */
volatile const __u8 cfg_gc_log = 0;     /* walk: delete nothing, record what is expired */

STAND_IN(ctctl_gc_ct4, ipv4_ct_tuple, ct_entry);
STAND_IN(ctctl_gc_ct6, ipv6_ct_tuple, ct_entry);
STAND_IN(ctctl_gc_nat4, ipv4_ct_tuple, ipv4_nat_entry);
STAND_IN(ctctl_gc_nat6, ipv6_ct_tuple, ipv6_nat_entry);

SHARED(ctctl_gc_ctl, ctctl_gc_ctl);
SHARED(ctctl_gc_slots4, ctctl_gc_slot4);
SHARED(ctctl_gc_slots6, ctctl_gc_slot6);
SHARED(ctctl_gc_log4, ctctl_gc_log4);
SHARED(ctctl_gc_log6, ctctl_gc_log6);

/* What a callback carries from entry to entry. */
struct run {
	struct ctctl_gc_ctl *ctl;
	__u64 left;                     /* of the budget */
	__u64 skip;
	__u32 now;
};

static __always_inline __u32 class_of(__u8 proto, __u8 flags)
{
	return bound_index((__u32)proto << 3 | (flags & 7), CTCTL_GC_CLASSES);
}

static __always_inline bool is_stopped(struct ctctl_gc_ctl *ctl)
{
	return *(volatile __u32 *)&ctl->stop;
}

/* Lifetime as it is now: packets write it while we look. */
static __always_inline bool is_expired(const struct ct_entry *entry, __u32 now)
{
	return *(const volatile __u32 *)&entry->lifetime < now;
}

/* ---- one body for both families --------------------------------------------- */

union tuple {
	struct ipv4_ct_tuple v4;
	struct ipv6_ct_tuple v6;
} __attribute__((aligned(8)));

#define SLOT(_six, _p, _field)  AT(_six, ctctl_gc_slot4, ctctl_gc_slot6, _p, _field)
#define LOG(_six, _p, _field)   AT(_six, ctctl_gc_log4, ctctl_gc_log6, _p, _field)

static __always_inline void tuple_copy(void *to, const void *from, const bool six)
{
	if (six)
		__builtin_memcpy(to, from, sizeof(struct ipv6_ct_tuple));
	else
		__builtin_memcpy(to, from, sizeof(struct ipv4_ct_tuple));
}

static __always_inline void *nat_table(const bool six)
{
	return six ? (void *)&ctctl_gc_nat6 : (void *)&ctctl_gc_nat4;
}

static __always_inline void *ct_table(const bool six)
{
	return six ? (void *)&ctctl_gc_ct6 : (void *)&ctctl_gc_ct4;
}

/* ---- to collect one entry ---------------------------------------------------- */

/* As the kernel's helper; counts what is refused. */
static __always_inline long delete_from(struct run *run, void *table, const union tuple *key)
{
	long failed = bpf_map_delete_elem(table, key);

	if (failed && was_refused(failed))
		run->ctl->nr_refused++;
	return failed;
}

/* Deletes the SNAT entry of a deleted OUT entry, and its reverse; how many went. */
static __always_inline __u8 delete_nat(struct run *run, const union tuple *ct, bool dsr, const bool six)
{
	void *table = nat_table(six), *nat;
	union tuple key, reverse;

	snatpair_key(&key, ct, dsr, six);
	nat = bpf_map_lookup_elem(table, &key);
	if (!nat)
		return 0;
	snatpair_reverse(&reverse, &key, nat, six);
	if (delete_from(run, table, &key))
		return 0;
	return dsr || delete_from(run, table, &reverse) ? 1 : 2;
}

/* Deletes KEY's entry if it is expired now, its SNAT pair with it. */
static __always_inline enum ctctl_gc_status collect(struct run *run, const union tuple *key, const bool six)
{
	struct ct_entry *entry = bpf_map_lookup_elem(ct_table(six), key);
	long failed;
	bool dsr;

	if (!entry)
		return GC_GONE;
	if (cfg_gc_recheck && !is_expired(entry, run->now))
		return GC_REFRESHED;
	dsr = entry->flags & CT_DSR_INTERNAL;
	failed = delete_from(run, ct_table(six), key);
	if (failed)
		return was_refused(failed) ? GC_STAYED : GC_GONE;
	run->ctl->nr_deleted++;
	if (cfg_gc_nat && tuple_flags(key, six) == TUPLE_OUT)
		run->ctl->nr_nat_deleted += delete_nat(run, key, dsr, six);
	return GC_DELETED;
}

/* Records KEY's entry, if it is expired, in LOG. */
static __always_inline enum ctctl_gc_status find(struct run *run, const union tuple *key, void *log, const bool six)
{
	struct ct_entry *entry = bpf_map_lookup_elem(ct_table(six), key);

	if (!entry)
		return GC_GONE;
	*(struct ct_entry *)LOG(six, log, entry) = *entry;
	if (!is_expired(LOG(six, log, entry), run->now))
		return GC_REFRESHED;
	tuple_copy(LOG(six, log, key), key, six);
	run->ctl->nr_found++;
	return GC_FOUND;
}

/* What every pass starts with; false where there is nothing to tell it what to do. */
static __always_inline bool run_begin(struct run *run)
{
	run->ctl = bpf_map_lookup_elem(&ctctl_gc_ctl, &first_element);
	if (!run->ctl)
		return false;
	run->now = run->ctl->now;
	return true;
}

/* ---- the kernel engine ----------------------------------------------------- */

/* Left in place: CLASS of it is counted in COUNTS. */
static __always_inline long pass_over(struct run *run, __u64 *counts, __u32 class)
{
	counts[class]++;
	run->ctl->passed++;
	return GO_ON;
}

static __always_inline long walk(struct run *run, const void *key, const struct ct_entry *entry, const bool six)
{
	__u32 class = class_of(tuple_proto(key, six), tuple_flags(key, six));
	struct ctctl_gc_ctl *ctl = run->ctl;
	enum ctctl_gc_status status;
	union tuple tuple;
	__u32 slot;
	void *log;

	if (!run->left || is_stopped(ctl))
		return END;
	if (run->skip) {
		run->skip--;
		ctl->passed++;
		return GO_ON;
	}
	if (!is_expired(entry, run->now))
		return pass_over(run, ctl->alive, class);
	if (cfg_gc_dry_run)
		return pass_over(run, ctl->skipped, class);
	tuple_copy(&tuple, key, six);
	class = class_of(tuple_proto(&tuple, six), tuple_flags(&tuple, six));
	if (cfg_gc_log) {
		slot = ctl->nr_found;
		log = six ? bpf_map_lookup_elem(&ctctl_gc_log6, &slot) : bpf_map_lookup_elem(&ctctl_gc_log4, &slot);
		if (!log)
			return END; /* full: the caller reads it and comes back */
		status = find(run, &tuple, log, six);
	} else {
		status = collect(run, &tuple, six);
	}
	switch (status) {
	case GC_DELETED:
		ctl->deleted[class]++;
		run->left--;
		return GO_ON;
	case GC_FOUND:
		run->left--;
		return GO_ON;
	case GC_REFRESHED:
		return pass_over(run, ctl->alive, class);
	case GC_STAYED:
		return pass_over(run, ctl->skipped, class);
	default:
		/* Evicted or deleted by somebody else: not ours to count as deleted. */
		ctl->skipped[class]++;
		return GO_ON;
	}
}

static long walk4(struct bpf_map *map __attribute__((unused)), struct ipv4_ct_tuple *key,
		  struct ct_entry *entry, struct run *run)
{
	return walk(run, key, entry, false);
}

static long walk6(struct bpf_map *map __attribute__((unused)), struct ipv6_ct_tuple *key,
		  struct ct_entry *entry, struct run *run)
{
	return walk(run, key, entry, true);
}

static __always_inline int walk_table(void *table, void *callback)
{
	struct run run = {};

	if (!run_begin(&run))
		return -1;
	run.left = run.ctl->budget;
	run.skip = run.ctl->skip;
	return bpf_for_each_map_elem(table, callback, &run, 0) < 0;
}

SEC("syscall")
int gc_walk4(void *ctx __attribute__((unused)))
{
	return walk_table(&ctctl_gc_ct4, walk4);
}

SEC("syscall")
int gc_walk6(void *ctx __attribute__((unused)))
{
	return walk_table(&ctctl_gc_ct6, walk6);
}

/* ---- the batch engine's re-check ------------------------------------------- */

static __always_inline long check(struct run *run, __u32 index, void *slot, const bool six)
{
	union tuple key;

	if (index >= run->left)
		return END;
	tuple_copy(&key, SLOT(six, slot, key), six);
	*(__u8 *)SLOT(six, slot, status) = collect(run, &key, six);
	return GO_ON;
}

static long check4(struct bpf_map *map __attribute__((unused)), __u32 *index, struct ctctl_gc_slot4 *slot,
		   struct run *run)
{
	return check(run, *index, slot, false);
}

static long check6(struct bpf_map *map __attribute__((unused)), __u32 *index, struct ctctl_gc_slot6 *slot,
		   struct run *run)
{
	return check(run, *index, slot, true);
}

static __always_inline int check_slots(void *slots, void *callback)
{
	struct run run = {};

	if (!run_begin(&run))
		return -1;
	run.left = run.ctl->nr_slots;
	return bpf_for_each_map_elem(slots, callback, &run, 0) < 0;
}

SEC("syscall")
int gc_check4(void *ctx __attribute__((unused)))
{
	return check_slots(&ctctl_gc_slots4, check4);
}

SEC("syscall")
int gc_check6(void *ctx __attribute__((unused)))
{
	return check_slots(&ctctl_gc_slots6, check6);
}

char _license[] SEC("license") = "Dual BSD/GPL";
