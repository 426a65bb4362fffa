/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * geneve.h - the tunnel between nodes, through a collect_md device or without
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
#include "policy.h"

/* linux/bpf.h has it since 6.3. */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

#define GENEVE_TTL 64
#define GENEVE_CRITICAL 0x40
#define GENEVE_OPTIONS_MAX 8    /* looked at; more are skipped */
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

static __always_inline bool geneve_is_dsr(const struct dsr_option *opt)
{
	return opt->class == DSR_OPTION_CLASS && opt->type == DSR_OPTION_TYPE;
}

static __always_inline void geneve_take_option(struct pkt *p, const struct dsr_option *opt)
{
	if (!geneve_is_dsr(opt))
		return;
	p->dsr_vip = opt->vip;
	p->dsr_port = opt->port;
	p->dsr = true;
}

/* ---- in: from the device ---- */

static __always_inline int geneve_key_of_device(struct __sk_buff *skb, struct pkt *p, struct tunnel *tun)
{
	struct bpf_tunnel_key key = {};
	struct dsr_option opt = {};

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return -REASON_NO_TUNNEL_KEY;
	tun->remote = bpf_htonl(key.remote_ipv4);
	tun->vni = key.tunnel_id;
	if (bpf_skb_get_tunnel_opt(skb, &opt, sizeof(opt)) > 0)
		geneve_take_option(p, &opt);
	return OK;
}

static __always_inline int geneve_key_of_simulation(struct pkt *p, struct tunnel *tun)
{
	struct dsr_option opt = {};
	struct ctctl_sim *s = sim();

	if (!s || !s->has_tunnel_key)
		return -REASON_NO_TUNNEL_KEY;
	tun->remote = s->tunnel_remote;
	tun->vni = s->tunnel_vni;
	/* As the kernel's helper: what is longer than the room for it is not handed over. */
	if (s->option_len && s->option_len <= sizeof(opt)) {
		__builtin_memcpy(&opt, s->option, sizeof(opt));
		geneve_take_option(p, &opt);
	}
	return OK;
}

static __always_inline int geneve_key(struct __sk_buff *skb, struct pkt *p, struct tunnel *tun)
{
	return cfg_sim ? geneve_key_of_simulation(p, tun) : geneve_key_of_device(skb, p, tun);
}

/* ---- in: from the wire ---- */

/* In skb->cb[0], from the program that took an outer IPv4 header off an IPv6
 * packet to the one that goes on with it. */
#define GENEVE_INNER_IPV6 0x67656e36

#if FAMILY == 4

/* The last DSR option between OFF and END, in *FOUND; what that had before stays
 * where there is none. Global: the verifier goes through it once, and the ways
 * out of the loop are one for what comes after. */
__noinline int geneve_find_option(struct __sk_buff *skb, __u32 off, __u32 end, struct dsr_option *found)
{
	if (!found)
		return -REASON_INVALID;
	for (int i = 0; i < GENEVE_OPTIONS_MAX; i++) {
		struct dsr_option opt;

		if (off + sizeof(opt) > end)
			break;
		if (!pkt_load(skb, off, &opt, sizeof(opt)))
			return -REASON_INVALID;
		if (geneve_is_dsr(&opt))
			*found = opt;
		off += 4 + (opt.words & 0x1f) * 4;
	}
	return OK;
}

/* Is this a tunnel's outer packet, for this node? */
static __always_inline bool geneve_is_ours(struct __sk_buff *skb, const struct pkt *p)
{
	__be16 dport;

	return p->t.nexthdr == IPPROTO_UDP && p->t.daddr == cfg_node_ip && p->fragment == FRAGMENT_NONE &&
	       pkt_load(skb, p->l4_off + offsetof(struct udphdr, dest), &dport, sizeof(dport)) && dport == GENEVE_PORT;
}

