/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe.h - what the probes share: which flow they follow, and the event.
 *
 * The probes belong to no datapath. They have maps of their own, and the two
 * conntrack tables of whoever owns the devices, which they only read.
 */
#ifndef CTCTL_PROBE_H
#define CTCTL_PROBE_H

#include <stddef.h>

#include "flow.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ctctl_probe_events SEC(".maps");

/* until_ns is not used: a probe listens as long as it is attached. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct ctctl_trace_ctl);
	__uint(max_entries, 1);
} ctctl_probe_ctl SEC(".maps");

/* Canonical tuples (the lower end first) of what a followed flow was translated to. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct ipv4_ct_tuple);
	__type(value, __u8);
	__uint(max_entries, 4096);
} ctctl_probe_follow SEC(".maps");

/* Events that found the ring buffer full. */
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

/* Address of the packet of the flow that a CPU has in its hands, 0: none. A
 * program may rewrite it: at its exit the tuple is no longer the flow's. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} ctctl_probe_current SEC(".maps");

/* Is the packet of the flow? An ICMP error is, if its addresses are. */
static __always_inline bool probe_wanted(const struct ipv4_ct_tuple *t, bool error)
{
	__u32 zero = 0;
	struct ctctl_trace_ctl *ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	struct ipv4_ct_tuple key;

	if (!ctl)
		return false;
	if (!ctl->filter)
		return true;
	if (flow_wanted(ctl, t, error))
		return true;
	tuple_canonical(&key, t);
	return bpf_map_lookup_elem(&ctctl_probe_follow, &key);
}

/* What decides whether a packet is of the flow. */
struct probe_packet {
	struct ipv4_ct_tuple tuple;     /* real orientation */
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 fragment;                  /* enum fragment */
};

static __always_inline bool probe_is_error(const struct probe_packet *p)
{
	return p->tuple.nexthdr == IPPROTO_ICMP && icmp_is_error(p->icmp_type);
}

/* Addresses, protocol, fragment. Returns where L4 starts, behind the IP header's
 * start; 0 for a later fragment, which has none. */
static __always_inline __u32 probe_ip(struct probe_packet *p, const struct iphdr *ip)
{
	p->tuple.saddr = ip->saddr;
	p->tuple.daddr = ip->daddr;
	p->tuple.nexthdr = ip->protocol;
	p->fragment = ip_fragment(ip->frag_off);
	return p->fragment == FRAGMENT_LATER ? 0 : ip->ihl * 4;
}

/* The first bytes of L4, as the protocol has them. */
union probe_l4 {
	struct {
		__be16 sport;
		__be16 dport;
		__u8   more[9];
		__u8   tcp_flags;
	};
	struct icmp_header icmp;
	__u8 bytes[20];
};

/* Ports and flags, as far as there are LEN bytes. */
static __always_inline void probe_l4(struct probe_packet *p, const union probe_l4 *l4, __u32 len)
{
	switch (p->tuple.nexthdr) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (len < offsetof(union probe_l4, more))
			return;
		p->tuple.sport = l4->sport;
		p->tuple.dport = l4->dport;
		if (p->tuple.nexthdr == IPPROTO_TCP && len > offsetof(union probe_l4, tcp_flags))
			p->tcp_flags = l4->tcp_flags;
		return;
	case IPPROTO_ICMP:
		if (len < sizeof(l4->icmp))
			return;
		p->icmp_type = l4->icmp.type;
		p->icmp_code = l4->icmp.code;
		if (l4->icmp.type == ICMP_ECHO)
			p->tuple.sport = l4->icmp.id;
		else if (l4->icmp.type == ICMP_ECHO_REPLY)
			p->tuple.dport = l4->icmp.id;
	}
}

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
	ev->tuple = p->tuple;
	ev->tcp_flags = p->tcp_flags;
	ev->icmp_type = p->icmp_type;
	ev->icmp_code = p->icmp_code;
	ev->fragment = p->fragment;
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
