"""Words to write JSON Schemas (2020-12) with."""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOL: Schema = {"type": "boolean"}
INT: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}
ANY: Schema = {}
HEX: Schema = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
ADDRESS: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
PORT: Schema = {"type": "integer", "minimum": 0, "maximum": 65535}
STRINGS: Schema = {"type": "array", "items": STRING}
COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}


def words(*values: str) -> Schema:
    """One of a few words."""
    return {"enum": list(values)}


def maybe(schema: Schema) -> Schema:
    """Or null, where the source does not know."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None, *, more: bool = False) -> Schema:
    """An object with these properties; ``more``: and others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": more,
    }


def listing(name: str, plural: str, item: Schema, meta: dict[str, Schema] | None = None) -> Schema:
    """What a list prints: a document with ``plural`` (json, yaml), or one item a line (jsonl)."""
    constant = {"const": name}
    whole = record({"schema": constant, plural: array(item)}, meta, more=False)
    line = {**item, "properties": {"schema": constant, **item["properties"]}, "required": ["schema", *item["required"]]}
    return {"title": name, "oneOf": [whole, line]}


def document(name: str, item: Schema) -> Schema:
    """What a command prints that is no list."""
    body = {**item, "properties": {"schema": {"const": name}, **item["properties"]}}
    return {"title": name, **body, "required": ["schema", *item["required"]]}
