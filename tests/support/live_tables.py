"""Live tables of a node of ours with a few connections, for the commands that read and change them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ctctl.abi import layouts
from ctctl.kernel.clock import monotonic_s
from tests.support.children import run_ctctl
from tests.support.gctables import TableDir, entry, key4, nat4, table_dir

SYN, SEEN, CLOSED, DSR = 0, 0x10, 0x13, 0x80


@contextlib.contextmanager
def live_tables(folder: Path) -> Iterator[TableDir]:
    """Conntrack tables and the SNAT table of a node of ours, empty."""
    with table_dir(folder) as made:
        for name in ("cilium_ct4_global", "cilium_ct_any4_global", "cilium_ct6_global", "cilium_snat_v4_external"):
            made.create(name)
        yield made


def fill_small(tables: TableDir) -> int:
    """A few connections, none of which ends while a test runs, however slowly; returns now."""
    now = monotonic_s()
    tcp = tables.maps["cilium_ct4_global"]
    tcp.update(key4("10.0.0.1", 1000, "10.0.0.2", 80), entry(lifetime=now + 100_000, flags=SEEN, src_sec_id=7))
    tcp.update(key4("10.0.0.1", 1001, "10.0.0.2", 80), entry(lifetime=now + 10_000, flags=CLOSED))
    tcp.update(key4("10.0.0.3", 1002, "10.0.0.2", 443, flags=1), entry(lifetime=1, flags=SYN))
    tcp.update(key4("192.0.2.1", 5000, "10.0.0.2", 80), entry(lifetime=now + 50_000, flags=SEEN | DSR))
    any_table = tables.maps["cilium_ct_any4_global"]
    any_table.update(key4("10.0.0.1", 0, "10.0.0.2", 0, proto=1, flags=2), entry(lifetime=now + 60_000))
    nat = tables.maps["cilium_snat_v4_external"]
    # DSR: the pod's reply 10.0.0.2:80 -> 192.0.2.1:5000 gets the VIP as its source.
    nat.update(
        bytes(layouts.ipv4_ct_tuple(daddr=0xC0000201, saddr=0x0A000002, dport=5000, sport=80, nexthdr=6, flags=0)),
        nat4("172.16.0.1", 80),
    )
    return now


def run(*words: str, code: int = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ctctl, which has to end with this exit code."""
    done = run_ctctl(*words, input=stdin)
    assert done.returncode == code, done.stderr
    return done


def listed(*words: str) -> list[dict[str, object]]:
    """What ``ctctl ct list`` shows."""
    found: list[dict[str, object]] = json.loads(run("ct", "list", "-o", "json", *words).stdout)["entries"]
    return found
