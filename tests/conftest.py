"""Markers that need a kernel, the leak check around each test that has one, and a run of one's own surroundings."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from tests.support.leaks import set_apart, take_inventory
from tests.support.needs import lacking
from tests.support.own_mounts import mount_our_own
from tests.support.signals import as_in_a_fresh_shell, run_is_ending

_MARKED = ("kernel", "lab")
_NO_PARAMETERS = SimpleNamespace(params={})

# How long an example takes, and how long it takes to make, says something about the machine only. The examples are the
# same in every run: what a checkout's tests say is said of the checkout. New ones are `make test-random`'s to find.
_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", _ANY_MACHINE, derandomize=True, database=None)
settings.register_profile("random", _ANY_MACHINE, print_blob=True)
settings.load_profile(os.environ.get("CTCTL_TEST_EXAMPLES", "same"))
#: What a user's shell may set and what would change what commands print.
_FOREIGN_ENVIRONMENT = (
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"),
    *("CTCTL_DEBUG", "CTCTL_NODE", "CTCTL_PAGER", "CTCTL_VERBOSE"),
)


def pytest_configure() -> None:
    """Tests and the programs they start find the same signals, environment and mounts on every machine."""
    as_in_a_fresh_shell()
    mount_our_own()
    for name in _FOREIGN_ENVIRONMENT:
        os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    set_apart()


@functools.cache
def _kernel_problem() -> str:
    """Why BPF tests cannot run here, or an empty string."""
    from ctctl.errors import CtctlError
    from ctctl.kernel.map import Map, MapType

    if os.geteuid() != 0:
        return "not root"
    try:
        Map.create("ctctl_probe", MapType.LRU_HASH, 4, 4, 1).close()
    except CtctlError as error:
        return str(error)
    return ""


@functools.cache
def _lab_problem() -> str:
    """Why tests with network namespaces cannot run here, or an empty string."""
    if problem := _kernel_problem():
        return problem
    try:
        done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unshare(1) is not installed"
    return done.stderr.strip() if done.returncode else ""


@functools.cache
def _tcx() -> bool:
    from ctctl.kernel.link import has_tcx

    return has_tcx()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip with the reason what this machine cannot run; with CTCTL_REQUIRE_KERNEL=1 fail instead."""
    if run_is_ending():
        raise KeyboardInterrupt
    if not any(item.get_closest_marker(name) for name in _MARKED):
        return
    problem = _lab_problem() if item.get_closest_marker("lab") else _kernel_problem()
    if problem:
        lacking(problem)
    # No failure under CTCTL_REQUIRE_KERNEL: the loader does without.
    asked = item.get_closest_marker("tcx") or "tcx" in getattr(item, "callspec", _NO_PARAMETERS).params.values()
    if asked and not _tcx():
        pytest.skip("this kernel has no TCX (Linux 6.6)")


@pytest.fixture(scope="session", autouse=True)
def _machine_as_found() -> Iterator[None]:
    """At the end the machine is as it was: what fixtures of modules and the session left behind is seen here."""
    if _kernel_problem():
        yield
        return
    before = take_inventory()
    yield
    leaked = sorted(take_inventory().things - before.things)
    if leaked:
        pytest.fail("the run left behind: " + ", ".join(leaked), pytrace=False)


@pytest.fixture(autouse=True)
def _leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a kernel or lab test that leaves a descriptor, pin, namespace or interface behind.

    Autouse fixtures are set up first and torn down last, so that what fixtures made is gone by then.
    """
    if not any(request.node.get_closest_marker(name) for name in _MARKED):
        yield
        return
    before = take_inventory()
    yield
    leaked = take_inventory().leaked_since(before)
    if leaked:
        pytest.fail("left behind: " + ", ".join(leaked), pytrace=False)
