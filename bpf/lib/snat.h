/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * snat.h - packets that leave by the node's address: requests for backends on
 * other nodes, pods' packets to the world, and the node's own, whose ports the
 * others must not take.
 *
 * A flow has a pair of entries: OUT says what its source becomes, IN, under the
 * answer's tuple, what the answer's destination becomes again. They have no
 * lifetime: whoever collects the conntrack entry collects the pair. The rule by
 * which a port is chosen is Cilium 1.16's, its modulus included.
 */
#ifndef CTCTL_SNAT_H
#define CTCTL_SNAT_H

#include "bound.h"
#include "ct.h"
#include "endpoint.h"
#include "event.h"
#include "lb.h"
#include "nat.h"
#include "pkt.h"
#include "room.h"
#if FAMILY == 4
#include "snatquoted.h"
#endif

#define SNAT_PORT_MIN 32768
#define SNAT_PORT_MAX 65535
#define SNAT_TRIES 128

/* What a packet's source is to become. */
struct snat_target {
	addr_t addr;
	bool   needs_ct;        /* the node's own: nobody else has an entry for it */
	bool   any_port;        /* of a pod or a client: low ports too */
};

/* The range is one short: 65535 can be kept, never drawn, and one more is two more. */
static __always_inline __u16 snat_clamp(__u16 value)
{
	return SNAT_PORT_MIN + value % (SNAT_PORT_MAX - SNAT_PORT_MIN);
}

/* Writes both entries of a new pair; OUT comes with everything but the port.
 * The number of ports that were taken, or -REASON. Global: the verifier goes
 * through the tries once. What it is given by pointer is "memory" there, which
 * Linux 6.1 takes for neither key nor value of a map: copies are. */
__noinline int snat_create_pair(const tuple_t *key, nat_entry_t *out)
{
	IN_ROOM(nat_entry_t, in, answer_nat);
	IN_ROOM(tuple_t, in_key, related);
	IN_ROOM(nat_entry_t, forward, forward_nat);
	IN_ROOM(tuple_t, forward_key, forward);
	__u16 port;

	if (!key || !out || !in || !in_key || !forward || !forward_key)
		return -REASON_INVALID;
	*forward_key = *key;
	*forward = *out;
	in->created = out->created;
	in->needs_ct = out->needs_ct;
	in->to_saddr = key->saddr;
	in->to_sport = key->sport;
	in_key->daddr = out->to_saddr;
	in_key->saddr = key->daddr;
	in_key->sport = key->dport;
	in_key->nexthdr = key->nexthdr;
	in_key->flags = TUPLE_IN;
	port = bpf_ntohs(key->sport);
	if (port < SNAT_PORT_MIN)
		port = snat_clamp(random_u32());
	for (int taken = 0; taken < SNAT_TRIES; taken++) {
		in_key->dport = bpf_htons(port);
		if (!bpf_map_update_elem(&MAP_SNAT, in_key, in, BPF_NOEXIST)) {
			out->to_sport = forward->to_sport = in_key->dport;
			if (!bpf_map_update_elem(&MAP_SNAT, forward_key, forward, BPF_NOEXIST))
				return taken;
			bpf_map_delete_elem(&MAP_SNAT, in_key);
			return -REASON_NAT_NO_MAPPING;
		}
		port = snat_clamp(taken ? port + 1 : random_u32());
	}
	stat_inc(STAT_SNAT_EXHAUSTED);
	return -REASON_NAT_NO_MAPPING;
}

/* The pair of a flow that is to be rewritten otherwise now. */
static __always_inline void snat_delete_pair(const tuple_t *key, const nat_entry_t *out)
{
	tuple_t in_key = {
		.daddr = out->to_saddr, .saddr = key->daddr, .dport = out->to_sport, .sport = key->dport,
		.nexthdr = key->nexthdr, .flags = TUPLE_IN,
	};

	bpf_map_delete_elem(&MAP_SNAT, key);
	bpf_map_delete_elem(&MAP_SNAT, &in_key);
}

