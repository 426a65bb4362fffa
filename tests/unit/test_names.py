"""Names of pods, services, nodes and identities: collected from what people have, shown, and taken where typed."""

from __future__ import annotations

import base64
import json
import zipfile
from ipaddress import ip_address
from pathlib import Path

import pytest

from ctctl.errors import DecodeError, NotFoundError, UsageError
from ctctl.model.service import EndpointRecord, IpcacheRecord, RevNat
from ctctl.model.tuples import FlowTuple
from ctctl.tables.flow_text import connection_of, has_names, with_addresses
from ctctl.tables.namebook import NameBook, label_text
from ctctl.tables.names import book_of
from ctctl.tables.names_agent import add_stored_endpoint
from ctctl.tables.names_files import add_document, add_file
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.open import open_source
from tests.support import captures

KUBERNETES = """
apiVersion: v1
kind: List
items:
- kind: Pod
  metadata: {namespace: shop, name: web-1}
  status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
- {kind: Pod, metadata: {namespace: test, name: web-1}, status: {podIP: 10.0.0.9}}
- {kind: Pod, metadata: {namespace: shop, name: agent}, spec: {hostNetwork: true}, status: {podIP: 192.168.0.1}}
- {kind: Pod, metadata: {namespace: shop, name: done}, status: {phase: Succeeded, podIP: 10.0.0.1}}
- kind: Service
  metadata: {namespace: shop, name: web}
  spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80, protocol: TCP, nodePort: 30080}]}
  status: {loadBalancer: {ingress: [{ip: 172.16.0.1}]}}
- kind: Node
  metadata: {name: n1}
  status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: Hostname, address: n1}]}
- kind: EndpointSlice
  endpoints: [{addresses: [10.0.0.7], targetRef: {kind: Pod, namespace: shop, name: web-2}}]
- kind: CiliumEndpoint
  metadata: {namespace: shop, name: web-3}
  status:
    identity: {id: 4711, labels: ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"]}
    networking: {addressing: [{ipv4: 10.0.0.8}]}
- {kind: CiliumIdentity, metadata: {name: "4712"}, security-labels: {"k8s:app": client}}
"""


@pytest.fixture
def book(tmp_path: Path) -> NameBook:
    found = NameBook()
    found.listings.rev_nats = [
        RevNat(7, ip_address("10.96.0.1"), 80),
        RevNat(8, ip_address("192.168.0.1"), 30080),
        RevNat(9, ip_address("10.96.0.2"), 53),
    ]
    found.listings.ipcache = [
        IpcacheRecord("10.0.0.8/32", 4711),
        IpcacheRecord("192.168.0.1/32", 1),
        IpcacheRecord("0.0.0.0/0", 2),
    ]
    found.listings.endpoints = [EndpointRecord(ip_address("10.0.0.7"), identity=4711)]
    path = tmp_path / "objects.yaml"
    path.write_text(KUBERNETES)
    add_file(found, path)
    return found


def texts(book: NameBook, name: str) -> list[str]:
    return sorted(str(network) for network in book.networks(name))


def test_kubernetes_objects_name_what_they_are_of(book: NameBook) -> None:
    shown = book.shown()
    assert shown["10.0.0.1"] == shown["fd00::1"] == "shop/web-1"
    assert shown["192.168.0.1"] == "n1"  # a pod of the host's network does not take the node's address
    assert shown["10.96.0.1"] == shown["172.16.0.1"] == "shop/web"
    assert shown["10.0.0.7"] == "shop/web-2"
    assert shown["service 7"] == shown["service 8"] == "shop/web"
    assert "service 9" not in shown
    assert shown["identity 4711"] == "app=web"
    assert (shown["identity 1"], shown["identity 6"]) == ("host", "remote-node")


