/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe_others.h - packets of other flows, which most are, told by their
 * headers where they lie: a helper would take longer than all the rest.
 *
 * What says "others" is sure of it; anything else is read as a whole after it.
 */
#ifndef CTCTL_PROBE_OTHERS_H
#define CTCTL_PROBE_OTHERS_H

#include "bound.h"
#include "probe.h"

#define PROBE_OWN 8

volatile const __u8 cfg_nat = 0;        /* 1: there is a SNAT table to look into */
volatile const __u8 cfg_nat6 = 0;       /* the same of IPv6 */

/* Addresses that SNAT may give a packet: the namespace's own; the first one 0: any. */
volatile const __be32 cfg_own[PROBE_OWN] = {};
volatile const __u32 cfg_own6[PROBE_OWN][4] = {};

#define PROBE_RAW 8

/* An inner packet starts in less than this: behind two Ethernet headers, IPv6, UDP, and Geneve with all its options. */
#define HEADERS 512

/* Devices whose packets start with the IP header: there everything is read as a whole. */
volatile const __u32 cfg_raw[PROBE_RAW] = {};

struct head4 {
	struct iphdr ip;
	__be16 ports[2];
};

struct head6 {
	struct probe_ipv6 ip;
	__be16 ports[2];
};

enum whose {
	WHOSE_ANYBODY = 0,              /* may be the flow's */
	WHOSE_OTHERS = 1,
	WHOSE_IN_VXLAN = 2,             /* the packet in it decides */
	WHOSE_IN_GENEVE = 3,
};

static __always_inline enum whose whose_tunnel(__u8 proto, __be16 dport)
{
	if (proto != IPPROTO_UDP)
		return WHOSE_ANYBODY;
	if (dport == bpf_htons(6081))
		return WHOSE_IN_GENEVE;
	return dport == bpf_htons(8472) || dport == bpf_htons(4789) ? WHOSE_IN_VXLAN : WHOSE_ANYBODY;
}

/* The top bit: whether a word is 0. Without a branch, of which the verifier would go both ways. */
static __always_inline __u32 if_zero(__u32 word)
{
	return (word - 1) & ~word;
}

static __always_inline __u32 v4_end(const struct ctctl_probe_ctl *ctl, int end, __be32 addr)
{
	return if_zero((addr & word_of(ctl->mask[end])) ^ word_of(ctl->addr[end])) >> 31;
}

/* The last words first: there most differ. */
static __always_inline bool v6_end(const struct ctctl_probe_ctl *ctl, int end, const __u8 *addr)
{
	for (int at = 12; at >= 0; at -= 4) {
		if ((word_of(addr + at) & word_of(ctl->mask[end] + at)) != word_of(ctl->addr[end] + at))
			return false;
	}
	return true;
}

/* Which way round the ports are the flow's: bit 0 as they are, bit 1 turned. What
 * has none may be an error about the flow, of any port. */
static __always_inline int ports_asked(const struct ctctl_probe_ctl *ctl, __u8 proto, __be16 sport, __be16 dport)
{
	__be16 first = ctl->port[0], second = ctl->port[1];

	if (!has_ports(proto))
		return 3;
	if (ctl->proto && ctl->proto != proto)
		return 0;
	return ((!first || first == sport) && (!second || second == dport)) |
	       ((!first || first == dport) && (!second || second == sport)) << 1;
}

static __always_inline bool is_followed(const struct ctctl_probe_ctl *ctl, __u32 addresses, __be16 ports)
{
	__u32 slot = probe_slot(addresses, ports);
	__u8 *followed;

	if (!ctl->following)
		return false;
	followed = bpf_map_lookup_elem(&ctctl_probe_slots, &slot);
	return !followed || *followed;
}

/* Of a packet's addresses, which is which end of the flow's. */
enum ends {
	SADDR_FIRST = 1,
	SADDR_SECOND = 2,
	DADDR_FIRST = 4,
	DADDR_SECOND = 8,
};

