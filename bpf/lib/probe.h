/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe.h - what the probes share: which flow they follow, and the event.
 *
 * The probes belong to no datapath. They have maps of their own, and the
 * conntrack tables of whoever owns the devices, which they only read. One
 * program serves both families: what it does with most packets is to leave
 * them alone.
 */
#ifndef CTCTL_PROBE_H
#define CTCTL_PROBE_H

#include "probe_packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ctctl_probe_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct ctctl_probe_ctl);
	__uint(max_entries, 1);
} ctctl_probe_ctl SEC(".maps");

/* Canonical tuples (the lower end first, flags 0) of what a followed flow was translated to. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct ipv6_ct_tuple);
	__type(value, __u8);
	__uint(max_entries, 4096);
} ctctl_probe_follow SEC(".maps");

/* Of each followed tuple the element that probe_slot gives is 1: most packets of
 * other flows are told by it, before more is read of them than addresses and ports. */
#define PROBE_SLOT_BITS 14

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u8);
	__uint(max_entries, 1 << PROBE_SLOT_BITS);
} ctctl_probe_slots SEC(".maps");

/* Events that the ring buffer did not take: it was full, or its lock busy. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} ctctl_probe_lost SEC(".maps");

/* An event is too large for the stack. TC programs run with softirqs off, so
 * that no other probe of a kind can use a CPU's scratch in between. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ctctl_probe_event);
	__uint(max_entries, PROBE_FREED + 1);
} ctctl_probe_scratch SEC(".maps");

/* A program may rewrite the packet that a CPU has in its hands: at its exit,
 * and at the next device, the tuple is no longer the flow's. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ctctl_probe_current);
	__uint(max_entries, 1);
} ctctl_probe_current SEC(".maps");

/* ---- the flow ---- */

/* The same in both directions. ADDRESSES: all their words, exclusive-or; PORTS of
 * what has_ports, 0 of anything else (ctctl/trace/probe_follow.py). */
static __always_inline __u32 probe_slot(__u32 addresses, __be16 ports)
{
	return (addresses ^ ports) * 0x9e3779b1U >> (32 - PROBE_SLOT_BITS);
}

static __always_inline bool probe_within(const __u8 *addr, const __u8 *wanted, const __u8 *mask)
{
	__u32 differ = 0;

	for (int at = 0; at < 16; at += 4)
		differ |= (word_of(addr + at) & word_of(mask + at)) ^ word_of(wanted + at);
	return !differ;
}

static __always_inline bool
probe_end(const struct ctctl_probe_ctl *ctl, int end, const __u8 *addr, __be16 port, bool any_port)
{
	return (any_port || !ctl->port[end] || port == ctl->port[end]) &&
	       probe_within(addr, ctl->addr[end], ctl->mask[end]);
}

/* An ICMP error is of interest to every flow between its two addresses. */
static __noinline bool probe_asked(const struct ctctl_probe_ctl *ctl, const struct probe_packet *p)
{
	const struct ipv6_ct_tuple *t = &p->tuple;
	bool error = probe_is_error(p);

	if (ctl->family && ctl->family != p->family)
		return false;
	if (ctl->proto && ctl->proto != t->nexthdr && !error &&
	    !(ctl->proto == IPPROTO_ICMP && t->nexthdr == PROTO_ICMPV6))
		return false;
	return (probe_end(ctl, 0, t->saddr, t->sport, error) && probe_end(ctl, 1, t->daddr, t->dport, error)) ||
	       (probe_end(ctl, 0, t->daddr, t->dport, error) && probe_end(ctl, 1, t->saddr, t->sport, error));
}

/* One key for both directions: the lower end first, by address and then port.
 * Both tuples are aligned. */
static __noinline int probe_canonical(struct ipv6_ct_tuple *key, const struct ipv6_ct_tuple *t)
{
	const probe_word *dst = (const void *)t, *src = dst + 4;
	probe_word *to = (void *)key;
	bool swap;

	if (!key || !t)
		return 0;
	swap = bpf_ntohs(t->dport) < bpf_ntohs(t->sport);
	for (int at = 3; at >= 0; at--) {
		if (src[at] != dst[at])
			swap = bpf_ntohl(dst[at]) < bpf_ntohl(src[at]);
	}
	for (int at = 0; at < 4; at++) {
		to[at] = swap ? src[at] : dst[at];
		to[4 + at] = swap ? dst[at] : src[at];
	}
	to[8] = swap ? dst[8] >> 16 | dst[8] << 16 : dst[8];    /* the ports */
	key->nexthdr = t->nexthdr;
	key->flags = 0;
	return 0;
}

static __always_inline bool probe_wanted(const struct probe_packet *p)
{
	__u32 zero = 0;
	struct ctctl_probe_ctl *ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	PROBE_TUPLE key;

	if (!ctl)
		return false;
	if (!ctl->filter || probe_asked(ctl, p))
		return true;
	if (!ctl->following)
		return false;
	probe_canonical(&key, &p->tuple);
	return bpf_map_lookup_elem(&ctctl_probe_follow, &key);
}

static __always_inline void probe_follow(const struct probe_packet *p)
{
	__u32 zero = 0;
	struct ctctl_probe_ctl *ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	__u32 addresses = 0, slot;
	PROBE_TUPLE key;
	__u8 one = 1;

	/* Two CPUs may set it at once: to the same. */
	if (ctl)
		*(volatile __u8 *)&ctl->following = 1;
	probe_canonical(&key, &p->tuple);
	bpf_map_update_elem(&ctctl_probe_follow, &key, &one, BPF_ANY);
	for (int at = 0; at < 16; at += 4)
		addresses ^= word_of(key.saddr + at) ^ word_of(key.daddr + at);
	slot = probe_slot(addresses, has_ports(key.nexthdr) ? key.sport ^ key.dport : 0);
	bpf_map_update_elem(&ctctl_probe_slots, &slot, &one, BPF_ANY);
}

/* ---- the event ---- */

/* The event of a packet, in the scratch of its kind. NULL is for the verifier. */
static __always_inline struct ctctl_probe_event *
probe_begin(const struct probe_packet *p, enum ctctl_probe_kind kind)
{
	__u32 slot = kind;
	struct ctctl_probe_event *ev = bpf_map_lookup_elem(&ctctl_probe_scratch, &slot);

	if (!ev)
		return NULL;
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->time_ns = bpf_ktime_get_ns();
	ev->kind = kind;
	ev->cpu = bpf_get_smp_processor_id();
	ev->tuple = p->tuple;
	ev->family = p->family;
	ev->tcp_flags = p->tcp_flags;
	ev->icmp_type = p->icmp_type;
	ev->icmp_code = p->icmp_code;
	ev->fragment = p->fragment;
	ev->tunnel = p->tunnel;
	ev->vni = p->vni;
	ev->outer_saddr = p->outer_saddr;
	ev->outer_daddr = p->outer_daddr;
	return ev;
}

static __always_inline void probe_send(const struct ctctl_probe_event *ev)
{
	__u32 zero = 0;
	__u64 *lost;

	if (!bpf_ringbuf_output(&ctctl_probe_events, (void *)ev, sizeof(*ev), 0))
		return;
	lost = bpf_map_lookup_elem(&ctctl_probe_lost, &zero);
	if (lost)
		*lost += 1;
}

#endif /* CTCTL_PROBE_H */
