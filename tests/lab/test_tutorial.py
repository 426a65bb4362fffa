"""The pages that are followed from top to bottom in a lab, each in one with a name of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.test_pages import run_pages
from tests.support.names import unique_name

ROOT = Path(__file__).parents[2]
#: The page, and its lab's name.
FOLLOWED = {"tutorial": "tutorial", "comparison": "beside"}

pytestmark = pytest.mark.lab


@pytest.fixture(params=FOLLOWED)
def followed(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The page, and a name as long as the one that it has, so that columns stay where they are."""
    word = FOLLOWED[request.param]
    made = unique_name("t").ljust(len(word), "x")[: len(word)]
    yield request.param, made
    subprocess.run(["bash", "-c", f"rm -f /tmp/{made}-stop /tmp/{made}.yaml"], check=True)
    run_pages.printed(f"ctctl lab down --name {made}")


def test_the_page_goes_as_it_is_told(followed: tuple[str, str]) -> None:
    page, name = followed
    word = FOLLOWED[page]
    places = list(run_pages.shown(ROOT / "docs" / f"{page}.md", "console tutorial"))
    assert len(places) >= 8
    for place in places:
        if "conntrack -L" in place.command and not _tracks():
            continue
        here = replace(
            place,
            command=place.command.replace(word, name),
            output=tuple(line.replace(word, name) for line in place.output),
        )
        assert run_pages.check(here) == ""


def _tracks() -> bool:
    """Whether this machine has the tool, and its kernel answers it."""
    if shutil.which("conntrack") is None:
        return False
    return subprocess.run(["conntrack", "-L"], capture_output=True, check=False).returncode == 0
