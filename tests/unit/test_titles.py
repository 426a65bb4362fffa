"""What is printed can be typed back: the titles of columns are names that --fields and --sort take, in every view."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import ctctl
from ctctl.model.clock import Clock
from ctctl.out.view import View

#: What functions that make views want to know, by the name of the parameter.
_GIVEN: dict[str, object] = {"names": {}, "files": {}, "minor": 16, "clock": Clock(), "now": None, "by": "src"}
_GIVEN["answer"] = SimpleNamespace(schema=[])


def _views() -> Iterator[tuple[str, View[Any]]]:
    for module_info in pkgutil.walk_packages(ctctl.__path__, "ctctl."):
        if module_info.name.endswith("__main__") or not any(part in module_info.name for part in (".show", "watching")):
            continue
        module = importlib.import_module(module_info.name)
        for name, value in vars(module).items():
            where = f"{module_info.name}.{name}"
            if isinstance(value, View):
                yield where, value
            elif inspect.isfunction(value) and value.__module__ == module_info.name and _makes_a_view(value):
                needed = [p.name for p in inspect.signature(value).parameters.values() if p.default is p.empty]
                yield where, value(**{parameter: _GIVEN[parameter] for parameter in needed})


def _makes_a_view(function: Any) -> bool:
    return str(inspect.signature(function).return_annotation).startswith("View[")


VIEWS = dict(_views())


def test_views_are_found() -> None:
    assert len(VIEWS) > 25


@pytest.mark.parametrize("where", VIEWS)
def test_a_title_is_a_field(where: str) -> None:
    view = VIEWS[where]
    for column in (*view.columns, *view.extra):
        assert column.title == column.title.upper()
        # A field of the same meaning: itself, or in the hidden short forms of a table the field that is shortened.
        assert view.column(column.title.lower()).name.startswith(column.name.removesuffix("_short")), column.title
