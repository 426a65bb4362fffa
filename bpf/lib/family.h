/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * family.h - what IPv4 and IPv6 call differently: address, keys, tables.
 *
 * Every rule of the datapath is written once, over the types of this file. An
 * object is compiled for one family (lxc.bpf.c, and lxc6.bpf.c that includes
 * it), so that neither pays for the other: keys have their real size, and the
 * verifier sees one family at a time.
 */
#ifndef CTCTL_FAMILY_H
#define CTCTL_FAMILY_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>

#include "ctctl/abi.h"

#ifndef FAMILY
#define FAMILY 4
#endif

#if FAMILY == 4

typedef __be32 addr_t;
typedef struct ipv4_ct_tuple tuple_t;
typedef struct lb4_key lb_key_t;
typedef struct lb4_backend lb_backend_t;
typedef struct lb4_reverse_nat reverse_nat_t;
typedef struct lb4_affinity_key affinity_key_t;
typedef struct lb4_src_range_key src_range_key_t;
typedef struct lb4_reverse_sk_key reverse_sk_key_t;
typedef struct lb4_reverse_sk reverse_sk_t;
typedef struct ipv4_nat_entry nat_entry_t;

#define FAMILY_NAME(four, six) four
#define FAMILY_PACKED
#define CONFIG_ADDR(setting) (setting)
#define ETH_P_FAMILY ETH_P_IP
#define ENDPOINT_FAMILY 1       /* of endpoint and ipcache keys, and of events */
#define IPPROTO_ICMP_FAMILY IPPROTO_ICMP

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAM_PROBLEM = 12,
};

static __always_inline bool addr_equal(addr_t a, addr_t b)
{
	return a == b;
}

static __always_inline bool addr_within(addr_t a, addr_t network, addr_t mask)
{
	return (a & mask) == network;
}

static __always_inline bool addr_before(addr_t a, addr_t b)
{
	return bpf_ntohl(a) < bpf_ntohl(b);
}

#else

/* Two halves: the compiler moves them whole, which it does not with what may
 * lie anywhere. */
typedef struct {
	__u64 half[2];
} addr_t;

/* As in abi.h, with addresses that can be assigned; what is behind the abi's
 * bytes is no part of a key. */
typedef struct {
	addr_t daddr;
	addr_t saddr;
	__be16 dport;
	__be16 sport;
	__u8   nexthdr;
	__u8   flags;
	__u8   pad[2];
} tuple_t;
_Static_assert(offsetof(tuple_t, pad) == sizeof(struct ipv6_ct_tuple), "tuple_t");

typedef struct {
	addr_t address;
	__be16 dport;
	__u16  backend_slot;
	__u8   proto;
	__u8   scope;
	__u8   pad[2];
} lb_key_t;
_Static_assert(sizeof(lb_key_t) == sizeof(struct lb6_key), "lb_key_t");

typedef struct {
	addr_t address;
	__be16 port;
	__u8   proto;
	__u8   flags;
	__u16  cluster_id;
	__u8   zone;
	__u8   pad;
} lb_backend_t;
_Static_assert(sizeof(lb_backend_t) == sizeof(struct lb6_backend), "lb_backend_t");

typedef struct {
	addr_t address;
	__be16 port;
	__u8   pad[6];
} reverse_nat_t;
_Static_assert(offsetof(reverse_nat_t, pad) == sizeof(struct lb6_reverse_nat), "reverse_nat_t");

typedef struct {
	addr_t client_id;
	__be16 rev_nat_id;
	__u8   netns_cookie;
	__u8   pad1;
	__u32  pad2;
} affinity_key_t;
_Static_assert(sizeof(affinity_key_t) == sizeof(struct lb6_affinity_key), "affinity_key_t");

typedef struct {
	__u32  prefixlen;
	__u16  rev_nat_id;
	__u16  pad;
	addr_t addr;
} src_range_key_t;
_Static_assert(sizeof(src_range_key_t) == sizeof(struct lb6_src_range_key), "src_range_key_t");

typedef struct {
	__u64  cookie;
	addr_t address;
	__be16 port;
	__u16  pad[3];
} reverse_sk_key_t;
_Static_assert(sizeof(reverse_sk_key_t) == sizeof(struct lb6_reverse_sk_key), "reverse_sk_key_t");

typedef struct {
	addr_t address;
	__be16 port;
	__be16 rev_nat_index;
	__u8   pad[4];
} reverse_sk_t;
_Static_assert(offsetof(reverse_sk_t, pad) == sizeof(struct lb6_reverse_sk), "reverse_sk_t");

typedef struct {
	__u64  created;
	__u64  needs_ct;
	__u64  pad1;
	__u64  pad2;
	addr_t to_saddr;
	__be16 to_sport;
	__u16  pad3[3];
} nat_entry_t;
_Static_assert(sizeof(nat_entry_t) == sizeof(struct ipv6_nat_entry), "nat_entry_t");

#define FAMILY_NAME(four, six) six
/* Of a setting: a volatile struct that is copied whole loses that. */
#define CONFIG_ADDR(setting) ((addr_t){ { (setting).half[0], (setting).half[1] } })
#define FAMILY_PACKED CTCTL_PACKED      /* an address where a packet has it */
#define ETH_P_FAMILY ETH_P_IPV6
#define ENDPOINT_FAMILY 2
#define IPPROTO_ICMP_FAMILY IPPROTO_ICMPV6

enum icmp_type {
	ICMP_DEST_UNREACH = 1,
	ICMP_TOO_BIG = 2,
	ICMP_TIME_EXCEEDED = 3,
	ICMP_PARAM_PROBLEM = 4,
	ICMP_ECHO = 128,
	ICMP_ECHO_REPLY = 129,
	ICMP_NEIGHBOUR_SOLICITATION = 135,
	ICMP_NEIGHBOUR_ADVERTISEMENT = 136,
};

static __always_inline bool addr_equal(addr_t a, addr_t b)
{
	return !((a.half[0] ^ b.half[0]) | (a.half[1] ^ b.half[1]));
}

static __always_inline bool addr_within(addr_t a, addr_t network, addr_t mask)
{
	a.half[0] &= mask.half[0];
	a.half[1] &= mask.half[1];
	return addr_equal(a, network);
}

static __always_inline bool addr_before(addr_t a, addr_t b)
{
	const __u64 high = bpf_be64_to_cpu(a.half[0]), other = bpf_be64_to_cpu(b.half[0]);

	return high != other ? high < other : bpf_be64_to_cpu(a.half[1]) < bpf_be64_to_cpu(b.half[1]);
}

#endif

#define ADDR_BITS (8 * sizeof(addr_t))

/* A hook's program: from_container of IPv4, from_container_v6 of IPv6. */
#define HOOK_PROGRAM(name) FAMILY_NAME(name, name##_v6)

/* Goes on to the next program of the hook: that of the other family. */
#define HOOK_NEXT (-1)

#endif /* CTCTL_FAMILY_H */
