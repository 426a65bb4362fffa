"""Options of ``ctctl trace`` that do not go together are refused in one line, none is ignored."""

from __future__ import annotations

import pytest

from ctctl.cli.main import main
from tests.support.sentences import held_by, sentences, unsaid

PACKET = "tcp 10.0.0.1:1 > 10.0.0.2:2"


#: What does not go together, and what is said.
WRONG = [
    ([PACKET, "--live", "--simulate"], "--live and --simulate: give one of them"),
    ([PACKET, "--probe", "--simulate"], "--probe and --simulate: give one of them"),
    (["--scenario", "x.yaml", "--pcap", "x.pcap"], "--scenario and --pcap: give one of them"),
    ([PACKET, "--device", "eth0", "--live"], "--live and --probe: give one of them"),
    ([PACKET, "--scenario", "x.yaml"], "--scenario brings its own packets: leave PACKET out"),
    ([PACKET, "--pcap", "x.pcap"], "--pcap brings its own packets: leave PACKET out"),
    ([PACKET, "--reply"], "--reply goes with --simulate, not with --live"),
    ([PACKET, "-f", "n.yaml"], "--file goes with --simulate or --pcap, not with --live"),
    ([PACKET, "--probe", "--set", "x"], "--set goes with --simulate, not with --probe"),
    ([PACKET, "--simulate", "--port", "80"], "--port goes with --live or --probe or --from, not with --simulate"),
    ([PACKET, "--simulate", "--not"], "--not goes with --live or --probe or --from, not with --simulate"),
    ([PACKET, "--simulate", "--count", "3"], "--count goes with --live or --probe or --from, not with --simulate"),
    ([PACKET, "--simulate", "--hook", "from_netdev"], "--hook goes with --pcap, not with --simulate"),
    (["--pcap", "x.pcap", "--at", "+5s"], "--at goes with --simulate, not with --pcap"),
    (["--scenario", "x.yaml", "--from", "auto"], "--from goes with --simulate or --pcap, not with --scenario"),
    (["--from", "x.txt", "--for", "3s"], "--for goes with --live or --probe, not with --from"),
    (["--from", "x.txt", "--reply"], "--reply goes with --simulate, not with --from"),
    (["--from", "x.txt", "-o", "svg"], "--from alone has no -o svg: table or jsonl"),
    (["--scenario", "x.yaml", "--node", "a", "--node", "b"], "--scenario runs on one node: give one --node"),
    (
        [PACKET, "--count", str(2**63)],
        f"Invalid value for '--count': '{2**63}' is not in the range of whole numbers from 1 to {2**63 - 1}"
        " (see 'ctctl trace --help')",
    ),
    (
        ["tcp", "10.0.0.1:1", ">", "10.0.0.2:80"],
        "Got unexpected extra argument(s) (10.0.0.1:1 > 10.0.0.2:80); what has blanks in it is one word in quotes"
        " (see 'ctctl trace --help')",
    ),
    (
        ["--simulate"],
        "--simulate: say which packet, e.g. 'tcp 10.64.0.36:54260 > 10.64.0.64:8000 S'",
    ),
]


@pytest.mark.parametrize(("args", "message"), WRONG)
def test_wrong_combinations_are_one_clear_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", *args]) == 2
    assert capsys.readouterr().err == f"ctctl: {message}\n"


def test_every_sentence_is_provoked(capsys: pytest.CaptureFixture[str]) -> None:
    for args, _ in WRONG:
        main(["trace", *args])
    said = capsys.readouterr().err
    for module in held_by(__file__):
        assert sentences(module)
        assert unsaid(module, said) == []
