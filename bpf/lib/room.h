/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * room.h - where a hook builds up what is too large for the stack.
 *
 * IPv4's values fit on it; those of IPv6 do not, all 512 bytes of it are
 * shared by everything a hook calls. They are built up in a per-CPU element
 * instead: hooks of a CPU never run inside one another.
 */
#ifndef CTCTL_ROOM_H
#define CTCTL_ROOM_H

#include "maps.h"

/* A part of a hook whose locals are not needed by the next: with IPv6 it has
 * a stack frame of its own, which is given back. An object need not have every part. */
#if FAMILY == 4
#define STAGE static __always_inline
#else
#define STAGE static __noinline __attribute__((unused))
#endif

/* A part of a hook that the verifier goes through once, whatever came before it:
 * with IPv4 global, for there the packet is on the stack, where all that is known
 * of it is a state of its own. What it is given by pointer is "memory" in it, which
 * may be NULL, and which Linux 6.1 takes for neither key nor value of a map. */
#if FAMILY == 4
#define SEAM __noinline
#else
#define SEAM static __always_inline
#endif

#if FAMILY == 4

/* A zeroed TYPE that NAME points to; FIELD is where IPv6 has it. */
#define IN_ROOM(type, name, field)	\
	type field##_on_stack = {};	\
	type *name = &field##_on_stack

/* The same where P is at hand, the hook's packet. */
#define BESIDE(p, type, name, field) IN_ROOM(type, name, field)

#else

struct room {
	__u64 pkt[15];          /* struct pkt */
	struct ct_entry entry;
	nat_entry_t nat;
	nat_entry_t answer_nat;
	nat_entry_t forward_nat;
	__u64 change[5];        /* struct nat_change */
	__u64 result[3];        /* struct lb_result */
	__u64 geneve[6];        /* struct geneve_send */
	lb_key_t service;
	__u8  chunk[64];
	__u8  answer[64];
	__u8  pseudo[40];
	tuple_t related;
	tuple_t flow;
	tuple_t forward;
	tuple_t flows[4];       /* struct event_flows */
};

CTCTL_MAP(ctctl_room6, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct room, 1, 0);

static __always_inline struct room *room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ctctl_room6, &zero);
}

static __always_inline void *room_zeroed(void *at, const __u32 len)
{
	__builtin_memset(at, 0, len);
	return at;
}

#define IN_ROOM(type, name, field)		\
	struct room *field##_room = room();	\
	type *name = field##_room ? room_zeroed(&field##_room->field, sizeof(type)) : NULL;	\
	_Static_assert(sizeof(type) <= sizeof(((struct room *)0)->field), "room for " #field)

/* The packet is what the room starts with: nothing is to be looked up. */
#define BESIDE(p, type, name, field)									\
	type *name = room_zeroed((void *)(p) + offsetof(struct room, field), sizeof(type));		\
	_Static_assert(sizeof(type) <= sizeof(((struct room *)0)->field), "room for " #field);		\
	_Static_assert(offsetof(struct room, pkt) == 0, "the packet is what the room starts with")

#endif

#endif /* CTCTL_ROOM_H */
