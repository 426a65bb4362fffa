"""The sample dumps under tests/data/samples and the truth about them (truth.json)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1] / "data" / "samples"


@cache
def truth() -> dict[str, Any]:
    """What was in the tables when each file was made."""
    document: dict[str, Any] = json.loads((ROOT / "truth.json").read_text())
    return document


def records(about: dict[str, Any]) -> list[dict[str, Any]]:
    """The records a file (or an archive's member) shows, as the truth has them."""
    result: list[dict[str, Any]] = []
    for name in about["fills"]:
        if name == "empty":
            continue
        entries = truth()["fills"][name]["entries"]
        result += [entries[index] for index in about.get("entries", range(len(entries)))]
    return result