/* The node's own flow has an OUT entry that keeps its pair alive. */
static __always_inline int snat_track(ctx_t *ctx, struct pkt *p)
{
	struct ct_new new = {};
	tuple_t key = p->t;
	int ret;

	ret = pkt_parse_tcp_flags(ctx, p);
	if (ret)
		return ret;
	tuple_reverse(&key);
	key.flags = TUPLE_OUT;
	if (ct_lookup_one(p, &key, CT_DIR_EGRESS, WANT_ANY, 0)) {
		event_result(p, CT_RESULT_ESTABLISHED);
		return OK;
	}
	return ct_create(p, &key, CT_DIR_EGRESS, &new);
}

/* The flow's OUT entry, found or made, in *ENTRY. */
static __always_inline int
snat_map(ctx_t *ctx, struct pkt *p, const struct snat_target *to, nat_entry_t *entry)
{
	BESIDE(p, tuple_t, key, flow);
	const nat_entry_t *found;
	int ret;

	*key = snat_key(&p->t, TUPLE_OUT);
	event_lookup(p, LOOKUP_SNAT, CT_DIR_EGRESS);
	event_flow(p);
	if (to->needs_ct) {
		ret = snat_track(ctx, p);
		if (ret)
			return ret;
	}
	found = bpf_map_lookup_elem(&MAP_SNAT, key);
	if (found) {
		if (addr_equal(found->to_saddr, to->addr) && !!found->needs_ct == to->needs_ct) {
			event_why(p, WHY_SNAT_KEPT);
			*entry = *found;
			return OK;
		}
		event_why(p, WHY_SNAT_STALE);
		snat_delete_pair(key, found);
	}
	entry->created = p->now;
	entry->needs_ct = to->needs_ct;
	entry->to_saddr = to->addr;
	ret = snat_create_pair(key, entry);
	if (ret < 0) {
		event_why(p, WHY_SNAT_EXHAUSTED);
		return -REASON_NAT_NO_MAPPING;
	}
	event_why(p, ret ? WHY_SNAT_CREATED | WHY_SNAT_PORT_TAKEN : WHY_SNAT_CREATED);
	return OK;
}

/* P's source becomes the target; P's tuple follows. */
STAGE int snat_apply(ctx_t *ctx, struct pkt *p, const struct snat_target *to)
{
	BESIDE(p, nat_entry_t, entry, nat);
	BESIDE(p, struct nat_change, c, change);
	int ret;

	ret = snat_map(ctx, p, to, entry);
	if (ret)
		return ret;
	c->saddr = entry->to_saddr;
	c->daddr = p->t.daddr;
	c->old_port = p->t.dport;
	c->new_port = entry->to_sport;
	c->port_off = pkt_has_ports(p) ? SPORT_OFF : ECHO_ID_OFF;
	p->t.saddr = c->saddr;
	p->t.dport = c->new_port;
	ctx_set_mark(ctx, (ctx_mark(ctx) & ~MARK_MAGIC) | MARK_SNAT_DONE);
	return nat_rewrite(ctx, p, c);
}

/* ---- out of the node's device ---- */

enum snat_need {
	SNAT_NO = 0,
	SNAT_YES = 1,
};

static __always_inline bool snat_is_native(addr_t addr)
{
	for (__u32 i = 0; i < NATIVE_NETWORKS; i++)
		if (i < cfg_native_count && addr_within(addr, CONFIG_ADDR(cfg_native_net[i]), CONFIG_ADDR(cfg_native_mask[i])))
			return true;
	return false;
}

/* Somebody outside opened the flow: its packets are answers. */
static __always_inline bool snat_is_answer(const struct pkt *p)
{
	tuple_t key = p->t;

	key.flags = TUPLE_IN;
	return ct_find(&key);
}

