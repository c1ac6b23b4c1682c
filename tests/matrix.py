"""The service with two clinics in it, each with one of everything, and ways to ask it anything.

Whatever is asked leaves nothing behind: each request runs in a savepoint of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import Any

import pytest
from flask import Flask
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from api import keys, trail
from api.keys import Holder
from identity import sessions
from models import Base
from models.vocabulary import Role
from notifications import links
from scheduler.doors import Asks
from scheduler.permissions import BUNDLES, Permission
from tests import routes
from tests.factories import SUNDAY_NOON
from tests.routes import Description, Part, Route, Slot
from tests.staff import OURS
from tests.worlds import SECRET, Furnished, furnish
from web import hooks

REQUEST_ID = "01a222ac-6ea7-7244-8bf2-200432a37e84"
NOTHING = "01a222ac-6ea7-7244-8bf2-0123456789ab"
"""An id of nothing."""
OWN, FOREIGN, NOBODYS = "own", "another clinic's", "nobody's"
EVERYBODYS = (OWN, FOREIGN, NOBODYS)
SHUT = (403, "forbidden")
VARYING = frozenset({"RateLimit", "Set-Cookie"})
"""What is another each time: how often one may still ask, what is random or signed with time."""
RANDOM = re.compile(
    r'(?<=name="form" value=")[^"]+|(?<=challenge&#34;: &#34;)[\w-]+'
    r'|(?<="id": ")[\w-]+|(?<=(?:hash|arch)": ")\w+'
)
"""What is another each time: in forms, and in the trail's line about being told itself."""

NAME = "Ada"
"""The patient's in both clinics."""

CLINICS = frozenset({"sign-in", "sms"})
"""Words before the id of a clinic: who has its address may know that there is one."""

WORDS: Mapping[str, str] = {
    "code": "phq-9",
    "number": "1",
    "filename": "page.css",
    "path": "swagger-ui.css",
    "token": "a-token-that-opens-nothing-at-all-0123456789",
}
"""Parts of addresses that are no ids."""

QUERY: Mapping[str, str] = {
    "from": "2026-03-01T00:00:00Z",
    "to": "2026-03-20T00:00:00Z",
    "kind": "reminder",
    "year": "2026",
}
"""What queries must say."""

WEDNESDAY = "2026-03-04T14:00:00Z"
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:x
BEGIN:VEVENT
UID:1
DTSTAMP:20260301T000000Z
DTSTART:20260304T090000
DTEND:20260304T120000
END:VEVENT
END:VCALENDAR
"""

DAYS: Mapping[str, str] = {"from": "2026-03-01", "to": "2026-03-20"}

QUERIES: Mapping[str, Mapping[str, str]] = {
    "imports.hand_in": {"kind": "sites"},
    "openings.list_openings": {"step_kind": "preparation"},
}

BODIES: Mapping[str, Mapping[str, Any]] = {
    "acts.enter_in_error": {"reason": "typed twice"},
    "acts.reschedule": {"starts_at": WEDNESDAY},
    "appointments.book_appointment": {"starts_at": WEDNESDAY, "step_kind": "preparation"},
    "appointments.hold_appointment": {"starts_at": WEDNESDAY, "step_kind": "preparation"},
    "courses.open_course": {"protocol_code": "test-course"},
    "disruptions.accept_repair": {"patients": ..., "group_sessions": ...},
    "disruptions.report_disruption": {"from": WEDNESDAY, "to": "2026-03-05T14:00:00Z"},
    "group-sessions.make_session": {"starts_at": WEDNESDAY, "visit": "preparation"},
    "group-sessions.take_place": {"step_kind": "preparation"},
    "instruments.add_response": {"score": 5, "answers": ...},
    "schedules.import_calendar": {"calendar": CALENDAR},
    "talk.settle_task": {"status": "completed"},
    "webhooks.add_webhook": {"url": "https://8.8.8.8/hooks"},
    "webhooks.change_webhook": {"url": "https://8.8.8.8/hooks"},
}
"""What a body says beside its example, or does not, by endpoint: so that it is good."""

TOLD: Mapping[tuple[str, str], Mapping[str, Any]] = {
    **{
        (f"appointments.{act}_appointment", slot): told
        for act in ("book", "hold")
        for slot, told in (
            ("/course_step_id", {"step_kind": ...}),
            ("/assignments/0/schedule_id", {"assignments": [{"role": "therapist"}]}),
        )
    },
    ("acts.reschedule", "/assignments/0/schedule_id"): {"assignments": [{"role": "therapist"}]},
    ("clearances.add_clearance", "/text_id"): {"medicine": ..., "route": ...},
    ("courses.open_course", "/protocol_version_id"): {"protocol_code": ...},
    ("disruptions.report_disruption", "/qualification_id"): dict.fromkeys(
        ("schedule_id", "from", "to"), ...
    ),
    **{
        (f"group-sessions.{act}_session", "/assignments/0/schedule_id"): {
            "assignments": [{"role": "therapist"}]
        }
        for act in ("make", "move")
    },
    ("group-sessions.take_place", "/course_step_id"): {"step_kind": ...},
    ("openings.list_openings", "?course_step_id"): {"step_kind": ...},
}
"""What is said beside an id, or is not, by endpoint and where it stands: so that it is read."""

FOUND_NOTHING: Mapping[str, str] = {
    "repairs.accept_course_repair": "Only what is broken is repaired: see test_repairs.py.",
    "visits.add_override": "The visit has no gate to pass over: see test_booking.py.",
}
"""Endpoints at which one's own is answered 404 for another reason than its id, and why."""

