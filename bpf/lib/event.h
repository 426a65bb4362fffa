/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.h - what a hook did with a packet, told to whoever listens.
 *
 * Without a listener all of this is one test of a number that is 0. With
 * one, the event is built up in a per-CPU scratch; at the end it is kept if
 * the packet is of interest as it came or as it left.
 */
#ifndef CTCTL_EVENT_H
#define CTCTL_EVENT_H

#include "bound.h"
#include "clock.h"
#include "maps.h"
#include "pkt.h"
#include "room.h"

/* Asked for each time: a pointer in P would be one state more for the verifier at
 * every lookup, and is lost where a global function is given P. */
static __always_inline struct ctctl_event *event_of(const struct pkt *p)
{
	__u32 zero = 0;

	return p->heard ? bpf_map_lookup_elem(&ctctl_scratch, &zero) : NULL;
}

/* The lookup in progress, NULL if nobody listens or there is none. */
static __always_inline struct ctctl_lookup *event_record(const struct pkt *p)
{
	struct ctctl_event *ev = event_of(p);
	__u32 n = p->nr_lookups;

	if (!ev || !n)
		return NULL;
	n--;
	return bound_below(&n, CTCTL_EVENT_LOOKUPS) ? &ev->lookup[n] : NULL;
}

static __always_inline void event_drop(struct pkt *p)
{
	p->heard = 0;
}

static __always_inline void event_begin(ctx_t *ctx, struct pkt *p)
{
	__u32 zero = 0;
	struct ctctl_trace_ctl *ctl = bpf_map_lookup_elem(&ctctl_trace_ctl, &zero);
	struct ctctl_event *ev;

	/* The listener renews its lease from user space at any time. At worst
	 * one packet more or less is told. */
	if (!ctl || READ_ONCE(ctl->until_ns) <= p->now_ns)
		return;
	ev = bpf_map_lookup_elem(&ctctl_scratch, &zero);
	if (!ev)
		return;
	__builtin_memset(ev, 0, offsetof(struct ctctl_event, lookup));
	ev->now_s = p->now;
	ev->hook = p->hook;
	ev->packet_len = p->len;
	ev->mark_in = ctx_mark(ctx);
	ev->ifindex = ctx_ifindex(ctx);
	ev->family = ENDPOINT_FAMILY;
	p->heard = 1;
#if FAMILY == 6
	__builtin_memset(&p->t, 0, sizeof(p->t));
	__builtin_memset(&p->dsr_vip, 0, sizeof(p->dsr_vip));
#endif
}

/* Events have room for either family; what is there already is zero. */
static __always_inline void event_addr(__u8 to[16], addr_t addr)
{
	__builtin_memcpy(to, &addr, sizeof(addr));
}

/* The tuple in the packet's own orientation: sport is the packet's. */
static __always_inline void event_tuple(struct ipv6_ct_tuple *to, const struct pkt *p)
{
	event_addr(to->daddr, p->t.daddr);
	event_addr(to->saddr, p->t.saddr);
	to->dport = p->t.sport;
	to->sport = p->t.dport;
	to->nexthdr = p->t.nexthdr;
	to->flags = 0;
}

static __always_inline void event_key(struct ctctl_lookup *rec, const tuple_t *key)
{
	event_addr(rec->tuple.daddr, key->daddr);
	event_addr(rec->tuple.saddr, key->saddr);
	rec->tuple.dport = key->dport;
	rec->tuple.sport = key->sport;
	rec->tuple.nexthdr = key->nexthdr;
	rec->tuple.flags = key->flags;
}

/* Has one end of the flow this address, as far as it is given at all? */
static __always_inline bool event_near(const struct ctctl_trace_ctl *ctl, addr_t saddr, addr_t daddr)
{
	const addr_t mask[2] = { flow_addr(ctl->mask[0]), flow_addr(ctl->mask[1]) }, any = {};
	const addr_t addr[2] = { flow_addr(ctl->addr[0]), flow_addr(ctl->addr[1]) };
	const bool given[2] = { !addr_equal(mask[0], any), !addr_equal(mask[1], any) };

	return (given[0] && (addr_within(saddr, addr[0], mask[0]) || addr_within(daddr, addr[0], mask[0]))) ||
	       (given[1] && (addr_within(saddr, addr[1], mask[1]) || addr_within(daddr, addr[1], mask[1]))) ||
	       (!given[0] && !given[1]);
}

/* What is in a tunnel is not known yet. */
static __always_inline bool event_may_match(const struct ctctl_trace_ctl *ctl, const struct pkt *p)
{
#if FAMILY == 4
	const bool tunnel = p->t.daddr == cfg_node_ip;
#else
	const bool tunnel = false;      /* its outer packets are IPv4's */

	if (ctl->family && ctl->family != ENDPOINT_FAMILY)
		return false;
#endif
	return !ctl->near || p->hook == HOOK_FROM_OVERLAY || tunnel || event_near(ctl, p->t.saddr, p->t.daddr);
}

