"""The one sentence about a connection's state, and why. It says nothing of a side that the entry does not see.

An entry's tx and rx side follow the hook that wrote it: for OUT entries tx is who opened the connection,
for IN entries it is who answers (docs/reference/datapath.md). A SERVICE entry sees the client only.
"""

from __future__ import annotations

from ctctl.model.entry import CtEntry, CtFlags, CtState
from ctctl.model.row import CtRow
from ctctl.model.tuples import TCP, Direction
from ctctl.model.units import format_duration

_FIN, _SYN, _RST = 0x01, 0x02, 0x04
_NO_HANDSHAKE = "no handshake in this protocol: the entry lives while packets refresh it"
_ORDER = ("out", "in", "service", "related")


def role_of(entry: CtEntry) -> str:
    """service, out, in or related."""
    if entry.related:
        return "related"
    return {Direction.SVC: "service", Direction.OUT: "out", Direction.IN: "in"}[entry.direction]


def explain(rows: list[CtRow]) -> tuple[str, str]:
    """The connection's state and why, by its OUT entry, else IN, else SERVICE, else a related one."""
    main = main_row(rows)
    word = state_of(main)
    return word, f"{word}: {sentence(main)}"


def main_row(rows: list[CtRow]) -> CtRow:
    """The entry that says most about a connection."""
    return min(rows, key=lambda row: _ORDER.index(role_of(row.entry)))


def state_of(row: CtRow) -> str:
    """The state word, and whether it is expired."""
    return row.entry.state.value + (", expired" if row.expired else "")


def sentence(row: CtRow) -> str:
    """Why an entry is in its state, and how long it has."""
    entry = row.entry
    if entry.tuple.proto != TCP or entry.related:
        return _NO_HANDSHAKE + _when(row)
    return (_of_service(entry) if entry.direction is Direction.SVC else _of_flow(entry)) + _when(row)


def _of_service(entry: CtEntry) -> str:
    client = f"the client ({entry.tuple.src})"
    unseen = "a service entry does not see the other side"
    if entry.state is CtState.CLOSED:
        return f"{client} sent a FIN or RST, which closes both directions of a service entry"
    if entry.state is CtState.CLOSING:
        return f"{client} has sent its FIN; {unseen}"
    if entry.state is CtState.NEW:
        return f"{client} has sent nothing but a SYN; {unseen}"
    return f"{client} has sent packets without SYN and has not closed; {unseen}"


def _of_flow(entry: CtEntry) -> str:
    rx, tx = _sides(entry)
    saw_rx, saw_tx = _saw(entry, "rx"), _saw(entry, "tx")
    if not (saw_rx or saw_tx):
        saw_rx = saw_tx = True  # not told (nf_conntrack): nothing is said of who was seen
    if entry.state is CtState.CLOSED:
        return _closed(entry, rx, tx)
    if entry.state is CtState.CLOSING:
        by_tx = bool(entry.flags & CtFlags.TxClosing)
        closer, other, saw_other = (tx, rx, saw_rx) if by_tx else (rx, tx, saw_tx)
        if not saw_other:
            return f"{closer} has sent its FIN; no packet of {other} was ever seen by this entry"
        return f"{closer} has sent its FIN, {other} has not"
    if entry.state is CtState.NEW:
        # Not every datapath reports ACK (monitor aggregation flags), but a SYN of the side that answers it does.
        seen = entry.rx_flags_seen | entry.tx_flags_seen
        if entry.rx_flags_seen & entry.tx_flags_seen & _SYN:
            return "SYN and SYN-ACK seen, the handshake's last packet not yet"
        return "only a SYN has been seen" if seen & _SYN else "no packet without SYN has been seen"
    if not (saw_rx and saw_tx):
        silent = rx if saw_tx else tx
        return f"packets without SYN have been seen and none closes; no packet of {silent} was ever seen by this entry"
    return "packets without SYN have been seen and neither side has closed"


def _closed(entry: CtEntry, rx: str, tx: str) -> str:
    if (entry.tx_flags_seen | entry.rx_flags_seen) & _RST:
        return "a RST ended it"
    if entry.tx_flags_seen & entry.rx_flags_seen & _FIN:
        return f"both {tx} and {rx} have sent their FIN"
    return "both sides are marked as closed"


def _sides(entry: CtEntry) -> tuple[str, str]:
    """Who the rx and the tx side of an entry are."""
    if entry.direction is Direction.IN:
        return f"{entry.tuple.src}", f"{entry.tuple.dst}"
    return f"{entry.tuple.dst}", f"{entry.tuple.src}"


def _saw(entry: CtEntry, side: str) -> bool:
    """Whether a packet of that side was ever seen: its flags, its report or its counter say so."""
    counter = getattr(entry, f"{side}_packets")
    return bool(getattr(entry, f"{side}_flags_seen") or getattr(entry, f"last_{side}_report") or counter)


def _when(row: CtRow) -> str:
    left = row.remaining_s
    if left is None:
        return "; the dump does not say when it was made, so its time left is unknown"
    if row.expired:
        return f"; expired {format_duration(-left)} ago, it still matches packets until it is collected"
    # A dead entry is not refreshed (docs/reference/datapath.md, refresh and close): a SYN may open it anew.
    revived = "a SYN opens it anew" if row.entry.state is CtState.CLOSED else "a packet refreshes it"
    return f"; expires in {format_duration(left)} unless {revived}"
