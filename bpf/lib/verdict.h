/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * verdict.h - how a hook starts and ends: the one place where OK or -REASON
 * becomes an action of the kernel, is counted and is told.
 */
#ifndef CTCTL_VERDICT_H
#define CTCTL_VERDICT_H

#include "clock.h"
#include "event.h"
#include "maps.h"
#include "pkt.h"
#include "room.h"

/* P comes zeroed. */
static __always_inline void hook_begin(ctx_t *ctx, struct pkt *p, enum ctctl_hook hook)
{
	p->hook = hook;
	p->action = CTX_PASS;
	p->len = ctx_len(ctx);
	p->now_ns = clock_ns();
	p->now = p->now_ns / NSEC_PER_SEC;
	event_begin(ctx, p);
}

static __always_inline int hook_end(ctx_t *ctx, struct pkt *p, int ret)
{
	enum ctctl_reason reason = ret < 0 ? -ret : REASON_OK;
	__u32 index = p->hook * REASON_MAX + reason;
	struct ctctl_counter *count = bpf_map_lookup_elem(&ctctl_metrics, &index);
	enum ctctl_verdict verdict = VERDICT_PASS;

	/* What goes on to the other family's program is counted there. */
	if (count && p->action != HOOK_NEXT) {
		count->packets += 1;
		count->bytes += p->len;
	}
	if (ret < 0)
		verdict = VERDICT_DROP;
	else if (p->redirect)
		verdict = VERDICT_REDIRECT;
	if (p->heard)
		event_emit(ctx, p, verdict, reason);
	return ret < 0 ? CTX_DROP : p->action;
}

#endif /* CTCTL_VERDICT_H */
