// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * overlay.bpf.c - the hooks on a Geneve device (collect_md), where the node
 * has one. Without it netdev.bpf.c does the same.
 */
#include <linux/if_packet.h>

#include "geneve_in.h"
#include "nodeport.h"
#include "pkt.h"
#include "tunnel.h"
#include "verdict.h"

SEC("tc")
int HOOK_PROGRAM(from_overlay)(struct __sk_buff *skb)
{
	__be16 ethertype = pkt_ethertype(skb);
	struct tunnel tun = {};
	HOOK_PACKET(p);
	int ret = OK;

	if (pkt_is_others(skb) || !p)
		return HOOK_NEXT;
	hook_begin(skb, p, HOOK_FROM_OVERLAY);
	/* Without IPv6 no pod has it. What else there may be is the stack's. */
	if (FAMILY == 4 && ethertype == bpf_htons(ETH_P_IPV6)) {
		ret = -REASON_UNKNOWN_L3;
	} else if (ethertype == bpf_htons(ETH_P_FAMILY)) {
		ret = geneve_key(skb, p, &tun);
		if (!ret)
			ret = tunnel_packet(skb, p, &tun, true);
		/* Its inner destination is no address of the device: the stack would take it for another host's. */
		if (!ret && !p->redirect)
			bpf_skb_change_type(skb, PACKET_HOST);
	}
	return hook_end(skb, p, ret);
}

SEC("tc")
int HOOK_PROGRAM(to_overlay)(struct __sk_buff *skb)
{
	return nodeport_hook_out(skb, HOOK_TO_OVERLAY, true);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
