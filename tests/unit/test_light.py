"""Light classes are the dataclasses they stand for, before and after their methods are compiled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any

import pytest

from ctctl.model.entry import CtEntry
from ctctl.model.light import MANY, light, light_value
from ctctl.model.tuples import FlowTuple
from ctctl.out.options import OutputOptions
from ctctl.tables.sources.listings import Listings


@light
class Thing:
    name: str
    parts: list[int] = field(default_factory=list)
    told: int = field(default=0, compare=False)
    kept: int | None = field(default=None, init=False, repr=False, compare=False)


@light_value
class Value:
    name: str
    number: int = 7
    more: tuple[int, ...] = ()
    told: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.number < 0:
            object.__setattr__(self, "number", 0)


@dataclass(slots=True)
class PlainThing:
    name: str
    parts: list[int] = field(default_factory=list)
    told: int = field(default=0, compare=False)
    kept: int | None = field(default=None, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PlainValue:
    name: str
    number: int = 7
    more: tuple[int, ...] = ()
    told: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.number < 0:
            object.__setattr__(self, "number", 0)


def is_compiled(kind: type) -> bool:
    return kind.__init__.__code__.co_filename == "<string>"  # type: ignore[misc]


CALLS: list[Callable[[Any], object]] = [
    lambda kind: kind("a"),
    lambda kind: kind("a", told=3) == kind("a", told=4),
    lambda kind: kind("a") == kind("b"),
    lambda kind: kind("a") == "a",
    lambda kind: kind(),
    lambda kind: kind("a", name="b"),
    lambda kind: kind("a", other=1),
    lambda kind: kind("a", 1, 2, 3, 4, 5),
    lambda kind: asdict(kind("a", told=5)),
    lambda kind: replace(kind("a"), name="b"),
    lambda kind: [(one.name, one.compare) for one in fields(kind)],
    lambda kind: hash(kind("a", told=1)) == hash(kind("a", told=2)),
    lambda kind: copy.deepcopy(kind("a", told=5)),
    lambda kind: pickle.loads(pickle.dumps(kind("a", told=5))),
    lambda kind: setattr(kind("a"), "name", "b"),
    lambda kind: delattr(kind("a"), "name"),
    lambda kind: kind("a", -3),
]


def outcome(call: Callable[[Any], object], kind: type) -> object:
    """What a call gives, the class's name left out; of a failure its kind."""
    try:
        return repr(call(kind)).replace("Plain", "")
    except Exception as error:
        return FrozenInstanceError if isinstance(error, FrozenInstanceError) else type(error)


@pytest.mark.parametrize(("ours", "plain"), [(Thing, PlainThing), (Value, PlainValue)])
def test_light_classes_behave_as_dataclasses(ours: type, plain: type) -> None:
    before = [outcome(call, ours) for call in CALLS]
    assert before == [outcome(call, plain) for call in CALLS]
    for number in range(MANY):
        ours(str(number))
    assert is_compiled(ours)
    assert [outcome(call, ours) for call in CALLS] == before


def test_there_are_no_other_attributes() -> None:
    for made in (Thing("a"), Value("a")):
        with pytest.raises(AttributeError):
            made.unknown = 1  # type: ignore[union-attr]


def test_lists_of_defaults_are_each_objects_own() -> None:
    one, other = Thing("a"), Thing("a")
    one.parts.append(1)
    assert other.parts == []
    assert Listings().services is not Listings().services


def test_many_objects_cost_what_a_dataclass_makes_them_cost() -> None:
    for number in range(MANY + 1):
        FlowTuple(6, None, number, None, 0)  # type: ignore[arg-type]
    assert is_compiled(FlowTuple)


def test_the_models_are_light() -> None:
    for kind in (CtEntry, OutputOptions, Listings):
        assert kind.__init__.__module__ == "ctctl.model.light" or is_compiled(kind)
