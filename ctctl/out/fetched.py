"""What one command fetched for another that it runs: how that is called in what the other says.

``ctctl cluster`` keeps the answers of nodes in a folder that is gone when it ends. No line may name that folder, and
a command that is advised must be one that fetches anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Fetched(NamedTuple):
    """``command`` with its options, as it is typed before the other's words; ``folder``: where what it fetched is.

    ``failed``: why there is nothing of a node, by the node's name.
    """

    command: str
    folder: str
    failed: Mapping[str, str] = {}


_FETCHED: ContextVar[Fetched | None] = ContextVar("fetched", default=None)


def fetched() -> Fetched | None:
    """What this command's sources were fetched by; None: they are those that the user named."""
    return _FETCHED.get()


@contextmanager
def fetched_by(command: str, folder: str) -> Iterator[None]:
    """Sources below ``folder`` are ``command``'s, in this block."""
    token = _FETCHED.set(Fetched(command, folder))
    try:
        yield
    finally:
        _FETCHED.reset(token)


@contextmanager
def without(failed: Mapping[str, str]) -> Iterator[None]:
    """In this block these nodes, with their reasons, gave nothing: who shows nodes shows them too."""
    of = _FETCHED.get()
    token = _FETCHED.set(of and of._replace(failed=failed))
    try:
        yield
    finally:
        _FETCHED.reset(token)


def as_named(text: str) -> str:
    """``text`` with files that were fetched called by what they are of."""
    of = _FETCHED.get()
    return text.replace(f"{of.folder}/", "") if of is not None else text


def is_fetched(spec: str) -> bool:
    """Whether a source is what was fetched of a node; its last word is the node's name."""
    of = _FETCHED.get()
    return of is not None and spec.startswith(f"{of.folder}/")


def says_node(nodes: Collection[str | None]) -> bool:
    """Whether what is shown says of which of these nodes it is: of several, and of what was fetched always.

    Who asks many nodes asks which, also where one alone has an answer.
    """
    return len(nodes) > 1 or (_FETCHED.get() is not None and any(nodes))
