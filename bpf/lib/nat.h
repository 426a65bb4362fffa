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

#define SPORT_OFF 0
#define DPORT_OFF 2

struct nat_change {
	__be32 saddr;
	__be32 daddr;
	__be16 old_port;
	__be16 new_port;
	__u32  port_off;        /* SPORT_OFF or DPORT_OFF */
};

static __always_inline __u32 csum_add(__u32 a, __u32 b)
{
	a += b;
	return a + (a < b);
}

/* Where the L4 checksum is; 0: none that covers addresses and ports. */
static __always_inline __u32 nat_csum_off(const struct pkt *p)
{
	switch (p->t.nexthdr) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return offsetof(struct udphdr, check);
	}
	return 0;
}

static __always_inline int nat_l4(struct __sk_buff *skb, const struct pkt *p, const struct nat_change *c, __u32 diff)
{
	__u64 flags = p->t.nexthdr == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 csum_off = nat_csum_off(p);

	/* The helper knows whether the field holds the sum of the pseudo header
	 * only (the device is to do the rest), which ports are no part of. */
	if (csum_off && bpf_l4_csum_replace(skb, p->l4_off + csum_off, 0, diff, flags | BPF_F_PSEUDO_HDR))
		return -REASON_CSUM_L4;
	if (!pkt_has_ports(p) || c->new_port == c->old_port)
		return OK;
	/* SCTP's CRC32c would have to be made anew over the whole packet. */
	if (!csum_off || bpf_l4_csum_replace(skb, p->l4_off + csum_off, c->old_port, c->new_port,
					     flags | sizeof(c->new_port)))
		return -REASON_CSUM_L4;
	return pkt_store(skb, p->l4_off + c->port_off, &c->new_port, sizeof(c->new_port)) ? OK : -REASON_WRITE_ERROR;
}

static __always_inline int nat_rewrite(struct __sk_buff *skb, const struct pkt *p, const struct nat_change *c)
{
	struct iphdr *ip = pkt_ip(skb);
	__u32 diff;

	if (!ip)
		return -REASON_INVALID;
	diff = csum_add(csum_add(~ip->saddr, c->saddr), csum_add(~ip->daddr, c->daddr));
	ip->saddr = c->saddr;
	ip->daddr = c->daddr;
	csum_add_fold(&ip->check, diff);
	return pkt_has_l4(p) ? nat_l4(skb, p, c, diff) : OK;
}

/* Towards a backend; P's tuple follows. */
static __always_inline int
nat_to_backend(struct __sk_buff *skb, struct pkt *p, __be32 saddr, const struct lb4_backend *backend)
{
	struct nat_change c = {
		.saddr = saddr, .daddr = backend->address,
		.old_port = p->t.sport, .new_port = backend->port ? backend->port : p->t.sport, .port_off = DPORT_OFF,
	};

	p->t.saddr = c.saddr;
	p->t.daddr = c.daddr;
	p->t.sport = c.new_port;
	return nat_rewrite(skb, p, &c);
}

/* A reply gets the address and port the client wrote to. LOOPBACK: the client
 * is the backend, the loopback address stood for it. */
static __always_inline int
nat_reply(struct __sk_buff *skb, struct pkt *p, __be32 address, __be16 port, bool loopback)
{
	struct nat_change c = {
		.saddr = address, .daddr = loopback ? p->t.saddr : p->t.daddr,
		.old_port = p->t.dport, .new_port = port ? port : p->t.dport, .port_off = SPORT_OFF,
	};

	p->t.saddr = c.saddr;
	p->t.daddr = c.daddr;
	if (pkt_has_ports(p))
		p->t.dport = c.new_port;
	return nat_rewrite(skb, p, &c);
}

static __always_inline const struct lb4_reverse_nat *nat_service_address(__be16 rev_nat_index)
{
	return bpf_map_lookup_elem(&cilium_lb4_reverse_nat, &rev_nat_index);
}

/* A reply of a service's backend; without the service's address it stays as it is. */
static __always_inline int nat_service_reply(struct __sk_buff *skb, struct pkt *p, __be16 rev_nat_index, bool loopback)
{
	const struct lb4_reverse_nat *service = nat_service_address(rev_nat_index);

	if (!service)
		return OK;
	event_service(p, rev_nat_index, 0);
	return nat_reply(skb, p, service->address, service->port, loopback);
}

/* ---- DSR: what the backend's node writes over the source of replies ---- */

/* The table's key: pod to client, ports as in the packet. REPLY has them crossed. */
static __always_inline struct ipv4_ct_tuple snat_key(const struct ipv4_ct_tuple *reply)
{
	return (struct ipv4_ct_tuple){
		.daddr = reply->daddr, .saddr = reply->saddr, .dport = reply->sport, .sport = reply->dport,
		.nexthdr = reply->nexthdr, .flags = TUPLE_OUT,
	};
}

static __always_inline int
snat_create(struct pkt *p, const struct ipv4_ct_tuple *reply, __be32 vip, __be16 vip_port)
{
	struct ipv4_nat_entry entry = { .created = p->now, .to_saddr = vip, .to_sport = vip_port };
	struct ipv4_ct_tuple key = snat_key(reply);
	int err = bpf_map_update_elem(&cilium_snat_v4_external, &key, &entry, BPF_ANY);

	if (err)
		return ct_create_failed(p, err);
	event_why(p, WHY_SNAT_CREATED);
	return OK;
}

static __always_inline const struct ipv4_nat_entry *snat_find(const struct ipv4_ct_tuple *reply)
{
	struct ipv4_ct_tuple key = snat_key(reply);

	return bpf_map_lookup_elem(&cilium_snat_v4_external, &key);
}

#endif /* CTCTL_NAT_H */
