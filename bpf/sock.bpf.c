// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sock.bpf.c - the hooks of sockets: connect, sendmsg, recvmsg, getpeername and
 * bind of the processes of a cgroup. Of IPv4 addresses; an IPv6 socket names
 * them, too, mapped into its own.
 */
#include <linux/errno.h>

#include "sock.h"

enum sock_return {
	SOCK_REFUSE = 0,
	SOCK_PROCEED = 1,
};

/* ---- addresses as the kernel hands them over ---- */

#if FAMILY == 4

static __always_inline bool sock_load_addr(const struct bpf_sock_addr *ctx, addr_t *addr)
{
	*addr = ctx->user_ip4;
	return true;
}

static __always_inline void sock_store_addr(struct bpf_sock_addr *ctx, addr_t addr)
{
	ctx->user_ip4 = addr;
}

static __always_inline bool sock_load_own(const struct bpf_sock *sk, struct sock_call *c)
{
	c->own = sk->src_ip4;
	c->own_port = bpf_htons(sk->src_port);
	return true;
}

/* ::ffff:0:0/96 */
static __always_inline bool sock_load_mapped(const struct bpf_sock_addr *ctx, addr_t *addr)
{
	if (ctx->user_ip6[0] || ctx->user_ip6[1] || ctx->user_ip6[2] != bpf_htonl(0xffff))
		return false;
	*addr = ctx->user_ip6[3];
	return true;
}

static __always_inline bool sock_load_own_mapped(const struct bpf_sock *sk, struct sock_call *c)
{
	if (sk->src_ip6[0] || sk->src_ip6[1] || sk->src_ip6[2] != bpf_htonl(0xffff))
		return false;
	c->own = sk->src_ip6[3];
	c->own_port = bpf_htons(sk->src_port);
	return true;
}

static __always_inline void sock_store_mapped(struct bpf_sock_addr *ctx, addr_t addr)
{
	ctx->user_ip6[3] = addr;
}

#else

static __always_inline bool sock_load_addr(const struct bpf_sock_addr *ctx, addr_t *addr)
{
	const __u64 high = ctx->user_ip6[1], low = ctx->user_ip6[3];

	addr->half[0] = high << 32 | ctx->user_ip6[0];
	addr->half[1] = low << 32 | ctx->user_ip6[2];
	return true;
}

static __always_inline void sock_store_addr(struct bpf_sock_addr *ctx, addr_t addr)
{
	ctx->user_ip6[0] = addr.half[0];
	ctx->user_ip6[1] = addr.half[0] >> 32;
	ctx->user_ip6[2] = addr.half[1];
	ctx->user_ip6[3] = addr.half[1] >> 32;
}

static __always_inline bool sock_load_own(const struct bpf_sock *sk, struct sock_call *c)
{
	const __u64 high = sk->src_ip6[1], low = sk->src_ip6[3];

	c->own.half[0] = high << 32 | sk->src_ip6[0];
	c->own.half[1] = low << 32 | sk->src_ip6[2];
	c->own_port = bpf_htons(sk->src_port);
	return true;
}

#endif

/* ---- a call, from its start to its end ---- */

typedef bool (*sock_load_t)(const struct bpf_sock_addr *, addr_t *);
typedef void (*sock_store_t)(struct bpf_sock_addr *, addr_t);
typedef bool (*sock_load_own_t)(const struct bpf_sock *, struct sock_call *);

static __always_inline bool
sock_begin(struct bpf_sock_addr *ctx, struct sock_call *c, enum ctctl_hook hook, sock_load_t load)
{
	if (!load(ctx, &c->asked))
		return false;
	c->hook = hook;
	c->proto = ctx->protocol;
	c->asked_port = ctx->user_port;
	c->peer = c->asked;
	c->peer_port = c->asked_port;
	c->cookie = bpf_get_socket_cookie(ctx);
	c->netns_cookie = bpf_get_netns_cookie(ctx);
	c->now_ns = clock_ns();
	if (ctx->sk)
		sock_load_own(ctx->sk, c);
	return true;
}

static __always_inline void sock_write_peer(struct bpf_sock_addr *ctx, const struct sock_call *c, sock_store_t store)
{
	store(ctx, c->peer);
	ctx->user_port = c->peer_port;
}

/* To a service: its program may go to a backend, or nowhere. */
static __always_inline int
sock_to(struct bpf_sock_addr *ctx, enum ctctl_hook hook, sock_load_t load, sock_store_t store)
{
	struct sock_call c = {};
	int ret;

	if (!sock_begin(ctx, &c, hook, load))
		return SOCK_PROCEED;
	ret = sock_translate(&c);
	sock_end(&c, ret);
	if (ret == OK)
		sock_write_peer(ctx, &c, store);
	if (ret >= 0)
		return SOCK_PROCEED;
	bpf_set_retval(ret == -REASON_NO_SERVICE ? -EHOSTUNREACH : -ENOMEM);
	return SOCK_REFUSE;
}

