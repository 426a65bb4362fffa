/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * geneve.h - into the tunnel between nodes, through a collect_md device or without
 * one, and the DSR option in it (Cilium's: class 0x014b, type 0x81).
 */
#ifndef CTCTL_GENEVE_H
#define CTCTL_GENEVE_H

#include "endpoint.h"
#include "event.h"
#include "icmp.h"
#include "lb.h"
#include "nat.h"
#include "pkt.h"

#define GENEVE_TTL 64
#define GENEVE_CRITICAL 0x40
#define DSR_OPTION_CLASS bpf_htons(0x014b)
#define DSR_OPTION_TYPE 0x81    /* 1, critical */
#define DSR_OPTION_WORDS FAMILY_NAME(2, 5)

struct geneve_header {
	__u8   option_words;    /* version in the two bits above */
	__u8   flags;
	__be16 protocol;
	__be32 vni;             /* in the upper three bytes */
};

struct dsr_option {
	__be16 class;
	__u8   type;
	__u8   words;           /* of 4 bytes, after these 4 */
	addr_t vip;
	__be16 port;
	__u16  pad;
} FAMILY_PACKED;

/* How a packet came, or goes. */
struct tunnel {
	__be32 remote;
	__u32  vni;
	__u32  mtu;             /* of the way there */
	bool   apart;           /* encapsulated by a function of its own: where a hook has several ways into tunnels */
};

/* What the outer headers say. */
struct geneve_send {
	__be32 remote;
	__u32  vni;
	__u64  gso_flag;        /* of bpf_skb_adjust_room() */
	__be16 source_port;
	__be16 vip_port;
	addr_t vip;
	__u32  dsr;             /* 1: with the option */
};

static __always_inline struct dsr_option geneve_dsr_option(const struct geneve_send *to)
{
	return (struct dsr_option){
		.class = DSR_OPTION_CLASS, .type = DSR_OPTION_TYPE, .words = DSR_OPTION_WORDS,
		.vip = to->vip, .port = to->vip_port,
	};
}

#if CTX_SKB
static __always_inline int geneve_send_by_device(ctx_t *ctx, const struct geneve_send *to)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = to->vni, .remote_ipv4 = bpf_ntohl(to->remote), .tunnel_ttl = GENEVE_TTL,
	};
	struct dsr_option opt = geneve_dsr_option(to);

	/* As our own outer header has it: too large for the way is what the sender is told, not cut in pieces. */
	if (bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT) ||
	    (to->dsr && bpf_skb_set_tunnel_opt(ctx, &opt, sizeof(opt))))
		return -REASON_WRITE_ERROR;
	return OK;
}
#else
/* No such device takes what XDP sends: the loader refuses both together. */
static __always_inline int geneve_send_by_device(ctx_t *ctx, const struct geneve_send *to)
{
	return ctx && to ? -REASON_WRITE_ERROR : -REASON_INVALID;
}
#endif

struct geneve_outer {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct geneve_header geneve;
} CTCTL_PACKED;

/* One port for one flow, so that the network between spreads flows. */
static __always_inline __be16 geneve_source_port(const struct pkt *p)
{
#if FAMILY == 4
	__u32 hash = lb_hash(p->t.saddr, p->t.daddr, (__u32)p->t.dport << 16 | p->t.sport);
#else
	__u32 hash = lb_flow_hash(p);
#endif

	return bpf_htons(0xc000 | (hash & 0x3fff));
}

/* Do the segments of a GSO packet fit with OVERHEAD more? If not, the kernel
 * makes them smaller; it can only for TCP. */
static __always_inline bool
geneve_segments_fit(ctx_t *ctx, const struct pkt *p, __u32 overhead, __u32 mtu)
{
	struct tcphdr tcp;

	if (p->t.nexthdr != IPPROTO_TCP || !pkt_load(ctx, p->l4_off, &tcp, sizeof(tcp)))
		return true;
	return p->l4_off - ETH_HLEN + tcp.doff * 4 + ctx_gso_size(ctx) + overhead <= mtu;
}

static __always_inline int geneve_send_inline(ctx_t *ctx, const struct geneve_send *to)
{
	const bool dsr = to->dsr;
	const __u32 options = dsr ? sizeof(struct dsr_option) : 0;
	struct geneve_outer outer = {
		.eth.h_proto = bpf_htons(ETH_P_IP),
		.ip = { .version = 4, .ihl = 5, .frag_off = IP_DF, .ttl = GENEVE_TTL, .protocol = IPPROTO_UDP,
			.saddr = cfg_node_ip, .daddr = to->remote },
		.udp = { .source = to->source_port, .dest = GENEVE_PORT },
		.geneve = { .option_words = options / 4, .flags = dsr ? GENEVE_CRITICAL : 0,
			    .protocol = bpf_htons(ETH_P_TEB), .vni = bpf_htonl(to->vni << 8) },
	};
	struct dsr_option opt = geneve_dsr_option(to);
	struct ethhdr inner;

	if (!pkt_load(ctx, 0, &inner, sizeof(inner)))
		return -REASON_INVALID;
	outer.ip.tot_len = bpf_htons(ctx_len(ctx) + sizeof(outer) + options - ETH_HLEN);
	outer.udp.len = bpf_htons(ctx_len(ctx) + sizeof(outer) + options - ETH_HLEN - sizeof(outer.ip));
	outer.ip.check = icmp_csum(&outer.ip, sizeof(outer.ip), 0);
	__builtin_memcpy(outer.eth.h_dest, inner.h_dest, ETH_ALEN);
	__builtin_memcpy(outer.eth.h_source, inner.h_source, ETH_ALEN);
	if (ctx_room_for_tunnel(ctx, sizeof(outer) + options, ETH_HLEN, to->gso_flag) ||
	    ctx_store_bytes(ctx, 0, &outer, sizeof(outer)) ||
	    (dsr && ctx_store_bytes(ctx, sizeof(outer), &opt, sizeof(opt))) ||
	    ctx_store_bytes(ctx, sizeof(outer) + options, &inner, sizeof(inner)))
		return -REASON_WRITE_ERROR;
	ctx_set_mark(ctx, MARK_OVERLAY);
	return OK;
}

