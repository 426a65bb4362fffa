"""JSON Schemas of what ``ctctl trace`` prints."""

from __future__ import annotations

from ctctl.model.event import Hook, LookupKind
from ctctl.out.schema_words import (
    ADDRESS,
    ANY,
    BOOL,
    COUNT,
    COUNTS,
    HEX,
    INT,
    NUMBER,
    PORT,
    STRING,
    STRINGS,
    Schema,
    array,
    document,
    maybe,
    record,
    words,
)

_HOOK = words(*Hook)
_VERDICT = words("pass", "redirect", "drop")
_TUPLE_FIELDS = {
    "proto": COUNT,
    "proto_name": STRING,
    "src": ADDRESS,
    "src_port": PORT,
    "dst": ADDRESS,
    "dst_port": PORT,
}
_TUPLE = record(_TUPLE_FIELDS)
#: An entry before or after a packet: the names of ``ct list -o json``.
_ENTRY = record({"direction": STRING, "lifetime": INT, "flags": COUNT, **_TUPLE_FIELDS}, more=True)
_LOOKUP = record(
    {
        "kind": words(*LookupKind),
        "hook_direction": words("egress", "ingress", "service"),
        "result": words("new", "established", "reply", "related"),
        "map": STRING,
        "key": record({**_TUPLE_FIELDS, "direction": words("OUT", "IN", "SVC"), "related": BOOL}),
        "why": STRINGS,
        "error": maybe(COUNT),
        "before": maybe(_ENTRY),
        "after": maybe(_ENTRY),
        "changes": {"type": "object", "additionalProperties": array(ANY)},
    }
)
_DSR = record({"address": ADDRESS, "port": PORT})
_EVENT = record(
    {
        "time": maybe(STRING),
        "time_ns": COUNT,
        "now": COUNT,
        "node": maybe(STRING),
        "hook": _HOOK,
        "ifindex": COUNT,
        "device": maybe(STRING),
        "endpoint_id": maybe(COUNT),
        "packet": STRING,
        "length": COUNT,
        "tuple_in": _TUPLE,
        "tuple_out": _TUPLE,
        "translated": BOOL,
        "tcp_flags": maybe(STRING),
        "icmp_type": maybe(COUNT),
        "icmp_code": maybe(COUNT),
        "fragment": words("none", "first", "later"),
        "identity": record({"src": COUNT, "dst": COUNT}),
        "mark": record({"in": COUNT, "out": COUNT}),
        "lookups": array(_LOOKUP),
        "backend_id": maybe(COUNT),
        "rev_nat": maybe(COUNT),
        "tunnel": maybe(record({"remote": ADDRESS, "vni": COUNT, "dsr": maybe(_DSR)})),
        "redirect": maybe(record({"ifindex": COUNT, "device": maybe(STRING)})),
        "verdict": _VERDICT,
        "reason": maybe(STRING),
        "why": STRINGS,
    },
    {"connection": COUNT},
)
_SNAT = array(record({"key_hex": HEX, "to_addr": ADDRESS, "to_port": PORT}))
_AFFINITY = array(record({"key_hex": HEX, "value_hex": HEX}))
_TABLES = {
    "ct": {"type": "object", "additionalProperties": array(_ENTRY)},
    "snat": _SNAT,
    "affinity": _AFFINITY,
    "snat6": _SNAT,
    "affinity6": _AFFINITY,
}
_STEP = record(
    {"step": COUNT, "now": COUNT, **_TABLES},
    {
        "hook": _HOOK,
        "verdict": _VERDICT,
        "reason": maybe(STRING),
        "return_code": STRING,
        "packet_out_hex": HEX,
        "packet_out": STRING,
        "packet_wire_hex": HEX,
        "mark_out": COUNT,
        "tunnel": maybe(record({"remote": ADDRESS, "vni": COUNT, "option_hex": maybe(HEX)})),
        "events": array(_EVENT),
        "failures": STRINGS,
        "node": maybe(STRING),
    },
    more=True,
)
_PROGRAM = record({"id": COUNT, "name": STRING, "tag": STRING, "via": words("tcx", "clsact")})
_PROBE = record(
    {
        "time": STRING,
        "time_ns": COUNT,
        "node": maybe(STRING),
        "netns": COUNT,
        "kind": words("packet", "return", "freed"),
        "device": maybe(STRING),
        "ifindex": COUNT,
        "direction": words("ingress", "egress"),
        "packet": STRING,
        "length": COUNT,
        "tuple": _TUPLE,
        "tcp_flags": maybe(STRING),
        "icmp_type": maybe(COUNT),
        "icmp_code": maybe(COUNT),
        "mark": COUNT,
        "identity": maybe(COUNT),
        "connection": maybe(COUNT),
        "leg": maybe(words("request", "request, translated", "reply", "reply, translated")),
        "service": maybe(record({"addr": STRING, "port": COUNT})),
        "nat": array(record({"xlate": words("SRC", "DST"), "to_addr": STRING, "to_port": COUNT})),
        "tunnel": maybe(
            record({"kind": words("vxlan", "geneve"), "src": maybe(STRING), "dst": maybe(STRING), "vni": COUNT})
        ),
        "entries": array(_ENTRY),
        "behind": array(record({"direction": words("SVC", "OUT", "IN"), "tuple": _TUPLE})),
        "programs": array(_PROGRAM),
        "program": maybe(_PROGRAM),
        "return_code": maybe(STRING),
        "reason": maybe(STRING),
        "dropped_by": array(STRING),
        "dropped_at": array(STRING),
        "rule": maybe(STRING),
    },
    {"head_hex": HEX},
)