def test_an_address_of_several_services_or_of_a_node_is_called_by_none() -> None:
    """Else a client's port at a node, or one service's, would be shown under the name of another service."""
    book = NameBook()
    book.listings.ipcache.extend(IpcacheRecord(f"10.1.0.{n}/32", identity) for n, identity in ((1, 1), (2, 6), (3, 2)))
    for number, (name, address, port) in enumerate(
        (
            ("np", "10.1.0.1", 30080), ("np-2", "10.1.0.2", 30080), ("outside", "10.1.0.3", 80),
            ("web", "10.96.0.1", 80), ("web-tls", "10.96.0.1", 443), ("dns", "10.96.0.2", 53),
            ("any", "0.0.0.0", 30080),
        ),
        7,
    ):  # fmt: skip
        book.add_service(name, [address], port, 6, number)
    book.add_service("dns", ["10.96.0.2"], 53, 17)
    book.listings.rev_nats.append(RevNat(7, ip_address("10.1.0.1"), 30080))
    shown = book.shown()
    assert {key: name for key, name in shown.items() if "." in key and " " not in key} == {
        "10.1.0.3": "outside", "10.96.0.2": "dns",
    }  # fmt: skip
    assert (shown["service 7"], shown["rev-nat 7"]) == ("np", "np 10.1.0.1:30080")
    assert [str(one) for one in book.networks("web-tls")] == ["10.96.0.1/32"]


def test_a_name_is_taken_where_it_is_clear(book: NameBook) -> None:
    assert texts(book, "shop/web-1") == ["10.0.0.1/32", "fd00::1/128"]
    assert texts(book, "web-2") == ["10.0.0.7/32"]
    assert texts(book, "n1") == texts(book, "node/n1") == ["192.168.0.1/32"]
    assert texts(book, "host") == ["192.168.0.1/32"]
    assert texts(book, "app=web") == ["10.0.0.8/32"]
    assert list(book.identities("app=client")) == [4712]
    assert list(book.identities("web-2")) == [4711]
    with pytest.raises(UsageError, match="shop/web-1 or pod/test/web-1"):
        book.networks("web-1")
    with pytest.raises(UsageError, match="did you mean"):
        book.networks("web-22")
    with pytest.raises(UsageError, match="--names FILE"):
        NameBook().networks("web")


def test_a_service_is_its_frontends_and_their_numbers(book: NameBook) -> None:
    service = book.service("web")
    assert service.rev_nats == {7, 8}
    ends = {(str(network), port, proto) for network, port, proto in service.frontends}
    assert ends == {("10.96.0.1/32", 80, 6), ("172.16.0.1/32", 80, 6), ("192.168.0.1/32", 30080, 6)}
    by_address = book.service("10.96.0.2:53")
    assert by_address.rev_nats == {9}
    with pytest.raises(UsageError, match="service"):
        book.service("nothing")


def test_one_port_of_a_service_by_name(book: NameBook) -> None:
    """As ``ADDRESS:PORT``, and as flows have it."""
    for name in ("web:80", "shop/web:80", "service/web:80"):
        service = book.service(name)
        assert {port for _network, port, _proto in service.frontends} == {80}
        assert 8 not in service.rev_nats  # of its node port
    with pytest.raises(UsageError, match="'shop/web' has no port 81 here"):
        book.service("web:81")
    with pytest.raises(UsageError, match="unknown service"):
        book.service("webb:80")


@pytest.mark.parametrize("capture", captures.NAMES)
@pytest.mark.parametrize("put", ["", "    ", "> ", "root@n1:~# "])
def test_what_an_agent_lists_for_people_names_labels_and_nodes(capture: str, put: str, tmp_path: Path) -> None:
    """``endpoint list``, ``identity list`` and ``node list`` in text, alone and all in one paste."""
    files = {name: captures.files(capture)[f"cmd/{name}"].decode() for name in (
        "endpoint-list.txt", "identity-list.txt", "node-list.txt"
    )}  # fmt: skip
    stored = {one["status"]["identity"]["id"]: one["status"]["identity"]["labels"] for one in json.loads(
        captures.files(capture)["cmd/endpoint-list.json"]
    )}  # fmt: skip
    listed = {one["id"]: one["labels"] for one in json.loads(captures.files(capture)["cmd/identity-list.json"])}
    nodes = {"n1": {"192.168.61.11", "fd61::11"}, "n2": {"192.168.61.12", "fd61::12"}}
    every = "".join(f"{put}$ cilium {name}\n" + text for name, text in files.items())
    for name, text in ({**files, "all.txt": every}).items():
        path = tmp_path / name
        path.write_text("".join(f"{put}{line}\n" for line in text.splitlines()))
        found = NameBook()
        assert add_file(found, path) == []
        labels = {number: sorted(their) for number, their in found.labels.items()}
        if name != "node-list.txt":
            wanted = stored if name == "endpoint-list.txt" else {**listed, **stored} if name == "all.txt" else listed
            assert labels == {number: sorted(their) for number, their in wanted.items()}
        if name in ("node-list.txt", "all.txt"):
            assert {node: {str(end) for end in ends} for node, ends in found.nodes.items()} == nodes


