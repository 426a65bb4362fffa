// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * netdev6.bpf.c - the hooks on the node's device, for IPv6 packets: the same
 * text as netdev.bpf.c, compiled for the other family.
 */
#define FAMILY 6
#include "netdev.bpf.c"