/* Whether they are both the flow's, where ports_asked is ASKED. */
static __always_inline bool are_asked(int ends, int asked)
{
	return ((asked & 1) && (ends & (SADDR_FIRST | DADDR_SECOND)) == (SADDR_FIRST | DADDR_SECOND)) ||
	       ((asked & 2) && (ends & (DADDR_FIRST | SADDR_SECOND)) == (DADDR_FIRST | SADDR_SECOND));
}

/* ---- IPv4 ---- */

static __always_inline bool is_own(__be32 addr)
{
	__u32 found = if_zero(cfg_own[0]);

	for (int at = 0; at < PROBE_OWN; at++)
		found |= if_zero(addr ^ cfg_own[at]);
	return found >> 31;
}

__noinline int whose4(struct __sk_buff *skb, __u32 off)
{
	const struct head4 *at = (const void *)(long)skb->data + bound_index(off, HEADERS);
	int ends = 0, given = 0;
	__be16 sport = 0, dport = 0;
	struct ctctl_probe_ctl *ctl;
	const struct iphdr *ip;
	__u32 zero = 0;

	ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	if (!ctl || (const void *)(at + 1) > (const void *)(long)skb->data_end)
		return WHOSE_ANYBODY;
	ip = &at->ip;
	if (has_ports(ip->protocol) && !(ip->frag_off & IP_OFFSET)) {
		sport = at->ports[0];
		dport = at->ports[1];
	}
	if (ip->version != 4 || ip->ihl != 5)
		return WHOSE_ANYBODY;
	if (ctl->family != 6) {
		for (int end = 0; end < 2; end++)
			ends |= (v4_end(ctl, end, ip->saddr) | v4_end(ctl, end, ip->daddr) << 2) << end;
	}
	/* Most packets have neither of its addresses. */
	if (ends) {
		for (int end = 0; end < 2; end++)
			given |= (word_of(ctl->mask[end]) ? SADDR_FIRST | DADDR_FIRST : 0) << end;
		if (are_asked(ends, ports_asked(ctl, ip->protocol, sport, dport)))
			return WHOSE_ANYBODY;
		/* The other one may be what SNAT made of the flow's. */
		ends &= given;
		if (cfg_nat && ends && ((ends & 3 && is_own(ip->daddr)) || (ends & 12 && is_own(ip->saddr))))
			return WHOSE_ANYBODY;
	}
	return is_followed(ctl, ip->saddr ^ ip->daddr, sport ^ dport) ? WHOSE_ANYBODY : WHOSE_OTHERS;
}

/* ---- IPv6 ---- */

static __always_inline bool is_own6(const __u8 *addr)
{
	__u32 found = if_zero(cfg_own6[0][0] | cfg_own6[0][1] | cfg_own6[0][2] | cfg_own6[0][3]);

	for (int at = 0; at < PROBE_OWN; at++)
		found |= if_zero((word_of(addr + 12) ^ cfg_own6[at][3]) | (word_of(addr) ^ cfg_own6[at][0]));
	return found >> 31;
}

__noinline int whose6(struct __sk_buff *skb, __u32 off)
{
	const struct head6 *at = (const void *)(long)skb->data + bound_index(off, HEADERS);
	int ends = 0, given = 0;
	__be16 sport = 0, dport = 0;
	struct ctctl_probe_ctl *ctl;
	const struct probe_ipv6 *ip;
	__u32 addresses = 0, zero = 0;

	ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	if (!ctl || (const void *)(at + 1) > (const void *)(long)skb->data_end)
		return WHOSE_ANYBODY;
	ip = &at->ip;
	if (has_ports(ip->nexthdr)) {
		sport = at->ports[0];
		dport = at->ports[1];
	}
	/* Of what has extension headers, L4 is further on. */
	if (ip->nexthdr == 0 || ip->nexthdr == 43 || ip->nexthdr == 44 || ip->nexthdr == 60)
		return WHOSE_ANYBODY;
	if (ctl->family != 4) {
		for (int end = 0; end < 2; end++)
			ends |= (v6_end(ctl, end, ip->saddr) | v6_end(ctl, end, ip->daddr) << 2) << end;
	}
	if (ends) {
		for (int end = 0; end < 2; end++)
			given |= (word_of(ctl->mask[end]) | word_of(ctl->mask[end] + 12) ? SADDR_FIRST | DADDR_FIRST : 0) << end;
		if (are_asked(ends, ports_asked(ctl, ip->nexthdr, sport, dport)))
			return WHOSE_ANYBODY;
		ends &= given;
		if (cfg_nat6 && ends && ((ends & 3 && is_own6(ip->daddr)) || (ends & 12 && is_own6(ip->saddr))))
			return WHOSE_ANYBODY;
	}
	for (int word = 0; word < 16; word += 4)
		addresses ^= word_of(ip->saddr + word) ^ word_of(ip->daddr + word);
	return is_followed(ctl, addresses, sport ^ dport) ? WHOSE_ANYBODY : WHOSE_OTHERS;
}

