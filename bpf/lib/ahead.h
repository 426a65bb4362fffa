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
#define AF_INET6 10

/* What looking ahead has found. */
struct ahead {
	tuple_t key;                    /* of the connection's SERVICE entry */
	struct ct_entry *entry;         /* NULL: it gets one */
	struct lb_choice choice;
	__u8   next_hop[ETH_ALEN];
	__u8   own[ETH_ALEN];
};

/* ---- the packet ---- */

/* Of both, as a checksum adds; not folded. */
static __always_inline __u64 ahead_sum_of_addresses(const struct pkt *p)
{
#if FAMILY == 4
	return (__u64)p->t.saddr + p->t.daddr;
#else
	const addr_t from = p->t.saddr, to = p->t.daddr;
	__u64 sum = csum_add64(csum_add64(from.half[0], from.half[1]), csum_add64(to.half[0], to.half[1]));

	return (sum & 0xffffffff) + (sum >> 32);
#endif
}

/* Has the L4 checksum a value, or only the pseudo header's sum, for a device to
 * complete? So it comes from a sender on this machine, and so is what GRO puts
 * together. One whole checksum of 65536 looks the same: that packet is passed on. */
static __always_inline bool ahead_is_unfinished(const struct pkt *p, __u16 l4_len, __u16 check)
{
	__u64 sum = ahead_sum_of_addresses(p) + bpf_htons(p->t.nexthdr) + bpf_htons(l4_len);

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return check == sum;
}

#if FAMILY == 4
/* An IP header without options, of a whole packet that has a hop left; *L4_LEN: what is behind it. */
static __always_inline bool ahead_parse_ip(ctx_t *ctx, struct pkt *p, __u16 *l4_len)
{
	struct iphdr *ip;

	if (pkt_parse_ip(ctx, p) || p->fragment || p->l4_off != ETH_HLEN + sizeof(*ip))
		return false;
	ip = pkt_ip(ctx);
	if (!ip || ip->ttl <= 1 || bpf_ntohs(ip->tot_len) < sizeof(*ip) || bpf_ntohs(ip->tot_len) > p->len - ETH_HLEN)
		return false;
	*l4_len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	return true;
}
#else
/* The same: what has extension headers, a fragment's among them, has neither TCP's number nor UDP's in its header. */
static __always_inline bool ahead_parse_ip(ctx_t *ctx, struct pkt *p, __u16 *l4_len)
{
	struct ipv6hdr *ip;

	if (pkt_parse_ip(ctx, p))
		return false;
	ip = pkt_ipv6(ctx);
	if (!ip || ip->hop_limit <= 1 || bpf_ntohs(ip->payload_len) > p->len - ETH_HLEN - sizeof(*ip))
		return false;
	*l4_len = bpf_ntohs(ip->payload_len);
	return true;
}
#endif

/* Is the datagram with header UDP of the tunnel, which is IPv4's? */
static __always_inline bool ahead_is_tunnel(const struct pkt *p, const struct udphdr *udp)
{
#if FAMILY == 4
	return p->t.daddr == cfg_node_ip && udp->dest == GENEVE_PORT;
#else
	(void)p;
	(void)udp;
	return false;
#endif
}

/* TCP or UDP in whole, right behind the IP header, nothing of a tunnel: P is filled in. */
static __noinline bool ahead_parse(ctx_t *ctx, struct pkt *p)
{
	const __u32 l4_off = ETH_HLEN + sizeof(FAMILY_NAME(struct iphdr, struct ipv6hdr));
	struct udphdr udp;
	struct tcphdr tcp;
	__u16 l4_len, check;

	if (!ahead_parse_ip(ctx, p, &l4_len))
		return false;
	if (p->t.nexthdr == IPPROTO_TCP) {
		if (l4_len < sizeof(tcp) || !pkt_load(ctx, l4_off, &tcp, sizeof(tcp)))
			return false;
		check = tcp.check;
	} else if (p->t.nexthdr == IPPROTO_UDP) {
		if (l4_len < sizeof(udp) || !pkt_load(ctx, l4_off, &udp, sizeof(udp)) || ahead_is_tunnel(p, &udp))
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

/* Is there a known neighbour on the way that FIB asks for, by the node's device? Asked as bpf_redirect_neigh()
 * would. In a simulation there always is one, and no address is written. */
static __always_inline bool ahead_find_way(ctx_t *ctx, struct ahead *a, struct bpf_fib_lookup *fib)
{
	if (cfg_sim)
		return true;
	if (bpf_fib_lookup(ctx, fib, sizeof(*fib), BPF_FIB_LOOKUP_OUTPUT) != BPF_FIB_LKUP_RET_SUCCESS ||
	    fib->ifindex != cfg_dev_ifindex)
		return false;
	__builtin_memcpy(a->next_hop, fib->dmac, ETH_ALEN);
	__builtin_memcpy(a->own, fib->smac, ETH_ALEN);
	return true;
}

/* To another node through the tunnel, which is IPv4's, for a packet of LEN bytes with its outer headers. */
static __always_inline bool ahead_route_outer(ctx_t *ctx, struct ahead *a, __be32 saddr, __be32 daddr, __u32 len)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET, .ifindex = cfg_dev_ifindex, .tot_len = len, .ipv4_src = saddr, .ipv4_dst = daddr,
	};

	return len <= 0xffff && ahead_find_way(ctx, a, &fib);
}

