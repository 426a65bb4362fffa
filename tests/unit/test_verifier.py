"""The lines of a verifier log that matter."""

from __future__ import annotations

import pytest

from ctctl.kernel.verifier import refusal, summarize

_NULL = """\
0: R1=ctx() R10=fp0
; __u32 key = skb->mark; @ refused.bpf.c:16
0: (61) r1 = *(u32 *)(r1 +8)          ; R1=scalar(smin=0,smax=umax=0xffffffff)
6: (85) call bpf_map_lookup_elem#1    ; R0=map_value_or_null(id=1,map=table,ks=4,vs=8)
; return *value; @ refused.bpf.c:19
7: (79) r0 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""

_OLD = """\
Unrecognized arg#0 type PTR
; return *(int*)(d+4);
1: (61) r0 = *(u32 *)(r1 +4)
 R1_w=pkt(id=0,off=0,r=0,imm=0) R10=fp0
invalid access to packet, off=4 size=4, R1(id=0,off=4,r=0)
R1 offset is outside of the packet
verification time 88 usec
stack depth 0
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


@pytest.mark.parametrize(
    ("log", "summary"),
    [
        (_NULL, "R0 invalid mem access 'map_value_or_null'; at: return *value; @ refused.bpf.c:19"),
        (_OLD, "R1 offset is outside of the packet; at: return *(int*)(d+4);"),
        (
            "combined stack size of 2 calls is 704. Too large\nprocessed 28 insns (limit 1000000)\n",
            "combined stack size of 2 calls is 704. Too large",
        ),
        ("0: R1=ctx() R10=fp0\nprocessed 1 insns\n", "the verifier log gives no reason"),
        ("", "the verifier log gives no reason"),
    ],
)
def test_the_reason_and_its_source_line(log: str, summary: str) -> None:
    assert summarize(log) == summary


#: What Linux 7.3 adds for readers.
_REPORT = """\

Verification failed: Register Type Safety: Invalid dereference

Reason:
  R0 may be NULL here (a nullable map value pointer).

At:
  unchecked @ refused.bpf.c:19:9
  >>> 19 |         return *value;

Suggestion:
  Add a NULL check before the access and dereference the pointer only on the non-NULL path.

processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_a_report_for_readers_is_not_the_reason() -> None:
    assert summarize(_NULL[: _NULL.index("processed")] + _REPORT) == summarize(_NULL)
    assert summarize(_REPORT) == "Register Type Safety: Invalid dereference"


def test_the_program_is_named_and_the_log_kept_whole() -> None:
    found = refusal(
        [
            "libbpf: prog 'unchecked': BPF program load failed: Permission denied\n",
            f"libbpf: prog 'unchecked': -- BEGIN PROG LOAD LOG --\n{_NULL}-- END PROG LOAD LOG --\n",
            "libbpf: prog 'unchecked': failed to load: -13\n",
        ]
    )
    assert found is not None
    assert found.program == "unchecked"
    assert found.log == _NULL


def test_a_refusal_without_a_log_and_no_refusal() -> None:
    found = refusal(["libbpf: prog 'x': BPF program load failed: Operation not permitted\n"])
    assert found is not None
    assert (found.program, found.summary) == ("x", "the kernel gave no verifier log")
    assert refusal(["libbpf: map 'y': failed to create: Invalid argument(-22)\n"]) is None
