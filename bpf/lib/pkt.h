/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pkt.h - the packet in hand: headers read, ports found, fragments resolved.
 *
 * Functions return OK or -REASON (enum ctctl_reason). Whatever a helper does
 * to the packet, pointers into it are taken anew afterwards.
 */
#ifndef CTCTL_PKT_H
#define CTCTL_PKT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "ctx.h"
#include "flow.h"
#include "maps.h"
#include "room.h"

#define OK 0
#define GENEVE_PORT bpf_htons(6081)

struct pkt {
	__u64  now_ns;
	__u32  now;                     /* the second that lifetimes are counted in */
	__u32  len;                     /* whole frame, as it came */
	__u32  src_identity;
	__u32  redirect;                /* device the packet goes to, 0: the stack has it next */
	addr_t dsr_vip;                 /* of the DSR option */
	tuple_t t;                      /* as loaded: source port in dport, destination port in sport */
	__be16 dsr_port;
	__be16 ip_id;
	__u16  l4_off;
	__u8   hook;                    /* enum ctctl_hook */
	__s8   action;                  /* of the kernel, unless dropped */
	__u8   tcp_flags;               /* 0 unless TCP; 0 of a later fragment */
	__u8   icmp_type;
	__u8   icmp_code;
	__u8   fragment;                /* enum fragment */
	bool   dsr;                     /* it came with the DSR option */
	bool   heard;                   /* somebody listens to it */
	__u8   nr_lookups;              /* of its event */
};

#if FAMILY == 4
#define HOOK_PACKET(name) IN_ROOM(struct pkt, name, pkt)
#else
/* The packet that a hook has in hand, not read yet; without a room NULL. Its addresses are what was there before:
 * until they are set nothing asks for them but an event, which takes them out (event_begin). Stores that are not
 * there need not be waited for when a key is made of what was stored in parts. */
static __always_inline struct pkt *pkt_fresh(void)
{
	struct pkt *p = (void *)room();

	if (!p)
		return NULL;
	p->src_identity = 0;
	p->redirect = 0;
	__builtin_memset(&p->dsr_port, 0, sizeof(*p) - offsetof(struct pkt, dsr_port));
	return p;
}

#define HOOK_PACKET(name) struct pkt *name = pkt_fresh()
#endif

static __always_inline void *pkt_data(const ctx_t *ctx)
{
	return CTX_POINTER(ctx, data);
}

static __always_inline void *pkt_end(const ctx_t *ctx)
{
	return CTX_POINTER(ctx, data_end);
}

/* Headers end before this, options, extension headers and a tunnel's included. */
#define PKT_OFF_MASK FAMILY_NAME(0x7ff, 0x1fff)

/* LEN bytes at OFF. The compiler must not compute the address twice: the
 * verifier knows only the checked register to be inside the packet. */
static __always_inline bool pkt_load(ctx_t *ctx, __u32 off, void *to, const __u32 len)
{
	void *from;

	off &= PKT_OFF_MASK;
	from = pkt_data(ctx) + off;
	asm volatile("" : "+r"(from));
	if (from + len <= pkt_end(ctx)) {
		__builtin_memcpy(to, from, len);
		return true;
	}
	return !ctx_load_bytes(ctx, off, to, len);
}

static __always_inline bool pkt_store(ctx_t *ctx, __u32 off, const void *from, const __u32 len)
{
	void *to;

	off &= PKT_OFF_MASK;
	to = pkt_data(ctx) + off;
	asm volatile("" : "+r"(to));
	if (to + len <= pkt_end(ctx)) {
		__builtin_memcpy(to, from, len);
		return true;
	}
	return !ctx_store_bytes(ctx, off, from, len);
}

/* The Ethernet type, network order; 0 for what is not Ethernet II. */
static __always_inline __be16 pkt_ethertype(ctx_t *ctx)
{
	struct ethhdr *eth = pkt_data(ctx);

	if ((void *)(eth + 1) > pkt_end(ctx))
		return 0;
	return bpf_ntohs(eth->h_proto) < ETH_P_802_3_MIN ? 0 : eth->h_proto;
}

/* Is the frame for the hook's next program, of the other family? The program
 * of IPv4, the first, has what is of neither. */
static __always_inline bool pkt_is_others(ctx_t *ctx)
{
	if (FAMILY == 6)
		return pkt_ethertype(ctx) != bpf_htons(ETH_P_IPV6);
	/* A node of one family pays nothing for this. */
	if (!cfg_ipv6)
		return false;
	return pkt_ethertype(ctx) == bpf_htons(ETH_P_IPV6);
}

static __always_inline struct iphdr *pkt_ip(ctx_t *ctx)
{
	struct iphdr *ip = pkt_data(ctx) + ETH_HLEN;

	return (void *)(ip + 1) > pkt_end(ctx) ? NULL : ip;
}

