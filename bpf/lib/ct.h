/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ct.h - connection tracking: find an entry, let the packet act on it, make one.
 *
 * The rules are Cilium 1.16's, quirks included. An entry is shared by all
 * CPUs and not locked: packets of one flow are usually on one CPU, and where
 * they are not, the worst outcome is said at the write.
 */
#ifndef CTCTL_CT_H
#define CTCTL_CT_H

#include "event.h"
#include "maps.h"
#include "pkt.h"
#include "room.h"

#define CT_CLOSED (CT_RX_CLOSING | CT_TX_CLOSING)

/* Which entries a lookup accepts. */
enum ct_want {
	WANT_ANY,
	WANT_SERVICE,           /* SERVICE entry of the same service */
	WANT_NODE_PORT,         /* NodePort entry of the same service */
	WANT_DSR,
	WANT_TRANSLATED,        /* NodePort of any service, or DSR */
};

/* What a new entry says. */
struct ct_new {
	__u32  src_sec_id;
	__u32  backend_id;
	__u16  flags;
	__be16 rev_nat_index;
	bool   related;         /* also write the entry that ICMP errors of the flow match */
};

/* Two calls, not a chosen map: the verifier makes a direct call of a lookup
 * whose map it knows. */
static __always_inline struct ct_entry *ct_find(const tuple_t *key)
{
	if (key->nexthdr == IPPROTO_TCP)
		return bpf_map_lookup_elem(&MAP_CT_TCP, key);
	return bpf_map_lookup_elem(&MAP_CT_ANY, key);
}

static __always_inline int ct_write(const tuple_t *key, const struct ct_entry *e)
{
	if (key->nexthdr == IPPROTO_TCP)
		return bpf_map_update_elem(&MAP_CT_TCP, key, e, BPF_ANY);
	return bpf_map_update_elem(&MAP_CT_ANY, key, e, BPF_ANY);
}

static __always_inline bool ct_is_wanted(const struct ct_entry *e, enum ct_want want, __be16 rev_nat_index)
{
	switch (want) {
	case WANT_ANY:
		return true;
	case WANT_SERVICE:
		return e->rev_nat_index == rev_nat_index;
	case WANT_NODE_PORT:
		return (e->flags & CT_NODE_PORT) && e->rev_nat_index &&
		       (!rev_nat_index || e->rev_nat_index == rev_nat_index);
	case WANT_DSR:
		return e->flags & CT_DSR_INTERNAL;
	case WANT_TRANSLATED:
		return ((e->flags & CT_NODE_PORT) && e->rev_nat_index) || (e->flags & CT_DSR_INTERNAL);
	}
	return false;
}

/* Does a packet with these flags reopen an entry that is closing? Until Cilium
 * 1.16.12 the answer to a SYN did so too; a service's grace is over for either. */
static __always_inline bool ct_is_reopening(__u8 tcp_flags)
{
	return (tcp_flags & TCP_SYN) && (cfg_syn_ack_opens || !(tcp_flags & TCP_ACK));
}

/* New lifetime; flags and report time of the hook's direction (egress and
 * service are the entry's tx) when the flags grew or the interval is over.
 * Two CPUs may lose one of two flags to each other, until it is seen again. */
static __always_inline void
ct_extend(struct ct_entry *e, __u32 now, __u32 timeout, enum ctctl_ct_dir dir, __u8 tcp_flags)
{
	bool rx = dir == CT_DIR_INGRESS;
	__u8 seen = rx ? READ_ONCE(e->rx_flags_seen) : READ_ONCE(e->tx_flags_seen);
	__u32 reported = rx ? READ_ONCE(e->last_rx_report) : READ_ONCE(e->last_tx_report);
	__u8 grown = seen | (tcp_flags & cfg_report_flags);

	WRITE_ONCE(e->lifetime, now + timeout);
	if (grown == seen && reported + cfg_report_interval_s >= now)
		return;
	if (rx) {
		WRITE_ONCE(e->rx_flags_seen, grown);
		WRITE_ONCE(e->last_rx_report, now);
	} else {
		WRITE_ONCE(e->tx_flags_seen, grown);
		WRITE_ONCE(e->last_tx_report, now);
	}
}

/* Any packet of a live entry keeps it alive: for the SYN timeout until the
 * first packet without SYN, then for the long one. */
