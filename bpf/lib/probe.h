/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe.h - what the probes share: which flow they follow, and the event.
 *
 * The probes belong to no datapath. They have maps of their own, and the two
 * conntrack tables of whoever owns the devices, which they only read.
 */
#ifndef CTCTL_PROBE_H
#define CTCTL_PROBE_H

#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ctctl/abi.h"

#define ETH_HLEN 14
#define P_ICMP 1
#define P_TCP 6
#define P_UDP 17
#define P_SCTP 132

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

/* Address of the packet of the flow that a CPU has in its hands, 0: none. A
 * program may rewrite it: at its exit the tuple is no longer the flow's. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} ctctl_probe_current SEC(".maps");

static __always_inline void probe_reverse(struct ipv4_ct_tuple *t)
{
	__be32 addr = t->saddr;
	__be16 port = t->sport;

	t->saddr = t->daddr;
	t->daddr = addr;
	t->sport = t->dport;
	t->dport = port;
}

static __always_inline bool
probe_end(const struct ctctl_trace_ctl *ctl, int end, __be32 addr, __be16 port, bool any_port)
{
	return (addr & ctl->mask[end]) == ctl->addr[end] && (any_port || !ctl->port[end] || port == ctl->port[end]);
}

/* Is the packet of the flow? An ICMP error is, if its addresses are. */
static __always_inline bool probe_wanted(const struct ipv4_ct_tuple *t, bool error)
{
	__u32 zero = 0;
	struct ctctl_trace_ctl *ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	struct ipv4_ct_tuple key = *t;

	if (!ctl)
		return false;
	if (!ctl->filter)
		return true;
	if ((!ctl->proto || ctl->proto == t->nexthdr || error) &&
	    ((probe_end(ctl, 0, t->saddr, t->sport, error) && probe_end(ctl, 1, t->daddr, t->dport, error)) ||
	     (probe_end(ctl, 0, t->daddr, t->dport, error) && probe_end(ctl, 1, t->saddr, t->sport, error))))
		return true;
	if (((__u64)bpf_ntohl(t->daddr) << 16 | bpf_ntohs(t->dport)) <
	    ((__u64)bpf_ntohl(t->saddr) << 16 | bpf_ntohs(t->sport)))
		probe_reverse(&key);
	return bpf_map_lookup_elem(&ctctl_probe_follow, &key);
}

/* What decides whether a packet is of the flow. */
struct probe_packet {
	struct ipv4_ct_tuple tuple;     /* real orientation */
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 fragment;
};

static __always_inline bool probe_is_error(const struct probe_packet *p)
{
	return p->tuple.nexthdr == P_ICMP && (p->icmp_type == 3 || p->icmp_type == 11 || p->icmp_type == 12);
}

/* Ports and flags from the first bytes of L4, as many as there are. */
static __always_inline void probe_l4(struct probe_packet *p, const __u8 *l4, __u32 len)
{
	switch (p->tuple.nexthdr) {
	case P_TCP:
	case P_UDP:
	case P_SCTP:
		if (len < 4)
			return;
		p->tuple.sport = *(const __be16 *)l4;
		p->tuple.dport = *(const __be16 *)(l4 + 2);
		if (p->tuple.nexthdr == P_TCP && len >= 14)
			p->tcp_flags = l4[13];
		return;
	case P_ICMP:
		if (len < 8)
			return;
		p->icmp_type = l4[0];
		p->icmp_code = l4[1];
		if (l4[0] == 8)
			p->tuple.sport = *(const __be16 *)(l4 + 4);
		else if (l4[0] == 0)
			p->tuple.dport = *(const __be16 *)(l4 + 4);
	}
}

static __always_inline void probe_begin(struct ctctl_probe_event *ev, const struct probe_packet *p, __u8 kind)
{
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->time_ns = bpf_ktime_get_ns();
	ev->kind = kind;
	ev->tuple = p->tuple;
	ev->tcp_flags = p->tcp_flags;
	ev->icmp_type = p->icmp_type;
	ev->icmp_code = p->icmp_code;
	ev->fragment = p->fragment;
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
