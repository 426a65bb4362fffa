"""Expectations against a step's JSON: what holds, and what is said when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from ctctl.simulate.expect import differences
from tests.support.sentences import held_by, sentences, unsaid

STEP: dict[str, Any] = {
    "verdict": "pass",
    "reason": None,
    "now": 1000,
    "tunnel": {"remote": "10.1.0.2", "vni": 2},
    "events": [{"hook": "from_netdev", "lookups": []}],
    "ct": {
        "cilium_ct4_global": [
            {"direction": "OUT", "state": "new", "flag_names": ["NodePort"], "rev_nat": 7},
            {"direction": "IN", "state": "established", "flag_names": [], "rev_nat": 0},
        ],
        "cilium_ct_any4_global": [{"direction": "OUT", "related": True}],
    },
    "snat": [],
}


@pytest.mark.parametrize(
    "expect",
    [
        {"verdict": "pass", "reason": None, "now": 1000},
        {"ct": 3, "snat": 0, "ct.cilium_ct4_global": 2},
        # the related entry of the other table is not counted here
        {"ct": 2, "ct.cilium_ct_any4_global": 0},
        {"tunnel.remote": "10.1.0.2", "tunnel": {"vni": 2}},
        {"ct.cilium_ct4_global.0.flag_names": ["NodePort"], "ct.cilium_ct4_global.-1.state": "established"},
        {"ct": {"cilium_ct4_global": [{"direction": "IN"}, {"direction": "OUT", "rev_nat": 7}]}},
        {"ct.cilium_ct_any4_global.0.related": True},
        {"events.0.lookups": 0, "snat": []},
    ],
)
def test_what_holds(expect: dict[str, Any]) -> None:
    assert list(differences(expect, STEP)) == []


#: What does not hold, and what is said.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"verdict": "drop"}, 'verdict: is "pass", expected "drop"'),
    ({"ct": 1}, "ct: 3 entries (1 of them related), expected 1"),
    ({"ct.cilium_ct4_global": 1}, "ct.cilium_ct4_global: 2 entries, expected 1"),
    ({"ct.cilium_ct4_global.0.rev_nat": 8}, "ct.cilium_ct4_global.0.rev_nat: is 7, expected 8"),
    ({"ct.cilium_ct4_global.2.rev_nat": 8}, "ct.cilium_ct4_global.2.rev_nat: is not there, expected 8"),
    ({"tunnel": {"vni": 3}}, "tunnel.vni: is 2, expected 3"),
    ({"tunnel": None}, 'tunnel: is {"remote": "10.1.0.2", "vni": 2}, expected null'),
    ({"now": True}, "now: is 1000, expected true"),
    ({"verdct": "pass"}, 'verdct: is not there, expected "pass"'),
    ({"snat": ["x"]}, "snat: 0 entries, expected 1"),
    (
        {"ct.cilium_ct_any4_global": [{"direction": "IN"}]},
        'ct.cilium_ct_any4_global.0: nothing matches {"direction": "IN"} (nearest: direction: is "OUT", expected "IN")',
    ),
]


@pytest.mark.parametrize(("expect", "said"), WRONG)
def test_what_is_said(expect: dict[str, Any], said: str) -> None:
    assert next(differences(expect, STEP)) == said


def test_one_true_is_not_one_entry() -> None:
    assert list(differences({"flag": 1}, {"flag": True})) == ["flag: is true, expected 1"]


def test_every_sentence_is_provoked() -> None:
    said = "\n".join(one for expect, _ in WRONG for one in differences(expect, STEP))
    for module in held_by(__file__):
        assert sentences(module)
        assert unsaid(module, said) == []
