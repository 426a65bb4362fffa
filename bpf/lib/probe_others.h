/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe_others.h - packets of other flows, which most are, told with one read
 * of their headers, and one or two more of what is in a tunnel.
 *
 * What says "others" is sure of it; anything else is read as a whole after it.
 */
#ifndef CTCTL_PROBE_OTHERS_H
#define CTCTL_PROBE_OTHERS_H

#include "probe.h"

#define PROBE_OWN 8

volatile const __u8 cfg_nat = 0;        /* 1: there is a SNAT table to look into */
volatile const __u8 cfg_nat6 = 0;       /* the same of IPv6 */

/* Addresses that SNAT may give a packet: the namespace's own; the first one 0: any. */
volatile const __be32 cfg_own[PROBE_OWN] = {};
volatile const __u32 cfg_own6[PROBE_OWN][4] = {};

struct head4 {
	struct iphdr ip;
	__be16 ports[2];
};

struct head6 {
	struct probe_ipv6 ip;
	__be16 ports[2];
};

/* A tunnel's header without options, and the inner frame as far as IPv4's ports. */
struct head_tunnel {
	__u16  pad;                     /* aligns the inner packet */
	__u8   tunnel[8];
	__u8   macs[12];
	__be16 ethertype;
	struct head4 inner;
};

#define HEAD_TUNNEL offsetof(struct head_tunnel, tunnel)
#define HEAD_MACS offsetof(struct head_tunnel, macs)
#define HEAD_INNER (offsetof(struct head_tunnel, inner) - HEAD_TUNNEL)

enum whose {
	WHOSE_ANYBODY = 0,              /* may be the flow's */
	WHOSE_OTHERS = 1,
	WHOSE_IN_VXLAN = 2,             /* the packet in it decides */
	WHOSE_IN_GENEVE = 3,
	WHOSE_INNER6 = 4,               /* and more: 4 and where the packet in it starts */
};

static __always_inline enum whose whose_tunnel(__u8 proto, __be16 dport)
{
	if (proto != IPPROTO_UDP)
		return WHOSE_ANYBODY;
	if (dport == bpf_htons(6081))
		return WHOSE_IN_GENEVE;
	return dport == bpf_htons(8472) || dport == bpf_htons(4789) ? WHOSE_IN_VXLAN : WHOSE_ANYBODY;
}

static __always_inline bool v4_end(const struct ctctl_probe_ctl *ctl, int end, __be32 addr)
{
	return (addr & word_of(ctl->mask[end])) == word_of(ctl->addr[end]);
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
	bool found = !cfg_own[0];

	for (int at = 0; at < PROBE_OWN; at++)
		found |= addr == cfg_own[at];
	return found;
}

static __always_inline enum whose
whose4(const struct ctctl_probe_ctl *ctl, const struct head4 *at, bool outer)
{
	const struct iphdr *ip = &at->ip;
	bool ported = has_ports(ip->protocol) && !(ip->frag_off & IP_OFFSET);
	__be16 sport = ported ? at->ports[0] : 0, dport = ported ? at->ports[1] : 0;
	int ends = 0, given = 0;

	if (ip->version != 4 || ip->ihl != 5)
		return WHOSE_ANYBODY;
	if (outer && whose_tunnel(ip->protocol, dport))
		return ip->frag_off & (IP_OFFSET | IP_MF) ? WHOSE_ANYBODY : whose_tunnel(ip->protocol, dport);
	if (ctl->family != 6) {
		for (int end = 0; end < 2; end++) {
			ends |= (v4_end(ctl, end, ip->saddr) | v4_end(ctl, end, ip->daddr) << 2) << end;
			given |= (word_of(ctl->mask[end]) ? SADDR_FIRST | DADDR_FIRST : 0) << end;
		}
		if (are_asked(ends, ports_asked(ctl, ip->protocol, sport, dport)))
			return WHOSE_ANYBODY;
		/* The other one may be what SNAT made of the flow's. */
		ends &= given;
		if (cfg_nat && ends && ((ends & 3 && is_own(ip->daddr)) || (ends & 12 && is_own(ip->saddr))))
			return WHOSE_ANYBODY;
	}
	return is_followed(ctl, ip->saddr ^ ip->daddr, sport ^ dport) ? WHOSE_ANYBODY : WHOSE_OTHERS;
}

static __noinline enum whose read_whose4(struct __sk_buff *skb, const struct ctctl_probe_ctl *ctl)
{
	struct head4 at;

	if (PROBE_READ(skb, 0, &at, sizeof(at)))
		return WHOSE_ANYBODY;
	return whose4(ctl, &at, true);
}

