// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* gc.bpf.c on a kernel that refuses to delete entries whose key starts with 200 or more, as one does
 * while the bucket is locked on the same CPU: nothing that a test could make happen. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#define bpf_map_delete_elem(_map, _key) \
	(((const __u8 *)(_key))[0] >= 200 ? -EBUSY : (bpf_map_delete_elem)(_map, _key))

#include "../gc.bpf.c"
