"""SNAT entries that no conntrack entry stands behind any more (docs/reference/abi.md, "GC facts")."""

from __future__ import annotations

from ctctl.gc.job import Job
from ctctl.gc.tables import TableSet, family_name
from ctctl.kernel.map import Map
from ctctl.model.tuples import TCP
from ctctl.tables import pairs as _keys


def purge(tables: TableSet, job: Job) -> int:
    """Delete the orphans of every family whose two conntrack tables are there; how many (dry run: were found).

    The datapath writes the conntrack entry before its SNAT entry, so an orphan is not one in the making.
    With ``job.address``: every SNAT entry with that address in its key or its value, orphan or not.
    """
    found = 0
    for family, nat in tables.nats.items():
        cts = {table.protocol: table.map for table in tables.tables if table.family == family}
        if len(cts) == 2 or job.address is not None:
            found += _purge_family(nat, cts, job)
    return found


def _purge_family(nat: Map, cts: dict[str, Map], job: Job) -> int:
    found = 0
    for batch in nat.batches(job.batch_size):
        for key, value in zip(map(bytes, batch.keys), map(bytes, batch.values), strict=True):
            if job.stop.is_set():
                return found
            if not _goes(key, value, cts, job):
                continue
            if not job.dry_run:
                if not job.limit.take(1):
                    return found
                live = nat.lookup(key)
                if live is None or not _goes(key, live, cts, job) or not nat.delete(key):
                    continue
                if job.recorder is not None:
                    job.recorder.deleted(nat.name, "orphan" if job.address is None else job.reason, key, live)
            found += 1
    return found


def _goes(key: bytes, value: bytes, cts: dict[str, Map], job: Job) -> bool:
    if job.address is not None:
        start = _keys.layout_of(key).nat_address
        return _keys.has_address(key, job.address) or value[start : start + len(job.address)] == job.address
    return is_orphan(key, value, cts)


def is_orphan(key: bytes, value: bytes, cts: dict[str, Map]) -> bool:
    """Whether neither conntrack OUT key behind an SNAT entry is in the table of its protocol.

    ``cts``: the family's conntrack maps by protocol label, TCP and non-TCP.
    """
    forward = key if _keys.is_out(key) else _keys.forward_nat_key(key, value)
    table = cts["TCP" if key[-2] == TCP else "non-TCP"]
    return all(table.lookup(ct_key) is None for ct_key in _keys.ct_keys(forward))


def families_without_ct(tables: TableSet) -> list[str]:
    """Families whose orphans cannot be told, because a conntrack table of theirs is not there."""
    counts = dict.fromkeys(tables.nats, 0)
    for table in tables.tables:
        counts[family_name(table.layout)] = counts.get(family_name(table.layout), 0) + 1
    return [family for family in tables.nats if counts[family] < 2]
