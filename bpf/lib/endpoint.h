/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * endpoint.h - pods of this node, identities of all addresses, and the mark in
 * which one hook tells the next the identity of a packet's source.
 */
#ifndef CTCTL_ENDPOINT_H
#define CTCTL_ENDPOINT_H

#include "maps.h"
#include "pkt.h"

#define ENDPOINT_HOST 1

/* ctx_mark(ctx), as Cilium lays it out: identity 15..0 in 31..16, identity 23..16
 * in 7..0, what it is in 11..8. Bit 12 is ours. */
#define MARK_MAGIC 0x0f00
#define MARK_IDENTITY 0x0f00
#define MARK_HOST 0x0c00
#define MARK_PROXY_INGRESS 0x0a00
#define MARK_PROXY_EGRESS 0x0b00
#define MARK_OVERLAY 0x0400     /* a tunnel's outer packet, made by us */
#define MARK_SNAT_DONE 0x0300   /* translated: no hook shall do it again */
#define MARK_FROM_TUNNEL 0x1000

/* Identities that only this node knows: CIDRs, and nodes told apart. */
#define IDENTITY_SCOPE 0xff000000
#define IDENTITY_SCOPE_REMOTE_NODE 0x02000000

static __always_inline __u32 mark_of_identity(__u32 identity)
{
	return identity << 16 | (identity >> 16 & 0xff) | MARK_IDENTITY;
}

/* The identity handed over by the hook before, world if none was. */
static __always_inline __u32 mark_identity(__u32 mark)
{
	switch (mark & MARK_MAGIC) {
	case MARK_IDENTITY:
	case MARK_PROXY_INGRESS:
	case MARK_PROXY_EGRESS:
		return (mark & 0xff) << 16 | mark >> 16;
	case MARK_HOST:
		return IDENTITY_HOST;
	}
	return cfg_world;
}

static __always_inline bool identity_is_remote_node(__u32 identity)
{
	return identity == IDENTITY_REMOTE_NODE || identity == IDENTITY_KUBE_APISERVER ||
	       (identity & IDENTITY_SCOPE) == IDENTITY_SCOPE_REMOTE_NODE;
}

/* Says of an address no more than that it is of no pod. */
static __always_inline bool identity_is_vague(__u32 identity)
{
	return identity < IDENTITY_UNMANAGED || identity_is_remote_node(identity) ||
	       (cfg_ipv6 && (identity == IDENTITY_WORLD_IPV4 || identity == IDENTITY_WORLD_IPV6));
}

static __always_inline const struct remote_endpoint_info *ipcache_find(addr_t addr)
{
	struct ipcache_key key = {
		.prefixlen = 8 * (sizeof(key) - offsetof(struct ipcache_key, cluster_id) - 16) + ADDR_BITS,
		.family = ENDPOINT_FAMILY,
	};

	__builtin_memcpy(key.addr, &addr, sizeof(addr));
	return bpf_map_lookup_elem(&cilium_ipcache, &key);
}

static __always_inline __u32 identity_of_peer(addr_t addr)
{
	const struct remote_endpoint_info *info = ipcache_find(addr);

	return info && info->sec_identity ? info->sec_identity : cfg_world;
}

/* The source's identity where the mark was vague: the address is asked. That
 * an address is the host's does not prove that the host sent it: what comes
 * from outside may have been masqueraded. */
static __always_inline __u32 identity_of_source(__u32 from_mark, addr_t addr)
{
	const struct remote_endpoint_info *info;

	if (!identity_is_vague(from_mark))
		return from_mark;
	info = ipcache_find(addr);
	if (!info || !info->sec_identity || info->sec_identity == IDENTITY_HOST)
		return from_mark;
	return info->sec_identity;
}

/* Of a packet's source, by the VNI that it came through the tunnel with. */
static __always_inline __u32 tunnel_identity(const struct pkt *p, __u32 vni)
{
	const struct remote_endpoint_info *info;

	/* On the wire the world is one, whatever the family. */
	if (vni == IDENTITY_WORLD)
		return cfg_world;
	if (!identity_is_remote_node(vni))
		return vni;
	info = ipcache_find(p->t.saddr);
	return info ? info->sec_identity : vni;
}

/* Is the address another node's pod's, which a tunnel leads to? */
static __always_inline bool ipcache_is_tunneled(addr_t addr)
{
	const struct remote_endpoint_info *info = ipcache_find(addr);

	return info && info->tunnel_endpoint;
}

static __always_inline const struct endpoint_info *endpoint_find(addr_t addr)
{
	struct endpoint_key key = { .family = ENDPOINT_FAMILY };

	__builtin_memcpy(key.addr, &addr, sizeof(addr));
	return bpf_map_lookup_elem(&cilium_lxc, &key);
}

/* ---- delivery: what a router does, and straight to the pod's device ---- */

static __always_inline void csum_add_fold(__sum16 *csum, __u32 diff)
{
	__u32 sum = (__u16)~*csum;

	sum += (diff & 0xffff) + (diff >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*csum = ~sum;
}

#if FAMILY == 4
static __always_inline int ttl_decrement(ctx_t *ctx)
{
	struct iphdr *ip = pkt_ip(ctx);

	if (!ip)
		return -REASON_INVALID;
	if (ip->ttl <= 1)
		return -REASON_TTL_EXCEEDED;
	ip->ttl--;
	/* TTL is the high byte of its word: one less of it, 0x100 more to the sum. */
	csum_add_fold(&ip->check, bpf_htons(0xfeff));
	return OK;
}
#else
static __always_inline int ttl_decrement(ctx_t *ctx)
{
	struct ipv6hdr *ip = pkt_ipv6(ctx);

	if (!ip)
		return -REASON_INVALID;
	if (ip->hop_limit <= 1)
		return -REASON_TTL_EXCEEDED;
	ip->hop_limit--;
	return OK;
}
#endif

/* The addresses may be configuration: not volatile, they would be what they
 * were compiled as. */
static __always_inline int
deliver(ctx_t *ctx, struct pkt *p, const volatile __u8 *pod_mac, const volatile __u8 *node_mac,
	__u32 ifindex)
{
	struct ethhdr *eth = pkt_data(ctx);

	if ((void *)(eth + 1) > pkt_end(ctx))
		return -REASON_INVALID;
	for (int i = 0; i < ETH_ALEN; i++) {
		eth->h_dest[i] = pod_mac[i];
		eth->h_source[i] = node_mac[i];
	}
	pkt_redirect(p, ifindex);
	return OK;
}

#endif /* CTCTL_ENDPOINT_H */
