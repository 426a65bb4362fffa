/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe_packet.h - a packet as a probe reads it, with the one in a tunnel's.
 *
 * Who includes this defines PROBE_READ(ctx, off, to, len) before: 0 if LEN
 * bytes from OFF behind the start of the IP header are in TO.
 */
#ifndef CTCTL_PROBE_PACKET_H
#define CTCTL_PROBE_PACKET_H

#include <stddef.h>

/* The listener's flow in there is the datapath's, of one family. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunused-function"
#include "flow.h"
#pragma clang diagnostic pop

#define PROTO_ICMPV6 58
#define IPV6_HEADERS 4          /* extension headers that are passed over */

typedef __u32 __attribute__((may_alias)) probe_word;

/* A tuple of which words can be read: it has no alignment of its own. */
#define PROBE_TUPLE struct ipv6_ct_tuple __attribute__((aligned(8)))

/* What decides whether a packet is of the flow. */
struct probe_packet {
	PROBE_TUPLE tuple;              /* real orientation; IPv4 in the first 4 bytes */
	__u8   family;                  /* 4, 6; 0: neither */
	__u8   tcp_flags;
	__u8   icmp_type;
	__u8   icmp_code;
	__u8   fragment;                /* enum fragment */
	__u8   tunnel;                  /* enum ctctl_probe_tunnel */
	__u32  sign;                    /* of the packet, through every translation; never 0 */
	__u32  vni;
	__be32 outer_saddr;
	__be32 outer_daddr;
};

