"""Real Cilium nodes of several versions, restored byte for byte: what ctctl says is what their own CLI says."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from ctctl.decode.ct import decode_entry, encode_key
from ctctl.decode.nat import decode_nat
from ctctl.model.entry import Layout
from ctctl.model.tuples import FlowTuple
from tests.support import captures
from tests.support.captures import CapturedNode, captured_node

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture(params=captures.NAMES, scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[CapturedNode]:
    with captured_node(request.param) as found:
        yield found


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_conntrack_lines_are_those_of_that_versions_cli(node: CapturedNode) -> None:
    done = node.done("ct", "list", "-o", "cilium")
    assert lines(done.stdout) == lines(captures.text(node.name, "cli/ct-list-global.txt"))
    assert done.stderr == ""


def test_time_diff_adds_what_is_left_to_the_same_lines(node: CapturedNode) -> None:
    now = int(captures.document(node.name, "maps.json")["monotonic_s"])
    expected = []
    for line in captures.text(node.name, "cli/ct-list-global.txt").splitlines():
        head, mark, rest = line.partition(" expires=")
        lifetime, space, tail = rest.partition(" ")
        left = f" (remaining: {int(lifetime) - now} sec(s))" if mark else ""
        expected.append(f"{head}{mark}{lifetime}{left}{space}{tail}")
    assert lines(node.run("ct", "list", "-o", "cilium", "--time-diff", "--now", str(now))) == sorted(expected)


LISTINGS = {
    "cli/lb-list.txt": ("lb", "list"),
    "cli/lb-list.frontends.txt": ("lb", "list", "--frontends"),
    "cli/lb-list.backends.txt": ("lb", "list", "--backends"),
    "cli/lb-list.revnat.txt": ("lb", "list", "--revnat"),
    "cli/lb-list.source-ranges.txt": ("lb", "list", "--source-ranges"),
    "cli/ipcache-list.txt": ("ipcache", "list"),
    "cli/endpoint-list.txt": ("endpoint", "list"),
    "cli/socknat-list.txt": ("socknat", "list"),
    "cli/tunnel-list.txt": ("tunnel", "list"),
    "cli/policy-all.txt": ("policy", "list"),
}


@pytest.mark.parametrize(
    ("node", "file"),
    [(name, file) for name in captures.NAMES for file in LISTINGS if file in captures.files(name)],
    indirect=["node"],
)
def test_other_lines_are_those_of_that_versions_cli(node: CapturedNode, file: str) -> None:
    done = node.done(*LISTINGS[file], "-o", "cilium")
    assert lines(done.stdout) == lines(captures.text(node.name, file))
    assert done.stderr == ""


def test_nat_lines_are_those_of_that_versions_cli(node: CapturedNode) -> None:
    expected = captures.text(node.name, "cli/nat-list.txt")
    created = {}
    for table in captures.document(node.name, "maps.json")["maps"]:
        if table["pin"].startswith("cilium_snat_v") and table["pin"].endswith("_external"):
            for key, value in table["entries"]:
                entry = decode_nat(bytes.fromhex(key), bytes.fromhex(value))
                created[(str(entry.tuple.src), entry.tuple.src_port, str(entry.tuple.dst))] = entry.created or 0
    # The CLI ran some time after the capture: its now stands in the ages it printed.
    first = expected.splitlines()[0]
    _, _, source, _, target, *_ = first.split()
    host, _, port = source.rpartition(":")
    age = int(first.partition("Created=")[2].partition("sec")[0])
    now = created[(host.strip("[]"), int(port), target.rpartition(":")[0].strip("[]"))] + age
    assert lines(node.run("nat", "list", "-o", "cilium", "--now", str(now))) == lines(expected)


def version_of(name: str) -> str:
    return name.split("-")[1]


def maps_of(name: str) -> dict[str, dict[str, object]]:
    return {table["pin"]: table for table in captures.document(name, "maps.json")["maps"]}


@pytest.mark.parametrize("name", captures.NAMES)
def test_the_version_is_found_without_an_agent_and_said_when_asked(name: str) -> None:
    # As a node is that was restored without its per-CPU maps: names and entries alone tell.
    with captured_node(name, per_cpu=False) as node:
        assert f"Cilium {version_of(name)} by" in node.done("-v", "ct", "list").stderr
        assert f"Cilium {version_of(name)} by" in node.done("nat", "list", "-v").stderr
        assert node.done("nat", "list").stderr == ""
        told = node.json("status")["nodes"][0]
        assert (told["version"], told["owner"]) == (version_of(name), "cilium")


def test_status_describes_the_node(node: CapturedNode) -> None:
    told = node.json("status")["nodes"][0]
    held = {table["name"]: (table["entries"], table["max_entries"]) for table in told["maps"]}
    for pin, about in maps_of(node.name).items():
        if pin in held and about["type"] not in ("array", "percpu_array"):
            assert held[pin] == (len(about["entries"]), about["max_entries"])  # type: ignore[arg-type]
    config = captures.document(node.name, "cmd/agent-runtime-config.json")
    assert told["facts"]["routing"] == config["RoutingMode"]
    services = "dsr" if "dsr" in node.name else "snat"
    assert told["facts"]["services"].startswith(services)
    text = node.run("status")
    assert f"Cilium {version_of(node.name)}" in text
    assert "cilium_ct4_global" in text


def test_drop_counters_are_those_of_the_map(node: CapturedNode) -> None:
    expected = {}
    for key, values in maps_of(node.name)["cilium_metrics"]["entries"]:  # type: ignore[attr-defined]
        raw = bytes.fromhex(key)
        if raw[0] >= 130:
            numbers = [int.from_bytes(bytes.fromhex(value)[:8], "little") for value in values]
            place = (raw[0], int.from_bytes(raw[2:4], "little") or None)
            expected[place] = expected.get(place, 0) + sum(numbers)
    told = node.json("metrics", "drops")["counters"]
    assert {(one["code"], one["line"]): one["packets"] for one in told} == expected
    assert all(one["reason"] != str(one["code"]) for one in told)
    status = node.json("status")["nodes"][0]["counters"]
    assert sum(one["packets"] for one in status if one["reason"] != "ok") == sum(expected.values())


def test_entries_have_the_fields_of_their_version_only(node: CapturedNode) -> None:
    layout = Layout.of_version(version_of(node.name))
    assert layout is not None
    entries = node.json("ct", "list", "--raw")["entries"]
    backends = {backend["backend_id"] for backend in node.json("lb", "list", "--backends")["backends"]}
    assert entries
    for entry in entries:
        truth = decode_entry(bytes.fromhex(entry["key_hex"]), bytes.fromhex(entry["value_hex"]), layout)
        assert entry.get("backend_id") == truth.backend_id
        assert entry["backend_id"] in {None, 0, *backends}
        assert ("rx_packets" in entry) == layout.split_counters
        assert ("ifindex" in entry) == (version_of(node.name) in ("1.14", "1.16"))
        assert ("nat_addr" in entry) == layout.has_nat
    chosen = node.json("ct", "list", "backend_id > 0")["entries"]
    assert {entry["backend_id"] for entry in chosen} <= backends
    assert len(chosen) == sum(1 for entry in entries if entry["backend_id"])


def test_nat_filters_choose_what_they_say(node: CapturedNode) -> None:
    every = node.json("nat", "list", "--now", "9000")["entries"]

    def chosen(*words: str) -> list[dict[str, object]]:
        return node.json("nat", "list", "--now", "9000", *words)["entries"]  # type: ignore[no-any-return]

    by_pod = chosen("--ip", "10.61.1.101")
    assert by_pod == [e for e in every if "10.61.1.101" in (e["src"], e["dst"], e["to_addr"])] != []
    port = every[0]["to_port"]
    wanted = [e for e in every if e["to_port"] == port and e["proto"] != 17]
    assert chosen(f"nat_port == {port} and not udp") == wanted
    incoming = chosen("--direction", "in", "--protocol", "tcp", "--not")
    assert incoming == [e for e in every if not (e["direction"] == "IN" and e["proto"] == 6)]
    refused = node.done("nat", "list", "state == closing", check=2)
    assert "SNAT entries have no" in refused.stderr
    use = node.json("nat", "stats")["port_use"]
    outgoing = [e for e in every if e["direction"] == "OUT" and not e["related"]]
    assert sum(one["entries"] for one in use) == len(outgoing)


def test_one_table_by_name(node: CapturedNode) -> None:
    for table, words, rows in (
        ("cilium_snat_v4_external", ("nat", "list"), "entries"),
        ("cilium_lb4_services_v2", ("lb", "list", "--frontends"), "slots"),
        ("cilium_lxc", ("endpoint", "list"), "endpoints"),
    ):
        told = node.json(*words, "--map", table)[rows]
        assert len(told) == len(maps_of(node.name)[table]["entries"])  # type: ignore[arg-type]
    policy = next(pin for pin in maps_of(node.name) if pin.startswith("cilium_policy_") and pin[-1].isdigit())
    assert {rule["map"] for rule in node.json("policy", "list", "--map", policy)["rules"]} == {policy}
    assert "no conntrack table" in node.done("ct", "list", "--map", "cilium_lxc", check=1).stderr
    whole = node.json("lb", "list")["frontends"]
    chosen = node.json("lb", "list", "--map", "cilium_lb4_services_v2")["frontends"]
    assert chosen == [row for row in whole if not row["frontend"].startswith("[")] != []  # backends stay known
    for words, table in ((("ipcache", "list"), "cilium_ct4_global"), (("nat", "list"), "cilium_lb4_services_v2")):
        assert f"--map {table}: what is shown here is of " in node.done(*words, "--map", table, check=2).stderr


def test_tables_without_times_take_no_time(node: CapturedNode) -> None:
    for command in (("lb", "list"), ("ipcache", "list"), ("endpoint", "list"), ("policy", "list"), ("socknat", "list")):
        assert "no option --now" in node.done(*command, "--now", "5", check=2).stderr
        assert "no option --clock" in node.done(*command, "--clock", "ktime", check=2).stderr


def test_policy_says_which_rule_decides(node: CapturedNode) -> None:
    verdicts = node.json("policy", "get", "tcp 10.61.1.101 > 10.61.1.102:8000")["verdicts"]
    assert [(v["direction"], v["verdict"]) for v in verdicts] == [("egress", "allowed"), ("ingress", "allowed")]
    ids = {one["addr"]: one["identity"] for one in node.json("endpoint", "list")["endpoints"]}
    assert [v["peer_identity"] for v in verdicts] == [ids["10.61.1.102"], ids["10.61.1.101"]]
    assert "any peer" in verdicts[0]["why"]
    # Of a service policy is asked after a backend was chosen.
    front = next(row for row in node.json("lb", "list")["frontends"] if row["frontend"] == "10.96.0.10:80")
    ports = {(verdict["peer"], verdict["port"]) for verdict in _verdicts(node, "tcp 10.61.1.101 > 10.96.0.10:80")}
    assert {f"{peer}:{port}" for peer, port in ports if peer != "10.61.1.101"} == {
        backend.partition(":")[2] for backend in front["backends"]
    }


def _verdicts(node: CapturedNode, flow: str) -> list[dict[str, object]]:
    return node.json("policy", "get", flow)["verdicts"]  # type: ignore[no-any-return]


@pytest.fixture(params=captures.NAMES, scope="module")
def answering(request: pytest.FixtureRequest) -> Iterator[CapturedNode]:
    with captured_node(request.param, agent=True) as found:
        yield found


def entries_of(node: CapturedNode, *words: str) -> list[dict[str, object]]:
    return node.json("ct", "list", "--now", "9000", *words)["entries"]  # type: ignore[no-any-return]


def test_the_agent_says_its_version_and_its_names(answering: CapturedNode) -> None:
    node = answering
    assert "by the agent's API" in node.done("-v", "ct", "list").stderr
    assert node.json("status")["nodes"][0]["version"].startswith(version_of(node.name))
    listed = node.json("endpoint", "list")["endpoints"]
    names = {one["addr"]: one["name"] for one in listed}
    assert (names["10.61.1.101"], names["10.61.1.102"]) == ("default/p1", "default/p2")
    addresses = [address for address, name in names.items() if name == "default/p1"]
    by_address = entries_of(node, *(word for one in addresses for word in ("--ip", one)))
    assert entries_of(node, "--ip", "p1") == by_address != []
    assert {"default/p1"} == {e["src_name"] for e in entries_of(node, "src == default/p1")}
    identity = next(one["identity"] for one in listed if one["addr"] == "10.61.1.101")
    labelled = entries_of(node, "--identity", "app=client")
    assert labelled == [e for e in entries_of(node) if e["src_sec_id"] == identity] != []
    told = node.json("policy", "get", "tcp p1 > default/p2:8000")["verdicts"]
    assert [v["verdict"] for v in told] == ["allowed", "allowed"]
    assert "nosuchpod" in node.done("ct", "list", "--ip", "nosuchpod", check=2).stderr
    one = node.json("ct", "get", "tcp p1 > default/p2:8000", "--now", "6000")
    assert one == node.json("ct", "get", "tcp 10.61.1.101 > 10.61.1.102:8000", "--now", "6000")
    # A pod with two addresses is scrubbed of both.
    words = ("--dry-run", "--clock", "ktime")
    by_hand = [node.json("gc", "--endpoint", address, *words)["selected"] for address in addresses]
    assert node.json("gc", "--endpoint", "p1", *words)["selected"] == sum(by_hand) > 0


def _named(capture: str) -> list[dict[str, Any]]:
    """The services that the agent was given with their names."""
    services = [one["spec"] for one in captures.document(capture, "cmd/service-list.json")]
    return [spec for spec in services if spec.get("flags", {}).get("name")]


@pytest.mark.parametrize("answering", [name for name in captures.NAMES if _named(name)], indirect=True)
def test_a_service_by_name_is_its_frontends_and_what_they_chose(answering: CapturedNode) -> None:
    named = _named(answering.name)
    every = entries_of(answering)
    for name in {f"{spec['flags']['namespace']}/{spec['flags']['name']}" for spec in named}:
        own = [spec for spec in named if f"{spec['flags']['namespace']}/{spec['flags']['name']}" == name]
        ids = {spec["id"] for spec in own}
        ends = {(spec["frontend-address"]["ip"], spec["frontend-address"]["port"]) for spec in own}
        wanted = [e for e in every if e["rev_nat"] in ids or (e["dst"], e["dst_port"]) in ends]
        assert entries_of(answering, "--service", name) == wanted
    listed = answering.json("lb", "list")["frontends"]
    assert name in {one["name"] for one in listed}


def test_a_service_by_its_address(node: CapturedNode) -> None:
    rev_nats = node.json("lb", "list", "--revnat")["revnats"]
    ids = {one["rev_nat"] for one in rev_nats if (one["addr"], one["port"]) == ("10.96.0.10", 80)}
    found = entries_of(node, "--service", "10.96.0.10:80")
    wanted = [e for e in entries_of(node) if e["rev_nat"] in ids or (e["dst"], e["dst_port"]) == ("10.96.0.10", 80)]
    assert found == wanted


def test_a_dsr_entry_of_1_19_has_its_service_and_no_backend() -> None:
    # As in a report of a backend's node: 172.19.0.2:57716 came to NodePort 172.19.0.5:31607.
    key = encode_key(FlowTuple(6, ip_address("172.19.0.2"), 57716, ip_address("10.244.1.1"), 8080), 0)
    value = bytearray(56)
    value[12:16] = ip_address("172.19.0.5").packed
    value[32:38] = struct.pack("<IH", 9000, 0x93)
    value[40:42] = (31607).to_bytes(2, "big")
    extra = {"cilium_ct4_global": [(key.hex(), bytes(value).hex())]}
    with captured_node("cilium-1.19-snat-node1", extra=extra) as node:
        (entry,) = entries_of(node, "--ip", "172.19.0.2")
        assert (entry["nat_addr"], entry["nat_port"], entry["backend_id"]) == ("172.19.0.5", 31607, None)
        line = node.run("ct", "list", "-o", "cilium", "--ip", "172.19.0.2").strip("\n")
        assert line.endswith(
            "Flags=0x0093 [ RxClosing TxClosing SeenNonSyn DSRInternal ] RevNAT=0"
            " SourceSecurityID=0 BackendID=360309599644942336 NatPort=31607 "
        )
        # The first three run inside the kernel.
        for text in ("nat_port == 31607", "nat_addr in 172.19.0.0/24", "nat_port in 31000..32000 and tcp"):
            assert entries_of(node, text) == [entry], text
        for text in ("backend_id > 1000", "nat_port == 30587", "nat_addr == 172.19.0.6"):
            assert entries_of(node, text) == [], text
        shown = node.run("ct", "list", "--ip", "172.19.0.2", "-o", "csv", "--fields", "nat_addr,nat_port,backend_id")
        assert shown.splitlines()[1] == "172.19.0.5,31607,"
        assert "360309599644942336" not in node.run("ct", "list", "-o", "wide")
        assert {"172.19.0.5"} == {row["nat_addr"] for row in entries_of(node, "nat_addr in 0.0.0.0/0")}
