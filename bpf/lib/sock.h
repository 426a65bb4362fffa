/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sock.h - services for sockets: a connect or sendmsg to a service goes to one
 * of its backends from the start, and what a program is told of its peer is
 * the service again. Nothing is written to a conntrack table: packets of such a
 * socket are those of a flow between client and backend.
 *
 * Programs of a cgroup may be preempted, by another socket's or by a hook of a
 * device: nothing is built up in per-CPU memory here.
 */
#ifndef CTCTL_SOCK_H
#define CTCTL_SOCK_H

#include "clock.h"
#include "endpoint.h"
#include "flow.h"
#include "maps.h"
#include "service.h"

#define MAP_REVERSE_SK FAMILY_NAME(cilium_lb4_reverse_sk, cilium_lb6_reverse_sk)

CTCTL_MAP(MAP_REVERSE_SK, BPF_MAP_TYPE_LRU_HASH, reverse_sk_key_t, struct FAMILY_NAME(lb4_reverse_sk, lb6_reverse_sk),
	  262144, 0);

#define NODEPORT_MIN 30000
#define NODEPORT_MAX 32767

/* Of a translation that is none: the call goes on as it came. */
#define SOCK_UNTOUCHED 1

/* A call and its peer, as it came and as it goes on. */
struct sock_call {
	__u64  cookie;          /* the socket's */
	__u64  netns_cookie;    /* of the network namespace it is in */
	__u64  now_ns;
	addr_t asked;
	addr_t peer;
	addr_t own;             /* the socket's own end, as far as it has one */
	__be16 asked_port;
	__be16 peer_port;
	__be16 own_port;
	__be16 rev_nat_index;   /* of the service, 0: none was found */
	__u32  backend_id;
	__u32  why;             /* enum ctctl_why */
	__u8   hook;
	__u8   proto;
};

static __always_inline bool sock_is_balanced(__u32 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE;
}

static __always_inline bool sock_is_of_host(const struct sock_call *c)
{
	return c->netns_cookie == cfg_host_netns_cookie;
}

#if FAMILY == 4
/* 127.0.0.0/8, and what the reference takes for it: it does not look at the first bit. */
static __always_inline bool addr_is_loopback(addr_t a)
{
	return (a & bpf_htonl(0x7f000000)) == bpf_htonl(0x7f000000);
}
#else
static __always_inline bool addr_is_loopback(addr_t a)
{
	return addr_equal(a, (addr_t){ { 0, bpf_cpu_to_be64(1) } });
}
#endif

/* ---- which service ---- */

/* Of a node's address, which KEY has, a NodePort service has one entry for all,
 * at address 0: those of this node and, in the NodePort range, of the others. */
static __always_inline const struct lb4_service *sock_find_wildcard(lb_key_t *key, bool of_host, bool binding)
{
	const __u16 port = bpf_ntohs(key->dport);
	const bool node_port = port >= NODEPORT_MIN && port <= NODEPORT_MAX;
	const struct remote_endpoint_info *info;
	const struct lb4_service *svc;

	if (binding && !node_port)
		return NULL;
	if (!of_host || !addr_is_loopback(key->address)) {
		info = ipcache_find(key->address);
		if (!info || (info->sec_identity != IDENTITY_HOST &&
			      (binding || !node_port || !identity_is_remote_node(info->sec_identity))))
			return NULL;
	}
	key->address = (addr_t){};
	svc = service_find(key, true);
	if (!svc || binding || (svc->flags & (node_port ? SVC_NODE_PORT : SVC_HOST_PORT)))
		return svc;
	return NULL;
}

static __always_inline const struct lb4_service *
sock_find_service(lb_key_t *key, const struct sock_call *c, addr_t address, __be16 port)
{
	const struct lb4_service *svc;

	key->address = address;
	key->dport = port;
	svc = service_find(key, true);
	return svc ? svc : sock_find_wildcard(key, sock_is_of_host(c), false);
}

/* An external address that is none of this node's may be somebody else's as
 * well: who names it means it. */
static __always_inline bool sock_is_left_alone(const struct sock_call *c, const struct lb4_service *svc)
{
	const struct remote_endpoint_info *info;

	if (!(svc->flags & SVC_EXTERNAL_IP) && (!(svc->flags & SVC_HOST_PORT) || addr_is_loopback(c->asked)))
		return false;
	info = ipcache_find(c->asked);
	return !info || info->sec_identity != IDENTITY_HOST;
}

/* ---- which backend ---- */

