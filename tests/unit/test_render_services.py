"""Listings of services: what a frontend is called."""

from __future__ import annotations

from ipaddress import IPv4Address

from ctctl.model.service import ServiceSlot
from ctctl.services.show_lb import frontend_view, frontends, has_scopes

VIP = IPv4Address("172.16.0.1")


def test_frontends_of_one_address_have_their_own_names() -> None:
    slots = [ServiceSlot(VIP, port, "external", 0, rev_nat) for port, rev_nat in ((53, 7), (80, 8), (443, 9))]
    names = {str(VIP): "dns", "service 7": "dns", "service 8": "web"}
    # One whose service is not known has at least the address's name.
    assert [frontend.name for frontend in frontends(slots, [], names)] == ["dns", "web", "dns"]


def test_only_a_backend_table_that_is_shown_lacks_a_backend() -> None:
    slots = [ServiceSlot(VIP, 80, "external", 0, 7), ServiceSlot(VIP, 80, "external", 1, 7, backend_id=3)]
    column = next(column for column in frontend_view(16).columns if column.name == "backends")
    told = [column.value(frontends(slots, backends, {})[0]) for backends in ([], None)]
    assert told == [["3 (not in the backend table)"], ["3"]]


def test_a_frontend_that_is_there_twice_says_for_whom() -> None:
    """Clients outside and those inside may get other backends: without the scope the rows would be one twice."""
    both = [ServiceSlot(VIP, 80, scope, 0, number) for scope, number in (("external", 7), ("internal", 8))]
    for slots in (both[:1], both):
        found = frontends(slots, [], {})
        shown = [c.title for c in frontend_view(19, scopes=has_scopes(found)).columns if not c.wide]
        assert ("SCOPE" in shown) is (len(slots) == 2)
