"""ct commands on a lab with real traffic: list, get, events as the hooks tell them, delete."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

import jsonschema
import pytest

from ctctl.cli.schemas import SCHEMAS
from ctctl.events.stream import EventStream
from ctctl.lab.topology import CLIENT, CLIENT_IP, Topology
from tests.support.children import CTCTL, run_ctctl, started
from tests.support.wait import PATIENCE_S, PATIENCE_WORD, wait_for

pytestmark = pytest.mark.lab

VIP, POD1, POD3, WEB = "172.190.0.17", "10.64.0.36", "10.64.1.36", "10.68.0.10"


def curl(lab: Topology, member: str, address: str) -> None:
    command = ["ip", "netns", "exec", lab.netns(member), "curl", "-s", "-m", PATIENCE_WORD, f"http://{address}/"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


def ctctl_json(*words: str) -> Any:
    done = run_ctctl(*words, "-o", "json", check=True)
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
    events: list[dict[str, Any]] = []
    with started(*CTCTL, *words) as process:

        def collect() -> None:
            assert process.stdout is not None
            events.extend(json.loads(line) for line in process.stdout)

        reader = threading.Thread(target=collect)
        reader.start()
        try:
            # The listener needs a moment to take its lease: traffic until it is heard.
            def heard() -> bool:
                curl(lab, "pod1", f"{POD3}:8000")
                return any(event["event"] == "CLOSING" for event in events)

            wait_for(heard, what="events of a connection")
            flow = f"src == {POD1} and dst == {POD3} and tcp"
            deleted = run_ctctl("ct", "delete", flow, "--yes", "--undo-file", "-", *node, check=True)
            assert "deleted" in deleted.stderr
            wait_for(lambda: any(event["event"] == "DESTROY" for event in events), what="the deletion")
        finally:
            process.terminate()
            reader.join(PATIENCE_S)
    for event in events:
        jsonschema.Draft202012Validator(SCHEMAS[event["schema"]]).validate(event)
    kinds = {event["event"] for event in events}
    assert {"NEW", "CLOSING", "DESTROY"} <= kinds
    assert {event["cause"] for event in events if event["event"] != "DESTROY"} <= {"from_container", "to_container"}


def test_events_are_told_beside_another_listener(lab: Topology) -> None:
    node = lab.datapath_node("node-a")
    words = ("ct", "events", "-f", f"dst == {POD3} and tcp", "--interval", "60", "-o", "jsonl", "--node", node)
    events: list[str] = []
    with EventStream([node]) as stream, started(*CTCTL, *words) as process:

        def collect() -> None:
            assert process.stdout is not None
            events.extend(process.stdout)

        reader = threading.Thread(target=collect)
        reader.start()

        def heard() -> bool:
            curl(lab, "pod1", f"{POD3}:8000")
            return bool(events)

        try:
            # A look at the table comes once a minute here: what is told before is the hooks'.
            wait_for(heard, what="events of a connection")
        finally:
            process.terminate()
            reader.join(PATIENCE_S)
        assert stream.read(0, last=True)
