// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * xdp.bpf.c - the node's device before there is a socket buffer: requests for
 * backends on other nodes, and their answers, go on from here. Everything else
 * is netdev.bpf.c's. IPv4's; IPv6 is passed on.
 */
#define CTX_OF_XDP
#include "ahead.h"
#include "event.h"
#include "lb.h"
#include "nodeport.h"
#include "pkt.h"
#include "verdict.h"

/* From whom and to whom it goes; not before everything else of it is done. */
static __always_inline int xdp_address(ctx_t *ctx, const struct ahead *a)
{
	struct ethhdr *eth = pkt_data(ctx);

	if (cfg_sim)
		return OK;
	if ((void *)(eth + 1) > pkt_end(ctx))
		return -REASON_WRITE_ERROR;
	__builtin_memcpy(eth->h_dest, a->next_hop, ETH_ALEN);
	__builtin_memcpy(eth->h_source, a->own, ETH_ALEN);
	return OK;
}

/* Not the program's: passed on as it came. Beside OK and -REASON. */
#define PASSED_ON 1

static __always_inline int xdp_end(ctx_t *ctx, const struct pkt *p, const struct ahead *a, int ret)
{
	if (ret)
		return ret;
	/* Its entry went away meanwhile: it is the stack's, as it would be without XDP. */
	return p->redirect ? xdp_address(ctx, a) : PASSED_ON;
}

/* The packet is for SVC, or for none. What is large is in functions that are called one after the other. */
static __always_inline int xdp_packet(ctx_t *ctx, struct pkt *p)
{
	const struct lb4_service *svc;
	struct lb_result lb = {};
	struct ahead a = {};
	lb_key_t key = {};

	svc = lb_find_service(p, &key, false);
	if (!svc) {
		if (!ahead_answer(ctx, p, &a))
			return PASSED_ON;
		return xdp_end(ctx, p, &a, ahead_return(ctx, p));
	}
	lb_begin(p, svc, &a.key, &lb);
	if (!ahead_request(p, &key, svc, &a) || !ahead_send(ctx, p, &a))
		return PASSED_ON;
	return xdp_end(ctx, p, &a, ahead_forward(ctx, p, svc, &a, &lb));
}

SEC("xdp")
int xdp_netdev(ctx_t *ctx)
{
	HOOK_PACKET(p);
	int ret;

	if (pkt_ethertype(ctx) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	hook_begin(ctx, p, HOOK_XDP_NETDEV);
	if (!ahead_parse(ctx, p))
		return XDP_PASS;
	event_in(p);
	ret = xdp_packet(ctx, p);
	return ret == PASSED_ON ? XDP_PASS : hook_end(ctx, p, ret);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
