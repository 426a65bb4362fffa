"""What a kernel said, line by line as it says it: a run that ends early, or is made in parts, loses nothing.

A line is a JSON object with ``step`` and ``name``; a later one of the same two names replaces an earlier one. The
first line says of which kernel all are; a record of another is begun anew. A line may say of which compiled
objects it is, and with which digest: once they are others it is not counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctctl.kernel import trial
from ctctl.kernel.object import OBJECTS

#: of a line that depends on all objects
ALL = tuple(trial.object_names())


@functools.cache
def digest(objects: tuple[str, ...]) -> str:
    """Of compiled objects, by their names."""
    return hashlib.sha256(b"".join((OBJECTS / f"{name}.bpf.o").read_bytes() for name in objects)).hexdigest()[:16]


class Record:
    """The record at ``path``, begun if there is none of the running kernel."""

    def __init__(self, path: Path) -> None:
        self.path = path
        head = {"release": os.uname().release}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if not lines or json.loads(lines[0]) != head:
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def add(self, step: str, name: str, objects: Sequence[str] = (), **said: Any) -> None:
        """``objects``: what it depends on; none of them: on the kernel alone."""
        of = {"objects": list(objects), "digest": digest(tuple(objects))} if objects else {}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "name": name, **of, **said}) + "\n")

    def said(self, step: str) -> dict[str, dict[str, Any]]:
        """What was said in a step by name, without what failed: that is to be tried again."""
        return {name: each for name, each in read(self.path)[1].get(step, {}).items() if not each.get("failed")}


def read(path: Path) -> tuple[str, dict[str, dict[str, dict[str, Any]]]]:
    """The kernel's release, and what it said by step and name. A line that was cut off, or is of objects that
    are no longer these, is not counted.
    """
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    steps: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines:
        try:
            each = json.loads(line)
        except json.JSONDecodeError:
            continue
        objects = tuple(each.pop("objects", ()))
        if objects and (not set(objects) <= set(ALL) or digest(objects) != each.pop("digest")):
            continue
        steps.setdefault(each.pop("step"), {})[each.pop("name")] = each
    return json.loads(head)["release"], steps
