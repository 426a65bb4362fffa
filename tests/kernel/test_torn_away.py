"""A pod with its interface, then the device, goes while commands run: each goes on, and has its right end."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.children import CTCTL, run_ctctl, started
from tests.support.net import free_ports
from tests.support.nodes import POD_NET, TestNode, make_node, run
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[TestNode]:
    with make_node(pods=2) as node:
        file = tmp_path / "node.yaml"
        file.write_text(node.text())
        done = run_ctctl("load", "-f", file, "--netns", node.name)
        assert done.returncode == 0, done.stderr
        try:
            yield node
        finally:
            run_ctctl("unload", "--node", node.name)


def ping(node: TestNode, to: str) -> None:
    """From the second pod, one packet, whatever becomes of it."""
    command = ("ip", "netns", "exec", node.pod(2), "ping", "-c1", to)
    subprocess.run(command, check=False, capture_output=True)


def test_interfaces_go_while_commands_run(loaded: TestNode, tmp_path: Path) -> None:
    """What listens goes on with what is left, status names what is gone, and all can still be taken down."""
    node = ("--node", loaded.name)
    commands = {
        "trace": ("trace", "--live", "icmp any > any"),
        "events": ("ct", "events", "-f"),
        "gc": ("gc", "--interval", "1s", "--yes"),
        "serve": ("metrics", "serve", f"127.0.0.1:{free_ports(1)[0]}"),
    }
    with ExitStack() as stack:
        running = {}
        for name, words in commands.items():
            file = stack.enter_context((tmp_path / name).open("w"))
            process = started(*CTCTL, *words, *node, stdout=file, stderr=subprocess.STDOUT)
            running[name] = stack.enter_context(process)

        def heard(word: str) -> bool:
            ping(loaded, f"{POD_NET}.11")
            return all(word in (tmp_path / name).read_text() for name in ("trace", "events"))

        wait_for(lambda: heard("10.244.7.12"), what="events of both listeners")
        wait_for(lambda: "alive" in (tmp_path / "gc").read_text(), what="a first collection")
        run("ip", "-n", loaded.name, "link", "del", "lxc1")
        run("ip", "netns", "del", loaded.pod(1))
        (told,) = json.loads(run_ctctl("status", *node, "-o", "json").stdout)["nodes"]
        gone = [f"{way} of lxc1: interface lxc1 is gone" for way in ("from_container", "to_container")]
        assert told["problems"] == gone
        for command in (("ct", "list"), ("ct", "stats"), ("gc", "--dry-run")):
            done = run_ctctl(*command, *node)
            assert done.returncode == 0, done.stderr
        found = json.loads(run_ctctl("doctor", *node, "-o", "json").stdout)["findings"]
        assert [(one["check"], one["severity"], one["evidence"]["hooks"]) for one in found] == [
            ("programs", "warning", gone)
        ]
        again = run_ctctl("load", "-f", tmp_path / "node.yaml", "--netns", loaded.name)
        assert (again.returncode, "there is no interface 'lxc1'" in again.stderr) == (2, True)
        # The other pod's packets are heard as before: the host says that the first is not there.
        wait_for(lambda: heard("169.254.1.1"), what="events after the pod was gone")
        run("ip", "-n", loaded.name, "link", "del", "eth0")
        assert "interface eth0 is gone" in run_ctctl("status", *node, "-o", "json").stdout
        assert {name: process.poll() for name, process in running.items()} == dict.fromkeys(commands)
        for process in running.values():
            process.send_signal(signal.SIGINT)
        ends = {name: process.wait(PATIENCE_S) for name, process in running.items()}
        assert ends == {"trace": 130, "events": 130, "gc": 0, "serve": 0}
    done = run_ctctl("unload", *node)
    assert done.returncode == 0, done.stderr
    assert not loaded.dir.exists()


def test_a_program_that_was_taken_off_is_a_finding(loaded: TestNode) -> None:
    """Its packets pass, and no table knows of them."""
    node = ("--node", loaded.name)
    healthy = json.loads(run_ctctl("doctor", *node, "-o", "json").stdout)
    assert not [one for one in healthy["findings"] if one["check"] == "programs"]
    taken = next(path for path in sorted((loaded.dir / "links").iterdir()) if "from_container" in path.name)
    taken.unlink()

    def found() -> list[dict[str, str]]:
        findings = json.loads(run_ctctl("doctor", *node, "-o", "json").stdout)["findings"]
        return [one for one in findings if one["check"] == "programs"]

    wait_for(found, what="the finding")  # the kernel takes it off behind the last pin
    (one,) = found()
    assert one["severity"] == "critical"
    assert "1 hook not as loaded: from_container of lxc" in one["summary"]
    assert "not attached" in one["summary"]
