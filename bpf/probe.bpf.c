// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * probe.bpf.c - a look at packets before the programs of a device see them.
 *
 * Attached in front of other programs of a TCX chain; returns TCX_NEXT always,
 * so they run as if it were not there. Changes neither the packet nor a table.
 * The conntrack tables are replaced by those of whoever owns the device before
 * loading.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PROBE_READ(_ctx, _off, _to, _len) \
	bpf_skb_load_bytes_relative((struct __sk_buff *)(_ctx), _off, _to, _len, BPF_HDR_START_NET)

#include "bound.h"
#include "owntable.h"
#include "probe.h"
#include "probe_others.h"

#define PROBE_NEXT (-1) /* TCX_NEXT, and TC_ACT_UNSPEC for clsact: the next program decides */

volatile const __u32 cfg_netns = 0;     /* inode of the devices' network namespace */
volatile const __u8 cfg_tables = 0;     /* 1: there are conntrack tables to look into */
volatile const __u8 cfg_tables6 = 0;    /* the same of IPv6 */

STAND_IN(cilium_ct4_global, ipv4_ct_tuple, ct_entry);
STAND_IN(cilium_ct_any4_global, ipv4_ct_tuple, ct_entry);
STAND_IN(cilium_ct6_global, ipv6_ct_tuple, ct_entry);
STAND_IN(cilium_ct_any6_global, ipv6_ct_tuple, ct_entry);
STAND_IN(cilium_snat_v4_external, ipv4_ct_tuple, ipv4_nat_entry);
STAND_IN(cilium_snat_v6_external, ipv6_ct_tuple, ipv6_nat_entry);

static __always_inline void
look(struct ctctl_probe_event *ev, const struct ipv6_ct_tuple *key, bool six, enum ctctl_probe_entry which)
{
	bool any = key->nexthdr != IPPROTO_TCP;
	struct ct_entry *entry;

	if (six) {
		entry = any ? bpf_map_lookup_elem(&cilium_ct_any6_global, key)
			    : bpf_map_lookup_elem(&cilium_ct6_global, key);
	} else {
		struct ipv4_ct_tuple key4 = {
			.daddr = word_of(key->daddr), .saddr = word_of(key->saddr),
			.dport = key->dport, .sport = key->sport, .nexthdr = key->nexthdr, .flags = key->flags,
		};

		entry = any ? bpf_map_lookup_elem(&cilium_ct_any4_global, &key4)
			    : bpf_map_lookup_elem(&cilium_ct4_global, &key4);
	}
	if (!entry)
		return;
	ev->entry[which] = *entry;
	ev->found |= 1 << which;
}

static __always_inline void reverse(struct ipv6_ct_tuple *to, const struct ipv6_ct_tuple *t)
{
	__builtin_memcpy(to->daddr, t->saddr, sizeof(to->daddr));
	__builtin_memcpy(to->saddr, t->daddr, sizeof(to->saddr));
	to->dport = t->sport;
	to->sport = t->dport;
	to->nexthdr = t->nexthdr;
}

/* Every entry that the programs behind could find (docs/reference/abi.md, Key). */
static __always_inline void look_up(struct ctctl_probe_event *ev, const struct probe_packet *p)
{
	__u8 related = probe_is_error(p) ? TUPLE_RELATED : 0;
	PROBE_TUPLE key = p->tuple, back;
	bool six = p->family == 6;

	/* As loaded from the packet the ports are crossed. */
	key.dport = p->tuple.sport;
	key.sport = p->tuple.dport;
	key.flags = TUPLE_SERVICE;
	look(ev, &key, six, PROBE_ENTRY_SERVICE);
	key.flags = TUPLE_OUT | related;
	look(ev, &key, six, PROBE_ENTRY_REPLY_OUT);
	key.flags = TUPLE_IN | related;
	look(ev, &key, six, PROBE_ENTRY_REPLY_IN);
	reverse(&back, &key);
	back.flags = TUPLE_IN | related;
	look(ev, &back, six, PROBE_ENTRY_FORWARD_IN);
	back.flags = TUPLE_OUT | related;
	look(ev, &back, six, PROBE_ENTRY_FORWARD_OUT);
}

static __always_inline void copy_head(struct __sk_buff *skb, struct ctctl_probe_event *ev)
{
	__u32 len = skb->len;

	if (len <= ETH_HLEN)
		return;
	len -= ETH_HLEN;
	if (len > CTCTL_PROBE_HEAD)
		len = CTCTL_PROBE_HEAD;
	len = bound_length(len, CTCTL_PROBE_HEAD);
	if (!bpf_skb_load_bytes_relative(skb, 0, ev->head, len, BPF_HDR_START_NET))
		ev->head_len = len;
}

static __always_inline bool half(const struct ctctl_probe_ctl *ctl, int end, const struct ipv6_ct_tuple *t)
{
	const __u8 *mask = ctl->mask[end];

	if (!(word_of(mask) | word_of(mask + 4) | word_of(mask + 8) | word_of(mask + 12)))
		return false;
	return probe_within(t->saddr, ctl->addr[end], mask) || probe_within(t->daddr, ctl->addr[end], mask);
}

