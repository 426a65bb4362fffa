/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - everything that crosses between the kernel side and user space.
 *
 * The only header both sides know: map keys and values, the event record, and
 * the numbers in them. Fixed widths, explicit pads, no bit fields; the Python
 * layouts in ctctl/abi/ are generated from the BTF of this file, so nothing is
 * written down twice. Tables named cilium_* have exactly Cilium 1.16's layout
 * (docs/reference/abi.md), so that one decoder reads a live Cilium node and this datapath.
 *
 * "be" in a comment means network byte order.
 */
#ifndef CTCTL_ABI_H
#define CTCTL_ABI_H

#include <linux/types.h>

#define CTCTL_PACKED __attribute__((packed))

/* ---- connection tracking ------------------------------------------------ */

/* cilium_ct4_global, cilium_ct_any4_global, cilium_snat_v4_external: key.
 * Ports of a packet land crossed: its source port in dport (docs/reference/abi.md). */
struct ipv4_ct_tuple {
	__be32 daddr;
	__be32 saddr;
	__be16 dport;
	__be16 sport;
	__u8   nexthdr;
	__u8   flags;           /* enum ctctl_tuple_flags */
} CTCTL_PACKED;
_Static_assert(sizeof(struct ipv4_ct_tuple) == 14, "ipv4_ct_tuple");

struct ipv6_ct_tuple {
	__u8   daddr[16];
	__u8   saddr[16];
	__be16 dport;
	__be16 sport;
	__u8   nexthdr;
	__u8   flags;
} CTCTL_PACKED;
_Static_assert(sizeof(struct ipv6_ct_tuple) == 38, "ipv6_ct_tuple");

enum ctctl_tuple_flags {
	TUPLE_OUT = 0,          /* zero: compare, never test a bit */
	TUPLE_IN = 1,
	TUPLE_RELATED = 2,
	TUPLE_SERVICE = 4,
};

struct ct_entry {
	__u64  reserved0;
	__u64  backend_id;      /* SERVICE entries only */
	__u64  packets;         /* only with accounting */
	__u64  bytes;
	__u32  lifetime;        /* second of CLOCK_MONOTONIC at which it expires */
	__u16  flags;           /* enum ctctl_ct_flags */
	__be16 rev_nat_index;
	__u16  ifindex;
	__u8   tx_flags_seen;
	__u8   rx_flags_seen;
	__u32  src_sec_id;
	__u32  last_tx_report;
	__u32  last_rx_report;
};
_Static_assert(sizeof(struct ct_entry) == 56, "ct_entry");

enum ctctl_ct_flags {
	CT_RX_CLOSING = 1 << 0,
	CT_TX_CLOSING = 1 << 1,
	CT_NAT64 = 1 << 2,
	CT_LB_LOOPBACK = 1 << 3,
	CT_SEEN_NON_SYN = 1 << 4,
	CT_NODE_PORT = 1 << 5,
	CT_PROXY_REDIRECT = 1 << 6,
	CT_DSR_INTERNAL = 1 << 7,
	CT_FROM_L7LB = 1 << 8,
	CT_RESERVED9 = 1 << 9,
	CT_FROM_TUNNEL = 1 << 10,
};

/* cilium_snat_v4_external: value */
struct ipv4_nat_entry {
	__u64  created;         /* second of CLOCK_MONOTONIC */
	__u64  needs_ct;
	__u64  pad1;
	__u64  pad2;
	__be32 to_saddr;
	__be16 to_sport;
	__u16  pad3;
};
_Static_assert(sizeof(struct ipv4_nat_entry) == 40, "ipv4_nat_entry");

/* ---- load balancing ----------------------------------------------------- */

struct lb4_key {
	__be32 address;
	__be16 dport;
	__u16  backend_slot;    /* 0: the frontend itself */
	__u8   proto;           /* 0 in 1.16: the key ignores the protocol */
	__u8   scope;           /* 0 external, 1 internal */
	__u8   pad[2];
};
_Static_assert(sizeof(struct lb4_key) == 12, "lb4_key");

struct lb4_service {
	__u32  backend_id;      /* of a slot; the frontend: affinity timeout, s */
	__u16  count;
	__be16 rev_nat_index;
	__u8   flags;           /* enum ctctl_svc_flags */
	__u8   flags2;          /* enum ctctl_svc_flags2 */
	__u16  qcount;
};
_Static_assert(sizeof(struct lb4_service) == 12, "lb4_service");

enum ctctl_svc_flags {
	SVC_EXTERNAL_IP = 1,
	SVC_NODE_PORT = 2,
	SVC_EXT_LOCAL_SCOPE = 4,
	SVC_HOST_PORT = 8,
	SVC_AFFINITY = 16,
	SVC_LOAD_BALANCER = 32,
	SVC_ROUTABLE = 64,
	SVC_SOURCE_RANGE = 128,
};

