"""The agent's ``service list`` in passes: frontends, and the backends beside and below them, as records."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ctctl.model.service import BACKEND_STATES, SERVICE_TYPES, ServiceSlot
from ctctl.model.tuples import endpoint
from ctctl.tables.sources.passes import FormRuns
from ctctl.tables.sources.regular import Form, addresses
from ctctl.tables.sources.service_runs import PROTOCOL_TEXTS, PROTOCOL_WORDS
from ctctl.tables.sources.service_text import ServiceLines, named_frontend

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = {word: number for number, word in enumerate(SERVICE_TYPES)}
_STATES = dict.fromkeys(BACKEND_STATES, 0)


@functools.cache
def _form() -> Form:
    """A frontend, perhaps with a backend, or a backend by itself (``under``)."""
    form = Form()
    with form.maybe("under6"):
        _backend(form, 6)
    with form.maybe("under4"):
        _backend(form.check("under6", 0), 4)
    with form.maybe("listed"):
        form.check("under6", 0).check("under4", 0)
    with form.maybe("under"):
        form.check("listed", 0)
    with form.maybe("front6"):
        form.check("listed", 1).blanks(0).decimal("id", 4).blanks(1)
        form.before("[").address("front", port=True).check("front_family", 6)
    with form.maybe("front4"):
        form.check("listed", 1).check("front6", 0).blanks(0).decimal("id", 4).blanks(1)
        form.address("front", port=True).check("front_family", 4)
    with form.maybe("no front"):
        form.check("front6", 0).check("front4", 0)
    form.same("no front", "under")
    with form.maybe("has_proto"):
        form.check("listed", 1).literal("/").word("proto", PROTOCOL_WORDS)
    with form.maybe("internal"):
        form.check("listed", 1).literal("/i")
    with form.maybe("typed"):
        form.check("listed", 1).blanks(1).word("type", _TYPES)
    form.same("typed", "listed")
    with form.maybe("beside6"):
        _backend(form.check("listed", 1), 6)
    with form.maybe("beside4"):
        _backend(form.check("listed", 1).check("beside6", 0), 4)
    with form.maybe("bare"):
        form.check("listed", 1).check("beside6", 0).check("beside4", 0)
    with form.maybe("has_backend_proto"):
        form.check("bare", 0).literal("/").word("backend_proto", PROTOCOL_WORDS)
    with form.maybe("backend_internal"):
        form.check("bare", 0).literal("/i")
    with form.maybe("stated"):
        form.check("bare", 0).blanks(1).literal("(").word("state", _STATES).literal(")")
    return form.end()


def _backend(form: Form, family: int) -> None:
    form.blanks(1).decimal("slot", 2).blanks(1).literal("=>").blanks(1)
    if family == 6:
        form.before("[")
    form.address("backend", port=True).check("backend_family", family)


class AgentServiceRuns(FormRuns[ServiceLines]):
    """Rows of ``service list``."""

    work = 32
    form = staticmethod(_form)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        names = ("listed", "front_port", "has_proto", "proto", "internal", "type")
        fronts = zip(addresses(rows, "front"), *(rows[name].tolist() for name in names), strict=True)
        names = ("bare", "slot", "backend_port", "has_backend_proto", "backend_proto", "backend_internal")
        backends = zip(addresses(rows, "backend"), *(rows[name].tolist() for name in names), strict=True)
        front, found = self._into.front, self._into.dump.listings.services
        for shown, (to, bare, slot, to_port, has_to_proto, to_proto, to_internal) in zip(fronts, backends, strict=True):
            addr, listed, port, has_proto, proto, internal, kind = shown
            if listed:
                scope = "internal" if internal else "external"
                known = proto or None if has_proto else None
                front = named_frontend((addr, port, known, scope), (SERVICE_TYPES[kind],))
                found.append(front)
            assert front is not None  # a pass begins behind a row
            if not bare:
                text = f"{endpoint(to, to_port)}{PROTOCOL_TEXTS[to_proto] if has_to_proto else ''}"
                backend = f"{text}/i" if to_internal else text
                found.append(ServiceSlot(front.addr, front.port, front.scope, slot, None, front.proto, backend=backend))
        self._into.front = front
