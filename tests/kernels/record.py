"""What a kernel said, line by line as it says it: a run that ends early, or is made in parts, loses nothing.

A line is a JSON object with ``step`` and ``name``; a later one of the same two names replaces an earlier one. The
first says of which kernel and of which objects all are; a record of others is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ctctl.kernel.object import OBJECTS


class Record:
    """The record at ``path``, begun if there is none of the running kernel and of the compiled objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        objects = hashlib.sha256(b"".join(each.read_bytes() for each in sorted(OBJECTS.glob("*.bpf.o")))).hexdigest()
        head = {"release": os.uname().release, "objects": objects}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if not lines or json.loads(lines[0]) != head:
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def add(self, step: str, name: str, **said: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "name": name, **said}) + "\n")

    def said(self, step: str) -> dict[str, dict[str, Any]]:
        """What was said in a step by name, without what failed: that is to be tried again."""
        return {name: each for name, each in read(self.path)[1].get(step, {}).items() if not each.get("failed")}


def read(path: Path) -> tuple[dict[str, str], dict[str, dict[str, dict[str, Any]]]]:
    """The head of a record, and what it says by step and name. A line that was cut off is not counted."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    steps: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines:
        try:
            each = json.loads(line)
        except json.JSONDecodeError:
            continue
        steps.setdefault(each.pop("step"), {})[each.pop("name")] = each
    return json.loads(head), steps
