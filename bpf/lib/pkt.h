/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pkt.h - the packet in hand: headers read, ports found, fragments resolved.
 *
 * Functions return OK or -REASON (enum ctctl_reason). Whatever a helper does
 * to the packet, pointers into it are taken anew afterwards.
 */
#ifndef CTCTL_PKT_H
#define CTCTL_PKT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "flow.h"
#include "maps.h"

#define OK 0

struct pkt {
	struct ctctl_event *ev;         /* built up while somebody listens, else NULL */
	struct ctctl_lookup *rec;       /* the lookup of ev in progress, or NULL */
	__u64  now_ns;
	__u32  now;                     /* the second that lifetimes are counted in */
	__u32  len;                     /* whole frame, as it came */
	__u32  src_identity;
	__u32  redirect;                /* device the packet goes to, 0: the stack has it next */
	addr_t dsr_vip;                 /* of the DSR option */
	tuple_t t;         /* as loaded: source port in dport, destination port in sport */
	__be16 dsr_port;
	__be16 ip_id;
	__u16  l4_off;
	__u8   hook;                    /* enum ctctl_hook */
	__u8   action;                  /* TC_ACT_* unless dropped */
	__u8   tcp_flags;               /* 0 unless TCP; 0 of a later fragment */
	__u8   icmp_type;
	__u8   icmp_code;
	__u8   fragment;                /* enum fragment */
	bool   dsr;                     /* it came with the DSR option */
	__u8   nr_lookups;              /* of ev */
};

/* Pointers into the packet, read anew each time: the compiler may neither keep
 * one over a call that moves the packet, nor take it for the 32-bit number
 * that struct __sk_buff says it is. */
static __always_inline void *pkt_data(const struct __sk_buff *skb)
{
	void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(data) : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return data;
}

static __always_inline void *pkt_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(end) : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

/* Headers end before this, options and a tunnel's included. */
#define PKT_OFF_MASK 0x7ff

/* LEN bytes at OFF. The compiler must not compute the address twice: the
 * verifier knows only the checked register to be inside the packet. */
static __always_inline bool pkt_load(struct __sk_buff *skb, __u32 off, void *to, const __u32 len)
{
	void *from;

	off &= PKT_OFF_MASK;
	from = pkt_data(skb) + off;
	asm volatile("" : "+r"(from));
	if (from + len <= pkt_end(skb)) {
		__builtin_memcpy(to, from, len);
		return true;
	}
	return !bpf_skb_load_bytes(skb, off, to, len);
}

static __always_inline bool pkt_store(struct __sk_buff *skb, __u32 off, const void *from, const __u32 len)
{
	void *to;

	off &= PKT_OFF_MASK;
	to = pkt_data(skb) + off;
	asm volatile("" : "+r"(to));
	if (to + len <= pkt_end(skb)) {
		__builtin_memcpy(to, from, len);
		return true;
	}
	return !bpf_skb_store_bytes(skb, off, from, len, 0);
}

/* The Ethernet type, network order; 0 for what is not Ethernet II. */
static __always_inline __be16 pkt_ethertype(struct __sk_buff *skb)
{
	struct ethhdr *eth = pkt_data(skb);

	if ((void *)(eth + 1) > pkt_end(skb))
		return 0;
	return bpf_ntohs(eth->h_proto) < ETH_P_802_3_MIN ? 0 : eth->h_proto;
}

static __always_inline struct iphdr *pkt_ip(struct __sk_buff *skb)
{
	struct iphdr *ip = pkt_data(skb) + ETH_HLEN;

	return (void *)(ip + 1) > pkt_end(skb) ? NULL : ip;
}

/* Addresses, protocol, where L4 starts. Version and length fields are not
 * looked at: the stack does that, before or after. */
static __always_inline int pkt_parse_ip(struct __sk_buff *skb, struct pkt *p)
{
	struct iphdr *ip = pkt_ip(skb);

	if (!ip) {
		if (bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*ip)))
			return -REASON_INVALID;
		ip = pkt_ip(skb);
		if (!ip)
			return -REASON_INVALID;
	}
	p->t.daddr = ip->daddr;
	p->t.saddr = ip->saddr;
	p->t.dport = 0;
	p->t.sport = 0;
	p->t.nexthdr = ip->protocol;
	p->t.flags = 0;
	p->l4_off = ETH_HLEN + ip->ihl * 4;
	p->fragment = ip_fragment(ip->frag_off);
	if (p->fragment)
		p->ip_id = ip->id;
	return OK;
}

/* Protocols with ports, which services can have. */
static __always_inline bool pkt_has_ports(const struct pkt *p)
{
	switch (p->t.nexthdr) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return true;
	case IPPROTO_SCTP:
		return cfg_sctp;
	}
	return false;
}

static __always_inline struct ipv4_frag_id pkt_fragment_id(const struct pkt *p)
{
	return (struct ipv4_frag_id){
		.daddr = p->t.daddr, .saddr = p->t.saddr, .id = p->ip_id, .proto = p->t.nexthdr,
	};
}

