"""Every conformance vector, in one process for each processor: those of one configuration in the same one."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.conformance import run as runner
from tests.support.accelerated import accelerated
from tests.support.replay_vectors import in_one_process
from tests.support.vectors import VECTORS as IN_ORDER
from tests.support.vectors import differences, incomparable, name_of

#: Mixed: a run that ends early has seen some of every kind.
VECTORS = sorted(IN_ORDER, key=lambda vector: hashlib.sha256(name_of(vector).encode()).digest())

_FORKS = get_context("fork")


def left_out(vectors: Sequence[Path]) -> dict[str, str]:
    """Names of those that cannot be held to on this kernel, and why."""
    return {name_of(vector): reason for vector in vectors if (reason := incomparable(vector))}


def run_vectors(vectors: Sequence[Path], xdp: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Each vector's name and what differs, as they end; nothing differs: an empty list.

    ``xdp``: at a device that is accelerated.
    """
    import ctctl.cli.main
    import ctctl.simulate.kept
    import ctctl.simulate.scenario_file
    import ctctl.simulate.show_scenario  # noqa: F401

    ends = []
    for share in _shares(vectors, os.cpu_count() or 1):
        here, there = _FORKS.Pipe(duplex=False)
        _FORKS.Process(target=_run, args=(share, there, xdp), daemon=True).start()
        there.close()
        ends.append(here)
    told = 0
    while ends:
        for end in wait(ends):
            assert isinstance(end, Connection)
            try:
                yield end.recv()
            except EOFError:
                ends.remove(end)
            else:
                told += 1
    if told < len(vectors):
        raise RuntimeError(f"{len(vectors) - told} vectors of {len(vectors)} did not end: a process died")


def _run(vectors: Sequence[Path], answers: Connection, xdp: bool) -> None:
    with in_one_process(), accelerated(Counter()) if xdp else nullcontext():
        for vector in vectors:
            answers.send((name_of(vector), _differences(vector)))


def _differences(vector: Path) -> list[str]:
    try:
        return differences(vector, ["ctctl"])
    except AssertionError as error:
        return [str(error)]


def _shares(vectors: Sequence[Path], parts: int) -> list[list[Path]]:
    """In so many parts, each configuration in one of them, all about equally long."""
    if parts == 1:
        return [list(vectors)]
    groups: dict[str, list[Path]] = {}
    for vector in vectors:
        said = runner.load(vector)
        settings = {name: said[name] for name in ("config", "node")}
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(vector)
    shares: list[list[Path]] = [[] for _ in range(parts)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(shares, key=len).extend(group)
    return [sorted(share, key=vectors.index) for share in shares if share]
