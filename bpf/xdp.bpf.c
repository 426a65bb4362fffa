// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * xdp.bpf.c - the node's device before there is a socket buffer: requests for
 * backends on other nodes, and their answers, go on from here. Everything else
 * is netdev.bpf.c's.
 *
 * A device has one XDP program: IPv4's, which leaves IPv6's packets to theirs,
 * those in the tunnel too, whose outer headers are IPv4's.
 */
#define CTX_OF_XDP
#include "ahead.h"
#include "event.h"
#include "lb.h"
#include "nodeport.h"
#include "pkt.h"
#include "verdict.h"

#if FAMILY == 4
/* The program of IPv6, where the node has both families: put there by the loader, which pins the array, since one
 * that nobody in user space holds is emptied. While it is empty, IPv6's packets are passed on. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 1);
} ctctl_xdp_next SEC(".maps");
#endif

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
	BESIDE(p, struct lb_result, lb, result);
	const struct lb4_service *svc;
	struct ahead a = {};
	lb_key_t key = {};

	svc = lb_find_service(p, &key, false);
	if (!svc) {
		if (!ahead_answer(ctx, p, &a))
			return PASSED_ON;
		return xdp_end(ctx, p, &a, ahead_return(ctx, p));
	}
	lb_begin(p, svc, &a.key, lb);
	if (!ahead_request(p, &key, svc, &a) || !ahead_send(ctx, p, &a))
		return PASSED_ON;
	return xdp_end(ctx, p, &a, ahead_forward(ctx, p, svc, &a, lb));
}

/* The packet is the inner one: may it be an answer? It is told and counted as any that came out of the tunnel. */
static __noinline bool xdp_inner(ctx_t *ctx, struct pkt *p, const struct tunnel *tun)
{
	lb_key_t key = {};

	p->len = ctx_len(ctx);
	if (!ahead_parse(ctx, p))
		return false;
	event_hook(ctx, p, HOOK_FROM_OVERLAY);
	event_tunnel(p, tun->remote, tun->vni);
	event_in(p);
	p->src_identity = tunnel_identity(p, tun->vni);
	return !lb_find_service(p, &key, false);
}

/* Is it in the tunnel? Its outer headers come off to look at it, and on again if it is passed on. */
static __always_inline int xdp_outer(ctx_t *ctx, struct pkt *p)
{
	const int len = sizeof(struct geneve_outer);
	struct tunnel tun = {};
	struct ahead a = {};
	int ret = PASSED_ON;
	__be16 inner = 0;

	if (!cfg_tunnel || cfg_overlay_device || cfg_lb_mode == LB_DSR || !ahead_outer(ctx, &tun, &inner))
		return XDP_PASS;
#if FAMILY == 4
	if (cfg_ipv6 && inner == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(ctx, &ctctl_xdp_next, 0);
#endif
	if (inner != bpf_htons(ETH_P_FAMILY) || bpf_xdp_adjust_head(ctx, len))
		return XDP_PASS;
	if (xdp_inner(ctx, p, &tun) && ahead_answer(ctx, p, &a))
		ret = xdp_end(ctx, p, &a, ahead_return(ctx, p));
	if (ret != PASSED_ON)
		return hook_end(ctx, p, ret);
	return bpf_xdp_adjust_head(ctx, -len) ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp")
int HOOK_PROGRAM(xdp_netdev)(ctx_t *ctx)
{
	const __be16 type = pkt_ethertype(ctx);
	HOOK_PACKET(p);
	int ret;

#if FAMILY == 4
	if (cfg_ipv6 && type == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(ctx, &ctctl_xdp_next, 0);
#endif
	/* Outer headers are IPv4's. */
	if (!p || (type != bpf_htons(ETH_P_FAMILY) && type != bpf_htons(ETH_P_IP)))
		return XDP_PASS;
	hook_begin(ctx, p, HOOK_XDP_NETDEV);
	if (type != bpf_htons(ETH_P_FAMILY) || !ahead_parse(ctx, p))
		return xdp_outer(ctx, p);
	event_in(p);
	ret = xdp_packet(ctx, p);
	return ret == PASSED_ON ? XDP_PASS : hook_end(ctx, p, ret);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
