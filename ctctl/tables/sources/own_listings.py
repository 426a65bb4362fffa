"""What ctctl itself prints of tables beside conntrack, told by its titles or its schema: it is said, not read back.

A table for people leaves out what a screen has no room for, and rows as people read them say less than the table that
they are of; the same command's ``-o cilium`` is read. Reports (statistics, findings) are no listings: what they are
made of is elsewhere. ``-o name`` is not told: a line of it is as other programs write of a connection, too.
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
_TITLES = re.compile(r"\s*[A-Z_]{2,24}(?: {2,}[A-Z_]{2,24}){1,30}\s*|[a-z_]{2,24}(?:,[a-z_]{2,24}){1,30}\s*")
_SCHEMA = re.compile(r"""[\[{\s]*"?schema"?\s*:\s*"?ctctl/(?P<name>[a-z-]{2,24})/""")


def listing_of(line: str) -> OwnListing | None:
    """Which listing has a line of titles like this one, or a document that starts so; None: none of these."""
    if (match := _SCHEMA.match(line)) is not None:
        return _BY_SCHEMA.get(match["name"])
    if _TITLES.fullmatch(line) is None:
        return None
    titles = set(line.strip().lower().replace(",", " ").split())
    return next((one for one in LISTINGS if any(some <= titles for some in one.titles)), None)