_OBSERVED = "Only of a visit under observation: see test_observations.py and test_escorts.py."
_WAITING = "Only of whom the disruption hits: see test_repairs.py."
UNREAD: Mapping[tuple[str, str], str] = {
    ("disruptions.accept_repair", "/group_sessions/0"): _WAITING,
    ("disruptions.accept_repair", "/patients/0"): _WAITING,
    ("observations.add_observation", "/replaces"): _OBSERVED,
    ("visits.note_departure", "/replaces"): _OBSERVED,
}
"""Ids that are not looked at before something else is refused, and why no request gets there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and what was asked of the database for it."""

    status: int
    head: tuple[tuple[str, str], ...]
    body: str
    statements: tuple[str, ...] = field(compare=False)
    changed: tuple[str, ...] = field(default=(), compare=False)
    """The tables in which the clinic that was watched is not as it was."""

    @property
    def code(self) -> str:
        found = re.search(r'"type":\s*"/problems/([a-z-]+)"', self.body)
        return found[1] if found else ""

    @property
    def where(self) -> str:
        """Where it leads."""
        return dict(self.head).get("Location", "") if self.status == 303 else ""

    def __repr__(self) -> str:
        return f"<{self.status} {self.where}{self.body[:160]!r}>"


@dataclass
class Ask:
    """What is put into one request."""

    ids: Mapping[str, Any]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    head: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | str | None = None
    cookies: Mapping[str, str] = field(default_factory=dict)
    named: str = ""
    """The id beside those of the address that it is about: an answer may say it again."""


