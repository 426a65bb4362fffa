"""Dataclasses that cost nothing until they are used: their methods are compiled for the hundredth object.

``dataclass`` writes the text of each method and compiles it, up to two milliseconds for a class: more than a short
command does with it. Here the methods are the same few functions for all classes, in which an object takes some
microseconds to make. Of a class whose objects are many they give way to what ``dataclass`` compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

#: Objects of a class that are made before its methods are compiled.
MANY = 100


@dataclass_transform(field_specifiers=(field,))
def light(cls: type[T]) -> type[T]:
    """As ``@dataclass(slots=True)``."""
    return _made(cls, frozen=False)


@dataclass_transform(field_specifiers=(field,), frozen_default=True)
def light_value(cls: type[T]) -> type[T]:
    """As ``@dataclass(frozen=True, slots=True)``."""
    return _made(cls, frozen=True)


def _made(cls: type[T], *, frozen: bool) -> type[T]:
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__init__ = _init_of(made, frozen=frozen)
    made.__repr__, made.__eq__, made.__hash__ = _repr, _equal, _hash if frozen else None
    if frozen:
        made.__setattr__, made.__delattr__ = _refuse, _refuse_deletion
        made.__getstate__, made.__setstate__ = _state, _set_state
    return made  # type: ignore[no-any-return]


def _init_of(made: Any, *, frozen: bool) -> Callable[..., None]:
    """``__init__`` as ``dataclass`` writes it, until many were made."""
    all_fields = fields(made)
    names = [one.name for one in all_fields if one.init]
    known = frozenset(names)
    finish = getattr(made, "__post_init__", None)
    left = MANY

    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
        nonlocal left
        left -= 1
        if left == 0:
            _compile(made, frozen=frozen)
        if len(given) > len(names):
            raise TypeError(f"{made.__name__} takes {len(names)} values, {len(given)} were given")
        for name, value in zip(names, given, strict=False):
            if name in named:
                raise TypeError(f"{made.__name__} is given {name} twice")
            named[name] = value
        if not known.issuperset(named):
            raise TypeError(f"{made.__name__} has no {', '.join(sorted(set(named) - known))}")
        for one in all_fields:
            object.__setattr__(self, one.name, named[one.name] if one.name in named else _default(made, one))
        if finish is not None:
            finish(self)

    return __init__


def _compile(made: Any, *, frozen: bool) -> None:
    """Give a class the methods of a dataclass with its fields."""
    space: dict[str, Any] = {one.name: _again(one) for one in fields(made)}
    space["__annotations__"] = {one.name: one.type for one in fields(made)}
    if hasattr(made, "__post_init__"):
        space["__post_init__"] = None  # there, and found where the object is
    twin: Any = dataclass(frozen=frozen, slots=True)(type(made.__name__, (), space))
    made.__init__, made.__eq__, made.__hash__ = twin.__init__, twin.__eq__, twin.__hash__


def _again(one: Field[Any]) -> Any:
    return field(
        default=one.default,
        default_factory=one.default_factory,
        init=one.init,
        hash=one.hash,
        compare=one.compare,
        kw_only=one.kw_only,
    )


def _default(made: Any, one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    if one.default is MISSING:
        raise TypeError(f"{made.__name__} needs {one.name}")
    return one.default


def _compared(value: Any) -> tuple[Any, ...]:
    return tuple(getattr(value, one.name) for one in fields(value) if one.compare)


def _equal(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


def _refuse(self: Any, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r} of {type(self).__name__}")


def _refuse_deletion(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r} of {type(self).__name__}")
