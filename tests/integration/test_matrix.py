"""Everything that can be asked, by everybody, about what is theirs, another clinic's, and nothing.

Two clinics stand side by side, each with one of everything. For every route of the service that
asks for a permission the tests ask as every role, and as nobody, and put in each id once the
clinic's own, once the other clinic's, once one of nothing. What must come is derived, not written
down:

- without the permission all three answer the same 403, without a key the same 401;
- with it the other clinic's is answered as nothing is: 404, byte for byte, by the same statements
  in the same order, and the other clinic is as it was;
- one's own is found.

What nobody said how to ask fails: see tests/routes.py and tests/worlds.py. What asks for something
else than a permission is walked by test_matrix_of_pages.py.
"""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from models.vocabulary import Role
from scheduler.doors import Asks
from scheduler.permissions import BUNDLES, Permission
from tests.factories import SUNDAY_NOON
from tests.integration.conftest import Clock
from tests.integration.test_matrix_of_pages import PAGES
from tests.matrix import (
    EVERYBODYS,
    FOREIGN,
    FOUND_NOTHING,
    NOBODYS,
    OWN,
    SHUT,
    UNREAD,
    WORDS,
    Answer,
    Ask,
    Place,
    bearer,
    opener,
    told_apart,
)
from tests.routes import Route

FORGED = {
    "id": "01a222ac-6ea7-7244-8bf2-0123456789ab",
    "version": 7,
    "clinic_id": "01a222ac-6ea7-7244-8bf2-0123456789ab",
    "is_admin": True,
    "created_at": "2026-03-01T12:00:00Z",
}


def is_shut(answer: Answer) -> bool:
    return (answer.status, answer.code) == SHUT


def is_found(route: Route, own: Answer) -> bool:
    """Whether one's own is there, whatever else may speak against what is done with it."""
    if own.status == 404:
        return route.endpoint in FOUND_NOTHING
    return own.status < 500 and own.status != 401 and not is_shut(own)


def test_every_route_is_asked(place: Place) -> None:
    """By one of the walks: each is over all routes whose doors ask for the same."""
    mapped = {
        (rule.rule, method)
        for rule in place.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(route.rule, route.method) for route in place.routes} == mapped
    assert {route.door.asks for route in place.routes} == {Asks.PERMISSION, *PAGES}
    assert len(place.doors) > 190


@pytest.mark.parametrize("role", Role)
def test_every_door_by_every_role(place: Place, role: Role) -> None:
    key, faults = place.keys[role], list[str]()
    for route in place.doors:
        if route.door.why in BUNDLES[role]:
            faults += let_in(place, route, key)
        else:
            answers = {
                place.ask(route, place.plain(route, place.ids(route, whose), key))
                for whose in EVERYBODYS
            }
            if len(answers) > 1 or not all(map(is_shut, answers)):
                faults.append(f"{route.name}: {answers}")
    assert not faults, "\n".join(faults)


def let_in(place: Place, route: Route, key: str) -> Iterator[str]:
    """What is wrong with how a door opens to who may come in."""
    own = place.ask(route, place.plain(route, place.ids(route, OWN), key))
    if route.door.why is Permission.SESSION_OWN:  # which no key has
        if own.status != 404:
            yield f"{route.name}: {own} for a key"
    elif not is_found(route, own):
        yield f"{route.name}: {own} for their own"
    for name in place.strange(route):
        foreign, nobodys = (
            place.ask(
                route,
                place.plain(route, place.ids(route, whose, name), key),
                watched=FOREIGN if whose == FOREIGN and route.method != "GET" else "",
            )
            for whose in (FOREIGN, NOBODYS)
        )
        yield from told_apart(route, name or "all of it", foreign, nobodys)
        if foreign.status != 404:
            yield f"{route.name}, {name}: {foreign} for another clinic's"


GIVE = {
    "POST /api/v1/api-keys",
    "PATCH /api/v1/api-keys/<uuid:key_id>",
    "POST /api/v1/api-keys/<uuid:key_id>/rotate",
    "POST /api/v1/users",
    "PATCH /api/v1/users/<uuid:user_id>",
}
"""What lets somebody else in: nobody gives more than they have themselves."""


