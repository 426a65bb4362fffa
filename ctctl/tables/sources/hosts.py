"""On which machine a listing of a paste was made: what a shell's prompt, kubectl and the like say above it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ctctl.tables.sources.elsewhere import machine_of
from ctctl.tables.sources.members import folder_of, word_of
from ctctl.tables.sources.names_alone import Alone, address_of, is_name, named_in_front, reads_as_machine
from ctctl.tables.sources.values import has_any

#: A pod of the agent's DaemonSet, as commands name it.
_POD = re.compile(
    r"(?:^|[\s$#])(?:kubectl|oc|k)\s.{0,200}?[\s/](?P<pod>cilium-(?!agent|envoy|proxy|relay)[a-z0-9]{5})(?![\w-])"
)
_PROMPT = re.compile(
    r"\s*+[\[(]?[a-z_][a-z0-9_-]{0,31}@(?P<host>[A-Za-z0-9][\w.-]{0,60})(?:[:\s][^#$%]{0,100})?[#$%](?:\s|$)"
)
#: One that does not say who: what is behind it must be a command that prints listings.
_SHORT_PROMPT = re.compile(
    r"\s*+\[?(?P<host>(?!(?:ba|da|z|k|c|a)?sh-\d)[A-Za-z][\w.-]{0,60})\]?"
    r"(?::?[~/][\w./~-]{0,60}| [~/][\w./~-]{0,60}\]?|:)? ?"
    r"[#$%>] ?(?:sudo )?(?:cilium(?:-dbg)?|bpftool|ctctl|conntrack|cat /proc)\s"
)
_LISTING = ("cilium", "bpftool", "ctctl", "conntrack", "/proc")
_TOLD = re.compile(
    r"\s*+(?:(?P<ansible>[\w.-]{1,60}) \| (?:CHANGED|SUCCESS|FAILED)!?(?:(?:\.| \|) rc=\d{1,3} >>| => ?\{?)"
    r"|\[\d{1,5}\] \d\d:\d\d:\d\d \[(?:SUCCESS|FAILURE)\] (?P<pssh>[\w.-]{1,60})"
    r"|(?:Finished on|(?:ok|changed|failed|fatal): \[)\s*(?P<task>[\w.-]{1,60})(?::|\](?:: FAILED!)? => ?\{?)"
    r"|Linux (?P<uname>[\w.-]{1,64}) \d{1,2}\.\d{1,3}\.\d\S{0,60} #\d.{0,200}+"
    r"|==> (?P<file>\S{1,200}) <==)\s*+$"
)
#: What none of these is without.
_IN_TOLD = (" | ", "[", "Finished on", "Linux ", "==> ")
#: The same in words that stand in front of each line: a pod, as kubectl, stern and grep over bugtools write it, a file.
_POD_WORD = re.compile(r"(?:^|[\s/\[]|bugtool-)(cilium-(?!agent|envoy|proxy|relay)[a-z0-9]{5})(?=[\s/\]:|-])")
_FILE_WORD = re.compile(r"\s*+((?:[\w.-]{1,60}/){0,9}[\w.-]{1,80}\.(?:txt|md|log|json|out|yaml)):")
#: What a loop over nodes prints above each one's listing: a name alone, or dressed as a heading.
_HEADING = re.compile(
    r"\s*+(?P<front>[=#*>~+|<]{0,40}|-{1,40}(?=\s)|[\[(])\s*+(?P<word>(?:(?i:nodes?|hosts?(?:name)?|pods?|server|worker|master|machine|vm)[:=]?\s++)?)"
    r"(?:(?:pods?|nodes?|[a-z0-9-]{1,63})/)?(?P<name>[A-Za-z0-9](?:[\w.:-]{0,120}[A-Za-z0-9])?)"
    r"\s*+(?:\([\w.:/ -]{1,80}\))?\s*+(?P<back>[=#*<~+|>:-]{0,40}|[\])])\s*+$"
)
_KIND = re.compile(r"[a-z]+")
#: What is a name where it stands alone, too: a pod's, whose last letters Kubernetes draws from these. Any other may be
#: a setting without a value.
_BARE = re.compile(r"cilium-[bcdfghjklmnpqrstvwxz2456789]{5}$")
#: A longer line says something else.
_LONGEST = 400


class Hosts:
    """Whose the lines of a stream are. ``name`` is None as long as nothing said it."""

    def __init__(self, name: str | None = None, *, by_prompt: bool = False) -> None:
        self.name = name
        #: it is what shells call their machine: where commands name pods, that is where they were typed
        self.by_prompt = by_prompt
        #: it stands alone on a line: only other such names show that it is one; the machine of the prompt before it
        self.alone = False
        self.under: str | None = None

    def below(self, alone: Alone) -> Hosts:
        """Those of what stands below a name alone."""
        hosts = Hosts(alone.name)
        hosts.alone = True
        hosts.under = self.name if self.by_prompt else self.under
        return hosts

    def named(self, alone: Alone) -> None:
        """Nothing is of them yet, and a name stands alone above what will be, if nothing else said it."""
        if self.name is None or self.by_prompt:
            self.under = self.name
            self.name, self.by_prompt, self.alone = alone.name, False, True

    def other(self, line: str, *, before: bool) -> Hosts | None:
        """Those of what follows a line that names another machine; None: it is of the same one.

        ``before``: there were records before it. What stands above a prompt was printed on the same machine, be it
        the first prompt.
        """
        told = told_by(line)
        if told is None or told.name == self.name:
            return None
        if self.alone and told.by_prompt and self.under is not None:
            return told if told.name != self.under else None
        if self.name is not None and told.by_prompt > self.by_prompt:
            return None
        if (self.name is None or self.by_prompt > told.by_prompt) and (told.by_prompt or not before):
            self.name, self.by_prompt = told.name, told.by_prompt
            return None
        return told


def is_prompt(line: str) -> bool:
    """Whether a line begins with a shell's prompt."""
    return "@" in line and len(line) <= _LONGEST and _PROMPT.match(line) is not None


