"""What became of each node, as rows."""

from __future__ import annotations

from typing import Final

from ctctl.cluster.fetch import Answer
from ctctl.cluster.schema import NODE
from ctctl.out.view import Column, View

__all__ = ["node_view"]

_WAYS: Final = {"agent": "Cilium's agent", "ctctl": "ctctl's own pod"}


def node_view() -> View[Answer]:
    """A row a node."""
    return View(
        NODE,
        "nodes",
        [
            Column("node", "NODE", lambda one: one.node),
            Column("status", "STATUS", lambda one: "failed" if one.reason else "read"),
            Column("way", "WAY", lambda one: one.way, lambda one: _WAYS.get(one.way or "", "-")),
            Column("seconds", "SECONDS", lambda one: one.seconds, right=True),
            Column("bytes", "BYTES", lambda one: one.bytes, right=True),
            Column("reason", "REASON", lambda one: one.reason or "; ".join(map(str, one.lacks)) or None, prose=True),
        ],
        lambda one: one.node,
    )
