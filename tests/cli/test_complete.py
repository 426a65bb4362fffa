"""Values that complete: from the options' own words, from the views' fields and from the source that is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctctl.cli import tab
from ctctl.tables.query.parse import CT_WORDS, FIELD_NAMES, KNOWN_WORDS, NAT_WORDS, parse_filter
from tests.support.samples import ROOT
from tests.support.wait import PATIENCE_S

DUMP = ROOT / "cilium-dbg-1.16.4" / "ct-list-global.txt"
ARCHIVE = next((ROOT / "archives").glob("*.zip"))


def answers(words: str) -> list[str]:
    """What bash is told for the last word. Fails if anything is said beside it."""
    env = {"_CTCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "ctctl"], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("ctctl ct list --state c", ["closing", "closed"]),
        ("ctctl ct list --direction ", ["out", "in", "svc"]),
        ("ctctl ct list --protocol u", ["udp"]),
        ("ctctl ct delete --flag Seen", ["SeenNonSyn"]),
        ("ctctl ct list --layout ", ["1.14", "1.15", "1.16", "1.17", "1.18", "1.19"]),
        ("ctctl ct stats --clock k", ["ktime"]),
        ("ctctl cluster ct st", ["stats"]),
        ("ctctl cluster --context x ct g", ["get"]),
        ("ctctl cluster ct fl", []),
        ("ctctl ct top --by s", ["src", "service"]),
        ("ctctl ct export --format p", ["parquet"]),
        ("ctctl ct list --sort rema", ["remaining"]),
        ("ctctl ct list --fields src,dst,src_p", ["src,dst,src_port"]),
        ("ctctl ct top --by dst --fields exp", ["expired"]),
        ("ctctl ct diff A B --fields ch", ["change"]),
        ("ctctl ct events --fields ev", ["event"]),
        ("ctctl lb list --maglev --sort sh", ["share"]),
        ("ctctl nat list --fields xl", ["xlate"]),
        ("ctctl ct list remai", ["remaining"]),
        (f"ctctl ct list --from {ARCHIVE} --map cilium_ct_any6", ["cilium_ct_any6_global"]),
        (f"ctctl lb list --from {DUMP} --map cilium_ct6", ["cilium_ct6_global"]),
    ],
)
def test_words_complete(words: str, want: list[str]) -> None:
    assert answers(words) == want


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        ("proto == tc", ["tcp"]),
        ("protocol=ud", ["udp"]),
        ("not dir == s", ["svc"]),
        ("src in 10.0.0.0/8 and state != clo", ["closing", "closed"]),
        ("proto in (tcp, ud", ["udp"]),
        ("proto not in {t", ["tcp"]),
        ("proto in ic", ["icmp", "icmpv6"]),
        ("flag(TxC", ["TxClosing"]),
        ("flag(TxClosing, RxC", ["RxClosing"]),
        ("related == f", ["false"]),
        ("src_sec_id == wor", ["world", "world-ipv4", "world-ipv6"]),
        ("src_sec_id == world-", ["world-ipv4", "world-ipv6"]),
        # A value that nobody can know, and no field's name in its place.
        ("remaining < s", []),
        ("dst == s", []),
        # Fields again, behind whatever is closed.
        ("proto in (tcp, udp) and sta", ["state"]),
        ("(state == closed or rela", ["related"]),
        ("(sta", ["state"]),
        ("not (proto == tcp) && rema", ["remaining"]),
        ("flag(TxClosing) and fami", ["family"]),
    ],
)
def test_a_filter_completes_by_fields_and_by_what_a_field_can_be(typed: str, want: list[str]) -> None:
    last = re.split(r"[^\w-]", typed)[-1]
    before = typed.removesuffix(last)
    assert tab.terms(sorted(FIELD_NAMES), KNOWN_WORDS, typed) == [before + word for word in want]


@pytest.mark.parametrize("field", sorted(KNOWN_WORDS))
def test_what_is_offered_in_a_filter_is_taken_by_it(field: str) -> None:
    for word in KNOWN_WORDS[field]:
        words = NAT_WORDS if field == "xlate" else CT_WORDS
        assert parse_filter(f"flag({word})" if field == "flag" else f"{field} == {word}", words) is not None


def test_addresses_of_the_table_complete() -> None:
    v4, v6 = (answers(f"ctctl ct list --from {DUMP} --ip {start}") for start in ("10.64.", "fd00:10:64::"))
    assert v4
    assert all(address.startswith("10.64.") for address in v4)
    assert v6
    assert all(address.startswith("fd00:10:64::") for address in v6)
    assert len({*v4, *v6}) == len(v4) + len(v6)


def test_ids_of_an_archive_complete() -> None:
    assert "40" in answers(f"ctctl ct list --from {ARCHIVE} --rev-nat ")
    assert "94" in answers(f"ctctl ct list --from {ARCHIVE} --backend-id 9")


@pytest.mark.parametrize("option", ["--map", "--ip", "--rev-nat", "--backend-id"])
def test_a_source_that_cannot_be_read_offers_nothing(option: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\3\4 and no more")
    for source in (broken, tmp_path / "missing", "-"):
        assert answers(f"ctctl ct list --from {source} {option} ") == []


def test_every_filter_field_completes() -> None:
    assert set(answers("ctctl ct list ")) == set(FIELD_NAMES)


def test_kubectl_is_told_the_same_in_its_own_form(tmp_path: Path) -> None:
    """kubectl runs ``kubectl_complete-ctctl`` with the words so far, the last being typed."""
    (tmp_path / "ctctl").write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@"\n')
    (tmp_path / "ctctl").chmod(0o755)
    for name in ("kubectl_complete-ctctl", "kubectl-ctctl"):
        (tmp_path / name).write_bytes((Path(__file__).parents[2] / "packaging" / name).read_bytes())
        (tmp_path / name).chmod(0o755)

    def told(*words: str) -> list[str]:
        done = subprocess.run(
            [tmp_path / "kubectl_complete-ctctl", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert (done.returncode, done.stderr) == (0, "")
        *found, end = done.stdout.splitlines()
        assert end == ":4"
        return [line.split("\t")[0] for line in found]

    assert told("ct", "st") == ["stats"]
    assert "get" in told("ct", "")
    assert told("--dea") == ["--deadline"]
    assert told("it's", "") == []
    shown = subprocess.run([tmp_path / "kubectl-ctctl", "--help"], capture_output=True, text=True, check=False)
    assert "ctctl cluster nodes" in shown.stdout