def test_a_narrowed_key_opens_its_own_doors_alone(place: Place) -> None:
    faults = []
    following = dict(zip(Permission, [*list(Permission)[1:], *list(Permission)[:1]], strict=True))
    for route in place.doors:
        asked = Permission(route.door.why)
        let, shut = (
            place.ask(route, place.plain(route, place.ids(route, OWN), place.narrowed[one]))
            for one in (asked, following[asked])
        )
        if let.status == 401 or is_shut(let) is not (route.name in GIVE):
            faults.append(f"{route.name}: {let} with {asked}")
        if not is_shut(shut):
            faults.append(f"{route.name}: {shut} with {following[asked]}")
    assert not faults, "\n".join(faults)


def test_without_a_key_that_works_nobody_comes_in(place: Place) -> None:
    faults = []
    for route in place.doors:
        asks = [place.plain(route, place.ids(route, whose)) for whose in EVERYBODYS]
        for head in place.no_keys().values():
            asks.append(place.plain(route, place.ids(route, OWN)))
            asks[-1].head = {**asks[-1].head, **head}
        came = {place.ask(route, ask) for ask in asks}
        if route.method == "GET":
            came |= {place.ask(route, asks[0], method="HEAD")}
        if {one.status for one in came} != {401} or len({one.body for one in came} - {""}) > 1:
            faults.append(f"{route.name}: {came}")
    assert not faults, "\n".join(faults)


def test_every_id_in_a_query_or_a_body(place: Place) -> None:
    faults, walked = list[str](), 0
    for route in place.doors:
        for slot in place.described.slots(route):
            own, foreign, nobodys = (
                place.ask(
                    route,
                    place.with_id(route, slot, whose),
                    watched=FOREIGN if whose == FOREIGN and route.method != "GET" else "",
                )
                for whose in EVERYBODYS
            )
            walked += 1
            faults += told_apart(route, slot.name, foreign, nobodys)
            if max(own.status, foreign.status) >= 500:
                faults.append(f"{route.name}, {slot.name}: {own}, {foreign}")
            if own == nobodys and (route.endpoint, slot.name) not in UNREAD:
                faults.append(f"{route.name}, {slot.name}: nobody looked at it: {own}")
    assert not faults, "\n".join(faults)
    assert walked > 60


def test_every_list_is_read_either_way(place: Place) -> None:
    faults, turned = list[str](), 0
    for route in place.doors:
        if not place.described.is_sorted(route) or route.rule == "/api/v1/sessions":
            continue  # a key has no session
        ways = []
        for way in ("asc", "desc"):
            ask = place.plain(route, place.ids(route, OWN), place.keys[opener(route.door.why)])
            ask.query = {**ask.query, "sort": way, "limit": "200"}
            answer = place.ask(route, ask)
            assert answer.status == 200, (route.name, answer)
            ways.append([one["id"] for one in json.loads(answer.body)["items"]])
        rising, falling = ways
        read = set(rising) & set(falling)  # the trail notes that it was read
        if [one for one in rising if one in read] != [one for one in falling if one in read][::-1]:
            faults.append(f"{route.name}: {rising}, {falling}")
        turned += len(read) > 1
    assert not faults, "\n".join(faults)
    assert turned > 5


