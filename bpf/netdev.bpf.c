// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * netdev.bpf.c - the hooks on the node's device: services from outside, the
 * tunnel where it has no device of its own, DSR replies.
 */
#include "endpoint.h"
#include "geneve.h"
#include "nodeport.h"
#include "pkt.h"
#include "verdict.h"

static __always_inline int from_netdev_ipv4(struct __sk_buff *skb, struct pkt *p)
{
	struct tunnel tun;
	bool service;
	int ret;

	ret = pkt_parse_ip(skb, p);
	if (ret)
		return ret;
	event_in(p);
	if (p->fragment && !cfg_fragments)
		return -REASON_FRAG_NOSUPPORT;
	if (!cfg_overlay_device && geneve_is_ours(skb, p)) {
		ret = geneve_decapsulate(skb, p, &tun);
		return ret ? ret : tunnel_receive(skb, p, &tun);
	}
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
int from_netdev(struct __sk_buff *skb)
{
	struct pkt p = hook_begin(skb, HOOK_FROM_NETDEV);
	int ret = OK;

	if (pkt_ethertype(skb) == bpf_htons(ETH_P_IP))
		ret = from_netdev_ipv4(skb, &p);
	return hook_end(skb, &p, ret);
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	struct pkt p = hook_begin(skb, HOOK_TO_NETDEV);
	int ret = OK;

	if (pkt_ethertype(skb) == bpf_htons(ETH_P_IP) && !reply_is_done(skb)) {
		ret = pkt_parse_ip(skb, &p);
		event_in(&p);
		if (!ret)
			ret = nodeport_leave(skb, &p, false);
	}
	return hook_end(skb, &p, ret);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
