"""JSON of what is said of a fleet."""

from __future__ import annotations

from typing import Final

from ctctl.out.schema_words import COUNT, OBJECT, STRING, Schema, array, listing, maybe, record

ANSWER: Final = "ctctl/fleet-answer/v1"
OUTCOME: Final = "ctctl/fleet-outcome/v1"
COLLECTION: Final = "ctctl/fleet-collection-row/v1"
QUESTION: Final = "ctctl/fleet-question/v1"

FLEET_SCHEMAS: dict[str, Schema] = {
    ANSWER: listing(ANSWER, "rows", record({}, more=True)),
    OUTCOME: listing(
        OUTCOME,
        "outcomes",
        record(
            {
                "source": STRING,
                "node": maybe(STRING),
                "status": STRING,
                "rows": COUNT,
                "bytes": COUNT,
                "collected_at": maybe(STRING),
                "collection": maybe(STRING),
                "problem": maybe(STRING),
            }
        ),
    ),
    COLLECTION: listing(
        COLLECTION,
        "collections",
        record(
            {
                "cluster": STRING,
                "node": STRING,
                "collected_at": STRING,
                "time_evidence": STRING,
                "tables": OBJECT,
                "source": STRING,
                "problem": maybe(STRING),
                "collection": STRING,
            }
        ),
    ),
    QUESTION: listing(
        QUESTION,
        "questions",
        record({"name": STRING, "question": STRING, "needs": array(STRING), "about": maybe(STRING)}),
    ),
}