class Place:
    """The service, and everybody who may ask it."""

    connection: Connection
    """Over which everything is asked, in a transaction that never ends."""

    def __init__(self, app: Flask, service: Session, worker: Session) -> None:
        self.app, self.session = app, service
        self.theirs = self.planned(furnish(service, worker, "Their Practice"))
        self.ours = self.planned(furnish(service, worker, "Our Practice"))
        self.keys = {role: self.key(role) for role in Role}
        self.narrowed = {one: self.key(opener(one), scopes=[one]) for one in Permission}
        self.dead = {
            "a key that ended": self.key(Role.ADMIN, expires_at=SUNDAY_NOON - timedelta(1)),
            "a key that was revoked": self.key(Role.ADMIN, name="revoked"),
        }
        service.execute(
            text(
                "UPDATE api_key SET last_used_on = :on,"
                " revoked_at = CASE name WHEN 'revoked' THEN now() END"
            ),
            {"on": SUNDAY_NOON.date()},
        )
        service.commit()
        self.described = Description(app.test_client().get("/api/openapi.json").get_json())
        self.routes = routes.of(app)
        self.asked: list[str] = []
        """Statements, since they were last forgotten."""

    def planned(self, there: Furnished) -> Furnished:
        """The same with a proposal for its course, which takes the service to make."""
        holder = Holder("planner", Role.SCHEDULER, None)
        _, secret = keys.issue_to(self.session, holder, SUNDAY_NOON)
        self.session.commit()
        path = f"/api/v1/courses/{there.ids['courses']}/proposals"
        made = self.app.test_client().post(path, json={}, headers=bearer(secret))
        assert made.status_code == 201, made.text
        there.ids["proposals"] = (made.json or {})["items"][0]["id"]
        return there

    def over(self, connection: Connection) -> "Place":
        """Ask over this connection from now on."""
        self.connection = connection
        event.listen(connection, "before_cursor_execute", lambda *told: self.asked.append(told[2]))
        self.sums = self._sums()
        self.as_it_was = {whose: self.digest(whose) for whose in (OWN, FOREIGN)}
        return self

    def key(self, role: Role, name: str = "key", **more: Any) -> str:
        holder = Holder(name, role, self.ours.world.prescriber_id, **more)
        _, secret = keys.issue_to(self.session, holder, SUNDAY_NOON)
        return secret

    @property
    def doors(self) -> list[Route]:
        """What asks for a permission."""
        return [route for route in self.routes if route.door.asks is Asks.PERMISSION]

    def pages(self, *asks: Asks) -> list[Route]:
        """What asks for one of these."""
        return [route for route in self.routes if route.door.asks in asks]

    @contextmanager
    def undone(self) -> Iterator[None]:
        nested = self.connection.begin_nested()
        try:
            yield
        finally:
            nested.rollback()

    def ask(self, route: Route, ask: Ask, *, watched: str = "", method: str = "") -> Answer:
        """Ask once. `watched`: the clinic that must be the same after it."""
        self.forget()
        client = self.app.test_client(use_cookies=bool(ask.cookies))
        for name, value in ask.cookies.items():
            client.set_cookie(name, value)
        with self.undone():
            came = client.open(
                route.path({**WORDS, **ask.ids}),
                method=method or route.method,
                query_string=dict(ask.query),
                json=ask.body,
                data=ask.form,
                headers={"X-Request-Id": REQUEST_ID, **ask.head},
            )
            body = came.get_data().decode(errors="backslashreplace")
            came.close()
            statements = tuple(re.sub(r"sa_savepoint_\d+", "it", one) for one in self.asked)
            changed = self.changed(watched) if watched else ()
        for told in filter(None, (*map(str, ask.ids.values()), ask.named)):
            body = body.replace(told, "<id>")
        body = RANDOM.sub("<random>", body)
        head = sorted((n, "" if n in VARYING else v) for n, v in came.headers.items())
        return Answer(came.status_code, tuple(head), body, statements, changed)

    def forget(self) -> None:
        """Let nothing depend on what was asked before: neither brakes, nor what is left to ask."""
        trail.BRAKE.known.clear()
        for taken in self.app.config["PURSE"].taken.values():
            taken.until = inf
        self.asked.clear()

    def changed(self, whose: str) -> tuple[str, ...]:
        """The tables in which a clinic is not as it was."""
        now, then = self.digest(whose), self.as_it_was[whose]
        return tuple(sorted(name for name in then if now[name] != then[name]))

    def digest(self, whose: str) -> Mapping[str, str]:
        """What stands in every table of a clinic, but for its trail."""
        with self.undone():
            self.connection.execute(
                text(
                    "SELECT set_config('afterglow.clinic', :clinic, true),"
                    " set_config('afterglow.token', '', true)"
                ),
                {"clinic": str(self.of(whose).world.clinic_id)},
            )
            return _pairs(self.connection.execute(text(self.sums)))

    def _sums(self) -> str:
        """A statement that sums up every table, by the columns that the service may read."""
        found = self.connection.execute(
            text(
                "SELECT c.relname, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)"
                " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                " WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0"
                " AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT')"
                " GROUP BY c.relname"
            )
        )
        readable = _pairs(found)
        return " UNION ALL ".join(
            f"SELECT '{table.name}', md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), ''))"
            f' FROM (SELECT {readable[table.name]} FROM "{table.name}") AS t'
            for table in Base.metadata.sorted_tables
            if "clinic_id" in table.columns
            and table.name in readable
            and table.name not in {"audit_event", "quota", "user_session"}
        )

    def of(self, whose: str) -> Furnished:
        return self.ours if whose == OWN else self.theirs

    def id(self, part: Part | Slot, whose: str) -> str:
        """What an id is that names such a thing."""
        if part.kind not in self.ours.ids:
            pytest.fail(f"Nobody knows what {part.name} of {part.kind} names: see tests/worlds.py.")
        return NOTHING if whose == NOBODYS else str(self.of(whose).ids[part.kind])

    def ids(self, route: Route, whose: str, name: str | None = None) -> dict[str, str]:
        """The ids of an address; with `name`, all but that one are our own."""
        return {
            part.name: self.id(part, whose if name in (None, part.name) else OWN)
            for part in route.ids
            if part.kind not in CLINICS
        } | {part.name: self.id(part, OWN) for part in route.ids if part.kind in CLINICS}

    def strange(self, route: Route) -> list[str | None]:
        """Which ids of an address are in turn somebody else's: each alone, and all together."""
        names: list[str | None] = [part.name for part in route.ids if part.kind not in CLINICS]
        return names if len(names) < 2 else [*names, None]

    def plain(self, route: Route, ids: Mapping[str, Any], key: str | None = None) -> Ask:
        """A request as it should be: what it must say, and that we saw what we change."""
        told = DAYS if "/reports/" in route.rule else QUERY
        query = {name: told[name] for name in self.described.needed(route)}
        head = {"If-Match": '"1"'}
        if key is not None:
            head["Authorization"] = f"Bearer {key}"
        file = None
        if kind := self.described.file(route):
            file, head["Content-Type"] = "name\n", kind
        query.update(QUERIES.get(route.endpoint, {}))
        return Ask(ids, query, self.body(route), head, file)

    def body(self, route: Route) -> Any:
        """What it takes, as its description shows it, with ids of our own."""
        told = self.described.body(route)
        if isinstance(told, dict):
            told = _less({**told, **BODIES.get(route.endpoint, {})})
            for slot in self.described.slots(route):
                if not slot.in_query and routes.has(told, slot.place):
                    told = routes.put(told, slot.place, self.id(slot, OWN))
        return told

    def with_id(self, route: Route, slot: Slot, whose: str) -> Ask:
        """A request by who may, with one id of its query or its body somebody else's."""
        ask = self.plain(route, self.ids(route, OWN), self.keys[opener(route.door.why)])
        ask.named = self.id(slot, whose)
        more = TOLD.get((route.endpoint, slot.name), {})
        if slot.in_query:
            ask.query = _less({**ask.query, **more, str(slot.place[0]): ask.named})
        else:
            ask.body = routes.put(_less(ask.body | more), slot.place, ask.named)
        return ask

    def in_browser(self, route: Route, ids: Mapping[str, Any]) -> Ask:
        """A request by who signed in, from a page of ours."""
        ask = self.plain(route, ids)
        cookie = self.ours.cookie
        ask.cookies = {"afterglow": cookie}
        ask.head = {**ask.head, **OURS, "X-CSRF-Token": sessions.csrf_of(cookie)}
        return ask

    def on_page(self, route: Route, ids: Mapping[str, Any], cookie: str) -> Ask:
        """A form of a page that is shown to who signed in."""
        form = {"form": sessions.csrf_of(cookie)} if route.method == "POST" else None
        return Ask(ids, cookies={"afterglow": cookie}, head=OURS, form=form)

    def visitor(self, whose: str, *, known: bool) -> Mapping[str, str]:
        """The cookie of a patient who followed the link to their visit."""
        told = {"link": self._link(whose), "known": known}
        return {"afterglow-visit": URLSafeTimedSerializer(SECRET, salt="patient-visit").dumps(told)}

    def form(self) -> Mapping[str, str]:
        """What a form of theirs carries."""
        made = URLSafeTimedSerializer(SECRET, salt="patient-form").dumps(self._link(OWN))
        return {"form": str(made)}

    def _link(self, whose: str) -> str:
        return links.digest(self.of(whose).tokens["patient"]).hex()

    def token(self, route: Route) -> str:
        """What opens a door by being known."""
        told = self.ours.tokens.get(route.endpoint.partition(".")[0])
        if told is None:
            pytest.fail(f"Nobody knows a token that opens {route.name}: see tests/worlds.py.")
        return told

    def with_token(self, route: Route, token: str, watched: str = "") -> Answer:
        """Show a token, in the address or in the cookie that it was moved to."""
        if any(part.name == "token" for part in route.parts):
            return self.ask(route, Ask({"token": token}), watched=watched)
        ask = Ask(self.ids(route, OWN), cookies={"afterglow-link": token}, head=OURS)
        return self.ask(route, ask, watched=watched)

    def signed(self, route: Route, ids: Mapping[str, Any], form: Mapping[str, str]) -> Ask:
        """A call of the provider of text messages."""
        url = f"http://localhost{route.path(ids)}"
        told = hooks.signature("sms-token", url, {name: [one] for name, one in form.items()})
        return Ask(ids, form=form, head={"X-Twilio-Signature": told})

    def no_keys(self) -> Mapping[str, Mapping[str, str]]:
        """What does not let one in."""
        told = {"nothing": {}, "a made-up key": bearer("ag_0000_x")}
        told |= {what: bearer(key) for what, key in self.dead.items()}
        return {**told, "another scheme": {"Authorization": f"Basic {self.keys[Role.ADMIN]}"}}


def _less(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told, but for what is taken back."""
    return {name: one for name, one in told.items() if one is not ...}


def bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


def opener(permission: str) -> Role:
    """A role that may do this; a clinician, if they may, for much takes a licence beside."""
    first: list[Role] = [Role.CLINICIAN, *Role]
    return next(role for role in first if permission in BUNDLES[role])


def told_apart(route: Route, about: str, foreign: Answer, nobodys: Answer) -> Iterator[str]:
    """How somebody could tell another clinic's from nobody's, or has changed it."""
    if foreign.changed:
        yield f"{route.name}, {about}: another clinic's {foreign.changed} changed"
    if foreign != nobodys:
        yield f"{route.name}, {about}: {foreign} for another clinic's, {nobodys} for nobody's"
    elif foreign.statements != nobodys.statements:
        yield f"{route.name}, {about}: other statements for another clinic's"


def _pairs(found: Iterable[Any]) -> dict[str, str]:
    return {row[0]: row[1] for row in found}
