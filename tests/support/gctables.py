"""Conntrack tables made for GC and doctor tests: real LRU maps, filled by batch."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctctl.abi import layouts
from ctctl.gc.job import Engine, Job
from ctctl.gc.tally import Tally
from ctctl.kernel.map import Map, MapType
from ctctl.node.record import MAP_NAME, NodeRecord, write_record
from ctctl.tables.pairs import IPV4, IPV6, KeyLayout, layout_of
from ctctl.tables.sources.live import table_of
from ctctl.tables.writer.targets import Target, private_target
from tests.support.mounts import unmount
from tests.support.names import unique_name

NOW = 1_000_000

CT = {
    "cilium_ct4_global": IPV4,
    "cilium_ct_any4_global": IPV4,
    "cilium_ct6_global": IPV6,
    "cilium_ct_any6_global": IPV6,
}
NAT = {"cilium_snat_v4_external": IPV4, "cilium_snat_v6_external": IPV6}


def key4(src: str, sport: int, dst: str, dport: int, *, proto: int = 6, flags: int = 0) -> bytes:
    """The raw key of a flow src:sport -> dst:dport (docs/reference/abi.md: crossed for SERVICE, reversed else)."""
    s, d = (int.from_bytes(bytes(map(int, a.split("."))), "big") for a in (src, dst))
    if flags & 4:
        return bytes(layouts.ipv4_ct_tuple(daddr=d, saddr=s, dport=sport, sport=dport, nexthdr=proto, flags=flags))
    return bytes(layouts.ipv4_ct_tuple(daddr=s, saddr=d, dport=dport, sport=sport, nexthdr=proto, flags=flags))


def nat4(addr: str, port: int, created: int = NOW) -> bytes:
    value = int.from_bytes(bytes(map(int, addr.split("."))), "big")
    return bytes(layouts.ipv4_nat_entry(created=created, to_saddr=value, to_sport=port))


def reverse_nat_value(key: bytes, value: bytes) -> bytes:
    """The value of the reverse of an SNAT entry: the untranslated address and port, the rest as in the forward one."""
    layout = layout_of(key)
    start, size = layout.nat_address, layout.address
    return value[:start] + key[size : 2 * size] + key[2 * size + 2 : 2 * size + 4] + value[start + size + 2 :]


def entry(**fields: int) -> bytes:
    return bytes(layouts.ct_entry(**fields))


def random_keys(n: int, layout: KeyLayout, rng: np.random.Generator, *, tcp: bool = True) -> np.ndarray:
    """n distinct keys, uint8 (n, size): TCP or a mix of others, all directions."""
    keys = rng.integers(0, 256, (n, layout.size), dtype=np.uint8)
    keys[:, 0:4] = np.arange(n, dtype=">u4").view(np.uint8).reshape(n, 4)
    keys[:, -2] = 6 if tcp else rng.choice(np.array([1, 17, 132], np.uint8), n)
    keys[:, -1] = rng.choice(np.array([0, 1, 4] if tcp else [0, 1, 2, 3, 4], np.uint8), n)
    return keys


def random_values(n: int, rng: np.random.Generator, *, now: int = NOW, expired: float = 0.5) -> np.ndarray:
    """n values, uint8 (n, 56); a share ``expired`` has a lifetime before ``now``, the rest from ``now`` on."""
    values = np.zeros(n, np.dtype(layouts.ct_entry))
    gone = rng.random(n) < expired
    values["lifetime"] = np.where(gone, now - rng.integers(1, 9000, n), now + rng.integers(0, 8000, n))
    values["flags"] = rng.choice(np.array([0, 0x10, 0x13, 0x80, 0x90, 0x402], np.uint16), n)
    return values.view(np.uint8).reshape(n, 56)


def contents(table: Map) -> dict[bytes, bytes]:
    """Every entry of a still table."""
    found: dict[bytes, bytes] = {}
    for batch in table.batches(4096):
        found.update(zip(map(bytes, batch.keys), map(bytes, batch.values), strict=True))
    return found


@dataclass
class TableDir:
    """A directory of pinned tables in a bpffs of its own; ``path`` is what ``--from`` takes.

    ``own``: a record says that the tables are a node's, as a load writes it; ``words`` are more of it.
    """

    path: Path
    own: bool = False
    maps: dict[str, Map] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)

    def create(self, name: str, max_entries: int = 4096) -> Map:
        layout = (CT | NAT)[name]
        size = layout.nat_value_size if name in NAT else 56
        return self.add(name, Map.create(name[:15], MapType.LRU_HASH, layout.size, size, max_entries))

    def add(self, name: str, table: Map) -> Map:
        table.pin(self.path / name)
        self.maps[name] = table
        if self.own:
            self.record()
        return table

    def record(self, **words: Any) -> None:
        """Write the node's record anew, with more ``words``."""
        self.words |= words
        plain: dict[str, Any] = {"netns": None, "netns_inode": 0, "attach": "tcx", "tunnel": "bpf", "device": "eth0"}
        ids = {name: table.info.id for name, table in self.maps.items()}
        made = {**plain, "slots": (), "file_path": "", "file_text": "", "maps": ids, **self.words}
        (self.path / MAP_NAME).unlink(missing_ok=True)
        write_record(self.path / MAP_NAME, NodeRecord(self.path.name, **made))

    def fill(self, name: str, n: int, rng: np.random.Generator, *, expired: float = 0.5, now: int = NOW) -> None:
        keys = random_keys(n, CT[name], rng, tcp="any" not in name)
        self.maps[name].update_batch(keys, random_values(n, rng, now=now, expired=expired))


def as_target(ct: Map, nat: Map | None = None, name: str = "cilium_ct4_global") -> Target:
    """Maps of the test's own, open for the engines."""
    return private_target(table_of(name, ct, nat))


def collected(collect: Engine, target: Target, job: Job) -> Tally:
    """What an engine did to a table; in a dry run it may only read."""
    tally = Tally()
    collect(target.table, None if job.dry_run else target, job, tally)
    return tally


@contextlib.contextmanager
def table_dir(tmp: Path, *, own: bool = True) -> Iterator[TableDir]:
    """A private bpffs with an empty node directory (``own``), or one as a live Cilium has it."""
    mount = tmp / unique_name("bpf")
    mount.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mount], check=True)
    path = mount / (f"ctctl/{unique_name('node')}" if own else "tc/globals")
    made = TableDir(path, own)
    try:
        # As the loader makes them: nobody else may write there.
        path.parent.mkdir(mode=0o700, parents=True)
        path.mkdir(mode=0o700)
        yield made
    finally:
        for table in made.maps.values():
            table.close()
        unmount(mount)
