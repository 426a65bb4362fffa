"""A scenario: a node file with steps (docs/scenarios.md). Every step is checked before the first one runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeAlias

from ctctl.config.fields import Address, Fields, Network, hint, parse_ip, parse_ipv4, parse_network, parse_seconds
from ctctl.config.node import NodeFile, load_node_file
from ctctl.config.service import Backend, Service, assign_ids, parse_backend, parse_service
from ctctl.config.yamltree import Item
from ctctl.errors import UsageError
from ctctl.model.event import PACKET_HOOKS, Hook
from ctctl.model.identity import WORLD
from ctctl.model.service import BACKEND_STATES
from ctctl.model.units import decimal
from ctctl.packet.geneve import Geneve, dsr_option
from ctctl.packet.spec import PacketSpec
from ctctl.packet.text import parse_packet_text

_PACKET_KEYS = (
    *("hook", "endpoint", "packet", "packet-hex", "geneve", "random", "identity", "mark"),
    *("advance", "expect", "note"),
)
_GENEVE_KEYS = ("vni", "dsr", "option-hex", "remote")
#: bytes of options that a Geneve header can have: 63 words
_LONGEST_OPTION = 252
_DEFAULT_REMOTE = IPv4Address("10.0.0.254")


@dataclass(frozen=True, slots=True)
class Step:
    """What every step has: where it stands, a remark, how far the clock moves first, and what must hold after it.

    ``number`` counts from 1. ``expect`` maps dotted paths into the step's JSON to values; None: nothing.
    """

    number: int
    line: int
    note: str
    advance: int
    expect: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PacketStep:
    """One packet at one hook: either the whole ``frame`` or what is to be built."""

    step: Step
    hook: Hook
    frame: bytes | None
    packet: PacketSpec | None
    endpoint: str | None = None
    identity: int | None = None
    mark: int = 0
    geneve: Geneve | None = None
    random: int = 0


@dataclass(frozen=True, slots=True)
class AdvanceStep:
    """The clock moves."""

    step: Step


@dataclass(frozen=True, slots=True)
class ServiceStep:
    """A service (by name) gets other backends, as ``apply`` would do it."""

    step: Step
    name: str
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class GcStep:
    """Garbage collection; with ``endpoint`` the scrub after that address went away."""

    step: Step
    endpoint: Address | None = None


@dataclass(frozen=True, slots=True)
class OpStep:
    """One change of a table; ``args`` are the keys of docs/scenarios.md, parsed."""

    step: Step
    op: str
    args: dict[str, Any]


AnyStep: TypeAlias = PacketStep | AdvanceStep | ServiceStep | GcStep | OpStep


@dataclass(frozen=True, slots=True)
class Scenario:
    """A node and what happens to it."""

    node: NodeFile
    steps: tuple[AnyStep, ...]


def load_scenario(path: str | Path, node: str | None = None) -> Scenario:
    """The scenario at ``path``. Raises ConfigError with file, line and the offending value."""
    return scenario_of(load_node_file(path, node))


def scenario_of(nf: NodeFile) -> Scenario:
    """The node file's steps, parsed. Raises ConfigError."""
    return Scenario(nf, tuple(_step(item, number, nf) for number, item in enumerate(nf.steps, 1)))


_Reader = Callable[[Fields, str], Any]


def _number(low: int, high: int) -> _Reader:
    return lambda fields, key: fields.integer(key, low=low, high=high)


def _address(fields: Fields, key: str) -> Address:
    return fields.parsed(key, parse_ip)


def _network(fields: Fields, key: str) -> Network:
    return fields.parsed(key, parse_network)


def _bytes(fields: Fields, key: str) -> bytes:
    return fields.parsed(key, _frame)


def _state(fields: Fields, key: str) -> str:
    return fields.choice(key, BACKEND_STATES, "active")


def _service_argument(fields: Fields, key: str) -> Service:
    if key not in fields:
        raise fields.item.error(f"{fields.what}: {key} is missing")
    return assign_ids([parse_service(fields.item.entries[key])])[0]


_ID, _PORT = _number(1, 0xFFFFFFFF), _number(0, 65535)
#: operation -> its keys and how each is read
_OPS: dict[str, dict[str, _Reader]] = {
    "backend_del": {"backend_id": _ID},
    "backend_set": {"backend_id": _ID, "ip": _address, "port": _PORT, "state": _state},
    "service_set": {"service": _service_argument},
    "service_del": {"addr": _address, "port": _PORT},
    "revnat_del": {"rev_nat_id": _PORT},
    "affmatch_del": {"backend_id": _ID, "rev_nat_id": _PORT},
    "snat_clear": {},
    "snat_add": {"key_hex": _bytes, "value_hex": _bytes},
    "snat_del": {"key_hex": _bytes},
    "ct_del": {"key_hex": _bytes},
    "srcrange_add": {"rev_nat_id": _PORT, "cidr": _network},
    "policy_del": {"endpoint_id": _number(1, 0xFFFF), "egress": _number(0, 1)},
}
_KINDS = ("hook", "op", "service", "gc", "advance")


