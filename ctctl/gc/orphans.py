"""SNAT entries that no conntrack entry stands behind any more (docs/reference/abi.md, "GC facts")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctctl.abi.layouts import CtctlWriterStatus
from ctctl.gc.job import Job
from ctctl.kernel.map import Map
from ctctl.model.tuples import TCP
from ctctl.tables import pairs as _keys
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.writer.remover import Remover
from ctctl.tables.writer.targets import Target, Targets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TCP_LABEL, _OTHER_LABEL = "TCP", "non-TCP"
Cts = dict[str, CtTable]


@dataclass(slots=True)
class Purged:
    """How many went (dry run: were found), and how many the kernel refused to delete, at every moment."""

    count: int = 0
    refused: int = 0


def purge(source: Source, targets: Targets | None, job: Job, purged: Purged) -> None:
    """Delete the orphans of every SNAT table whose two conntrack tables are there, counted in ``purged``.

    The datapath writes the conntrack entry before its SNAT entry, so an orphan is not one in the making.
    With ``job.addresses``: every SNAT entry with one of them in its key or its value, orphan or not.
    """
    for nat, cts in _by_snat(source).values():
        if len(cts) == 2 or job.addresses:
            _purge_one(nat, cts, targets, job, purged)


def _by_snat(source: Source) -> dict[int, tuple[Map, Cts]]:
    """Each SNAT table with its conntrack tables by protocol label."""
    found: dict[int, tuple[Map, Cts]] = {}
    for table in source.tables:
        if table.nat is not None:
            found.setdefault(table.nat.info.id, (table.nat, {}))[1][table.protocol] = table
    return found


def _purge_one(nat: Map, cts: Cts, targets: Targets | None, job: Job, purged: Purged) -> None:
    maps = {protocol: table.live for protocol, table in cts.items() if table.live is not None}
    removers: dict[str, Remover] = {}
    try:
        for batch in nat.batches(job.batch_size):
            going: dict[str, list[int]] = {}
            for at, (key, value) in enumerate(zip(map(bytes, batch.keys), map(bytes, batch.values), strict=True)):
                if _goes(key, value, maps, job):
                    going.setdefault(_protocol(key, cts), []).append(at)
            for protocol, rows in going.items():
                if targets is None:
                    purged.count += len(rows)
                    continue
                if protocol not in removers:
                    removers[protocol] = _remover(targets.of(cts[protocol]), job)
                if not _remove(removers[protocol], batch.keys[rows], batch.values[rows], job, purged):
                    return
            if job.stop.is_set():
                return
    finally:
        for remover in removers.values():
            remover.close()


def _remover(target: Target, job: Job) -> Remover:
    reason = job.reason if job.addresses else "orphan"
    return Remover(
        target,
        journal=job.journal,
        recorder=job.recorder,
        reason=reason,
        room=job.batch_size,
        before_delete=job.before_delete,
    )


def _remove(remover: Remover, keys: NDArray[np.uint8], values: NDArray[np.uint8], job: Job, purged: Purged) -> bool:
    """Delete within the rate limit; whether to go on."""
    done = 0
    while done < len(keys):
        chunk = job.limit.take(min(len(keys) - done, remover.room))
        if not chunk:
            return False
        part = slice(done, done + chunk)
        removed = remover.remove_nat(keys[part], values[part], orphans=not job.addresses)
        purged.count += int((removed.status == CtctlWriterStatus.WRITER_DELETED).sum())
        purged.refused += removed.refused
        done += chunk
    return True


def _protocol(key: bytes, cts: Cts) -> str:
    """The conntrack table behind an SNAT entry; for a scrub any that is there will do."""
    wanted = _TCP_LABEL if key[-2] == TCP else _OTHER_LABEL
    return wanted if wanted in cts else next(iter(cts))


def _goes(key: bytes, value: bytes, cts: dict[str, Map], job: Job) -> bool:
    if job.addresses:
        layout = _keys.layout_of(key)
        to = value[layout.nat_address : layout.nat_address + layout.address]
        return to in job.addresses or any(_keys.has_address(key, address) for address in job.addresses)
    return is_orphan(key, value, cts)


def is_orphan(key: bytes, value: bytes, cts: dict[str, Map]) -> bool:
    """Whether neither conntrack OUT key behind an SNAT entry is in the table of its protocol.

    ``cts``: the conntrack maps by protocol label, TCP and non-TCP.
    """
    forward = key if _keys.is_out(key) else _keys.forward_nat_key(key, value)
    table = cts[_TCP_LABEL if key[-2] == TCP else _OTHER_LABEL]
    return all(table.lookup(ct_key) is None for ct_key in _keys.ct_keys(forward))


def without_ct(source: Source) -> list[str]:
    """SNAT tables whose orphans cannot be told, because a conntrack table of theirs is not there."""
    return [nat.name for nat, cts in _by_snat(source).values() if len(cts) < 2]