static __always_inline affinity_key_t sock_affinity_key(const struct sock_call *c, const struct lb4_service *svc)
{
	affinity_key_t key = { .rev_nat_id = svc->rev_nat_index, .netns_cookie = 1 };

#if FAMILY == 4
	key.client_id = c->netns_cookie;
#else
	key.client_id.half[0] = c->netns_cookie;
#endif
	return key;
}

/* A UDP socket that is not connected asks for each datagram: it shall always
 * get the same slot. */
static __always_inline __u64 sock_slot_number(struct sock_call *c)
{
	c->why |= c->proto == IPPROTO_TCP ? WHY_BACKEND_RANDOM : WHY_BACKEND_COOKIE;
	return c->proto == IPPROTO_TCP ? random_u32() : c->cookie;
}

static __always_inline const lb_backend_t *
sock_backend(struct sock_call *c, lb_key_t *key, const struct lb4_service *svc)
{
	affinity_key_t client = sock_affinity_key(c, svc);
	const bool sticky = svc->flags & SVC_AFFINITY;
	const __u32 now = c->now_ns / NSEC_PER_SEC;
	const lb_backend_t *backend = NULL;
	const struct lb4_service *slot;
	const __u64 count = svc->count;

	if (sticky) {
		c->backend_id = affinity_backend(&client, svc, now, false);
		if (c->backend_id)
			backend = service_backend(c->backend_id);
		if (backend) {
			c->why |= WHY_BACKEND_AFFINITY;
			return backend;
		}
	}
	if (!count)
		return NULL;
	key->backend_slot = sock_slot_number(c) % count + 1;
	slot = bpf_map_lookup_elem(&MAP_SERVICES, key);
	if (!slot)
		return NULL;
	c->backend_id = slot->backend_id;
	backend = service_backend(c->backend_id);
	if (backend && sticky)
		affinity_use(&client, c->backend_id, now);
	return backend;
}

/* ---- the way back ---- */

static __always_inline reverse_sk_key_t sock_reverse_key(const struct sock_call *c, addr_t peer, __be16 port)
{
	return (reverse_sk_key_t){ .cookie = c->cookie, .address = peer, .port = port };
}

/* So that the socket's program hears of the service it spoke to. */
static __always_inline int sock_remember(struct sock_call *c)
{
	reverse_sk_key_t key = sock_reverse_key(c, c->peer, c->peer_port);
	reverse_sk_t service = { .address = c->asked, .port = c->asked_port, .rev_nat_index = c->rev_nat_index };
	const reverse_sk_t *old = bpf_map_lookup_elem(&MAP_REVERSE_SK, &key);

	c->why |= WHY_SOCKET_WRITTEN;
	if (old && addr_equal(old->address, service.address) && old->port == service.port &&
	    old->rev_nat_index == service.rev_nat_index)
		return OK;
	return bpf_map_update_elem(&MAP_REVERSE_SK, &key, &service, BPF_ANY) ? -REASON_WRITE_ERROR : OK;
}

/* The peer becomes a backend of the service that was asked for. */
static __always_inline int sock_translate(struct sock_call *c)
{
	lb_key_t key = {};
	const struct lb4_service *svc;
	const lb_backend_t *backend;

	if (!sock_is_balanced(c->proto))
		return SOCK_UNTOUCHED;
	svc = sock_find_service(&key, c, c->asked, c->asked_port);
	/* A service without backends is found first, and asked about afterwards. */
	if (!svc || (svc->count && sock_is_left_alone(c, svc)))
		return SOCK_UNTOUCHED;
	c->rev_nat_index = svc->rev_nat_index;
	backend = svc->count ? sock_backend(c, &key, svc) : NULL;
	if (!backend) {
		c->why |= WHY_NO_BACKEND;
		return -REASON_NO_SERVICE;
	}
	c->peer = backend->address;
	c->peer_port = backend->port;
	return sock_remember(c);
}

/* The peer becomes the service that it stands for, if that is one still. */
static __always_inline int sock_translate_back(struct sock_call *c)
{
	reverse_sk_key_t key = sock_reverse_key(c, c->asked, c->asked_port);
	const reverse_sk_t *was = bpf_map_lookup_elem(&MAP_REVERSE_SK, &key);
	const struct lb4_service *svc;
	lb_key_t service = {};

	if (!was)
		return SOCK_UNTOUCHED;
	c->rev_nat_index = was->rev_nat_index;
	c->why |= WHY_HIT;
	svc = sock_find_service(&service, c, was->address, was->port);
	if (!svc || svc->rev_nat_index != was->rev_nat_index || !svc->count) {
		bpf_map_delete_elem(&MAP_REVERSE_SK, &key);
		c->why |= WHY_SOCKET_STALE;
		return SOCK_UNTOUCHED;
	}
	c->peer = was->address;
	c->peer_port = was->port;
	return OK;
}

