"""A story of sockets' calls, told by real sockets in a cgroup that has our programs on it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from ctctl.abi import layouts, pins
from ctctl.events.decode import decode_event
from ctctl.kernel.link import CgroupLink
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.program import Program
from ctctl.kernel.ringbuf import RingBuffer
from ctctl.model.event import HookEvent
from ctctl.node.slots import SOCKET_HOOKS, object_name
from ctctl.node.tables import rodata
from ctctl.simulate.scenario_changes import apply_operation
from ctctl.simulate.simulator import Simulator
from tests.conformance.run import service
from tests.support.cgroups import made_cgroup
from tests.support.children import line_of, started
from tests.support.nodefile import parse_node_file
from tests.support.wait import PATIENCE_S

CALLS = Path(__file__).parent / "socket_calls.py"
VERSIONS = (4, 6)
#: cookie of no network namespace that a socket of ours is in
NOBODY = 1


def node_document(story: dict[str, Any]) -> dict[str, Any]:
    return {
        "node": {"name": "n", "ip": "10.1.0.1", "ip6": "fd00:1::1", "pod-cidr": "10.64.0.0/24"},
        "datapath": {"ipv6": True, "lb": {"algorithm": "random", "socket": True}},
        "clock": story["config"]["start_now"],
        "remote": story.get("remote", []),
        "services": [service({**one, "type": one["type"] or "ClusterIP"}) for one in story["services"]],
    }


class Replay:
    """One story: our programs on a cgroup, its caller in it, and the tables between them."""

    def __init__(self, story: dict[str, Any], stack: contextlib.ExitStack) -> None:
        self.nf = parse_node_file(yaml.safe_dump(node_document(story)))
        self.simulator = stack.enter_context(Simulator(self.nf))
        self.stack = stack
        self.cgroup = stack.enter_context(made_cgroup())
        backends = {b["ip"] for one in story["services"] for b in one["backends"]}
        backends |= {s["to"].rpartition(":")[0].strip("[]") for s in story["steps"] if s.get("call") == "listen"}
        command = ("unshare", "-n", sys.executable, CALLS, self.cgroup, *sorted(backends))
        self.caller = stack.enter_context(started(*command, stdin=subprocess.PIPE))
        self.netns_cookie = self._answer()["netns_cookie"]
        self.cookies: dict[int, int] = {}
        self.programs = {place: self._programs(place) for place in ("pod", "host")}
        self.links = {}
        for version in VERSIONS:
            for name, hook in SOCKET_HOOKS[version]:
                program = self.programs["pod"][name]
                self.links[name] = stack.enter_context(CgroupLink.attach(program, self.cgroup, hook))

    def _programs(self, place: str) -> dict[str, Program]:
        """Of a socket's namespace the programs know only whether it is the host's."""
        programs = {}
        for version in VERSIONS:
            bpf = self.stack.enter_context(BpfObject.open(OBJECTS / f"{object_name('sock', version)}.bpf.o"))
            host = self.netns_cookie if place == "host" else NOBODY
            values = {**rodata(self.nf, version=version), "cfg_sim": 1, "cfg_host_netns_cookie": host}
            for name in bpf.config_names() & values.keys():
                bpf.set_config(name, values[name])
            self.simulator.maps.share(bpf)
            bpf.load()
            self.simulator.maps.adopt(bpf)
            programs |= {name: bpf.program(name) for name, _ in SOCKET_HOOKS[version]}
        return programs

    def _answer(self) -> dict[str, Any]:
        line = line_of(self.caller, self.caller.stdout)
        if not line:
            assert self.caller.stderr is not None
            raise AssertionError(self.caller.communicate(timeout=PATIENCE_S)[1])
        return json.loads(line)

    def step(self, step: dict[str, Any]) -> list[str]:
        """Do a step; what differs from the recording."""
        if "op" in step:
            apply_operation(self.simulator, step["op"], self._operation(step))
            return []
        clock = layouts.ctctl_sim(now_ns=step.get("now", self.nf.clock) * 1_000_000_000, random=step.get("prandom", 0))
        self.simulator.maps[pins.SIM].update(bytes(4), bytes(clock))
        for name, link in self.links.items():
            link.update(self.programs[step.get("namespace", "pod")][name])
        assert self.caller.stdin is not None
        self.caller.stdin.write(json.dumps(step) + "\n")
        self.caller.stdin.flush()
        answer = self._answer()
        self.cookies[answer["cookie"]] = step.get("cookie", answer["cookie"])
        return list(self._differences(step, answer["result"]))

    def _operation(self, step: dict[str, Any]) -> dict[str, Any]:
        args = {name: value for name, value in step.items() if name not in ("op", "note")}
        if "addr" in args:
            args["addr"] = ip_address(args["addr"])
        if "service" in args:
            one = service({**args["service"], "type": args["service"]["type"] or "ClusterIP"})
            document = {**node_document({"config": {"start_now": 1}, "services": []}), "services": [one]}
            args["service"] = parse_node_file(yaml.safe_dump(document)).services[0]
        return args

    def _differences(self, step: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
        for name, wanted in step["result"].items():
            if result.get(name) != wanted:
                yield f"{name}: {result.get(name)} instead of {wanted}"
        for version, name in ((4, "reverse_sk4"), (6, "reverse_sk6")):
            if name not in step:
                continue
            wanted = sorted((entry["key_hex"], entry["value_hex"]) for entry in step[name])
            if self.reverse(version) != wanted:
                yield f"{name}: {self.reverse(version)} instead of {wanted}"
        for version, name in ((4, "affinity"), (6, "affinity6")):
            if name not in step:
                continue
            wanted = sorted(
                (e["client"], e["rev_nat_id"], e["netns_cookie"], e["last_used_minus_now"], e["backend_id"])
                for e in step[name]
            )
            if self.affinity(version, step["now"]) != wanted:
                yield f"{name}: {self.affinity(version, step['now'])} instead of {wanted}"

    def reverse(self, version: int) -> list[tuple[str, str]]:
        table = self.simulator.maps[pins.LB4_SOCKETS if version == 4 else pins.LB6_SOCKETS]
        found = []
        for key, value in table.items():
            cookie = self.cookies[int.from_bytes(key[:8], "little")].to_bytes(8, "little")
            found.append(((cookie + key[8:]).hex(), value.hex()))
        return sorted(found)

    def affinity(self, version: int, now: int) -> list[tuple[str, int, int, int, int]]:
        table = self.simulator.maps[pins.LB4_AFFINITY if version == 4 else pins.LB6_AFFINITY]
        key_of = layouts.lb4_affinity_key if version == 4 else layouts.lb6_affinity_key
        found = []
        for raw_key, raw_value in table.items():
            key, value = key_of.from_buffer_copy(raw_key), layouts.lb_affinity_val.from_buffer_copy(raw_value)
            own = int.from_bytes(raw_key[:8], "little") == self.netns_cookie
            client = "pod" if own else raw_key[:8].hex()
            found.append((client, key.rev_nat_id, key.netns_cookie, value.last_used - now, value.backend_id))
        return sorted(found)


def replay(story: dict[str, Any]) -> list[str]:
    """Tell a story in the form of the recordings; every step that came out otherwise, in words."""
    with contextlib.ExitStack() as stack:
        told = Replay(story, stack)
        return [
            f"step {number} ({step.get('call', step.get('op'))} {step.get('socket', '')}): {difference}"
            for number, step in enumerate(story["steps"], 1)
            for difference in told.step(step)
        ]


def story_events(story: dict[str, Any]) -> list[HookEvent]:
    """What the hooks tell while a story is told, whatever comes of its calls."""
    records: list[bytes] = []
    with contextlib.ExitStack() as stack:
        told = Replay(story, stack)
        listening = layouts.ctctl_trace_ctl(until_ns=(1 << 64) - 1)
        told.simulator.maps[pins.TRACE_CTL].update(bytes(4), bytes(listening))
        with RingBuffer(told.simulator.maps[pins.EVENTS], lambda record: records.append(bytes(record))) as ring:
            for step in story["steps"]:
                told.step(step)
                ring.consume()
    return [decode_event(record) for record in records]
