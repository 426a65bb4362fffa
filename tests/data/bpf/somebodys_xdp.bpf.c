// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* somebodys_xdp.bpf.c - another owner's program as the XDP of a device. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int somebodys(struct xdp_md *ctx)
{
	return ctx ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
