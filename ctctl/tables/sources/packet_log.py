"""Whether a file that is no listing is what an agent's monitor or Hubble printed of packets."""

from __future__ import annotations

import re
from io import BytesIO

from ctctl.tables.sources.stream import utf8

_LOG = re.compile(
    rb"(?:->|<-|<>) \S{1,300} [^\n]{1,200}\b(?:FORWARDED|DROPPED|TRACED|TRANSLATED|REDIRECTED|AUDIT|ALLOWED|DENIED)\b"
    rb"|^\s{0,4}TIMESTAMP(?::|\s{2,60}(?:NODE|SOURCE))|"
    rb"^(?:\[[^\]\n]{0,80}\] {0,2})?(?:-> |<- |\^\^ |xx drop \(|Policy verdict log: |CPU \d{1,5}: (?:MARK |\[)"
    rb"|Listening for events on )"
    # behind words that stand in front of each line
    rb"|(?:->|<-|\^\^) [a-z][a-z0-9 -]{0,40} flow 0x[0-9a-f]|xx drop \([^)\n]{1,80}\) flow 0x"
    rb"|Policy verdict log: flow 0x"
    rb'|"(?:observationPoint|traceSummary)"|\{\s{0,80}"flow"\s{0,8}:\s{0,80}\{|"lost_events"'
    rb'|^\{"cpu":"CPU |msg="Initializing dissection cache',
    re.M,
)
#: What to do instead, for an error.
INSTEAD = "packets that a monitor or Hubble saw, no listing; ctctl trace --from FILE reads it"


def is_packet_log(head: bytes) -> bool:
    """Told by the first bytes of a file of which nothing is known."""
    return _LOG.search(utf8(BytesIO(head)).read(2 * len(head))) is not None
