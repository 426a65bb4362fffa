"""Fill pinned conntrack tables for benchmarks: python -m tests.bench.fill DIR [--entries N] …

DIR is made below a bpffs and gets cilium_ct4_global (and cilium_ct_any4_global with --any) with type
information. Contents are the same for the same seed: TCP OUT, IN and SERVICE entries in the states
connections have, a part of them expired for a minute at least, the others alive for five at least.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctctl.abi import layouts, pins
from ctctl.kernel.bpffs import ensure_mounted
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from tests.bench.floors import CLANG, HERE, ROOT

CHUNK = 16384

#: OUT, IN, SERVICE in the TCP table; OUT, IN, related OUT, SERVICE in the other.
_TCP_KINDS = (np.array([0, 1, 4], np.uint8), np.array([0.45, 0.45, 0.10]))
_ANY_KINDS = (np.array([0, 1, 2, 4], np.uint8), np.array([0.3, 0.3, 0.3, 0.1]))
#: SYN only, established, one side closed, both closed.
_STATES = (np.array([0x00, 0x10, 0x11, 0x13], np.uint16), np.array([0.10, 0.60, 0.10, 0.20]))


@dataclass(frozen=True)
class Filled:
    """What was written: ``now`` is the second of CLOCK_MONOTONIC that expiry is relative to."""

    directory: str
    now: int
    entries: int
    any_entries: int
    expired: int
    capacity: int


def random_entries(
    numbers: NDArray[np.uint32], rng: np.random.Generator, now: int, expired: float, *, tcp: bool
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Keys and values of the entries with these numbers; each number gives a key of its own."""
    n = len(numbers)
    keys = np.zeros(n, np.dtype(layouts.ipv4_ct_tuple))
    kinds, shares = _TCP_KINDS if tcp else _ANY_KINDS
    keys["flags"] = rng.choice(kinds, n, p=shares)
    keys["nexthdr"] = 6 if tcp else np.where(keys["flags"] & 2, 1, 17)
    keys["daddr"] = 0x0A400000 | numbers >> np.uint32(12)
    keys["saddr"] = 0x0A410000 | numbers & np.uint32(0xFFF)
    keys["sport"] = rng.integers(1024, 65536, n)
    keys["dport"] = rng.choice(np.array([80, 443, 8000, 8080, 53, 9090], np.uint16), n)
    values = np.zeros(n, np.dtype(layouts.ct_entry))
    dead = rng.random(n) < expired
    oldest = max(min(3600, now), 61)
    values["lifetime"] = now + np.where(dead, -rng.integers(60, oldest, n), rng.integers(300, 8000, n))
    values["flags"] = rng.choice(_STATES[0], n, p=_STATES[1]) if tcp else 0
    service = (keys["flags"] & 4) != 0
    values["backend_id"] = np.where(service, rng.integers(1, 500, n), 0)
    values["rev_nat_index"] = np.where(service, rng.integers(1, 200, n), 0)
    values["src_sec_id"] = np.where(service, 0, rng.integers(256, 65536, n))
    values["tx_flags_seen"] = np.where(values["flags"] & 0x10, 0x1B, 0x02) if tcp else 0
    values["rx_flags_seen"] = np.where(service, 0, values["tx_flags_seen"])
    values["last_tx_report"] = np.maximum(now - rng.integers(0, 4000, n), 0)
    values["last_rx_report"] = np.where(service, 0, values["last_tx_report"])
    return keys, values


def fill_map(table: Map, entries: int, rng: np.random.Generator, now: int, expired: float, *, tcp: bool) -> int:
    """Write ``entries`` of them; returns how many are expired."""
    dead = 0
    for start in range(0, entries, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, entries), dtype=np.uint32)
        keys, values = random_entries(numbers, rng, now, expired, tcp=tcp)
        table.update_batch(keys, values)
        dead += int((values["lifetime"] < now).sum())
    return dead


def fill_nat(directory: Path, entries: int, *, capacity: int = 1 << 20, seed: int = 1) -> None:
    """An IPv4 SNAT table beside the tables of ``fill``: half for what leaves, half for what comes back."""
    rng, now = np.random.default_rng(seed), monotonic_s()
    with Map.create("snat", MapType.LRU_HASH, 14, 40, capacity) as table:
        table.pin(directory / pins.SNAT4)
        for start in range(0, entries, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, entries), dtype=np.uint32)
            keys, _values = random_entries(numbers, rng, now, 0.5, tcp=True)
            keys["flags"] = numbers & 1
            values = np.zeros(len(numbers), np.dtype(layouts.ipv4_nat_entry))
            values["created"] = now - rng.integers(0, min(now, 4000), len(numbers))
            values["to_saddr"], values["to_sport"] = 0xC0000201, rng.integers(32768, 65536, len(numbers))
            table.update_batch(keys, values)


def fill(
    directory: Path,
    *,
    entries: int = 1_000_000,
    any_entries: int = 0,
    expired: float = 0.5,
    capacity: int = 1 << 20,
    seed: int = 1,
) -> Filled:
    """Make, fill and pin the tables. Raises KernelError if something is pinned there."""
    ensure_mounted()
    directory.mkdir(parents=True, exist_ok=True)
    rng, now = np.random.default_rng(seed), monotonic_s()
    with tempfile.TemporaryDirectory(prefix="ctctl-fill-") as build:
        multiarch = subprocess.run(["gcc", "-print-multiarch"], check=True, capture_output=True, text=True)
        target = Path(build) / "tables.bpf.o"
        include = [f"-I{ROOT / 'bpf' / 'include'}", f"-I/usr/include/{multiarch.stdout.strip()}"]
        flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", *include]
        subprocess.run([CLANG, *flags, "-c", str(HERE / "tables.bpf.c"), "-o", str(target)], check=True)
        with BpfObject.open(target) as found:
            wanted = {"cilium_ct4_global": entries, "cilium_ct_any4_global": any_entries}
            for name, count in wanted.items():
                found.set_max_entries(name, capacity if count else 1)
            found.load()
            dead = 0
            for name, count in wanted.items():
                if count:
                    found.map(name).pin(directory / name)
                    dead += fill_map(found.map(name), count, rng, now, expired, tcp=name == "cilium_ct4_global")
    return Filled(str(directory), now, entries, any_entries, dead, capacity)


def remove(directory: Path) -> None:
    """Unpin what ``fill`` pinned."""
    for pin in directory.iterdir() if directory.is_dir() else ():
        pin.unlink()
    if directory.is_dir():
        directory.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--entries", type=int, default=1_000_000, help="in cilium_ct4_global")
    parser.add_argument("--any", type=int, default=0, dest="any_entries", help="in cilium_ct_any4_global")
    parser.add_argument("--expired", type=float, default=0.5, help="share of expired entries")
    parser.add_argument("--capacity", type=int, default=1 << 20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--remove", action="store_true", help="unpin the tables instead")
    words = parser.parse_args()
    if words.remove:
        remove(words.directory)
        return
    filled = fill(
        words.directory,
        entries=words.entries,
        any_entries=words.any_entries,
        expired=words.expired,
        capacity=words.capacity,
        seed=words.seed,
    )
    print(json.dumps(asdict(filled)))


if __name__ == "__main__":
    main()