_ARRIVAL = record(
    {
        "packet": COUNT,
        "sender": words("client", "server"),
        "origin": STRING,
        "outcome": words(
            "delivered",
            "dropped",
            "refused at connect()",
            "left the cluster",
            "left for another node",
            "came back as an error",
            "to the node's own stack",
            "went round in circles",
        ),
        "place": STRING,
        "node": STRING,
        "reason": maybe(STRING),
        "packet_out": STRING,
        "packet_out_hex": HEX,
        "backend_one_of": maybe(array(STRING)),
    }
)
_REPLAY = record(
    {
        "packets": COUNT,
        "bytes": COUNT,
        "capture_s": NUMBER,
        "runs": COUNTS,
        "dropped": array(record({"hook": _HOOK, "reason": STRING, "packets": COUNT})),
        "skipped": COUNTS,
        "interfaces": COUNTS,
        "cut": COUNT,
        "concerned": {"type": "boolean"},
        "elapsed_s": NUMBER,
        "runs_per_s": COUNT,
        "now": COUNT,
        "entries": COUNTS,
    }
)
#: An address with its zone is no "ipv6" of JSON Schema: text, then.
_STORY = record(
    {
        "number": COUNT,
        "time": maybe(STRING),
        "time_ns": maybe(COUNT),
        "node": maybe(STRING),
        "kind": words("trace", "drop", "policy", "socket", "l7"),
        "place": maybe(STRING),
        "endpoint": maybe(COUNT),
        "device": maybe(STRING),
        "packet": STRING,
        "length": maybe(COUNT),
        "proto": maybe(COUNT),
        "src": maybe(STRING),
        "src_port": maybe(PORT),
        "dst": maybe(STRING),
        "dst_port": maybe(PORT),
        "tcp_flags": maybe(STRING),
        "icmp": maybe(STRING),
        "tunnel": maybe(STRING),
        "identity": record({"src": maybe(COUNT), "dst": maybe(COUNT)}),
        "name": record({"src": maybe(STRING), "dst": maybe(STRING)}),
        "state": maybe(STRING),
        "verdict": maybe(STRING),
        "reason": maybe(STRING),
        "file": maybe(STRING),
        "line": maybe(COUNT),
        "detail": maybe(STRING),
    }
)

#: By schema name: one JSON object a line each.
TRACE_SCHEMAS: dict[str, Schema] = {
    "ctctl/trace-event/v1": document("ctctl/trace-event/v1", _EVENT),
    "ctctl/trace-step/v1": document("ctctl/trace-step/v1", _STEP),
    "ctctl/probe-event/v1": document("ctctl/probe-event/v1", _PROBE),
    "ctctl/trace-arrival/v1": document("ctctl/trace-arrival/v1", _ARRIVAL),
    "ctctl/trace-replay/v1": document("ctctl/trace-replay/v1", _REPLAY),
    "ctctl/story-event/v1": document("ctctl/story-event/v1", _STORY),
}
