"""Captured Cilium nodes, byte for byte, as a node that ctctl can look at: see tests/data/captures.

A node is a private mount namespace with a bpffs of its own, in which the captured maps are pinned where
an agent pins them, and with the agent's stored configuration where it stores it. ``ctctl`` runs in there.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ctctl.abi import pins
from tests.support.children import line_of, run_ctctl, started

ROOT = Path(__file__).resolve().parents[2]
CAPTURES = ROOT / "tests" / "data" / "captures"
NAMES = tuple(sorted(path.name.removesuffix(".tar.xz") for path in CAPTURES.glob("cilium-1.*.tar.xz")))
BUGTOOL = next(CAPTURES.glob("cilium-bugtool-*.tar.xz"))
GLOBALS = "/sys/fs/bpf/tc/globals"

_PLAIN = {"hash", "lru_hash", "array", "lpm_trie"}
_PER_CPU = {"percpu_hash", "percpu_array", "lru_percpu_hash"}


@cache
def files(name: str) -> dict[str, bytes]:
    """The files of a capture by name: ``maps.json``, ``cli/…``, ``cmd/…``."""
    found: dict[str, bytes] = {}
    with tarfile.open(CAPTURES / f"{name}.tar.xz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                found[member.name] = stream.read()
    return found


def text(name: str, file: str) -> str:
    """One file of a capture."""
    return files(name)[file].decode()


@cache
def document(name: str, file: str) -> Any:
    """One JSON file of a capture."""
    return json.loads(files(name)[file])


@cache
def pinned(name: str) -> dict[str, dict[bytes, bytes]]:
    """Keys and values of every map of a capture by its pin; entries with a value for each CPU are left out."""
    return {
        about["pin"]: {
            bytes.fromhex(key): bytes.fromhex(value) for key, value in about["entries"] or () if isinstance(value, str)
        }
        for about in document(name, "maps.json")["maps"]
    }


def conntrack(name: str) -> dict[tuple[str, bytes], bytes]:
    """Every conntrack entry of a capture: its value by table and key."""
    return {(table, key): value for table in pins.CT_TABLES for key, value in pinned(name).get(table, {}).items()}


@dataclass(frozen=True)
class CapturedNode:
    """A capture in its own mount namespace."""

    name: str
    pid: int

    def run(self, *words: str, check: int | None = 0, env: dict[str, str] | None = None) -> str:
        """What ``ctctl`` prints there on stdout; ``check`` is the exit code it must have."""
        return self.done(*words, check=check, env=env).stdout

    def done(
        self, *words: str, check: int | None = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same with stderr and the exit code."""
        place = (f"/proc/{self.pid}/ns/mnt",)
        done = run_ctctl(*words, namespaces=place, env={**os.environ, "NO_COLOR": "1", **(env or {})})
        assert check is None or done.returncode == check, f"{words}: exit {done.returncode}: {done.stderr}{done.stdout}"
        return done

    def json(self, *words: str) -> Any:
        """What it prints with ``-o json``."""
        return json.loads(self.run(*words, "-o", "json"))


@contextlib.contextmanager
def captured_node(
    name: str,
    *,
    per_cpu: bool = True,
    without: tuple[str, ...] = (),
    agent: bool = False,
    version: str | None = None,
    extra: dict[str, list[tuple[str, str]]] | None = None,
) -> Iterator[CapturedNode]:
    """The capture ``name`` restored. ``per_cpu``: its per-CPU maps too; ``without``: maps that are left out.

    ``agent``: what the agent answered when the node was captured is to be had at its socket again.
    ``version`` is what the agent says of itself then, where it is to be another one.
    ``extra``: entries as hex, by map, that the capture does not have.
    """
    asked = {"name": name, "per_cpu": per_cpu, "without": without, "agent": agent, "extra": extra or {}}
    request = json.dumps({**asked, "version": version})
    command = ("unshare", "-m", "--propagation", "private", sys.executable, "-m", "tests.support.captures", request)
    with started(*command, stdin=subprocess.PIPE, stderr=None, cwd=ROOT) as holder:
        said = line_of(holder, holder.stdout)
        assert said == "ready\n", f"the capture could not be restored: {said!r}"
        yield CapturedNode(name, holder.pid)


# ---- in the namespace


def _main(request: dict[str, Any]) -> None:
    from ctctl.kernel.bpffs import mounts

    # Other tests' and users' nodes are not on this one.
    for command in (
        *(["umount", "-l", str(path)] for path in reversed(mounts())),
        ["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"],
        ["mount", "-t", "tmpfs", "tmpfs", "/run"],
    ):
        subprocess.run(command, check=True)
    capture = files(request["name"])
    state = Path("/run/cilium/state")
    state.mkdir(parents=True)
    (state / "agent-runtime-config.json").write_bytes(capture["cmd/agent-runtime-config.json"])
    Path(GLOBALS).mkdir(parents=True)
    kinds = _PLAIN | (_PER_CPU if request["per_cpu"] else set())
    for about in json.loads(capture["maps.json"])["maps"]:
        if about["type"] in kinds and about["entries"] is not None and about["pin"] not in request["without"]:
            about["entries"] += request["extra"].get(about["pin"], [])
            _restore(about)
    if request["agent"]:
        _serve(capture, request["version"])
    print("ready", flush=True)
    sys.stdin.read()


#: What is asked of an agent, and the file of a capture that has its answer.
_ANSWERS = {
    "/v1/healthz": "cmd/status.json",
    "/v1/endpoint": "cmd/endpoint-list.json",
    "/v1/service": "cmd/service-list.json",
    "/v1/identity": "cmd/identity-list.json",
}


def _serve(capture: dict[str, bytes], said: str | None) -> None:
    """The agent's answers at its socket."""
    version = said or capture["cmd/version.txt"].decode().partition("Daemon: ")[2].strip()
    answers = {path: capture[file] for path, file in _ANSWERS.items()}
    answers["/v1/debuginfo"] = json.dumps({"cilium-version": version}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def address_string(self) -> str:
            return "ctctl"

        def log_message(self, *_words: object) -> None:
            pass

    server = socketserver.ThreadingUnixStreamServer("/run/cilium/cilium.sock", Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _restore(about: dict[str, Any]) -> None:
    from ctctl.kernel.map import Map, MapType

    made = Map.create(
        about["name"] or "x",
        MapType[about["type"].upper()],
        about["bytes_key"],
        about["bytes_value"],
        about["max_entries"],
        flags=about["flags"] or 0,
    )
    with made as table:
        for key, value in about["entries"]:
            whole = bytes.fromhex(value) if isinstance(value, str) else _per_cpu(table, value)
            table.update(bytes.fromhex(key), whole)
        table.pin(f"{GLOBALS}/{about['pin']}")


def _per_cpu(table: Any, values: list[str]) -> bytes:
    """The values of the captured CPUs on those of this machine; what has no CPU here is in the last one."""
    size, stride = table.info.value_size, table.per_cpu_stride
    cpus = table.value_bytes // stride
    slots = [0] * cpus
    for number, value in enumerate(values):
        at = min(number, cpus - 1)
        word = int.from_bytes(bytes.fromhex(value), "little")
        slots[at] = word if number < cpus else slots[at] + word
    return b"".join((slot & (1 << 8 * size) - 1).to_bytes(size, "little").ljust(stride, b"\0") for slot in slots)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
