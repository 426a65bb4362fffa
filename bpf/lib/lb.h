/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lb.h - services: find one, choose or keep a backend, translate to it.
 */
#ifndef CTCTL_LB_H
#define CTCTL_LB_H

#include "clock.h"
#include "ct.h"
#include "event.h"
#include "maps.h"
#include "nat.h"
#include "pkt.h"
#include "service.h"

/* What balancing left behind for the stages after it. */
struct lb_result {
	addr_t vip;
	__be16 vip_port;
	__be16 rev_nat_index;   /* 0: not to a service */
	bool   loopback;        /* the client is its own backend */
};

/* The frontend's entry; KEY stays with the scope it was found in. A pod sees
 * the internal one of a service that has two. */
static __always_inline const struct lb4_service *
lb_find_service(const struct pkt *p, lb_key_t *key, bool from_pod)
{
	key->address = p->t.daddr;
	key->dport = p->t.sport;
	return service_find(key, from_pod);
}

static __always_inline bool lb_source_allowed(const struct pkt *p, const struct lb4_service *svc)
{
	src_range_key_t key = {
		.prefixlen = 32 + ADDR_BITS, .rev_nat_id = svc->rev_nat_index, .addr = p->t.saddr,
	};

	return !(svc->flags & SVC_SOURCE_RANGE) || bpf_map_lookup_elem(&MAP_SOURCE_RANGE, &key);
}

/* ---- which backend ---- */

#define ROL32(x, n) ((x) << (n) | (x) >> (32 - (n)))

/* The last round of Bob Jenkins' lookup3 (public domain) over three words. */
static __always_inline __u32 lb_hash(__u32 a, __u32 b, __u32 c)
{
	const __u32 start = cfg_hash_seed + 0xdeadbeef + (3 << 2);

	a += start;
	b += start;
	c += start;
	c = (c ^ b) - ROL32(b, 14);
	a = (a ^ c) - ROL32(c, 11);
	b = (b ^ a) - ROL32(a, 25);
	c = (c ^ b) - ROL32(b, 16);
	a = (a ^ c) - ROL32(c, 4);
	b = (b ^ a) - ROL32(a, 14);
	return (c ^ b) - ROL32(b, 24);
}

/* Of the client and the ports; not of the service's address. */
static __always_inline __u32 lb_flow_hash(const struct pkt *p)
{
	const __u32 ports = (__u32)p->t.dport << 16 | p->t.sport;

#if FAMILY == 4
	return lb_hash(p->t.saddr, ports, p->t.nexthdr);
#else
	const addr_t client = p->t.saddr;

	return lb_hash(lb_hash(client.half[0], client.half[0] >> 32, client.half[1]), (client.half[1] >> 32) ^ ports,
		       p->t.nexthdr);
#endif
}

static __always_inline __u32 lb_select_maglev(struct pkt *p, const struct lb4_service *svc)
{
	__u16 rev_nat_index = svc->rev_nat_index;
	const __u32 size = cfg_maglev_size;
	__u32 zero = 0, slot;
	const __u32 *lut;
	void *inner;

	event_why(p, WHY_BACKEND_MAGLEV);
	inner = bpf_map_lookup_elem(&MAP_MAGLEV, &rev_nat_index);
	if (!inner)
		return 0;
	lut = bpf_map_lookup_elem(inner, &zero);
	slot = lb_flow_hash(p) % size;
	/* The verifier wants to see the bound that the compiler takes for granted. */
	asm volatile("" : "+r"(slot));
	return lut && slot < size ? lut[slot] : 0;
}

static __always_inline __u32 lb_select_random(struct pkt *p, lb_key_t *key, const struct lb4_service *svc)
{
	const struct lb4_service *slot;

	event_why(p, WHY_BACKEND_RANDOM);
	key->backend_slot = random_u32() % svc->count + 1;
	slot = bpf_map_lookup_elem(&MAP_SERVICES, key);
	return slot ? slot->backend_id : 0;
}

static __always_inline __u32 lb_select(struct pkt *p, lb_key_t *key, const struct lb4_service *svc)
{
	if (!svc->count)
		return 0;
	return cfg_lb_maglev ? lb_select_maglev(p, svc) : lb_select_random(p, key, svc);
}

/* ---- session affinity: a client keeps its backend for a while ---- */

static __always_inline affinity_key_t lb_affinity_key(addr_t client, const struct lb4_service *svc)
{
	return (affinity_key_t){ .client_id = client, .rev_nat_id = svc->rev_nat_index };
}

static __always_inline __u32 lb_affinity_backend(struct pkt *p, const struct lb4_service *svc, const bool ahead)
{
	affinity_key_t key = lb_affinity_key(p->t.saddr, svc);

	return affinity_backend(&key, svc, p->now, ahead);
}

static __always_inline void
lb_affinity_use(const struct pkt *p, addr_t client, const struct lb4_service *svc, __u32 backend_id)
{
	affinity_key_t key = lb_affinity_key(client, svc);

	affinity_use(&key, backend_id, p->now);
}

/* ---- the connection's backend ---- */

struct lb_choice {
	const lb_backend_t *backend;
	__u32 id;
};

static __always_inline int lb_no_backend(struct pkt *p)
{
	event_why(p, WHY_NO_BACKEND);
	return -REASON_NO_SERVICE;
}