/* Turns a tuple that is KEY as SNAT does: an answer's destination, or with flags 0 the source as it leaves. */
static __always_inline bool turn(struct ipv6_ct_tuple *t, struct ipv6_ct_tuple *key, bool six, __u8 flags)
{
	__u8 *addr = flags ? t->daddr : t->saddr;
	__be16 port;

	key->flags = flags;
	if (six) {
		struct ipv6_nat_entry *found = bpf_map_lookup_elem(&cilium_snat_v6_external, key);

		if (!found)
			return false;
		__builtin_memcpy(addr, found->to_saddr, sizeof(found->to_saddr));
		port = found->to_sport;
	} else {
		struct ipv4_ct_tuple key4 = {
			.daddr = word_of(key->daddr), .saddr = word_of(key->saddr),
			.dport = key->dport, .sport = key->sport, .nexthdr = key->nexthdr, .flags = flags,
		};
		struct ipv4_nat_entry *found = bpf_map_lookup_elem(&cilium_snat_v4_external, &key4);

		if (!found)
			return false;
		__builtin_memcpy(addr, &found->to_saddr, sizeof(found->to_saddr));
		port = found->to_sport;
	}
	if (flags)
		t->dport = port;
	else
		t->sport = port;
	return true;
}

/* Whether SNAT turns the packet to one of the flow, or turned it from one: the
 * first answer to a masqueraded packet comes sooner than anybody could be told of
 * the translation. The packet is as it was afterwards. Global, so that the verifier
 * goes through it once. */
__noinline int is_turned(struct probe_packet *p)
{
	__u32 zero = 0;
	struct ctctl_probe_ctl *ctl = bpf_map_lookup_elem(&ctctl_probe_ctl, &zero);
	PROBE_TUPLE own;
	bool six, wanted;

	if (!ctl || !p)
		return 0;
	six = p->family == 6;
	if (!(six ? cfg_nat6 : cfg_nat) || (ctl->family && ctl->family != p->family))
		return 0;
	if (!half(ctl, 0, &p->tuple) && !half(ctl, 1, &p->tuple))
		return 0;
	own = p->tuple;
	wanted = turn(&p->tuple, &own, six, TUPLE_IN) && probe_wanted(p);
	if (!wanted) {
		own.flags = 0;
		p->tuple = own;
		wanted = turn(&p->tuple, &own, six, TUPLE_OUT) && probe_wanted(p);
	}
	own.flags = 0;
	p->tuple = own;
	return wanted;
}

/* Most packets are of other flows and end here, with the flow's packet that this
 * CPU had in its hands. The same buffer with the same sign is the same packet,
 * whatever it was translated to on the way: that is followed from now on. */
static __always_inline bool is_wanted(struct __sk_buff *skb, struct probe_packet *p, bool *same)
{
	__u32 zero = 0;
	struct ctctl_probe_current *current = bpf_map_lookup_elem(&ctctl_probe_current, &zero);
	bool six = skb->protocol == bpf_htons(ETH_P_IPV6), wanted;

	if (!current)
		return false;
	if (current->skb != (__u64)(long)skb && is_others(skb)) {
		current->skb = 0;
		return false;
	}
	__builtin_memset(p, 0, sizeof(*p));
	if ((!six && skb->protocol != bpf_htons(ETH_P_IP)) || !probe_read_packet(skb, p, six)) {
		current->skb = 0;
		return false;
	}
	*same = current->skb == (__u64)(long)skb && current->sign == p->sign;
	wanted = probe_wanted(p);
	if (!wanted && (*same || is_turned(p))) {
		probe_follow(p);
		wanted = true;
	}
	current->skb = wanted ? (__u64)(long)skb : 0;
	current->sign = p->sign;
	return wanted;
}

static __always_inline int probe(struct __sk_buff *skb, __u8 egress)
{
	struct probe_packet p;
	struct ctctl_probe_event *ev;
	bool same = false;

	if (!is_wanted(skb, &p, &same))
		return PROBE_NEXT;
	ev = probe_begin(&p, PROBE_PACKET);
	if (!ev)
		return PROBE_NEXT;
	ev->netns = cfg_netns;
	ev->ifindex = skb->ifindex;
	ev->mark = skb->mark;
	/* Of the socket that sent it, where it still has it; else 0. */
	ev->location = bpf_get_socket_cookie(skb);
	ev->packet_len = skb->len;
	ev->egress = egress;
	ev->same_packet = same;
	if (p.family == 6 ? cfg_tables6 : cfg_tables)
		look_up(ev, &p);
	copy_head(skb, ev);
	probe_send(ev);
	return PROBE_NEXT;
}

SEC("tc")
int probe_ingress(struct __sk_buff *skb)
{
	return probe(skb, 0);
}

SEC("tc")
int probe_egress(struct __sk_buff *skb)
{
	return probe(skb, 1);
}

char _license[] SEC("license") = "Dual BSD/GPL";
