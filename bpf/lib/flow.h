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

/* Whether the source is the higher end, by address and then by port, as numbers:
 * whoever fills the table of flows to follow puts them in the same order. */
static __always_inline bool tuple_is_reversed(const tuple_t *t)
{
	if (addr_equal(t->saddr, t->daddr))
		return bpf_ntohs(t->dport) < bpf_ntohs(t->sport);
	return addr_before(t->daddr, t->saddr);
}

/* One key for both directions: the lower end first. */
static __always_inline void tuple_canonical(tuple_t *key, const tuple_t *t)
{
	*key = *t;
	key->flags = 0;
	if (tuple_is_reversed(t))
		tuple_reverse(key);
}

/* ---- the flow that a listener asked for; tuples are in the packet's own orientation ---- */

/* ctctl_trace_ctl has room for either family. */
static __always_inline addr_t flow_addr(const __u8 *from)
{
	return *(const addr_t *)from;
}

static __always_inline bool
flow_end_wanted(const struct ctctl_trace_ctl *ctl, int end, addr_t addr, __be16 port, bool any_port)
{
	return addr_within(addr, flow_addr(ctl->addr[end]), flow_addr(ctl->mask[end])) &&
	       (any_port || !ctl->port[end] || port == ctl->port[end]);
}

static __always_inline bool flow_kind_wanted(const struct ctctl_trace_ctl *ctl, __u8 proto)
{
	if (ctl->family && ctl->family != ENDPOINT_FAMILY)
		return false;
	return !ctl->proto || ctl->proto == proto || (ctl->proto == IPPROTO_ICMP && proto == IPPROTO_ICMP_FAMILY);
}

/* An ICMP error is of interest to every flow between its two addresses. */
static __noinline __attribute__((unused)) bool
flow_wanted(const struct ctctl_trace_ctl *ctl, const tuple_t *t, bool error)
{
	if (!flow_kind_wanted(ctl, error && ctl->proto ? ctl->proto : t->nexthdr))
		return false;
	return (flow_end_wanted(ctl, 0, t->saddr, t->sport, error) &&
		flow_end_wanted(ctl, 1, t->daddr, t->dport, error)) ||
	       (flow_end_wanted(ctl, 0, t->daddr, t->dport, error) &&
		flow_end_wanted(ctl, 1, t->saddr, t->sport, error));
}

/* What a socket speaks to: it need not have an address or port of its own yet. */
static __always_inline bool
flow_target_wanted(const struct ctctl_trace_ctl *ctl, __u8 proto, addr_t addr, __be16 port)
{
	return flow_kind_wanted(ctl, proto) &&
	       (flow_end_wanted(ctl, 0, addr, port, false) || flow_end_wanted(ctl, 1, addr, port, false));
}

static __always_inline bool flow_source_wanted(const struct ctctl_trace_ctl *ctl, const tuple_t *t)
{
	return flow_kind_wanted(ctl, t->nexthdr) && (flow_end_wanted(ctl, 0, t->saddr, t->sport, false) ||
						     flow_end_wanted(ctl, 1, t->saddr, t->sport, false));
}

#endif /* CTCTL_FLOW_H */
