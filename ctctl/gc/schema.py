"""JSON Schemas of GC's explanations, logs and undo, and of predictions."""

from __future__ import annotations

from ctctl.out.schema_words import (
    BOOL,
    COUNT,
    COUNTS,
    HEX,
    INT,
    NUMBER,
    STRING,
    Schema,
    array,
    document,
    listing,
    maybe,
    record,
    words,
)

_STATE = words("new", "established", "closing", "closed")
_EXPLANATION = record(
    {
        "map": STRING,
        "protocol": STRING,
        "direction": words("OUT", "IN", "SVC"),
        "related": BOOL,
        "state": _STATE,
        "fate": words("go", "stay"),
        "count": COUNT,
        "least_s": maybe(COUNT),
        "most_s": maybe(COUNT),
        "timeout": STRING,
        "why": STRING,
    },
    {"node": maybe(STRING)},
)
_SAMPLE = record(
    {
        "time_s": NUMBER,
        "interval_s": NUMBER,
        "gc_cpu_s": NUMBER,
        **dict.fromkeys(("entries", "expired", "evicted_live"), COUNTS),
    }
)
_WORKLOAD = record(
    {
        "name": STRING,
        "duration_s": NUMBER,
        "step_s": NUMBER,
        "nodes": COUNT,
        "overflowing_nodes": COUNT,
        "gc_runs": NUMBER,
        "gc_cpu_s": NUMBER,
        "intervals": array(record({"time_s": NUMBER, "interval_s": NUMBER})),
        "samples": array(_SAMPLE),
    }
)
_PREDICTION = record(
    {
        "workload": STRING,
        "map": STRING,
        **dict.fromkeys(
            ("max_entries", "mean", "peak", "worst_peak", "peak_expired", "evicted", "evicted_live", "deleted"), COUNT
        ),
    }
)
_SIZE = record(
    {
        "map": STRING,
        **dict.fromkeys(("peak", "recommended", "memory_bytes"), COUNT),
        **dict.fromkeys(("alive", "configured", "configured_bytes"), maybe(COUNT)),
    }
)
#: One line of the file that ``gc --audit`` appends to; SNAT entries have no entry in words.
_AUDIT = record(
    {
        "time": STRING,
        "map": STRING,
        "reason": words("expired", "endpoint", "orphan", "snat-pair"),
        "key_hex": HEX,
        "value_hex": HEX,
    },
    {"entry": STRING, "related": BOOL, "state": _STATE, "lifetime": COUNT, "now": INT},
)

GC_SCHEMAS: dict[str, Schema] = {
    "ctctl/gc-explain/v1": listing("ctctl/gc-explain/v1", "classes", _EXPLANATION),
    "ctctl/gc-restored/v1": document(
        "ctctl/gc-restored/v1",
        record(
            {
                **dict.fromkeys(("restored", "present", "full", "left_out", "damaged"), COUNT),
                **dict.fromkeys(("cut", "finished", "stopped", "dry_run"), BOOL),
            }
        ),
    ),
    "ctctl/gc-audit/v1": document("ctctl/gc-audit/v1", _AUDIT),
    "ctctl/undo/v1": document(
        "ctctl/undo/v1",
        record(
            {"command": STRING, "source": STRING, "node": maybe(STRING), "time": STRING},
            {"boot_id": maybe(STRING), "maps": {"type": "object", "additionalProperties": COUNT}},  # older ones: none
        ),
    ),
    "ctctl/prediction/v1": listing("ctctl/prediction/v1", "tables", _PREDICTION, {"workloads": array(_WORKLOAD)}),
    "ctctl/sizing/v1": listing("ctctl/sizing/v1", "sizes", _SIZE),
}