def told_by(line: str) -> Hosts | None:
    """The machine that a line names by itself, be the line above a listing or not."""
    if len(line) > _LONGEST:
        return None
    if "cilium-" in line and (pod := _POD.search(line)) is not None:
        return Hosts(pod["pod"])
    lists = has_any(line, _LISTING)
    if lists and (machine := machine_of(line)) is not None:
        return Hosts(machine)
    prompt = (_PROMPT.match(line) if "@" in line else None) or (_SHORT_PROMPT.match(line) if lists else None)
    if prompt is not None and (prompt.re is _PROMPT or reads_as_machine(prompt["host"])):
        return Hosts(prompt["host"].partition(".")[0], by_prompt=True)
    told = _TOLD.match(line) if has_any(line, _IN_TOLD) else None
    if told is None:
        heading = _headed(line)
        return Hosts(heading) if heading is not None else None
    if told["file"] is None:
        return Hosts(told["ansible"] or told["pssh"] or told["task"] or told["uname"])
    path = PurePosixPath(told["file"])
    name = word_of(path) or folder_of(path)
    return Hosts(name) if name else None


def _headed(line: str) -> str | None:
    """The name of a machine, or of a pod, that a line is a heading of; None for any other line."""
    heading = _HEADING.match(line)
    if heading is None:
        return None
    name = heading["name"].rstrip(":")
    front, back = heading["front"], heading["back"]
    # Not by "##" alone: sections of a page have names as well.
    told = ":" in heading["word"] or (
        heading["word"] != "" and any(letter in "-." or letter.isdigit() for letter in name)
    )
    dressed = len(front.strip("#")) > 1 or front + back == "[]" or told
    if not dressed:  # alone an address is what `-o name` prints of an endpoint
        return name if _BARE.match(name) and is_name(name) else None
    if (address := address_of(name)) is not None:
        return address
    if name.isdecimal() and (kind := _KIND.match(heading["word"].lower())) is not None:  # "== Node 1 =="
        return f"{kind[0]}-{name}" if front or heading["back"].strip(":") else None
    return name if name == name.lower() and is_name(name) else None


def heading_of(node: str) -> str:
    """A line that says that what follows is of a node."""
    return f"{node[:60]} | SUCCESS | rc=0 >>"


def named_in(words: str) -> str | None:
    """The node that words in front of a line name; None where they name none."""
    if (pod := _POD_WORD.search(words)) is not None:
        return pod[1]
    file = _FILE_WORD.match(words)
    path = PurePosixPath(file[1]) if file is not None else None
    return (word_of(path) or folder_of(path)) if path is not None else named_in_front(words)
