// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sock6.bpf.c - the hooks of sockets, for IPv6 addresses: the same
 * text as sock.bpf.c, compiled for the other family.
 */
#define FAMILY 6
#include "sock.bpf.c"
