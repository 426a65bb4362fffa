"""What ctctl itself prints of tables beside conntrack, told by its titles or its schema: it is said, not read back.

A table for people leaves out what a screen has no room for, and rows as people read them say less than the table that
they are of; the same command's ``-o cilium`` is read. Reports (statistics, findings) are no listings: what they are
made of is elsewhere. Of ``-o name`` the command above it tells, or a line that only one of them writes: an address or a
number is what other programs write, too.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class OwnListing(NamedTuple):
    """A command's listing: the name of its schema, and titles that all its tables have, of each form of them."""

    command: str
    schema: str
    titles: tuple[frozenset[str], ...]

    @property
    def missing(self) -> str:
        """What is said of it."""
        return f"{self.command} as ctctl prints it, which is not read back; {self.command} -o cilium is"


def _titles(*words: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(word.split()) for word in words)


#: In this order: the first whose titles are all there.
LISTINGS = (
    OwnListing("nat list", "nat-entry", _titles("source destination to")),
    OwnListing("socknat list", "socket", _titles("cookie frontend backend")),
    OwnListing("lb list", "lb-frontend", _titles("frontend proto backends")),
    OwnListing("lb list --frontends", "lb-slot", _titles("frontend proto slot count")),
    OwnListing("lb list --backends", "lb-backend", _titles("backend_id addr port")),
    OwnListing("lb list --revnat", "lb-revnat", _titles("rev_nat addr port")),
    OwnListing("lb list --source-ranges", "lb-source-range", _titles("rev_nat cidr")),
    OwnListing("lb list --maglev", "lb-maglev", _titles("rev_nat family size share")),
    OwnListing("ipcache list", "ipcache-entry", _titles("prefix identity")),
    OwnListing("endpoint list", "endpoint", _titles("addr endpoint_id identity")),
    OwnListing("tunnel list", "tunnel", _titles("prefix endpoint key")),
    OwnListing("policy list", "policy-rule", _titles("endpoint_id verdict ports")),
    OwnListing("metrics drops", "datapath-counter", _titles("reason dir packets", "reason code direction dropped")),
)
_BY_SCHEMA = {listing.schema: listing for listing in LISTINGS}
_BY_COMMAND = {listing.command: listing for listing in LISTINGS}
_TITLES = re.compile(r"\s*+[A-Z_]{2,24}(?: {2,}[A-Z_]{2,24}){1,30}\s*|[a-z_]{2,24}(?:,[a-z_]{2,24}){1,30}\s*")
_SCHEMA = re.compile(r"""[\[{\s]*"?schema"?\s*:\s*"?ctctl/(?P<name>[a-z-]{2,24})/""")
#: Lines of ``-o name`` that say by themselves whose they are; and a command that wrote such, all of which is below it.
_NAMES = (
    (re.compile(r"\d{1,5} (?:allow|deny|redirect)\w{0,3} (?:ingress from|egress to) .{1,200}, .{1,60}"), "policy list"),
    (re.compile(r"(?:\[[0-9a-f:.]{2,45}\]|\d{1,3}(?:\.\d{1,3}){3}):\d{1,5} \d{1,5}"), "lb list --frontends"),
)
_COMMAND = re.compile(r"(?:.{0,200}\s)?ctctl (?P<words>[^|<>;&]{1,400})")
_AS_NAMES = re.compile(r"\s(?:-o ?|--output[ =])name(?=\s|$)")


def listing_of(line: str) -> OwnListing | None:
    """Which listing has a line of titles like this one, or a document that starts so; None: none of these."""
    if "ctctl/" in line and (match := _SCHEMA.match(line)) is not None:
        return _BY_SCHEMA.get(match["name"])
    if _TITLES.fullmatch(line) is None:
        return _named_by(line.strip())
    titles = set(line.strip().lower().replace(",", " ").split())
    return next((one for one in LISTINGS if any(some <= titles for some in one.titles)), None)


def _named_by(line: str) -> OwnListing | None:
    """The listing of which a line is a name, or says that names of it follow."""
    if "name" in line and _AS_NAMES.search(line) is not None:
        return _asked_for(line)
    if not line[:1].isdigit() and line[:1] != "[":
        return None  # as all these start
    command = next((command for form, command in _NAMES if form.fullmatch(line) is not None), None)
    return _BY_COMMAND[command] if command is not None else None


def _asked_for(line: str) -> OwnListing | None:
    """The listing that a command at a prompt asks for; None: another one, or it went elsewhere."""
    match = _COMMAND.fullmatch(line)
    if match is None:
        return None
    words = match["words"].split()
    found = [one for one in LISTINGS if one.command.split()[:2] == words[:2]]
    return next((one for one in reversed(found) if set(one.command.split()[2:]) <= set(words)), None)
