"""ct commands on a lab with real traffic: list, get, events as the hooks tell them, delete."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import jsonschema
import pytest

from ctctl.cli.schemas import SCHEMAS
from ctctl.events.stream import EventStream
from ctctl.lab.topology import CLIENT, CLIENT_IP, Topology
from tests.support.wait import wait_for

pytestmark = pytest.mark.lab

CTCTL = (sys.executable, "-m", "ctctl")
VIP, POD1, POD3, WEB = "172.190.0.17", "10.64.0.36", "10.64.1.36", "10.68.0.10"


def curl(lab: Topology, member: str, address: str) -> None:
    command = ["ip", "netns", "exec", lab.netns(member), "curl", "-s", "-m", "5", f"http://{address}/"]
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def ctctl_json(*words: str) -> Any:
    done = subprocess.run([*CTCTL, *words, "-o", "json"], capture_output=True, text=True, check=True, timeout=60)
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMAS[document["schema"]]).validate(document)
    return document


def test_a_connection_through_a_service_is_one_story(lab: Topology) -> None:
    curl(lab, "pod1", WEB)
    node = ("--node", lab.datapath_node("node-a"))
    listed = ctctl_json("ct", "list", "tcp and svc and state == closed", "--from-ip", POD1, "--to-ip", WEB, *node)
    assert listed["entries"]
    entry = listed["entries"][-1]
    assert entry["src_name"] == "pod1"
    assert listed["layout"] == ["1.16 (BTF)"]
    found = ctctl_json("ct", "get", f"tcp {POD1}:{entry['src_port']} > {WEB}:80", *node)
    roles = [member["role"] for member in found["entries"]]
    assert roles[:2] == ["service", "out"]
    assert found["backend"]["backend_id"] == entry["backend_id"]
    assert WEB in found["service"]
    assert found["state"].startswith("closed")


def test_a_dsr_connection_has_its_snat_record(lab: Topology) -> None:
    curl(lab, CLIENT, VIP)
    for member in ("node-a", "node-b"):
        node = ("--node", lab.datapath_node(member))
        dsr = ctctl_json("ct", "list", "flag(DSRInternal)", "--from-ip", CLIENT_IP, *node)["entries"]
        if dsr:
            entry = dsr[-1]
            words = f"tcp {entry['src']}:{entry['src_port']} > {entry['dst']}:{entry['dst_port']}"
            assert VIP in {nat["to_addr"] for nat in ctctl_json("ct", "get", words, *node)["snat"]}
            return
    pytest.fail("no node has a DSR entry")


def test_events_as_the_hooks_tell_them(lab: Topology) -> None:
    node = ("--node", lab.datapath_node("node-a"))
    words = ("ct", "events", "-f", f"dst == {POD3} and tcp", "--interval", "0.5", "-o", "jsonl", *node)
    process = subprocess.Popen([*CTCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    events: list[dict[str, Any]] = []

    def collect() -> None:
        assert process.stdout is not None
        events.extend(json.loads(line) for line in process.stdout)

    reader = threading.Thread(target=collect)
    try:
        # The listener needs a moment to take its lease: traffic until it is heard.
        lines: list[dict[str, Any]] = events
        reader.start()

        def heard() -> bool:
            curl(lab, "pod1", f"{POD3}:8000")
            return any(event["event"] == "CLOSING" for event in lines)

        wait_for(heard, 30, what="events of a connection")
        flow = f"src == {POD1} and dst == {POD3} and tcp"
        deleted = subprocess.run(
            [*CTCTL, "ct", "delete", flow, "--yes", "--undo-file", "-", *node],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "deleted" in deleted.stderr
        wait_for(lambda: any(event["event"] == "DESTROY" for event in lines), 20, what="the deletion")
    finally:
        process.terminate()
        reader.join(10)
        process.communicate(timeout=10)
    for event in events:
        jsonschema.Draft202012Validator(SCHEMAS[event["schema"]]).validate(event)
    kinds = {event["event"] for event in events}
    assert {"NEW", "CLOSING", "DESTROY"} <= kinds
    assert {event["cause"] for event in events if event["event"] != "DESTROY"} <= {"from_container", "to_container"}


def test_events_go_on_beside_another_listener(lab: Topology) -> None:
    node = lab.datapath_node("node-a")
    with EventStream([node]):
        done = subprocess.run(
            [*CTCTL, "ct", "events", "--interval", "0.2", "--node", node],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert "is listening on node" in done.stderr
    assert "comparing looks at the table instead" in done.stderr
