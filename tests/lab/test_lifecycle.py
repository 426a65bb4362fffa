"""Up, up again, down, and every kind of crash in between: nothing may stay behind."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from jsonschema import Draft202012Validator

from ctctl.cli.schemas import whole
from ctctl.lab import datapaths, namespaces, processes
from ctctl.lab.cluster import down, find, members, up
from ctctl.lab.topology import MEMBERS, Topology
from tests.lab.conftest import ctctl, remains
from tests.support.children import CTCTL, go_on, started, stopped_before
from tests.support.wait import PATIENCE_S, PATIENCE_WORD

pytestmark = pytest.mark.lab

#: A line that ``lab up`` says before each of its steps, and how far into the step the kill comes, seconds.
CRASH_POINTS = [
    ("network:", 0.03),
    ("datapath of node-a", 0.0),
    ("datapath of node-a", 0.3),
    ("datapath of node-b", 0.1),
    ("servers:", 0.02),
]


def _silent(_line: str) -> None:
    return


def test_up_twice_changes_nothing_and_down_twice_is_fine(fresh_lab: Topology) -> None:
    up(fresh_lab, _silent)
    before = {member: namespaces.inode(fresh_lab.netns(member)) for member in MEMBERS}
    servers = processes.lab_pids(fresh_lab)
    assert len(servers) == len(fresh_lab.pods)
    processes.run(fresh_lab, "pod1", ["curl", "-sS", "http://10.64.1.36:8000/"])
    entries = _bpftool_entries(fresh_lab, "node-a")
    assert entries
    up(fresh_lab, _silent)
    assert {member: namespaces.inode(fresh_lab.netns(member)) for member in MEMBERS} == before
    assert processes.lab_pids(fresh_lab) == servers
    assert _bpftool_entries(fresh_lab, "node-a") >= entries
    assert down(fresh_lab).anything
    assert remains(fresh_lab) == []
    assert not down(fresh_lab).anything


def _bpftool_entries(topology: Topology, node: str) -> set[str]:
    path = datapaths.pin_dir(topology, node) / "cilium_ct4_global"
    dump = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], check=True, capture_output=True, text=True)
    return {json.dumps(entry["key"]) for entry in json.loads(dump.stdout)}


@pytest.mark.parametrize(("line", "delay"), CRASH_POINTS)
def test_up_that_is_killed_leaves_nothing_after_down(fresh_lab: Topology, line: str, delay: float) -> None:
    """SIGKILL at each step and a little into it; then ``down`` from what it finds."""
    command = [*CTCTL, "lab", "up", "--name", fresh_lab.name]
    with started(*command, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert any(said.startswith(line) for said in process.stderr)
        # Not a sleep that something depends on: where in the step the kill falls is left to chance.
        try:
            process.wait(delay or 0.001)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
    ctctl("lab", "down", "--name", fresh_lab.name)
    assert remains(fresh_lab) == []


def test_up_that_is_interrupted_cleans_up(fresh_lab: Topology) -> None:
    words = ("lab", "up", "--name", fresh_lab.name)
    with stopped_before("ctctl.lab.cluster:_start_servers", 1, *words, stdout=subprocess.DEVNULL) as process:
        assert remains(fresh_lab) != []
        go_on(process, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    assert remains(fresh_lab) == []


def test_up_after_a_crash_completes_the_lab(fresh_lab: Topology) -> None:
    command = [*CTCTL, "lab", "up", "--name", fresh_lab.name]
    with started(*command, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert any(said.startswith("datapath of node-b") for said in process.stderr)
        process.kill()
    assert namespaces.is_live(fresh_lab.netns("client"))
    up(fresh_lab, _silent)
    answer = processes.run(fresh_lab, "client", ["curl", "-sS", "--max-time", PATIENCE_WORD, "http://172.190.0.17/"])
    assert answer.stdout == "pod3\n"


def test_down_needs_no_state_file(fresh_lab: Topology) -> None:
    """Files gone, a namespace's name gone, a program running: it works from what it finds."""
    up(fresh_lab, _silent)
    processes.spawn(fresh_lab, "pod4", ["sleep", "60"])
    for path in fresh_lab.state_dir.iterdir():
        path.unlink()
    fresh_lab.state_dir.rmdir()
    namespaces.remove(fresh_lab.netns("pod4"))
    removed = down(fresh_lab)
    assert removed.processes == len(fresh_lab.pods) + 1
    assert remains(fresh_lab) == []


