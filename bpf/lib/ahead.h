/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ahead.h - what XDP looks at before it touches anything: is the packet one that
 * this node sends on to another, and will nothing be in the way? Whatever is not
 * goes to the tc program as it came: no entry, no counter and no byte of it changed.
 */
#ifndef CTCTL_AHEAD_H
#define CTCTL_AHEAD_H

#include "ct.h"
#include "endpoint.h"
#include "geneve.h"
#include "lb.h"
#include "nodeport.h"
#include "pkt.h"

#define AF_INET 2

/* What looking ahead has found. */
struct ahead {
	tuple_t key;                    /* of the connection's SERVICE entry */
	struct ct_entry *entry;         /* NULL: it gets one */
	struct lb_choice choice;
	__u8   next_hop[ETH_ALEN];
	__u8   own[ETH_ALEN];
};

/* ---- the packet ---- */

/* Has the L4 checksum a value, or only the pseudo header's sum, for a device to
 * complete? So it comes from a sender on this machine, and so is what GRO puts
 * together. One whole checksum of 65536 looks the same: that packet is passed on. */
static __always_inline bool ahead_is_unfinished(const struct pkt *p, __u16 l4_len, __u16 check)
{
	__u64 sum = (__u64)p->t.saddr + p->t.daddr + bpf_htons(p->t.nexthdr) + bpf_htons(l4_len);

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return check == sum;
}

/* TCP or UDP in whole, without IP options, no fragment, nothing of a tunnel, a hop left: P is filled in. */
static __noinline bool ahead_parse(ctx_t *ctx, struct pkt *p)
{
	const __u32 l4_off = ETH_HLEN + sizeof(struct iphdr);
	struct udphdr udp;
	struct tcphdr tcp;
	struct iphdr *ip;
	__u16 l4_len, check;

	if (pkt_parse_ip(ctx, p) || p->fragment || p->l4_off != l4_off)
		return false;
	ip = pkt_ip(ctx);
	if (!ip || ip->ttl <= 1 || bpf_ntohs(ip->tot_len) < sizeof(*ip) || bpf_ntohs(ip->tot_len) > p->len - ETH_HLEN)
		return false;
	l4_len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	if (p->t.nexthdr == IPPROTO_TCP) {
		if (l4_len < sizeof(tcp) || !pkt_load(ctx, l4_off, &tcp, sizeof(tcp)))
			return false;
		check = tcp.check;
	} else if (p->t.nexthdr == IPPROTO_UDP) {
		if (l4_len < sizeof(udp) || !pkt_load(ctx, l4_off, &udp, sizeof(udp)))
			return false;
		if (p->t.daddr == cfg_node_ip && udp.dest == GENEVE_PORT)
			return false;
		check = udp.check;
	} else {
		return false;
	}
	if (ahead_is_unfinished(p, l4_len, check))
		return false;
	return !pkt_parse_ports(ctx, p) && !pkt_parse_tcp_flags(ctx, p);
}

/* ---- the way ---- */

/* Is there a known neighbour on the way to DADDR by the node's device, for a packet of LEN bytes? Asked as
 * bpf_redirect_neigh() would. In a simulation there always is one, and no address is written. */
static __always_inline bool ahead_route(ctx_t *ctx, struct ahead *a, __be32 saddr, __be32 daddr, __u32 len)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET, .ifindex = cfg_dev_ifindex, .tot_len = len, .ipv4_src = saddr, .ipv4_dst = daddr,
	};

	if (cfg_sim)
		return true;
	if (len > 0xffff || bpf_fib_lookup(ctx, &fib, sizeof(fib), BPF_FIB_LOOKUP_OUTPUT) != BPF_FIB_LKUP_RET_SUCCESS ||
	    fib.ifindex != cfg_dev_ifindex)
		return false;
	__builtin_memcpy(a->next_hop, fib.dmac, ETH_ALEN);
	__builtin_memcpy(a->own, fib.smac, ETH_ALEN);
	return true;
}

/* Into the tunnel, to the node behind BACKEND? */
static __always_inline bool ahead_tunnel(ctx_t *ctx, const struct pkt *p, struct ahead *a, addr_t backend, bool dsr)
{
	const struct remote_endpoint_info *info = ipcache_find(backend);
	const __u32 overhead = geneve_overhead(dsr);
	__u32 mtu = 0;
	__be32 remote;

	if (cfg_overlay_device || !info || !info->tunnel_endpoint)
		return false;
	remote = info->tunnel_endpoint;
	return !bpf_check_mtu(ctx, cfg_sim ? 0 : cfg_dev_ifindex, &mtu, overhead, 0) &&
	       ahead_route(ctx, a, cfg_node_ip, remote, p->len + overhead - ETH_HLEN) && ctx_has_headroom(ctx, overhead);
}

