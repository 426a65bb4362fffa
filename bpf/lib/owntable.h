/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * owntable.h - what programs share that user space runs on somebody's tables.
 *
 * Such a program is loaded for one table of each kind, which takes the place of a
 * STAND_IN, is told what to do and answers through SHARED memory, and goes with the
 * process that loaded it. Both families have one body; SIX is a constant wherever
 * it is inlined.
 */
#ifndef CTCTL_OWNTABLE_H
#define CTCTL_OWNTABLE_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

struct bpf_map;

#define STAND_IN(_name, _key, _value)                   \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);    \
		__uint(max_entries, 1);                 \
		__type(key, struct _key);               \
		__type(value, struct _value);           \
	} _name SEC(".maps")

/* One element, or as many as user space says before loading. */
#define SHARED(_name, _value)                           \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_ARRAY);       \
		__uint(map_flags, BPF_F_MMAPABLE);      \
		__uint(max_entries, 1);                 \
		__type(key, __u32);                     \
		__type(value, struct _value);           \
	} _name SEC(".maps")

/* What a callback of bpf_for_each_map_elem answers. */
enum { GO_ON = 0, END = 1 };

static const __u32 first_element;

/* Whether a delete that failed was refused (the bucket is locked on this CPU, say), not too late: then the entry stays. */
static __always_inline bool was_refused(long failed)
{
	return failed != -ENOENT;
}

/* Where a field of the family's struct is: the two differ in sizes, not in names. */
#define AT(_six, _v4, _v6, _p, _field)                                  \
	((_six) ? (void *)&((struct _v6 *)(_p))->_field                 \
		: (void *)&((struct _v4 *)(_p))->_field)
#define TUPLE(_six, _p, _field) AT(_six, ipv4_ct_tuple, ipv6_ct_tuple, _p, _field)

static __always_inline __u8 tuple_flags(const void *tuple, const bool six)
{
	return *(const __u8 *)TUPLE(six, tuple, flags);
}

static __always_inline __u8 tuple_proto(const void *tuple, const bool six)
{
	return *(const __u8 *)TUPLE(six, tuple, nexthdr);
}

#endif /* CTCTL_OWNTABLE_H */
