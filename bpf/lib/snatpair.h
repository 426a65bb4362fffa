/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * snatpair.h - which SNAT entries belong to which conntrack entry, for both families.
 *
 * A conntrack OUT key of S:sp -> D:dp holds daddr=S saddr=D dport=dp sport=sp. The
 * SNAT key is in packet order: the addresses change places, or, for a DSR entry
 * (its key is the client's connection, the SNAT key the pod's reply), the ports.
 * The reverse entry goes from the peer to the translated address and port.
 *
 * SIX is a constant wherever these are inlined.
 */
#ifndef CTCTL_SNATPAIR_H
#define CTCTL_SNATPAIR_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#define SNATPAIR_SWAPPED(_to, _ct, _dsr, _address_size)                               \
	do {                                                                          \
		*(_to) = *(_ct);                                                      \
		if (_dsr) {                                                           \
			__builtin_memcpy(&(_to)->dport, &(_ct)->sport, 2);            \
			__builtin_memcpy(&(_to)->sport, &(_ct)->dport, 2);            \
		} else {                                                              \
			__builtin_memcpy(&(_to)->daddr, &(_ct)->saddr, _address_size);\
			__builtin_memcpy(&(_to)->saddr, &(_ct)->daddr, _address_size);\
		}                                                                     \
		(_to)->flags = TUPLE_OUT;                                             \
	} while (0)

#define SNATPAIR_REVERSE(_to, _forward, _value, _address_size)                        \
	do {                                                                          \
		__builtin_memcpy(&(_to)->daddr, &(_value)->to_saddr, _address_size);  \
		__builtin_memcpy(&(_to)->saddr, &(_forward)->daddr, _address_size);   \
		__builtin_memcpy(&(_to)->dport, &(_value)->to_sport, 2);              \
		__builtin_memcpy(&(_to)->sport, &(_forward)->dport, 2);               \
		(_to)->nexthdr = (_forward)->nexthdr;                                 \
		(_to)->flags = TUPLE_IN;                                              \
	} while (0)

/* The untranslated OUT entry behind a reverse one, whose value holds the pod's address and port. */
#define SNATPAIR_FORWARD(_to, _reverse, _value, _address_size)                        \
	do {                                                                          \
		__builtin_memcpy(&(_to)->daddr, &(_reverse)->saddr, _address_size);   \
		__builtin_memcpy(&(_to)->saddr, &(_value)->to_saddr, _address_size);  \
		__builtin_memcpy(&(_to)->dport, &(_reverse)->sport, 2);               \
		__builtin_memcpy(&(_to)->sport, &(_value)->to_sport, 2);              \
		(_to)->nexthdr = (_reverse)->nexthdr;                                 \
		(_to)->flags = TUPLE_OUT;                                             \
	} while (0)

/* The SNAT key (OUT) behind the conntrack key CT, and the other way round: it is its own inverse. */
static __always_inline void snatpair_key(void *to, const void *ct, bool dsr, const bool six)
{
	if (six)
		SNATPAIR_SWAPPED((struct ipv6_ct_tuple *)to, (const struct ipv6_ct_tuple *)ct, dsr, 16);
	else
		SNATPAIR_SWAPPED((struct ipv4_ct_tuple *)to, (const struct ipv4_ct_tuple *)ct, dsr, 4);
}

/* The reverse entry's key, from the forward entry. */
static __always_inline void snatpair_reverse(void *to, const void *forward, const void *value, const bool six)
{
	if (six)
		SNATPAIR_REVERSE((struct ipv6_ct_tuple *)to, (const struct ipv6_ct_tuple *)forward,
				 (const struct ipv6_nat_entry *)value, 16);
	else
		SNATPAIR_REVERSE((struct ipv4_ct_tuple *)to, (const struct ipv4_ct_tuple *)forward,
				 (const struct ipv4_nat_entry *)value, 4);
}

/* The forward entry's key, from the reverse entry. */
static __always_inline void snatpair_forward(void *to, const void *reverse, const void *value, const bool six)
{
	if (six)
		SNATPAIR_FORWARD((struct ipv6_ct_tuple *)to, (const struct ipv6_ct_tuple *)reverse,
				 (const struct ipv6_nat_entry *)value, 16);
	else
		SNATPAIR_FORWARD((struct ipv4_ct_tuple *)to, (const struct ipv4_ct_tuple *)reverse,
				 (const struct ipv4_nat_entry *)value, 4);
}

#endif /* CTCTL_SNATPAIR_H */