enum ctctl_svc_flags2 {
	SVC2_LOCAL_REDIRECT = 1,
	SVC2_NAT46X64 = 2,
	SVC2_L7_LOAD_BALANCER = 4,
	SVC2_LOOPBACK = 8,
	SVC2_INT_LOCAL_SCOPE = 16,
	SVC2_TWO_SCOPES = 32,
};

struct lb4_backend {
	__be32 address;
	__be16 port;
	__u8   proto;
	__u8   flags;           /* enum ctctl_backend_state */
	__u16  cluster_id;
	__u8   zone;
	__u8   pad;
};
_Static_assert(sizeof(struct lb4_backend) == 12, "lb4_backend");

enum ctctl_backend_state {
	BACKEND_ACTIVE = 0,
	BACKEND_TERMINATING = 1,
	BACKEND_QUARANTINED = 2,
	BACKEND_MAINTENANCE = 3,
};

/* The IPv6 twins: the same fields in the same order, addresses of 16 bytes. */
struct lb6_key {
	__u8   address[16];
	__be16 dport;
	__u16  backend_slot;
	__u8   proto;
	__u8   scope;
	__u8   pad[2];
};
_Static_assert(sizeof(struct lb6_key) == 24, "lb6_key");

struct lb6_backend {
	__u8   address[16];
	__be16 port;
	__u8   proto;
	__u8   flags;
	__u16  cluster_id;
	__u8   zone;
	__u8   pad;
};
_Static_assert(sizeof(struct lb6_backend) == 24, "lb6_backend");

struct lb6_reverse_nat {
	__u8   address[16];
	__be16 port;
} CTCTL_PACKED;
_Static_assert(sizeof(struct lb6_reverse_nat) == 18, "lb6_reverse_nat");

struct lb6_affinity_key {
	__u8   client_id[16];
	__be16 rev_nat_id;
	__u8   netns_cookie;
	__u8   pad1;
	__u32  pad2;
};
_Static_assert(sizeof(struct lb6_affinity_key) == 24, "lb6_affinity_key");

struct lb6_src_range_key {
	__u32  prefixlen;
	__u16  rev_nat_id;
	__u16  pad;
	__u8   addr[16];
};
_Static_assert(sizeof(struct lb6_src_range_key) == 24, "lb6_src_range_key");

struct lb4_reverse_nat {
	__be32 address;
	__be16 port;
} CTCTL_PACKED;
_Static_assert(sizeof(struct lb4_reverse_nat) == 6, "lb4_reverse_nat");

struct lb4_affinity_key {
	__u64  client_id;       /* client's address (be), zero extended */
	__be16 rev_nat_id;
	__u8   netns_cookie;    /* 1: client_id is a netns cookie */
	__u8   pad1;
	__u32  pad2;
};
_Static_assert(sizeof(struct lb4_affinity_key) == 16, "lb4_affinity_key");

struct lb_affinity_val {
	__u64  last_used;       /* second of CLOCK_MONOTONIC */
	__u32  backend_id;
	__u32  pad;
};
_Static_assert(sizeof(struct lb_affinity_val) == 16, "lb_affinity_val");

struct lb_affinity_match {
	__u32  backend_id;
	__be16 rev_nat_id;
	__u16  pad;
};
_Static_assert(sizeof(struct lb_affinity_match) == 8, "lb_affinity_match");

/* cilium_lb4_source_range, an LPM trie; value __u8 */
struct lb4_src_range_key {
	__u32  prefixlen;       /* 32 for rev_nat_id and pad, plus the CIDR's */
	__u16  rev_nat_id;      /* as in lb4_service: be */
	__u16  pad;
	__be32 addr;
};
_Static_assert(sizeof(struct lb4_src_range_key) == 12, "lb4_src_range_key");

/* cilium_lb4_reverse_sk: which service a socket spoke to when it speaks to a
 * backend. Addresses and ports be. */
struct lb4_reverse_sk_key {
	__u64  cookie;          /* the socket's */
	__be32 address;         /* the backend's */
	__be16 port;
	__u16  pad;
};
_Static_assert(sizeof(struct lb4_reverse_sk_key) == 16, "lb4_reverse_sk_key");

struct lb4_reverse_sk {
	__be32 address;         /* the service's, as the program named it */
	__be16 port;
	__be16 rev_nat_index;
};
_Static_assert(sizeof(struct lb4_reverse_sk) == 8, "lb4_reverse_sk");

struct lb6_reverse_sk_key {
	__u64  cookie;
	__u8   address[16];
	__be16 port;
	__u16  pad[3];
};
_Static_assert(sizeof(struct lb6_reverse_sk_key) == 32, "lb6_reverse_sk_key");

struct lb6_reverse_sk {
	__u8   address[16];
	__be16 port;
	__be16 rev_nat_index;
};
_Static_assert(sizeof(struct lb6_reverse_sk) == 20, "lb6_reverse_sk");

/* ---- endpoints and identities ------------------------------------------- */

