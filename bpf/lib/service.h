/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.h - what packets and sockets ask of the service tables: the service
 * of an address and port, a backend by its id, and whom a client had before.
 */
#ifndef CTCTL_SERVICE_H
#define CTCTL_SERVICE_H

#include "maps.h"

#define SCOPE_EXTERNAL 0
#define SCOPE_INTERNAL 1

/* The frontend's entry for KEY's address and port; KEY stays with the scope it
 * was found in. INTERNAL: the client is in the cluster, and sees the internal
 * one of a service that has two. */
static __always_inline const struct lb4_service *service_find(lb_key_t *key, bool internal)
{
	const struct lb4_service *svc;

	key->scope = SCOPE_EXTERNAL;
	svc = bpf_map_lookup_elem(&MAP_SERVICES, key);
	if (!svc || !internal || !(svc->flags2 & SVC2_TWO_SCOPES))
		return svc;
	key->scope = SCOPE_INTERNAL;
	return bpf_map_lookup_elem(&MAP_SERVICES, key);
}

static __always_inline const lb_backend_t *service_backend(__u32 id)
{
	return bpf_map_lookup_elem(&MAP_BACKENDS, &id);
}

/* ---- session affinity ---- */

/* The backend that the client of KEY had, 0 if it had none, its time is over,
 * or the backend is none of the service any more. AHEAD: nothing is written. */
static __always_inline __u32
affinity_backend(affinity_key_t *key, const struct lb4_service *svc, __u32 now, const bool ahead)
{
	struct lb_affinity_match match = { .rev_nat_id = svc->rev_nat_index };
	struct lb_affinity_val *val = bpf_map_lookup_elem(&MAP_AFFINITY, key);

	if (!val)
		return 0;
	match.backend_id = val->backend_id;
	/* last_used is written by every CPU the client's packets come to: at
	 * worst it is the older of two, both of this moment. */
	if (READ_ONCE(val->last_used) + svc->backend_id <= now ||
	    !bpf_map_lookup_elem(&cilium_lb_affinity_match, &match)) {
		if (!ahead)
			bpf_map_delete_elem(&MAP_AFFINITY, key);
		return 0;
	}
	/* Counts as used even if that backend turns out to be gone. */
	if (!ahead)
		WRITE_ONCE(val->last_used, now);
	return match.backend_id;
}

static __always_inline void affinity_use(const affinity_key_t *key, __u32 backend_id, __u32 now)
{
	struct lb_affinity_val val = { .last_used = now, .backend_id = backend_id };

	bpf_map_update_elem(&MAP_AFFINITY, key, &val, BPF_ANY);
}

#endif /* CTCTL_SERVICE_H */
