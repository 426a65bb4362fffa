/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * nat.h - rewrite a packet's addresses and one of its ports, checksums along,
 * and the tables that say what a reply is rewritten to.
 *
 * Checksums are updated by the difference: a wrong one stays wrong, and a UDP
 * checksum of 0 stays 0.
 */
#ifndef CTCTL_NAT_H
#define CTCTL_NAT_H

#include "ct.h"
#include "endpoint.h"
#include "event.h"
#include "maps.h"
#include "pkt.h"
#include "room.h"

#define SPORT_OFF 0
#define DPORT_OFF 2
#define ECHO_ID_OFF offsetof(struct icmp_header, id)

struct nat_change {
	addr_t saddr;
	addr_t daddr;
	__be16 old_port;
	__be16 new_port;
	__u32  port_off;        /* SPORT_OFF, DPORT_OFF, or ECHO_ID_OFF: an identifier stands for a port */
};

static __always_inline __u32 csum_add(__u32 a, __u32 b)
{
	a += b;
	return a + (a < b);
}

#if FAMILY == 6
static __always_inline __u64 csum_add64(__u64 a, __u64 b)
{
	a += b;
	return a + (a < b);
}

/* The address in the packet becomes TO; what that adds to a checksum. */
static __always_inline __u64 csum_replace_addr(addr_t *from, const addr_t *to)
{
	__u64 diff = csum_add64(csum_add64(~from->half[0], ~from->half[1]), csum_add64(to->half[0], to->half[1]));

	from->half[0] = to->half[0];
	from->half[1] = to->half[1];
	return diff;
}
#endif

/* Where the L4 checksum is; 0: none that covers addresses and ports. */
static __always_inline __u32 nat_csum_off(const struct pkt *p)
{
	switch (p->t.nexthdr) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return offsetof(struct udphdr, check);
#if FAMILY == 6
	case IPPROTO_ICMPV6:
		return offsetof(struct icmp_header, checksum);
#endif
	}
	return 0;
}

static __always_inline int nat_l4(ctx_t *ctx, const struct pkt *p, const struct nat_change *c, __u32 diff)
{
	const bool echo = c->port_off == ECHO_ID_OFF;
	__u64 flags = p->t.nexthdr == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 csum_off = nat_csum_off(p);

	/* The helper knows whether the field holds the sum of the pseudo header
	 * only (the device is to do the rest), which ports are no part of. */
	if (csum_off && ctx_l4_csum_replace(ctx, p->l4_off + csum_off, 0, diff, flags | BPF_F_PSEUDO_HDR))
		return -REASON_CSUM_L4;
	if ((!pkt_has_ports(p) && !echo) || c->new_port == c->old_port)
		return OK;
	if (echo)
		csum_off = offsetof(struct icmp_header, checksum);
	/* SCTP's CRC32c would have to be made anew over the whole packet. */
	if (!csum_off || ctx_l4_csum_replace(ctx, p->l4_off + csum_off, c->old_port, c->new_port,
					     flags | sizeof(c->new_port)))
		return -REASON_CSUM_L4;
	return pkt_store(ctx, p->l4_off + c->port_off, &c->new_port, sizeof(c->new_port)) ? OK : -REASON_WRITE_ERROR;
}

#if FAMILY == 4
static __always_inline int nat_rewrite(ctx_t *ctx, const struct pkt *p, const struct nat_change *c)
{
	struct iphdr *ip = pkt_ip(ctx);
	__u32 diff;

	if (!ip)
		return -REASON_INVALID;
	diff = csum_add(csum_add(~ip->saddr, c->saddr), csum_add(~ip->daddr, c->daddr));
	ip->saddr = c->saddr;
	ip->daddr = c->daddr;
	csum_add_fold(&ip->check, diff);
	return pkt_has_l4(p) ? nat_l4(ctx, p, c, diff) : OK;
}
#else
static __always_inline int nat_rewrite(ctx_t *ctx, const struct pkt *p, const struct nat_change *c)
{
	struct ipv6hdr *ip = pkt_ipv6(ctx);
	addr_t *saddr, *daddr;
	__u64 diff;

	if (!ip)
		return -REASON_INVALID;
	saddr = (void *)&ip->saddr;
	daddr = (void *)&ip->daddr;
	diff = csum_add64(csum_replace_addr(saddr, &c->saddr), csum_replace_addr(daddr, &c->daddr));
	diff = (diff & 0xffffffff) + (diff >> 32);
	return nat_l4(ctx, p, c, csum_add(diff, diff >> 32));
}
#endif

