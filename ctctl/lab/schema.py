"""The JSON Schemas of ``ctctl lab``."""

from __future__ import annotations

from ctctl.out.schema_words import ADDRESS, BOOL, COUNT, STRING, STRINGS, Schema, listing, maybe, record, words

_MEMBER = record(
    {
        "name": STRING,
        "kind": words("node", "pod", "router", "client"),
        "ip": ADDRESS,
        "node": maybe(STRING),
        "netns": STRING,
        "up": BOOL,
        "datapath": maybe(STRING),
        "loaded": maybe(BOOL),
        "processes": COUNT,
        "interface": maybe(STRING),
        "identity": maybe(COUNT),
    }
)
_META: dict[str, Schema] = {
    "lab": STRING,
    "up": BOOL,
    "namespaces": STRINGS,
    "nodes": STRINGS,
    "pods": STRINGS,
    "stories": STRINGS,
}

LAB_SCHEMAS: dict[str, Schema] = {
    "ctctl/lab/v1": listing("ctctl/lab/v1", "members", _MEMBER, _META),
    "ctctl/lab-stories/v1": listing(
        "ctctl/lab-stories/v1", "stories", record({"name": STRING, "about": STRING, "programs": STRINGS})
    ),
}