static __always_inline bool probe_is_error(const struct probe_packet *p)
{
	if (p->family == 6)
		return p->tuple.nexthdr == PROTO_ICMPV6 && p->icmp_type && p->icmp_type < 128;
	return p->tuple.nexthdr == IPPROTO_ICMP && icmp_is_error(p->icmp_type);
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

/* Of what is aligned to words: byte by byte it would take half of the stack. */
static __always_inline __u32 word_of(const __u8 *at)
{
	return *(const probe_word *)(const void *)at;
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

struct probe_ipv6 {
	__be32 flow;
	__be16 payload_len;
	__u8   nexthdr;
	__u8   hop_limit;
	__u8   saddr[16];
	__u8   daddr[16];
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
		if (p->tuple.nexthdr == IPPROTO_TCP && len > offsetof(union probe_l4, tcp_flags)) {
			p->tcp_flags = l4->tcp_flags;
			__builtin_memcpy(&p->sign, l4->more, sizeof(p->sign));
		} else if (p->tuple.nexthdr == IPPROTO_UDP) {
			/* A buffer is soon used again, and many datagrams have no number: their lengths differ. */
			p->sign += (__u32)l4->more[0] << 8 | l4->more[1];
		}
		return;
	case IPPROTO_ICMP:
	case PROTO_ICMPV6:
		if (len < sizeof(l4->icmp))
			return;
		p->icmp_type = l4->icmp.type;
		p->icmp_code = l4->icmp.code;
		p->sign += l4->icmp.mtu;        /* an echo's sequence number */
		if (l4->icmp.type == (p->family == 4 ? ICMP_ECHO : 128))
			p->tuple.sport = l4->icmp.id;
		else if (l4->icmp.type == (p->family == 4 ? ICMP_ECHO_REPLY : 129))
			p->tuple.dport = l4->icmp.id;
	}
}

static __always_inline void probe_read_l4(const void *ctx, struct probe_packet *p, __u32 off)
{
	union probe_l4 l4 = {};

	if (!PROBE_READ(ctx, off, &l4, sizeof(l4)))
		probe_l4(p, &l4, sizeof(l4));
	else if (!PROBE_READ(ctx, off, &l4, sizeof(l4.icmp)))
		probe_l4(p, &l4, sizeof(l4.icmp));
}

/* Where L4 starts; 0 for a later fragment, which has none, and for no packet. */
static __always_inline __u32 probe_ipv4(const void *ctx, struct probe_packet *p, __u32 off)
{
	struct iphdr ip;

	if (PROBE_READ(ctx, off, &ip, sizeof(ip)) || ip.version != 4)
		return 0;
	p->family = 4;
	__builtin_memcpy(p->tuple.saddr, &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(p->tuple.daddr, &ip.daddr, sizeof(ip.daddr));
	p->tuple.nexthdr = ip.protocol;
	p->sign = (__u32)ip.protocol << 24 | ip.id;
	p->fragment = ip_fragment(ip.frag_off);
	return p->fragment == FRAGMENT_LATER ? 0 : off + ip.ihl * 4;
}

static __always_inline __u32 probe_ipv6(const void *ctx, struct probe_packet *p, __u32 off)
{
	struct probe_ipv6 ip;
	__u8 next[8];

	if (PROBE_READ(ctx, off, &ip, sizeof(ip)))
		return 0;
	p->family = 6;
	__builtin_memcpy(p->tuple.saddr, ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(p->tuple.daddr, ip.daddr, sizeof(ip.daddr));
	p->tuple.nexthdr = ip.nexthdr;
	p->sign = ip.flow ^ ((__u32)ip.nexthdr << 24 | 1);
	off += sizeof(ip);
	for (int header = 0; header < IPV6_HEADERS; header++) {
		__u8 kind = p->tuple.nexthdr;

		if (kind != 0 && kind != 43 && kind != 44 && kind != 60)
			break;
		if (PROBE_READ(ctx, off, next, sizeof(next)))
			return 0;
		p->tuple.nexthdr = next[0];
		if (kind == 44) {
			/* The offset is in the upper 13 bits, the last one says that more follow. */
			p->fragment = next[2] || next[3] & 0xf8 ? FRAGMENT_LATER : next[3] & 1 ? FRAGMENT_FIRST : FRAGMENT_NONE;
			off += 8;
		} else {
			off += (next[1] + 1) * 8;
		}
		if (p->fragment == FRAGMENT_LATER)
			return 0;
	}
	return off;
}

/* The IP packet at OFF. False: it is none. */
static __noinline bool probe_parse(void *ctx, struct probe_packet *p, __u32 off, bool six)
{
	__u32 l4 = six ? probe_ipv6(ctx, p, off) : probe_ipv4(ctx, p, off);

	if (l4)
		probe_read_l4(ctx, p, l4);
	if (!p->sign)
		p->sign = 1;
	return p->family;
}

/* Where the inner frame of a tunnel's packet starts, 0 for any other. OFF is the
 * UDP header. The first four bytes of both kinds: flags, two reserved or a
 * protocol; of Geneve the length of the options in words. */
static __always_inline __u32 probe_tunnel(const void *ctx, struct probe_packet *p, __u32 off)
{
	__be16 port = p->tuple.dport;
	__u8 head[8];

	if (p->tuple.nexthdr != IPPROTO_UDP ||
	    (port != bpf_htons(8472) && port != bpf_htons(4789) && port != bpf_htons(6081)))
		return 0;
	if (PROBE_READ(ctx, off + 8, head, sizeof(head)))
		return 0;
	p->vni = (__u32)head[4] << 16 | (__u32)head[5] << 8 | head[6];
	if (port == bpf_htons(6081)) {
		if (head[2] != 0x65 || head[3] != 0x58)
			return 0;
		p->tunnel = PROBE_GENEVE;
		return off + 16 + (head[0] & 0x3f) * 4;
	}
	if (!(head[0] & 0x08))
		return 0;
	p->tunnel = PROBE_VXLAN;
	return off + 16;
}

/* The packet, of a tunnel's the inner one. The outer one's addresses are kept
 * where they are IPv4's; options in its header are no tunnel's. */
static __always_inline bool probe_read_packet(void *ctx, struct probe_packet *p, bool six)
{
	struct probe_packet inner = {};
	__u32 frame, vni;
	__be16 ethertype;
	__u8 tunnel;

	if (!probe_parse(ctx, p, 0, six))
		return false;
	if (p->fragment)
		return true;
	frame = probe_tunnel(ctx, p, six ? sizeof(struct probe_ipv6) : sizeof(struct iphdr));
	/* It has come in one only if there is a packet in it. */
	tunnel = p->tunnel;
	vni = p->vni;
	p->tunnel = PROBE_NO_TUNNEL;
	p->vni = 0;
	if (!frame || PROBE_READ(ctx, frame + 12, &ethertype, sizeof(ethertype)))
		return true;
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return true;
	if (!probe_parse(ctx, &inner, frame + ETH_HLEN, ethertype == bpf_htons(ETH_P_IPV6)))
		return true;
	inner.tunnel = tunnel;
	inner.vni = vni;
	if (!six) {
		inner.outer_saddr = word_of(p->tuple.saddr);
		inner.outer_daddr = word_of(p->tuple.daddr);
	}
	*p = inner;
	return true;
}

#endif /* CTCTL_PROBE_PACKET_H */
