/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - what every program knows of packets and flows, the datapath's and
 * the probes': headers' constants, tuples, and which flow a listener follows.
 * No maps in here: an object has those that it names.
 */
#ifndef CTCTL_FLOW_H
#define CTCTL_FLOW_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "family.h"

#define IP_MF bpf_htons(0x2000)
#define IP_DF bpf_htons(0x4000)
#define IP_OFFSET bpf_htons(0x1fff)

/* Of the 14th byte of a TCP header. */
enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

/* linux/icmp.h would bring in the C library's headers. */
struct icmp_header {
	__u8   type;
	__u8   code;
	__u16  checksum;
	__be16 id;              /* of echoes */
	__be16 mtu;             /* of "fragmentation needed" */
};

enum icmp_unreachable_code {
	ICMP_PORT_UNREACH = 3,
	ICMP_FRAG_NEEDED = 4,
};

/* About a packet of a flow, rather than a flow of its own. */
static __always_inline bool icmp_is_error(__u8 type)
{
#if FAMILY == 6
	if (type == ICMP_TOO_BIG)
		return true;
#endif
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAM_PROBLEM;
}

enum fragment {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1,
	FRAGMENT_LATER = 2,     /* no L4 header in it */
};

static __always_inline enum fragment ip_fragment(__be16 frag_off)
{
	if (frag_off & IP_OFFSET)
		return FRAGMENT_LATER;
	return frag_off & IP_MF ? FRAGMENT_FIRST : FRAGMENT_NONE;
}

/* ---- tuples ---- */

static __always_inline void tuple_reverse(tuple_t *t)
{
	addr_t addr = t->saddr;
	__be16 port = t->sport;

	t->saddr = t->daddr;
	t->daddr = addr;
	t->sport = t->dport;
	t->dport = port;
}

#if FAMILY == 4
/* One key for both directions: the lower end first. */
static __always_inline tuple_t tuple_canonical(const tuple_t *t)
{
	__u64 src = (__u64)bpf_ntohl(t->saddr) << 16 | bpf_ntohs(t->sport);
	__u64 dst = (__u64)bpf_ntohl(t->daddr) << 16 | bpf_ntohs(t->dport);
	tuple_t key = *t;

	key.flags = 0;
	if (dst < src)
		tuple_reverse(&key);
	return key;
}

/* ---- the flow that a listener asked for; tuples are in the packet's own orientation ---- */

static __always_inline bool
flow_end_wanted(const struct ctctl_trace_ctl *ctl, int end, __be32 addr, __be16 port, bool any_port)
{
	return (addr & ctl->mask[end]) == ctl->addr[end] && (any_port || !ctl->port[end] || port == ctl->port[end]);
}

/* An ICMP error is of interest to every flow between its two addresses. */
static __noinline bool flow_wanted(const struct ctctl_trace_ctl *ctl, const tuple_t *t, bool error)
{
	if (ctl->proto && ctl->proto != t->nexthdr && !error)
		return false;
	return (flow_end_wanted(ctl, 0, t->saddr, t->sport, error) &&
		flow_end_wanted(ctl, 1, t->daddr, t->dport, error)) ||
	       (flow_end_wanted(ctl, 0, t->daddr, t->dport, error) &&
		flow_end_wanted(ctl, 1, t->saddr, t->sport, error));
}
#endif

#endif /* CTCTL_FLOW_H */