/* Once the addresses are known, before anything is translated. Most packets
 * are of other flows, and most of those are known by it: the rest of the hook
 * then runs as if nobody listened. */
static __always_inline void event_in(struct pkt *p)
{
	struct ctctl_trace_ctl *ctl;
	__u32 zero = 0;

	struct ctctl_event *ev = event_of(p);

	if (!ev)
		return;
	ctl = bpf_map_lookup_elem(&ctctl_trace_ctl, &zero);
	if (ctl && ctl->filter && !event_may_match(ctl, p)) {
		event_drop(p);
		return;
	}
	event_tuple(&ev->in, p);
}

static __always_inline void event_lookup(struct pkt *p, enum ctctl_lookup_kind kind, enum ctctl_ct_dir dir)
{
	__u32 n = p->nr_lookups;
	struct ctctl_lookup *rec;

	if (!p->heard)
		return;
	if (n >= CTCTL_EVENT_LOOKUPS)
		n = CTCTL_EVENT_LOOKUPS - 1;
	p->nr_lookups = n + 1;
	rec = event_record(p);
	if (!rec)
		return;
	__builtin_memset(rec, 0, sizeof(*rec));
	rec->kind = kind;
	rec->dir = dir;
	rec->any_map = p->t.nexthdr != IPPROTO_TCP;
}

static __always_inline void event_why(struct pkt *p, enum ctctl_why why)
{
	struct ctctl_lookup *rec = event_record(p);

	if (rec)
		rec->why |= why;
}

static __always_inline void event_result(struct pkt *p, enum ctctl_ct_result result)
{
	struct ctctl_lookup *rec = event_record(p);

	if (rec)
		rec->result = result;
}

/* The packet's flow, where what is looked up is no conntrack entry. */
static __always_inline void event_flow(struct pkt *p)
{
	struct ctctl_lookup *rec = event_record(p);
	tuple_t key;

	if (!rec)
		return;
	key = p->t;
	tuple_reverse(&key);
	key.flags = TUPLE_OUT;
	event_key(rec, &key);
}

static __always_inline void event_before(struct pkt *p, const tuple_t *key, const struct ct_entry *e)
{
	struct ctctl_lookup *rec = event_record(p);

	if (!rec)
		return;
	event_key(rec, key);
	rec->why |= WHY_HIT;
	rec->before = *e;
}

static __always_inline void event_after(struct pkt *p, const struct ct_entry *e)
{
	struct ctctl_lookup *rec = event_record(p);

	if (rec)
		rec->after = *e;
}

static __always_inline void event_service(struct pkt *p, __be16 rev_nat_index, __u32 backend_id)
{
	struct ctctl_event *ev = event_of(p);

	if (!ev)
		return;
	ev->rev_nat_index = rev_nat_index;
	ev->backend_id = backend_id;
}

/* From here on another hook has the packet, called by this one. */
static __always_inline void event_hook(ctx_t *ctx, struct pkt *p, enum ctctl_hook hook)
{
	struct ctctl_event *ev = event_of(p);

	p->hook = hook;
	if (!ev)
		return;
	ev->hook = hook;
	ev->packet_len = ctx_len(ctx);
}

static __always_inline void event_tunnel(struct pkt *p, __be32 remote, __u32 vni)
{
	struct ctctl_event *ev = event_of(p);

	if (!ev)
		return;
	ev->tunnel_remote = remote;
	ev->tunnel_vni = vni;
}

/* ---- who wants to hear it ---- */

/* Tuples to compare and keys to look up: with IPv6 in the room, which the hook
 * has no more use for. */
struct event_flows {
	tuple_t in;
	tuple_t out;
	tuple_t vip;
	tuple_t key;
};

static __noinline bool event_followed(const tuple_t *t, tuple_t *key)
{
	tuple_canonical(key, t);
	return bpf_map_lookup_elem(&MAP_TRACE_FOLLOW, key);
}

/* Two CPUs may clear near at once: to the same. */
static __noinline void event_follow(struct ctctl_trace_ctl *ctl, const tuple_t *t, tuple_t *key)
{
	__u8 one = 1;

	tuple_canonical(key, t);
	if (!event_near(ctl, t->saddr, t->daddr))
		WRITE_ONCE(ctl->near, 0);
	bpf_map_update_elem(&MAP_TRACE_FOLLOW, key, &one, BPF_ANY);
}

/* A socket was translated before it had a port: the flow to follow has no
 * source yet. The first packet of such a flow that leaves a pod has one. */
