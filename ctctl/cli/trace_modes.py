"""The ways to trace, and which options of ``ctctl trace`` go with which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import get_type_hints

from ctctl.cli.groups import FlowFilterArgs, long_option
from ctctl.cli.trace_simulate import SimulateArgs
from ctctl.errors import UsageError


class Mode(StrEnum):
    """Where the packets come from, as the option that asks for it."""

    live = "--live"
    probe = "--probe"
    scenario = "--scenario"
    simulate = "--simulate"
    pcap = "--pcap"
    story = "--from"


_LIVE, _OF_PACKET = (Mode.live, Mode.probe, Mode.story), (Mode.live, Mode.probe, Mode.simulate, Mode.story)
_LISTENING, _MADE_UP = (Mode.live, Mode.probe), (Mode.simulate, Mode.pcap)
_NODES = (Mode.live, Mode.scenario, Mode.simulate, Mode.pcap, Mode.story)
#: What each option goes with. Options of a filter go with _LIVE, others of a simulation with --simulate.
_TAKEN_BY = {
    "PACKET": _OF_PACKET,
    "--node": _NODES,
    "--filter": _LIVE,
    **dict.fromkeys(("--device", "--netns", "--tables", "--attach"), (Mode.probe,)),
    "--count": (*_LISTENING, Mode.story),
    "--for": _LISTENING,
    **dict.fromkeys(("--file", "--from"), _MADE_UP),
    **dict.fromkeys(("--hook", "--endpoint"), (Mode.pcap,)),
    "--names": _OF_PACKET,
}


def choose_mode(asked: Mapping[Mode, bool]) -> Mode:
    """The one mode that is asked for; live when none is. Raises UsageError for several."""
    modes = [mode for mode, on in asked.items() if on]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)}: give one of them")
    return modes[0] if modes else Mode.live


def check_options(mode: Mode, given: Mapping[str, object], wanted: FlowFilterArgs, made_up: SimulateArgs) -> None:
    """Refuse options that ``mode`` would not heed; ``given`` are those outside groups. Raises UsageError."""
    for name in (name for name, value in given.items() if value):
        _check(mode, name, _TAKEN_BY[name])
    for name in _given(wanted):
        _check(mode, name, _LIVE)
    for name in _given(made_up):
        if name not in tuple(Mode) or (name == Mode.story and mode is not Mode.story):
            _check(mode, name, _TAKEN_BY.get(name, (Mode.simulate,)))


def _check(mode: Mode, name: str, taken_by: tuple[Mode, ...]) -> None:
    if mode in taken_by:
        return
    if name == "PACKET":
        raise UsageError(f"{mode} brings its own packets: leave PACKET out")
    raise UsageError(f"{name} goes with {' or '.join(taken_by)}, not with {mode}")


def _given(group: FlowFilterArgs | SimulateArgs) -> Iterator[str]:
    """The long option of every field that has been set."""
    hints = get_type_hints(type(group), include_extras=True)
    for field in fields(group):
        if getattr(group, field.name) != field.default:
            yield long_option(hints[field.name])
