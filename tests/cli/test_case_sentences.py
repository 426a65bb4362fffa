"""What is said of the dumps that people have: true sentences, and none of what a dump does not show."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.children import run_ctctl
from tests.support.listings import CASES


def run(*words: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = run_ctctl(*words)
    assert code is None or done.returncode == code, done.stderr
    assert "unexpected" not in done.stderr
    return done


def doctor(source: Path, *more: str, code: int | None = 3) -> tuple[dict[str, Any], str]:
    """The one node's findings by check, and its verdict."""
    document = json.loads(run("doctor", "--from", source, "-o", "json", *more, code=code).stdout)
    (node,) = document["sources"]
    return {finding["check"]: finding for finding in document["findings"]}, node["verdict"]


def written(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(lines))
    return path


def line(
    ends: str, *, left: int, report: int = 100_000, rx: int = 0, tx: int = 0x1B, flags: int = 0x12, tail: str = ""
) -> str:
    """A line as 1.15 prints it, read at 100,010."""
    return (
        f"{ends} expires={100_010 + left} (remaining: {left} sec(s)) RxPackets=0 RxBytes=6 RxFlagsSeen=0x{rx:02x} "
        f"LastRxReport={report if rx else 0} TxPackets=0 TxBytes=0 TxFlagsSeen=0x{tx:02x} LastTxReport={report} "
        f"Flags=0x{flags:04x} [ x ] RevNAT=1 SourceSecurityID=2 IfIndex=0 {tail}\n"
    )


# ---- ct get


def test_03_the_client_and_not_the_vip_has_closed() -> None:
    source = CASES / "03-v1.12-dsr-service-suffix/ct.txt"
    out = run("ct", "get", "tcp 10.72.3.2:58842 > 10.72.32.1:80", "--from", source).stdout
    assert "the client (10.72.3.2) has sent its FIN" in out
    assert "10.72.32.1 has" not in out
    assert "10.72.3.2 has not" not in out


def test_07_a_gone_backend_is_named() -> None:
    done = run(
        "ct",
        "get",
        "tcp 10.196.161.9:45318 > 192.0.2.100:443",
        "--from",
        CASES / "07-svc-backend-not-found/bugtool",
        code=None,
    )
    assert "backend 4711 is not in the backend table" in done.stdout


def test_13_an_ipv6_end_as_the_cli_writes_it() -> None:
    source = CASES / "13-v1.20dev-nodeport-stale-ipv6/ct.txt"
    out = run("ct", "get", "tcp fd00:10:244:1::df65:45948 > fd00:10:244:2::9b33:8080", "--from", source).stdout
    assert [row.split()[0] for row in out.splitlines() if row.startswith(("service ", "out ", "in "))][-3:] == [
        "service",
        "out",
        "in",
    ]


def test_14_the_pair_stands_with_its_service() -> None:
    source = CASES / "14-hairpin-inconsistent/ct-svc.txt"
    found = json.loads(run("ct", "get", "tcp 10.32.2.250:5555 > 10.32.9.9:80", "--from", source, "-o", "json").stdout)
    assert [entry["role"] for entry in found["entries"]] == ["service", "out", "in"]


def test_37_a_service_entry_does_not_see_the_other_side(tmp_path: Path) -> None:
    source = written(tmp_path / "svc.txt", [line("TCP SVC 10.0.1.0:20000 -> 10.96.0.1:443", left=21_590)])
    out = run("ct", "get", "tcp 10.0.1.0:20000 > 10.96.0.1:443", "--from", source).stdout
    assert "the client (10.0.1.0) has sent its FIN; a service entry does not see the other side" in out
    assert "10.96.0.1 has not" not in out


# ---- doctor


def test_05_which_snat_entry_is_missing() -> None:
    found, _ = doctor(CASES / "05-geneve-dsr-missing-nat/fixed", "--now", "16871900")
    assert found["snat-missing"]["evidence"]["examples"] == ["OUT TCP 172.18.0.1:53158 -> 10.0.1.167:80"]


@pytest.mark.parametrize("form", ["bugtool", "bugtool14"])
def test_07_which_service_entries_have_a_gone_backend(form: str) -> None:
    found, _ = doctor(CASES / "07-svc-backend-not-found" / form, "--now", "16879950")
    assert set(found) == {"backend-gone"}
    assert found["backend-gone"]["evidence"]["backend_ids"] == [4711]


def test_09_every_port_of_one_egress_address(tmp_path: Path) -> None:
    pairs = (
        f"TCP OUT 10.0.3.{port % 200 + 1}:{port} -> 203.0.113.10:443 XLATE_SRC 192.0.2.5:{port} "
        "Created=2719514sec ago NeedsCT=1\n"
        for port in range(32768, 61000)
    )
    found, _ = doctor(written(tmp_path / "nat.txt", pairs))
    assert found["snat-ports"]["severity"] == "critical"
    assert "192.0.2.5 -> 203.0.113.10:443 (TCP) uses 28,232 of 28,232 ports" in found["snat-ports"]["summary"]
    out = run("doctor", "--from", tmp_path / "nat.txt", code=3).stdout
    assert "not checked: snat-orphans: the source shows no conntrack table" in out


