// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Somebody else's datapath: one program for each thing a tc program can do to a packet. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

volatile const __u32 cfg_target = 0;    /* redirect: ifindex */
volatile const __be32 cfg_address = 0;  /* rewrite: new destination */

#define IP_DADDR (ETH_HLEN + offsetof(struct iphdr, daddr))
#define IP_CHECK (ETH_HLEN + offsetof(struct iphdr, check))
#define UDP_CHECK (ETH_HLEN + sizeof(struct iphdr) + 6)

static __always_inline int is_udp(struct __sk_buff *skb)
{
	__u8 proto = 0;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	return !bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, protocol), &proto, 1) && proto == IPPROTO_UDP;
}

SEC("tc")
int foreign_program_that_passes(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("tc")
int foreign_program_that_drops(struct __sk_buff *skb)
{
	return is_udp(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc")
int foreign_program_that_redirects(struct __sk_buff *skb)
{
	return is_udp(skb) ? bpf_redirect(cfg_target, 0) : TC_ACT_OK;
}

SEC("tc")
int foreign_program_that_rewrites(struct __sk_buff *skb)
{
	__be32 old, new = cfg_address;

	if (!is_udp(skb) || bpf_skb_load_bytes(skb, IP_DADDR, &old, 4))
		return TC_ACT_OK;
	bpf_l4_csum_replace(skb, UDP_CHECK, old, new, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | 4);
	bpf_l3_csum_replace(skb, IP_CHECK, old, new, 4);
	bpf_skb_store_bytes(skb, IP_DADDR, &new, 4, 0);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