struct endpoint_key {
	__u8   addr[16];        /* an IPv4 address is in the first 4 bytes */
	__u8   family;          /* 1: IPv4, 2: IPv6 */
	__u8   key;
	__u16  cluster_id;
};
_Static_assert(sizeof(struct endpoint_key) == 20, "endpoint_key");

struct endpoint_info {
	__u32  ifindex;
	__u16  unused;
	__u16  lxc_id;
	__u32  flags;           /* 1: the host itself */
	__u32  pad1;
	__u8   mac[8];          /* the pod's, 6 bytes used */
	__u8   node_mac[8];     /* of the host side of its veth */
	__u32  sec_id;
	__u32  pad2[3];
};
_Static_assert(sizeof(struct endpoint_info) == 48, "endpoint_info");

/* cilium_ipcache, an LPM trie */
struct ipcache_key {
	__u32  prefixlen;       /* 32 for cluster_id, pad, family, plus the CIDR's */
	__u16  cluster_id;
	__u8   pad1;
	__u8   family;          /* 1: IPv4, 2: IPv6 */
	__u8   addr[16];        /* an IPv4 address is in the first 4 bytes */
};
_Static_assert(sizeof(struct ipcache_key) == 24, "ipcache_key");

struct remote_endpoint_info {
	__u32  sec_identity;
	__be32 tunnel_endpoint; /* 0: none */
	__u16  pad;
	__u8   key;
	__u8   flags;           /* 1: skip the tunnel */
};
_Static_assert(sizeof(struct remote_endpoint_info) == 12, "remote_endpoint_info");

/* Reserved security identities (Cilium's numbers). */
enum ctctl_identity {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_UNMANAGED = 3,
	IDENTITY_HEALTH = 4,
	IDENTITY_INIT = 5,
	IDENTITY_REMOTE_NODE = 6,
	IDENTITY_KUBE_APISERVER = 7,
	IDENTITY_INGRESS = 8,
	IDENTITY_WORLD_IPV4 = 9,    /* of nodes that have both families */
	IDENTITY_WORLD_IPV6 = 10,
};

/* ---- fragments ----------------------------------------------------------- */

/* cilium_ipv4_frag_datagrams */
struct ipv4_frag_id {
	__be32 daddr;
	__be32 saddr;
	__be16 id;
	__u8   proto;
	__u8   pad;
} CTCTL_PACKED;
_Static_assert(sizeof(struct ipv4_frag_id) == 12, "ipv4_frag_id");

struct ipv4_frag_l4ports {
	__be16 sport;
	__be16 dport;
} CTCTL_PACKED;
_Static_assert(sizeof(struct ipv4_frag_l4ports) == 4, "ipv4_frag_l4ports");

/* ---- policy: ctctl's own, one table for all endpoints of a node ---------- */

/* ctctl_policy: a packet is allowed if one of the keys made by zeroing
 * identity and/or dport and/or proto is there and none of those there denies.
 * An endpoint without rules in a direction has the all-zero key for it (allow
 * all): where that allows and says nothing of other keys, it is the only one
 * looked up. */
struct ctctl_policy_key {
	__u32  endpoint_id;
	__u32  identity;        /* of the peer; 0: any */
	__be16 dport;           /* 0: any */
	__u8   proto;           /* 0: any */
	__u8   egress;          /* 1: egress, 0: ingress */
};
_Static_assert(sizeof(struct ctctl_policy_key) == 12, "ctctl_policy_key");

struct ctctl_policy_entry {
	__u8   deny;
	__u8   others;          /* of the all-zero key: 1, there are other keys, some may deny */
	__u8   pad[2];
};
_Static_assert(sizeof(struct ctctl_policy_entry) == 4, "ctctl_policy_entry");

/* ---- what hooks tell ------------------------------------------------------ */

enum ctctl_hook {
	HOOK_NONE = 0,
	HOOK_FROM_CONTAINER = 1,
	HOOK_TO_CONTAINER = 2,
	HOOK_FROM_NETDEV = 3,
	HOOK_TO_NETDEV = 4,
	HOOK_FROM_OVERLAY = 5,
	HOOK_TO_OVERLAY = 6,
	HOOK_CONNECT = 7,               /* from here on calls of sockets, not packets */
	HOOK_SENDMSG = 8,
	HOOK_RECVMSG = 9,
	HOOK_GETPEERNAME = 10,
	HOOK_POST_BIND = 11,
	HOOK_XDP_NETDEV = 12,           /* packets again: of the node's device, before there is a socket buffer */
	HOOK_MAX = 13,
};

