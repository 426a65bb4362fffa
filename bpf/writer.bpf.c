// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * writer.bpf.c - the deletions of everything that deletes, and the clock they go by.
 *
 * User space fills slots with entries as it read them. WRITER_PAIRS adds the SNAT
 * entries that belong to them; then all of it is written to a journal; then
 * WRITER_DELETE looks each key up again and deletes it only where the live entry is,
 * byte for byte, what the journal says. What was refreshed, reused or evicted since
 * stays, and its slot says so.
 *
 * Between compare and delete lie some instructions, without a lock: what a packet
 * writes exactly then is lost with the entry, as with the datapath's own collector.
 *
 * Run by BPF_PROG_RUN on the tables of any owner, which take the place of
 * ctctl_writer_ct4/6 and ctctl_writer_nat4/6 before loading.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#include "owntable.h"
#include "snatpair.h"

volatile const __u8 cfg_writer_nat = 0; /* there is an SNAT table */

STAND_IN(ctctl_writer_ct4, ipv4_ct_tuple, ct_entry);
STAND_IN(ctctl_writer_ct6, ipv6_ct_tuple, ct_entry);
STAND_IN(ctctl_writer_nat4, ipv4_ct_tuple, ipv4_nat_entry);
STAND_IN(ctctl_writer_nat6, ipv6_ct_tuple, ipv6_nat_entry);

SHARED(ctctl_writer_ctl, ctctl_writer_ctl);
SHARED(ctctl_writer_slots4, ctctl_writer_slot4);
SHARED(ctctl_writer_slots6, ctctl_writer_slot6);

struct run {
	__u32 phase;
	__u32 nr_slots;
};

#define CT_TABLE(_six)  ((_six) ? (void *)&ctctl_writer_ct6 : (void *)&ctctl_writer_ct4)
#define NAT_TABLE(_six) ((_six) ? (void *)&ctctl_writer_nat6 : (void *)&ctctl_writer_nat4)
#define SLOT(_six, _slot, _field) AT(_six, ctctl_writer_slot4, ctctl_writer_slot6, _slot, _field)

/* Whether two values of SIZE bytes, a multiple of 8, are the same; LIVE may change while we look. */
static __always_inline bool same(const void *live, const void *planned, const int size)
{
	const volatile __u64 *now = live;
	const __u64 *then = planned;
	__u64 differs = 0;

#pragma unroll
	for (int i = 0; i < size / 8; i++)
		differs |= now[i] ^ then[i];
	return !differs;
}

static __always_inline bool same_nat(const void *live, const void *planned, const bool six)
{
	return six ? same(live, planned, sizeof(struct ipv6_nat_entry)) : same(live, planned, sizeof(struct ipv4_nat_entry));
}

static __always_inline void copy_nat(void *to, const void *from, const bool six)
{
	if (six)
		*(struct ipv6_nat_entry *)to = *(const struct ipv6_nat_entry *)from;
	else
		*(struct ipv4_nat_entry *)to = *(const struct ipv4_nat_entry *)from;
}

/* The SNAT entries that go with the entry in SLOT, copied into it. */
static __always_inline __u8 find_pair(void *slot, const bool six)
{
	const struct ct_entry *entry = SLOT(six, slot, entry);
	void *forward = SLOT(six, slot, forward), *nat;
	bool dsr = entry->flags & CT_DSR_INTERNAL;

	if (!cfg_writer_nat || tuple_flags(SLOT(six, slot, key), six) != TUPLE_OUT)
		return 0;
	snatpair_key(SLOT(six, slot, forward_key), SLOT(six, slot, key), dsr, six);
	nat = bpf_map_lookup_elem(NAT_TABLE(six), SLOT(six, slot, forward_key));
	if (!nat)
		return 0;
	copy_nat(forward, nat, six);
	if (dsr)
		return PAIR_FORWARD;
	snatpair_reverse(SLOT(six, slot, reverse_key), SLOT(six, slot, forward_key), forward, six);
	nat = bpf_map_lookup_elem(NAT_TABLE(six), SLOT(six, slot, reverse_key));
	if (!nat)
		return PAIR_FORWARD;
	copy_nat(SLOT(six, slot, reverse), nat, six);
	return PAIR_FORWARD | PAIR_REVERSE;
}

/* What a delete answered, as the slot says it. */
static __always_inline enum ctctl_writer_status told(long failed)
{
	if (!failed)
		return WRITER_DELETED;
	return was_refused(failed) ? WRITER_STAYED : WRITER_GONE;
}

/* Deletes an SNAT entry that is as planned. */
static __always_inline enum ctctl_writer_status delete_nat(void *key, const void *planned, const bool six)
{
	void *nat = bpf_map_lookup_elem(NAT_TABLE(six), key);

	if (!nat)
		return WRITER_GONE;
	if (!same_nat(nat, planned, six))
		return WRITER_CHANGED;
	return told(bpf_map_delete_elem(NAT_TABLE(six), key));
}