/* Does a pod's packet to the world take the node's address? SNAT_*, or -REASON. */
static __always_inline int snat_masquerades(ctx_t *ctx, struct pkt *p)
{
	const struct endpoint_info *ep = endpoint_find(p->t.saddr);
	const struct remote_endpoint_info *peer;
	int ret;

	if (!ep)
		return SNAT_NO;
	if (!pkt_has_ports(p)) {
		ret = pkt_parse_l4(ctx, p);
		if (ret && ret != -REASON_CT_UNKNOWN_PROTO)
			return ret;
	}
	if ((ep->flags & ENDPOINT_HOST) || snat_is_native(p->t.daddr))
		return SNAT_NO;
	peer = ipcache_find(p->t.daddr);
	if (!peer || (!cfg_tunnel && identity_is_remote_node(peer->sec_identity)))
		return SNAT_NO;
	return snat_is_answer(p) ? SNAT_NO : SNAT_YES;
}

/* Is the packet's source to be rewritten, and to what? SNAT_*, or -REASON. */
static __always_inline int
snat_is_needed(ctx_t *ctx, struct pkt *p, struct snat_target *to, bool overlay)
{
	int ret;

	to->addr = overlay ? CONFIG_ADDR(cfg_router_addr) : CONFIG_ADDR(cfg_node_addr);
	if (overlay && !cfg_tunnel)
		return SNAT_NO;
	if (addr_equal(p->t.saddr, to->addr) &&
	    ((pkt_has_ports(p) && cfg_lb_mode != LB_DSR) || (cfg_masquerade && !overlay))) {
		to->needs_ct = true;
		return SNAT_YES;
	}
	if (overlay || !cfg_masquerade)
		return SNAT_NO;
	ret = snat_masquerades(ctx, p);
	to->any_port = true;
	return ret;
}

static __always_inline int snat_out_icmp(ctx_t *ctx, struct pkt *p, bool *echo)
{
	struct icmp_header icmp;

	*echo = false;
	if (!pkt_load(ctx, p->l4_off, &icmp, sizeof(icmp)))
		return -REASON_INVALID;
	switch (icmp.type) {
	case ICMP_ECHO:
		p->t.dport = icmp.id;
		p->t.sport = 0;
		*echo = true;
		return OK;
	case ICMP_ECHO_REPLY:
		return OK;
#if FAMILY == 6
	/* Without these nobody finds the node. */
	case ICMP_NEIGHBOUR_SOLICITATION:
	case ICMP_NEIGHBOUR_ADVERTISEMENT:
		return OK;
#else
	case ICMP_DEST_UNREACH:
		return icmp.code == ICMP_FRAG_NEEDED ? snat_quoted_out(ctx, p) : -REASON_UNKNOWN_ICMP_CODE;
#endif
	}
	return -REASON_NAT_UNSUPP_PROTO;
}

/* A packet on its way out that is no service's reply. */
static __always_inline int snat_out(ctx_t *ctx, struct pkt *p, bool overlay)
{
	struct snat_target to = {};
	bool echo = false;
	int ret;

	ret = snat_is_needed(ctx, p, &to, overlay);
	if (ret != SNAT_YES)
		return ret;
	if (p->t.nexthdr == IPPROTO_ICMP_FAMILY) {
		ret = snat_out_icmp(ctx, p, &echo);
		if (ret)
			return ret;
	}
	if (!pkt_has_ports(p) && !echo)
		return OK;
	if (!to.any_port && bpf_ntohs(p->t.dport) < SNAT_PORT_MIN)
		return OK;
	p->t.flags = 0;
	return snat_apply(ctx, p, &to);
}

/* ---- answers ---- */

