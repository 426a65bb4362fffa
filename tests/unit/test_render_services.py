"""Listings of services: what a frontend is called."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from ctctl.model.service import Backend, ServiceSlot
from ctctl.services.show_lb import frontend_view, frontends, has_scopes
from ctctl.tables.sources.listings import Listings, complete_backends

VIP, POD = IPv4Address("172.16.0.1"), IPv4Address("10.0.0.1")


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


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_a_backend_whose_port_no_listing_shows_is_there_all_the_same(address: str) -> None:
    slots = [ServiceSlot(VIP, 80, "external", 0, 7), ServiceSlot(VIP, 80, "external", 1, 7, backend_id=3)]
    column = next(column for column in frontend_view(16).columns if column.name == "backends")
    (found,) = frontends(slots, [Backend(3, ip_address(address), 6)], {})
    assert column.value(found) == ["3:10.0.0.1" if address == "10.0.0.1" else "3:[fd00::1]"]


def test_ports_of_backends_are_those_of_the_services_slots() -> None:
    """By the number that a slot has; else by the address, where no other backend has it and no other port."""

    def port(backends: list[Backend], *slots: ServiceSlot) -> list[int | None]:
        listings = Listings(services=[ServiceSlot(VIP, 80, "external", 0, 7), *slots], backends=backends)
        complete_backends(listings)
        return [backend.port for backend in listings.backends]

    def slot(number: int, backend: str, backend_id: int | None = None, proto: int | None = 6) -> ServiceSlot:
        return ServiceSlot(VIP, 80, "external", number, 7, proto, backend_id=backend_id, backend=backend)

    one, other = Backend(3, POD, 6), Backend(4, POD, 6)
    assert port([one], slot(1, "10.0.0.1:8000/TCP", 3)) == [8000]
    assert port([one], slot(1, "10.0.0.1:8000/TCP")) == [8000]
    assert port([one, other], slot(1, "10.0.0.1:8000/TCP", 3), slot(2, "10.0.0.1:9000/TCP", 4)) == [8000, 9000]
    assert port([one, other], slot(1, "10.0.0.1:8000/TCP")) == [None, None]
    assert port([one], slot(1, "10.0.0.1:8000/TCP"), slot(2, "10.0.0.1:9000/TCP")) == [None]
    assert port([one], slot(1, "10.0.0.2:8000/TCP", 3)) == [None]
    assert port([one], slot(1, "10.0.0.1:53/UDP", proto=17)) == [None]
    assert port([replace(one, port=80)], slot(1, "10.0.0.1:8000/TCP", 3)) == [80]


def test_a_frontend_that_is_there_twice_says_for_whom() -> None:
    """Clients outside and those inside may get other backends: without the scope the rows would be one twice."""
    both = [ServiceSlot(VIP, 80, scope, 0, number) for scope, number in (("external", 7), ("internal", 8))]
    for slots in (both[:1], both):
        found = frontends(slots, [], {})
        shown = [c.title for c in frontend_view(19, scopes=has_scopes(found)).columns if not c.wide]
        assert ("SCOPE" in shown) is (len(slots) == 2)