static __always_inline void
ct_refresh(struct pkt *p, struct ct_entry *e, enum ctctl_ct_dir dir, bool tcp, __u8 tcp_flags)
{
	bool service = dir == CT_DIR_SERVICE;
	__u32 timeout = service ? cfg_svc_any_s : cfg_ct_any_s;
	__u16 flags;

	if (tcp) {
		flags = READ_ONCE(e->flags);
		if (!(flags & CT_SEEN_NON_SYN) && !(tcp_flags & TCP_SYN)) {
			/* May undo a closing bit that another CPU sets now: the
			 * entry then lives for the long timeout. */
			WRITE_ONCE(e->flags, flags | CT_SEEN_NON_SYN);
			event_why(p, WHY_LONG_LIFETIME);
			flags |= CT_SEEN_NON_SYN;
		}
		if (flags & CT_SEEN_NON_SYN)
			timeout = service ? cfg_svc_tcp_s : cfg_ct_tcp_s;
		else
			timeout = cfg_ct_tcp_syn_s;
	}
	ct_extend(e, p->now, timeout, dir, tcp_flags);
}

/* FIN closes the hook's direction; RST, and anything on a SERVICE entry, both. */
static __always_inline enum ctctl_why
ct_close(struct ct_entry *e, __u32 now, enum ctctl_ct_dir dir, __u8 tcp_flags)
{
	__u16 flags = READ_ONCE(e->flags);
	__u16 closed = flags;

	if (dir == CT_DIR_SERVICE || (tcp_flags & TCP_RST))
		closed |= CT_CLOSED;
	else
		closed |= dir == CT_DIR_INGRESS ? CT_RX_CLOSING : CT_TX_CLOSING;
	/* FINs of both sides on two CPUs at once may lose one bit: the entry
	 * then lives for the long timeout. */
	if (closed != flags)
		WRITE_ONCE(e->flags, closed);
	if ((closed & CT_CLOSED) != CT_CLOSED)
		return WHY_HALF_CLOSED;
	ct_extend(e, now, cfg_ct_tcp_fin_s, dir, tcp_flags);
	return WHY_CLOSED;
}

/* The same ports are used again, the entry starts anew. */
static __always_inline enum ctctl_why
ct_reopen(struct ct_entry *e, __u32 now, enum ctctl_ct_dir dir, __u8 tcp_flags)
{
	WRITE_ONCE(e->flags, READ_ONCE(e->flags) & ~(CT_CLOSED | CT_SEEN_NON_SYN));
	e->rx_flags_seen = 0;
	e->tx_flags_seen = 0;
	ct_extend(e, now, cfg_ct_tcp_syn_s, dir, tcp_flags);
	return WHY_REOPENED;
}

/* Ends and new starts, rare beside other packets; what was done, as WHY_*.
 * Global: the verifier goes through it once, not once for each lookup. */
__noinline int ct_close_or_reopen(struct ct_entry *e, __u32 now, __u32 dir, __u32 tcp_flags)
{
	if (!e)
		return 0;
	return tcp_flags & (TCP_FIN | TCP_RST) ? ct_close(e, now, dir, tcp_flags) : ct_reopen(e, now, dir, tcp_flags);
}

/* The packet acts on the entry found. False: take it as not found. */
static __always_inline bool
ct_touch(struct pkt *p, struct ct_entry *e, enum ctctl_ct_dir dir, enum ct_want want, __be16 rev_nat_index)
{
	bool tcp = p->t.nexthdr == IPPROTO_TCP;
	__u8 tcp_flags = tcp ? p->tcp_flags : 0;
	__u16 flags = READ_ONCE(e->flags);
	enum ctctl_why done;

	if (!ct_is_wanted(e, want, rev_nat_index)) {
		event_why(p, WHY_WRONG_TYPE);
		return false;
	}
	if (dir == CT_DIR_SERVICE && (tcp_flags & TCP_SYN) && (flags & CT_CLOSED) &&
	    READ_ONCE(e->last_tx_report) + cfg_svc_tcp_grace_s <= p->now) {
		event_why(p, WHY_GRACE_OVER);
		return false;
	}
	if ((flags & CT_CLOSED) != CT_CLOSED)
		ct_refresh(p, e, dir, tcp, tcp_flags);
	if (cfg_accounting) {
		__sync_fetch_and_add(&e->packets, 1);
		__sync_fetch_and_add(&e->bytes, p->len);
	}
	if ((tcp_flags & (TCP_FIN | TCP_RST)) || (ct_is_reopening(tcp_flags) && (flags & CT_CLOSED))) {
		done = ct_close_or_reopen(e, p->now, dir, tcp_flags);
		event_why(p, done);
		return !(done & WHY_REOPENED);
	}
	if ((flags & CT_CLOSED) == CT_CLOSED)
		event_why(p, WHY_DEAD);
	return true;
}

