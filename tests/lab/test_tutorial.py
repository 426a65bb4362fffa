"""docs/tutorial.md, followed from top to bottom, in a lab with a name of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.test_pages import run_pages
from tests.support.names import unique_name

ROOT = Path(__file__).parents[2]
WORD = "tutorial"

pytestmark = pytest.mark.lab


@pytest.fixture
def name() -> Iterator[str]:
    """As long as the page's, so that columns stay where they are."""
    made = unique_name("t").ljust(len(WORD), "x")[: len(WORD)]
    yield made
    subprocess.run(["bash", "-c", f"rm -f /tmp/{made}-stop /tmp/{made}.yaml"], check=True)
    run_pages.printed(f"ctctl lab down --name {made}")


def test_the_tutorial_goes_as_it_is_told(name: str) -> None:
    places = list(run_pages.shown(ROOT / "docs/tutorial.md", "console tutorial"))
    assert len(places) >= 10
    for place in places:
        here = replace(
            place,
            command=place.command.replace(WORD, name),
            output=tuple(line.replace(WORD, name) for line in place.output),
        )
        assert run_pages.check(here) == ""