/* Why a packet was dropped. Internal functions return OK (0) or -REASON. */
enum ctctl_reason {
	REASON_OK = 0,
	REASON_INVALID = 1,
	REASON_INVALID_SIP = 2,
	REASON_CT_INVALID_HDR = 3,
	REASON_CT_UNKNOWN_PROTO = 4,
	REASON_CT_CREATE_FAILED = 5,
	REASON_CSUM_L3 = 6,
	REASON_CSUM_L4 = 7,
	REASON_UNKNOWN_L3 = 8,
	REASON_FRAG_NOT_FOUND = 9,
	REASON_POLICY = 10,
	REASON_NO_SERVICE = 11,
	REASON_IS_CLUSTER_IP = 12,
	REASON_NOT_IN_SRC_RANGE = 13,
	REASON_NO_TUNNEL_ENDPOINT = 14,
	REASON_NO_TUNNEL_KEY = 15,
	REASON_ENCAP_PROHIBITED = 16,
	REASON_TTL_EXCEEDED = 17,
	REASON_INVALID_IDENTITY = 18,
	REASON_UNKNOWN_CT = 19,
	REASON_WRITE_ERROR = 20,    /* the packet could not be changed (no memory) */
	REASON_UNSUPPORTED_L2 = 21, /* not Ethernet II */
	REASON_FRAG_NOSUPPORT = 22, /* a fragment, and fragments are not tracked */
	REASON_NAT_NO_MAPPING = 23, /* no port of the node's address is free */
	REASON_NAT_UNSUPP_PROTO = 24,
	REASON_UNKNOWN_ICMP_CODE = 25,
	REASON_UNKNOWN_L4 = 26,
	REASON_INVALID_EXTHDR = 27,
	REASON_UNKNOWN_TARGET = 28, /* of a neighbour solicitation */
	REASON_ADDRESS_IN_USE = 29, /* a socket of the host, on a NodePort service's port */
	REASON_MAX = 30,
};

enum ctctl_verdict {
	VERDICT_PASS = 0,       /* to the stack, or the pod */
	VERDICT_REDIRECT = 1,   /* to another device */
	VERDICT_DROP = 2,
};

/* What a lookup was for. */
enum ctctl_lookup_kind {
	LOOKUP_NONE = 0,
	LOOKUP_SERVICE = 1,     /* SERVICE entry of the client */
	LOOKUP_CT = 2,          /* a pod hook's: reverse, then forward */
	LOOKUP_NODE_PORT = 3,   /* OUT entry of a local backend behind a VIP */
	LOOKUP_DSR = 4,         /* OUT entry with DSRInternal */
	LOOKUP_REV_DNAT = 5,    /* the entry a backend's reply belongs to */
	LOOKUP_SNAT = 6,        /* the pair by which a packet leaves with the node's address, or is an answer to one */
	LOOKUP_SOCKET = 7,      /* the service that a socket means, or the one its peer stands for */
};

enum ctctl_ct_dir {
	CT_DIR_EGRESS = 0,
	CT_DIR_INGRESS = 1,
	CT_DIR_SERVICE = 2,
};

enum ctctl_ct_result {
	CT_RESULT_NEW = 0,
	CT_RESULT_ESTABLISHED = 1,
	CT_RESULT_REPLY = 2,
	CT_RESULT_RELATED = 3,
};

/* What was done and why: bits of ctctl_lookup.why. One sentence each in
 * ctctl/events/explain.py. */
enum ctctl_why {
	WHY_HIT = 1 << 0,               /* an entry was found */
	WHY_CREATED = 1 << 1,           /* an entry was written */
	WHY_RELATED_CREATED = 1 << 2,   /* and its ICMP related entry */
	WHY_WRONG_TYPE = 1 << 3,        /* found, but not of the wanted type */
	WHY_GRACE_OVER = 1 << 4,        /* SYN on a closed SERVICE entry after the grace */
	WHY_REOPENED = 1 << 5,          /* SYN on an entry with a closing bit: reset in place */
	WHY_HALF_CLOSED = 1 << 6,       /* a FIN set one closing bit */
	WHY_CLOSED = 1 << 7,            /* both closing bits are set now: lifetime = fin */
	WHY_DEAD = 1 << 8,              /* both were set before: ordinary packets change nothing */
	WHY_LONG_LIFETIME = 1 << 9,     /* first packet without SYN: long lifetime from now on */
	WHY_REV_NAT_CHANGED = 1 << 10,  /* entry re-created: other rev-NAT index */
	WHY_BACKEND_AFFINITY = 1 << 11, /* backend from session affinity */
	WHY_BACKEND_MAGLEV = 1 << 12,   /* backend from the Maglev table */
	WHY_BACKEND_RANDOM = 1 << 13,   /* backend by a random slot */
	WHY_BACKEND_KEPT = 1 << 14,     /* backend of the entry */
	WHY_BACKEND_GONE = 1 << 15,     /* backend of the entry is gone: chosen again */
	WHY_BACKEND_INACTIVE = 1 << 16, /* backend not active and this is a SYN: chosen again */
	WHY_NO_BACKEND = 1 << 17,       /* no backend to choose */
	WHY_POLICY_ALLOWED = 1 << 18,   /* policy was asked and allows */
	WHY_POLICY_DENIED = 1 << 19,
	WHY_POLICY_SKIPPED = 1 << 20,   /* reply or related: policy not asked */
	WHY_CREATE_FAILED = 1 << 21,    /* ctctl_lookup.err says why */
	WHY_SNAT_CREATED = 1 << 22,     /* SNAT entry, or pair of them, written */
	WHY_DSR_OPTION = 1 << 23,       /* the packet carried the DSR option */
	WHY_SNAT_KEPT = 1 << 24,        /* the flow has its pair of SNAT entries */
	WHY_SNAT_STALE = 1 << 25,       /* it had one for another address: deleted */
	WHY_SNAT_PORT_TAKEN = 1 << 26,  /* its port was taken: it got another */
	WHY_SNAT_EXHAUSTED = 1 << 27,   /* no free port in all tries */
	WHY_BACKEND_COOKIE = 1 << 28,   /* backend by the socket's cookie: a UDP socket keeps its slot */
	WHY_SOCKET_WRITTEN = 1 << 29,   /* the socket's reverse entry is written, or says so already */
	WHY_SOCKET_STALE = 1 << 30,     /* it was of a service that is gone, empty or renumbered: deleted */
};

