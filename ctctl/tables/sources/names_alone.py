"""Names of nodes that nothing but their place tells: alone on a line above a listing, within a line that is alike.

``for n in $NODES; do echo $n; ssh $n …`` prints a name, and a listing below it. Settings without a value, sections
and remarks look the same. So such a line counts where a listing follows directly, and where a file has two or more
names so, of which one reads as a machine's. Where less than that is there, that is said: who reads it knows what the
file cannot tell.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from ctctl.tables.sources.members import word_in

#: A name as it stands alone, with what people and programs put around it: a bullet, a role, an address in parentheses.
_ALONE = re.compile(
    r"\s*+(?:[*-] |\d{1,3}[.)] |#{1,40} ?|[A-Z_]{0,20}(?:NODE|HOST|NAME)=)?[*_`]{0,2}"
    r"(?:(?i:nodes?|pods?|[a-z0-9-]{1,63})/)?"
    r"(?:(?P<kind>(?i:node|host|server|worker|master|machine|vm)) (?P<number>\d{1,5})"
    r"|(?P<name>[A-Za-z0-9](?:[\w.:-]{0,120}(?:[A-Za-z0-9]|\[[\d,-]{1,40}\](?:\.[\w.-]{1,60})?))?))"
    r"[*_`]{0,2}(?: \([\w.:/, -]{1,80}\))?(?:[:>]?[*_`]{0,2}\\?|: [|>][+-]?| ?[#=~<*-]{2,40})\s*+$"
)
_NAME = re.compile(
    r"(?=[A-Za-z0-9.\[\],-]{2,})[A-Za-z][A-Za-z0-9]*(?:[.-]+[A-Za-z0-9]+){0,20}(?:-?\[[\d,-]{1,40}\](?:\.[a-z0-9.-]{1,60})?)?$"
)
#: Words of listings, of what stands between them, of shells and of mails.
_OF_LISTINGS = re.compile(
    r"(?:(?:tcp|udp|icmp|sctp|any|ip|ipv|v|inet)[46]?|in|out|svc|done|end|output|before|after|all|v?\d[\w.-]*"
    r"|exit|logout|clear|true|false|null|none|yes|no|ok|total|key|keys|value|values|stdout|stderr|std(?:out|err)[- ]f"
    r"|quoted-printable|octet-stream|base64|[78]bit|utf-?8|us-ascii)$",
    re.I,
)
#: Parts of names that machines have, and of those that they have not: what people number in remarks, what runs on one.
_ROLES = (
    "node nodes worker workers master control plane cp server agent host vm infra etcd minion compute "
    "controller k8s kube kind minikube k3s k3d machine instance pool"
)
_REMARKS = (
    "step case test part example attempt run try flow flows conn connection connections session sample figure "
    "fig listing output item entry note time line row table page section chapter phase round pod pods client "
    "container service svc app backend frontend endpoint ep process pid thread stream request req reply "
    "packet pkt rule policy id port eth ens enp eno veth lxc bond br vlan wlan question n l t nr no label "
    "labels mode enable status version file files first second third one two three"
)
_IS_ROLE, _IS_REMARK = frozenset(_ROLES.split()), frozenset(_REMARKS.split())
#: A pod of a Deployment.
_OF_DEPLOYMENT = re.compile(r"[a-z0-9.-]+-[a-f0-9]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$")
_PARTS = re.compile(r"[-._\[\],]+")
_OF_DIGITS = re.compile(r"\d+")
#: What a longer line says is more than a name.
_LONGEST, _MAX_WORDS = 200, 20
#: What stands around a name within a line.
_AROUND = "[](){}<>|:,;'\"`*-=."
#: A line of a shell's: what differs in it may be what was asked for.
_ASKED = re.compile(r"\||\bgrep\b|\b(?:cilium|bpftool|ctctl|conntrack|cat|jq|awk|sed)\s|^\s*[$+❯%] ")
#: What ssh says of a terminal once its command has ended.
_CLOSED = re.compile(r"\s*+(?:Shared )?[Cc]onnection to (\S{1,120}) closed\.?\s*$")
#: So many parts of a file are kept apart until it is known whether they are of several nodes.
_MAX_PENDING, _MAX_LINES = 500, 50


class Alone(NamedTuple):
    """A name alone on a line. ``sure``: it reads as a machine's. ``apart``: nothing else stands beside the line."""

    name: str
    line: str
    sure: bool
    apart: bool = True


def may_be_alone(line: str) -> bool:
    """Whether a line is no more than one word that a name may be: what ``alone_on`` finds in it is one."""
    return len(line) <= _LONGEST and _ALONE.match(line) is not None


def alone_on(line: str) -> Alone | None:
    """The name that is all of a line."""
    match = _ALONE.match(line) if len(line) <= _LONGEST else None
    if match is None:
        return None
    if match["number"] is not None:
        return Alone(f"{match['kind'].lower()}-{match['number']}", line, sure=True)
    name = match["name"].rstrip(":")
    address = address_of(name)
    if address is None and not is_name(name):
        return None
    return Alone(address or name, line, reads_as_machine(name))


