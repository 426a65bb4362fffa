"""What a test may leave behind and must not: descriptors, BPF links, pins, namespaces, interfaces, processes.

Machine-wide things count only if their name starts with this run's prefix: other runs may be at
work beside this one.
"""

from __future__ import annotations

import gc
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.names import PREFIX


@dataclass(frozen=True)
class Inventory:
    """Everything that is counted, each thing as one word."""

    fds: frozenset[str]
    things: frozenset[str]

    def leaked_since(self, before: Inventory) -> list[str]:
        """What is here and was not there ``before``."""
        return sorted((self.fds - before.fds) | (self.things - before.things))


def take_inventory() -> Inventory:
    """The state now. Collects garbage first, so that only what is still referenced counts."""
    gc.collect()
    return Inventory(frozenset(_descriptors()), frozenset([*_pins(), *_namespaces(), *_interfaces()]))


def _descriptors() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if "bpf" in target or "net:[" in target or "netns" in target:
            found.append(f"fd {entry.name} {target}{_bpf_id(entry.name)}")
    return found


def _bpf_id(fd: str) -> str:
    """The id of a BPF object, so that a number used again is no false match."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return ""
    words = [line.split(":\t") for line in lines if ":\t" in line]
    return "".join(f" {key}={value}" for key, value in words if key in ("map_id", "prog_id", "link_id"))


def _pins() -> list[str]:
    root = Path("/sys/fs/bpf")
    return [f"pin {path}" for path in root.rglob("*") if any(part.startswith(PREFIX) for part in path.parts)]


def _namespaces() -> list[str]:
    root = Path("/run/netns")
    return [f"netns {path.name}" for path in root.glob(f"{PREFIX}*")]


def _interfaces() -> list[str]:
    return [f"interface {path.name}" for path in Path("/sys/class/net").glob(f"{PREFIX}*")]


def attached_links(ifindex: int) -> list[int]:
    """Ids of the BPF links on an interface of this namespace, by bpftool."""
    output = subprocess.run(["bpftool", "-j", "link", "show"], check=True, capture_output=True, text=True).stdout
    return [link["id"] for link in json.loads(output or "[]") if link.get("ifindex") == ifindex]