/* ---- frames ---- */

/* Of the packet behind the Ethernet header at OFF. */
static __always_inline int whose_packet(struct __sk_buff *skb, __u32 off, __be16 type)
{
	if (type == bpf_htons(ETH_P_IP))
		return whose4(skb, off + ETH_HLEN);
	return type == bpf_htons(ETH_P_IPV6) ? whose6(skb, off + ETH_HLEN) : WHOSE_ANYBODY;
}

/* Of what is in a tunnel: its header is at OFF, the inner frame behind Geneve's options. */
static __always_inline int whose_inner(struct __sk_buff *skb, __u32 off, int in)
{
	const __u8 *head = (const void *)(long)skb->data + off, *end = (const void *)(long)skb->data_end;
	const __u8 *frame = head + 8;

	if (frame > end)
		return WHOSE_ANYBODY;
	off += 8;
	if (in == WHOSE_IN_GENEVE) {
		__u32 options = bound_index(head[0], 64) * 4;

		if (head[2] != 0x65 || head[3] != 0x58)
			return WHOSE_ANYBODY;
		frame += options;
		off += options;
	} else if (!(head[0] & 0x08)) {
		return WHOSE_ANYBODY;
	}
	if (frame + ETH_HLEN > end)
		return WHOSE_ANYBODY;
	return whose_packet(skb, off, *(const __be16 *)(const void *)(frame + 12));
}

static __always_inline bool is_raw(__u32 ifindex)
{
	if (cfg_raw[0]) {
		for (int at = 0; at < PROBE_RAW; at++) {
			if (cfg_raw[at] == ifindex || cfg_raw[at] == ~0U)
				return true;
		}
	}
	return false;
}

/* Whether the frame is a tunnel's, and where that one's header is. Asked first: the outer packet is nobody's.
 * What is in pieces or has options is looked at as any other packet. */
static __always_inline enum whose whose_outer(struct __sk_buff *skb, bool six, __u32 *header)
{
	const void *at = (const void *)(long)skb->data + ETH_HLEN, *end = (const void *)(long)skb->data_end;

	if (six) {
		const struct head6 *head = at;

		if ((const void *)(head + 1) > end)
			return WHOSE_ANYBODY;
		*header = ETH_HLEN + sizeof(head->ip) + 8;
		return whose_tunnel(head->ip.nexthdr, head->ports[1]);
	} else {
		const struct head4 *head = at;

		if ((const void *)(head + 1) > end || head->ip.ihl != 5 || head->ip.frag_off & (IP_OFFSET | IP_MF))
			return WHOSE_ANYBODY;
		*header = ETH_HLEN + sizeof(head->ip) + 8;
		return whose_tunnel(head->ip.protocol, head->ports[1]);
	}
}

/* Whether a packet is surely of another flow. */
static __always_inline bool is_others(struct __sk_buff *skb)
{
	__u32 zero = 0, header = 0;
	struct ctctl_probe_ctl *ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	enum whose whose;

	if (!ctl || !ctl->filter || is_raw(skb->ifindex))
		return false;
	whose = whose_outer(skb, skb->protocol == bpf_htons(ETH_P_IPV6), &header);
	if (whose == WHOSE_IN_VXLAN || whose == WHOSE_IN_GENEVE)
		return whose_inner(skb, header, whose) == WHOSE_OTHERS;
	return whose_packet(skb, 0, skb->protocol) == WHOSE_OTHERS;
}

#endif /* CTCTL_PROBE_OTHERS_H */
