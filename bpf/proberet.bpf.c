// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * proberet.bpf.c - how it ended: return codes of other programs, and packets
 * that the kernel dropped.
 *
 * probe_return is attached (fexit) to one program after the other, an object
 * each; probe_freed to the kfree_skb tracepoint. Kernel structures are read by
 * CO-RE, with no more of them declared than is used.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Headers of what a datapath handles are linear; a short packet ends in the tail room. */
#define PROBE_READ(_at, _off, _to, _len) bpf_probe_read_kernel(_to, _len, (const unsigned char *)(_at) + (_off))

#include "probe.h"

#include <bpf/bpf_core_read.h>

#define CORE __attribute__((preserve_access_index))

struct ns_common {
	unsigned int inum;
} CORE;

struct net {
	struct ns_common ns;
} CORE;

typedef struct {
	struct net *net;
} CORE possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} CORE;

struct sk_buff {
	struct net_device *dev;
	unsigned char *head;
	unsigned int len;
	__u32 mark;
	__be16 protocol;
	__u16 network_header;
	__u16 mac_header;
} CORE;

volatile const __u32 cfg_prog_id = 0;   /* probe_return: the program it is attached to */
volatile const __u8 cfg_egress = 0;

static __always_inline unsigned char *network_header(struct sk_buff *skb)
{
	return BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
}

static __always_inline bool read_packet(struct sk_buff *skb, struct probe_packet *p)
{
	__be16 protocol = BPF_CORE_READ(skb, protocol);

	if (protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6))
		return false;
	return probe_read_packet(network_header(skb), p, protocol == bpf_htons(ETH_P_IPV6));
}

static __always_inline struct ctctl_probe_event *begin(struct sk_buff *skb, enum ctctl_probe_kind kind, bool wanted)
{
	struct probe_packet p = {};
	struct ctctl_probe_event *ev;
	struct net_device *dev;

	if (!read_packet(skb, &p) || (!wanted && !probe_wanted(&p)))
		return NULL;
	ev = probe_begin(&p, kind);
	if (!ev)
		return NULL;
	dev = BPF_CORE_READ(skb, dev);
	ev->ifindex = BPF_CORE_READ(dev, ifindex);
	ev->netns = BPF_CORE_READ(dev, nd_net.net, ns.inum);
	ev->mark = BPF_CORE_READ(skb, mark);
	ev->packet_len = BPF_CORE_READ(skb, len);
	if (!bpf_probe_read_kernel(ev->head, CTCTL_PROBE_HEAD, network_header(skb)))
		ev->head_len = ev->packet_len < CTCTL_PROBE_HEAD ? ev->packet_len : CTCTL_PROBE_HEAD;
	return ev;
}

/* Attached to the entry function of a TC program; a tail call goes on behind
 * it, so that the code is the last program's. */
SEC("fexit")
int probe_return(__u64 *args) /* the program's argument, then its return code */
{
	struct ctctl_probe_event *ev;
	__u32 zero = 0;
	struct ctctl_probe_current *current = bpf_map_lookup_elem(&ctctl_probe_current, &zero);
	bool same = current && current->skb == args[0];

	ev = begin((struct sk_buff *)args[0], PROBE_RETURN, same);
	if (!ev)
		return 0;
	ev->same_packet = same;
	ev->prog_id = cfg_prog_id;
	ev->egress = cfg_egress;
	ev->code = (int)args[1];
	probe_send(ev);
	return 0;
}

/* Reasons are numbered differently from kernel to kernel: user space reads
 * their names from the kernel's BTF. */
SEC("tp_btf/kfree_skb")
int probe_freed(__u64 *args) /* skb, location, reason */
{
	struct ctctl_probe_event *ev = begin((struct sk_buff *)args[0], PROBE_FREED, false);

	if (!ev)
		return 0;
	ev->location = args[1];
	ev->code = (int)args[2];
	probe_send(ev);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