/* Towards a backend; P's tuple follows. */
static __always_inline int
nat_to_backend(ctx_t *ctx, struct pkt *p, addr_t saddr, const lb_backend_t *backend)
{
	BESIDE(p, struct nat_change, c, change);

	c->saddr = saddr;
	c->daddr = backend->address;
	c->old_port = p->t.sport;
	c->new_port = backend->port ? backend->port : p->t.sport;
	c->port_off = DPORT_OFF;
	p->t.saddr = c->saddr;
	p->t.daddr = c->daddr;
	p->t.sport = c->new_port;
	return nat_rewrite(ctx, p, c);
}

/* A reply gets the address and port the client wrote to. LOOPBACK: the client
 * is the backend, the loopback address stood for it. */
static __always_inline int
nat_reply(ctx_t *ctx, struct pkt *p, addr_t address, __be16 port, bool loopback)
{
	BESIDE(p, struct nat_change, c, change);

	c->saddr = address;
	c->daddr = loopback ? p->t.saddr : p->t.daddr;
	c->old_port = p->t.dport;
	c->new_port = port ? port : p->t.dport;
	c->port_off = SPORT_OFF;
	p->t.saddr = c->saddr;
	p->t.daddr = c->daddr;
	if (pkt_has_ports(p))
		p->t.dport = c->new_port;
	return nat_rewrite(ctx, p, c);
}

static __always_inline const reverse_nat_t *nat_service_address(__be16 rev_nat_index)
{
	return bpf_map_lookup_elem(&MAP_REVERSE_NAT, &rev_nat_index);
}

/* A reply of a service's backend; without the service's address it stays as it is. */
STAGE int nat_service_reply(ctx_t *ctx, struct pkt *p, __be16 rev_nat_index, bool loopback)
{
	const reverse_nat_t *service = nat_service_address(rev_nat_index);

	if (!service)
		return OK;
	event_service(p, rev_nat_index, 0);
	return nat_reply(ctx, p, service->address, service->port, loopback);
}

/* ---- the SNAT table ---- */

/* Its key has ports as in the packet, T has them crossed. DIR: TUPLE_OUT of
 * the packet whose source is to be rewritten, TUPLE_IN of the answer. */
static __always_inline tuple_t snat_key(const tuple_t *t, enum ctctl_tuple_flags dir)
{
	return (tuple_t){
		.daddr = t->daddr, .saddr = t->saddr, .dport = t->sport, .sport = t->dport,
		.nexthdr = t->nexthdr, .flags = dir,
	};
}

/* DSR: what the backend's node writes over the source of replies. */

static __always_inline int
snat_create(struct pkt *p, const tuple_t *reply, addr_t vip, __be16 vip_port)
{
	BESIDE(p, nat_entry_t, entry, nat);
	tuple_t key = snat_key(reply, TUPLE_OUT);
	int err;

	entry->created = p->now;
	entry->to_saddr = vip;
	entry->to_sport = vip_port;
	err = bpf_map_update_elem(&MAP_SNAT, &key, entry, BPF_ANY);
	if (err)
		return ct_create_failed(p, err);
	event_why(p, WHY_SNAT_CREATED);
	return OK;
}

static __always_inline const nat_entry_t *snat_find(const tuple_t *t, enum ctctl_tuple_flags dir)
{
	tuple_t key = snat_key(t, dir);

	return bpf_map_lookup_elem(&MAP_SNAT, &key);
}

#endif /* CTCTL_NAT_H */