/* ---- IPv6 ---- */

static __always_inline bool is_own6(const __u8 *addr)
{
	bool found = !(cfg_own6[0][0] | cfg_own6[0][1] | cfg_own6[0][2] | cfg_own6[0][3]);

	for (int at = 0; at < PROBE_OWN; at++)
		found |= word_of(addr + 12) == cfg_own6[at][3] && word_of(addr) == cfg_own6[at][0];
	return found;
}

static __noinline enum whose read_whose6(struct __sk_buff *skb, const struct ctctl_probe_ctl *ctl, __u32 off)
{
	int ends = 0, given = 0;
	__be16 sport, dport;
	__u32 addresses = 0;
	struct head6 at;
	bool ported;

	if (PROBE_READ(skb, off, &at, sizeof(at)))
		return WHOSE_ANYBODY;
	/* Of what has extension headers, L4 is further on. */
	if (at.ip.nexthdr == 0 || at.ip.nexthdr == 43 || at.ip.nexthdr == 44 || at.ip.nexthdr == 60)
		return WHOSE_ANYBODY;
	ported = has_ports(at.ip.nexthdr);
	sport = ported ? at.ports[0] : 0;
	dport = ported ? at.ports[1] : 0;
	if (!off && whose_tunnel(at.ip.nexthdr, dport))
		return whose_tunnel(at.ip.nexthdr, dport);
	if (ctl->family != 4) {
		for (int end = 0; end < 2; end++) {
			ends |= (v6_end(ctl, end, at.ip.saddr) | v6_end(ctl, end, at.ip.daddr) << 2) << end;
			given |= (word_of(ctl->mask[end]) | word_of(ctl->mask[end] + 12) ? SADDR_FIRST | DADDR_FIRST : 0) << end;
		}
		if (are_asked(ends, ports_asked(ctl, at.ip.nexthdr, sport, dport)))
			return WHOSE_ANYBODY;
		ends &= given;
		if (cfg_nat6 && ends && ((ends & 3 && is_own6(at.ip.daddr)) || (ends & 12 && is_own6(at.ip.saddr))))
			return WHOSE_ANYBODY;
	}
	for (int word = 0; word < 16; word += 4)
		addresses ^= word_of(at.ip.saddr + word) ^ word_of(at.ip.daddr + word);
	return is_followed(ctl, addresses, sport ^ dport) ? WHOSE_ANYBODY : WHOSE_OTHERS;
}

/* ---- tunnels ---- */

/* Of the packet in the tunnel whose header is at OFF; of an IPv6 one, where it starts. */
static __noinline __u32 read_whose_inner(struct __sk_buff *skb, const struct ctctl_probe_ctl *ctl, __u32 off, enum whose in)
{
	struct head_tunnel at;
	__u32 options = 0;

	if (PROBE_READ(skb, off, at.tunnel, sizeof(at) - HEAD_TUNNEL))
		return WHOSE_ANYBODY;
	if (in == WHOSE_IN_VXLAN) {
		if (!(at.tunnel[0] & 0x08))
			return WHOSE_ANYBODY;
	} else {
		if (at.tunnel[2] != 0x65 || at.tunnel[3] != 0x58)
			return WHOSE_ANYBODY;
		options = (at.tunnel[0] & 0x3f) * 4;
		if (options && PROBE_READ(skb, off + options + sizeof(at.tunnel), at.macs, sizeof(at) - HEAD_MACS))
			return WHOSE_ANYBODY;
	}
	if (at.ethertype == bpf_htons(ETH_P_IP))
		return whose4(ctl, &at.inner, false);
	return at.ethertype == bpf_htons(ETH_P_IPV6) ? WHOSE_INNER6 + off + options + HEAD_INNER : WHOSE_ANYBODY;
}

static __always_inline bool is_others(struct __sk_buff *skb, const struct ctctl_probe_ctl *ctl)
{
	bool six = skb->protocol == bpf_htons(ETH_P_IPV6);
	__u32 whose;

	if (!ctl->filter || (!six && skb->protocol != bpf_htons(ETH_P_IP)))
		return false;
	whose = six ? read_whose6(skb, ctl, 0) : read_whose4(skb, ctl);
	if (whose <= WHOSE_OTHERS)
		return whose;
	whose = read_whose_inner(skb, ctl, (six ? sizeof(struct probe_ipv6) : sizeof(struct iphdr)) + 8, whose);
	if (whose > WHOSE_INNER6)
		whose = read_whose6(skb, ctl, whose - WHOSE_INNER6);
	return whose == WHOSE_OTHERS;
}

#endif /* CTCTL_PROBE_OTHERS_H */
