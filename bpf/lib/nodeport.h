/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * nodeport.h - services at a node's devices: requests from outside on their
 * way in, DSR requests on the backend's node, replies on their way out.
 */
#ifndef CTCTL_NODEPORT_H
#define CTCTL_NODEPORT_H

#include "ct.h"
#include "dsr_option.h"
#include "endpoint.h"
#include "event.h"
#include "geneve.h"
#include "icmp.h"
#include "lb.h"
#include "nat.h"
#include "pkt.h"
#include "snat.h"
#include "verdict.h"

/* ---- requests ---- */

/* The reply comes by this node and needs the entry. */
STAGE int nodeport_track(struct pkt *p, const struct lb_result *lb)
{
	struct ct_new new = {
		.src_sec_id = cfg_world, .flags = CT_NODE_PORT, .rev_nat_index = lb->rev_nat_index,
	};
	tuple_t key = p->t;

	tuple_reverse(&key);
	key.flags = TUPLE_OUT;
	event_lookup(p, LOOKUP_NODE_PORT, CT_DIR_EGRESS);
	if (ct_lookup_one(p, &key, CT_DIR_EGRESS, WANT_NODE_PORT, lb->rev_nat_index)) {
		event_result(p, CT_RESULT_ESTABLISHED);
		return OK;
	}
	return ct_create(p, &key, CT_DIR_EGRESS, &new);
}

static __always_inline bool nodeport_uses_dsr(const struct pkt *p)
{
	return cfg_lb_mode == LB_DSR || (cfg_lb_mode == LB_HYBRID && p->t.nexthdr == IPPROTO_TCP);
}

/* A TCP connection's node has learnt of it from the SYN; a later fragment's
 * payload is read as a header, as Cilium does. */
static __always_inline int nodeport_send_dsr(ctx_t *ctx, struct pkt *p, const struct lb_result *lb)
{
	__u8 flags = p->t.nexthdr == IPPROTO_TCP ? p->tcp_flags : TCP_SYN;

	if (p->t.nexthdr == IPPROTO_TCP && p->fragment == FRAGMENT_LATER && !pkt_load_tcp_flags(ctx, p, &flags))
		return -REASON_CT_INVALID_HDR;
	if (cfg_dsr_option)
		return dsr_option_send(ctx, p, lb, flags & TCP_SYN);
	if (flags & TCP_SYN)
		return geneve_send(ctx, p, lb, true, IDENTITY_WORLD);
	return geneve_send(ctx, p, lb, false, IDENTITY_WORLD);
}

/* The backend's node answers to this one: by its address on that way. */
static __always_inline int nodeport_send_snat(ctx_t *ctx, struct pkt *p, const struct lb_result *lb)
{
	struct snat_target to = { .addr = CONFIG_ADDR(cfg_node_addr), .any_port = true };
	struct tunnel way = { .vni = IDENTITY_WORLD, .apart = true };
	const bool tunnel = cfg_tunnel && ipcache_is_tunneled(p->t.daddr);
	int ret;

	ret = lb_fragment(p);
	if (!ret && tunnel) {
		to.addr = CONFIG_ADDR(cfg_router_addr);
		ret = geneve_route(ctx, p, lb, false, &way);
	}
	if (!ret && !p->redirect)
		ret = icmp_hop(ctx, p);
	if (ret || p->redirect)
		return ret;
	ret = snat_apply(ctx, p, &to);
	if (ret)
		return ret;
	return tunnel ? geneve_push(ctx, p, lb, false, &way) : pkt_send_out(p);
}

/* Towards the backend. OK and no redirect: it is here. */
static __always_inline int nodeport_send(ctx_t *ctx, struct pkt *p, const struct lb_result *lb, const bool local)
{
	int ret;

	if (local || !nodeport_uses_dsr(p)) {
		ret = nodeport_track(p, lb);
		if (ret || local)
			return ret;
		return nodeport_send_snat(ctx, p, lb);
	}
	return nodeport_send_dsr(ctx, p, lb);
}

/* May the packet use the service at all? OK, or -REASON. */
static __always_inline int nodeport_check(const struct pkt *p, const struct lb4_service *svc)
{
	if (!(svc->flags & SVC_ROUTABLE))
		return -REASON_IS_CLUSTER_IP;
	return lb_source_allowed(p, svc) ? OK : -REASON_NOT_IN_SRC_RANGE;
}

SEAM int nodeport_balance(ctx_t *ctx, struct pkt *p, const lb_key_t *found, const struct lb4_service *svc)
{
	BESIDE(p, struct lb_result, lb, result);
	BESIDE(p, lb_key_t, key, service);
	bool local;
	int ret;

	if (!p || !found || !svc)
		return -REASON_INVALID;
	*key = *found;
	ret = nodeport_check(p, svc);
	if (!ret)
		ret = pkt_parse_tcp_flags(ctx, p);
	if (ret)
		return ret;
	ret = lb_to_backend(ctx, p, key, svc, false, lb);
	if (ret == -REASON_NO_SERVICE)
		return icmp_no_service(ctx, p, ctx_ifindex(ctx));
	if (ret)
		return ret;
	local = endpoint_find(p->t.daddr);
	if (!local && (svc->flags & SVC_HOST_PORT))
		return -REASON_INVALID;
	return nodeport_send(ctx, p, lb, local);
}

