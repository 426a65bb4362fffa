/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * clock.h - the time and the random numbers of the datapath, and of a simulation.
 */
#ifndef CTCTL_CLOCK_H
#define CTCTL_CLOCK_H

#include "config.h"
#include "maps.h"

#define NSEC_PER_SEC 1000000000ULL

static __always_inline struct ctctl_sim *sim(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ctctl_sim, &zero);
}

/* Nanoseconds of CLOCK_MONOTONIC, behind by up to a timer tick: lifetimes are
 * in seconds, and reading the exact clock for each packet costs 5 times as much. */
static __always_inline __u64 clock_ns(void)
{
	if (cfg_sim) {
		struct ctctl_sim *s = sim();

		return s ? s->now_ns : 0;
	}
	return bpf_ktime_get_coarse_ns();
}

static __always_inline __u32 random_u32(void)
{
	if (cfg_sim) {
		struct ctctl_sim *s = sim();

		return s ? s->random : 0;
	}
	return bpf_get_prandom_u32();
}

#endif /* CTCTL_CLOCK_H */