static __always_inline struct ipv6hdr *pkt_ipv6(ctx_t *ctx)
{
	struct ipv6hdr *ip = pkt_data(ctx) + ETH_HLEN;

	return (void *)(ip + 1) > pkt_end(ctx) ? NULL : ip;
}

#define pkt_header FAMILY_NAME(pkt_ip, pkt_ipv6)

/* Addresses, protocol, where L4 starts (IPv6: once pkt_parse_extensions() has
 * been there). Version and length fields are not looked at: the stack does
 * that, before or after. */
static __always_inline int pkt_parse_ip(ctx_t *ctx, struct pkt *p)
{
	typeof(pkt_header(ctx)) ip = pkt_header(ctx);

	if (!ip) {
		if (ctx_pull(ctx, ETH_HLEN + sizeof(*ip)))
			return -REASON_INVALID;
		ip = pkt_header(ctx);
		if (!ip)
			return -REASON_INVALID;
	}
	p->t.dport = 0;
	p->t.sport = 0;
	p->t.flags = 0;
#if FAMILY == 4
	p->t.daddr = ip->daddr;
	p->t.saddr = ip->saddr;
	p->t.nexthdr = ip->protocol;
	p->l4_off = ETH_HLEN + ip->ihl * 4;
	p->fragment = ip_fragment(ip->frag_off);
	if (p->fragment)
		p->ip_id = ip->id;
#else
	p->fragment = FRAGMENT_NONE;
	__builtin_memcpy(&p->t.daddr, &ip->daddr, sizeof(addr_t));
	__builtin_memcpy(&p->t.saddr, &ip->saddr, sizeof(addr_t));
	p->t.nexthdr = ip->nexthdr;
	p->l4_off = ETH_HLEN + sizeof(*ip);
#endif
	return OK;
}

#if FAMILY == 6
/* Headers looked at on the way to L4, its own included. */
#define IPV6_HEADERS_MAX 4

struct ipv6_extension {
	__u8 nexthdr;
	__u8 len;
};

/* The usual first header is L4's. */
static __always_inline bool pkt_is_l4(__u8 nexthdr)
{
	return nexthdr == IPPROTO_TCP || nexthdr == IPPROTO_UDP || nexthdr == IPPROTO_ICMPV6;
}

/* From a first header of type *NEXTHDR at OFF on: where L4 starts and what it
 * is, or -REASON. Global: the verifier goes through it once. */
__noinline int ipv6_l4(ctx_t *ctx, __u32 off, __u8 *nexthdr)
{
	struct ipv6_extension ext;
	__u8 next;

	if (!nexthdr)
		return -REASON_INVALID;
	next = *nexthdr;
	for (int i = 0; i < IPV6_HEADERS_MAX; i++) {
		switch (next) {
		case IPPROTO_NONE:
			return -REASON_INVALID_EXTHDR;
		case IPPROTO_FRAGMENT:
			return -REASON_FRAG_NOSUPPORT;
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			if (!pkt_load(ctx, off, &ext, sizeof(ext)))
				return -REASON_INVALID;
			off += next == IPPROTO_AH ? (ext.len + 2) * 4 : (ext.len + 1) * 8;
			next = ext.nexthdr;
			break;
		default:
			*nexthdr = next;
			return off;
		}
	}
	return -REASON_INVALID_EXTHDR;
}
#endif

#if FAMILY == 4
static __always_inline int pkt_parse_extensions(ctx_t *ctx, struct pkt *p)
{
	return ctx && p ? OK : -REASON_INVALID;
}
#else
static __always_inline int pkt_parse_extensions(ctx_t *ctx, struct pkt *p)
{
	__u8 nexthdr = p->t.nexthdr;
	int off;

	if (pkt_is_l4(nexthdr))
		return OK;
	off = ipv6_l4(ctx, p->l4_off, &nexthdr);
	if (off < 0)
		return off;
	p->l4_off = off;
	p->t.nexthdr = nexthdr;
	return OK;
}
#endif

/* Both: for hooks that have nothing to do before L4. */
static __always_inline int pkt_parse_l3(ctx_t *ctx, struct pkt *p)
{
	int ret = pkt_parse_ip(ctx, p);

	return ret ? ret : pkt_parse_extensions(ctx, p);
}

/* Protocols with ports, which services can have. */
static __always_inline bool pkt_has_ports(const struct pkt *p)
{
	switch (p->t.nexthdr) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return true;
	case IPPROTO_SCTP:
		return cfg_sctp;
	}
	return false;
}

#if FAMILY == 4
static __always_inline struct ipv4_frag_id pkt_fragment_id(const struct pkt *p)
{
	return (struct ipv4_frag_id){
		.daddr = p->t.daddr, .saddr = p->t.saddr, .id = p->ip_id, .proto = p->t.nexthdr,
	};
}

/* A later fragment has the ports of its first one, if that was seen. */
static __always_inline int pkt_fragment_ports(struct pkt *p)
{
	struct ipv4_frag_id id = pkt_fragment_id(p);
	struct ipv4_frag_l4ports *ports = bpf_map_lookup_elem(&cilium_ipv4_frag_datagrams, &id);

	if (!ports)
		return -REASON_FRAG_NOT_FOUND;
	p->t.dport = ports->sport;
	p->t.sport = ports->dport;
	return OK;
}