/* The first option, if it is of the size of the other family's DSR option. */
static __always_inline int
geneve_pass_ipv6(struct __sk_buff *skb, struct pkt *p, const struct tunnel *tun, __u32 off, __u32 options)
{
	const __be16 ethertype = bpf_htons(ETH_P_IPV6);
	const __u32 len = 24;
	__u32 zero = 0;
	struct ctctl_tunnel_in *in = bpf_map_lookup_elem(&ctctl_tunnel_in, &zero);

	if (!in)
		return -REASON_INVALID;
	in->remote = tun->remote;
	in->vni = tun->vni;
	in->option_len = options >= len && pkt_load(skb, off - options, in->option, len) ? len : 0;
	/* Before Linux 6.3 the packet is still said to be of IPv4; the pod's
	 * device goes by the Ethernet header. */
	if (bpf_skb_adjust_room(skb, -(__s32)off, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | ADJ_ROOM_DECAP_L3_IPV6) &&
	    bpf_skb_adjust_room(skb, -(__s32)off, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return -REASON_INVALID;
	/* The Ethernet header that stays is the outer packet's. */
	if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype), 0))
		return -REASON_WRITE_ERROR;
	skb->cb[0] = GENEVE_INNER_IPV6;
	p->action = HOOK_NEXT;
	return OK;
}

/* Takes the outer headers off; the Ethernet header in front stays. */
static __always_inline int geneve_decapsulate(struct __sk_buff *skb, struct pkt *p, struct tunnel *tun)
{
	__u32 off = p->l4_off + sizeof(struct udphdr), options;
	struct geneve_header geneve;
	struct dsr_option opt = {};
	__be16 ethertype;

	if (!pkt_load(skb, off, &geneve, sizeof(geneve)) || (geneve.option_words & 0xc0) ||
	    geneve.protocol != bpf_htons(ETH_P_TEB))
		return -REASON_INVALID;
	options = (geneve.option_words & 0x3f) * 4;
	off += sizeof(geneve);
	if (options) {
		if (geneve_find_option(skb, off, off + options, &opt))
			return -REASON_INVALID;
		geneve_take_option(p, &opt);
	}
	off += options;
	if (!pkt_load(skb, off + offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype)))
		return -REASON_INVALID;
	tun->remote = p->t.saddr;
	tun->vni = bpf_ntohl(geneve.vni) >> 8;
	if (cfg_ipv6 && ethertype == bpf_htons(ETH_P_IPV6))
		return geneve_pass_ipv6(skb, p, tun, off, options);
	if (ethertype != bpf_htons(ETH_P_IP))
		return -REASON_UNKNOWN_L3;
	/* Segments stay as large as the sender made them. */
	if (bpf_skb_adjust_room(skb, -(__s32)off, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return -REASON_INVALID;
	p->len = skb->len;
	return OK;
}
#else
static __always_inline int geneve_key_of_wire(struct __sk_buff *skb, struct pkt *p, struct tunnel *tun)
{
	__u32 zero = 0;
	struct ctctl_tunnel_in *in = bpf_map_lookup_elem(&ctctl_tunnel_in, &zero);
	struct dsr_option opt;

	skb->cb[0] = 0;
	if (!in)
		return -REASON_NO_TUNNEL_KEY;
	tun->remote = in->remote;
	tun->vni = in->vni;
	if (in->option_len == sizeof(opt)) {
		__builtin_memcpy(&opt, in->option, sizeof(opt));
		geneve_take_option(p, &opt);
	}
	return OK;
}
#endif

/* ---- out ---- */

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

static __always_inline int geneve_send_by_device(struct __sk_buff *skb, const struct geneve_send *to)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = to->vni, .remote_ipv4 = bpf_ntohl(to->remote), .tunnel_ttl = GENEVE_TTL,
	};
	struct dsr_option opt = geneve_dsr_option(to);

	/* As our own outer header has it: too large for the way is what the sender is told, not cut in pieces. */
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT) ||
	    (to->dsr && bpf_skb_set_tunnel_opt(skb, &opt, sizeof(opt))))
		return -REASON_WRITE_ERROR;
	return OK;
}

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
geneve_segments_fit(struct __sk_buff *skb, const struct pkt *p, __u32 overhead, __u32 mtu)
{
	struct tcphdr tcp;

	if (p->t.nexthdr != IPPROTO_TCP || !pkt_load(skb, p->l4_off, &tcp, sizeof(tcp)))
		return true;
	return p->l4_off - ETH_HLEN + tcp.doff * 4 + skb->gso_size + overhead <= mtu;
}