/* Towards the backend that was chosen, in the node's mode (nodeport_send). */
static __noinline bool ahead_send(ctx_t *ctx, const struct pkt *p, struct ahead *a)
{
	const bool opens = p->t.nexthdr != IPPROTO_TCP || (p->tcp_flags & TCP_SYN);
	const addr_t backend = a->choice.backend->address;
	__u32 len = p->len - ETH_HLEN;

	if (!nodeport_uses_dsr(p)) {
		if (cfg_tunnel && ipcache_is_tunneled(backend))
			return ahead_tunnel(ctx, p, a, backend, false);
		return ahead_route(ctx, a, CONFIG_ADDR(cfg_node_addr), backend, len);
	}
	if (!cfg_dsr_option)
		return ahead_tunnel(ctx, p, a, backend, opens);
	if (!opens)
		return ahead_route(ctx, a, p->t.saddr, backend, len);
	return ahead_route(ctx, a, p->t.saddr, backend, len + sizeof(struct dsr_ip_option)) &&
	       ctx_has_headroom(ctx, sizeof(struct dsr_ip_option));
}

/* ---- requests ---- */

/* The backend that a service's packet has or would get, by the rules of lb_to_backend() on a copy of its entry;
 * what is told of it is told here. True: it is on another node. No part of its
 * caller: the stack that it takes is free again for what writes. */
static __noinline bool
ahead_request(struct pkt *p, lb_key_t *key, const struct lb4_service *svc, struct ahead *a)
{
	struct ct_entry copy = {}, *e;
	int ret;

	if (nodeport_check(p, svc) || (svc->flags & SVC_HOST_PORT))
		return false;
	event_lookup(p, LOOKUP_SERVICE, CT_DIR_SERVICE);
	a->entry = ct_find(&a->key);
	if (a->entry)
		copy = *a->entry;
	e = ct_act(p, &a->key, a->entry ? &copy : NULL, CT_DIR_SERVICE, WANT_SERVICE, svc->rev_nat_index);
	if (e) {
		event_result(p, CT_RESULT_REPLY);
		ret = lb_continue(p, e, key, svc, &a->choice);
	} else {
		a->entry = NULL;
		ret = lb_choose(p, key, svc, &a->choice.backend, &a->choice.id, true);
	}
	if (ret || !a->choice.backend || endpoint_find(a->choice.backend->address))
		return false;
	event_service(p, svc->rev_nat_index, a->choice.id);
	return true;
}

/* The same again, for good: from here on the packet is XDP's. What another CPU did to the entry meanwhile is as
 * it would be with two packets of a connection on two CPUs (lb_continue). */
static __noinline int
ahead_forward(ctx_t *ctx, struct pkt *p, const struct lb4_service *svc, const struct ahead *a, struct lb_result *lb)
{
	struct ct_new new = { .rev_nat_index = svc->rev_nat_index, .backend_id = a->choice.id };
	const bool heard = p->heard;
	int ret = OK;

	if (a->entry) {
		p->heard = false;
		ct_touch(p, a->entry, CT_DIR_SERVICE, WANT_SERVICE, svc->rev_nat_index);
		p->heard = heard;
		if (READ_ONCE(a->entry->backend_id) != a->choice.id)
			WRITE_ONCE(a->entry->backend_id, a->choice.id);
	} else {
		ret = ct_create(p, &a->key, CT_DIR_SERVICE, &new);
	}
	if (!ret)
		ret = lb_translate(ctx, p, p->t.saddr, svc, &a->choice, false, lb);
	return ret ? ret : nodeport_send(ctx, p, lb, false);
}

/* ---- answers ---- */

/* Is the packet a backend's answer to a request that left by this node's address, with a way to the client? */
static __noinline bool ahead_answer(ctx_t *ctx, struct pkt *p, struct ahead *a)
{
	const bool heard = p->heard;
	const reverse_nat_t *service;
	const nat_entry_t *found;
	struct ct_entry copy, *e;
	tuple_t key = p->t;
	bool hit;

	if (nodeport_uses_dsr(p) || bpf_ntohs(p->t.sport) < SNAT_PORT_MIN)
		return false;
	found = snat_find(&p->t, TUPLE_IN);
	if (!found || found->needs_ct)
		return false;
	key.daddr = found->to_saddr;
	key.sport = found->to_sport;
	key.flags = TUPLE_OUT;
	e = ct_find(&key);
	if (!e || !ct_is_wanted(e, WANT_NODE_PORT, 0))
		return false;
	service = nat_service_address(e->rev_nat_index);
	if (!service || (cfg_tunnel && ipcache_is_tunneled(key.daddr)))
		return false;
	copy = *e;
	/* It is told when it is done. */
	p->heard = false;
	hit = ct_touch(p, &copy, CT_DIR_INGRESS, WANT_NODE_PORT, 0);
	p->heard = heard;
	return hit && ahead_route(ctx, a, service->address, key.daddr, p->len - ETH_HLEN);
}

static __noinline int ahead_return(ctx_t *ctx, struct pkt *p)
{
	struct nat_change c = { .port_off = DPORT_OFF };
	nat_entry_t entry = {};
	bool done = false;
	int ret;

	ret = snat_answer_found(ctx, p, &c, &entry, &done);
	return ret || !done ? ret : nodeport_return(ctx, p);
}

#endif /* CTCTL_AHEAD_H */
