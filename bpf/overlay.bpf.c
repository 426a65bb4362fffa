// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * overlay.bpf.c - the hooks on a Geneve device (collect_md), where the node
 * has one. Without it netdev.bpf.c does the same.
 */
#include "geneve.h"
#include "nodeport.h"
#include "pkt.h"
#include "verdict.h"

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	struct pkt p = hook_begin(skb, HOOK_FROM_OVERLAY);
	__be16 ethertype = pkt_ethertype(skb);
	struct tunnel tun;
	int ret = OK;

	/* Pods have no IPv6. What else there may be is the stack's. */
	if (ethertype == bpf_htons(ETH_P_IPV6)) {
		ret = -REASON_UNKNOWN_L3;
	} else if (ethertype == bpf_htons(ETH_P_IP)) {
		ret = geneve_key(skb, &p, &tun);
		if (!ret)
			ret = tunnel_receive(skb, &p, &tun);
	}
	return hook_end(skb, &p, ret);
}

SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	struct pkt p = hook_begin(skb, HOOK_TO_OVERLAY);
	int ret = OK;

	if (pkt_ethertype(skb) == bpf_htons(ETH_P_IP) && !reply_is_done(skb)) {
		ret = pkt_parse_ip(skb, &p);
		event_in(&p);
		if (!ret)
			ret = nodeport_leave(skb, &p, true);
	}
	return hook_end(skb, &p, ret);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
