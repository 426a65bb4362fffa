/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * snatquoted.h - ICMP errors about packets that were translated, which quote them:
 * IPv4's. Of IPv6's Cilium 1.16 finds none (snat.h).
 */
#ifndef CTCTL_SNATQUOTED_H
#define CTCTL_SNATQUOTED_H

#include "endpoint.h"
#include "nat.h"
#include "pkt.h"

struct quoted {
	struct iphdr ip;
	__u32  l4_off;
	tuple_t t;              /* of the quoted packet's answer, ports as in a packet */
};

/* TYPE: of the echo that can be quoted here. */
static __always_inline int
snat_load_quoted(ctx_t *ctx, const struct pkt *p, struct quoted *q, __u8 echo_type)
{
	struct ipv4_frag_l4ports ports;
	struct icmp_header icmp;

	if (!pkt_load(ctx, p->l4_off + sizeof(icmp), &q->ip, sizeof(q->ip)))
		return -REASON_INVALID;
	q->l4_off = p->l4_off + sizeof(icmp) + q->ip.ihl * 4;
	q->t.nexthdr = q->ip.protocol;
	q->t.saddr = q->ip.daddr;
	q->t.daddr = q->ip.saddr;
	switch (q->ip.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		if (!pkt_load(ctx, q->l4_off, &ports, sizeof(ports)))
			return -REASON_INVALID;
		q->t.dport = ports.sport;
		q->t.sport = ports.dport;
		return OK;
	case IPPROTO_ICMP:
		if (!pkt_load(ctx, q->l4_off, &icmp, sizeof(icmp) - sizeof(icmp.mtu)) || icmp.type != echo_type)
			return -REASON_INVALID;
		if (echo_type == ICMP_ECHO) {
			q->t.dport = icmp.id;
			q->t.sport = 0;
		} else {
			q->t.sport = icmp.id;
			q->t.dport = 0;
		}
		return OK;
	}
	return -REASON_UNKNOWN_L4;
}

/* A quoted packet gets another address (at ADDR_OFF of its header) and port
 * (at PORT_OFF of its L4), its checksums along; the error's own checksum
 * covers all of it, the quoted checksum's change too. */
static __always_inline int
snat_rewrite_quoted(ctx_t *ctx, const struct pkt *p, struct quoted *q, __u32 addr_off, __u32 port_off,
		    addr_t old_addr, __be16 old_port, const nat_entry_t *to)
{
	const __u32 ip_off = p->l4_off + sizeof(struct icmp_header);
	__u32 addr_diff = csum_add(~old_addr, to->to_saddr), outer = addr_diff;
	__u32 port_diff = csum_add(~(__u32)old_port, to->to_sport);
	__u32 csum_off = 0;
	__sum16 before, after;

	if (q->t.nexthdr == IPPROTO_TCP)
		csum_off = offsetof(struct tcphdr, check);
	else if (q->t.nexthdr == IPPROTO_UDP)
		csum_off = offsetof(struct udphdr, check);
	else
		csum_off = offsetof(struct icmp_header, checksum);
	if (!pkt_load(ctx, q->l4_off + csum_off, &before, sizeof(before)))
		return -REASON_CSUM_L4;
	after = before;
	if (q->t.nexthdr == IPPROTO_ICMP)
		csum_add_fold(&after, port_diff);
	else if (before || q->t.nexthdr == IPPROTO_TCP)
		csum_add_fold(&after, csum_add(addr_diff, port_diff));
	outer = csum_add(outer, port_diff);
	outer = csum_add(outer, csum_add(~(__u32)before, after));
	before = q->ip.check;
	csum_add_fold(&q->ip.check, addr_diff);
	outer = csum_add(outer, csum_add(~(__u32)before, q->ip.check));
	if (!pkt_store(ctx, q->l4_off + csum_off, &after, sizeof(after)) ||
	    !pkt_store(ctx, q->l4_off + port_off, &to->to_sport, sizeof(to->to_sport)) ||
	    !pkt_store(ctx, ip_off + addr_off, &to->to_saddr, sizeof(to->to_saddr)) ||
	    !pkt_store(ctx, ip_off + offsetof(struct iphdr, check), &q->ip.check, sizeof(q->ip.check)))
		return -REASON_WRITE_ERROR;
	if (ctx_l4_csum_replace(ctx, p->l4_off + offsetof(struct icmp_header, checksum), 0, outer, 0))
		return -REASON_CSUM_L4;
	return OK;
}

/* An error about a translated packet: what it quotes gets back what that had, and
 * its own source (OUT), or its own destination, is the one it is really of. *DONE:
 * there was a pair. */
static __always_inline int snat_quoted(ctx_t *ctx, struct pkt *p, const bool out, bool *done)
{
	struct quoted q = { .t.flags = out ? TUPLE_OUT : TUPLE_IN };
	const addr_t *old_addr = out ? &q.t.saddr : &q.t.daddr;
	const __be16 *old_port = out ? &q.t.sport : &q.t.dport;
	struct nat_change c = { .saddr = p->t.saddr, .daddr = p->t.daddr, .port_off = out ? SPORT_OFF : DPORT_OFF };
	const __u32 addr_off = out ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr);
	const nat_entry_t *found;
	nat_entry_t entry;
	int ret;

	ret = snat_load_quoted(ctx, p, &q, out ? ICMP_ECHO_REPLY : ICMP_ECHO);
	if (ret)
		return !out && ret == -REASON_UNKNOWN_L4 ? OK : ret;
	found = bpf_map_lookup_elem(&MAP_SNAT, &q.t);
	if (!found)
		return OK;
	entry = *found;
	if (!addr_equal(entry.to_saddr, *old_addr) || entry.to_sport != *old_port) {
		__u32 port_off = q.t.nexthdr == IPPROTO_ICMP ? ECHO_ID_OFF : out ? DPORT_OFF : SPORT_OFF;

		ret = snat_rewrite_quoted(ctx, p, &q, addr_off, port_off, *old_addr, *old_port, &entry);
		if (ret)
			return ret;
	}
	*(out ? &c.saddr : &c.daddr) = entry.to_saddr;
	*(out ? &p->t.saddr : &p->t.daddr) = entry.to_saddr;
	*done = true;
	ctx_set_mark(ctx, (ctx_mark(ctx) & ~MARK_MAGIC) | MARK_SNAT_DONE);
	return nat_rewrite(ctx, p, &c);
}

/* Of a packet that came by the node's address, from the pod it came to. */
static __noinline int snat_quoted_out(ctx_t *ctx, struct pkt *p)
{
	bool done;

	return snat_quoted(ctx, p, true, &done);
}

/* Of a packet that left by the node's address, from anywhere on its way. */
static __noinline int snat_quoted_in(ctx_t *ctx, struct pkt *p, bool *done)
{
	return snat_quoted(ctx, p, false, done);
}

#endif /* CTCTL_SNATQUOTED_H */