/* The node's own flow: its entry is refreshed as by any answer. */
static __always_inline int snat_track_answer(ctx_t *ctx, struct pkt *p)
{
	tuple_t key = p->t;
	int ret;

	ret = pkt_parse_tcp_flags(ctx, p);
	if (ret)
		return ret;
	key.flags = TUPLE_OUT;
	if (ct_lookup_one(p, &key, CT_DIR_INGRESS, WANT_ANY, 0))
		event_result(p, CT_RESULT_REPLY);
	return OK;
}

#if FAMILY == 6
/* Cilium 1.16 looks for the quoted header 4 bytes too early: it never finds the
 * flow, and drops what it cannot walk through there. */
static __always_inline int snat_check_quoted(ctx_t *ctx, const struct pkt *p)
{
	const __u32 off = p->l4_off + offsetof(struct icmp_header, id);
	struct ipv4_frag_l4ports ports;
	struct ipv6hdr ip;
	__u8 nexthdr;
	int l4_off;

	if (!pkt_load(ctx, off, &ip, sizeof(ip)))
		return -REASON_INVALID;
	nexthdr = ip.nexthdr;
	l4_off = ipv6_l4(ctx, off + sizeof(ip), &nexthdr);
	if (l4_off < 0)
		return l4_off;
	if ((nexthdr == IPPROTO_TCP || nexthdr == IPPROTO_UDP) && !pkt_load(ctx, l4_off, &ports, sizeof(ports)))
		return -REASON_INVALID;
	return OK;
}
#endif

/* The same for what is no ICMP error: C says where its port, or what stands for one, is. */
static __always_inline int
snat_answer_found(ctx_t *ctx, struct pkt *p, struct nat_change *c, nat_entry_t *entry, bool *done)
{
	const nat_entry_t *found;
	int ret;

	if (bpf_ntohs(p->t.sport) < SNAT_PORT_MIN)
		return OK;
	found = snat_find(&p->t, TUPLE_IN);
	if (!found)
		return OK;
	*entry = *found;
	event_lookup(p, LOOKUP_SNAT, CT_DIR_INGRESS);
	c->saddr = p->t.saddr;
	c->daddr = entry->to_saddr;
	c->old_port = p->t.sport;
	c->new_port = entry->to_sport;
	p->t.daddr = c->daddr;
	p->t.sport = c->new_port;
	event_why(p, WHY_SNAT_KEPT);
	event_flow(p);
	if (entry->needs_ct) {
		ret = snat_track_answer(ctx, p);
		if (ret)
			return ret;
	}
	ret = nat_rewrite(ctx, p, c);
	if (ret)
		return ret;
	*done = true;
	ctx_set_mark(ctx, (ctx_mark(ctx) & ~MARK_MAGIC) | MARK_SNAT_DONE);
	return lb_fragment(p);
}

/* *DONE: the packet was an answer to a flow that left by the node's address;
 * its destination is the flow's own source again. */
STAGE int snat_answer(ctx_t *ctx, struct pkt *p, bool *done)
{
	BESIDE(p, struct nat_change, c, change);
	BESIDE(p, nat_entry_t, entry, nat);
	struct icmp_header icmp;

	*done = false;
	c->port_off = DPORT_OFF;
	if (p->t.nexthdr == IPPROTO_ICMP_FAMILY) {
		if (!pkt_load(ctx, p->l4_off, &icmp, sizeof(icmp)))
			return -REASON_INVALID;
#if FAMILY == 4
		if (icmp.type == ICMP_DEST_UNREACH && icmp.code == ICMP_FRAG_NEEDED)
			return snat_quoted_in(ctx, p, done);
#else
		if (icmp.type == ICMP_TOO_BIG)
			return snat_check_quoted(ctx, p);
#endif
		if (icmp.type != ICMP_ECHO_REPLY)
			return OK;
		p->t.sport = icmp.id;
		p->t.dport = 0;
		c->port_off = ECHO_ID_OFF;
	} else if (!pkt_has_ports(p)) {
		return OK;
	}
	return snat_answer_found(ctx, p, c, entry, done);
}

#endif /* CTCTL_SNAT_H */
