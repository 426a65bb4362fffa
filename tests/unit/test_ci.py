"""The workflow of a fork: every step it takes is there, and git answers in the containers it runs in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def lines(job: str) -> list[str]:
    """What a job's steps type, a step without a command as nothing."""
    return [step.get("run", "") for step in JOBS[job]["steps"]]


@pytest.mark.parametrize("job", JOBS)
def test_what_a_job_runs_is_there(job: str) -> None:
    ours = [line for line in lines(job) if line.startswith(("make ", "bash "))]
    assert ours
    for line in ours:
        program, word = line.split()
        assert word in TARGETS if program == "make" else (ROOT / word).is_file(), line


@pytest.mark.parametrize("job", [name for name, job in JOBS.items() if "container" in job])
def test_git_trusts_the_checkout(job: str) -> None:
    """In a container the checkout is another user's, which git refuses: builds know no commit, tests fail."""
    steps = JOBS[job]["steps"]
    fetched = next(at for at, step in enumerate(steps) if step.get("uses", "").startswith("actions/checkout@"))
    assert steps[fetched + 1]["run"] == 'git config --global --add safe.directory "$PWD"'