/* To DADDR, for a packet of LEN bytes. */
#if FAMILY == 4
#define ahead_route ahead_route_outer
#else
static __always_inline bool ahead_route(ctx_t *ctx, struct ahead *a, addr_t saddr, addr_t daddr, __u32 len)
{
	struct bpf_fib_lookup fib = { .family = AF_INET6, .ifindex = cfg_dev_ifindex, .tot_len = len };

	__builtin_memcpy(fib.ipv6_src, &saddr, sizeof(saddr));
	__builtin_memcpy(fib.ipv6_dst, &daddr, sizeof(daddr));
	return len <= 0xffff && ahead_find_way(ctx, a, &fib);
}
#endif

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
	       ahead_route_outer(ctx, a, cfg_node_ip, remote, p->len + overhead - ETH_HLEN) && ctx_has_headroom(ctx, overhead);
}

/* What DSR puts into a packet that goes without a tunnel. */
typedef FAMILY_NAME(struct dsr_ip_option, struct dsr_destination) dsr_in_ip_t;

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
	return ahead_route(ctx, a, p->t.saddr, backend, len + sizeof(dsr_in_ip_t)) &&
	       ctx_has_headroom(ctx, sizeof(dsr_in_ip_t));
}

/* ---- requests ---- */

/* The backend that a service's packet has or would get, by the rules of lb_to_backend() on a copy of its entry;
 * what is told of it is told here. True: it is on another node. No part of its
 * caller: the stack that it takes is free again for what writes. */
static __noinline bool
ahead_request(struct pkt *p, lb_key_t *key, const struct lb4_service *svc, struct ahead *a)
{
	BESIDE(p, struct ct_entry, copy, entry);
	struct ct_entry *e;
	int ret;

	if (nodeport_check(p, svc) || (svc->flags & SVC_HOST_PORT))
		return false;
	event_lookup(p, LOOKUP_SERVICE, CT_DIR_SERVICE);
	a->entry = ct_find(&a->key);
	if (a->entry)
		*copy = *a->entry;
	e = ct_act(p, &a->key, a->entry ? copy : NULL, CT_DIR_SERVICE, WANT_SERVICE, svc->rev_nat_index);
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
	BESIDE(p, struct ct_entry, copy, entry);
	const bool heard = p->heard;
	const reverse_nat_t *service;
	const nat_entry_t *found;
	struct ct_entry *e;
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
	*copy = *e;
	/* It is told when it is done. */
	p->heard = false;
	hit = ct_touch(p, copy, CT_DIR_INGRESS, WANT_NODE_PORT, 0);
	p->heard = heard;
	return hit && ahead_route(ctx, a, service->address, key.daddr, p->len - ETH_HLEN);
}

static __noinline int ahead_return(ctx_t *ctx, struct pkt *p)
{
	BESIDE(p, struct nat_change, c, change);
	BESIDE(p, nat_entry_t, entry, nat);
	bool done = false;
	int ret;

	c->port_off = DPORT_OFF;
	ret = snat_answer_found(ctx, p, c, entry, &done);
	return ret || !done ? ret : nodeport_return(ctx, p);
}

/* ---- in the tunnel ---- */

/* Has the packet outer headers of this node's tunnel, as nodes make them, with nothing in them that tells more than
 * where it is from? *INNER: the type of what is in it. A UDP checksum of 0: there is none to be made by a device. */
static __noinline bool ahead_outer(ctx_t *ctx, struct tunnel *tun, __be16 *inner)
{
	struct geneve_outer o;

	if (!pkt_load(ctx, 0, &o, sizeof(o)) ||
	    !pkt_load(ctx, sizeof(o) + offsetof(struct ethhdr, h_proto), inner, sizeof(*inner)))
		return false;
	tun->remote = o.ip.saddr;
	tun->vni = bpf_ntohl(o.geneve.vni) >> 8;
	return o.ip.version == 4 && o.ip.ihl == sizeof(o.ip) / 4 && o.ip.protocol == IPPROTO_UDP &&
	       ip_fragment(o.ip.frag_off) == FRAGMENT_NONE && o.ip.daddr == cfg_node_ip &&
	       bpf_ntohs(o.ip.tot_len) == ctx_len(ctx) - ETH_HLEN && o.udp.dest == GENEVE_PORT && !o.udp.check &&
	       !o.geneve.option_words && !o.geneve.flags && o.geneve.protocol == bpf_htons(ETH_P_TEB) &&
	       tun->vni != IDENTITY_HOST;
}

#endif /* CTCTL_AHEAD_H */