def test_a_failed_up_removes_what_it_made(fresh_lab: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(processes, "spawn", fail)
    with pytest.raises(OSError, match="no"):
        up(fresh_lab, _silent)
    assert remains(fresh_lab) == []


def test_two_labs_side_by_side(lab: Topology, fresh_lab: Topology) -> None:
    up(fresh_lab, _silent)
    for one in (lab, fresh_lab):
        answer = processes.run(one, "pod1", ["curl", "-sS", "--max-time", PATIENCE_WORD, "http://10.68.174.146/"])
        assert answer.stdout == "pod3\n"
    down(fresh_lab)
    assert all(member.up for member in members(lab))
    answer = processes.run(lab, "pod1", ["curl", "-sS", "--max-time", PATIENCE_WORD, "http://10.68.174.146/"])
    assert answer.stdout == "pod3\n"


def test_dry_runs_change_nothing(lab: Topology, fresh_lab: Topology) -> None:
    said = ctctl("lab", "up", "--dry-run", "--name", fresh_lab.name).stderr
    assert fresh_lab.netns("pod1") in said
    assert remains(fresh_lab) == []
    before = find(lab)
    said = ctctl("lab", "down", "--dry-run", "--name", lab.name).stderr
    for what in (*before.namespaces, *before.datapaths, *map(str, before.processes)):
        assert what in said
    assert find(lab) == before


def test_list_tells_what_is_up(lab: Topology) -> None:
    told = json.loads(ctctl("lab", "list", "--name", lab.name, "-o", "json").stdout)
    assert told["schema"] == "ctctl/lab/v1"
    assert told["up"] is True
    assert told["nodes"] == [f"{lab.name}-node-a", f"{lab.name}-node-b"]
    assert told["pods"] == [pod.name for pod in lab.pods]
    assert len(told["namespaces"]) == len(MEMBERS)
    assert "loadbalancer-dsr" in told["stories"]
    assert {row["name"]: row["loaded"] for row in told["members"] if row["kind"] == "node"} == {
        "node-a": True,
        "node-b": True,
    }


def test_lists_keep_to_their_schema(lab: Topology) -> None:
    validator = Draft202012Validator(whole())
    name = ("--name", lab.name)
    for args in (("list", *name), ("list", "--name", "no-such-lab"), ("run", "--list")):
        validator.validate(json.loads(ctctl("lab", *args, "-o", "json").stdout))
        for line in ctctl("lab", *args, "-o", "jsonl").stdout.splitlines():
            validator.validate(json.loads(line))


def test_list_without_a_lab(fresh_lab: Topology) -> None:
    told = json.loads(ctctl("lab", "list", "--name", fresh_lab.name, "-o", "json").stdout)
    assert told["up"] is False
    assert told["namespaces"] == []


def test_run_without_a_lab_says_what_to_do(fresh_lab: Topology) -> None:
    done = ctctl("lab", "run", "clusterip", "--name", fresh_lab.name, check=False)
    assert done.returncode == 1
    assert f"is not up: run ctctl lab up --name {fresh_lab.name}" in done.stderr


def test_exec_passes_output_and_status(lab: Topology) -> None:
    done = ctctl("lab", "exec", "--name", lab.name, "pod3", "--", "ip", "-br", "-4", "addr", "show", "dev", "eth0")
    assert "10.64.1.36/32" in done.stdout
    assert ctctl("lab", "exec", "--name", lab.name, "pod3", "--", "false", check=False).returncode == 1
    missing = ctctl("lab", "exec", "--name", lab.name, "pod3", "--", "no-such-program", check=False)
    assert missing.returncode == 4
    assert "no-such-program" in missing.stderr


def test_up_mounts_the_bpffs_and_says_so(fresh_lab: Topology) -> None:
    """As on a fresh machine, where /sys/fs/bpf is a plain folder: in a mount namespace without it."""
    ctctl = " ".join(CTCTL)
    script = f"""
        set -e
        while umount /sys/fs/bpf 2>/dev/null; do :; done
        {ctctl} lab list --name {fresh_lab.name} >&2
        {ctctl} lab up --name {fresh_lab.name}
        {ctctl} lab exec --name {fresh_lab.name} pod1 -- curl -sS http://10.64.1.36:8000/
        {ctctl} lab down --name {fresh_lab.name}
    """
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "pod3\n"
    assert done.stderr.count("mounted a BPF file system at /sys/fs/bpf") == 1


def test_a_story_that_was_killed_does_not_spoil_the_next(lab: Topology) -> None:
    """SIGKILL while a backend is terminating: the next story starts from the services as they were."""
    command = [*CTCTL, "lab", "run", "backend-drain", "--name", lab.name]
    with started(*command, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert any("is removed" in said for said in process.stdout)
        process.kill()
    ctctl("lab", "run", "backend-drain", "--name", lab.name)


def test_up_needs_root(fresh_lab: Topology) -> None:
    """Root without its capabilities, as in a container: one line, status 4."""
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    command = [*powerless, *CTCTL, "lab", "up", "--name", fresh_lab.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "run as root" in done.stderr
    assert len(done.stderr.splitlines()) == 1
