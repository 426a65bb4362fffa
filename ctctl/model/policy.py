"""Records of an endpoint's policy map: who may talk to it and to whom it may talk, and which of them decides."""

from __future__ import annotations

from collections.abc import Iterable

from ctctl.model.light import light_value


@light_value
class PolicyEntry:
    """One rule of one endpoint. ``identity`` 0 is every peer, ``proto`` 0 every protocol and port.

    Listings may say less: ``identity`` is None where they have only the peer's ``labels``, ``endpoint_id``
    where they do not say whose rule it is.

    ``port_bits`` of ``port`` count (16 is one port, 0 every port). ``proxy_port`` 0: no proxy. ``auth_type``
    0 is none. Counters are None where the datapath does not keep them. ``precedence`` (from 1.18) orders
    rules that a packet matches: the higher one decides, before any prefix.
    """

    endpoint_id: int | None
    egress: bool
    identity: int | None
    proto: int
    port: int
    port_bits: int
    deny: bool
    proxy_port: int = 0
    auth_type: int = 0
    packets: int | None = None
    bytes: int | None = None
    prefix_bits: int = 0
    precedence: int | None = None
    cookie: int | None = None
    map: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def ports(self) -> tuple[int, int]:
        """First and last port it covers."""
        rest = (1 << 16 - self.port_bits) - 1
        return self.port & ~rest, self.port | rest

    def covers(self, proto: int, port: int) -> bool:
        """Whether a packet of that protocol to that port is covered."""
        first, last = self.ports
        return self.proto in (0, proto) and (self.port_bits == 0 or first <= port <= last)


def decide(rules: Iterable[PolicyEntry], egress: bool, identity: int, proto: int, port: int) -> PolicyEntry | None:
    """The rule of one endpoint that decides on a packet, None where none covers it: it is dropped then.

    As the datapath does (bpf/lib/policy.h of Cilium): of the rules for the peer's identity, and of those for every
    peer, the one with the longest prefix of protocol and port counts. Of these two a deny decides up to 1.17, then
    the longer prefix; from 1.18 the higher precedence, which the agent has worked out.
    """
    covering = [rule for rule in rules if rule.egress == egress and rule.covers(proto, port)]
    best = [
        max((rule for rule in covering if rule.identity == number), key=lambda rule: rule.prefix_bits, default=None)
        for number in dict.fromkeys((identity, 0))
    ]
    candidates = [rule for rule in best if rule is not None]
    if any(rule.precedence is not None for rule in candidates):
        return max(candidates, key=lambda rule: (rule.precedence or 0, rule.prefix_bits, rule.identity != 0))
    return max(candidates, key=lambda rule: (rule.deny, rule.prefix_bits, rule.identity != 0), default=None)
