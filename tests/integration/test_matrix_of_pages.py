"""Every route that asks for something else than a permission, or for nothing.

Each is walked by what it asks for (scheduler/doors.py): without it nobody comes in, with it one
comes in to what is one's own, and another clinic's cannot be told from nobody's.
"""

from models.vocabulary import Role
from scheduler.doors import Asks
from tests.matrix import (
    EVERYBODYS,
    FOREIGN,
    NAME,
    NOBODYS,
    NOTHING,
    OWN,
    WORDS,
    Ask,
    Place,
    bearer,
    told_apart,
)
from tests.staff import OURS

PAGES = {
    Asks.SESSION,
    Asks.PASSWORD,
    Asks.VISIT,
    Asks.TOKEN,
    Asks.OPERATOR,
    Asks.SIGNATURE,
    Asks.NOTHING,
}


def test_without_a_session_one_goes_and_signs_in(place: Place) -> None:
    faults = []
    for route in place.pages(Asks.SESSION, Asks.PASSWORD):
        for cookies in ({}, {"afterglow": "a" * 43}):
            came = {
                place.ask(route, Ask(place.ids(route, whose), cookies=cookies, head=OURS))
                for whose in EVERYBODYS
            }
            if len(came) > 1 or {one.where for one in came} != {"/sign-in"}:
                faults.append(f"{route.name}: {came}")
    assert not faults, "\n".join(faults)


def test_halfway_in_one_gives_the_second_factor_first(place: Place) -> None:
    faults = []
    for route in place.pages(Asks.SESSION):
        came = {
            place.ask(route, place.on_page(route, place.ids(route, whose), place.ours.half))
            for whose in EVERYBODYS
        }
        if len(came) > 1 or {one.where for one in came} != {"/sign-in/code"}:
            faults.append(f"{route.name}: {came}")
    assert not faults, "\n".join(faults)


def test_who_is_signed_in_finds_their_own_alone(place: Place) -> None:
    faults = list[str]()
    for route in place.pages(Asks.SESSION, Asks.PASSWORD):
        own, foreign, nobodys = (
            place.ask(
                route,
                place.on_page(route, place.ids(route, whose), place.ours.cookie),
                watched=FOREIGN if whose == FOREIGN else "",
            )
            for whose in EVERYBODYS
        )
        faults += told_apart(route, "page", foreign, nobodys) if route.ids else ()
        if own.where in {"/sign-in", "/sign-in/code"} or own.status >= 500:
            faults.append(f"{route.name}: {own}")
        if route.ids and own == nobodys:
            faults.append(f"{route.name}: nobody looked at it: {own}")
    assert not faults, "\n".join(faults)


def test_without_a_link_and_a_date_of_birth_nothing_is_shown(place: Place) -> None:
    faults = []
    unknown = place.visitor(OWN, known=False)
    for route in place.pages(Asks.VISIT):
        form = place.form() if route.method == "POST" else None
        for cookies in ({}, {"afterglow-visit": "made-up"}, unknown):
            came = {
                place.ask(route, Ask(place.ids(route, whose), cookies=cookies, form=form))
                for whose in EVERYBODYS
            }
            shut = {200, 303, 404, 422} if cookies is unknown else {404}
            named = any(NAME in one.body for one in came)
            if len(came) > 1 or named or not {one.status for one in came} <= shut:
                faults.append(f"{route.name}: {came}")
    assert not faults, "\n".join(faults)


def test_a_visitor_sees_nothing_of_another_visit(place: Place) -> None:
    faults, walked = list[str](), 0
    for route in place.pages(Asks.VISIT):
        for part in route.ids:
            form = place.form() if route.method == "POST" else None
            cookies = place.visitor(OWN, known=True)
            another = str(place.ours.ids[f"other-{part.kind}"])
            own, foreign, anothers, nobodys = (
                place.ask(route, Ask({part.name: told}, cookies=cookies, form=form))
                for told in (*(place.id(part, one) for one in (OWN, FOREIGN)), another, NOTHING)
            )
            walked += 1
            faults += told_apart(route, part.name, foreign, nobodys)
            faults += told_apart(route, part.name, anothers, nobodys)
            if own == nobodys:
                faults.append(f"{route.name}: nobody looked at it: {own}")
    assert not faults, "\n".join(faults)
    assert walked > 1


def test_a_token_that_is_none_opens_nothing(place: Place) -> None:
    faults = []
    for route in place.pages(Asks.TOKEN):
        known = place.token(route)
        right = place.with_token(route, known)
        wrong = [
            place.with_token(route, one) for one in (WORDS["token"], known[:-1], known.swapcase())
        ]
        if len(set(wrong)) > 1 or len({one.statements for one in wrong}) > 1:
            faults.append(f"{route.name}: {wrong}")
        if right in wrong and route.endpoint != MOVES_IT:
            faults.append(f"{route.name}: it opens nothing itself: {right}")
        if any(one.status >= 500 or NAME in one.body for one in wrong):
            faults.append(f"{route.name}: {right}, {wrong}")
    assert not faults, "\n".join(faults)


MOVES_IT = "signing_in.follow"
"""It only moves what it is shown into a cookie, whatever that is."""


def test_no_key_of_a_clinic_opens_what_is_the_operators(place: Place) -> None:
    faults = list[str]()
    for route in place.pages(Asks.OPERATOR):
        for head in ({}, bearer(place.keys[Role.ADMIN]), bearer("op_12345678_made-up")):
            came = [
                place.ask(
                    route,
                    Ask(place.ids(route, whose), body={}, head=head),
                    watched=FOREIGN if whose == FOREIGN else "",
                )
                for whose in EVERYBODYS
            ]
            if len(set(came)) > 1 or {one.status for one in came} != {401}:
                faults.append(f"{route.name}: {came}")
    assert not faults, "\n".join(faults)


def test_a_call_that_nobody_signed_is_not_heard(place: Place) -> None:
    faults = list[str]()
    form = {"MessageSid": "SM1", "From": "+12125550123", "Body": "1", "MessageStatus": "delivered"}
    for route in place.pages(Asks.SIGNATURE):
        for head in ({}, {"X-Twilio-Signature": "AAAA"}):
            came = {
                place.ask(route, Ask(place.ids(route, whose), form=form, head=head))
                for whose in EVERYBODYS
            }
            if len(came) > 1 or {one.status for one in came} != {403}:
                faults.append(f"{route.name}: {came}")
        foreign, nobodys = (
            place.ask(route, place.signed(route, place.ids(route, whose), form))
            for whose in (FOREIGN, NOBODYS)
        )
        faults += told_apart(route, "signed", foreign, nobodys)
        if foreign.status != 200:
            faults.append(f"{route.name}: {foreign}")
    assert not faults, "\n".join(faults)


def test_in_the_open_nobody_is_named(place: Place) -> None:
    faults = list[str]()
    for route in place.pages(Asks.NOTHING):
        assert route.door.why, route.name
        form = {"email": "ann@example.com"} if route.method == "POST" else None
        own, foreign, nobodys = (
            place.ask(
                route,
                Ask(place.ids(route, whose), form=form, head=OURS),
                watched=FOREIGN if whose == FOREIGN else "",
            )
            for whose in EVERYBODYS
        )
        faults += told_apart(route, "open", foreign, nobodys) if route.ids else ()
        if NAME in own.body or (own.status >= 500 and route.endpoint != "health.ready"):
            faults.append(f"{route.name}: {own}")
    assert not faults, "\n".join(faults)