/* ---- what is told ---- */

static __always_inline void sock_count(const struct sock_call *c, enum ctctl_reason reason)
{
	__u32 index = c->hook * REASON_MAX + reason;
	struct ctctl_counter *count = bpf_map_lookup_elem(&ctctl_metrics, &index);

	if (count)
		__sync_fetch_and_add(&count->packets, 1);
}

/* Whether the listener, if there is one, asked for this. What the socket will
 * send is then of interest, too: its flow is followed before it has a source. */
static __always_inline bool sock_is_heard(const struct sock_call *c)
{
	__u32 zero = 0;
	struct ctctl_trace_ctl *ctl = bpf_map_lookup_elem(&ctctl_trace_ctl, &zero);
	tuple_t flow = { .daddr = c->peer, .dport = c->peer_port, .nexthdr = c->proto };
	__u8 one = 1;

	if (!ctl || READ_ONCE(ctl->until_ns) <= c->now_ns)
		return false;
	if (!ctl->filter)
		return true;
	if (!flow_target_wanted(ctl, c->proto, c->asked, c->asked_port) &&
	    !flow_target_wanted(ctl, c->proto, c->peer, c->peer_port))
		return false;
	if (c->hook == HOOK_CONNECT || c->hook == HOOK_SENDMSG) {
		WRITE_ONCE(ctl->near, 0);
		bpf_map_update_elem(&MAP_TRACE_FOLLOW, &flow, &one, BPF_ANY);
	}
	return true;
}

static __always_inline void
sock_event_tuple(struct ipv6_ct_tuple *to, const struct sock_call *c, addr_t peer, __be16 port)
{
	const bool from_peer = c->hook == HOOK_RECVMSG;

	__builtin_memcpy(from_peer ? to->saddr : to->daddr, &peer, sizeof(peer));
	__builtin_memcpy(from_peer ? to->daddr : to->saddr, &c->own, sizeof(peer));
	to->dport = from_peer ? c->own_port : port;
	to->sport = from_peer ? port : c->own_port;
	to->nexthdr = c->proto;
}

static __noinline void sock_tell(const struct sock_call *c, enum ctctl_reason reason)
{
	struct ctctl_lookup *rec;
	struct ctctl_event *ev;

	if (!sock_is_heard(c))
		return;
	ev = bpf_ringbuf_reserve(&ctctl_events, sizeof(*ev), 0);
	if (!ev) {
		stat_inc(STAT_EVENTS_LOST);
		return;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->now_s = c->now_ns / NSEC_PER_SEC;
	ev->hook = c->hook;
	ev->family = ENDPOINT_FAMILY;
	ev->backend_id = c->backend_id;
	ev->rev_nat_index = c->rev_nat_index;
	ev->verdict = reason ? VERDICT_DROP : VERDICT_PASS;
	ev->reason = reason;
	sock_event_tuple(&ev->in, c, c->asked, c->asked_port);
	sock_event_tuple(&ev->out, c, c->peer, c->peer_port);
	ev->nr_lookups = 1;
	rec = &ev->lookup[0];
	rec->tuple = ev->out;
	rec->kind = LOOKUP_SOCKET;
	rec->dir = CT_DIR_SERVICE;
	rec->result = c->why & WHY_HIT ? CT_RESULT_REPLY : CT_RESULT_NEW;
	rec->any_map = c->proto != IPPROTO_TCP;
	/* There is no conntrack entry to show before and after. */
	rec->why = c->why & ~WHY_HIT;
	ev->time_ns = cfg_sim ? c->now_ns : bpf_ktime_get_ns();
	bpf_ringbuf_submit(ev, 0);
}

/* How a call ends that a service was found for. */
static __always_inline void sock_end(const struct sock_call *c, int ret)
{
	enum ctctl_reason reason = ret < 0 ? -ret : REASON_OK;

	if (ret == SOCK_UNTOUCHED && !(c->why & WHY_SOCKET_STALE))
		return;
	sock_count(c, reason);
	sock_tell(c, reason);
}

#endif /* CTCTL_SOCK_H */
