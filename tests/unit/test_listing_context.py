"""What a listing says by what stands beside it: other listings, the node, the time, the names of a sysdump."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from ctctl.model.service import ServiceSlot
from ctctl.simulate.carry import backends_of
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import Listings
from tests.support import captures
from tests.support.children import run_ctctl
from tests.support.listings import read


def test_what_a_source_does_not_show_is_unknown_and_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "ct.txt"
    path.write_text(captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt"))
    for words in (
        ("nat", "list"),
        ("lb", "list"),
        ("lb", "list", "--maglev"),
        ("ipcache", "list"),
        ("endpoint", "list"),
    ):
        done = run_ctctl(*words, "--from", path)
        assert done.returncode == 5
        assert "does not show" in done.stderr
    empty = tmp_path / "lb.txt"
    empty.write_text("SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n")
    done = run_ctctl("lb", "list", "--from", empty)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


def test_nodes_are_a_column_wherever_there_are_several(tmp_path: Path) -> None:
    for number, name in enumerate(("cilium-1.16-snat-node1", "cilium-1.19-snat-node1")):
        for file in ("ct-list-global.txt", "nat-list.txt", "lb-list.txt", "ipcache-list.txt", "endpoint-list.txt"):
            folder = tmp_path / f"host-{'ab'[number]}"
            folder.mkdir(exist_ok=True)
            (folder / file).write_text(captures.text(name, f"cli/{file}"))
    for words in (("nat", "list"), ("lb", "list"), ("ipcache", "list"), ("endpoint", "list"), ("nat", "stats")):
        done = run_ctctl(*words, "--from", tmp_path, "-o", "jsonl")
        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["node"] for line in done.stdout.splitlines()} == {"host-a", "host-b"}
        one = run_ctctl(*words, "--from", tmp_path, "--node", "host-b", "-o", "jsonl")
        assert all("node" not in json.loads(line) for line in one.stdout.splitlines())
    assert run_ctctl("lb", "list", "--from", tmp_path, "-o", "cilium").stdout.count("SERVICE ADDRESS") == 2


def test_what_text_leaves_open_of_a_dsr_entry_the_services_beside_tell(tmp_path: Path) -> None:
    """Half of an IPv6 address, and ports whose bytes some builds turn (NatPort=)."""
    vip = "fd10:96::aa:1"
    half = int.from_bytes(ip_address(vip).packed[8:], "little")
    for port in (31607, 30587):  # as it is, and turned
        line = (
            "TCP OUT fd61::1:50380 -> fd10:61:1::102:8000 expires=13317 Packets=28 Bytes=2622 RxFlagsSeen=0x02"
            " LastRxReport=5316 TxFlagsSeen=0x02 LastTxReport=5316 Flags=0x0080 [ DSRInternal ] RevNAT=0"
            f" SourceSecurityID=10 BackendID={half} NatPort={port} \n"
        )
        (tmp_path / "ct-list.txt").write_text(line)
        (tmp_path / "lb-list.txt").write_text(
            "SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n"
            f"[{vip}]:31607/TCP (0)   [::]:0 (10) (0) [NodePort]\n"
        )
        done = run_ctctl("ct", "list", "--from", tmp_path, "-o", "json")
        (entry,) = json.loads(done.stdout)["entries"]
        assert (entry["nat_addr"], entry["nat_port"]) == (vip, 31607)
        (tmp_path / "lb-list.txt").unlink()
        (alone,) = json.loads(run_ctctl("ct", "list", "--from", tmp_path, "-o", "json").stdout)["entries"]
        assert alone["nat_addr"] is None  # half of an address is none


BUGTOOL = "cilium-bugtool-20261125-191431.402+0000-UTC-538734475"
RUNTIME = "KEY             VALUE\nAgentLiveness   5288237827658\nUTimeOffset     3507087466796875\n"


def _bugtool(root: Path, files: dict[str, str]) -> Source:
    folder = root / BUGTOOL / "cmd"
    folder.mkdir(parents=True)
    listing = captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt")  # its newest report is of 5255
    for name, text in {"cilium-dbg-bpf-ct-list-global.md": listing, **files}.items():
        (folder / name).write_text(text)
    return read(root)


def test_the_time_by_the_agents_sign_of_life_and_the_date_in_the_name(tmp_path: Path) -> None:
    source = _bugtool(tmp_path / "a", {"cilium-dbg-bpf-config-list.md": RUNTIME})
    assert {table.now for table in source.tables if table.count} == {5288}
    assert any("the date in its name" in detail and "AgentLiveness" in detail for detail in source.details)
    as_json = json.dumps([{"Key": "AgentLiveness", "Value": 5288237827658}], indent=2)
    assert {t.now for t in _bugtool(tmp_path / "b", {"config.json": as_json}).tables if t.count} == {5288}
    assert {t.now for t in _bugtool(tmp_path / "c", {"proc-uptime": "5290.12 9000.00\n"}).tables if t.count} == {5290}


def test_files_that_contradict_each_other_tell_no_time(tmp_path: Path) -> None:
    source = _bugtool(tmp_path / "a", {"config.md": RUNTIME.replace("5288237827658", "9288237827658")})
    assert {table.now for table in source.tables} == {None}
    assert any("contradict each other" in note for note in source.notes)
    # An agent that had stopped before the newest report says nothing.
    stopped = "KEY   VALUE\nAgentLiveness   1000000000000\n"
    source = _bugtool(tmp_path / "b", {"config.md": stopped})
    assert {table.now for table in source.tables} == {None}
    assert any("AgentLiveness" in note for note in source.notes)


def test_uptime_is_a_bound_of_a_minute(tmp_path: Path) -> None:
    source = _bugtool(tmp_path / "a", {"uptime.md": " 19:14:31 up  1:28,  0 user,  load average: 0.1, 0.2, 0.3\n"})
    assert {table.now for table in source.tables} == {None}
    assert any("between 5280 and" in note for note in source.notes)


def test_names_of_a_sysdump_are_its_own(tmp_path: Path) -> None:
    """Kubernetes objects beside the listings, with both families; what names nothing of them is not parsed."""
    (tmp_path / "ct-list.txt").write_text(captures.text("cilium-1.19-snat-node1", "cli/ct-list-global.txt"))
    pods = (
        "apiVersion: v1\nkind: PodList\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: client\n"
        "    namespace: shop\n    managedFields:\n    - manager: x\n      fieldsV1:\n        f:a: {}\n  spec:\n"
        "    containers:\n    - name: a\n      image: b\n  status:\n    phase: Running\n    podIP: 10.61.1.101\n"
        "    podIPs:\n    - ip: 10.61.1.101\n    - ip: fd10:61:1::101\n"
    )
    (tmp_path / "k8s-pods-20261125-191431.yaml").write_text(pods)
    service = {
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"clusterIPs": ["10.96.0.10", "fd10:96::10"], "ports": [{"port": 80, "protocol": "TCP"}]},
    }
    (tmp_path / "k8s-services-20261125-191431.json").write_text(json.dumps({"kind": "ServiceList", "items": [service]}))
    by_name = json.loads(run_ctctl("ct", "list", "--from", tmp_path, "--ip", "shop/client", "-o", "json").stdout)[
        "entries"
    ]
    words = ("--ip", "10.61.1.101", "--ip", "fd10:61:1::101")
    by_address = json.loads(run_ctctl("ct", "list", "--from", tmp_path, *words, "-o", "json").stdout)["entries"]
    assert by_name == by_address != []
    assert {e["src_name"] for e in by_name if e["src"] == "fd10:61:1::101"} == {"shop/client"}
    to_service = json.loads(run_ctctl("ct", "list", "--from", tmp_path, "--to-ip", "shop/web", "-o", "json").stdout)[
        "entries"
    ]
    assert {e["dst"] for e in to_service} <= {"10.96.0.10", "fd10:96::10"}
    assert to_service
    wrong = run_ctctl("ct", "list", "--from", tmp_path, "--ip", "shop/cliemt")
    assert (wrong.returncode, "did you mean 'shop/client'" in wrong.stderr) == (2, True)
    scrub = run_ctctl("gc", "--endpoint", "client", "--dry-run", "--from", tmp_path, "--now", "5300", "-o", "json")
    assert json.loads(scrub.stdout)["selected"] == len(by_name)


SLOT = ServiceSlot(ip_address("10.96.0.10"), 80, "external", 1, 5)


def test_the_address_of_a_backend_that_is_none_leads_nowhere(tmp_path: Path) -> None:
    """Of another cluster, or no address at all: it is shown as it stands."""
    file = tmp_path / "all.txt"
    fields = "Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=0 TxFlagsSeen=0x02 LastTxReport=100 Flags=0x0010 [ ]"
    file.write_text(
        "SERVICE ADDRESS           BACKEND ADDRESS (REVNAT_ID) (SLOT)\n"
        "10.96.0.10:80/TCP (0)     0.0.0.0:0 (5) (0) [ClusterIP, non-routable]\n"
        "10.96.0.10:80/TCP (1)     10.0.0.7@1:8080/TCP (5) (1)\n"
        "10.96.0.10:80/TCP (2)     10.0.0.999:8080/TCP (5) (2)\n"
        "\n"
        f"TCP OUT 10.0.0.5:4000 -> 10.0.0.7:8080 expires=1000 {fields} RevNAT=5 SourceSecurityID=3 BackendID=0 \n"
        f"TCP SVC 10.0.0.5:4000 -> 10.96.0.10:80 expires=1000 {fields} RevNAT=5 SourceSecurityID=3 BackendID=7 \n"
    )
    done = run_ctctl("ct", "get", "--from", file, "tcp 10.0.0.5:4000 > 10.96.0.10:80")
    assert done.returncode == 0, done.stderr
    assert "10.0.0.7@1:8080/TCP 10.0.0.999:8080/TCP" in run_ctctl("lb", "list", "--from", file).stdout
    ends = {
        text: replace(SLOT, backend=text).backend_end
        for text in ("[fd00::1]:80/TCP", "10.0.0.7@1:80", "x:80", "", None)
    }
    assert ends == {
        "[fd00::1]:80/TCP": (ip_address("fd00::1"), 80),
        "10.0.0.7@1:80": None,
        "x:80": None,
        "": None,
        None: None,
    }
    listed = [
        replace(SLOT, backend_id=number, backend=text)
        for number, text in enumerate(("10.0.0.999:80", "10.0.0.9:80"), 1)
    ]
    assert [(one.id, str(one.ip), one.port) for one in backends_of(Listings(services=listed)).values()] == [
        (2, "10.0.0.9", 80)
    ]
