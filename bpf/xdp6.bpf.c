// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * xdp6.bpf.c - the node's device before there is a socket buffer, for IPv6
 * packets: the same text as xdp.bpf.c, compiled for the other family.
 */
#define FAMILY 6
#include "xdp.bpf.c"