/* Failing to remember costs the later fragments, not this packet. */
static __always_inline void pkt_fragment_remember(const struct pkt *p)
{
	struct ipv4_frag_id id = pkt_fragment_id(p);
	struct ipv4_frag_l4ports ports = { .sport = p->t.dport, .dport = p->t.sport };

	bpf_map_update_elem(&cilium_ipv4_frag_datagrams, &id, &ports, BPF_ANY);
}
#else
/* No packet with a fragment header comes this far. */
static __always_inline int pkt_fragment_ports(struct pkt *p)
{
	return p ? OK : -REASON_FRAG_NOSUPPORT;
}

static __always_inline void pkt_fragment_remember(const struct pkt *p)
{
	(void)p;
}
#endif

/* The port bytes go as they stand into dport, sport. Where fragments are not
 * tracked, a later one's payload is read as a header, as Cilium does. */
static __always_inline int pkt_parse_ports(ctx_t *ctx, struct pkt *p)
{
	struct ipv4_frag_l4ports ports;

	if (p->fragment == FRAGMENT_LATER && cfg_fragments)
		return pkt_fragment_ports(p);
	if (!pkt_load(ctx, p->l4_off, &ports, sizeof(ports)))
		return -REASON_CT_INVALID_HDR;
	p->t.dport = ports.sport;
	p->t.sport = ports.dport;
	if (p->fragment == FRAGMENT_FIRST && cfg_fragments)
		pkt_fragment_remember(p);
	return OK;
}

/* Where a TCP header has its flags, whether this is one or a later fragment. */
static __always_inline bool pkt_load_tcp_flags(ctx_t *ctx, const struct pkt *p, __u8 *flags)
{
	__u8 word[2];

	if (!pkt_load(ctx, p->l4_off + 12, word, sizeof(word)))
		return false;
	*flags = word[1];
	return true;
}

static __always_inline int pkt_parse_tcp_flags(ctx_t *ctx, struct pkt *p)
{
	if (p->t.nexthdr != IPPROTO_TCP || p->fragment == FRAGMENT_LATER)
		return OK;
	return pkt_load_tcp_flags(ctx, p, &p->tcp_flags) ? OK : -REASON_CT_INVALID_HDR;
}

/* Echoes are told apart by their identifier; errors are related to a flow. */
static __always_inline int pkt_parse_icmp(ctx_t *ctx, struct pkt *p)
{
	__be16 identifier;

	if (!pkt_load(ctx, p->l4_off, &p->icmp_type, sizeof(p->icmp_type)))
		return -REASON_CT_INVALID_HDR;
	if (p->heard)
		pkt_load(ctx, p->l4_off + offsetof(struct icmp_header, code), &p->icmp_code, sizeof(p->icmp_code));
	if (icmp_is_error(p->icmp_type)) {
		p->t.flags = TUPLE_RELATED;
		return OK;
	}
	if (p->icmp_type != ICMP_ECHO && p->icmp_type != ICMP_ECHO_REPLY)
		return OK;
	if (!pkt_load(ctx, p->l4_off + offsetof(struct icmp_header, id), &identifier, sizeof(identifier)))
		return -REASON_CT_INVALID_HDR;
	if (p->icmp_type == ICMP_ECHO)
		p->t.dport = identifier;
	else
		p->t.sport = identifier;
	return OK;
}

/* Everything a conntrack lookup needs. */
static __always_inline int pkt_parse_l4(ctx_t *ctx, struct pkt *p)
{
	int ret;

	if (pkt_has_ports(p)) {
		ret = pkt_parse_ports(ctx, p);
		if (ret || p->t.nexthdr != IPPROTO_TCP || (p->fragment == FRAGMENT_LATER && cfg_fragments))
			return ret;
		return pkt_load_tcp_flags(ctx, p, &p->tcp_flags) ? OK : -REASON_CT_INVALID_HDR;
	}
	if (p->t.nexthdr == IPPROTO_ICMP_FAMILY)
		return pkt_parse_icmp(ctx, p);
	return -REASON_CT_UNKNOWN_PROTO;
}

/* Does this packet have the L4 header that a translation would change? */
static __always_inline bool pkt_has_l4(const struct pkt *p)
{
	return p->fragment != FRAGMENT_LATER;
}

static __always_inline void pkt_redirect(struct pkt *p, __u32 ifindex)
{
	p->redirect = ifindex;
	p->action = ctx_redirect(ifindex);
}

/* Out of the node's device, to whom the kernel's routes and neighbours say. */
static __always_inline int pkt_send_out(struct pkt *p)
{
	p->redirect = cfg_dev_ifindex;
	p->action = ctx_send_out(cfg_dev_ifindex);
	return OK;
}

#endif /* CTCTL_PKT_H */
