/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.h - may a packet that starts or continues a flow (not a reply) pass?
 */
#ifndef CTCTL_POLICY_H
#define CTCTL_POLICY_H

#include "endpoint.h"
#include "event.h"
#include "maps.h"
#include "pkt.h"

enum policy_answer {
	POLICY_NOTHING,         /* no key says anything */
	POLICY_ALLOW,
	POLICY_DENY,            /* wins over any number of allows */
};

static __always_inline enum policy_answer policy_ask(const struct ctctl_policy_key *key)
{
	const struct ctctl_policy_entry *entry = bpf_map_lookup_elem(&ctctl_policy, key);

	if (!entry)
		return POLICY_NOTHING;
	return entry->deny ? POLICY_DENY : POLICY_ALLOW;
}

/* All keys that cover the packet: each of peer, port and protocol named or any.
 * Global: the verifier goes through it once, not once for each way here. */
__noinline int policy_ask_all(const struct ctctl_policy_key *exact)
{
	enum policy_answer answer = POLICY_NOTHING;

	if (!exact)
		return POLICY_NOTHING;
	for (int any = 0; any < 8; any++) {
		struct ctctl_policy_key key = *exact;
		enum policy_answer one;

		if (any & 1)
			key.identity = 0;
		if (any & 2)
			key.dport = 0;
		if (any & 4)
			key.proto = 0;
		one = policy_ask(&key);
		if (one > answer)
			answer = one;
	}
	return answer;
}

/* DPORT is the flow's; a fragment where none are tracked has none, and needs a
 * rule for all ports. The peer's identity is looked up only if keys besides
 * "anything" exist. */
static __always_inline int
policy_check(struct __sk_buff *skb, struct pkt *p, __u32 endpoint_id, bool egress, addr_t peer, __be16 dport)
{
	struct ctctl_policy_key key = { .endpoint_id = endpoint_id, .egress = egress };
	const struct ctctl_policy_entry *everything;
	struct icmp_header icmp;
	/* IPv6 reads no more than the type, and lets no message pass by itself. */
	const __u32 icmp_len = FAMILY_NAME(sizeof(icmp), sizeof(icmp.type));

	/* A pod must not speak the tunnel's protocol: nodes would believe it. */
	if (egress && p->t.nexthdr == IPPROTO_UDP && dport == GENEVE_PORT)
		return -REASON_ENCAP_PROHIBITED;
	if (p->t.nexthdr == IPPROTO_ICMP_FAMILY) {
		if (!pkt_load(skb, p->l4_off, &icmp, icmp_len))
			return -REASON_INVALID;
		/* Path MTU discovery works whatever the policy. */
		if (FAMILY == 4 && icmp.type == ICMP_DEST_UNREACH && icmp.code == ICMP_FRAG_NEEDED)
			return OK;
		dport = bpf_htons(icmp.type);
	}
	everything = bpf_map_lookup_elem(&ctctl_policy, &key);
	if (everything && !everything->deny && !everything->others) {
		event_why(p, WHY_POLICY_ALLOWED);
		return OK;
	}
	key.identity = egress ? identity_of_peer(peer) : identity_of_source(p->src_identity, peer);
	key.dport = p->fragment && !cfg_fragments ? 0 : dport;
	key.proto = p->t.nexthdr;
	if (policy_ask_all(&key) == POLICY_ALLOW) {
		event_why(p, WHY_POLICY_ALLOWED);
		return OK;
	}
	event_why(p, WHY_POLICY_DENIED);
	return p->fragment && !cfg_fragments ? -REASON_FRAG_NOSUPPORT : -REASON_POLICY;
}

#endif /* CTCTL_POLICY_H */
