/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dsr_option.h - DSR by an option in the IP header: the request goes to the
 * backend's node as it is, and says which address the client wrote to.
 */
#ifndef CTCTL_DSR_OPTION_H
#define CTCTL_DSR_OPTION_H

#include "endpoint.h"
#include "lb.h"
#include "pkt.h"

#if FAMILY == 4
#define IP_HEADER_MAX 60
#define DSR_IP_OPTION_TYPE 0x9a

/* Cilium's bytes: port and address with their bytes the other way round. */
struct dsr_ip_option {
	__u8   type;
	__u8   len;
	__u16  port;
	__u32  vip;
};

/* The option stands first, in front of others. The pod gets it too. */
static __always_inline int dsr_option_add(ctx_t *ctx, const struct lb_result *lb)
{
	struct dsr_ip_option opt = {
		.type = DSR_IP_OPTION_TYPE, .len = sizeof(opt),
		.port = __builtin_bswap16(lb->vip_port), .vip = __builtin_bswap32(lb->vip),
	};
	struct iphdr *ip = pkt_ip(ctx);
	__u32 before, after, diff;

	if (!ip)
		return -REASON_INVALID;
	if (ip->ihl * 4 + sizeof(opt) > IP_HEADER_MAX)
		return -REASON_CT_INVALID_HDR;
	before = *(__u32 *)ip;
	ip->ihl += sizeof(opt) / 4;
	ip->tot_len = bpf_htons(bpf_ntohs(ip->tot_len) + sizeof(opt));
	after = *(__u32 *)ip;
	diff = bpf_csum_diff(&before, sizeof(before), &after, sizeof(after), 0);
	csum_add_fold(&ip->check, bpf_csum_diff(NULL, 0, (void *)&opt, sizeof(opt), diff));
	if (ctx_room_in_ip(ctx, sizeof(*ip), sizeof(opt)) ||
	    !pkt_store(ctx, ETH_HLEN + sizeof(*ip), &opt, sizeof(opt)))
		return -REASON_INVALID;
	return OK;
}

/* Looked for in a header that has room for it and nothing else. */
static __always_inline int dsr_option_read(ctx_t *ctx, struct pkt *p)
{
	struct dsr_ip_option opt;

	if (p->l4_off != ETH_HLEN + sizeof(struct iphdr) + sizeof(opt))
		return OK;
	if (!pkt_load(ctx, ETH_HLEN + sizeof(struct iphdr), &opt, sizeof(opt)))
		return -REASON_INVALID;
	if (opt.type != DSR_IP_OPTION_TYPE || opt.len != sizeof(opt))
		return OK;
	p->dsr_vip = __builtin_bswap32(opt.vip);
	p->dsr_port = __builtin_bswap16(opt.port);
	p->dsr = true;
	return OK;
}

#else
#define DSR_DESTINATION_TYPE 0x1b
#define DSR_DESTINATION_LEN 20

/* A destination options header. */
struct dsr_destination {
	__u8   nexthdr;
	__u8   words;           /* of 8 bytes, after the first 8 */
	__u8   type;
	__u8   len;
	addr_t vip;
	__be16 port;
	__u16  pad;
} CTCTL_PACKED;
_Static_assert(sizeof(struct dsr_destination) == 24, "dsr_destination");

/* The header stands first, in front of others. The pod gets it too. */
static __always_inline int dsr_option_add(ctx_t *ctx, const struct lb_result *lb)
{
	struct dsr_destination opt = {
		.words = sizeof(opt) / 8 - 1, .type = DSR_DESTINATION_TYPE, .len = DSR_DESTINATION_LEN,
		.vip = lb->vip, .port = lb->vip_port,
	};
	struct ipv6hdr *ip = pkt_ipv6(ctx);

	if (!ip)
		return -REASON_INVALID;
	opt.nexthdr = ip->nexthdr;
	ip->nexthdr = IPPROTO_DSTOPTS;
	ip->payload_len = bpf_htons(bpf_ntohs(ip->payload_len) + sizeof(opt));
	if (ctx_room_in_ip(ctx, sizeof(*ip), sizeof(opt)) ||
	    !pkt_store(ctx, ETH_HLEN + sizeof(*ip), &opt, sizeof(opt)))
		return -REASON_INVALID;
	return OK;
}

/* Among the headers on the way to L4, which have been walked through before.
 * Global: the verifier goes through it once. */
__noinline int dsr_option_find(ctx_t *ctx, __u32 nexthdr, struct dsr_destination *opt)
{
	__u32 off = ETH_HLEN + sizeof(struct ipv6hdr);

	if (!opt)
		return 0;
	for (int i = 0; i < IPV6_HEADERS_MAX; i++) {
		struct ipv6_extension ext;

		if (nexthdr != IPPROTO_HOPOPTS && nexthdr != IPPROTO_ROUTING && nexthdr != IPPROTO_DSTOPTS &&
		    nexthdr != IPPROTO_AH)
			return 0;
		if (!pkt_load(ctx, off, &ext, sizeof(ext)))
			return -REASON_INVALID;
		if (nexthdr == IPPROTO_DSTOPTS && ext.len == sizeof(*opt) / 8 - 1) {
			if (!pkt_load(ctx, off, opt, sizeof(*opt)))
				return -REASON_INVALID;
			if (opt->type == DSR_DESTINATION_TYPE && opt->len == DSR_DESTINATION_LEN)
				return 1;
		}
		off += nexthdr == IPPROTO_AH ? (ext.len + 2) * 4 : (ext.len + 1) * 8;
		nexthdr = ext.nexthdr;
	}
	return -REASON_INVALID_EXTHDR;
}

static __always_inline int dsr_option_read(ctx_t *ctx, struct pkt *p)
{
	struct dsr_destination opt = {};
	struct ipv6hdr *ip = pkt_ipv6(ctx);
	int found;

	if (!ip)
		return -REASON_INVALID;
	if (pkt_is_l4(ip->nexthdr))
		return OK;
	found = dsr_option_find(ctx, ip->nexthdr, &opt);
	if (found <= 0)
		return found;
	p->dsr_vip = opt.vip;
	p->dsr_port = opt.port;
	p->dsr = true;
	return OK;
}
#endif

static __always_inline int
dsr_option_send(ctx_t *ctx, struct pkt *p, const struct lb_result *lb, bool with_option)
{
	int ret = OK;

	if (with_option)
		ret = dsr_option_add(ctx, lb);
	if (ret)
		return ret;
	if (with_option) {
		p->dsr_vip = lb->vip;
		p->dsr_port = lb->vip_port;
	}
	/* As in Cilium 1.16, IPv6's hop limit stays. */
	if (FAMILY == 4)
		ret = ttl_decrement(ctx);
	return ret ? ret : pkt_send_out(p);
}

#endif /* CTCTL_DSR_OPTION_H */