/* For a connection that has no SERVICE entry. AHEAD: nothing is written. */
static __always_inline int
lb_choose(struct pkt *p, lb_key_t *key, const struct lb4_service *svc, const lb_backend_t **backend, __u32 *id,
	  const bool ahead)
{
	if (!svc->count)
		return lb_no_backend(p);
	if (svc->flags & SVC_AFFINITY) {
		*id = lb_affinity_backend(p, svc, ahead);
		if (*id)
			*backend = service_backend(*id);
		if (*backend)
			event_why(p, WHY_BACKEND_AFFINITY);
	}
	if (!*backend) {
		*id = lb_select(p, key, svc);
		*backend = service_backend(*id);
	}
	return *backend ? OK : lb_no_backend(p);
}

/* A connection that has no SERVICE entry: choose, and write one. */
STAGE int
lb_connect(struct pkt *p, const tuple_t *ct_key, lb_key_t *key, const struct lb4_service *svc, struct lb_choice *choice)
{
	const lb_backend_t **backend = &choice->backend;
	__u32 *backend_id = &choice->id;
	struct ct_new new = { .rev_nat_index = svc->rev_nat_index };
	int ret;

	ret = lb_choose(p, key, svc, backend, &new.backend_id, false);
	if (ret)
		return ret;
	*backend_id = new.backend_id;
	return ct_create(p, ct_key, CT_DIR_SERVICE, &new);
}

/* A connection that has one: its backend, unless that is gone or, for a SYN,
 * no longer active. */
STAGE int
lb_continue(struct pkt *p, struct ct_entry *e, lb_key_t *key, const struct lb4_service *svc, struct lb_choice *choice)
{
	const lb_backend_t **backend = &choice->backend;
	__u32 *backend_id = &choice->id;
	*backend_id = READ_ONCE(e->backend_id);
	*backend = service_backend(*backend_id);
	if (*backend && ((*backend)->flags == BACKEND_ACTIVE || !(p->tcp_flags & TCP_SYN))) {
		event_why(p, WHY_BACKEND_KEPT);
		return OK;
	}
	event_why(p, *backend ? WHY_BACKEND_INACTIVE : WHY_BACKEND_GONE);
	*backend_id = lb_select(p, key, svc);
	*backend = *backend_id ? service_backend(*backend_id) : NULL;
	if (!*backend)
		return lb_no_backend(p);
	/* Another CPU may choose for the same connection now: one of the two
	 * choices stays, the other's packet went astray like any to a backend
	 * that is gone. */
	WRITE_ONCE(e->backend_id, *backend_id);
	WRITE_ONCE(e->rev_nat_index, svc->rev_nat_index);
	event_after(p, e);
	return OK;
}

/* Is the pod its own backend? Then it hears from the loopback address, of
 * which IPv6 has none: it hears from itself. */
static __always_inline bool lb_is_loopback(bool from_pod, const lb_backend_t *backend, addr_t *client)
{
	bool loopback = FAMILY == 4 && from_pod && addr_equal(backend->address, *client);

#if FAMILY == 4
	if (loopback)
		*client = cfg_loopback;
#endif
	return loopback;
}

/* The packet is for SVC: what is looked up, and what is remembered of it. */
static __always_inline void
lb_begin(const struct pkt *p, const struct lb4_service *svc, tuple_t *ct_key, struct lb_result *lb)
{
	lb->vip = p->t.daddr;
	lb->vip_port = p->t.sport;
	lb->rev_nat_index = svc->rev_nat_index;
	*ct_key = p->t;
	ct_key->flags = TUPLE_SERVICE;
}

/* The backend of CLIENT's packet is CHOICE: affinity, translation. */
static __always_inline int
lb_translate(ctx_t *ctx, struct pkt *p, addr_t client, const struct lb4_service *svc, const struct lb_choice *choice,
	     bool from_pod, struct lb_result *lb)
{
	if (svc->flags & SVC_AFFINITY)
		lb_affinity_use(p, client, svc, choice->id);
	lb->loopback = lb_is_loopback(from_pod, choice->backend, &client);
	return nat_to_backend(ctx, p, client, choice->backend);
}

/* The packet is for SVC: SERVICE entry, affinity, translation. */
static __always_inline int
lb_to_backend(ctx_t *ctx, struct pkt *p, lb_key_t *key, const struct lb4_service *svc, bool from_pod,
	      struct lb_result *lb)
{
	BESIDE(p, tuple_t, ct_key, flow);
	struct lb_choice choice = {};
	addr_t client = p->t.saddr;
	struct ct_entry *e;
	int ret;

	lb_begin(p, svc, ct_key, lb);
	event_lookup(p, LOOKUP_SERVICE, CT_DIR_SERVICE);
	e = ct_lookup_one(p, ct_key, CT_DIR_SERVICE, WANT_SERVICE, svc->rev_nat_index);
	if (e) {
		event_result(p, CT_RESULT_REPLY);
		ret = lb_continue(p, e, key, svc, &choice);
	} else {
		ret = lb_connect(p, ct_key, key, svc, &choice);
	}
	event_service(p, svc->rev_nat_index, ret ? 0 : choice.id);
	if (ret || !choice.backend)
		return ret;
	return lb_translate(ctx, p, client, svc, &choice, from_pod, lb);
}

/* After the translation a fragment is one of another datagram. */
static __always_inline int lb_fragment(struct pkt *p)
{
	if (p->fragment == FRAGMENT_LATER)
		return pkt_fragment_ports(p);
	if (p->fragment == FRAGMENT_FIRST)
		pkt_fragment_remember(p);
	return OK;
}

#endif /* CTCTL_LB_H */
