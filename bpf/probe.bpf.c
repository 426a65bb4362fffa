// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * probe.bpf.c - a look at packets before the programs of a device see them.
 *
 * Attached in front of other programs of a TCX chain; returns TCX_NEXT always,
 * so they run as if it were not there. Changes neither the packet nor a table.
 * cilium_ct4_global and cilium_ct_any4_global are replaced by the tables of
 * whoever owns the device before loading.
 */
#include "bound.h"
#include "probe.h"

#define PROBE_NEXT (-1) /* TCX_NEXT, and TC_ACT_UNSPEC for clsact: the next program decides */

volatile const __u32 cfg_netns = 0;     /* inode of the devices' network namespace */
volatile const __u8 cfg_tables = 0;     /* 1: there are conntrack tables to look into */

#define TABLE(_name)                                    \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);    \
		__uint(max_entries, 1);                 \
		__type(key, struct ipv4_ct_tuple);      \
		__type(value, struct ct_entry);         \
	} _name SEC(".maps")

TABLE(cilium_ct4_global);
TABLE(cilium_ct_any4_global);

static __always_inline void
look(struct ctctl_probe_event *ev, const struct ipv4_ct_tuple *key, bool any, enum ctctl_probe_entry which)
{
	struct ct_entry *entry = any ? bpf_map_lookup_elem(&cilium_ct_any4_global, key)
				     : bpf_map_lookup_elem(&cilium_ct4_global, key);

	if (!entry)
		return;
	ev->entry[which] = *entry;
	ev->found |= 1 << which;
}

/* Every entry that the programs behind could find (docs/reference/abi.md, Key). */
static __always_inline void look_up(struct ctctl_probe_event *ev, const struct probe_packet *p)
{
	bool any = p->tuple.nexthdr != IPPROTO_TCP;
	__u8 related = probe_is_error(p) ? TUPLE_RELATED : 0;
	struct ipv4_ct_tuple key = p->tuple;

	/* As loaded from the packet the ports are crossed. */
	key.dport = p->tuple.sport;
	key.sport = p->tuple.dport;
	key.flags = TUPLE_SERVICE;
	look(ev, &key, any, PROBE_ENTRY_SERVICE);
	key.flags = TUPLE_OUT | related;
	look(ev, &key, any, PROBE_ENTRY_REPLY_OUT);
	key.flags = TUPLE_IN | related;
	look(ev, &key, any, PROBE_ENTRY_REPLY_IN);
	tuple_reverse(&key);
	look(ev, &key, any, PROBE_ENTRY_FORWARD_IN);
	key.flags = TUPLE_OUT | related;
	look(ev, &key, any, PROBE_ENTRY_FORWARD_OUT);
}

static __always_inline bool read_packet(struct __sk_buff *skb, struct probe_packet *p)
{
	union probe_l4 l4 = {};
	__u32 len = sizeof(l4), off;
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return false;
	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	off = probe_ip(p, &ip);
	if (!off)
		return true;
	if (bpf_skb_load_bytes_relative(skb, off, &l4, sizeof(l4), BPF_HDR_START_NET)) {
		len = sizeof(l4.icmp);
		if (bpf_skb_load_bytes_relative(skb, off, &l4, sizeof(l4.icmp), BPF_HDR_START_NET))
			return true;
	}
	probe_l4(p, &l4, len);
	return true;
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

static __always_inline int probe(struct __sk_buff *skb, __u8 egress)
{
	struct probe_packet p = {};
	struct ctctl_probe_event *ev;
	__u32 zero = 0;
	__u64 *current = bpf_map_lookup_elem(&ctctl_probe_current, &zero);

	if (!current)
		return PROBE_NEXT;
	*current = 0;
	if (!read_packet(skb, &p) || !probe_wanted(&p.tuple, probe_is_error(&p)))
		return PROBE_NEXT;
	*current = (__u64)(long)skb;
	ev = probe_begin(&p, PROBE_PACKET);
	if (!ev)
		return PROBE_NEXT;
	ev->netns = cfg_netns;
	ev->ifindex = skb->ifindex;
	ev->mark = skb->mark;
	ev->packet_len = skb->len;
	ev->egress = egress;
	if (cfg_tables)
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