def test_a_bugtools_own_lists_are_names(tmp_path: Path) -> None:
    files = captures.files("cilium-1.19-snat-node1")
    cmd = tmp_path / "cilium-bugtool-20261125-191431.402+0000-UTC-538734475" / "cmd"
    cmd.mkdir(parents=True)
    (cmd / "cilium-dbg-bpf-ct-list-global.md").write_bytes(files["cli/ct-list-global.txt"])
    (cmd / "cilium-dbg-identity-list.md").write_bytes(files["cmd/identity-list.txt"])
    with open_source(str(tmp_path), SourceOptions()) as source:
        assert book_of(source).identities("app=client") == [14111]
        assert not source.partial
    nodes = [{"name": "default/n7", "primary-address": {"ipv4": {"ip": "192.0.2.7"}}}]
    (cmd / "cilium-dbg-node-list--o-json.md").write_text(json.dumps(nodes))
    with open_source(str(tmp_path), SourceOptions()) as source:
        assert texts(book_of(source), "n7") == ["192.0.2.7/32"]


def test_an_end_as_the_cilium_cli_writes_it_where_the_node_knows_it() -> None:
    """IPv6 without brackets: the last part is a port where what stands before it is known, and all of it is not."""
    book = NameBook()
    book.listings.endpoints = [EndpointRecord(ip_address("fd00::1")), EndpointRecord(ip_address("fd00::7:80"))]
    book.listings.ipcache = [IpcacheRecord("fd00::2/128", 5)]
    flow = connection_of("tcp fd00::1:5000 > fd00::2:80", book)
    assert (str(flow.src), flow.src_port, str(flow.dst), flow.dst_port) == ("fd00::1", 5000, "fd00::2", 80)
    flow = connection_of("tcp fd00::7:80 > fd00::3:80", book)
    assert (str(flow.src), flow.src_port, str(flow.dst), flow.dst_port) == ("fd00::7:80", 0, "fd00::3:80", 0)


def test_a_service_by_its_address_alone_is_all_its_frontends(book: NameBook) -> None:
    book.listings.rev_nats += [RevNat(10, ip_address("10.96.0.2"), 80), RevNat(11, ip_address("fd00:96::2"), 80)]
    assert book.service("10.96.0.2").rev_nats == {9, 10}
    assert book.service("fd00:96::2").rev_nats == book.service("[fd00:96::2]").rev_nats == {11}
    assert book.service("[fd00:96::2]:80").rev_nats == {11}
    assert {port for _network, port, _proto in book.service("192.168.0.1").frontends} == {30080}
    with pytest.raises(UsageError, match=r"no service at 10\.96\.0\.77 is known here: write ADDRESS:PORT"):
        book.service("10.96.0.77")


def test_a_packet_to_a_service_goes_to_its_port(book: NameBook) -> None:
    """Where it has one; a flow without a port is of any."""
    other = NameBook()
    here = ip_address("10.96.0.9")
    other.services = {"shop/two": {(here, 80, 6): None, (here, 443, 6): None}, "shop/one": {(here, 80, 6): None}}
    assert with_addresses("tcp 10.0.0.1:5 > one S", other, one_packet=True) == "tcp 10.0.0.1:5 > 10.96.0.9:80 S"
    assert with_addresses("tcp 10.0.0.1:5 > one", other) == "tcp 10.0.0.1:5 > 10.96.0.9"
    assert with_addresses("tcp 10.0.0.1:5 > two:443", other, one_packet=True) == "tcp 10.0.0.1:5 > 10.96.0.9:443"
    with pytest.raises(UsageError, match="'two' has the ports 80, 443"):
        with_addresses("tcp 10.0.0.1:5 > two", other, one_packet=True)
    other.services["shop/two"] = {(here, 80, 6): None, (here, 53, 17): None}
    assert with_addresses("udp 10.0.0.1:5 > two", other, one_packet=True) == "udp 10.0.0.1:5 > 10.96.0.9:53"
    assert with_addresses("tcp web-2:1 > web-2", book, one_packet=True) == "tcp 10.0.0.7:1 > 10.0.0.7"


