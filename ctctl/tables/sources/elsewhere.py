"""Commands that a shell runs on another machine: which machine a listing below one is of."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What prints listings, and so must be what such a command runs.
_PROGRAM = re.compile(r"(?<![\w-])(?:cilium(?:-dbg|-agent|-bugtool)?|bpftool|ctctl|conntrack|nf_conntrack)(?![\w-])")
#: Programs, the longer names first, with those of their short options that have a value; None: the machine is an
#: option's value.
_WAYS: dict[tuple[str, ...], str | None] = {
    ("minikube", "ssh"): None,
    ("vagrant", "ssh"): "c",
    ("docker", "exec"): "uew",
    ("podman", "exec"): "uew",
    ("nerdctl", "exec"): "uew",
    ("lxc", "exec"): "",
    ("incus", "exec"): "",
    ("multipass", "exec"): "",
    ("kubectl", "debug"): "nc",
    ("oc", "debug"): "nc",
    ("node-shell",): "n",
    ("ssh",): "BbcDEeFIiJLlmOopQRSWw",
}
#: Long options without a value. Of any other it is not known whether the next word is its value.
_FLAGS = frozenset({"--detach", "--interactive", "--privileged", "--quiet", "--stdin", "--tty"})
_NAMED_BY = re.compile(r"\s(?:-n|--node)[= ](?P<name>[A-Za-z0-9][\w.-]{0,120})(?=\s)")
_MACHINE = re.compile(r"(?:[\w.-]{1,40}@)?(?:node/)?(?P<name>[A-Za-z0-9](?:[\w.:-]{0,120}[A-Za-z0-9])?)$")
_MAX_WORDS = 40


def machine_of(line: str) -> str | None:
    """The machine on which a command on this line is run; None: none, that of the shell, or one that is not known."""
    if not ("ssh" in line or " exec " in line or "node-shell" in line or " debug " in line):
        return None
    program = _PROGRAM.search(line)
    if program is None:
        return None
    words = line[: program.start()].split()[:_MAX_WORDS]
    for way, with_value in _WAYS.items():
        for at in range(len(words) - len(way) + 1):
            if words[at].rpartition("/")[2] == way[0] and tuple(words[at + 1 : at + len(way)]) == way[1:]:
                return _by_option(line) if with_value is None else _machine_in(words[at + len(way) :], with_value)
    return None


def _by_option(line: str) -> str | None:
    match = _NAMED_BY.search(line)
    return match["name"] if match is not None else None


def _machine_in(words: Sequence[str], with_value: str) -> str | None:
    """The first word that is no option, or an option's value."""
    value = False
    for word in words:
        if value:
            value = False
        elif word.startswith("--"):
            if "=" not in word and word not in _FLAGS:
                return None
        elif word.startswith("-") and len(word) > 1:
            value = len(word) == 2 and word[1] in with_value
        else:
            match = _MACHINE.match(word.strip("'\""))
            return match["name"] if match is not None else None
    return None
