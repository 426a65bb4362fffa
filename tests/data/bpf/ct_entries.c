// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The field names and places of conntrack entries as maps of foreign datapaths carry them (docs/reference/abi.md),
 * flags as bit fields; and entries that are wrong in one place each. */
#include <linux/types.h>

#define FLAGS(bit2, bit7, bit9)                                                                     \
	__u16 rx_closing : 1, tx_closing : 1, bit2 : 1, lb_loopback : 1, seen_non_syn : 1,          \
		node_port : 1, proxy_redirect : 1, bit7 : 1, from_l7lb : 1, bit9 : 1,               \
		from_tunnel : 1, reserved : 5
#define TAIL                                                                                        \
	__u8 tx_flags_seen;                                                                         \
	__u8 rx_flags_seen;                                                                         \
	__u32 src_sec_id;                                                                           \
	__u32 last_tx_report;                                                                       \
	__u32 last_rx_report

struct entry_1_15 {
	__u64 rx_packets;
	union {
		__u64 rx_bytes;
		__u64 backend_id;
	};
	__u64 tx_packets;
	__u64 tx_bytes;
	__u32 lifetime;
	FLAGS(nat46, dsr, auth_required);
	__u16 rev_nat_index;
	__u16 ifindex;
	TAIL;
};

struct entry_1_16 {
	__u64 reserved0;
	__u64 backend_id;
	__u64 packets;
	__u64 bytes;
	__u32 lifetime;
	FLAGS(reserved1, dsr_internal, reserved2);
	__u16 rev_nat_index;
	__u16 ifindex;
	TAIL;
};

struct entry_1_18 {
	__u64 reserved0;
	__u64 backend_id;
	__u64 packets;
	__u64 bytes;
	__u32 lifetime;
	FLAGS(reserved1, dsr_internal, reserved2);
	__u16 rev_nat_index;
	__u16 reserved4;
	TAIL;
};

struct entry_1_19 {
	union {
		struct {
			__u64 reserved0;
			__u64 backend_id;
		};
		__u8 nat_addr[16];
	};
	__u64 packets;
	__u64 bytes;
	__u32 lifetime;
	FLAGS(reserved1, dsr_internal, reserved2);
	__u16 rev_nat_index;
	__be16 nat_port;
	TAIL;
};

/* packets and bytes have changed places */
struct entry_swapped {
	__u64 reserved0;
	__u64 backend_id;
	__u64 bytes;
	__u64 packets;
	__u32 lifetime;
	FLAGS(reserved1, dsr_internal, reserved2);
	__u16 rev_nat_index;
	__u16 ifindex;
	TAIL;
};

/* a flag has moved */
struct entry_flag_moved {
	__u64 reserved0;
	__u64 backend_id;
	__u64 packets;
	__u64 bytes;
	__u32 lifetime;
	FLAGS(dsr_internal, reserved1, reserved2);
	__u16 rev_nat_index;
	__u16 ifindex;
	TAIL;
};

/* a field has gone, with no room left for it */
struct entry_shorter {
	__u64 reserved0;
	__u64 backend_id;
	__u64 packets;
	__u64 bytes;
	__u32 lifetime;
	__u16 flags;
	__u16 rev_nat_index;
	__u16 ifindex;
	__u8 tx_flags_seen;
	__u8 rx_flags_seen;
	__u32 last_tx_report;
	__u32 last_rx_report;
};

/* everything in its place, and more behind it */
struct entry_longer {
	struct entry_1_16_flat {
		__u64 reserved0;
	} first;
	__u64 backend_id;
	__u64 packets;
	__u64 bytes;
	__u32 lifetime;
	__u16 flags;
	__u16 rev_nat_index;
	__u16 ifindex;
	TAIL;
	__u64 more;
};

struct entry_1_15 use_15;
struct entry_1_16 use_16;
struct entry_1_18 use_18;
struct entry_1_19 use_19;
struct entry_swapped use_swapped;
struct entry_flag_moved use_flag_moved;
struct entry_shorter use_shorter;
struct entry_longer use_longer;