/* The same for the side of a pair that BIT of *PAIR says was found, and *PAIR told what became of it. */
static __always_inline void
delete_side(__u8 *pair, enum ctctl_writer_pair bit, void *key, const void *planned, const bool six)
{
	enum ctctl_writer_status status;

	if (!(*pair & bit))
		return;
	status = delete_nat(key, planned, six);
	if (status == WRITER_DELETED)
		*pair |= bit << 2;
	else if (status == WRITER_STAYED)
		*pair |= bit << 4;
}

static __always_inline enum ctctl_writer_status delete_entry(void *slot, const bool six)
{
	void *key = SLOT(six, slot, key), *entry = bpf_map_lookup_elem(CT_TABLE(six), key);
	enum ctctl_writer_status status;
	__u8 *pair = SLOT(six, slot, pair);

	if (!entry)
		return WRITER_GONE;
	if (!same(entry, SLOT(six, slot, entry), sizeof(struct ct_entry)))
		return WRITER_CHANGED;
	status = told(bpf_map_delete_elem(CT_TABLE(six), key));
	if (status != WRITER_DELETED || !cfg_writer_nat)
		return status;
	delete_side(pair, PAIR_FORWARD, SLOT(six, slot, forward_key), SLOT(six, slot, forward), six);
	/* Half a pair would lead nowhere. */
	if (!(*pair & PAIR_FORWARD_STAYED))
		delete_side(pair, PAIR_REVERSE, SLOT(six, slot, reverse_key), SLOT(six, slot, reverse), six);
	return status;
}

/* Whether a conntrack entry stands behind the SNAT entry in SLOT. The datapath writes the
 * conntrack entry first and takes an SNAT entry that is there as it is: without this look,
 * one that is taken up again in this moment would go under a connection that lives. */
static __always_inline bool in_use(void *slot, const bool six)
{
	void *key = SLOT(six, slot, key), *forward = SLOT(six, slot, forward_key), *ct = SLOT(six, slot, reverse_key);

	if (tuple_flags(key, six) == TUPLE_OUT)
		snatpair_key(forward, key, false, six);
	else
		snatpair_forward(ct, key, SLOT(six, slot, forward), six), snatpair_key(forward, ct, false, six);
	if (bpf_map_lookup_elem(CT_TABLE(six), forward))
		return true;
	/* From the plain conntrack key to the DSR one: addresses back, ports exchanged. */
	snatpair_key(ct, forward, false, six);
	snatpair_key(forward, ct, true, six);
	return bpf_map_lookup_elem(CT_TABLE(six), forward);
}

static __always_inline long work(__u32 index, void *slot, const struct run *run, const bool six)
{
	__u8 *status = SLOT(six, slot, status), *pair = SLOT(six, slot, pair);

	if (index >= run->nr_slots)
		return END;
	switch (run->phase) {
	case WRITER_PAIRS:
		*pair = find_pair(slot, six);
		break;
	case WRITER_DELETE:
		*status = delete_entry(slot, six);
		break;
	case WRITER_DELETE_ORPHANS:
		if (in_use(slot, six)) {
			*status = WRITER_CHANGED;
			break;
		}
		/* fallthrough */
	case WRITER_DELETE_NAT:
		if (cfg_writer_nat)
			*status = delete_nat(SLOT(six, slot, key), SLOT(six, slot, forward), six);
		break;
	}
	return GO_ON;
}

static long work4(struct bpf_map *map __attribute__((unused)), __u32 *index, struct ctctl_writer_slot4 *slot,
		  struct run *run)
{
	return work(*index, slot, run, false);
}

static long work6(struct bpf_map *map __attribute__((unused)), __u32 *index, struct ctctl_writer_slot6 *slot,
		  struct run *run)
{
	return work(*index, slot, run, true);
}

static __always_inline int work_on(void *slots, void *callback)
{
	struct ctctl_writer_ctl *ctl = bpf_map_lookup_elem(&ctctl_writer_ctl, &first_element);
	struct run run = {};

	if (!ctl)
		return -1;
	run.phase = ctl->phase;
	run.nr_slots = ctl->nr_slots;
	return bpf_for_each_map_elem(slots, callback, &run, 0) < 0;
}

SEC("syscall")
int writer4(void *ctx __attribute__((unused)))
{
	return work_on(&ctctl_writer_slots4, work4);
}

SEC("syscall")
int writer6(void *ctx __attribute__((unused)))
{
	return work_on(&ctctl_writer_slots6, work6);
}

/* What the datapath's clocks say: user space may be in a time namespace. */
SEC("syscall")
int writer_clock(void *ctx __attribute__((unused)))
{
	struct ctctl_writer_ctl *ctl = bpf_map_lookup_elem(&ctctl_writer_ctl, &first_element);

	if (!ctl)
		return -1;
	ctl->ktime_ns = bpf_ktime_get_ns();
	ctl->jiffies = bpf_jiffies64();
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