/* A packet that came from outside. OK and no redirect: it is no service's, or
 * its backend is here. */
static __always_inline int nodeport_request(ctx_t *ctx, struct pkt *p, bool *service)
{
	const struct lb4_service *svc;
	lb_key_t key = {};
	int ret;

	*service = false;
	if (!pkt_has_ports(p))
		return OK;
	ret = pkt_parse_ports(ctx, p);
	event_in(p);
	if (ret)
		return ret;
	svc = lb_find_service(p, &key, false);
	if (!svc)
		return OK;
	*service = true;
	return nodeport_balance(ctx, p, &key, svc);
}

/* ---- DSR, on the backend's node ---- */

/* Client, VIP and backend are known together from the option only; TCP has it
 * in the SYN, and the entry made then tells that later packets are of it. */
static __always_inline int dsr_is_request(ctx_t *ctx, struct pkt *p, bool *dsr, __u8 *flags)
{
	tuple_t key = p->t;
	struct ct_entry *e;

	*dsr = p->dsr;
	if (p->t.nexthdr != IPPROTO_TCP)
		return OK;
	if (!pkt_load_tcp_flags(ctx, p, flags))
		return -REASON_CT_INVALID_HDR;
	if (*flags & TCP_SYN)
		return OK;
	tuple_reverse(&key);
	key.flags = TUPLE_OUT;
	e = ct_find(&key);
	*dsr = e && (e->flags & CT_DSR_INTERNAL);
	p->dsr_port = 0;
	return OK;
}

/* TCP_FLAGS: what is where TCP has them. */
SEAM int dsr_track(struct pkt *p, __u32 tcp_flags)
{
	struct ct_new new = { .src_sec_id = cfg_world, .flags = CT_DSR_INTERNAL };
	struct ct_entry *e;
	tuple_t key;
	int ret;

	if (!p)
		return -REASON_INVALID;
	key = p->t;
	if (p->t.nexthdr == IPPROTO_TCP && p->fragment != FRAGMENT_LATER)
		p->tcp_flags = tcp_flags;
	tuple_reverse(&key);
	key.flags = TUPLE_OUT;
	event_lookup(p, LOOKUP_DSR, CT_DIR_EGRESS);
	if (p->dsr_port)
		event_why(p, WHY_DSR_OPTION);
	e = ct_lookup_one(p, &key, CT_DIR_EGRESS, WANT_DSR, 0);
	if (e) {
		event_result(p, CT_RESULT_ESTABLISHED);
		/* With TCP the option means a new connection. */
		if (p->t.nexthdr != IPPROTO_TCP || !p->dsr_port)
			return OK;
	} else if (!p->dsr_port) {
		return -REASON_INVALID;
	}
	ret = ct_create(p, &key, CT_DIR_EGRESS, &new);
	return ret ? ret : snat_create(p, &key, p->dsr_vip, p->dsr_port);
}

/* A packet that came from another node, if it is no service's. */
STAGE int dsr_request(ctx_t *ctx, struct pkt *p)
{
	bool dsr = false;
	__u8 flags = 0;
	int ret;

	if (!pkt_has_ports(p) || !nodeport_uses_dsr(p))
		return OK;
	ret = dsr_is_request(ctx, p, &dsr, &flags);
	if (ret || !dsr)
		return ret;
	return dsr_track(p, flags);
}

/* ---- replies of backends on other nodes ---- */

/* A reply that found its request's entry E; *HIT: and still is the connection's. */
static __always_inline int nodeport_touch(ctx_t *ctx, struct pkt *p, const tuple_t *key, struct ct_entry *e,
					  const enum ct_want want, bool *hit)
{
	int ret = pkt_parse_tcp_flags(ctx, p);

	*hit = false;
	if (ret)
		return ret;
	event_lookup(p, LOOKUP_REV_DNAT, CT_DIR_INGRESS);
	event_before(p, key, e);
	*hit = ct_touch(p, e, CT_DIR_INGRESS, want, 0);
	event_after(p, e);
	if (*hit)
		event_result(p, CT_RESULT_REPLY);
	return OK;
}

/* An answer to a request that left by this node's address goes on to the
 * client, from the address that the client wrote to. */
