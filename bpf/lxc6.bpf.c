// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * lxc6.bpf.c - the hooks on the host side of a pod's veth, for IPv6 packets: the same
 * text as lxc.bpf.c, compiled for the other family.
 */
#define FAMILY 6
#include "lxc.bpf.c"
