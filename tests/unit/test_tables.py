"""What a node file becomes: records byte for byte (against the layouts generated from BTF), rodata, sizes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from ctctl.abi import layouts
from ctctl.config.node import NodeFile
from ctctl.kernel.object import BpfObject
from ctctl.node import records as rec
from ctctl.node import tables as t
from ctctl.node.maglev import shares
from ctctl.node.slots import object_name
from ctctl.simulate.simulator import OBJECTS
from tests.support.nodefile import parse_node_file

HEAD = """\
node: {name: node1, ip: 10.1.0.1, pod-cidr: 10.64.0.0/24, device: {name: eth0, ifindex: 10, mac: "02:00:00:00:01:01"},
  overlay: {name: cilium_geneve, ifindex: 14}}
endpoints:
  - {name: pod1, ip: 10.64.0.36, id: 1001, identity: 20001, ifindex: 21,
     mac: 02:00:00:00:03:02, node-mac: 02:00:00:00:03:01}
"""


def node(rest: str = "") -> NodeFile:
    return parse_node_file(HEAD + rest)


def ip(text: str) -> int:
    return int(IPv4Address(text))


def service(text: str, backends: str = "") -> NodeFile:
    return node(f"services:\n  - {{name: s, port: 80, id: 7, {text}, backends: [{backends}]}}\n")


LOCAL = "{id: 1, ip: 10.64.0.36, port: 8080}"
REMOTE = "{id: 258, ip: 10.64.1.64, port: 8080}"


def test_records_have_the_generated_layout() -> None:
    address, cidr = IPv4Address("10.96.0.10"), IPv4Network("192.0.2.0/24")
    assert rec.service_key(address, 443, 3, 1) == bytes(
        layouts.lb4_key(address=ip("10.96.0.10"), dport=443, backend_slot=3, proto=0, scope=1)
    )
    assert rec.frontend_value(300, 2, 15, 16, 32, qcount=1) == bytes(
        layouts.lb4_service(backend_id=300, count=2, rev_nat_index=15, flags=16, flags2=32, qcount=1)
    )
    assert rec.slot_value(77, 15, 96, 2) == bytes(
        layouts.lb4_service(backend_id=77, rev_nat_index=15, flags=96, flags2=2)
    )
    assert rec.backend_value(address, 8080, 6, 1) == bytes(
        layouts.lb4_backend(address=ip("10.96.0.10"), port=8080, proto=6, flags=1)
    )
    assert rec.rev_nat_value(address, 80) == bytes(layouts.lb4_reverse_nat(address=ip("10.96.0.10"), port=80))
    assert rec.affinity_match_key(5, 15) == bytes(layouts.lb_affinity_match(backend_id=5, rev_nat_id=15))
    assert rec.endpoint_key(address) == bytes(layouts.endpoint_key(addr=address.packed, family=1))
    mac, node_mac = "02:00:00:00:03:02", "02:00:00:00:03:01"
    assert rec.endpoint_info(21, 1001, 20001, mac, node_mac) == bytes(
        layouts.endpoint_info(
            ifindex=21, lxc_id=1001, sec_id=20001, mac=rec.mac_bytes(mac), node_mac=rec.mac_bytes(node_mac)
        )
    )
    assert rec.ipcache_key(cidr) == bytes(layouts.ipcache_key(prefixlen=56, family=1, addr=cidr.network_address.packed))
    assert rec.remote_info(30001, address) == bytes(
        layouts.remote_endpoint_info(sec_identity=30001, tunnel_endpoint=ip("10.96.0.10"))
    )
    assert rec.policy_key(1001, True, 2, 53, 17) == bytes(
        layouts.ctctl_policy_key(endpoint_id=1001, identity=2, dport=53, proto=17, egress=1)
    )
    assert rec.policy_value(True) == bytes(layouts.ctctl_policy_entry(deny=1))
    raw = layouts.lb4_src_range_key.from_buffer_copy(rec.source_range_key(15, cidr))
    assert (raw.prefixlen, raw.addr, bytes(raw)[4:6]) == (56, ip("192.0.2.0"), b"\0\x0f")


@pytest.mark.parametrize(
    ("text", "flags", "flags2"),
    [
        ("type: ClusterIP, ip: 10.96.0.10", 0, 0),
        ("type: ClusterIP, ip: 10.96.0.10, affinity: 30s", 16, 0),
        ("type: LoadBalancer, ip: 172.16.0.10", 96, 0),
        ("type: LoadBalancer, ip: 172.16.0.10, affinity: 40", 112, 0),
        ("type: LoadBalancer, ip: 172.16.0.10, source-ranges: [192.0.2.0/24]", 224, 0),
        ("type: LoadBalancer, ip: 172.16.0.10, external-traffic-policy: Local", 100, 32),
        ("type: NodePort, ip: 10.1.0.1", 66, 0),
        ("type: ExternalIPs, ip: 203.0.113.1", 65, 0),
        ("type: externalIP, ip: 203.0.113.1", 65, 0),
        ("type: HostPort, ip: 10.1.0.1", 72, 0),
        ("type: LoadBalancer, ip: 172.16.0.10, flags: 3, flags2: 4", 3, 4),
    ],
)
def test_flags_by_type(text: str, flags: int, flags2: int) -> None:
    nf = service(text, LOCAL)
    assert t.service_flags(nf.services[0]) == (flags, flags2)
    value = t.table_records(nf)[t.SERVICES][rec.service_key(nf.services[0].ip, 80, 0, 0)]
    assert layouts.lb4_service.from_buffer_copy(value).flags == flags


def frontend(nf: NodeFile, scope: int = 0) -> layouts.lb4_service:
    records = t.table_records(nf)[t.SERVICES]
    return layouts.lb4_service.from_buffer_copy(records[rec.service_key(nf.services[0].ip, 80, 0, scope)])


def slots(nf: NodeFile, scope: int = 0) -> list[int]:
    records = t.table_records(nf)[t.SERVICES]
    found = []
    while (value := records.get(rec.service_key(nf.services[0].ip, 80, len(found) + 1, scope))) is not None:
        found.append(layouts.lb4_service.from_buffer_copy(value).backend_id)
    return found


def test_slots_are_in_the_files_order_and_counted() -> None:
    nf = service("ip: 10.96.0.10, affinity: 300s", f"{REMOTE}, {LOCAL}")
    assert slots(nf) == [258, 1]
    assert (frontend(nf).count, frontend(nf).qcount, frontend(nf).backend_id) == (2, 0, 300)
    records = t.table_records(nf)
    assert set(records[t.AFFINITY_MATCH]) == {rec.affinity_match_key(1, 7), rec.affinity_match_key(258, 7)}
    assert set(records[t.BACKENDS]) == {rec.backend_key(1), rec.backend_key(258)}
    assert records[t.REVERSE_NAT] == {b"\0\x07": rec.rev_nat_value(IPv4Address("10.96.0.10"), 80)}


def test_only_active_backends_count() -> None:
    draining = REMOTE.replace("8080", "8080, state: terminating")
    nf = service("ip: 10.96.0.10", f"{draining}, {LOCAL}")
    assert slots(nf) == [1, 258]
    assert (frontend(nf).count, frontend(nf).qcount) == (1, 1)
    backend = layouts.lb4_backend.from_buffer_copy(t.table_records(nf)[t.BACKENDS][rec.backend_key(258)])
    assert backend.flags == layouts.CtctlBackendState.BACKEND_TERMINATING


def test_terminating_backends_serve_when_none_is_active() -> None:
    nf = service(
        "ip: 10.96.0.10",
        f"{REMOTE.replace('8080', '8080, state: terminating')}, {LOCAL.replace('8080', '8080, state: quarantined')}",
    )
    assert slots(nf) == [258, 1]
    assert (frontend(nf).count, frontend(nf).qcount) == (1, 1)


def test_external_traffic_policy_local_has_two_scopes() -> None:
    nf = service("type: LoadBalancer, ip: 172.16.0.10, external-traffic-policy: Local", f"{REMOTE}, {LOCAL}")
    assert slots(nf, rec.SCOPE_EXTERNAL) == [1]
    assert slots(nf, rec.SCOPE_INTERNAL) == [258, 1]
    assert (frontend(nf, 0).count, frontend(nf, 1).count) == (1, 2)
    # Two scopes, two sets of backends: each has its own rev-NAT id, and Maglev table.
    ids = [frontend(nf, 0).rev_nat_index, frontend(nf, 1).rev_nat_index]
    assert ids == [7, nf.services[0].internal_id]
    assert ids[0] != ids[1]
    records = t.table_records(nf)
    assert set(records[t.REVERSE_NAT]) == {rec.rev_nat_key(number) for number in ids}
    tables = t.maglev_tables(nf)
    assert [set(tables[rec.rev_nat_key(number)].tolist()) for number in ids] == [{1}, {1, 258}]
    assert list(t.maglev_tables(service(nf_text("Local"), REMOTE))) == [rec.rev_nat_key(ids[1])]


def nf_text(policy: str) -> str:
    return f"type: LoadBalancer, ip: 172.16.0.10, external-traffic-policy: {policy}"


def test_a_backend_is_local_by_node_name_where_it_is_given() -> None:
    nf = service(
        "type: LoadBalancer, ip: 172.16.0.10, external-traffic-policy: Local",
        "{id: 1, ip: 10.64.0.36, port: 1, node: node2}, {id: 2, ip: 10.99.0.1, port: 1, node: node1}",
    )
    assert slots(nf, rec.SCOPE_EXTERNAL) == [2]


def test_a_scope_that_is_said_is_the_only_one() -> None:
    nf = service("type: LoadBalancer, ip: 172.16.0.10, scope: internal, flags: 100, flags2: 32", REMOTE)
    assert slots(nf, rec.SCOPE_INTERNAL) == [258]
    assert slots(nf, rec.SCOPE_EXTERNAL) == []


def test_a_service_of_one_scope_is_written_as_it_is_listed() -> None:
    """Which backends count was decided by who wrote the record down."""
    backends = "{id: 1, ip: 10.64.1.1, port: 1, state: quarantined}, {id: 2, ip: 10.64.1.2, port: 1}"
    nf = service("ip: 10.96.0.10, scope: external", backends)
    assert slots(nf) == [1, 2]
    assert (frontend(nf).count, frontend(nf).qcount) == (2, 0)


def ipcache(nf: NodeFile) -> dict[str, tuple[int, int]]:
    found = {}
    for key, value in t.table_records(nf)[t.IPCACHE].items():
        k, v = layouts.ipcache_key.from_buffer_copy(key), layouts.remote_endpoint_info.from_buffer_copy(value)
        found[f"{IPv4Address(key[8:12])}/{k.prefixlen - 32}"] = (v.sec_identity, v.tunnel_endpoint)
    return found


def test_identities_known_without_being_told() -> None:
    assert ipcache(node()) == {"0.0.0.0/0": (2, 0), "10.1.0.1/32": (1, 0), "10.64.0.36/32": (20001, 0)}


def test_the_file_says_who_is_remote_and_wins() -> None:
    nf = node(
        "remote:\n  - {cidr: 10.64.1.0/24, identity: 30001, node: 10.1.0.2}\n  - {cidr: 0.0.0.0/0, identity: 99}\n"
    )
    assert ipcache(nf)["10.64.1.0/24"] == (30001, ip("10.1.0.2"))
    assert ipcache(nf)["0.0.0.0/0"] == (99, 0)


def test_endpoints_and_the_host() -> None:
    records = t.table_records(node())[t.ENDPOINTS]
    pod = layouts.endpoint_info.from_buffer_copy(records[rec.endpoint_key(IPv4Address("10.64.0.36"))])
    host = layouts.endpoint_info.from_buffer_copy(records[rec.endpoint_key(IPv4Address("10.1.0.1"))])
    assert (pod.ifindex, pod.lxc_id, pod.sec_id, pod.flags) == (21, 1001, 20001, 0)
    assert (host.flags, host.ifindex) == (1, 0)


def policy(nf: NodeFile) -> dict[tuple[int, ...], int]:
    found = {}
    for key, value in t.table_records(nf)[t.POLICY].items():
        k = layouts.ctctl_policy_key.from_buffer_copy(key)
        found[k.egress, k.identity, k.dport, k.proto] = value[0]
    return found


def test_without_rules_both_directions_are_open() -> None:
    assert policy(node()) == {(0, 0, 0, 0): 0, (1, 0, 0, 0): 0}


def test_a_rule_closes_its_direction() -> None:
    nf = node("policy: [{endpoint: pod1, direction: egress, identity: 30001, port: 80, protocol: TCP}]\n")
    assert policy(nf) == {(0, 0, 0, 0): 0, (1, 30001, 80, 6): 0}


def test_cidr_peers_get_local_identities() -> None:
    nf = node(
        "policy:\n"
        "  - {endpoint: pod1, direction: egress, cidr: 198.51.100.0/24}\n"
        "  - {endpoint: pod1, direction: egress, cidr: 198.51.0.0/16, port: 443, protocol: TCP}\n"
        "  - {endpoint: pod1, direction: egress, cidr: 203.0.113.0/24, deny: true}\n"
    )
    wide, narrow, denied = 1 << 24, (1 << 24) + 1, (1 << 24) + 2
    entries = ipcache(nf)
    assert entries["198.51.0.0/16"][0] == wide
    assert entries["198.51.100.0/24"][0] == narrow
    # The wide rule covers the narrow CIDR too, which has an identity of its own.
    assert policy(nf) == {
        (0, 0, 0, 0): 0,
        (1, narrow, 0, 0): 0,
        (1, wide, 443, 6): 0,
        (1, narrow, 443, 6): 0,
        (1, denied, 0, 0): 1,
    }


def test_rodata() -> None:
    nf = node("datapath: {accounting: true, timeouts: {regular-tcp-fin: 7s}, lb: {no-backend: drop}}\n")
    values = t.rodata(nf, nf.endpoints[0])
    assert values["cfg_accounting"] == 1
    assert values["cfg_ct_tcp_fin_s"] == 7
    assert values["cfg_no_backend_reject"] == 0
    assert values["cfg_node_ip"] == bytes([10, 1, 0, 1])
    assert values["cfg_ep_mac"] == bytes.fromhex("020000000302")
    assert (values["cfg_ep_id"], values["cfg_ep_identity"], values["cfg_ep_ifindex"]) == (1001, 20001, 21)
    assert not any(name.startswith("cfg_ep") for name in t.rodata(nf))


@pytest.mark.parametrize("version", [4, 6])
def test_rodata_has_every_setting_of_the_programs_and_no_other(version: int) -> None:
    settings: set[str] = set()
    nf = node()
    values = {**t.rodata(nf, nf.endpoints[0], version=version), "cfg_sim": 1}
    for name in ("lxc", "netdev", "overlay"):
        with BpfObject.open(OBJECTS / f"{object_name(name, version)}.bpf.o") as bpf:
            for setting in bpf.config_names():
                bpf.set_config(setting, values[setting])
            settings |= bpf.config_names()
    assert set(values) == settings


def test_hash_seed_is_the_second_word_of_the_agents_seed() -> None:
    # base64 of bytes 0..11
    assert t.hash_seed("AAECAwQFBgcICQoL") == 0x04050607


def test_map_sizes() -> None:
    assert t.map_sizes(node("datapath: {ct: {tcp-max: 1000, any-max: 500, snat-max: 250}}\n")) == {
        "cilium_ct4_global": 1000,
        "cilium_ct_any4_global": 500,
        "cilium_snat_v4_external": 250,
        "cilium_ct6_global": 1000,
        "cilium_ct_any6_global": 500,
        "cilium_snat_v6_external": 250,
    }


def test_maglev_tables_hold_the_backends_new_connections_may_get() -> None:
    nf = service("ip: 10.96.0.10", f"{REMOTE.replace('8080', '8080, state: maintenance')}, {LOCAL}")
    (table,) = t.maglev_tables(nf).values()
    assert len(table) == 16381
    assert set(table.tolist()) == {1}
    assert t.maglev_tables(service("ip: 10.96.0.10")) == {}


def test_maglev_slots_are_shared_by_the_weights_of_the_file() -> None:
    weights = {1: 1, 2: 3, 3: 4}
    text = ", ".join(f"{{id: {n}, ip: 10.64.1.{n}, port: 80, weight: {weight}}}" for n, weight in weights.items())
    (table,) = t.maglev_tables(service("ip: 10.96.0.10", text)).values()
    parts = shares(table)
    assert {number: round(part * 8, 2) for number, part in parts.items()} == weights
