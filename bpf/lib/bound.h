/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bound.h - numbers whose bounds every verifier since Linux 6.1 can follow.
 *
 * The compiler knows ranges that the verifier forgets (across a shift, a
 * truncation, a spill) and drops the test that would tell it, or compares one
 * register and uses another. Whatever becomes an index or a length goes through
 * one of these: a barrier, so that nothing is known, and a mask on the very
 * register that is used. SIZE is a power of two, but for bound_below.
 */
#ifndef CTCTL_BOUND_H
#define CTCTL_BOUND_H

#include <linux/types.h>
#include <stdbool.h>

/* 0 to SIZE - 1: an index. */
static __always_inline __u32 bound_index(__u32 index, const __u32 size)
{
	asm volatile("" : "+r"(index));
	return index & (size - 1);
}

/* 1 to SIZE: a length that a helper takes, where it was none before, SIZE. */
static __always_inline __u32 bound_length(__u32 length, const __u32 size)
{
	return bound_index(length - 1, size) + 1;
}

/* Whether INDEX is below SIZE, which need be no power of two. What the compiler
 * knows of it must not turn the test into "is not SIZE", which narrows nothing,
 * and what is computed from it must not be computed before the test. */
static __always_inline bool bound_below(__u32 *index, const __u32 size)
{
	asm volatile("" : "+r"(*index));
	if (*index >= size)
		return false;
	asm volatile("" : "+r"(*index));
	return true;
}

#endif /* CTCTL_BOUND_H */
