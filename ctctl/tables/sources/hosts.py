"""On which machine a listing of a paste was made: what a shell's prompt, kubectl and the like say above it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ctctl.tables.sources.members import folder_of, word_of

#: A pod of the agent's DaemonSet, as commands name it.
_POD = re.compile(
    r"(?:^|[\s$#])(?:kubectl|oc|k)\s.{0,200}?[\s/](?P<pod>cilium-(?!agent|envoy|proxy|relay)[a-z0-9]{5})(?![\w-])"
)
_PROMPT = re.compile(
    r"\s*[\[(]?[a-z_][a-z0-9_-]{0,31}@(?P<host>[A-Za-z0-9][\w.-]{0,60})[:\s][^#$%]{0,100}[#$%](?:\s|$)"
)
_TOLD = re.compile(
    r"\s*(?:(?P<ansible>[\w.-]{1,60}) \| (?:CHANGED|SUCCESS)(?:\.| \|) rc=\d{1,3} >>"
    r"|\[\d{1,5}\] \d\d:\d\d:\d\d \[(?:SUCCESS|FAILURE)\] (?P<pssh>[\w.-]{1,60})"
    r"|==> (?P<file>\S{1,200}) <==)\s*$"
)
#: The same in words that stand in front of each line: a pod, as kubectl, stern and grep over bugtools write it, a file.
_POD_WORD = re.compile(r"(?:^|[\s/\[]|bugtool-)(cilium-(?!agent|envoy|proxy|relay)[a-z0-9]{5})(?=[\s/\]:|-])")
_FILE_WORD = re.compile(r"\s*((?:[\w.-]{1,60}/){0,9}[\w.-]{1,80}\.(?:txt|md|log|json|out|yaml)):")
#: A longer line says something else.
_LONGEST = 400


class Hosts:
    """Whose the lines of a stream are. ``name`` is None as long as nothing said it."""

    def __init__(self, name: str | None = None, *, by_prompt: bool = False) -> None:
        self.name = name
        #: it is what shells call their machine: where commands name pods, that is where they were typed
        self.by_prompt = by_prompt

    def other(self, line: str, *, before: bool) -> Hosts | None:
        """Those of what follows a line that names another machine; None: it is of the same one.

        ``before``: there were records before it. What stands above a prompt was printed on the same machine, be it
        the first prompt.
        """
        told = _told_by(line)
        if told is None or told.name == self.name or (self.name is not None and told.by_prompt > self.by_prompt):
            return None
        if (self.name is None or self.by_prompt > told.by_prompt) and (told.by_prompt or not before):
            self.name, self.by_prompt = told.name, told.by_prompt
            return None
        return told


def _told_by(line: str) -> Hosts | None:
    """The machine that a line names."""
    if len(line) > _LONGEST:
        return None
    if "cilium-" in line and (pod := _POD.search(line)) is not None:
        return Hosts(pod["pod"])
    if (prompt := _PROMPT.match(line)) is not None:
        return Hosts(prompt["host"].partition(".")[0], by_prompt=True)
    told = _TOLD.match(line)
    if told is None:
        return None
    if told["file"] is None:
        return Hosts(told["ansible"] or told["pssh"])
    path = PurePosixPath(told["file"])
    name = word_of(path) or folder_of(path)
    return Hosts(name) if name else None


def heading_of(node: str) -> str:
    """A line that says that what follows is of a node."""
    return f"{node[:60]} | SUCCESS | rc=0 >>"


def named_in(words: str) -> str | None:
    """The node that words in front of a line name; None where they name none."""
    if (pod := _POD_WORD.search(words)) is not None:
        return pod[1]
    file = _FILE_WORD.match(words)
    path = PurePosixPath(file[1]) if file is not None else None
    return (word_of(path) or folder_of(path)) if path is not None else None
