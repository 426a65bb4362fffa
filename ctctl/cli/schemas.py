"""The JSON Schema of everything ctctl prints as JSON, by schema name. ``--fields`` prints less than these say."""

from __future__ import annotations

from ctctl.cluster.schema import CLUSTER_SCHEMAS
from ctctl.ct.report import Change, CtEventKind
from ctctl.fleet.schema import FLEET_SCHEMAS
from ctctl.gc.schema import GC_SCHEMAS
from ctctl.lab.schema import LAB_SCHEMAS
from ctctl.out.schema_words import (
    ANY,
    BOOL,
    COUNT,
    COUNTS,
    INT,
    NUMBER,
    OBJECT,
    STRING,
    STRINGS,
    Schema,
    array,
    document,
    listing,
    maybe,
    record,
    words,
)
from ctctl.services.schema import SERVICES_SCHEMAS
from ctctl.tables.show.schema import BACKEND, DIRECTION, ENTRY, NAT, TUPLE
from ctctl.trace.schema import TRACE_SCHEMAS

_META = {
    "source": STRING,
    "clock": array(record({"clock": STRING, "evidence": STRING})),
    "now": maybe(INT),
    "layout": STRINGS,
    "partial": STRINGS,
}
_HISTOGRAM = maybe(array(record({"le_s": COUNT, "count": COUNT})))
_CHANGED: Schema = {"type": "object", "additionalProperties": record({"before": ANY, "after": ANY})}
_STATS = record(
    {
        "map": STRING,
        "node": maybe(STRING),
        "entries": COUNT,
        "capacity": maybe(COUNT),
        "pressure": maybe(NUMBER),
        "by_protocol": COUNTS,
        "by_direction": COUNTS,
        "by_state": COUNTS,
        "related": COUNT,
        "expired": maybe(COUNT),
        "half_open": COUNT,
        "half_closed": COUNT,
        "flags": COUNTS,
        "remaining": _HISTOGRAM,
        "overdue": _HISTOGRAM,
        "idle": _HISTOGRAM,
        "engine": words("kernel", "batch"),
    }
)
_TALKER = record(
    {
        "by": STRING,
        "key": STRING,
        "name": maybe(STRING),
        "entries": COUNT,
        "expired": maybe(COUNT),
        "packets": maybe(COUNT),
        "bytes": maybe(COUNT),
        "rate": maybe(NUMBER),
        "node": maybe(STRING),
    }
)
_CONNECTION = record(
    {
        "flow": record(TUPLE),
        "state": STRING,
        "why": STRING,
        "notes": STRINGS,
        "service": maybe(STRING),
        "backend_id": maybe(COUNT),
        "backend": maybe(BACKEND),
        "snat": array(NAT),
        "entries": array(record({"role": words("service", "out", "in", "related")}, more=True)),
    }
)