/* From a backend, or about one: its program is told of the service. */
static __always_inline int
sock_from(struct bpf_sock_addr *ctx, enum ctctl_hook hook, sock_load_t load, sock_store_t store)
{
	struct sock_call c = {};
	int ret;

	if (!sock_begin(ctx, &c, hook, load))
		return SOCK_PROCEED;
	ret = sock_translate_back(&c);
	sock_end(&c, ret);
	if (ret == OK)
		sock_write_peer(ctx, &c, store);
	return SOCK_PROCEED;
}

/* A socket of the host must not take the port of a NodePort service: it would
 * never hear anything there. */
static __always_inline int sock_bind(struct bpf_sock *sk, sock_load_own_t load)
{
	struct sock_call c = { .hook = HOOK_POST_BIND, .proto = sk->protocol };
	const __u8 of_node = SVC_NODE_PORT | SVC_EXTERNAL_IP | SVC_LOAD_BALANCER;
	const struct lb4_service *svc;
	lb_key_t key = {};

	c.netns_cookie = bpf_get_netns_cookie(sk);
	if (!sock_is_balanced(c.proto) || !sock_is_of_host(&c) || !load(sk, &c))
		return SOCK_PROCEED;
	c.asked = c.peer = c.own;
	c.asked_port = c.peer_port = c.own_port;
	key.address = c.asked;
	key.dport = c.asked_port;
	svc = service_find(&key, true);
	if (!svc)
		svc = sock_find_wildcard(&key, true, true);
	if (!svc || !(svc->flags & of_node))
		return SOCK_PROCEED;
	c.now_ns = clock_ns();
	c.rev_nat_index = svc->rev_nat_index;
	sock_end(&c, -REASON_ADDRESS_IN_USE);
	bpf_set_retval(-EADDRINUSE);
	return SOCK_REFUSE;
}

/* A program of one hook: a call to a peer, one that tells of a peer, or a bind. FORM: how addresses are written there. */
#define SOCK_TO(section, name, hook, form)                                                         \
	SEC("cgroup/" section)                                                                     \
	int name(struct bpf_sock_addr *ctx)                                                        \
	{                                                                                          \
		return sock_to(ctx, hook, sock_load_##form, sock_store_##form);                    \
	}

#define SOCK_FROM(section, name, hook, form)                                                       \
	SEC("cgroup/" section)                                                                     \
	int name(struct bpf_sock_addr *ctx)                                                        \
	{                                                                                          \
		return sock_from(ctx, hook, sock_load_##form, sock_store_##form);                  \
	}

#define SOCK_BIND(section, name, form)                                                             \
	SEC("cgroup/" section)                                                                     \
	int name(struct bpf_sock *sk)                                                              \
	{                                                                                          \
		return sock_bind(sk, sock_load_##form);                                            \
	}

#if FAMILY == 4

SOCK_TO("connect4", connect, HOOK_CONNECT, addr)
SOCK_TO("sendmsg4", sendmsg, HOOK_SENDMSG, addr)
SOCK_FROM("recvmsg4", recvmsg, HOOK_RECVMSG, addr)
SOCK_FROM("getpeername4", getpeername, HOOK_GETPEERNAME, addr)
SOCK_BIND("post_bind4", post_bind, own)
SOCK_BIND("post_bind6", post_bind_mapped, own_mapped)
SOCK_TO("connect6", connect_mapped, HOOK_CONNECT, mapped)
SOCK_TO("sendmsg6", sendmsg_mapped, HOOK_SENDMSG, mapped)
SOCK_FROM("recvmsg6", recvmsg_mapped, HOOK_RECVMSG, mapped)
SOCK_FROM("getpeername6", getpeername_mapped, HOOK_GETPEERNAME, mapped)

#else

SOCK_TO("connect6", connect_v6, HOOK_CONNECT, addr)
SOCK_TO("sendmsg6", sendmsg_v6, HOOK_SENDMSG, addr)
SOCK_FROM("recvmsg6", recvmsg_v6, HOOK_RECVMSG, addr)
SOCK_FROM("getpeername6", getpeername_v6, HOOK_GETPEERNAME, addr)
SOCK_BIND("post_bind6", post_bind_v6, own)

#endif

char _license[] SEC("license") = "Dual BSD/GPL";
