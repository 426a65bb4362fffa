// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * lxc.bpf.c - the hooks on the host side of a pod's veth. Loaded once for
 * each pod and family, with the pod's addresses as read-only data.
 */
#include "ct.h"
#include "endpoint.h"
#include "geneve.h"
#include "icmp.h"
#include "lb.h"
#include "nat.h"
#if FAMILY == 6
#include "nd.h"
#endif
#include "nodeport.h"
#include "pkt.h"
#include "policy.h"
#include "verdict.h"

volatile const addr_t cfg_ep_ip = {};
volatile const __u32 cfg_ep_id = 0;
volatile const __u32 cfg_ep_identity = 0;
volatile const __u32 cfg_ep_ifindex = 0;
volatile const __u8 cfg_ep_mac[6] = {};
volatile const __u8 cfg_ep_node_mac[6] = {};

/* ARP passes. What is of neither family passes nobody; the program of IPv4,
 * the first, says so. */
static __always_inline int pod_ethertype(struct __sk_buff *skb, bool *ours)
{
	__be16 ethertype = pkt_ethertype(skb);

	*ours = ethertype == bpf_htons(ETH_P_FAMILY);
	if (*ours || ethertype == bpf_htons(ETH_P_ARP))
		return OK;
	return ethertype ? -REASON_UNKNOWN_L3 : -REASON_UNSUPPORTED_L2;
}

static __always_inline void pod_begin(struct __sk_buff *skb, struct pkt *p, enum ctctl_hook hook)
{
	struct ctctl_event *ev;

	hook_begin(skb, p, hook);
	ev = event_of(p);
	if (ev)
		ev->endpoint_id = cfg_ep_id;
}

static __always_inline int pod_parse(struct __sk_buff *skb, struct pkt *p)
{
	int ret = pkt_parse_extensions(skb, p);

	if (!ret)
		ret = pkt_parse_l4(skb, p);
	event_in(p);
	return ret;
}

/* ---- out of the pod ---- */

/* Is the packet for a service? Then it gets a backend. */
STAGE int egress_service(struct __sk_buff *skb, struct pkt *p, struct lb_result *lb)
{
	const struct lb4_service *svc;
	BESIDE(p, lb_key_t, key, service);
	int ret;

	if (!pkt_has_ports(p))
		return OK;
	svc = lb_find_service(p, key, true);
	if (!svc)
		return OK;
	ret = lb_to_backend(skb, p, key, svc, true, lb);
	return ret ? ret : lb_fragment(p);
}

static __always_inline int
egress_create(struct pkt *p, const tuple_t *key, const struct lb_result *lb)
{
	struct ct_new new = {
		.src_sec_id = cfg_ep_identity, .rev_nat_index = lb->rev_nat_index,
		.flags = lb->loopback ? CT_LB_LOOPBACK : 0, .related = true,
	};

	return ct_create(p, key, CT_DIR_EGRESS, &new);
}

/* *LOOPBACK: the pod talks to itself by way of a service, in either direction. */
static __always_inline int
egress_track(struct __sk_buff *skb, struct pkt *p, const struct lb_result *lb, bool *loopback)
{
	tuple_t key = p->t;
	enum ctctl_ct_result result;
	struct ct_entry *e;
	int ret;

	*loopback = lb->loopback;
	result = ct_lookup(p, &key, CT_DIR_EGRESS, &e);
	if (e && result >= CT_RESULT_REPLY) {
		event_why(p, WHY_POLICY_SKIPPED);
		/* An ICMP error about such a flow goes to the stack: as in Cilium. */
		*loopback |= result == CT_RESULT_REPLY && (e->flags & CT_LB_LOOPBACK);
		return OK;
	}
	if (!lb->loopback) {
		ret = policy_check(skb, p, cfg_ep_id, true, p->t.daddr, key.dport);
		if (ret)
			return ret;
	}
	if (!e)
		return egress_create(p, &key, lb);
	/* The same addresses and ports, by way of another service, or none. */
	if (e->rev_nat_index != lb->rev_nat_index) {
		event_why(p, WHY_REV_NAT_CHANGED);
		return egress_create(p, &key, lb);
	}
	return OK;
}

/* A pod of another node asked for a service at this node's address: its reply has that address again. Where a device
 * makes the outer headers this is done by the hook on the way out of it. */
SEAM int egress_reply(struct __sk_buff *skb, struct pkt *p)
{
	return p ? nodeport_reply(skb, p) : -REASON_INVALID;
}

/* To a pod of another node, where the network knows no way there. */
static __always_inline int egress_tunnel(struct __sk_buff *skb, struct pkt *p, struct lb_result *lb)
{
	/* DSR's ways are the fast ones. */
	struct tunnel to = { .vni = cfg_ep_identity, .apart = cfg_lb_mode != LB_DSR };
	int ret;

	if (!lb->rev_nat_index) {
		lb->vip = p->t.daddr;
		lb->vip_port = p->t.sport;
	}
	ret = geneve_route(skb, p, lb, false, &to);
	if (ret || p->redirect)
		return ret;
	if (!cfg_overlay_device && !lb->rev_nat_index) {
		ret = egress_reply(skb, p);
		if (ret)
			return ret;
	}
	return geneve_push(skb, p, lb, false, &to);
}

static __always_inline void egress_tell_peer(struct pkt *p)
{
	struct ctctl_event *ev = event_of(p);

	if (ev)
		ev->dst_identity = identity_of_peer(p->t.daddr);
}

