"""What became of a connection, as far as hooks saw it: one sentence at the end of a trace.

Only what was seen is said: a packet that a hook sent on and that no hook saw arrive was not "delivered",
unless an answer shows that it was.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

from ctctl.events.explain import DROP_SENTENCES
from ctctl.events.lines import device_words
from ctctl.model.event import CtResult, Hook, HookEvent, LookupDirection, Verdict
from ctctl.model.tuples import Address
from ctctl.out.text import safe
from ctctl.packet.spec import PROTO_ICMP, PROTO_TCP, TcpFlags

_End: TypeAlias = tuple[Address, int]

#: The same packet at the same place so often within a second: TCP does not send again that fast (RTO_MIN, 200 ms).
_LOOP_TIMES = 8
_LOOP_NS = 1_000_000_000
_ICMP_UNREACHABLE, _ICMP_FRAGMENTATION_NEEDED = 3, 4
_ICMPV6_UNREACHABLE = 1


@dataclass(slots=True)
class Ending:
    """Takes the events of one connection in order of time; ``sentence`` is what they come to."""

    _clients: set[_End] = field(default_factory=set)
    _sent: HookEvent | None = None
    _arrived: HookEvent | None = None
    _answered: bool = False
    _dropped: HookEvent | None = None
    _drops: int = 0
    _error: HookEvent | None = None
    _tcp: list[tuple[bool, int]] = field(default_factory=list)
    _places: Counter[object] = field(default_factory=Counter)
    _since_ns: int = 0
    _loop: bool = False

    def add(self, event: HookEvent) -> None:
        """Take one event."""
        self._look_for_loop(event)
        forward = self._is_forward(event)
        if event.verdict is Verdict.DROP:
            self._dropped, self._drops = event, self._drops + 1
            return
        if _is_error(event):
            self._error = event
            return
        if forward:
            self._sent = event
            if event.hook is Hook.TO_CONTAINER:
                self._arrived = event
        else:
            self._answered = True
        if event.tuple_in.proto == PROTO_TCP and event.tcp_flags:
            seen = (forward, event.tcp_flags & (TcpFlags.SYN | TcpFlags.FIN | TcpFlags.RST | TcpFlags.ACK))
            if seen not in self._tcp:
                self._tcp.append(seen)

    def sentence(self) -> str:
        """What became of the connection: delivered, refused, dropped, answered, open or closed."""
        if self._loop and self._dropped is not None and self._dropped.reason == "ttl_exceeded":
            return f"a loop: the same packet came by again and again until {_drop_words(self._dropped, self._drops)}"
        words = [self._way()]
        refused = self._refusal()
        if refused:
            words.append(refused)
        elif self._dropped is None or self._answered:
            words.append("answered" if self._answered else "not answered while this was watched")
        if self._dropped is not None:
            words.append(_drop_words(self._dropped, self._drops))
        if not refused and self._answered and (state := self._tcp_state()):
            words.append(state)
        if self._loop:
            words.append("the same SYN again and again within a second: a loop, or a sender that does not wait")
        return ", ".join(word for word in words if word)

    def _way(self) -> str:
        if self._arrived is not None:
            return f"delivered to {_where(self._arrived)}"
        if self._answered:
            return "delivered"
        if self._dropped is not None or self._sent is None:
            return ""
        return f"sent on by {self._sent.hook} on {_where(self._sent)}, where it went then no hook here saw"

    def _refusal(self) -> str:
        first = next((flags for forward, flags in self._tcp if not forward), 0)
        if first & TcpFlags.RST:
            return "refused with RST"
        error = self._error
        if error is None:
            return ""
        what = f"ICMP type {error.icmp_type} code {error.icmp_code} from {error.tuple_in.src}"
        unreachable = error.icmp_type == _ICMPV6_UNREACHABLE
        if error.tuple_in.proto == PROTO_ICMP:
            unreachable = error.icmp_type == _ICMP_UNREACHABLE and error.icmp_code != _ICMP_FRAGMENTATION_NEEDED
        return f"refused with {what}" if unreachable else "" if self._answered else f"answered by {what}"

    def _tcp_state(self) -> str:
        if not self._tcp:
            return ""
        for forward, flags in self._tcp:
            if flags & TcpFlags.RST:
                return f"reset by the {'client' if forward else 'server'}"
        fins = {forward for forward, flags in self._tcp if flags & TcpFlags.FIN}
        if len(fins) == 1:
            return f"half closed: only the {'client' if True in fins else 'server'} has sent FIN"
        return "closed by both" if fins else "still open"

    def _is_forward(self, event: HookEvent) -> bool:
        """Whether the packet goes the way of the first one; translated ends are learned on the way."""
        came, left = event.tuple_in, event.tuple_out
        if not self._clients:
            # A trace that begins with an answer knows its connection from the entry that was found.
            self._clients.add((came.dst, came.dst_port) if _found_reply(event) else (came.src, came.src_port))
        if (came.src, came.src_port) in self._clients:
            self._clients.add((left.src, left.src_port))
            return True
        if (came.dst, came.dst_port) in self._clients:
            self._clients.add((left.dst, left.dst_port))
            return False
        return not _found_reply(event)

    def _look_for_loop(self, event: HookEvent) -> None:
        if event.time_ns - self._since_ns > _LOOP_NS:
            self._places.clear()
            self._since_ns = event.time_ns
        # Data may come fast and often; what opens a connection does not.
        if event.tuple_in.proto == PROTO_TCP and (event.tcp_flags or 0) & ~TcpFlags.ACK == TcpFlags.SYN:
            place = (event.node, event.hook, event.ifindex, event.tuple_in, event.tcp_flags)
            self._places[place] += 1
            self._loop |= self._places[place] >= _LOOP_TIMES


def _found_reply(event: HookEvent) -> bool:
    """Whether an entry says that the packet answers; the one of a service, found on the way there, says nothing."""
    return any(
        record.result is CtResult.REPLY and record.hook_direction is not LookupDirection.SERVICE
        for record in event.lookups
    )


def _is_error(event: HookEvent) -> bool:
    return event.icmp_type is not None and any(record.result is CtResult.RELATED for record in event.lookups)


def _where(event: HookEvent) -> str:
    device = device_words(event.device, event.ifindex)
    return f"{device} of {safe(event.node)}" if event.node else device


def _drop_words(event: HookEvent, times: int) -> str:
    why = DROP_SENTENCES.get(event.reason or "", "")
    often = f" {times} times, last" if times > 1 else ""
    return f"dropped{often} at {event.hook} on {_where(event)}: {event.reason}" + (f" ({why})" if why else "")
