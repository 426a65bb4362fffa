"""The filter options of SNAT entries: apart from the groups that every command has, which start sooner for it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ctctl.cli import complete
from ctctl.cli.groups import FilterOptions, Many, NotOpt, ProtocolOpt, RelatedOpt, filter_option
from ctctl.model.light import light


@light
class NatFilterArgs(FilterOptions):
    """Those of the filter options that SNAT entries have; ``--ip`` and ``--port`` look at the translated end too."""

    OF_NAT: ClassVar[bool] = True

    ip: Annotated[Many, filter_option("--ip", "IP|CIDR|NAME", "Any end.", complete.addresses)] = None
    from_ip: Annotated[Many, filter_option("--from-ip", "IP|CIDR|NAME", "The packet's source.")] = None
    to_ip: Annotated[Many, filter_option("--to-ip", "IP|CIDR|NAME", "The packet's destination.")] = None
    port: Annotated[Many, filter_option("--port", "N|A-B", "Any port.")] = None
    from_port: Annotated[Many, filter_option("--from-port", "N|A-B", "Source port.")] = None
    to_port: Annotated[Many, filter_option("--to-port", "N|A-B", "Destination port.")] = None
    protocol: ProtocolOpt = None
    direction: Annotated[
        Many, filter_option("--direction", "out|in", "What leaves, or what comes back.", complete.words("out", "in"))
    ] = None
    service: Annotated[
        Many, filter_option("--service", "NAME|IP[:PORT]", "A service at any end.", complete.services)
    ] = None
    related: RelatedOpt = None
    inverted: NotOpt = False