def test_flows_and_packets_with_names(book: NameBook) -> None:
    wanted = FlowTuple(6, ip_address("10.0.0.7"), 0, ip_address("10.96.0.1"), 80)
    assert connection_of("tcp web-2 > 10.96.0.1:80", book) == wanted
    assert with_addresses("tcp web-2:4000 > 10.96.0.1:80 S len=5", book) == "tcp 10.0.0.7:4000 > 10.96.0.1:80 S len=5"
    assert with_addresses("TCP OUT web-2:1 -> shop/web-1:80", book) == "TCP OUT 10.0.0.7:1 -> 10.0.0.1:80"
    assert with_addresses("tcp [fd00::9]:1 > shop/web-1:80", book) == "tcp [fd00::9]:1 > [fd00::1]:80"
    for plain in ("tcp 10.0.0.1:1 > 10.0.0.2:2", "tcp fd00::1:80 > fd00::2:80", "tcp any > 10.0.0.1:80", "nonsense"):
        assert not has_names(plain)
        assert with_addresses(plain, book) == plain
    assert has_names("tcp web-2 > 10.0.0.1:80")
    with pytest.raises(UsageError, match="no IPv6 address"):
        with_addresses("tcp [fd00::9]:1 > web-2:80", book)


def test_a_sysdump_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "sysdump.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cilium-sysdump/k8s-pods-1.yaml", KUBERNETES)
        archive.writestr(
            "cilium-sysdump/secrets.yaml", "kind: Pod\nmetadata: {name: hidden}\nstatus: {podIP: 10.0.0.66}"
        )
        archive.writestr("cilium-sysdump/ciliumidentities.yaml", "\0\1 not YAML: [")
    book = NameBook()
    add_file(book, path)
    assert texts(book, "web-2") == ["10.0.0.7/32"]
    assert "10.0.0.66" not in book.shown()
    with pytest.raises(NotFoundError, match="--names"):
        add_file(book, tmp_path / "nothing.yaml")


@pytest.mark.parametrize("form", ["json", "header"])
def test_the_endpoints_an_agent_stored(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctctl.node import agent
    from ctctl.tables.names_agent import stored_endpoints

    stored = {
        "ID": 92,
        "K8sPodName": "web-1",
        "K8sNamespace": "shop",
        "IPv4": "10.0.0.1",
        "IPv6": "fd00::1",
        "SecLabel": {
            "id": 4711,
            "labels": {"app": {"key": "app", "value": "web", "source": "k8s"}},
        },
    }
    folder = tmp_path / "92"
    folder.mkdir()
    if form == "json":
        (folder / "ep_config.json").write_text(json.dumps(stored))
    else:
        text = base64.b64encode(json.dumps(stored).encode()).decode()
        (folder / "ep_config.h").write_text(f"/*\n * CILIUM_BASE64_{text}\n */\n")
    monkeypatch.setattr(agent, "STATE_DIRECTORIES", (tmp_path,))
    book = NameBook()
    for document in stored_endpoints():
        add_stored_endpoint(book, document)
    assert texts(book, "shop/web-1") == ["10.0.0.1/32", "fd00::1/128"]
    assert book.shown()["endpoint 92"] == "shop/web-1"
    assert book.labels[4711] == ("k8s:app=web",)


def test_hostile_documents_name_nothing() -> None:
    book = NameBook()
    for document in (
        None,
        [],
        [[]],
        {"kind": "Pod"},
        {"kind": "Pod", "metadata": 5, "status": []},
        {"kind": "Service", "spec": {"ports": [{"port": "x"}], "clusterIPs": 5}},
        {"items": [{"kind": "Node", "status": {"addresses": [{"type": None}]}}]},
        [{"status": None, "id": None}, {"status": {"networking": {"addressing": 5}}, "id": "x"}],
        [{"spec": {"frontend-address": None}}],
        {"endpoint-list": {"a": 1}, "nodes-added": [5, {"name": 7}]},
    ):
        add_document(book, document)
    assert not any(ends for ends in book.pods.values())


def test_labels_for_people() -> None:
    labels = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=c"]
    assert label_text(labels) == "app=web"
    assert label_text(["reserved:host"]) == "host"


def test_what_is_nested_too_deep_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("[" * 200_000)
    with pytest.raises(DecodeError, match="neither YAML nor JSON"):
        add_file(NameBook(), path)
