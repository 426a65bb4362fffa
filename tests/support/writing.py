"""What tests of deleting and restoring fill tables with, count, and bring back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from ctctl._ffi.syscall import bpf
from ctctl.errors import KernelError
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map, UpdateMode
from tests.support.children import run_ctctl, started
from tests.support.gctables import CT, entry, random_keys
from tests.support.mounts import unmount
from tests.support.wait import PATIENCE_S

NAME, SNAT = "cilium_ct4_global", "cilium_snat_v4_external"


def fill(table: Map, count: int, *, lifetime: int = 0, **fields: int) -> list[bytes]:
    """Entries 10.0.0.1:N > 10.0.0.2:80; their keys."""
    keys = random_keys(count, CT[NAME], np.random.default_rng(1))
    keys[:, -1] = 0
    value = np.frombuffer(entry(lifetime=lifetime, **fields), np.uint8)
    table.update_batch(keys, np.tile(value, (count, 1)))
    return [bytes(key) for key in keys]


def alive() -> int:
    return monotonic_s() + 5000


def count_of(table: Map) -> int:
    return sum(len(batch) for batch in table.batches())


def run_undo(stderr: str) -> subprocess.CompletedProcess[str]:
    """What was printed to undo a run, as it was printed."""
    (line,) = re.findall(r"undo with: ctctl (.*)", stderr)
    return run_ctctl(*shlex.split(line))


@contextlib.contextmanager
def small_disk(where: Path, size_kb: int) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        unmount(where)


BPF_MAP_FREEZE = 22


class FreezeAttr(ctypes.Structure):
    """``bpf_attr`` of BPF_MAP_FREEZE."""

    _fields_: ClassVar = [("map_fd", ctypes.c_uint32)]


def freeze(table: Map) -> None:
    """From here on the kernel lets no system call write to the map (BPF_MAP_FREEZE)."""
    bpf(BPF_MAP_FREEZE, FreezeAttr(table.fd))


class Refresher:
    """Packets: writes entries again and again, only those that are there unless ``create``."""

    def __init__(self, table: Map, keys: list[bytes], value: Callable[[], bytes], *, create: bool = False) -> None:
        self._table = table
        self._keys = keys
        self._value = value
        self._create = create
        self._stop = threading.Event()
        self.refreshed: set[bytes] = set()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        mode = UpdateMode.ANY if self._create else UpdateMode.EXIST
        while not self._stop.is_set():
            for key in self._keys:
                with contextlib.suppress(KernelError):
                    self._table.update(key, self._value(), mode=mode)
                    self.refreshed.add(key)

    def __enter__(self) -> Refresher:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()


def answer_after(command: list[str], meanwhile: Callable[[], None]) -> tuple[int, str]:
    """Run a command on a terminal, do something while its question stands, and say yes; (status, what it said)."""
    leader, follower = pty.openpty()
    said = b""
    with started(*command, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        with contextlib.suppress(OSError), os.fdopen(leader, "r+b", buffering=0) as terminal:
            while b"[y/N]" not in said:
                said += terminal.read(4096)
            meanwhile()
            terminal.write(b"y\n")
            while part := terminal.read(4096):
                said += part
        return process.wait(PATIENCE_S), said.decode(errors="replace")
