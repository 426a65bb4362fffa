/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tunnel.h - packets that came through the tunnel: to the pod they are for, up
 * to the host, on to another node, or back as an error.
 */
#ifndef CTCTL_TUNNEL_H
#define CTCTL_TUNNEL_H

#include "endpoint.h"
#include "event.h"
#include "geneve_in.h"
#include "icmp.h"
#include "nodeport.h"
#include "pkt.h"
#include "room.h"

/* The packet is the inner one. To the pod it is for, or up to the host. */
static __always_inline int tunnel_receive(struct __sk_buff *skb, struct pkt *p, const struct tunnel *tun)
{
	const struct endpoint_info *ep;
	bool service;
	int ret;

	event_hook(skb, p, HOOK_FROM_OVERLAY);
	event_tunnel(p, tun->remote, tun->vni);
	/* No node sends as "host": on the way it becomes "remote node". */
	if (tun->vni == IDENTITY_HOST)
		return -REASON_INVALID_IDENTITY;
	ret = pkt_parse_l3(skb, p);
	event_in(p);
	if (ret)
		return ret;
	if (p->fragment && !cfg_fragments)
		return -REASON_FRAG_NOSUPPORT;
	p->src_identity = tunnel_identity(p, tun->vni);
	ret = nodeport_request(skb, p, &service);
	if (ret || p->redirect)
		return ret;
	if (!service && !cfg_dsr_option)
		ret = dsr_request(skb, p);
	if (!service && !ret)
		ret = nodeport_other(skb, p);
	if (ret || p->redirect)
		return ret;
	ep = endpoint_find(p->t.daddr);
	if (!ep || (ep->flags & ENDPOINT_HOST))
		return OK;
	ret = icmp_hop(skb, p);
	if (ret || p->redirect)
		return ret;
	skb->mark = mark_of_identity(p->src_identity) | MARK_FROM_TUNNEL;
	return deliver(skb, p, ep->mac, ep->node_mac, ep->ifindex);
}

/* Is the packet now an error about what it was, for whoever sent that? Nothing
 * without ports is sent on to where it came from. */
static __always_inline bool tunnel_is_error(const struct __sk_buff *skb, const struct pkt *p)
{
	return p->redirect && p->redirect == skb->ifindex && !pkt_has_ports(p);
}

/* As whom the error's source is known on the way: an address of this node's, or a service's, which is nobody's. */
static __always_inline __u32 tunnel_vni_of(addr_t addr)
{
	const struct remote_endpoint_info *info = ipcache_find(addr);

	return info && info->sec_identity == IDENTITY_HOST ? IDENTITY_REMOTE_NODE : IDENTITY_WORLD;
}

/* The error goes to the node that the packet came from: its sender's address
 * leads nowhere outside the tunnel, and a DEVICE sends nothing without a key. */
SEAM int tunnel_send_error(struct __sk_buff *skb, struct pkt *p, __be32 remote, bool device)
{
	int ret;

	if (!p)
		return -REASON_INVALID;
	BESIDE(p, struct geneve_send, send, geneve);
	send->remote = remote;
	send->vni = tunnel_vni_of(p->t.saddr);
	event_tunnel(p, send->remote, send->vni);
	if (device)
		return geneve_send_by_device(skb, send);
	send->source_port = geneve_source_port(p);
	ret = geneve_encapsulate_apart(skb, send);
	return ret ? ret : pkt_send_out(p);
}

/* The packet is the inner one; DEVICE: of a device that takes outer headers off. */
static __always_inline int tunnel_packet(struct __sk_buff *skb, struct pkt *p, const struct tunnel *tun, bool device)
{
	int ret = tunnel_receive(skb, p, tun);

	return ret || !tunnel_is_error(skb, p) ? ret : tunnel_send_error(skb, p, tun->remote, device);
}

#endif /* CTCTL_TUNNEL_H */