static __always_inline int geneve_send_inline(struct __sk_buff *skb, const struct geneve_send *to)
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

	if (!pkt_load(skb, 0, &inner, sizeof(inner)))
		return -REASON_INVALID;
	outer.ip.tot_len = bpf_htons(skb->len + sizeof(outer) + options - ETH_HLEN);
	outer.udp.len = bpf_htons(skb->len + sizeof(outer) + options - ETH_HLEN - sizeof(outer.ip));
	outer.ip.check = icmp_csum(&outer.ip, sizeof(outer.ip), 0);
	__builtin_memcpy(outer.eth.h_dest, inner.h_dest, ETH_ALEN);
	__builtin_memcpy(outer.eth.h_source, inner.h_source, ETH_ALEN);
	if (bpf_skb_adjust_room(skb, sizeof(outer) + options, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
				BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | to->gso_flag) ||
	    bpf_skb_store_bytes(skb, 0, &outer, sizeof(outer), 0) ||
	    (dsr && bpf_skb_store_bytes(skb, sizeof(outer), &opt, sizeof(opt), 0)) ||
	    bpf_skb_store_bytes(skb, sizeof(outer) + options, &inner, sizeof(inner), 0))
		return -REASON_WRITE_ERROR;
	skb->mark = MARK_OVERLAY;
	return OK;
}

STAGE int geneve_encapsulate(struct __sk_buff *skb, const struct geneve_send *to)
{
	return cfg_overlay_device ? geneve_send_by_device(skb, to) : geneve_send_inline(skb, to);
}

#if FAMILY == 4
/* Global: the verifier goes through it once, not once for each way here. */
__noinline int geneve_encapsulate_apart(struct __sk_buff *skb, const struct geneve_send *to)
{
	return to ? geneve_encapsulate(skb, to) : -REASON_INVALID;
}
#else
#define geneve_encapsulate_apart geneve_encapsulate
#endif

/* The sender is told what fits, about the packet as it sent it. */
static __always_inline int
geneve_too_big(struct __sk_buff *skb, struct pkt *p, const struct lb_result *lb, __u32 mtu)
{
	BESIDE(p, struct nat_change, back, change);
	int ret;

	back->saddr = p->t.saddr;
	back->daddr = lb->vip;
	back->old_port = p->t.sport;
	back->new_port = lb->vip_port;
	back->port_off = DPORT_OFF;
	ret = nat_rewrite(skb, p, back);
	return ret ? ret : icmp_too_big(skb, p, mtu);
}

/* What DSR's option and the outer headers take. */
static __always_inline __u32 geneve_overhead(bool dsr)
{
	return sizeof(struct geneve_outer) + (dsr ? sizeof(struct dsr_option) : 0);
}

/* Does the packet fit on the way to the node behind its destination? *TO says
 * which way; the sender of one that does not is told, and it is redirected. */
STAGE int
geneve_route(struct __sk_buff *skb, struct pkt *p, const struct lb_result *lb, bool dsr, struct tunnel *to)
{
	const struct remote_endpoint_info *info = ipcache_find(p->t.daddr);

	if (!info || !info->tunnel_endpoint)
		return -REASON_NO_TUNNEL_ENDPOINT;
	to->remote = info->tunnel_endpoint;
	event_tunnel(p, to->remote, to->vni);
	if (bpf_check_mtu(skb, cfg_sim ? 0 : cfg_dev_ifindex, &to->mtu, geneve_overhead(dsr), 0) ==
	    BPF_MTU_CHK_RET_FRAG_NEEDED)
		return geneve_too_big(skb, p, lb, to->mtu - geneve_overhead(dsr));
	return OK;
}

/* DSR: with the option that tells the node which address the client wrote to. */
STAGE int
geneve_push(struct __sk_buff *skb, struct pkt *p, const struct lb_result *lb, bool dsr, const struct tunnel *to)
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
		if (skb->gso_size && geneve_segments_fit(skb, p, geneve_overhead(dsr), to->mtu))
			send->gso_flag = BPF_F_ADJ_ROOM_FIXED_GSO;
	}
	ret = to->apart ? geneve_encapsulate_apart(skb, send) : geneve_encapsulate(skb, send);
	if (ret)
		return ret;
	if (!cfg_overlay_device)
		return pkt_send_out(p);
	pkt_redirect(p, cfg_overlay_ifindex);
	return OK;
}

static __always_inline int
geneve_send(struct __sk_buff *skb, struct pkt *p, const struct lb_result *lb, bool dsr, __u32 vni)
{
	/* DSR's ways are the fast ones. */
	struct tunnel to = { .vni = vni, .apart = cfg_lb_mode != LB_DSR && !dsr };
	int ret = geneve_route(skb, p, lb, dsr, &to);

	if (ret || p->redirect)
		return ret;
	return geneve_push(skb, p, lb, dsr, &to);
}

#endif /* CTCTL_GENEVE_H */
