"""Which Cilium runs on this node. None of its maps carries BTF (docs/reference/real-nodes.md).

Evidence, best first: the agent's API, ``struct ct_entry`` in the objects it compiled, the names of its
pinned maps, the entries themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from ctctl.abi import pins
from ctctl.decode.ct import TUPLE_IN, TUPLE_SERVICE, layout_of_fields
from ctctl.errors import CtctlError
from ctctl.model.entry import CtFlags
from ctctl.model.version import FIRST_MINOR, LAST_MINOR, CiliumVersion, version_in, versions_of_layout
from ctctl.node import agent
from ctctl.node.find import CILIUM_GLOBALS

#: The first version that pins a map of this name; one that ends in "_" is the beginning of names.
_SINCE: Final = {
    pins.PERCPU_TRACE_ID: 19,
    pins.L2_RESPONDER6: 19,
    pins.IPCACHE_V2: 18,
    pins.CILIUM_POLICY_V2: 17,
    pins.CILIUM_POLICY_STATS: 17,
    pins.RATELIMIT_METRICS: 17,
    pins.SNAT4_RETRIES: 17,
    pins.NODE_IDS_V2: 16,
    pins.SKIP_LB4: 16,
    pins.SKIP_LB6: 16,
    pins.RATELIMIT: 16,
}
#: The last version that pins it.
_UNTIL: Final = {pins.TUNNELS: 16, pins.NODE_IDS: 16, pins.IPCACHE: 17}
#: Maps that every version has from then on: without any of them the node is older.
_ALWAYS: Final = {
    16: (pins.NODE_IDS_V2, pins.SKIP_LB4, pins.SKIP_LB6, pins.RATELIMIT),
    19: (pins.PERCPU_TRACE_ID, pins.L2_RESPONDER6),
}
#: What shows that the whole of a node's maps is there, so that a missing one means something.
_COMPLETE: Final = frozenset({pins.ENDPOINTS, pins.RUNTIME_CONFIG})

_MAX_OBJECT: Final = 64 << 20


def is_this_nodes(directory: Path) -> bool:
    """Whether a directory is where this machine's agent pins its maps, so that its state tells about them."""
    return directory.parts[-2:] == CILIUM_GLOBALS.parts


def identify(names: Collection[str], entries: Iterable[tuple[bytes, bytes]], *, here: bool) -> CiliumVersion | None:
    """The version behind a directory with maps of these names and these conntrack entries (a sample).

    ``here``: the maps are this node's own, so its agent may be asked. None where nothing tells.
    """
    by_names = version_of_names({*names, *(_missing_names() if here else ())})
    if here:
        found = version_of_agent() or _of_objects(by_names)
        if found is not None:
            return found
    by_entries = version_of_entries(entries)
    if by_names is None or by_entries is None:
        return by_names or by_entries
    return _both(by_names, by_entries)


def _missing_names() -> set[str]:
    """Names that a node whose IPv6 is off would have but for that, by what its agent's configuration knows of."""
    config = agent.runtime_config()
    if config is None or config[0].get("EnableIPv6") is not False:
        return set()
    # The option of the feature that has its values in this map.
    return {pins.PERCPU_TRACE_ID} if "IPTracingOptionType" in config[0] else set()


def _both(first: CiliumVersion, second: CiliumVersion) -> CiliumVersion:
    """What two pieces of evidence leave; the first where they contradict each other."""
    low, high = max(first.low, second.low), min(first.high, second.high)
    if low > high:
        return first._replace(evidence=f"{first.evidence} ({second.evidence} say {second})")
    if (low, high) == (first.low, first.high):
        return first
    return CiliumVersion(low, high, f"{first.evidence} and {second.evidence}")


def version_of_agent() -> CiliumVersion | None:
    """What the agent's API answers: in its health where it was built with a version, else in its debug information."""
    health = agent.ask("/healthz")
    if not isinstance(health, dict):
        return None
    state = health.get("cilium")
    message = state.get("msg") if isinstance(state, dict) else None
    found = version_in(message, "the agent's API") if isinstance(message, str) else None
    if found is not None:
        return found
    debug = agent.ask("/debuginfo")
    text = debug.get("cilium-version") if isinstance(debug, dict) else None
    return version_in(text, "the agent's API") if isinstance(text, str) else None


def _of_objects(by_names: CiliumVersion | None) -> CiliumVersion | None:
    """By ``struct ct_entry`` in the objects under the agent's state; names choose among versions of one layout."""
    from ctctl.abi.check import field_names
    from ctctl.btf import Btf, Kind
    from ctctl.btf.elf import btf_section

    for path in agent.state_objects():
        image = agent.read_limited(path, _MAX_OBJECT)
        if image is None:
            continue
        with contextlib.suppress(CtctlError):
            btf = Btf(btf_section(image))
            entry = btf.find("ct_entry", Kind.STRUCT)
            layout = layout_of_fields(field_names(btf, entry.id)) if entry is not None else None
            if layout is not None:
                found = versions_of_layout(layout, f"struct ct_entry in {path}")
                if layout.split_counters:  # BTF cannot tell 1.14 from 1.15
                    found = found._replace(low=FIRST_MINOR)
                return _both(found, by_names) if by_names is not None else found
    return None


def version_of_names(names: Collection[str]) -> CiliumVersion | None:
    """By the names of the pinned maps, None where none of them tells."""
    low, high, told = FIRST_MINOR, LAST_MINOR, False

    def has(name: str) -> bool:
        return any(one.startswith(name) for one in names) if name.endswith("_") else name in names

    for name, minor in _SINCE.items():
        if has(name):
            low, told = max(low, minor), True
    for name, minor in _UNTIL.items():
        if has(name) and minor >= low:
            high, told = min(high, minor), True
    if set(names) >= _COMPLETE:
        for minor, always in _ALWAYS.items():
            if minor > low and not any(has(name) for name in always):
                high, told = min(high, minor - 1), True
    if high <= 15 and told:  # pinned up to 1.14 on every node, later only where IPsec is on
        low = high = FIRST_MINOR if has(pins.ENCRYPT) else max(low, 15)
    return CiliumVersion(low, max(low, high), "the names of the pinned maps") if told else None


def version_of_entries(entries: Iterable[tuple[bytes, bytes]]) -> CiliumVersion | None:
    """By what stands in the first and the last changing bytes of conntrack entries, None where nothing does.

    Bytes 0-7 count packets received up to 1.15 and are zero from 1.16 on, but for DSR entries of 1.19, which
    hold an address there, and a port in bytes 40-41.
    """
    counted = silent = translated = False
    for key, value in entries:
        if key[-1] & TUPLE_SERVICE:
            continue
        flags = int.from_bytes(value[36:38], "little")
        if flags & CtFlags.DSRInternal and not key[-1] & TUPLE_IN:
            translated = translated or (any(value[:16]) and any(value[40:42]))
        elif any(value[:8]):
            counted = True
        elif value[52:56] != bytes(4):
            silent = True
    if counted:
        return CiliumVersion(FIRST_MINOR, 15, "the entries")
    if translated:
        return CiliumVersion(19, LAST_MINOR, "the entries")
    return CiliumVersion(16, LAST_MINOR, "the entries") if silent else None