class TestSignedIn:
    """Somebody with every role, in their browser."""

    def test_every_door(self, place: Place) -> None:
        faults = list[str]()
        for route in place.doors:
            own = place.ask(route, place.in_browser(route, place.ids(route, OWN)))
            if not is_found(route, own):
                faults.append(f"{route.name}: {own}")
            for name in place.strange(route):
                foreign, nobodys = (
                    place.ask(route, place.in_browser(route, place.ids(route, whose, name)))
                    for whose in (FOREIGN, NOBODYS)
                )
                faults += told_apart(route, name or "all of it", foreign, nobodys)
                if foreign.status != 404:
                    faults.append(f"{route.name}, {name}: {foreign} for another clinic's")
        assert not faults, "\n".join(faults)

    def test_from_another_site_nothing_is_changed(self, place: Place) -> None:
        faults = []
        for route in place.doors:
            if route.method == "GET":
                continue
            for told in ({"Sec-Fetch-Site": "cross-site"}, {"X-CSRF-Token": ""}):
                ask = place.in_browser(route, place.ids(route, OWN))
                ask.head = {**ask.head, **told}
                answer = place.ask(route, ask)
                if (answer.status, answer.code) != (403, "not-own-page"):
                    faults.append(f"{route.name}: {answer}")
        assert not faults, "\n".join(faults)

    def test_what_asks_for_a_fresh_factor_is_shut_without(self, place: Place, clock: Clock) -> None:
        faults, walked = [], 0
        clock.now += timedelta(minutes=6)
        for route in place.doors:
            if not getattr(place.app.view_functions[route.endpoint], "step_up", False):
                continue
            answers = {
                place.ask(route, place.in_browser(route, place.ids(route, whose)))
                for whose in EVERYBODYS
            }
            walked += 1
            if {(one.status, one.code) for one in answers} != {(403, "step-up-needed")}:
                faults.append(f"{route.name}: {answers}")
        clock.now = SUNDAY_NOON
        assert not faults, "\n".join(faults)
        assert walked > 15


def test_abuse_5_no_door_takes_a_field_that_it_does_not_know(place: Place) -> None:
    faults, walked = [], 0
    for route in place.doors:
        body = place.body(route)
        if not isinstance(body, dict):
            continue
        for forged, value in FORGED.items():
            ask = place.plain(route, place.ids(route, OWN), place.keys[opener(route.door.why)])
            ask.body = {**body, forged: value}
            answer = place.ask(route, ask)
            walked += 1
            if answer.status != 422 or f'"/{forged}"' not in answer.body:
                faults.append(f"{route.name} takes {forged}: {answer}")
    assert not faults, "\n".join(faults)
    assert walked > 300


def test_abuse_9_every_change_names_what_was_seen(place: Place) -> None:
    faults, walked = [], 0
    for route in place.doors:
        if not place.described.is_conditional(route):
            continue
        ask = place.plain(route, place.ids(route, OWN), place.keys[opener(route.door.why)])
        plain = {name: value for name, value in ask.head.items() if name != "If-Match"}
        for told, status in ((None, 428), ("*", 428), ('W/"1"', 412), ('"99"', 412)):
            ask.head = plain if told is None else {**plain, "If-Match": told}
            answer = place.ask(route, ask)
            walked += 1
            if answer.status != status:
                faults.append(f"{route.name}, {told}: {answer}")
    assert not faults, "\n".join(faults)
    assert walked > 150


def test_abuse_34_no_address_has_another_method(place: Place) -> None:
    faults = []
    adapter = place.app.url_map.bind("localhost")
    for route in place.routes:
        ids = place.ids(route, OWN)
        there = set(adapter.allowed_methods(route.path({**WORDS, **ids})))
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"} - there:
            ask = Ask(ids, head=bearer(place.keys[Role.ADMIN]))
            answer = place.ask(route, ask, method=method)
            allowed = dict(answer.head).get("Allow", "")
            if answer.status != 405 or set(allowed.split(", ")) != there:
                faults.append(f"{method} {route.rule}: {answer.status}, {allowed}")
    assert not faults, "\n".join(faults)


def test_abuse_47_no_get_changes_anything(place: Place) -> None:
    """But the trail, and of a session when it was seen and what it is asked next."""
    faults = []
    for route in place.routes:
        ids = place.ids(route, OWN)
        if route.method != "GET":
            continue
        if route.door.asks is Asks.PERMISSION:
            key = place.keys[opener(route.door.why)]
            answer = place.ask(route, place.plain(route, ids, key), watched=OWN)
        elif route.door.asks is Asks.TOKEN:
            answer = place.with_token(route, place.token(route), watched=OWN)
        else:
            cookies = {"afterglow": place.ours.cookie, **place.visitor(OWN, known=True)}
            answer = place.ask(route, Ask(ids, cookies=cookies), watched=OWN)
        if answer.changed:
            faults.append(f"{route.name}: {answer.changed}")
    assert not faults, "\n".join(faults)
