/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ctx.h - the kernel's view of the packet in hand, by kind of program: a tc
 * program has a socket buffer, an XDP program the frame alone.
 *
 * Every rule of the datapath is written once, over ctx_t and what the header of
 * the program's kind does with it; an object is of one kind.
 */
#ifndef CTCTL_CTX_H
#define CTCTL_CTX_H

#include <stddef.h>

/* A pointer into the packet, read anew each time: the compiler may neither keep one over a call that moves the
 * packet, nor take it for the 32-bit number that ctx_t says it is. */
#define CTX_POINTER(ctx, member)						\
	({									\
		void *pointer;							\
		asm volatile("%0 = *(u32 *)(%1 + %2)"				\
			     : "=r"(pointer)					\
			     : "r"(ctx), "i"(offsetof(ctx_t, member)));		\
		pointer;							\
	})

#ifdef CTX_OF_XDP
#include "ctx_xdp.h"
#else
#include "ctx_skb.h"
#endif

#endif /* CTCTL_CTX_H */
