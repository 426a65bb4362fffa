"""The report as one HTML page: nothing is loaded from anywhere, nothing of the data can run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from ctctl.ct.report import Connection
from ctctl.doctor.show import evidence_text
from ctctl.errors import MissingLibraryError
from ctctl.model.tuples import Address, endpoint
from ctctl.report.gather import Report


@dataclass(frozen=True, slots=True)
class Leg:
    """An arrow of a connection's picture: between which columns, and what the entry behind it says."""

    start: int
    end: int
    label: str
    state: str


#: Of a letter of the picture, and of the room at both sides of a word, in pixels.
_LETTER, _ROOM, _LEAST_STEP = 8, 28, 160


@dataclass(frozen=True, slots=True)
class Picture:
    """Who takes part, from left to right, and the entries as arrows between them."""

    places: list[str]
    legs: list[Leg]

    @property
    def step(self) -> int:
        """How far two neighbours are from each other: no label reaches a line that it does not stand between."""
        labels = [(len(leg.label) + 2 + len(leg.state)) / max(abs(leg.end - leg.start), 1) for leg in self.legs]
        longest = max([*labels, *map(len, self.places)], default=0)
        return max(_LEAST_STEP, int(longest * _LETTER) + _ROOM)


def require_jinja2() -> None:
    """Raise MissingLibraryError without it: asked before a large source is read for nothing."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingLibraryError("reports need jinja2", "report") from error


def page(report: Report) -> str:
    """The page. Raises MissingLibraryError without jinja2."""
    require_jinja2()
    from jinja2 import Environment, StrictUndefined, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["evidence"] = evidence_text
    script, style = _part("report.js"), _part("report.css")
    template = environment.from_string(_part("report.html.j2"))
    return template.render(
        report=report,
        stories=[(connection, _picture(connection)) for connection in report.connections],
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _part(name: str) -> str:
    return resources.files("ctctl.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source expression of a Content-Security-Policy that allows just this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _picture(connection: Connection) -> Picture:
    places: list[str] = []

    def place(text: str) -> int:
        if text not in places:
            places.append(text)
        return places.index(text)

    several = len({member.row.node for member in connection.members}) > 1
    legs: list[Leg] = []
    for member in connection.members:
        entry = member.row.entry
        flow = entry.tuple
        start = place(_named(member.row.names, flow.src, flow.src_port))
        end = place(_named(member.row.names, flow.dst, flow.dst_port))
        node = f" on {member.row.node}" if member.row.node and several else ""
        legs.append(Leg(start, end, f"{member.role}{node}", "" if entry.related else entry.state.value))
    return Picture(places, legs)


def _named(names: Mapping[str, str], address: Address, port: int) -> str:
    name = names.get(str(address))
    return endpoint(address, port) if name is None else f"{name}:{port}"
