"""What-ifs about a node rather than an entry: another mode, one more rule, a full table."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ctctl.abi import pins
from ctctl.config.datapath import ACCELERATIONS, LB_MODES
from ctctl.config.fields import Network, parse_network
from ctctl.config.node import NodeFile, PolicyRule
from ctctl.config.service import PROTOCOLS
from ctctl.decode.ct import table_name
from ctctl.errors import NotFoundError, UsageError
from ctctl.model.suggest import unknown_name
from ctctl.node.tables import map_sizes

if TYPE_CHECKING:
    from ctctl.simulate.simulator import Simulator

#: What ``--with`` can change of a node that is ours, and the values each takes.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "lb.mode": LB_MODES,
    "lb.algorithm": ("maglev", "random"),
    "lb.dispatch": ("geneve", "opt"),
    "lb.no-backend": ("reject", "drop"),
    "lb.acceleration": ACCELERATIONS,
    "lb.socket": ("false",),
    "routing": ("native", "tunnel"),
    "masquerade.ipv4": ("true", "false"),
    "masquerade.ipv6": ("true", "false"),
    "accounting": ("true", "false"),
}
_RULE: Final = "a rule reads 'allow|deny ingress|egress POD [identity=N|cidr=C] [port=N] [protocol=TCP]'"
#: Strangers of a full table: nobody's addresses (RFC 1112), by IP version.
_STRANGER: Final = {4: bytes.fromhex("f0"), 6: bytes.fromhex("3fff")}
_BATCH: Final = 1 << 16


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """``--with KEY=VALUE``, by key. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key or not value:
            raise UsageError(f"--with {text!r}: write KEY=VALUE, e.g. lb.mode=dsr")
        found[key] = value
    return found


def with_settings(nf: NodeFile, given: Mapping[str, str]) -> NodeFile:
    """The node file in another mode. Raises UsageError for a setting that a node of ours does not have."""
    for key, value in given.items():
        if key not in CHOICES:
            raise UsageError(f"--with: {unknown_name('setting', key, CHOICES)}")
        if value not in CHOICES[key]:
            raise UsageError(f"--with {key}={value}: {unknown_name('value', value, CHOICES[key])}")
        datapath, on = nf.datapath, value == "true"
        match key.split("."):
            case ["lb", "socket"]:
                changed = replace(datapath, lb=replace(datapath.lb, socket=None))
            case ["lb", name]:
                word: dict[str, Any] = {name.replace("-", "_"): value}
                changed = replace(datapath, lb=replace(datapath.lb, **word))
            case ["masquerade", family]:
                changed = replace(datapath, masquerade=replace(datapath.masquerade, **{family: on}))
            case ["accounting"]:
                changed = replace(datapath, accounting=on)
            case _:
                changed = replace(datapath, routing=value)
        nf = replace(nf, datapath=changed)
    return nf


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One ``--policy``: a rule of the pod called (or addressed) ``pod``."""

    pod: str
    direction: str
    deny: bool
    identity: int | None = None
    cidr: Network | None = None
    port: int = 0
    protocol: int = 0


def parse_rule(text: str) -> RuleChange:
    """One ``--policy``, e.g. ``deny ingress web cidr=10.64.0.0/24 port=8000 protocol=TCP``. Raises UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--policy {text!r}: {error}") from None
    if len(words) < 3 or words[0] not in ("allow", "deny") or words[1] not in ("ingress", "egress"):
        raise UsageError(f"--policy {text!r}: {_RULE}")
    change = RuleChange(words[2], words[1], words[0] == "deny")
    for word in words[3:]:
        key, _, value = word.partition("=")
        try:
            match key:
                case "cidr":
                    change = replace(change, cidr=parse_network(value))
                case "identity":
                    change = replace(change, identity=_number(value, (1 << 32) - 1))
                case "port":
                    change = replace(change, port=_number(value, 65535))
                case "protocol" if value.upper() in PROTOCOLS:
                    change = replace(change, protocol=PROTOCOLS[value.upper()])
                case _:
                    raise ValueError(f"unknown word {word!r}")
        except ValueError as error:
            raise UsageError(f"--policy {text!r}: {error}; {_RULE}") from None
    if change.identity is not None and change.cidr is not None:
        raise UsageError(f"--policy {text!r}: a rule names its peer by identity or by cidr, not by both")
    return change


def _number(text: str, high: int) -> int:
    number = int(text)
    if not 0 < number <= high:
        raise ValueError(f"{text} is not in 1..{high}")
    return number


def with_rules(nf: NodeFile, changes: Iterable[RuleChange]) -> NodeFile:
    """The node file with these rules too; those of pods of other nodes change nothing here.

    A denial takes from what is allowed. An allowance in a direction without rules is its first one: as in
    Kubernetes nothing else is allowed there then.
    """
    rules = list(nf.policy)
    for change in changes:
        endpoint = nf.endpoint(change.pod)
        if endpoint is None:
            continue
        there = any((rule.endpoint, rule.direction) == (endpoint.name, change.direction) for rule in rules)
        if change.deny and not there:
            rules.append(PolicyRule(endpoint.name, change.direction))
        rules.append(
            PolicyRule(
                endpoint.name,
                change.direction,
                change.identity,
                change.cidr,
                change.port,
                change.protocol,
                change.deny,
            )
        )
    return replace(nf, policy=tuple(rules))


def check_pods(files: Iterable[NodeFile], changes: Iterable[RuleChange]) -> None:
    """Refuse a rule of a pod that no node has. Raises NotFoundError."""
    files = tuple(files)
    for change in changes:
        if not any(nf.endpoint(change.pod) for nf in files):
            known = (endpoint.name for nf in files for endpoint in nf.endpoints)
            raise NotFoundError("--policy: " + unknown_name("pod", change.pod, known))


def fill_up(simulator: Simulator, version: int, proto: int) -> dict[str, int]:
    """Fill the tables that a packet's connection would be in with strangers' entries, to the last place.

    What is there already counts as least recently used. How many of those the table let go, by its name.
    """
    simulator.load()
    evicted: dict[str, int] = {}
    for name in (table_name(version, proto), pins.SNAT_TABLES[version]):
        table = simulator.maps.get(name)
        if table is None:
            continue
        before = {key for key, _ in simulator.maps.entries(name)}
        for keys, values in _strangers(name, map_sizes(simulator.nf)[name], proto, simulator.now):
            table.update_batch(keys, values)
        evicted[name] = sum(table.lookup(key) is None for key in before)
    return evicted


def _strangers(name: str, count: int, proto: int, now: int) -> Iterator[tuple[bytes, bytes]]:
    version = 4 if name in (pins.CT4_TCP, pins.CT4_ANY, pins.SNAT4) else 6
    width, size = (4, 40) if version == 4 else (16, 56)
    nat = name in pins.SNAT_TABLES.values()
    value = bytes(size) if nat else bytes(32) + (now + 8000).to_bytes(4, "little") + bytes(20)
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        keys = b"".join(
            _STRANGER[version]
            + number.to_bytes(width - len(_STRANGER[version]), "big")
            + bytes(width)
            + bytes.fromhex("00500050")
            + bytes((proto, 0))
            for number in numbers
        )
        yield keys, value * len(numbers)
