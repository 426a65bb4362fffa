"""What commands of tests are forks of: when it can be asked, and what is told of a command that has ended."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support import hostile, ready
from tests.support.names import unique_name


def test_a_server_that_has_its_name_and_does_not_listen_yet_is_not_asked() -> None:
    address = unique_name("ready")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        assert not ready._listens(address)
        listener.listen(1)
        assert ready._listens(address)
    assert not ready._listens(address)


def test_what_a_command_took_is_told(tmp_path: Path) -> None:
    small, large = (tmp_path / name for name in ("small", "large"))
    small.write_bytes(hostile.lines("ct", 1))
    large.write_bytes(hostile.lines("ct", 20_000))
    first, second = (ready.run(["ct", "list", "--from", str(path), "-o", "json"]) for path in (small, large))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert 0 < first.cpu_s < second.cpu_s
    assert 1 << 20 < first.memory_bytes < second.memory_bytes


@pytest.mark.skipif(os.geteuid() != 0, reason="entering a namespace needs root")
def test_namespaces_are_all_opened_before_one_is_entered() -> None:
    here = [f"/proc/{os.getpid()}/ns/{kind}" for kind in ("mnt", "net")]
    assert ready.run(["version"], namespaces=here).returncode == 0
    gone = ready.run(["version"], namespaces=["/proc/self/ns/mnt", "/nowhere"])
    assert (gone.returncode, "/nowhere" in gone.stderr) == (1, True)
