"""The few lines of a verifier log that say why a program was refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BEGIN = re.compile(r"prog '(?P<name>[^']+)': -- BEGIN PROG LOAD LOG --\n")
_END = "-- END PROG LOAD LOG --"
_FAILED = re.compile(r"prog '(?P<name>[^']+)': BPF program load failed")
_STATISTICS = re.compile(r"^(processed \d+ insns|verification time |stack depth |max_states_per_insn|total_states)")
#: From Linux 7.3 on a report for readers follows, several sections long: its heading, and what it is about.
_REPORT = re.compile(r"^Verification failed: (?P<what>.+)$", re.MULTILINE)
_SOURCE = re.compile(r"^; ")
#: Register dumps and instructions: state, not the reason.
_STATE = re.compile(r"^(\d+: |from \d+ to \d+|last_idx |regs=|mark_precise|parent |frame ?\d+: |R\d+(_\w+)?=)")
_NO_REASON = "the verifier log gives no reason"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which program the verifier refused, in one line why, and its whole log."""

    program: str
    summary: str
    log: str


def refusal(lines: list[str]) -> Refusal | None:
    """The refusal told by libbpf's log lines, or None if no program's load failed."""
    text = "".join(lines)
    begin = _BEGIN.search(text)
    if begin:
        end = text.find(_END, begin.end())
        body = text[begin.end() : end if end >= 0 else len(text)]
        body = body[: body.rfind("\n") + 1] if end >= 0 else body
        return Refusal(begin["name"], summarize(body), body)
    failed = _FAILED.search(text)
    return Refusal(failed["name"], "the kernel gave no verifier log", text) if failed else None


def summarize(log: str) -> str:
    """The reason and, if the log tells it, the source line it concerns: "REASON; at: SOURCE".

    The reason is the last line that is neither statistics nor register state; the verifier prints the
    source line of each instruction (with BTF) ahead of it. Of a report that explains it the heading stands in
    for a reason that was not printed.
    """
    report = _REPORT.search(log)
    if report:
        before = summarize(log[: report.start()])
        return report["what"] if before == _NO_REASON else before
    reason, source = "", ""
    for line in reversed(log.splitlines()):
        stripped = line.strip()
        if not stripped or _STATISTICS.match(stripped):
            continue
        if not reason:
            if not _STATE.match(stripped) and not _SOURCE.match(stripped):
                reason = stripped
        elif _SOURCE.match(stripped):
            source = stripped.removeprefix("; ").strip()
            break
    if not reason:
        return _NO_REASON
    return f"{reason}; at: {source}" if source else reason
