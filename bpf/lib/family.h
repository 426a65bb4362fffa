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
typedef struct ipv4_nat_entry nat_entry_t;

#define FAMILY_NAME(four, six) four
#define ETH_P_FAMILY ETH_P_IP
#define ENDPOINT_FAMILY 1       /* of endpoint and ipcache keys */
#define IPPROTO_ECHO IPPROTO_ICMP

static __always_inline bool addr_equal(addr_t a, addr_t b)
{
	return a == b;
}

static __always_inline bool addr_within(addr_t a, addr_t network, addr_t mask)
{
	return (a & mask) == network;
}

#endif

#endif /* CTCTL_FAMILY_H */
