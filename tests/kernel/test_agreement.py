"""Simulated against real: the next packet of every connection in the captures, and the committed page of it."""

from __future__ import annotations

import pytest

from tests.support.agreement import PAGE, of_capture, row
from tests.support.captures import NAMES

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("name", NAMES)
def test_every_next_packet_agrees_or_the_reason_is_said(name: str) -> None:
    outcomes = of_capture(name)
    differ = [one for one in outcomes if not one["agrees"] and not one["refused"]]
    assert differ == []
    # Forward and reply, of pods and of services, each at least five: a rule that refuses everything is none.
    agree = [one["what"] for one in outcomes if one["agrees"]]
    for kind in ("forward", "reply", "to a service", "reply of a service"):
        assert agree.count(kind) >= 5, kind
    assert row(name, outcomes) in PAGE.read_text()


def test_without_an_agent_the_tables_tell_the_mode() -> None:
    outcomes = of_capture("cilium-1.19-dsr-node1", agent=False)
    assert [one for one in outcomes if not one["agrees"] and not one["refused"]] == []
    assert sum(one["agrees"] for one in outcomes) > 90
