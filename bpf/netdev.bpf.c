// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * netdev.bpf.c - the hooks on the node's device: services from outside, the
 * tunnel where it has no device of its own, DSR replies.
 */
#include "endpoint.h"
#include "geneve_in.h"
#if FAMILY == 6
#include "nd.h"
#endif
#include "nodeport.h"
#include "pkt.h"
#include "tunnel.h"
#include "verdict.h"

#if FAMILY == 4
/* *MINE: it is one, for this node. */
static __always_inline int outer_packet(struct __sk_buff *skb, struct pkt *p, bool *mine)
{
	struct tunnel tun = {};
	int ret;

	*mine = geneve_is_ours(skb, p);
	if (!*mine)
		return OK;
	ret = geneve_decapsulate(skb, p, &tun);
	return ret || p->action == HOOK_NEXT ? ret : tunnel_packet(skb, p, &tun, false);
}
#else
/* *MINE: the program of IPv4 has taken its outer headers off. */
static __always_inline int outer_packet(struct __sk_buff *skb, struct pkt *p, bool *mine)
{
	struct tunnel tun = {};
	int ret;

	*mine = skb->cb[0] == GENEVE_INNER_IPV6;
	if (!*mine)
		return OK;
	ret = geneve_key_of_wire(skb, p, &tun);
	return ret ? ret : tunnel_packet(skb, p, &tun, false);
}
#endif

static __always_inline int from_netdev_packet(struct __sk_buff *skb, struct pkt *p)
{
	bool service, outer;
	int ret;

	ret = pkt_parse_l3(skb, p);
	if (ret)
		return ret;
	event_in(p);
	if (p->fragment && !cfg_fragments)
		return -REASON_FRAG_NOSUPPORT;
	if (!cfg_overlay_device) {
		ret = outer_packet(skb, p, &outer);
		if (outer)
			return ret;
	}
#if FAMILY == 6
	if (nd_is(skb, p, ICMP_NEIGHBOUR_SOLICITATION))
		return nd_solicitation(skb, p, cfg_dev_mac, skb->ifindex, false);
#endif
	ret = nodeport_request(skb, p, &service);
	if (ret || service)
		return ret;
	if (cfg_dsr_option) {
		ret = dsr_option_read(skb, p);
		if (!ret)
			ret = dsr_request(skb, p);
		if (ret)
			return ret;
	}
	return nodeport_other(skb, p);
}

SEC("tc")
int HOOK_PROGRAM(from_netdev)(struct __sk_buff *skb)
{
	HOOK_PACKET(p);
	int ret = OK;

	if (pkt_is_others(skb) || !p)
		return HOOK_NEXT;
	hook_begin(skb, p, HOOK_FROM_NETDEV);
	if (pkt_ethertype(skb) == bpf_htons(ETH_P_FAMILY))
		ret = from_netdev_packet(skb, p);
	return hook_end(skb, p, ret);
}

SEC("tc")
int HOOK_PROGRAM(to_netdev)(struct __sk_buff *skb)
{
	return nodeport_hook_out(skb, HOOK_TO_NETDEV, false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