struct ctctl_lookup {
	struct ipv6_ct_tuple tuple;     /* key of the entry found or written, else looked up; IPv4: addresses in the first 4 bytes */
	__u8   kind;                    /* enum ctctl_lookup_kind */
	__u8   dir;                     /* enum ctctl_ct_dir */
	__u8   result;                  /* enum ctctl_ct_result */
	__u8   any_map;                 /* 1: in the non-TCP table */
	__s16  err;                     /* kernel's errno of a failed create, negative */
	__u32  why;                     /* enum ctctl_why, bits */
	struct ct_entry before;         /* valid with WHY_HIT */
	struct ct_entry after;          /* valid with WHY_HIT or WHY_CREATED */
};
_Static_assert(sizeof(struct ctctl_lookup) == 48 + 112, "ctctl_lookup");

#define CTCTL_EVENT_LOOKUPS 3

/* One packet at one hook. ctctl_events, a ring buffer. */
struct ctctl_event {
	__u64  time_ns;                 /* CLOCK_MONOTONIC, or simulated */
	__u32  now_s;                   /* the clock that lifetimes are in */
	__u32  ifindex;
	__u32  mark_in;
	__u32  mark_out;
	__u32  src_identity;
	__u32  dst_identity;
	__u32  packet_len;              /* whole frame */
	__u32  redirect_ifindex;
	__be32 tunnel_remote;           /* outer peer, 0: no tunnel */
	__u32  tunnel_vni;
	__u8   dsr_vip[16];             /* of the DSR option, with the port; IPv4: in the first 4 bytes */
	__be16 dsr_port;                /* 0: none */
	__u16  endpoint_id;             /* pod hooks */
	__u32  backend_id;              /* chosen or kept, 0: none */
	__be16 rev_nat_index;
	__u8   hook;                    /* enum ctctl_hook */
	__u8   verdict;                 /* enum ctctl_verdict */
	__u8   reason;                  /* enum ctctl_reason */
	__u8   tcp_flags;
	__u8   icmp_type;
	__u8   icmp_code;
	__u8   fragment;                /* 0 none, 1 first, 2 later */
	__u8   nr_lookups;
	__u8   family;                  /* 1: IPv4, addresses in the first 4 bytes; 2: IPv6 */
	__u8   pad;
	struct ipv6_ct_tuple in;        /* as it came; real orientation: sport is the packet's */
	struct ipv6_ct_tuple out;       /* as it left */
	struct ctctl_lookup lookup[CTCTL_EVENT_LOOKUPS];
};
_Static_assert(sizeof(struct ctctl_event) == 160 + 3 * 160, "ctctl_event");

/* ctctl_trace_ctl, an mmapable array with one element: who listens.
 * Hooks emit events only while now < until_ns, so that a listener that was
 * killed costs nothing after its lease ran out; a live one renews it. */
struct ctctl_trace_ctl {
	__u64  until_ns;                /* CLOCK_MONOTONIC */
	__u8   addr[2][16];             /* either end first; 0 with mask 0: any; IPv4: in the first 4 bytes */
	__u8   mask[2][16];
	__u32  filter;                  /* 0: every packet; 1: the flow here and in ctctl_trace_follow */
	__be16 port[2];                 /* 0: any */
	__u8   proto;                   /* 0: any; ICMP's means that of either family */
	__u8   family;                  /* of the addresses, as in events; 0: either */
	__u8   near;                    /* 1: every packet of the flow has the address of one end; hooks may clear it */
	__u8   pad[5];
};
_Static_assert(sizeof(struct ctctl_trace_ctl) == 88, "ctctl_trace_ctl");

/* ctctl_sim, an mmapable array with one element: read instead of the clock,
 * the random source and the tunnel device when cfg_sim is set. */
