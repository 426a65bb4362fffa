"""Changing a loaded node in place: pods that come, go and change, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.kernel.map import Map
from ctctl.node.attach import AttachMode
from ctctl.node.loader import load
from ctctl.node.record import MAP_NAME, read_record, write_record
from ctctl.node.unload import unload
from ctctl.node.update import plan_update, update
from tests.support.loaded import attached_ids, config_tables, entries, map_ids, put_entries, status
from tests.support.nodes import TestNode, make_node
from tests.support.standin import stand_ins

pytestmark = pytest.mark.kernel


@pytest.fixture
def node() -> Iterator[TestNode]:
    with stand_ins(), make_node(pods=2) as made:
        yield made
        if made.dir.exists():
            unload(made.name)


def one_pod(node: TestNode) -> dict[str, Any]:
    return {"endpoints": node.document()["endpoints"][:1]}


@pytest.mark.parametrize("mode", [AttachMode.tcx, AttachMode.tc])
def test_pods_come_and_go(node: TestNode, mode: AttachMode) -> None:
    load(node.request(request={"attach": mode}, **one_pod(node)))
    put_entries(node, [100])
    before, maps = attached_ids(node), map_ids(node)
    report = update(node.request())
    assert (len(report.attached), report.replaced, report.detached) == (2, (), ())
    after = attached_ids(node)
    # The programs of the other pod and of the device are not touched, nor is any table exchanged.
    assert {slot: after[slot] for slot in before} == before
    assert len(after) == 6
    assert {name: number for name, number in map_ids(node).items() if name != "ctctl_node"} == {
        name: number for name, number in maps.items() if name != "ctctl_node"
    }
    report = update(node.request(**one_pod(node)))
    assert (report.attached, report.replaced, len(report.detached)) == ((), (), 2)
    assert attached_ids(node) == before
    assert list(entries(node).values()) == [100]
    assert status(node).problems == ()


def test_a_changed_pod_gets_other_programs(node: TestNode) -> None:
    load(node.request())
    before = attached_ids(node)
    document = node.document()
    document["endpoints"][0]["identity"] = 4001
    report = update(node.request(**document))
    assert len(report.replaced) == 2
    changed = {slot for slot, number in attached_ids(node).items() if before[slot] != number}
    assert changed == set(report.replaced)


def test_tables_afterwards_are_those_of_a_fresh_load(node: TestNode) -> None:
    load(node.request())
    document = node.document(**one_pod(node))
    document["services"] = [{"ip": "10.68.0.2", "port": 81, "backends": [{"ip": "10.244.8.9", "port": 1}]}]
    document["policy"] = [{"endpoint": "pod1", "direction": "ingress", "cidr": "10.0.0.0/8", "port": 81}]
    update(node.request(**document))
    updated = config_tables(node)
    unload(node.name)
    load(node.request(**document))
    assert updated == config_tables(node)
    assert plan_update(node.request(**document)).empty


def test_a_plan_and_a_refusal_change_nothing(node: TestNode) -> None:
    load(node.request())
    before = (config_tables(node), attached_ids(node))
    assert len(plan_update(node.request(**one_pod(node))).detached) == 2
    assert update(node.request(**one_pod(node)), lambda report: report.empty).planned
    assert (config_tables(node), attached_ids(node)) == before


def test_what_does_not_fit_is_refused(node: TestNode) -> None:
    load(node.request())
    # A table with room for what is in it and one more takes the place of the node's own.
    path = node.dir / "cilium_lb4_backends_v3"
    with Map.open_pinned(path) as table:
        info = table.info
        path.unlink()
        with Map.create("small", info.type, info.key_size, info.value_size, 2, flags=info.map_flags) as small:
            for key, value in table.items():
                small.update(key, value)
            small.pin(path)
            record = read_record(node.dir / MAP_NAME)
            assert record is not None
            (node.dir / MAP_NAME).unlink()
            write_record(node.dir / MAP_NAME, replace(record, maps=record.maps | {path.name: small.info.id}))
    before = config_tables(node)
    backends = [{"ip": f"10.244.8.{number}", "port": 1} for number in range(1, 5)]
    many = [{"ip": "10.68.0.1", "port": 80, "id": 15, "backends": backends}]
    with pytest.raises(CtctlError, match="cilium_lb4_backends_v3 holds 2 entries, changing it in place needs 5"):
        update(node.request(services=many))
    assert config_tables(node) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accounting": True}, "accounting changes from 0 to 1: that takes ctctl load"),
        ({"ct": {"tcp-max": 8192, "any-max": 4096, "snat-max": 4096}}, "cilium_ct4_global changes from 4096 to 8192"),
        ({"lb": {"maglev-table-size": 1021}}, "maglev_size changes from 251 to 1021"),
    ],
)
def test_settings_of_the_node_take_a_load(node: TestNode, changes: dict[str, Any], message: str) -> None:
    load(node.request())
    datapath = {**node.document()["datapath"], **changes}
    with pytest.raises(UsageError, match=message):
        update(node.request(datapath=datapath))


def test_a_node_that_is_not_loaded(node: TestNode) -> None:
    with pytest.raises(NotFoundError, match="no node"):
        update(node.request())
    load(node.request())
    (node.dir / "ctctl_node").unlink()
    with pytest.raises(NotFoundError, match="is not completely loaded: run ctctl load first"):
        update(node.request())
