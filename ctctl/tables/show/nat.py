"""How an SNAT entry looks as JSON."""

from __future__ import annotations

from ctctl.model.nat import NatEntry
from ctctl.tables.show.tuples import tuple_record


def nat_record(entry: NatEntry) -> dict[str, object]:
    """An SNAT entry's JSON form."""
    return {
        "map": entry.map,
        **tuple_record(entry.tuple, direction=entry.direction.value, related=entry.related),
        "xlate": entry.xlate,
        "to_addr": str(entry.to_addr),
        "to_port": entry.to_port,
        "created": entry.created,
        "age": entry.age_s,
        "needs_ct": entry.needs_ct,
        "key_hex": entry.key.hex() if entry.key is not None else None,
    }