struct ctctl_sim {
	__u64  now_ns;
	__u32  random;
	__u32  has_tunnel_key;
	__u32  tunnel_vni;
	__be32 tunnel_remote;
	__u32  option_len;
	__u8   option[36];              /* zeros after option_len bytes, as the kernel's helper fills up */
};
_Static_assert(sizeof(struct ctctl_sim) == 64, "ctctl_sim");

/* ctctl_tunnel_in, a per-CPU array with one element: how the packet in hand
 * came, from the program that took its outer IPv4 headers off to the one of
 * its own family. */
struct ctctl_tunnel_in {
	__be32 remote;
	__u32  vni;
	__u32  option_len;
	__u8   option[28];
};
_Static_assert(sizeof(struct ctctl_tunnel_in) == 40, "ctctl_tunnel_in");

/* ctctl_metrics, a per-CPU array; index: hook * REASON_MAX + reason
 * (REASON_OK counts what went through). */
struct ctctl_counter {
	__u64  packets;
	__u64  bytes;
};

/* ctctl_stats, a per-CPU array of __u64 */
enum ctctl_stat {
	STAT_EVENTS_LOST = 0,           /* the ring buffer was full, or its lock busy */
	STAT_CT_CREATE_FAILED = 1,
	STAT_CT_CREATE_ERRNO = 2,       /* no counter: the kernel's errno of the last one that failed */
	STAT_SNAT_EXHAUSTED = 3,        /* packets dropped for want of a port */
	STAT_MAX = 4,
};

/* ---- garbage collection: gc.bpf.o ---------------------------------------- */

/* ipv6 SNAT table: value (the key is an ipv6_ct_tuple) */
struct ipv6_nat_entry {
	__u64  created;
	__u64  needs_ct;
	__u64  pad1;
	__u64  pad2;
	__u8   to_saddr[16];
	__be16 to_sport;
	__u16  pad3[3];
};
_Static_assert(sizeof(struct ipv6_nat_entry) == 56, "ipv6_nat_entry");

/* Entries are counted by class: protocol << 3 | tuple flags & 7. */
#define CTCTL_GC_CLASSES 2048

/* ctctl_gc_ctl, an mmapable array with one element: what a run is told and what it tells. */
struct ctctl_gc_ctl {
	__u32  now;                     /* entries with lifetime < now are expired */
	__u32  stop;                    /* walk: set from outside at any time, no further entry is touched */
	__u64  skip;                    /* entries that an earlier part of this run left in place */
	__u64  budget;                  /* deletions allowed in this part, the walk ends with the last */
	__u32  nr_slots;                /* check: slots filled */
	__u32  nr_refused;              /* out: deletions, of SNAT entries too, that the kernel refused */
	__u64  passed;                  /* walk, out: entries seen and left in place, skipped ones included */
	__u64  nr_deleted;              /* out: in this part */
	__u64  nr_found;                /* walk that only finds, out: log records written in this part */
	__u64  nr_nat_deleted;          /* out: SNAT entries that went with them */
	__u64  alive[CTCTL_GC_CLASSES];
	__u64  deleted[CTCTL_GC_CLASSES];
	__u64  skipped[CTCTL_GC_CLASSES]; /* expired when tested, not deleted: the delete failed, or a dry run */
};
_Static_assert(sizeof(struct ctctl_gc_ctl) == 64 + 3 * 8 * CTCTL_GC_CLASSES, "ctctl_gc_ctl");

enum ctctl_gc_status {
	GC_UNTOUCHED = 0,               /* stopped before it */
	GC_DELETED = 1,
	GC_REFRESHED = 2,               /* the live entry is not expired (any more) */
	GC_GONE = 3,                    /* there is no such entry (any more) */
	GC_FOUND = 4,                   /* recorded, for the writer to delete */
	GC_STAYED = 5,                  /* expired, and the kernel refused to delete it */
};

/* ctctl_gc_slots4/6: candidates of the batch engine, and what became of each;
 * ctctl_gc_log4/6: what a walk that only finds has found, for the writer to delete. */
struct ctctl_gc_slot4 {
	struct ipv4_ct_tuple key;
	__u8   status;                  /* enum ctctl_gc_status */
	__u8   pad;
};
_Static_assert(sizeof(struct ctctl_gc_slot4) == 16, "ctctl_gc_slot4");

struct ctctl_gc_slot6 {
	struct ipv6_ct_tuple key;
	__u8   status;
	__u8   pad;
};
_Static_assert(sizeof(struct ctctl_gc_slot6) == 40, "ctctl_gc_slot6");

struct ctctl_gc_log4 {
	struct ipv4_ct_tuple key;
	__u8   pad[2];
	struct ct_entry entry;
};
_Static_assert(sizeof(struct ctctl_gc_log4) == 72, "ctctl_gc_log4");

struct ctctl_gc_log6 {
	struct ipv6_ct_tuple key;
	__u8   pad[2];
	struct ct_entry entry;
};
_Static_assert(sizeof(struct ctctl_gc_log6) == 96, "ctctl_gc_log6");