def _step(item: Item, number: int, nf: NodeFile) -> AnyStep:
    if item.kind != "map":
        raise item.error(f"step {number}: expected a mapping, not {item.shown}")
    kind = next((kind for kind in _KINDS if kind in item.entries), None)
    what = f"step {number}"
    match kind:
        case "hook":
            return _packet_step(Fields(item, what, _PACKET_KEYS), number, nf)
        case "op":
            return _op_step(item, number)
        case "service":
            return _service_step(Fields(item, what, ("service", "backends", "advance", "expect", "note")), number, nf)
        case "gc":
            fields = Fields(item, what, ("gc", "advance", "expect", "note"))
            inner = Fields(fields.mapping("gc"), f"{what}: gc", ("endpoint",))
            return GcStep(_common(fields, number), inner.parsed("endpoint", parse_ip, None))
        case "advance":
            return AdvanceStep(_common(Fields(item, what, ("advance", "expect", "note")), number))
    first = next(iter(item.entries), "")
    raise item.error(f"{what}: {first!r} is no kind of step ({', '.join(_KINDS)}); {hint(first, _KINDS)}")


def _common(fields: Fields, number: int) -> Step:
    expect = fields.mapping("expect").plain() if "expect" in fields else None
    advance = fields.parsed("advance", parse_seconds, 0)
    return Step(number, fields.item.line, fields.parsed("note", str, ""), advance, expect)


def _packet_step(fields: Fields, number: int, nf: NodeFile) -> PacketStep:
    if ("packet" in fields) == ("packet-hex" in fields):
        raise fields.item.error(f"{fields.what}: give either packet or packet-hex")
    endpoint = fields.parsed("endpoint", str, None)
    if endpoint is not None and nf.endpoint(endpoint) is None:
        known = [endpoint.name for endpoint in nf.endpoints]
        raise fields.error("endpoint", f"no endpoint is called {endpoint!r}; {hint(endpoint, known)}")
    if "identity" in fields and "mark" in fields:
        raise fields.error("mark", "identity is a mark already: give one of them")
    return PacketStep(
        step=_common(fields, number),
        hook=Hook(fields.choice("hook", [hook.value for hook in PACKET_HOOKS])),
        frame=fields.parsed("packet-hex", _frame, None),
        packet=fields.parsed("packet", _packet, None),
        endpoint=endpoint,
        identity=fields.optional_integer("identity", high=0xFFFFFF),
        mark=fields.integer("mark", 0),
        geneve=_geneve(Fields(fields.mapping("geneve"), f"{fields.what}: geneve", _GENEVE_KEYS), nf)
        if "geneve" in fields
        else None,
        random=fields.integer("random", 0),
    )


def _frame(text: str) -> bytes:
    try:
        frame = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not hexadecimal") from None
    if not frame:
        raise ValueError("is empty")
    return frame


def _option(text: str) -> bytes:
    option = _frame(text)
    if len(option) > _LONGEST_OPTION or len(option) % 4:
        raise ValueError(f"{len(option)} bytes: options are words of 4 bytes, at most {_LONGEST_OPTION} here")
    return option


def _packet(text: str) -> PacketSpec:
    try:
        return parse_packet_text(text)
    except UsageError as err:
        raise ValueError(str(err)) from None


def _geneve(fields: Fields, nf: NodeFile) -> Geneve:
    options = fields.parsed("option-hex", _option, b"")
    if "dsr" in fields:
        if options:
            raise fields.error("dsr", "is an option already: give either dsr or option-hex")
        options = fields.parsed("dsr", _dsr)
    remote = fields.parsed("remote", parse_ipv4, _DEFAULT_REMOTE)
    return Geneve(remote, nf.node.ip, fields.integer("vni", WORLD, high=0xFFFFFF), options)


def _dsr(text: str) -> bytes:
    address, _, port = text.rpartition(":")
    number = decimal(port, 0xFFFF)
    if not number:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return dsr_option(parse_ip(address.removeprefix("[").removesuffix("]")), number)


def _service_step(fields: Fields, number: int, nf: NodeFile) -> ServiceStep:
    name = fields.text("service")
    known = [service.name for service in nf.services]
    if name not in known:
        raise fields.error("service", f"no service is called {name!r}; {hint(name, known)}")
    if "backends" not in fields:
        raise fields.item.error(f"{fields.what}: backends is missing")
    return ServiceStep(
        _common(fields, number), name, tuple(parse_backend(backend) for backend in fields.sequence("backends"))
    )


def _op_step(item: Item, number: int) -> OpStep:
    op = item.entries["op"].text
    what = f"step {number}: {op}"
    if op not in _OPS:
        raise item.entries["op"].error(f"step {number}: unknown op {op!r}; {hint(op, _OPS)}")
    fields = Fields(item, what, ("op", "advance", "expect", "note", *_OPS[op]))
    return OpStep(_common(fields, number), op, {key: read(fields, key) for key, read in _OPS[op].items()})
