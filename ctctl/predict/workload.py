"""Workloads from a file: kinds of connections, timeouts, sizes, the GC's interval, a fleet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ctctl.config.yamltree import load_yaml, parse_yaml
from ctctl.errors import ConfigError
from ctctl.model.suggest import unknown_name
from ctctl.model.timeouts import Timeouts
from ctctl.model.units import parse_duration
from ctctl.predict.course import COST_S
from ctctl.predict.model import MODELLED_TIMEOUTS, Duration, Kind, Pattern, Shape, Workload

_PROTOCOLS = ("tcp", "udp", "icmp", "sctp")
_SHARES = ("lost", "unanswered", "daily", "ipv6")


def load_document(path: Path) -> dict[str, Any]:
    """The document in a workload file, for ``parse_workload``. Raises ConfigError."""
    documents = load_yaml(path)
    document = documents[0].plain() if len(documents) == 1 else None
    if not isinstance(document, dict):
        raise ConfigError("no workload: a mapping with the key kinds", path=str(path))
    return document


def parse_workload(document: Any, where: str) -> Workload:
    """A workload from a YAML document. Raises ConfigError."""
    top = _mapping(document, where, ("name", "kinds", "timeouts", "ct", "gc", "nodes", "spread"))
    kinds = top.get("kinds")
    if not isinstance(kinds, list) or not kinds:
        raise ConfigError("kinds: a list of at least one kind of connection", path=where)
    ct = _mapping(top.get("ct", {}), f"{where}: ct", ("tcp-max", "any-max"))
    gc = _mapping(top.get("gc", {}), f"{where}: gc", ("interval", "engine"))
    spelled = str(gc.get("interval", "auto"))
    engine = str(gc.get("engine", "batch"))
    if engine not in COST_S:
        raise ConfigError(unknown_name("gc engine", engine, COST_S), path=where)
    return Workload(
        kinds=tuple(_kind(item, f"{where}: kinds[{number}]") for number, item in enumerate(kinds)),
        timeouts=_timeouts(top.get("timeouts", {}), where),
        tcp_max=_whole(ct.get("tcp-max", 524288), f"{where}: ct.tcp-max"),
        any_max=_whole(ct.get("any-max", 262144), f"{where}: ct.any-max"),
        interval_s=None if spelled == "auto" else _seconds(spelled, f"{where}: gc.interval"),
        engine=engine,
        nodes=_whole(top.get("nodes", 1), f"{where}: nodes"),
        spread=_number(top.get("spread", 0), f"{where}: spread", 0, 3),
        name=str(top.get("name", Path(where).stem)),
    )


def with_change(document: Mapping[str, Any], change: str, where: str) -> dict[str, Any]:
    """A copy of a workload document with one value changed: ``ct.tcp-max=1048576``, ``kinds.web.rate=900``.

    Raises ConfigError for a path that leads nowhere.
    """
    import copy

    path, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"{change!r}: write PATH=VALUE, for example ct.tcp-max=1048576", path=where)
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    *parents, last = path.strip().split(".")
    place: Any = changed
    for name in parents:
        if isinstance(place, list):
            place = next((item for item in place if isinstance(item, dict) and item.get("name") == name), None)
        elif isinstance(place, dict):
            place = place.setdefault(name, {})
    if not isinstance(place, dict):
        raise ConfigError(f"{path}: no such place in the workload", path=where)
    values = parse_yaml(text, where)
    place[last] = values[0].plain() if values else None
    return changed


def _kind(item: Any, where: str) -> Kind:
    known = ("name", "protocol", "rate", "duration", "pattern", "pairs", *_SHARES)
    given = _mapping(item, where, known)
    protocol = str(given.get("protocol", "tcp")).lower()
    if protocol not in _PROTOCOLS:
        raise ConfigError(unknown_name("protocol", protocol, _PROTOCOLS), path=where)
    pattern = str(given.get("pattern", "pod"))
    if pattern not in [known.value for known in Pattern]:
        raise ConfigError(unknown_name("pattern", pattern, [known.value for known in Pattern]), path=where)
    if "rate" not in given:
        raise ConfigError("rate: new connections a second", path=where)
    shares: dict[str, Any] = {name: _number(given.get(name, 0), f"{where}: {name}", 0, 1) for name in _SHARES}
    pairs = given.get("pairs")
    return Kind(
        name=str(given.get("name", protocol)),
        protocol=protocol,
        rate=_number(str(given["rate"]).removesuffix("/s"), f"{where}: rate", 0, 1e9),
        duration=_duration(given.get("duration", "0s"), f"{where}: duration"),
        pattern=Pattern(pattern),
        pairs=None if pairs is None else _number(pairs, f"{where}: pairs", 1, 1e12),
        **shares,
    )


def _duration(given: Any, where: str) -> Duration:
    if not isinstance(given, Mapping):
        return Duration(Shape.CONSTANT, _seconds(given, where))
    if len(given) != 1:
        raise ConfigError("one of constant, exponential, lognormal, pareto, empirical", path=where)
    ((name, value),) = given.items()
    if name not in [shape.value for shape in Shape]:
        raise ConfigError(unknown_name("distribution", str(name), [shape.value for shape in Shape]), path=where)
    shape = Shape(name)
    if shape in (Shape.CONSTANT, Shape.EXPONENTIAL):
        return Duration(shape, _seconds(value, where))
    if shape is Shape.EMPIRICAL:
        if not isinstance(value, list):
            raise ConfigError("empirical takes a list of durations", path=where)
        return empirical((_seconds(item, where) for item in value), where)
    scale, spread = ("median", "sigma") if shape is Shape.LOGNORMAL else ("least", "shape")
    more = _mapping(value, where, (scale, spread))
    if set(more) != {scale, spread}:
        raise ConfigError(f"{name} takes {scale} and {spread}", path=where)
    return Duration(shape, _seconds(more[scale], where), _number(more[spread], f"{where}: {spread}", 0.01, 100))


def empirical(durations: Iterable[float], where: str, most: int = 2000) -> Duration:
    """A distribution from measured durations, thinned to ``most`` quantiles. Raises ConfigError for none."""
    ordered = sorted(durations)
    if not ordered:
        raise ConfigError("no duration to learn from", path=where)
    if len(ordered) > most:
        ordered = [ordered[int((i + 0.5) * len(ordered) / most)] for i in range(most)]
    return Duration(Shape.EMPIRICAL, samples=tuple(ordered))


def _timeouts(given: Any, where: str) -> Timeouts:
    names = {name.replace("_", "-"): name for name in MODELLED_TIMEOUTS}
    found = _mapping(given, f"{where}: timeouts", tuple(names))
    return Timeouts(**{names[name]: _seconds(value, f"{where}: timeouts.{name}") for name, value in found.items()})


def _mapping(given: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"a mapping of {', '.join(known)}, not {given!r:.60}", path=where)
    for name in given:
        if name not in known:
            raise ConfigError(unknown_name("key", str(name), known), path=where)
    return dict(given)


def _seconds(given: Any, where: str) -> float:
    try:
        return parse_duration(str(given))
    except ValueError as error:
        raise ConfigError(str(error), path=where) from None


def _number(given: Any, where: str, least: float, most: float) -> float:
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{given!r:.60} is no number", path=where) from None
    if not least <= number <= most:
        raise ConfigError(f"{given} is not between {least:g} and {most:g}", path=where)
    return number


def _whole(given: Any, where: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f"{given!r:.60} is no whole number from 1", path=where)
    return given