STAGE int geneve_encapsulate(ctx_t *ctx, const struct geneve_send *to)
{
	return cfg_overlay_device ? geneve_send_by_device(ctx, to) : geneve_send_inline(ctx, to);
}

#if FAMILY == 4
/* Global: the verifier goes through it once, not once for each way here. */
__noinline int geneve_encapsulate_apart(ctx_t *ctx, const struct geneve_send *to)
{
	return to ? geneve_encapsulate(ctx, to) : -REASON_INVALID;
}
#else
#define geneve_encapsulate_apart geneve_encapsulate
#endif

/* The sender is told what fits, about the packet as it sent it. */
static __always_inline int
geneve_too_big(ctx_t *ctx, struct pkt *p, const struct lb_result *lb, __u32 mtu)
{
	BESIDE(p, struct nat_change, back, change);
	int ret;

	back->saddr = p->t.saddr;
	back->daddr = lb->vip;
	back->old_port = p->t.sport;
	back->new_port = lb->vip_port;
	back->port_off = DPORT_OFF;
	ret = nat_rewrite(ctx, p, back);
	return ret ? ret : icmp_too_big(ctx, p, mtu);
}

/* What DSR's option and the outer headers take. */
static __always_inline __u32 geneve_overhead(bool dsr)
{
	return sizeof(struct geneve_outer) + (dsr ? sizeof(struct dsr_option) : 0);
}

/* Does the packet fit on the way to the node behind its destination? *TO says
 * which way; the sender of one that does not is told, and it is redirected. */
STAGE int
geneve_route(ctx_t *ctx, struct pkt *p, const struct lb_result *lb, bool dsr, struct tunnel *to)
{
	const struct remote_endpoint_info *info = ipcache_find(p->t.daddr);

	if (!info || !info->tunnel_endpoint)
		return -REASON_NO_TUNNEL_ENDPOINT;
	to->remote = info->tunnel_endpoint;
	event_tunnel(p, to->remote, to->vni);
	if (bpf_check_mtu(ctx, cfg_sim ? 0 : cfg_dev_ifindex, &to->mtu, geneve_overhead(dsr), 0) ==
	    BPF_MTU_CHK_RET_FRAG_NEEDED)
		return geneve_too_big(ctx, p, lb, to->mtu - geneve_overhead(dsr));
	return OK;
}

/* DSR: with the option that tells the node which address the client wrote to. */
STAGE int
geneve_push(ctx_t *ctx, struct pkt *p, const struct lb_result *lb, bool dsr, const struct tunnel *to)
{
	BESIDE(p, struct geneve_send, send, geneve);
	int ret;

	send->remote = to->remote;
	send->vni = to->vni;
	send->vip = lb->vip;
	send->vip_port = lb->vip_port;
	send->dsr = dsr;
	if (dsr) {
		p->dsr_vip = lb->vip;
		p->dsr_port = lb->vip_port;
	}
	if (!cfg_overlay_device) {
		send->source_port = geneve_source_port(p);
		if (ctx_gso_size(ctx) && geneve_segments_fit(ctx, p, geneve_overhead(dsr), to->mtu))
			send->gso_flag = BPF_F_ADJ_ROOM_FIXED_GSO;
	}
	ret = to->apart ? geneve_encapsulate_apart(ctx, send) : geneve_encapsulate(ctx, send);
	if (ret)
		return ret;
	if (!cfg_overlay_device)
		return pkt_send_out(p);
	pkt_redirect(p, cfg_overlay_ifindex);
	return OK;
}

static __always_inline int
geneve_send(ctx_t *ctx, struct pkt *p, const struct lb_result *lb, bool dsr, __u32 vni)
{
	/* DSR's ways are the fast ones. */
	struct tunnel to = { .vni = vni, .apart = cfg_lb_mode != LB_DSR && !dsr };
	int ret = geneve_route(ctx, p, lb, dsr, &to);

	if (ret || p->redirect)
		return ret;
	return geneve_push(ctx, p, lb, dsr, &to);
}

#endif /* CTCTL_GENEVE_H */
