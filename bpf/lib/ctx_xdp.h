/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ctx_xdp.h - packets of XDP programs: the frame as it came, before there is a
 * socket buffer. No mark, no segments, no tunnel key; every byte of its checksum
 * is there, or the program passes it on (ahead.h).
 */
#ifndef CTCTL_CTX_XDP_H
#define CTCTL_CTX_XDP_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#define CTX_SKB 0

#define CTX_PASS XDP_PASS
#define CTX_DROP XDP_DROP

typedef struct xdp_md ctx_t;

static __always_inline __u32 ctx_len(const ctx_t *ctx)
{
	const void *data = CTX_POINTER(ctx, data), *end = CTX_POINTER(ctx, data_end);

	return end - data;
}

static __always_inline __u32 ctx_ifindex(const ctx_t *ctx)
{
	return ctx->ingress_ifindex;
}

static __always_inline __u32 ctx_gso_size(const ctx_t *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline __u32 ctx_mark(const ctx_t *ctx)
{
	(void)ctx;
	return 0;
}

/* What is sent from here passes no hook on its way out: nobody would read it. */
static __always_inline void ctx_set_mark(ctx_t *ctx, __u32 mark)
{
	(void)ctx;
	(void)mark;
}

/* ---- bytes; each 0 or an errno ---- */

static __always_inline long ctx_load_bytes(const ctx_t *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_xdp_load_bytes((ctx_t *)ctx, off, to, len);
}

static __always_inline long ctx_store_bytes(ctx_t *ctx, __u32 off, const void *from, __u32 len)
{
	return bpf_xdp_store_bytes(ctx, off, (void *)from, len);
}

/* Pointers reach all that there is. */
static __always_inline long ctx_pull(ctx_t *ctx, __u32 len)
{
	(void)ctx;
	(void)len;
	return -1;
}

/* What is in front of the new room moves forward. */
static __always_inline long ctx_room_in_ip(ctx_t *ctx, const __u32 header, const __u32 len)
{
	__u8 front[ETH_HLEN + header];
	__u8 *data;

	if (bpf_xdp_adjust_head(ctx, -(int)len))
		return -1;
	data = (void *)(long)ctx->data;
	if (data + len + sizeof(front) > (__u8 *)(long)ctx->data_end)
		return -1;
	__builtin_memcpy(front, data + len, sizeof(front));
	__builtin_memcpy(data, front, sizeof(front));
	return 0;
}

static __always_inline long ctx_room_for_tunnel(ctx_t *ctx, __u32 len, const __u32 inner, __u64 gso_flag)
{
	(void)inner;
	(void)gso_flag;
	return bpf_xdp_adjust_head(ctx, -(int)len);
}

/* Is there room for LEN more bytes in front? Some drivers leave less than others. */
static __always_inline bool ctx_has_headroom(ctx_t *ctx, __u32 len)
{
	return !bpf_xdp_adjust_head(ctx, -(int)len) && !bpf_xdp_adjust_head(ctx, len);
}

/* As bpf_l4_csum_replace() does it where the checksum is a whole one: FROM becomes
 * TO, or, of no size, TO is the difference; a UDP checksum of 0 stays, and none becomes it. */
static __always_inline long ctx_l4_csum_replace(ctx_t *ctx, __u32 off, __u64 from, __u64 to, __u64 flags)
{
	__u16 check;
	__u32 sum;

	if (ctx_load_bytes(ctx, off, &check, sizeof(check)))
		return -1;
	if ((flags & BPF_F_MARK_MANGLED_0) && !check)
		return 0;
	sum = (__u16)~check;
	if (flags & BPF_F_HDR_FIELD_MASK)
		to = (to & 0xffff) + (~from & 0xffff);
	sum += (to & 0xffff) + (to >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	check = ~sum;
	if ((flags & BPF_F_MARK_MANGLED_0) && !check)
		check = 0xffff;
	return ctx_store_bytes(ctx, off, &check, sizeof(check));
}

/* ---- where it goes ---- */

/* Nothing here is sent to another device: what would be was passed on (ahead.h). */
static __always_inline int ctx_redirect(__u32 ifindex)
{
	(void)ifindex;
	return XDP_ABORTED;
}

/* By the addresses that the program has found for it (xdp.bpf.c). */
static __always_inline int ctx_send_out(__u32 ifindex)
{
	(void)ifindex;
	return XDP_TX;
}

#endif /* CTCTL_CTX_XDP_H */
