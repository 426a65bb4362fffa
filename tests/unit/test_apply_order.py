"""The order of ``apply``: after every single change of a table, what packets find in the tables makes sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.abi import layouts
from ctctl.config.node import NodeFile
from ctctl.node.diff import BORDERS, Phase, changes
from ctctl.node.write import wanted_tables
from tests.support.nodefile import parse_node_file

SERVICES, BACKENDS, REVERSE = "cilium_lb4_services_v2", "cilium_lb4_backends_v3", "cilium_lb4_reverse_nat"
MAGLEV, LXC, IPCACHE, POLICY = "cilium_lb4_maglev", "cilium_lxc", "cilium_ipcache", "ctctl_policy"

_NODE: dict[str, Any] = {
    "node": {
        "name": "n", "ip": "10.1.0.1", "pod-cidr": "10.64.0.0/24",
        "device": {"name": "eth0", "ifindex": 10, "mac": "02:00:00:00:01:01"},
        "overlay": {"name": "geneve0", "ifindex": 14},
    },
    "datapath": {"lb": {"algorithm": "maglev", "maglev-table-size": 251}},
}  # fmt: skip


def pod(number: int) -> dict[str, Any]:
    return {"name": f"pod{number}", "ip": f"10.64.0.{number}", "id": 1000 + number, "identity": 20000 + number,
            "ifindex": 20 + number, "mac": "02:00:00:00:03:02", "node-mac": "02:00:00:00:03:01"}  # fmt: skip


@st.composite
def node_files(draw: st.DrawFn) -> NodeFile:
    """Two services whose backends, and pods whose policy, are any of a few."""
    services = []
    for number in draw(st.sets(st.integers(1, 2))):
        chosen = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True))
        backends = [{"id": 100 + n, "ip": f"10.64.9.{n}", "port": 80} for n in chosen]
        services.append(
            {"name": f"s{number}", "ip": f"10.68.0.{number}", "port": 80, "id": number, "backends": backends}
        )
    pods = draw(st.sets(st.integers(1, 3), min_size=1))
    rules = [
        {"endpoint": f"pod{n}", "direction": "ingress", "cidr": "10.0.0.0/8", "port": draw(st.sampled_from([80, 81]))}
        for n in sorted(pods)
        if draw(st.booleans())
    ]
    document = {**_NODE, "services": services, "endpoints": [pod(n) for n in sorted(pods)], "policy": rules}
    return parse_node_file(yaml.safe_dump(document), "n.yaml")


def complaints(tables: dict[str, dict[bytes, bytes]]) -> list[str]:
    """What a packet that comes now would find amiss, as the datapath goes through the tables."""
    found = []
    for key, value in tables[SERVICES].items():
        frontend, head = layouts.lb4_key.from_buffer_copy(key), layouts.lb4_service.from_buffer_copy(value)
        if frontend.backend_slot:
            continue
        index = int(head.rev_nat_index)
        if not any(int.from_bytes(number, "big") == index for number in tables[REVERSE]):
            found.append(f"service {index} has no reverse NAT record")
        table = next((v for k, v in tables[MAGLEV].items() if int.from_bytes(k, "big") == index), None)
        if table is None:
            found.append(f"service {index} has no Maglev table")
        for backend in np.unique(np.frombuffer(table or b"", "<u4")).tolist():
            if backend.to_bytes(4, "little") not in tables[BACKENDS]:
                found.append(f"the Maglev table of service {index} names backend {backend}, which is not there")
        for slot in range(1, head.count + 1):
            frontend.backend_slot = slot
            at = tables[SERVICES].get(bytes(frontend))
            if at is None:
                found.append(f"service {index} counts {head.count} backends, slot {slot} is not there")
            elif bytes(at[:4]) not in tables[BACKENDS]:
                found.append(f"slot {slot} of service {index} names a backend that is not there")
    return found


def copy(tables: Any) -> dict[str, dict[bytes, bytes]]:
    return {name: dict(records) for name, records in tables.items()}


@settings(max_examples=60, deadline=None)
@given(node_files(), node_files())
def test_a_live_service_resolves_after_every_single_change(before: NodeFile, after: NodeFile) -> None:
    have, want = copy(wanted_tables(before)), copy(wanted_tables(after))
    assert complaints(have) == complaints(want) == []
    for change in changes(have, want):
        if change.after is None:
            del have[change.table][change.key]
        else:
            have[change.table][change.key] = change.after
        assert complaints(have) == [], change
    assert have == want


@settings(max_examples=60, deadline=None)
@given(node_files(), node_files())
def test_what_names_comes_after_what_is_named_and_goes_before_it(before: NodeFile, after: NodeFile) -> None:
    """Each table's place, written out: a packet under way may have read the naming side just before."""
    coming = [BACKENDS, {REVERSE, POLICY, "cilium_lb_affinity_match", "cilium_lb4_source_range"}, {LXC, IPCACHE},
              MAGLEV, "slots", "frontends"]  # fmt: skip
    going = ["frontends", {"slots", MAGLEV, REVERSE, POLICY, LXC, IPCACHE, "cilium_lb_affinity_match",
                           "cilium_lb4_source_range"}, BACKENDS]  # fmt: skip
    place = -1
    for change in changes(copy(wanted_tables(before)), copy(wanted_tables(after))):
        what = change.table
        if what == SERVICES:
            what = "slots" if layouts.lb4_key.from_buffer_copy(change.key).backend_slot else "frontends"
        order = going if change.after is None else coming
        at = next(i for i, names in enumerate(order) if what == names or (isinstance(names, set) and what in names))
        at += len(coming) if change.after is None else 0
        assert at >= place, f"{change.action} of {what} comes too late"
        place = at


def test_programs_under_way_end_before_anything_is_taken_away() -> None:
    removals = {phase for phase in Phase if phase.name.startswith("REMOVE")}
    assert removals == BORDERS
    assert min(removals) > max(set(Phase) - removals)