static __always_inline int nodeport_return(ctx_t *ctx, struct pkt *p)
{
	BESIDE(p, struct lb_result, lb, result);
	tuple_t key = p->t;
	struct ct_entry *e;
	bool hit;
	int ret;

	if (!pkt_has_ports(p))
		return OK;
	lb->vip = p->t.daddr;
	lb->vip_port = p->t.sport;
	key.flags = TUPLE_OUT;
	e = ct_find(&key);
	if (!e || !ct_is_wanted(e, WANT_NODE_PORT, 0))
		return OK;
	ret = nodeport_touch(ctx, p, &key, e, WANT_NODE_PORT, &hit);
	if (ret || !hit)
		return ret;
	ret = nat_service_reply(ctx, p, e->rev_nat_index, false);
	if (ret)
		return ret;
	if (cfg_tunnel && ipcache_is_tunneled(p->t.daddr))
		return geneve_send(ctx, p, lb, false, IDENTITY_WORLD);
	ret = icmp_hop(ctx, p);
	return ret || p->redirect ? ret : pkt_send_out(p);
}

/* An answer to what left by the node's address: of a pod, the node, or a client of a service. */
SEAM int nodeport_answer(ctx_t *ctx, struct pkt *p)
{
	bool done;
	int ret;

	if (!p)
		return -REASON_INVALID;
	ret = snat_answer(ctx, p, &done);
	if (ret || !done || cfg_lb_mode == LB_DSR)
		return ret;
	return nodeport_return(ctx, p);
}

/* A packet from outside or the tunnel that is for no service. */
static __always_inline int nodeport_other(ctx_t *ctx, struct pkt *p)
{
	if (pkt_has_ports(p) ? nodeport_uses_dsr(p) && !cfg_masquerade : !cfg_masquerade)
		return OK;
	if (cfg_lb_mode == LB_DSR && !cfg_masquerade)
		return OK;
	return nodeport_answer(ctx, p);
}

/* ---- replies ---- */

/* What the packet's source is to be rewritten to, if it is a backend's reply. */
static __always_inline bool
reply_source(struct pkt *p, const tuple_t *key, const struct ct_entry *e, addr_t *address, __be16 *port)
{
	__be16 rev_nat_index = e->flags & CT_NODE_PORT ? e->rev_nat_index : 0;
	const reverse_nat_t *service;
	const nat_entry_t *dsr;

	if (!(e->flags & (CT_NODE_PORT | CT_DSR_INTERNAL)))
		return false;
	if (rev_nat_index) {
		service = nat_service_address(rev_nat_index);
		if (!service)
			return false;
		event_service(p, rev_nat_index, 0);
		*address = service->address;
		*port = service->port;
		return true;
	}
	dsr = snat_find(key, TUPLE_OUT);
	if (!dsr)
		return false;
	*address = dsr->to_saddr;
	*port = dsr->to_sport;
	return true;
}

/* A packet on its way out of the node. */
static __always_inline int nodeport_reply(ctx_t *ctx, struct pkt *p)
{
	tuple_t key;
	struct ct_entry *e;
	addr_t address;
	__be16 port;
	bool hit;
	int ret;

	if (!pkt_has_ports(p))
		return OK;
	ret = pkt_parse_ports(ctx, p);
	event_in(p);
	if (ret)
		return ret;
	key = p->t;
	key.flags = TUPLE_OUT;
	e = ct_find(&key);
	if (!e || !reply_source(p, &key, e, &address, &port))
		return OK;
	ret = nodeport_touch(ctx, p, &key, e, WANT_TRANSLATED, &hit);
	if (ret || !hit)
		return ret;
	ctx_set_mark(ctx, (ctx_mark(ctx) & ~MARK_MAGIC) | MARK_SNAT_DONE);
	return nat_reply(ctx, p, address, port, false);
}

/* A packet on its way out: a reply, or one that takes the node's address. */
static __always_inline int nodeport_leave(ctx_t *ctx, struct pkt *p, bool overlay)
{
	int ret = nodeport_reply(ctx, p);

	if (ret || (cfg_lb_mode == LB_DSR && !cfg_masquerade) || (ctx_mark(ctx) & MARK_MAGIC) == MARK_SNAT_DONE)
		return ret;
	return snat_out(ctx, p, overlay);
}

/* Hooks on the way out have nothing to do for what is translated already,
 * and for a tunnel's outer packets. */
static __always_inline bool reply_is_done(const ctx_t *ctx)
{
	__u32 magic = ctx_mark(ctx) & MARK_MAGIC;

	return magic == MARK_SNAT_DONE || magic == MARK_OVERLAY;
}

/* A hook on the way out of the node's device or, OVERLAY, of the tunnel's. */
static __always_inline int nodeport_hook_out(ctx_t *ctx, enum ctctl_hook hook, const bool overlay)
{
	HOOK_PACKET(p);
	int ret = OK;

	if (pkt_is_others(ctx) || !p)
		return HOOK_NEXT;
	hook_begin(ctx, p, hook);
	if (pkt_ethertype(ctx) == bpf_htons(ETH_P_FAMILY) && !reply_is_done(ctx)) {
		ret = pkt_parse_l3(ctx, p);
		event_in(p);
		if (!ret)
			ret = nodeport_leave(ctx, p, overlay);
	}
	return hook_end(ctx, p, ret);
}

#endif /* CTCTL_NODEPORT_H */
