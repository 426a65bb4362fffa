/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * nd.h - neighbour discovery: the node answers for itself and for its pods.
 *
 * As Cilium 1.16 does, always from the router's address; a pod's question
 * about its own address (duplicate address detection) is answered too.
 */
#ifndef CTCTL_ND_H
#define CTCTL_ND_H

#include "endpoint.h"
#include "nat.h"
#include "pkt.h"
#include "room.h"

#define ND_ROUTER bpf_htonl(0xc0000000)         /* router, solicited */
#define ND_POD bpf_htonl(0x60000000)            /* solicited, override */
#define ND_TARGET_MAC 2

struct nd_message {
	__u8   type;
	__u8   code;
	__u16  checksum;
	__be32 flags;
	addr_t target;
	__u8   option;          /* enum of RFC 4861: 1, 2 */
	__u8   option_len;      /* in words of 8 bytes */
	__u8   mac[ETH_ALEN];
};
_Static_assert(sizeof(struct nd_message) == 32, "nd_message");

static __always_inline bool nd_is(struct __sk_buff *skb, struct pkt *p, __u8 type)
{
	__u8 found;

	return p->t.nexthdr == IPPROTO_ICMPV6 && pkt_load(skb, p->l4_off, &found, sizeof(found)) && found == type;
}

/* The solicitation becomes an advertisement, its checksum by the difference. */
static __always_inline int
nd_advertise(struct __sk_buff *skb, struct pkt *p, __be32 flags, const volatile __u8 *mac, __u32 ifindex)
{
	addr_t before[2] = { p->t.saddr, p->t.daddr }, after[2] = { CONFIG_ADDR(cfg_router_addr), p->t.saddr };
	struct nd_message old, new;
	struct ethhdr *eth;
	struct ipv6hdr *ip;
	__u32 diff;

	if (!pkt_load(skb, p->l4_off, &old, sizeof(old)))
		return -REASON_INVALID;
	new = old;
	new.type = ICMP_NEIGHBOUR_ADVERTISEMENT;
	new.flags = flags;
	new.option = ND_TARGET_MAC;
	new.option_len = 1;
	for (int i = 0; i < ETH_ALEN; i++)
		new.mac[i] = mac[i];
	diff = bpf_csum_diff((void *)&old, sizeof(old), (void *)&new, sizeof(new), 0);
	diff = bpf_csum_diff((void *)before, sizeof(before), (void *)after, sizeof(after), diff);
	csum_add_fold((__sum16 *)&new.checksum, diff);
	if (!pkt_store(skb, p->l4_off, &new, sizeof(new)))
		return -REASON_INVALID;
	eth = pkt_data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > pkt_end(skb))
		return -REASON_INVALID;
	__builtin_memcpy(&ip->saddr, after, sizeof(after));
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	for (int i = 0; i < ETH_ALEN; i++)
		eth->h_source[i] = new.mac[i];
	p->t.daddr = p->t.saddr;
	p->t.saddr = after[0];
	pkt_redirect(p, ifindex);
	return OK;
}

/* A question for an address of this node is answered and redirected; the host
 * itself answers for its own. FROM_POD: nobody else would answer. */
STAGE int
nd_solicitation(struct __sk_buff *skb, struct pkt *p, const volatile __u8 *mac, __u32 ifindex, bool from_pod)
{
	const struct endpoint_info *ep;
	addr_t target;

	if (!pkt_load(skb, p->l4_off + offsetof(struct nd_message, target), &target, sizeof(target)))
		return -REASON_INVALID;
	if (addr_equal(target, CONFIG_ADDR(cfg_router_addr)))
		return nd_advertise(skb, p, ND_ROUTER, mac, ifindex);
	ep = endpoint_find(target);
	if (!ep)
		return from_pod ? -REASON_UNKNOWN_TARGET : OK;
	return ep->flags & ENDPOINT_HOST ? OK : nd_advertise(skb, p, ND_POD, mac, ifindex);
}

#endif /* CTCTL_ND_H */
