/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * icmp.h - answer a packet with an ICMP "destination unreachable" about it.
 */
#ifndef CTCTL_ICMP_H
#define CTCTL_ICMP_H

#include "bound.h"
#include "endpoint.h"
#include "event.h"
#include "pkt.h"
#include "room.h"

static __always_inline __u16 icmp_csum(void *data, __u32 len, __u32 sum)
{
	sum = bpf_csum_diff(NULL, 0, data, len, sum);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#if !CTX_SKB
/* XDP answers nothing: what is to be answered was passed on (ahead.h). */
static __always_inline int icmp_port_unreachable(ctx_t *ctx, struct pkt *p, __u32 ifindex)
{
	return ctx && p && ifindex ? -REASON_NO_SERVICE : -REASON_INVALID;
}

static __always_inline int icmp_too_big(ctx_t *ctx, struct pkt *p, __u32 mtu)
{
	return ctx && p && mtu ? -REASON_WRITE_ERROR : -REASON_INVALID;
}

static __always_inline int icmp_time_exceeded(ctx_t *ctx, struct pkt *p)
{
	return ctx && p ? -REASON_TTL_EXCEEDED : -REASON_INVALID;
}
#elif FAMILY == 4
/* Of the packet complained about, from its IP header on. Cilium 1.16 takes
 * the frame's length for the packet's: shorter ones get 14 bytes of zeros. */
#define ICMP_QUOTE_MAX 64
#define ICMP_TTL 64

struct icmp_answer {
	struct ethhdr eth;
	struct iphdr ip;
	struct icmp_header icmp;
} CTCTL_PACKED;

/* Turns the packet round. It leaves by IFINDEX; not without a REASON to drop
 * it for, if that cannot be done (a GSO packet, no memory). */
static __noinline int icmp_unreachable(ctx_t *ctx, struct pkt *p, __u8 code, __u16 mtu, __u32 ifindex)
{
	__u32 quoted = ctx_len(ctx) < ICMP_QUOTE_MAX ? ctx_len(ctx) : ICMP_QUOTE_MAX;
	__u8 quote[ICMP_QUOTE_MAX] = {};
	struct icmp_answer a = {};
	struct ethhdr *eth = pkt_data(ctx);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > pkt_end(ctx))
		return -REASON_INVALID;
	__builtin_memcpy(a.eth.h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(a.eth.h_source, eth->h_dest, ETH_ALEN);
	a.eth.h_proto = bpf_htons(ETH_P_IP);
	a.ip.version = 4;
	a.ip.ihl = 5;
	a.ip.tos = ip->tos;
	a.ip.tot_len = bpf_htons(sizeof(a.ip) + sizeof(a.icmp) + quoted);
	a.ip.ttl = ICMP_TTL;
	a.ip.protocol = IPPROTO_ICMP;
	a.ip.saddr = ip->daddr;
	a.ip.daddr = ip->saddr;
	a.ip.check = icmp_csum(&a.ip, sizeof(a.ip), 0);
	a.icmp.type = ICMP_DEST_UNREACH;
	a.icmp.code = code;
	a.icmp.mtu = bpf_htons(mtu);

	if (bpf_skb_change_tail(ctx, ETH_HLEN + quoted, 0))
		return -REASON_NO_SERVICE;
	if (quoted < sizeof(a.ip) ||
	    bpf_skb_load_bytes(ctx, ETH_HLEN, quote, bound_length(quoted, ICMP_QUOTE_MAX)))
		return -REASON_NO_SERVICE;
	a.icmp.checksum = icmp_csum(quote, sizeof(quote), bpf_csum_diff(NULL, 0, (void *)&a.icmp, sizeof(a.icmp), 0));
	if (bpf_skb_adjust_room(ctx, sizeof(a.ip) + sizeof(a.icmp), BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(ctx, 0, &a, sizeof(a), 0))
		return -REASON_NO_SERVICE;

	p->t = (tuple_t){ .daddr = a.ip.daddr, .saddr = a.ip.saddr, .nexthdr = IPPROTO_ICMP };
	p->icmp_type = ICMP_DEST_UNREACH;
	p->icmp_code = code;
	pkt_redirect(p, ifindex);
	return OK;
}

static __always_inline int icmp_port_unreachable(ctx_t *ctx, struct pkt *p, __u32 ifindex)
{
	return icmp_unreachable(ctx, p, ICMP_PORT_UNREACH, 0, ifindex);
}

static __always_inline int icmp_too_big(ctx_t *ctx, struct pkt *p, __u32 mtu)
{
	return icmp_unreachable(ctx, p, ICMP_FRAG_NEEDED, mtu, ctx_ifindex(ctx));
}
#else
/* As much as fits into the smallest packet every link carries, less headers.
 * The frame's length is taken for the packet's here too. */
#define ICMP_QUOTE_MAX 1232
#define ICMP_QUOTE_CHUNK 64
#define ICMP_QUOTE_CHUNKS 20
#define ICMP_TTL 64
#define ICMP_NO_PORT 4

struct icmp_answer {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct icmp_header icmp;
} CTCTL_PACKED;

struct icmp_pseudo {
	addr_t saddr;
	addr_t daddr;
	__be32 len;
	__be32 nexthdr;
};

/* What an error says, and about how much of the packet. */
struct icmp_error {
	addr_t from;            /* with own: who says it, in place of the packet's destination */
	__be32 word;            /* behind the checksum */
	__u16  quoted;
	__u8   type;
	__u8   code;
	__u8   hop_limit;
	__u8   own;
	__u8   pad[2];
};

static __always_inline __u32 icmp_sum_quoted(ctx_t *ctx, struct room *r, __u32 quoted)
{
	__u32 sum = 0;

	for (__u32 i = 0; i < ICMP_QUOTE_CHUNKS; i++) {
		__u8 *chunk = room_zeroed(r->chunk, sizeof(r->chunk));
		__u32 off = i * ICMP_QUOTE_CHUNK, left;

		if (off >= quoted)
			break;
		left = quoted - off < ICMP_QUOTE_CHUNK ? quoted - off : ICMP_QUOTE_CHUNK;
		if (bpf_skb_load_bytes(ctx, ETH_HLEN + off, chunk, bound_length(left, ICMP_QUOTE_CHUNK)))
			break;
		sum = bpf_csum_diff(NULL, 0, (void *)chunk, ICMP_QUOTE_CHUNK, sum);
	}
	return sum;
}

/* Turns the packet round into an error about it. The addresses that it has
 * now are in *T. Global: the verifier goes through it once. */
__noinline int icmp_turn(ctx_t *ctx, const struct icmp_error *error, tuple_t *t)
{
	struct room *r = room();
	struct ethhdr *eth = pkt_data(ctx);
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct icmp_pseudo *pseudo;
	struct icmp_answer *a;
	__u32 quoted, sum;

	if (!error || !t || !r)
		return -REASON_INVALID;
	a = room_zeroed(r->answer, sizeof(*a));
	pseudo = room_zeroed(r->pseudo, sizeof(*pseudo));
	if ((void *)(ip + 1) > pkt_end(ctx))
		return -REASON_INVALID;
	quoted = error->quoted;
	__builtin_memcpy(a->eth.h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(a->eth.h_source, eth->h_dest, ETH_ALEN);
	a->eth.h_proto = bpf_htons(ETH_P_IPV6);
	__builtin_memcpy(&a->ip, ip, sizeof(__be32));    /* version, class, flow */
	a->ip.payload_len = bpf_htons(sizeof(a->icmp) + quoted);
	a->ip.nexthdr = IPPROTO_ICMPV6;
	a->ip.hop_limit = error->hop_limit;
	__builtin_memcpy(&pseudo->saddr, &ip->daddr, sizeof(addr_t));
	__builtin_memcpy(&pseudo->daddr, &ip->saddr, sizeof(addr_t));
	if (error->own)
		pseudo->saddr = error->from;
	pseudo->len = bpf_htonl(sizeof(a->icmp) + quoted);
	pseudo->nexthdr = bpf_htonl(IPPROTO_ICMPV6);
	__builtin_memcpy(&a->ip.saddr, &pseudo->saddr, 2 * sizeof(addr_t));
	a->icmp.type = error->type;
	a->icmp.code = error->code;
	__builtin_memcpy(&a->icmp.id, &error->word, sizeof(error->word));

	if (bpf_skb_change_tail(ctx, ETH_HLEN + quoted, 0))
		return -REASON_NO_SERVICE;
	sum = icmp_sum_quoted(ctx, r, quoted);
	sum = bpf_csum_diff(NULL, 0, (void *)pseudo, sizeof(*pseudo), sum);
	a->icmp.checksum = icmp_csum(&a->icmp, sizeof(a->icmp), sum);
	if (bpf_skb_adjust_room(ctx, sizeof(a->ip) + sizeof(a->icmp), BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(ctx, 0, a, sizeof(*a), 0))
		return -REASON_NO_SERVICE;
	*t = (tuple_t){ .daddr = pseudo->daddr, .saddr = pseudo->saddr, .nexthdr = IPPROTO_ICMPV6 };
	return OK;
}

/* It leaves by IFINDEX; not without a REASON to drop it for, if that cannot be
 * done (a GSO packet, no memory). */
static __always_inline int
icmp_send(ctx_t *ctx, struct pkt *p, const struct icmp_error *error, __u32 ifindex)
{
	tuple_t t = {};
	int ret = icmp_turn(ctx, error, &t);

	if (ret)
		return ret;
	p->t = t;
	p->icmp_type = error->type;
	p->icmp_code = error->code;
	pkt_redirect(p, ifindex);
	return OK;
}

static __always_inline __u16 icmp_quote_len(const ctx_t *ctx)
{
	return ctx_len(ctx) < ICMP_QUOTE_MAX ? ctx_len(ctx) : ICMP_QUOTE_MAX;
}

static __always_inline int icmp_port_unreachable(ctx_t *ctx, struct pkt *p, __u32 ifindex)
{
	struct icmp_error error = {
		.type = ICMP_DEST_UNREACH, .code = ICMP_NO_PORT, .hop_limit = ICMP_TTL, .quoted = icmp_quote_len(ctx),
	};

	return icmp_send(ctx, p, &error, ifindex);
}

static __always_inline int icmp_too_big(ctx_t *ctx, struct pkt *p, __u32 mtu)
{
	struct icmp_error error = {
		.type = ICMP_TOO_BIG, .hop_limit = ICMP_TTL, .word = bpf_htonl(mtu), .quoted = icmp_quote_len(ctx),
	};

	return icmp_send(ctx, p, &error, ctx_ifindex(ctx));
}

/* From the router among the pods, about the headers; as in Cilium with the hop
 * limit that was too low, so that it reaches neighbours only. */
static __always_inline int icmp_time_exceeded(ctx_t *ctx, struct pkt *p)
{
	struct icmp_error error = { .type = ICMP_TIME_EXCEEDED, .own = true, .from = CONFIG_ADDR(cfg_router_addr) };
	struct ipv6hdr *ip = pkt_ipv6(ctx);

	if (!ip)
		return -REASON_INVALID;
	error.hop_limit = ip->hop_limit;
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
		error.quoted = sizeof(*ip) + sizeof(struct tcphdr);
		break;
	case IPPROTO_UDP:
	case IPPROTO_ICMPV6:
		error.quoted = sizeof(*ip) + sizeof(struct udphdr);
		break;
	default:
		return -REASON_UNKNOWN_L4;
	}
	if (ctx_len(ctx) < ETH_HLEN + error.quoted)
		return -REASON_INVALID;
	return icmp_send(ctx, p, &error, ctx_ifindex(ctx));
}
#endif

/* What a router does: one hop less. IPv6's sender is told where that was the
 * last one, and the packet is redirected; IPv4's, as in Cilium, is not. */
STAGE int icmp_hop(ctx_t *ctx, struct pkt *p)
{
	int ret = ttl_decrement(ctx);

#if FAMILY == 4
	(void)p;
	return ret;
#else
	return ret == -REASON_TTL_EXCEEDED ? icmp_time_exceeded(ctx, p) : ret;
#endif
}

/* A service without a backend says so, unless it is told to keep quiet. */
STAGE int icmp_no_service(ctx_t *ctx, struct pkt *p, __u32 ifindex)
{
	if (!cfg_no_backend_reject)
		return -REASON_NO_SERVICE;
	return icmp_port_unreachable(ctx, p, ifindex);
}

#endif /* CTCTL_ICMP_H */
