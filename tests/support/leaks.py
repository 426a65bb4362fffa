"""What a test may leave behind and must not: descriptors, BPF links, pins, namespaces, interfaces, processes.

Machine-wide things count only if their name has this run's prefix in it (a lab's namespaces, a node's pins below
``ctctl``): other runs may be at work beside this one. With CTCTL_LEAK_CHECK=machine, for a machine with nobody
else on it, all count.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
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


_ALONE = os.environ.get("CTCTL_LEAK_CHECK") == "machine"
_PATTERN = "*" if _ALONE else f"*{PREFIX}*"


def set_apart() -> None:
    """What is there now, every imported module and every test, is not looked through again for garbage.

    An inventory collects it, twice a test, which took a tenth of the whole run.
    """
    gc.collect()
    gc.freeze()


def take_inventory() -> Inventory:
    """The state now. Collects garbage first, so that only what is still referenced counts."""
    gc.collect()
    things = [*_pins(), *_namespaces(), *_interfaces(), *_children(), *(_links() if _ALONE else ())]
    return Inventory(frozenset(_descriptors()), frozenset(things))


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
    tops = {top for place in (root, root / "ctctl") for top in place.glob(_PATTERN)}
    found = [path for top in tops for path in (top, *top.rglob("*"))]
    # The iterators that the kernel puts there itself.
    return [f"pin {path}" for path in found if path.name not in ("maps.debug", "progs.debug")]


def _namespaces() -> list[str]:
    return [f"netns {path.name}" for path in Path("/run/netns").glob(_PATTERN)]


def _interfaces() -> list[str]:
    return [f"interface {path.name}" for path in Path("/sys/class/net").glob(_PATTERN)]


def _children() -> list[str]:
    """Child processes that still run, whichever thread started them."""
    found = []
    for listing in Path("/proc/self/task").glob("*/children"):
        pids = ""
        with contextlib.suppress(OSError):  # a thread may end while this looks: its children are another's then
            pids = listing.read_text()
        for pid in pids.split():
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if state != "Z":
                    found.append(f"process {pid} {name}")
    return found


def _links() -> list[str]:
    output = subprocess.run(["bpftool", "-j", "link", "show"], check=True, capture_output=True, text=True).stdout
    return [f"link {link['id']} {link.get('devname', '')}" for link in json.loads(output or "[]")]