/* ---- the writer: writer.bpf.o ---------------------------------------------- */

enum ctctl_writer_phase {
	WRITER_PAIRS = 1,               /* copy each OUT entry's SNAT pair into its slot */
	WRITER_DELETE = 2,              /* delete each entry that is still as planned, and its pair */
	WRITER_DELETE_NAT = 3,          /* slots are of SNAT entries: key and forward are filled */
	WRITER_DELETE_ORPHANS = 4,      /* the same, only where no conntrack entry stands behind */
};

enum ctctl_writer_status {
	WRITER_UNTOUCHED = 0,
	WRITER_DELETED = 1,
	WRITER_CHANGED = 2,             /* the live entry is not what was planned (any more) */
	WRITER_GONE = 3,                /* there is no such entry (any more) */
	WRITER_STAYED = 4,              /* as planned, and the kernel refused to delete it */
};

enum ctctl_writer_pair {
	PAIR_FORWARD = 1 << 0,          /* found: forward_key and forward are of a live entry */
	PAIR_REVERSE = 1 << 1,
	PAIR_FORWARD_DELETED = 1 << 2,
	PAIR_REVERSE_DELETED = 1 << 3,
	PAIR_FORWARD_STAYED = 1 << 4,   /* as planned, and the kernel refused to delete it */
	PAIR_REVERSE_STAYED = 1 << 5,
};

/* ctctl_writer_ctl, an mmapable array with one element. */
struct ctctl_writer_ctl {
	__u32 phase;                    /* enum ctctl_writer_phase */
	__u32 nr_slots;                 /* slots filled */
	__u64 ktime_ns;                 /* out, writer_clock: what the datapath's clock says */
	__u64 jiffies;                  /* out, writer_clock: jiffies64 */
};
_Static_assert(sizeof(struct ctctl_writer_ctl) == 24, "ctctl_writer_ctl");

/* ctctl_writer_slots4/6: entries to delete, as they were planned and written to the journal. */
struct ctctl_writer_slot4 {
	struct ipv4_ct_tuple key;
	__u8   status;                  /* enum ctctl_writer_status */
	__u8   pair;                    /* enum ctctl_writer_pair */
	struct ct_entry entry;
	struct ipv4_nat_entry forward;
	struct ipv4_nat_entry reverse;
	struct ipv4_ct_tuple forward_key;
	struct ipv4_ct_tuple reverse_key;
	__u8   pad[4];
};
_Static_assert(sizeof(struct ctctl_writer_slot4) == 184, "ctctl_writer_slot4");

struct ctctl_writer_slot6 {
	struct ipv6_ct_tuple key;
	__u8   status;
	__u8   pair;
	struct ct_entry entry;
	struct ipv6_nat_entry forward;
	struct ipv6_nat_entry reverse;
	struct ipv6_ct_tuple forward_key;
	struct ipv6_ct_tuple reverse_key;
	__u8   pad[4];
};
_Static_assert(sizeof(struct ctctl_writer_slot6) == 288, "ctctl_writer_slot6");

/* ---- filters and counts in the kernel: ctscan.bpf.o ----------------------- */

/* One number of an entry, in host order: what filters compare. */
enum ctctl_slot {
	SLOT_PROTO = 0,
	SLOT_TUPLE_FLAGS = 1,
	SLOT_SRC_HI = 2,
	SLOT_SRC = 3,
	SLOT_DST_HI = 4,
	SLOT_DST = 5,
	SLOT_SRC_PORT = 6,
	SLOT_DST_PORT = 7,
	SLOT_LIFETIME = 8,              /* from here on of the value */
	SLOT_FLAGS = 9,
	SLOT_REV_NAT = 10,
	SLOT_IFINDEX = 11,
	SLOT_TX_FLAGS_SEEN = 12,
	SLOT_RX_FLAGS_SEEN = 13,
	SLOT_SRC_SEC_ID = 14,
	SLOT_LAST_TX_REPORT = 15,
	SLOT_LAST_RX_REPORT = 16,
	SLOT_WORD0 = 17,                /* the four words that change their meaning between versions */
	SLOT_WORD8 = 18,
	SLOT_WORD16 = 19,
	SLOT_WORD24 = 20,
};

enum ctctl_scan {
	SCAN_BUCKETS = 40,
	SCAN_INSNS = 64,                /* instructions of a filter at most */
	SCAN_ACCEPT = 254,              /* targets of a jump that are no instruction */
	SCAN_REJECT = 255,
};

struct ctscan_insn {
	__u8   slot;                    /* enum ctctl_slot */
	__u8   yes;                     /* next instruction if low <= slot & mask <= high, or ACCEPT, REJECT */
	__u8   no;
	__u8   pad[5];
	__u64  mask;
	__u64  low;
	__u64  high;
};
_Static_assert(sizeof(struct ctscan_insn) == 32, "ctscan_insn");

