/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.h - settings of a node, written into .rodata before the load.
 *
 * Read-only data is known to the verifier: what a setting turns off costs
 * nothing, the branch is gone.
 */
#ifndef CTCTL_CONFIG_H
#define CTCTL_CONFIG_H

#include "family.h"

/* Which requests for a backend on another node go there with their client's
 * address, to be answered by that node; the others get this node's address. */
enum lb_mode {
	LB_DSR = 0,
	LB_SNAT = 1,
	LB_HYBRID = 2,          /* TCP by DSR, the rest by SNAT */
};

/* ---- simulation ---- */
volatile const __u8 cfg_sim = 0;                /* 1: clock, random numbers and tunnel key from ctctl_sim */

/* ---- connection tracking ---- */
volatile const __u8 cfg_accounting = 0;         /* 1: count packets and bytes of entries */
volatile const __u8 cfg_sctp = 0;               /* 1: SCTP is tracked and balanced */
volatile const __u8 cfg_fragments = 1;          /* 1: later fragments find their ports; 0: fragments are dropped */
volatile const __u8 cfg_syn_ack_opens = 0;      /* 1: Cilium before 1.16.12, a SYN with ACK starts a connection too */
volatile const __u32 cfg_report_interval_s = 5;
volatile const __u8 cfg_report_flags = 0xff;    /* TCP flags that count as seen */
volatile const __u32 cfg_ct_tcp_s = 8000;
volatile const __u32 cfg_ct_tcp_syn_s = 60;
volatile const __u32 cfg_ct_tcp_fin_s = 10;
volatile const __u32 cfg_ct_any_s = 60;
volatile const __u32 cfg_svc_tcp_s = 8000;
volatile const __u32 cfg_svc_tcp_grace_s = 60;
volatile const __u32 cfg_svc_any_s = 60;

/* ---- load balancing ---- */
volatile const __u8 cfg_lb_maglev = 0;          /* 0: random slot */
volatile const __u32 cfg_maglev_size = 16381;   /* entries of every Maglev table */
volatile const __u32 cfg_hash_seed = 0;
volatile const __u8 cfg_no_backend_reject = 1;  /* 1: ICMP port unreachable; 0: drop */
volatile const __be32 cfg_loopback = 0;         /* source of a pod that is its own backend */
volatile const __u8 cfg_lb_mode = 0;            /* enum lb_mode: how a request gets to another node's backend */
volatile const __u8 cfg_dsr_option = 0;         /* 1: DSR by an option in the IP header; 0: by Geneve */

/* ---- socket load balancing ---- */
volatile const __u64 cfg_host_netns_cookie = 0; /* of the node's own network namespace */

/* ---- source NAT ---- */
#define NATIVE_NETWORKS 4
volatile const __u8 cfg_masquerade = 0;         /* 1: pods speak to the world by the node's address */
volatile const addr_t cfg_native_net[NATIVE_NETWORKS] = {};     /* where they keep their own */
volatile const addr_t cfg_native_mask[NATIVE_NETWORKS] = {};
volatile const __u32 cfg_native_count = 0;

/* ---- the node ---- */
volatile const __be32 cfg_node_ip = 0;          /* of the tunnels, which run over IPv4 */
volatile const addr_t cfg_node_addr = {};       /* the family's */
volatile const addr_t cfg_router_addr = {};     /* of the node among its pods: the first of their CIDR */
volatile const __u32 cfg_world = IDENTITY_WORLD;
volatile const __u8 cfg_ipv6 = 0;               /* 1: the node has both families: each hook a program for each */
volatile const __u8 cfg_tunnel = 0;             /* 1: pods of other nodes are reached through the tunnel */
volatile const __u32 cfg_dev_ifindex = 0;
volatile const __u8 cfg_dev_mac[6] = {};
volatile const __u32 cfg_overlay_ifindex = 0;
volatile const __u8 cfg_overlay_device = 0;     /* 1: a collect_md Geneve device; 0: encapsulate in BPF */

#endif /* CTCTL_CONFIG_H */