static __always_inline int egress_packet(struct __sk_buff *skb, struct pkt *p)
{
	BESIDE(p, struct lb_result, lb, result);
	bool loopback;
	int ret;

	ret = pkt_parse_ip(skb, p);
	if (ret)
		return ret;
	event_in(p);
	if (p->fragment && !cfg_fragments)
		return -REASON_FRAG_NOSUPPORT;
#if FAMILY == 6
	if (nd_is(skb, p, ICMP_NEIGHBOUR_SOLICITATION))
		return nd_solicitation(skb, p, cfg_ep_node_mac, cfg_ep_ifindex, true);
	if (nd_is(skb, p, ICMP_NEIGHBOUR_ADVERTISEMENT))
		return OK;
#endif
	if (!addr_equal(p->t.saddr, CONFIG_ADDR(cfg_ep_ip)))
		return -REASON_INVALID_SIP;
	ret = pod_parse(skb, p);
	if (ret)
		return ret;
	ret = egress_service(skb, p, lb);
	if (ret == -REASON_NO_SERVICE)
		return icmp_no_service(skb, p, cfg_ep_ifindex);
	if (ret)
		return ret;
	egress_tell_peer(p);
	ret = egress_track(skb, p, lb, &loopback);
	if (ret)
		return ret;
	if (cfg_tunnel && !loopback && ipcache_is_tunneled(p->t.daddr))
		return egress_tunnel(skb, p, lb);
	skb->mark = mark_of_identity(cfg_ep_identity);
	if (!loopback)
		return OK;
	ret = icmp_hop(skb, p);
	if (ret || p->redirect)
		return ret;
	return deliver(skb, p, cfg_ep_mac, cfg_ep_node_mac, cfg_ep_ifindex);
}

SEC("tc")
int HOOK_PROGRAM(from_container)(struct __sk_buff *skb)
{
	HOOK_PACKET(p);
	bool ours;
	int ret;

	if (pkt_is_others(skb) || !p)
		return HOOK_NEXT;
	pod_begin(skb, p, HOOK_FROM_CONTAINER);
	p->src_identity = cfg_ep_identity;
	ret = pod_ethertype(skb, &ours);
	if (ours)
		ret = egress_packet(skb, p);
	return hook_end(skb, p, ret);
}

/* ---- into the pod ---- */

#if FAMILY == 4
/* The pod's own packet to a service that it is itself the backend of? Its
 * entry knows which service; policy is not asked. */
static __always_inline bool ingress_loopback(const tuple_t *key, __be16 *rev_nat_index)
{
	tuple_t out = *key;
	const struct ct_entry *e;

	if (key->daddr != cfg_loopback)
		return false;
	out.flags = TUPLE_OUT;
	e = ct_find(&out);
	if (!e || !(e->flags & CT_LB_LOOPBACK))
		return false;
	*rev_nat_index = e->rev_nat_index;
	return true;
}
#else
/* IPv6 has no loopback address: the pod speaks to itself by its own. */
static __always_inline bool ingress_loopback(const tuple_t *key, __be16 *rev_nat_index)
{
	return !key && rev_nat_index;
}
#endif

static __always_inline int ingress_track(struct __sk_buff *skb, struct pkt *p, bool from_tunnel)
{
	struct ct_new new = { .flags = from_tunnel ? CT_FROM_TUNNEL : 0, .related = true };
	tuple_t key = p->t;
	enum ctctl_ct_result result;
	struct ct_entry *e;
	bool loopback;
	int ret;

	result = ct_lookup(p, &key, CT_DIR_INGRESS, &e);
	if (e && result >= CT_RESULT_REPLY) {
		event_why(p, WHY_POLICY_SKIPPED);
		if (!e->rev_nat_index)
			return OK;
		return nat_service_reply(skb, p, e->rev_nat_index, e->flags & CT_LB_LOOPBACK);
	}
	loopback = e ? e->flags & CT_LB_LOOPBACK : ingress_loopback(&key, &new.rev_nat_index);
	if (!loopback) {
		ret = policy_check(skb, p, cfg_ep_id, false, p->t.saddr, key.dport);
		if (ret)
			return ret;
	}
	if (e)
		return OK;
	if (loopback)
		new.flags |= CT_LB_LOOPBACK;
	p->src_identity = identity_of_source(p->src_identity, p->t.saddr);
	new.src_sec_id = p->src_identity;
	return ct_create(p, &key, CT_DIR_INGRESS, &new);
}

static __always_inline int ingress_packet(struct __sk_buff *skb, struct pkt *p)
{
	__u32 mark = skb->mark;
	int ret;

	p->src_identity = mark_identity(mark);
	skb->mark = 0;
	ret = pkt_parse_ip(skb, p);
	if (ret)
		return ret;
#if FAMILY == 6
	if (nd_is(skb, p, ICMP_NEIGHBOUR_SOLICITATION) || nd_is(skb, p, ICMP_NEIGHBOUR_ADVERTISEMENT)) {
		event_in(p);
		return OK;
	}
#endif
	ret = pod_parse(skb, p);
	if (ret)
		return ret;
	if (p->heard)
		p->src_identity = identity_of_source(p->src_identity, p->t.saddr);
	return ingress_track(skb, p, mark & MARK_FROM_TUNNEL);
}

SEC("tc")
int HOOK_PROGRAM(to_container)(struct __sk_buff *skb)
{
	HOOK_PACKET(p);
	bool ours;
	int ret;

	if (pkt_is_others(skb) || !p)
		return HOOK_NEXT;
	pod_begin(skb, p, HOOK_TO_CONTAINER);
	ret = pod_ethertype(skb, &ours);
	if (ours)
		ret = ingress_packet(skb, p);
	return hook_end(skb, p, ret);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