/* The same, told: E is what was found under KEY, or NULL. It, or NULL. */
static __always_inline struct ct_entry *
ct_act(struct pkt *p, const tuple_t *key, struct ct_entry *e, enum ctctl_ct_dir dir, enum ct_want want,
       __be16 rev_nat_index)
{
	bool hit;

	if (!e) {
		struct ctctl_lookup *rec = event_record(p);

		if (rec)
			event_key(rec, key);
		return NULL;
	}
	event_before(p, key, e);
	hit = ct_touch(p, e, dir, want, rev_nat_index);
	event_after(p, e);
	return hit ? e : NULL;
}

/* The entry under KEY, acted upon, or NULL. */
static __always_inline struct ct_entry *
ct_lookup_one(struct pkt *p, const tuple_t *key, enum ctctl_ct_dir dir, enum ct_want want,
	      __be16 rev_nat_index)
{
	return ct_act(p, key, ct_find(key), dir, want, rev_nat_index);
}

/* A pod hook's lookup: whose reply is it, else what flow is it of? KEY comes
 * as the packet has it; it leaves as the key of the flow's own entry, unless
 * the packet is a reply. The entry, or NULL for NEW, is in *ENTRY. */
static __always_inline enum ctctl_ct_result
ct_lookup(struct pkt *p, tuple_t *key, enum ctctl_ct_dir dir, struct ct_entry **entry)
{
	const __u8 forward = dir == CT_DIR_EGRESS ? TUPLE_OUT : TUPLE_IN;
	const __u8 reverse = dir == CT_DIR_EGRESS ? TUPLE_IN : TUPLE_OUT;
	enum ctctl_ct_result result;
	__u8 related = key->flags & TUPLE_RELATED;

	event_lookup(p, LOOKUP_CT, dir);
	key->flags = reverse | related;
	*entry = ct_lookup_one(p, key, dir, WANT_ANY, 0);
	if (*entry) {
		result = related ? CT_RESULT_RELATED : CT_RESULT_REPLY;
	} else {
		struct ctctl_lookup *rec = event_record(p);

		if (rec && (rec->why & WHY_HIT))
			event_lookup(p, LOOKUP_CT, dir);
		tuple_reverse(key);
		key->flags = forward | related;
		*entry = ct_lookup_one(p, key, dir, WANT_ANY, 0);
		result = *entry ? CT_RESULT_ESTABLISHED : CT_RESULT_NEW;
	}
	event_result(p, result);
	return result;
}

static __always_inline int ct_create_failed(struct pkt *p, int err)
{
	struct ctctl_lookup *rec = event_record(p);

	stat_inc(STAT_CT_CREATE_FAILED);
	stat_set(STAT_CT_CREATE_ERRNO, -err);
	event_why(p, WHY_CREATE_FAILED);
	if (rec)
		rec->err = err;
	return -REASON_CT_CREATE_FAILED;
}

/* One entry for all ICMP errors between two addresses, of whatever flow. */
static __always_inline int ct_create_related(struct pkt *p, const tuple_t *key, const struct ct_entry *e)
{
	BESIDE(p, tuple_t, icmp, related);
	int err;

	icmp->daddr = key->daddr;
	icmp->saddr = key->saddr;
	icmp->nexthdr = IPPROTO_ICMP_FAMILY;
	icmp->flags = key->flags | TUPLE_RELATED;
	err = bpf_map_update_elem(&MAP_CT_ANY, icmp, e, BPF_ANY);
	if (err)
		return ct_create_failed(p, err);
	event_why(p, WHY_RELATED_CREATED);
	return OK;
}

/* Whatever the packet, a TCP entry starts as if by a SYN. */
static __always_inline int
ct_create(struct pkt *p, const tuple_t *key, enum ctctl_ct_dir dir, const struct ct_new *new)
{
	bool tcp = key->nexthdr == IPPROTO_TCP;
	BESIDE(p, struct ct_entry, e, entry);
	struct ctctl_lookup *rec;
	int err;

	e->backend_id = new->backend_id;
	e->flags = new->flags;
	e->rev_nat_index = new->rev_nat_index;
	e->src_sec_id = new->src_sec_id;
	ct_refresh(p, e, dir, tcp, tcp ? TCP_SYN : 0);
	if (new->related && ct_create_related(p, key, e))
		return -REASON_CT_CREATE_FAILED;
	if (cfg_accounting) {
		e->packets = 1;
		e->bytes = p->len;
	}
	err = ct_write(key, e);
	if (err)
		return ct_create_failed(p, err);
	rec = event_record(p);
	if (rec) {
		event_key(rec, key);
		rec->why |= WHY_CREATED;
		rec->after = *e;
	}
	return OK;
}

#endif /* CTCTL_CT_H */
