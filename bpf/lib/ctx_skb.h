/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ctx_skb.h - packets of tc programs: socket buffers, which carry a mark, may be
 * several segments in one (GSO), and may have their checksum made by the device.
 */
#ifndef CTCTL_CTX_SKB_H
#define CTCTL_CTX_SKB_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

/* Can a packet be made another one, or get what a tunnel's device reads? */
#define CTX_SKB 1

#define CTX_PASS TC_ACT_OK
#define CTX_DROP TC_ACT_SHOT

typedef struct __sk_buff ctx_t;

static __always_inline __u32 ctx_len(const ctx_t *ctx)
{
	return ctx->len;
}

static __always_inline __u32 ctx_ifindex(const ctx_t *ctx)
{
	return ctx->ifindex;
}

static __always_inline __u32 ctx_gso_size(const ctx_t *ctx)
{
	return ctx->gso_size;
}

static __always_inline __u32 ctx_mark(const ctx_t *ctx)
{
	return ctx->mark;
}

static __always_inline void ctx_set_mark(ctx_t *ctx, __u32 mark)
{
	ctx->mark = mark;
}

/* ---- bytes; each 0 or an errno ---- */

static __always_inline long ctx_load_bytes(const ctx_t *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, off, to, len);
}

static __always_inline long ctx_store_bytes(ctx_t *ctx, __u32 off, const void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, off, from, len, 0);
}

/* The first LEN bytes become those that pointers reach. */
static __always_inline long ctx_pull(ctx_t *ctx, __u32 len)
{
	return bpf_skb_pull_data(ctx, len);
}

/* LEN bytes of room behind an IP header of HEADER bytes, or what that becomes with them. */
static __always_inline long ctx_room_in_ip(ctx_t *ctx, __u32 header, __u32 len)
{
	(void)header;
	return bpf_skb_adjust_room(ctx, len, BPF_ADJ_ROOM_NET, 0);
}

/* LEN bytes of room in front of the Ethernet header, for a tunnel's outer headers over IPv4 and UDP. */
static __always_inline long ctx_room_for_tunnel(ctx_t *ctx, __u32 len, const __u32 inner, __u64 gso_flag)
{
	return bpf_skb_adjust_room(ctx, len, BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
				   BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(inner) | gso_flag);
}

/* The checksum at OFF, as of bpf_l4_csum_replace(). */
static __always_inline long ctx_l4_csum_replace(ctx_t *ctx, __u32 off, __u64 from, __u64 to, __u64 flags)
{
	return bpf_l4_csum_replace(ctx, off, from, to, flags);
}

/* ---- where it goes ---- */

static __always_inline int ctx_redirect(__u32 ifindex)
{
	return bpf_redirect(ifindex, 0);
}

/* By the kernel's routes and neighbours. */
static __always_inline int ctx_send_out(__u32 ifindex)
{
	return bpf_redirect_neigh(ifindex, NULL, 0, 0);
}

#endif /* CTCTL_CTX_SKB_H */