def test_13_shadowed_after_the_fact() -> None:
    found, _ = doctor(CASES / "13-v1.20dev-nodeport-stale-ipv6/ct.txt")
    assert set(found) == {"shadowed"}


def test_14_a_hairpin_that_disagrees() -> None:
    found, _ = doctor(CASES / "14-hairpin-inconsistent/ct.txt")
    assert found["hairpin"]["evidence"]["bare"] == 1
    assert found["hairpin"]["evidence"]["split"] == 1


def test_23_replies_do_not_pass_this_node(tmp_path: Path) -> None:
    lines = [
        line(f"TCP OUT 198.51.100.{i % 250}:{20000 + i} -> 10.0.5.{i % 20}:443", left=21_000 - i) for i in range(600)
    ]
    found, _ = doctor(written(tmp_path / "ct.txt", lines))
    assert set(found) == {"one-way"}
    assert "does not close" not in json.dumps(found)


def test_31_pressure_as_the_bugtool_itself_tells_it() -> None:
    found, _ = doctor(CASES / "31-capacity-in-bugtool/sysdump")
    assert found["pressure"]["evidence"]["max_entries"] == 131072
    assert found["pressure"]["severity"] == "critical"


def test_35_connections_of_the_node_itself_have_no_identity() -> None:
    found, verdict = doctor(CASES / "35-identity-0-host-traffic/ct.txt", code=0)
    assert (found, verdict) == ({}, "unknown")


def test_37_finished_service_entries_are_held(tmp_path: Path) -> None:
    lines = [line(f"TCP SVC 10.0.1.{i % 200}:{20000 + i} -> 10.96.0.1:443", left=21_590 - i) for i in range(1500)]
    old = [text.replace("TCP SVC", "TCP OUT").replace(" expires", " service expires") for text in lines]
    for number, text in enumerate(old):
        client, vip = text.split()[2], text.split()[4]
        old[number] = text.replace(f"{client} -> {vip}", f"{vip} -> {client}")
    for form in (lines, old):
        found, _ = doctor(written(tmp_path / "svc.txt", form))
        assert set(found) == {"service-finished"}
    assert found["service-finished"]["evidence"]["finished"] == 1500


# ---- the others


@pytest.mark.parametrize("timeout", [8000, 21600])
def test_24_never_less_than_what_is_alive(tmp_path: Path, timeout: int) -> None:
    lines = []
    for i in range(2000):
        report = 100_010 - (i * 1789) % 3600
        ends = f"TCP OUT 10.0.{i % 200}.{i % 250}:{20000 + i} -> 192.0.2.{i % 20}:443"
        lines.append(line(ends, left=report + timeout - 100_010, report=report, rx=0x1A, tx=0x1A, flags=0x10))
    source = written(tmp_path / "ct.txt", lines)
    (size,) = json.loads(run("sizing", "--from", source, "-o", "json").stdout)["sizes"]
    assert (size["alive"], size["configured"]) == (2000, None)
    assert size["recommended"] >= 4096
    forecast = json.loads(run("gc", "simulate", "--from", source, "--for", "1h", "--no-plot", "-o", "json").stdout)
    assert forecast["tables"][0]["peak"] >= 1980


@pytest.mark.kernel
def test_33_the_sentence_follows_the_packet() -> None:
    out = run(
        *("trace", "-v", "--simulate", "tcp 198.51.100.7:40000 > 10.42.1.126:3000", "--reply"),
        *("-f", CASES / "33-trace-why-contradicts/all.yaml", "--set"),
        "tcp out 198.51.100.7:40000 > 10.42.1.126:3000 "
        "flags=RxClosing,TxClosing,SeenNonSyn,NodePort rev_nat=54415 remaining=5s",
    ).stdout
    blocks = [block for block in out.split("step ") if "rev_dnat" in block and "goes back to the VIP" in block]
    assert all("translate  src" in block for block in blocks)


@pytest.mark.kernel
def test_19_what_a_node_file_leaves_out_is_said() -> None:
    folder = CASES / "19-k8s-dualstack-lb"
    done = run("trace", "--simulate", "tcp 10.42.1.50:40000 > 10.43.0.77:80", "-f", folder / "all-ep.yaml")
    assert "Endpoints default/web" in done.stderr
    done = run(
        "trace", "--simulate", "tcp 198.51.100.7:40000 > [fd00:192:168:139::100]:80", "-f", folder / "all.yaml", code=2
    )
    assert "inner=" not in done.stderr
    assert "198.51.100.7 and fd00:192:168:139::100 are of two families" in done.stderr