static __noinline bool event_from_socket(const tuple_t *t, tuple_t *key)
{
	*key = (tuple_t){ .daddr = t->daddr, .dport = t->dport, .nexthdr = t->nexthdr };
	return !bpf_map_delete_elem(&MAP_TRACE_FOLLOW, key);
}

static __always_inline void event_flow_of(tuple_t *flow, const struct ipv6_ct_tuple *t)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->dport = t->dport;
	flow->sport = t->sport;
	flow->nexthdr = t->nexthdr;
	__builtin_memcpy(&flow->daddr, t->daddr, sizeof(flow->daddr));
	__builtin_memcpy(&flow->saddr, t->saddr, sizeof(flow->saddr));
}

static __always_inline bool event_tuple_is(const tuple_t *a, const tuple_t *b)
{
	return addr_equal(a->saddr, b->saddr) && addr_equal(a->daddr, b->daddr) && a->sport == b->sport &&
	       a->dport == b->dport;
}

/* Is the packet of interest? If so, whatever it was translated to is from now
 * on, at every hook that shares the table. Most packets are not: what they are
 * compared with is as little as decides it. */
static __always_inline bool event_of_interest(const struct ctctl_event *ev)
{
	IN_ROOM(struct event_flows, f, flows);
	__u32 zero = 0;
	struct ctctl_trace_ctl *ctl = bpf_map_lookup_elem(&ctctl_trace_ctl, &zero);
	bool error = ev->in.nexthdr == IPPROTO_ICMP_FAMILY && !ev->in.sport && !ev->in.dport;
	bool translated, wanted, claimed = false;

	if (!ctl || !f)
		return false;
	if (!ctl->filter)
		return true;
	event_flow_of(&f->in, &ev->in);
	event_flow_of(&f->out, &ev->out);
	translated = !event_tuple_is(&f->in, &f->out);
	wanted = flow_wanted(ctl, &f->in, error) || event_followed(&f->in, &f->key);
	if (!wanted && translated)
		wanted = flow_wanted(ctl, &f->out, error) || event_followed(&f->out, &f->key);
	/* A packet with the DSR option came for the VIP, by way of another node. */
	if (!wanted && ev->dsr_port) {
		f->vip = f->in;
		__builtin_memcpy(&f->vip.daddr, ev->dsr_vip, sizeof(f->vip.daddr));
		f->vip.dport = ev->dsr_port;
		wanted = flow_wanted(ctl, &f->vip, error);
	}
	if (!wanted && ev->hook == HOOK_FROM_CONTAINER && !ctl->near && flow_source_wanted(ctl, &f->in))
		wanted = claimed = event_from_socket(&f->in, &f->key);
	if (wanted && (translated || ev->dsr_port || claimed)) {
		event_follow(ctl, &f->in, &f->key);
		event_follow(ctl, &f->out, &f->key);
	}
	return wanted;
}

/* Global: the verifier goes through it once, not once for each way here. */
__noinline int event_emit(ctx_t *ctx, const struct pkt *p, __u32 verdict, __u32 reason)
{
	__u32 zero = 0;
	struct ctctl_event *ev = bpf_map_lookup_elem(&ctctl_scratch, &zero);

	if (!ev || !p)
		return 0;
	event_tuple(&ev->out, p);
	ev->mark_out = ctx_mark(ctx);
	ev->src_identity = p->src_identity;
	ev->redirect_ifindex = p->redirect;
	event_addr(ev->dsr_vip, p->dsr_vip);
	ev->dsr_port = p->dsr_port;
	ev->verdict = verdict;
	ev->reason = reason;
	ev->tcp_flags = p->tcp_flags;
	ev->icmp_type = p->icmp_type;
	ev->icmp_code = p->icmp_code;
	ev->fragment = p->fragment;
	ev->nr_lookups = p->nr_lookups;
	if (!event_of_interest(ev))
		return 0;
	/* A hook that tracks nothing has no use for the flags; who follows the
	 * packet has. Encapsulated, the header is elsewhere, but was read before. */
	if (p->t.nexthdr == IPPROTO_TCP && !ev->tcp_flags && p->fragment != FRAGMENT_LATER && !ev->tunnel_remote)
		pkt_load_tcp_flags(ctx, p, &ev->tcp_flags);
	/* The hook's clock is coarse; events of several nodes are put in order by this one. */
	ev->time_ns = cfg_sim ? p->now_ns : bpf_ktime_get_ns();
	if (bpf_ringbuf_output(&ctctl_events, ev, sizeof(*ev), 0))
		stat_inc(STAT_EVENTS_LOST);
	return 0;
}

#endif /* CTCTL_EVENT_H */
