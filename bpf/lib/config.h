/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.h - settings of a node, written into .rodata before the load.
 *
 * Read-only data is known to the verifier: what a setting turns off costs
 * nothing, the branch is gone.
 */
#ifndef CTCTL_CONFIG_H
#define CTCTL_CONFIG_H

#include "ctctl/abi.h"

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

/* ---- the node ---- */
volatile const __be32 cfg_node_ip = 0;
volatile const __u32 cfg_dev_ifindex = 0;
volatile const __u32 cfg_overlay_ifindex = 0;
volatile const __u8 cfg_overlay_device = 0;     /* 1: a collect_md Geneve device; 0: encapsulate in BPF */

#endif /* CTCTL_CONFIG_H */
