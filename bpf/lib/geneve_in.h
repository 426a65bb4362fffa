/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * geneve_in.h - out of the tunnel between nodes: how a packet came, as its device
 * or its outer headers say.
 */
#ifndef CTCTL_GENEVE_IN_H
#define CTCTL_GENEVE_IN_H

#include "geneve.h"

/* linux/bpf.h has it since 6.3. */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

#define GENEVE_OPTIONS_MAX 8    /* looked at; more are skipped */

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

#endif /* CTCTL_GENEVE_IN_H */