/* One entry that the filter wants. */
struct ctscan_found {
	__u8   key[40];
	struct ct_entry value;
};
_Static_assert(sizeof(struct ctscan_found) == 96, "ctscan_found");

struct ctscan_state {
	__u64  visited;
	__u64  matched;                 /* more than there is room for: the reader filters for itself */
};

/* What "ct stats" shows of one table. Times in seconds, in buckets by powers
 * of two: bucket 0 counts zero, bucket n from 2^(n-1) to 2^n - 1. */
struct ctscan_stats {
	__u64  entries;
	__u64  proto[256];
	__u64  kind[3][2][4][2];        /* direction, related, state, expired */
	__u64  flags[2][256];           /* by the lower and the upper octet */
	__u64  remaining[SCAN_BUCKETS];
	__u64  overdue[SCAN_BUCKETS];
	__u64  idle[SCAN_BUCKETS];
};

/* ---- probes in front of any datapath: probe.bpf.o, proberet.bpf.o --------- */

enum ctctl_probe_kind {
	PROBE_PACKET = 1,               /* before the programs of a device */
	PROBE_RETURN = 2,               /* after one of them, with its return code */
	PROBE_FREED = 3,                /* the kernel dropped it */
};

/* Entries that a packet can hit, index of ctctl_probe_event.entry and bit of
 * found. Forward: of a connection that the packet's source opened. */
enum ctctl_probe_entry {
	PROBE_ENTRY_SERVICE = 0,
	PROBE_ENTRY_FORWARD_OUT = 1,
	PROBE_ENTRY_FORWARD_IN = 2,
	PROBE_ENTRY_REPLY_OUT = 3,
	PROBE_ENTRY_REPLY_IN = 4,
};

#define CTCTL_PROBE_ENTRIES 5
#define CTCTL_PROBE_HEAD 128

/* What a packet came in. */
enum ctctl_probe_tunnel {
	PROBE_NO_TUNNEL = 0,
	PROBE_VXLAN = 1,
	PROBE_GENEVE = 2,
};

/* ctctl_probe_ctl, an array with one element: the flow that is followed. A probe
 * listens as long as it is attached. */
struct ctctl_probe_ctl {
	__u8   addr[2][16];             /* either end first; 0 with mask 0: any; IPv4: in the first 4 bytes */
	__u8   mask[2][16];
	__be16 port[2];                 /* 0: any */
	__u8   filter;                  /* 0: every packet */
	__u8   proto;                   /* 0: any */
	__u8   family;                  /* 4, 6; 0: either */
	__u8   following;               /* 1: ctctl_probe_follow has something in it */
};
_Static_assert(sizeof(struct ctctl_probe_ctl) == 72, "ctctl_probe_ctl");

/* ctctl_probe_current, by CPU: the packet of the flow that it has in its hands. */
struct ctctl_probe_current {
	__u64  skb;                     /* kernel address; 0: none */
	__u32  sign;                    /* what no translation changes */
	__u32  pad;
};
_Static_assert(sizeof(struct ctctl_probe_current) == 16, "ctctl_probe_current");

/* ctctl_probe_events, a ring buffer. Of an encapsulated packet all but the outer
 * addresses is the inner one's. */
struct ctctl_probe_event {
	__u64  time_ns;                 /* CLOCK_MONOTONIC */
	__u64  location;                /* PROBE_FREED: kernel address; PROBE_PACKET: cookie of the sender's socket */
	__u32  netns;                   /* inode of the network namespace */
	__u32  ifindex;
	__u32  mark;
	__u32  packet_len;              /* whole frame */
	__u32  prog_id;                 /* PROBE_RETURN */
	__s32  code;                    /* PROBE_RETURN: return code; PROBE_FREED: enum skb_drop_reason */
	__be32 outer_saddr;             /* of a tunnel */
	__be32 outer_daddr;
	__u32  vni;
	struct ipv6_ct_tuple tuple;     /* real orientation: sport is the packet's; IPv4 in the first 4 bytes */
	__u8   kind;                    /* enum ctctl_probe_kind */
	__u8   egress;
	__u8   found;                   /* 1 << enum ctctl_probe_entry */
	__u8   tcp_flags;
	__u8   icmp_type;
	__u8   icmp_code;
	__u8   fragment;                /* 0 none, 1 first, 2 later */
	__u8   head_len;
	__u8   same_packet;             /* followed by the packet, whatever its tuple is now */
	__u8   family;                  /* 4, 6 */
	__u8   tunnel;                  /* enum ctctl_probe_tunnel */
	__u8   pad;
	__u16  cpu;
	struct ct_entry entry[CTCTL_PROBE_ENTRIES]; /* as they stand, before the programs run */
	__u8   head[CTCTL_PROBE_HEAD];  /* the packet from its (outer) IP header on */
};
_Static_assert(sizeof(struct ctctl_probe_event) == 104 + 5 * 56 + 128, "ctctl_probe_event");

#endif /* CTCTL_ABI_H */