/* A later fragment has the ports of its first one, if that was seen. */
static __always_inline int pkt_fragment_ports(struct pkt *p)
{
	struct ipv4_frag_id id = pkt_fragment_id(p);
	struct ipv4_frag_l4ports *ports = bpf_map_lookup_elem(&cilium_ipv4_frag_datagrams, &id);

	if (!ports)
		return -REASON_FRAG_NOT_FOUND;
	p->t.dport = ports->sport;
	p->t.sport = ports->dport;
	return OK;
}

/* Failing to remember costs the later fragments, not this packet. */
static __always_inline void pkt_fragment_remember(const struct pkt *p)
{
	struct ipv4_frag_id id = pkt_fragment_id(p);
	struct ipv4_frag_l4ports ports = { .sport = p->t.dport, .dport = p->t.sport };

	bpf_map_update_elem(&cilium_ipv4_frag_datagrams, &id, &ports, BPF_ANY);
}

/* The port bytes go as they stand into dport, sport. Where fragments are not
 * tracked, a later one's payload is read as a header, as Cilium does. */
static __always_inline int pkt_parse_ports(struct __sk_buff *skb, struct pkt *p)
{
	struct ipv4_frag_l4ports ports;

	if (p->fragment == FRAGMENT_LATER && cfg_fragments)
		return pkt_fragment_ports(p);
	if (!pkt_load(skb, p->l4_off, &ports, sizeof(ports)))
		return -REASON_CT_INVALID_HDR;
	p->t.dport = ports.sport;
	p->t.sport = ports.dport;
	if (p->fragment == FRAGMENT_FIRST && cfg_fragments)
		pkt_fragment_remember(p);
	return OK;
}

/* Where a TCP header has its flags, whether this is one or a later fragment. */
static __always_inline bool pkt_load_tcp_flags(struct __sk_buff *skb, const struct pkt *p, __u8 *flags)
{
	__u8 word[2];

	if (!pkt_load(skb, p->l4_off + 12, word, sizeof(word)))
		return false;
	*flags = word[1];
	return true;
}

static __always_inline int pkt_parse_tcp_flags(struct __sk_buff *skb, struct pkt *p)
{
	if (p->t.nexthdr != IPPROTO_TCP || p->fragment == FRAGMENT_LATER)
		return OK;
	return pkt_load_tcp_flags(skb, p, &p->tcp_flags) ? OK : -REASON_CT_INVALID_HDR;
}

/* Echoes are told apart by their identifier; errors are related to a flow. */
static __always_inline int pkt_parse_icmp(struct __sk_buff *skb, struct pkt *p)
{
	__be16 identifier;

	if (!pkt_load(skb, p->l4_off, &p->icmp_type, sizeof(p->icmp_type)))
		return -REASON_CT_INVALID_HDR;
	if (p->ev)
		pkt_load(skb, p->l4_off + offsetof(struct icmp_header, code), &p->icmp_code, sizeof(p->icmp_code));
	switch (p->icmp_type) {
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAM_PROBLEM:
		p->t.flags = TUPLE_RELATED;
		return OK;
	case ICMP_ECHO:
	case ICMP_ECHO_REPLY:
		if (!pkt_load(skb, p->l4_off + offsetof(struct icmp_header, id), &identifier,
			      sizeof(identifier)))
			return -REASON_CT_INVALID_HDR;
		if (p->icmp_type == ICMP_ECHO)
			p->t.dport = identifier;
		else
			p->t.sport = identifier;
	}
	return OK;
}

/* Everything a conntrack lookup needs. */
static __always_inline int pkt_parse_l4(struct __sk_buff *skb, struct pkt *p)
{
	int ret;

	if (pkt_has_ports(p)) {
		ret = pkt_parse_ports(skb, p);
		if (ret || p->t.nexthdr != IPPROTO_TCP || (p->fragment == FRAGMENT_LATER && cfg_fragments))
			return ret;
		return pkt_load_tcp_flags(skb, p, &p->tcp_flags) ? OK : -REASON_CT_INVALID_HDR;
	}
	if (p->t.nexthdr == IPPROTO_ICMP)
		return pkt_parse_icmp(skb, p);
	return -REASON_CT_UNKNOWN_PROTO;
}

/* Does this packet have the L4 header that a translation would change? */
static __always_inline bool pkt_has_l4(const struct pkt *p)
{
	return p->fragment != FRAGMENT_LATER;
}

static __always_inline void pkt_redirect(struct pkt *p, __u32 ifindex)
{
	p->redirect = ifindex;
	p->action = bpf_redirect(ifindex, 0);
}

/* Out of the node's device, to whom the kernel's routes and neighbours say. */
static __always_inline int pkt_send_out(struct pkt *p)
{
	p->redirect = cfg_dev_ifindex;
	p->action = bpf_redirect_neigh(cfg_dev_ifindex, NULL, 0, 0);
	return OK;
}

#endif /* CTCTL_PKT_H */