def is_name(name: str) -> bool:
    """Whether a word may be a machine's name: of the signs that names have, and none that listings are called by."""
    return _NAME.match(name) is not None and _OF_LISTINGS.match(name) is None and bool(word_in(name))


def reads_as_machine(name: str) -> bool:
    """Whether a name is like those of machines: with a number, a domain or what machines are for, and of no remark."""
    if address_of(name) is not None:
        return True
    words = [_OF_DIGITS.sub("", word) for word in _PARTS.split(name.lower().partition(".")[0])]
    roles = _IS_ROLE.intersection(words)
    if _OF_DEPLOYMENT.match(name) or (not roles and _IS_REMARK.intersection(words)):
        return False
    return any(char.isdigit() or char == "." for char in name) or (bool(roles) and "-" in name)


def address_of(name: str) -> str | None:
    """An address as it is written usually; None for anything else."""
    if "." not in name and ":" not in name:
        return None
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None


def named_in_front(words: str) -> str | None:
    """The machine that words in front of a line name, where they name one."""
    parts = words.split()
    for part in parts[:_MAX_WORDS]:
        if "/" in part or "=" in part:
            continue
        name = part.strip(_AROUND)
        if address_of(name) is not None:
            return name
        if is_name(name) and (reads_as_machine(name) or (len(parts) == 1 and part.endswith(":"))):
            return name
    return None


class NamesAlone:
    """The names of one stream that stand alone above its listings, and other lines there that differ in a name only."""

    def __init__(self) -> None:
        self._names: dict[str, Alone] = {}
        #: by whose they are: of lines that are alike, and of connections, the names
        self._alike: dict[tuple[str | None, ...], set[tuple[str, ...]]] = {}
        self._closed: dict[str | None, set[str]] = {}
        #: names with other text between them and the listing below
        self._far: dict[str, Alone] = {}
        self._pending = 0
        #: a heading that is none but a heading named a machine: names alone are of something else
        self.others = False
        #: lines that may name several machines
        self.doubts: list[str] = []

    @property
    def full(self) -> bool:
        """Whether there are so many that they are no machines."""
        return self._pending >= _MAX_PENDING

    def above(self, alone: Alone, *, moves: bool) -> None:
        """A listing stands below a name. ``moves``: there were others before it."""
        self._pending += moves
        known = self._names.get(alone.name)
        if known is None or alone.apart > known.apart:
            self._names[alone.name] = alone

    def line_above(self, line: str, host: str | None) -> None:
        """A line that is no name stands directly above a listing; ``host``: whose that is otherwise."""
        if len(line) > _LONGEST or len(self._alike) >= _MAX_LINES or _ASKED.search(line) is not None:
            return
        words = line.replace("=", " ").split()[:_MAX_WORDS]
        bare = [word.strip(_AROUND) for word in words]
        names = tuple(word for word in bare if is_name(word) and address_of(word) is None and reads_as_machine(word))
        if not names:
            return
        form = (host, *("" if word in names else _OF_DIGITS.sub("0", word) for word in bare))
        found = self._alike.setdefault(form, set())
        found.add(names)
        if len(found) == 2:
            self.doubts.append(line)

    def far_above(self, line: str) -> None:
        """What may be a name above a listing has other text between it and that, and none above."""
        alone = alone_on(line) if len(self._far) < _MAX_LINES else None
        if alone is not None and alone.sure:
            self._far.setdefault(alone.name, alone)

    def closed(self, line: str, host: str | None) -> bool:
        """Whether a line says that a connection to a machine has ended; ``host``: whose the listing before it is."""
        match = _CLOSED.match(line)
        if match is None:
            return False
        if len(self._closed) >= _MAX_LINES:
            return True
        found = self._closed.setdefault(host, set())
        found.add(match[1])
        if len(found) == 2:
            self.doubts.append(line)
        return True

    @property
    def are_machines(self) -> bool:
        """Whether the names are those of machines."""
        several = len(self._names) > 1 and not self.others and not self.full
        return several and any(alone.sure and alone.apart for alone in self._names.values())

    def doubt(self, *, joined: bool) -> str | None:
        """The line that may name another machine, where it is not known that it does. To be asked at the end.

        ``joined``: what stood below a name was made one with what was above it.
        """
        sure = [alone for alone in self._names.values() if alone.sure]
        named = [alone for alone in sure if alone.apart] or (sure if len(sure) > 1 else [])
        if not named and len(self._names) > 1 and not self.others:
            named = [alone for alone in self._names.values() if alone.apart]
        far = [alone for name, alone in self._far.items() if name not in self._names]
        if far and len(far) + len(sure) > 1:
            return far[-1].line
        return named[-1].line if joined and named else next(iter(self.doubts), None)
