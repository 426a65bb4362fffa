// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * overlay6.bpf.c - the hooks on a Geneve device, for IPv6 packets: the same
 * text as overlay.bpf.c, compiled for the other family.
 */
#define FAMILY 6
#include "overlay.bpf.c"
