/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * icmp.h - answer a packet with an ICMP "destination unreachable" about it.
 */
#ifndef CTCTL_ICMP_H
#define CTCTL_ICMP_H

#include "bound.h"
#include "endpoint.h"
#include "event.h"
#include "pkt.h"

/* Of the packet complained about, from its IP header on. Cilium 1.16 takes
 * the frame's length for the packet's: shorter ones get 14 bytes of zeros. */
#define ICMP_QUOTE_MAX 64
#define ICMP_TTL 64

struct icmp_answer {
	struct ethhdr eth;
	struct iphdr ip;
	struct icmp_header icmp;
} CTCTL_PACKED;

static __always_inline __u16 icmp_csum(void *data, __u32 len, __u32 sum)
{
	sum = bpf_csum_diff(NULL, 0, data, len, sum);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Turns the packet round. It leaves by IFINDEX; not without a REASON to drop
 * it for, if that cannot be done (a GSO packet, no memory). */
static __noinline int icmp_unreachable(struct __sk_buff *skb, struct pkt *p, __u8 code, __u16 mtu, __u32 ifindex)
{
	__u32 quoted = skb->len < ICMP_QUOTE_MAX ? skb->len : ICMP_QUOTE_MAX;
	__u8 quote[ICMP_QUOTE_MAX] = {};
	struct icmp_answer a = {};
	struct ethhdr *eth = pkt_data(skb);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > pkt_end(skb))
		return -REASON_INVALID;
	__builtin_memcpy(a.eth.h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(a.eth.h_source, eth->h_dest, ETH_ALEN);
	a.eth.h_proto = bpf_htons(ETH_P_IP);
	a.ip.version = 4;
	a.ip.ihl = 5;
	a.ip.tos = ip->tos;
	a.ip.tot_len = bpf_htons(sizeof(a.ip) + sizeof(a.icmp) + quoted);
	a.ip.ttl = ICMP_TTL;
	a.ip.protocol = IPPROTO_ICMP;
	a.ip.saddr = ip->daddr;
	a.ip.daddr = ip->saddr;
	a.ip.check = icmp_csum(&a.ip, sizeof(a.ip), 0);
	a.icmp.type = ICMP_DEST_UNREACH;
	a.icmp.code = code;
	a.icmp.mtu = bpf_htons(mtu);

	if (bpf_skb_change_tail(skb, ETH_HLEN + quoted, 0))
		return -REASON_NO_SERVICE;
	if (quoted < sizeof(a.ip) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, quote, bound_length(quoted, ICMP_QUOTE_MAX)))
		return -REASON_NO_SERVICE;
	a.icmp.checksum = icmp_csum(quote, sizeof(quote), bpf_csum_diff(NULL, 0, (void *)&a.icmp, sizeof(a.icmp), 0));
	if (bpf_skb_adjust_room(skb, sizeof(a.ip) + sizeof(a.icmp), BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(skb, 0, &a, sizeof(a), 0))
		return -REASON_NO_SERVICE;

	p->t = (tuple_t){ .daddr = a.ip.daddr, .saddr = a.ip.saddr, .nexthdr = IPPROTO_ICMP };
	p->icmp_type = ICMP_DEST_UNREACH;
	p->icmp_code = code;
	pkt_redirect(p, ifindex);
	return OK;
}

/* A service without a backend says so, unless it is told to keep quiet. */
static __always_inline int icmp_no_service(struct __sk_buff *skb, struct pkt *p, __u32 ifindex)
{
	if (!cfg_no_backend_reject)
		return -REASON_NO_SERVICE;
	return icmp_unreachable(skb, p, ICMP_PORT_UNREACH, 0, ifindex);
}

#endif /* CTCTL_ICMP_H */
