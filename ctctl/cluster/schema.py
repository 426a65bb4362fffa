"""JSON of what is said of a cluster's nodes."""

from __future__ import annotations

from typing import Final

from ctctl.out.schema_words import COUNT, NUMBER, STRING, Schema, listing, maybe, record, words

NODE: Final = "ctctl/cluster-node/v1"
CLUSTER_SCHEMAS: dict[str, Schema] = {
    NODE: listing(
        NODE,
        "nodes",
        record(
            {
                "node": STRING,
                "status": words("read", "failed"),
                "way": maybe(words("agent", "ctctl")),
                "seconds": NUMBER,
                "bytes": COUNT,
                "reason": maybe(STRING),
            }
        ),
    )
}