_CT = {
    "ctctl/ct-entry/v1": listing("ctctl/ct-entry/v1", "entries", ENTRY, _META),
    "ctctl/connection/v1": document("ctctl/connection/v1", _CONNECTION),
    "ctctl/connections/v1": document("ctctl/connections/v1", record({"connections": array(_CONNECTION)})),
    "ctctl/ct-stats/v1": listing("ctctl/ct-stats/v1", "tables", _STATS),
    "ctctl/ct-top/v1": listing("ctctl/ct-top/v1", "talkers", _TALKER),
    "ctctl/ct-diff/v1": listing(
        "ctctl/ct-diff/v1",
        "differences",
        record({"change": words(*(change.value for change in Change)), "entry": ENTRY, "fields": _CHANGED}),
    ),
    "ctctl/ct-event/v1": listing(
        "ctctl/ct-event/v1",
        "events",
        record(
            {
                "event": words(*(kind.value for kind in CtEventKind)),
                "time": NUMBER,
                "cause": STRING,
                "entry": ENTRY,
                "fields": _CHANGED,
            }
        ),
    ),
    "ctctl/ct-decode/v1": document(
        "ctctl/ct-decode/v1", record({"kind": words("flags", "key", "value", "entry", "snat")}, more=True)
    ),
}
_GC_ROW = record(
    {
        "map": STRING,
        "protocol": STRING,
        "direction": DIRECTION,
        "related": BOOL,
        "family": ANY,
        "deleted": COUNT,
        "skipped": COUNT,
    },
    # A scrub does not ask what is expired: it counts what it selects, and what is of others.
    {"node": maybe(STRING), **dict.fromkeys(("alive", "expired", "others", "selected"), COUNT)},
)
_GC_META = {
    "source": STRING,
    "engine": STRING,
    "dry_run": BOOL,
    "now": INT,
    "complete": BOOL,
    "duration_s": NUMBER,
    **dict.fromkeys(("alive", "expired", "others", "selected", "deleted", "skipped", "nat_deleted", "refused"), COUNT),
    "scrubbed": STRING,
    "orphans": maybe(COUNT),
    "ratio": NUMBER,
    "interval_s": NUMBER,
    "next_interval_s": NUMBER,
    "undo_file": maybe(STRING),
    "notes": STRINGS,
    "maps": array(record({"map": STRING}, more=True)),
}
_PROGRAM = record({"program": STRING, "interface": ANY, "direction": STRING}, more=True)
_MAP = record(
    {"name": STRING, "id": maybe(COUNT), "type": maybe(STRING), "entries": maybe(COUNT), "max_entries": maybe(COUNT)},
    more=True,
)
_COUNTER = record({"hook": STRING, "reason": STRING, "packets": COUNT, "bytes": COUNT})
_NODE = {
    "ctctl/status/v1": listing(
        "ctctl/status/v1",
        "nodes",
        record(
            {"name": STRING, "programs": array(_PROGRAM), "maps": array(_MAP), "counters": array(_COUNTER)}, more=True
        ),
    ),
    "ctctl/version/v1": document(
        "ctctl/version/v1",
        record(
            {
                "ctctl": STRING,
                "path": STRING,
                "commit": maybe(STRING),
                "built_at": maybe(STRING),
                "libbpf": maybe(STRING),
                "libbpf_path": maybe(STRING),
                "kernel": STRING,
                "machine": STRING,
                "python": STRING,
                "examples": maybe(STRING),
                "bpf": {"type": "object", "additionalProperties": STRING},
            }
        ),
    ),
    "ctctl/features/v1": listing(
        "ctctl/features/v1",
        "features",
        record({"name": STRING, "available": BOOL, "needed_for": STRING, "detail": maybe(STRING)}),
    ),
    "ctctl/load/v1": document(
        "ctctl/load/v1",
        record(
            {
                **dict.fromkeys(("node", "path", "attach", "tunnel"), STRING),
                "netns": maybe(STRING),
                **dict.fromkeys(("kept", "made", "attached", "replaced", "detached"), STRINGS),
                "mounted": BOOL,
                "planned": BOOL,
            }
        ),
    ),
    "ctctl/unload/v1": document(
        "ctctl/unload/v1",
        record(
            {
                "nodes": array(
                    record({"node": STRING, "path": STRING, "detached": STRINGS, "maps": STRINGS, "planned": BOOL})
                )
            }
        ),
    ),
    "ctctl/apply/v1": listing(
        "ctctl/apply/v1",
        "changes",
        record({"action": STRING, "kind": STRING, "name": STRING, "before": maybe(STRING), "after": maybe(STRING)}),
        {
            "node": STRING,
            "planned": BOOL,
            **dict.fromkeys(("attached", "replaced", "detached"), STRINGS),
        },
    ),
    "ctctl/gc-report/v1": listing("ctctl/gc-report/v1", "rows", _GC_ROW, _GC_META),
    "ctctl/doctor/v1": listing(
        "ctctl/doctor/v1",
        "findings",
        record(
            {
                "severity": words("critical", "warning", "info"),
                "check": STRING,
                "node": maybe(STRING),
                "map": maybe(STRING),
                "summary": STRING,
                "advice": ANY,
                "evidence": OBJECT,
                "show": STRINGS,
                "mend": STRINGS,
            }
        ),
        {"sources": array(record({"source": STRING, "verdict": words("healthy", "findings", "unknown")}, more=True))},
    ),
}
#: By schema name, in the order of the commands in ``ctctl --help``.
SCHEMAS: dict[str, Schema] = {
    **_CT,
    **SERVICES_SCHEMAS,
    **TRACE_SCHEMAS,
    **_NODE,
    **GC_SCHEMAS,
    **LAB_SCHEMAS,
    **FLEET_SCHEMAS,
    **CLUSTER_SCHEMAS,
}


def whole() -> Schema:
    """One schema for every output: the definitions by name, and a choice by the output's ``schema`` field."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://ctctl.invalid/schema.json",
        "title": "What ctctl prints as JSON",
        "oneOf": [{"$ref": f"#/$defs/{name.replace('/', '~1')}"} for name in SCHEMAS],
        "$defs": SCHEMAS,
    }
