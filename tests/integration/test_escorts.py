"""The way home: named, replaced, answered by a link of their own, seen at the door."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import Appointment, Escort, Message, Task
from models.vocabulary import MessageKind, MessageState, Recipient, Role, TaskKind, TaskStatus
from notifications import links
from notifications.templates import betrays
from scheduler import booking, courses, escorts, facts, sessions
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.escorts import NewEscort
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import DAY, MONDAY_9, SOURCE, World, gate, make_protocol, protocol_content
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-ways-home"}
    dosing = told["visits"]["dosing"]
    dosing["gates"] = [
        gate("transport-home", "arrival", "escort"),
        gate("way-home", "discharge", "departure"),
    ]
    dosing["checklist"] = []
    dosing["ways_home"] = {"ways": ["escort", "ride"], "source": SOURCE}
    told["steps"] = [{"key": "dosing", "visit": "dosing"}]
    return told


@pytest.fixture
def asks() -> dict[str, Any]:
    """The protocol of the visit."""
    return content()


@pytest.fixture
def visit(
    session: Session, world: World, clock: Clock, bound: Any, asks: dict[str, Any]
) -> Appointment:
    version_id = make_protocol(session, asks)
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    [step] = facts.steps_of(session, course.id)
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    made = booking.book(session, order, by=DESK, now=clock.now)
    session.commit()
    return made


@pytest.fixture
def doctor(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


def name(session: Session, visit: Appointment, clock: Clock, **changes: Any) -> Escort:
    told: dict[str, Any] = {
        "name": "Evan Escort",
        "phone": "+12125550199",
        "relation": "partner",
        "email": "evan@example.com",
        "may_message": True,
        **changes,
    }
    return escorts.name_escort(session, visit.id, NewEscort(**told), by=DESK, now=clock.now)


def planned(session: Session, kind: MessageKind, escort: Escort) -> int:
    query = select(Message.id).where(
        Message.kind == kind,
        Message.recipient == Recipient.ESCORT,
        Message.recipient_id == escort.id,
        Message.state == MessageState.SCHEDULED,
    )
    return len(session.scalars(query).all())


def asked(session: Session, escort: Escort) -> None:
    """The pick-up message has gone out."""
    session.execute(
        text(
            "UPDATE message SET state = 'sent', released_at = now(), sent_at = now() "
            "WHERE recipient_id = :id AND kind = 'pick-up'"
        ),
        {"id": escort.id},
    )


def press(client: FlaskClient, page: str, comes: str, shown: str | None = None) -> TestResponse:
    """Press a button of the page, as it is shown now or was once."""
    found = re.search(r'name="revision" value="(\d+)"', shown or client.get(page).text)
    told = {"comes": comes, "revision": found[1]} if found else {"comes": comes}
    return client.post(page, data=told, follow_redirects=True)


class TestReplaced:
    def test_who_had_been_asked_is_told_and_the_new_one_is_asked(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        first = name(session, visit, clock)
        assert planned(session, MessageKind.PICK_UP, first) == 1
        asked(session, first)

        second = name(session, visit, clock, name="Fay Friend", phone="+12125550188")

        assert second.id != first.id
        assert planned(session, MessageKind.CANCELLATION, first) == 1
        assert planned(session, MessageKind.PICK_UP, second) == 1
        assert facts.escort_of(session, visit.id) is second

    def test_who_was_not_asked_hears_nothing(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        first = name(session, visit, clock)
        name(session, visit, clock, name="Fay Friend", phone="+12125550188")
        for kind in (MessageKind.PICK_UP, MessageKind.CANCELLATION):
            assert planned(session, kind, first) == 0

    def test_one_named_since_is_not_told_of_a_time_they_never_knew(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        asked(session, name(session, visit, clock))
        second = name(session, visit, clock, name="Fay Friend", phone="+12125550188")
        move = Move(starts_at=MONDAY_9 + DAY)
        booking.reschedule(session, Call(visit.id, None), move, by=DESK, now=clock.now)
        assert planned(session, MessageKind.MOVED, second) == 0
        assert planned(session, MessageKind.PICK_UP, second) == 1

    def test_the_same_person_stays_who_they_are(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        first = name(session, visit, clock, confirmed=True)
        again = name(session, visit, clock, confirmed=True, email="other@example.com")
        assert (again.id, again.confirmed_at) == (first.id, clock.now)


class TestTheirPage:
    @pytest.fixture
    def page(self, session: Session, visit: Appointment, clock: Clock) -> str:
        escort = name(session, visit, clock)
        session.commit()
        return f"/e/{links.escort_token('for tests', visit.clinic_id, escort.id)}"

    def test_they_say_that_they_will_come(
        self, session: Session, client: FlaskClient, desk: Caller, visit: Appointment, page: str
    ) -> None:
        shown = client.get(page)
        assert shown.status_code == 200
        assert "You" not in shown.headers.get("Set-Cookie", "")
        assert shown.headers["Referrer-Policy"] == "no-referrer"
        path = f"/appointments/{visit.id}/escort"
        assert desk.get(path).json["confirmed_at"] is None  # looking changes nothing

        answered = press(client, page, "yes")

        assert "We know that you will come" in answered.text
        assert desk.get(path).json["confirmed_at"] is not None
        gates = desk.get(f"/appointments/{visit.id}/readiness").json["gates"]
        assert gates[0]["state"] == "met"

    @pytest.mark.parametrize("comes", ["yes", "no"])
    def test_what_they_say_to_an_old_time_is_not_of_the_new_one(
        self,
        session: Session,
        client: FlaskClient,
        desk: Caller,
        visit: Appointment,
        page: str,
        clock: Clock,
        comes: str,
    ) -> None:
        old = client.get(page).text
        assert "Monday" in old
        move = Move(starts_at=MONDAY_9 + DAY)
        booking.reschedule(session, Call(visit.id, None), move, by=DESK, now=clock.now)
        session.commit()

        stale = press(client, page, comes, shown=old)

        assert stale.status_code == 409
        assert "The time has changed" in stale.text
        assert "Tuesday" in stale.text
        path = f"/appointments/{visit.id}/escort"
        assert desk.get(path).json["confirmed_at"] is None
        assert session.scalars(select(Task).where(Task.kind == TaskKind.FIND_ESCORT)).all() == []
        for odd in ("", "x", "9" * 5000):
            told = {"comes": "yes", "revision": odd}
            assert client.post(page, data=told).status_code == 409

        assert "We know that you will come" in press(client, page, "yes", shown=stale.text).text
        assert desk.get(path).json["confirmed_at"] is not None

    def test_they_cannot_and_staff_find_somebody(
        self, session: Session, client: FlaskClient, page: str
    ) -> None:
        press(client, page, "yes")
        told = press(client, page, "no")
        assert "somebody else" in told.text
        assert self._task(session) is TaskStatus.REQUESTED
        press(client, page, "yes")
        assert self._task(session) is TaskStatus.COMPLETED

    def _task(self, session: Session) -> TaskStatus:
        query = select(Task.status).where(Task.kind == TaskKind.FIND_ESCORT)
        return session.scalars(query).one()

    def test_the_page_tells_nothing_of_the_treatment(self, client: FlaskClient, page: str) -> None:
        assert betrays(client.get(page).text) == []

    def test_a_link_of_nobody_is_closed(
        self, client: FlaskClient, visit: Appointment, page: str
    ) -> None:
        nobody = links.escort_token("for tests", visit.clinic_id, uuid4())
        forged = links.escort_token("another secret", visit.clinic_id, uuid4())
        for token in (nobody, forged, "x", page.rsplit("/", 1)[1][:-1]):
            assert client.get(f"/e/{token}").status_code == 404
            assert client.post(f"/e/{token}", data={"comes": "yes"}).status_code == 404

    def test_while_the_patient_is_here_they_are_needed(
        self, session: Session, client: FlaskClient, visit: Appointment, page: str, clock: Clock
    ) -> None:
        press(client, page, "yes")
        clock.now = MONDAY_9
        for action in (Action.ARRIVE, Action.START_DOSING, Action.START_RECOVERY):
            sessions.act(session, Call(visit.id, None), action, by=DOCTOR, now=clock.now)
            session.commit()
            assert "Please be there" in client.get(page).text, action
        press(client, page, "no")
        task = select(Task.status).where(Task.kind == TaskKind.FIND_ESCORT)
        assert session.scalars(task).one() is TaskStatus.REQUESTED

    def test_once_it_is_off_nothing_is_asked(
        self, session: Session, client: FlaskClient, visit: Appointment, page: str, clock: Clock
    ) -> None:
        booking.cancel(session, Call(visit.id, None), by=DESK, now=clock.now)
        session.commit()
        assert "do not need to come" in client.get(page).text
        assert "do not need" in press(client, page, "yes").text


class TestLeaving:
    @pytest.fixture
    def path(self, session: Session, visit: Appointment, clock: Clock) -> str:
        """The dose was given at nine; Evan is to come."""
        name(session, visit, clock, confirmed=True)
        clock.now = MONDAY_9
        for action in (Action.ARRIVE, Action.START_DOSING, Action.START_RECOVERY):
            sessions.act(session, Call(visit.id, None), action, by=DOCTOR, now=clock.now)
        session.commit()
        return f"/appointments/{visit.id}"

    def test_who_was_named_is_seen_and_the_patient_may_go(self, doctor: Caller, path: str) -> None:
        etag = doctor.get(path).headers["ETag"]
        refused = doctor.post(f"{path}/discharge", etag=etag)
        assert [one["code"] for one in refused.json["gates"]] == ["way-home"]
        seen = {"way": "escort", "accompanied_by": "Evan Escort"}
        assert doctor.post(f"{path}/departure", seen).status_code == 201
        assert doctor.post(f"{path}/discharge", etag=etag).status_code == 200
        assert doctor.get(f"{path}/departure").json["deviation"] is None

    @pytest.mark.parametrize(
        ("told", "opens"),
        [
            ({"way": "escort", "accompanied_by": "Fay Friend"}, True),
            ({"way": "ride", "accompanied_by": "Evan Escort"}, True),
            ({"way": "alone"}, False),
            ({"way": "against-advice"}, False),
        ],
    )
    def test_what_is_not_as_planned_takes_a_word_about_it(
        self, doctor: Caller, path: str, told: Any, opens: bool
    ) -> None:
        refused = doctor.post(f"{path}/departure", told)
        assert (refused.status_code, refused.json["field"]) == (422, "deviation")
        why = {**told, "deviation": "Evan is stuck in traffic"}
        assert doctor.post(f"{path}/departure", why).status_code == 201
        gates = doctor.get(f"{path}/readiness").json["gates"]
        assert (gates[-1]["state"] == "met") is opens

    def test_it_is_noted_once_and_put_right_by_another_line(
        self, doctor: Caller, desk: Caller, path: str, clock: Clock
    ) -> None:
        seen = {"way": "escort", "accompanied_by": "Evan Escort"}
        assert desk.post(f"{path}/departure", seen).status_code == 403
        first = doctor.post(f"{path}/departure", seen).json
        again = doctor.post(f"{path}/departure", seen)
        assert (again.status_code, again.json["type"]) == (409, "/problems/already-exists")
        right = {"way": "alone", "deviation": "Evan never came", "replaces": first["id"]}
        assert doctor.post(f"{path}/departure", right).status_code == 201
        assert doctor.get(f"{path}/departure").json["way"] == "alone"
        early = (clock.now + timedelta(hours=1)).isoformat()
        told = {**right, "left_at": early}
        assert doctor.post(f"{path}/departure", told).json["field"] == "left_at"

    def test_before_the_dose_nobody_leaves(
        self, doctor: Caller, visit: Appointment, bound: Any
    ) -> None:
        seen = {"way": "escort", "accompanied_by": "Evan Escort"}
        refused = doctor.post(f"/appointments/{visit.id}/departure", seen)
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/wrong-status")


class TestOfTheirOwn:
    """Where the protocol lets a patient go alone, nobody is named, and that is as planned."""

    @pytest.fixture
    def asks(self) -> dict[str, Any]:
        told = content()
        told["visits"]["dosing"]["gates"] = [gate("way-home", "discharge", "departure")]
        told["visits"]["dosing"]["ways_home"]["ways"] = ["escort", "alone"]
        return told

    def test_it_takes_no_word_and_nobody_can_be_named_for_it(
        self, session: Session, doctor: Caller, visit: Appointment, clock: Clock
    ) -> None:
        named = {"name": "Nobody", "phone": "+12125550199", "relation": "none", "way": "alone"}
        path = f"/appointments/{visit.id}"
        assert doctor("PUT", f"{path}/escort", named).json["field"] == "way"
        clock.now = MONDAY_9
        for action in (Action.ARRIVE, Action.START_DOSING, Action.START_RECOVERY):
            sessions.act(session, Call(visit.id, None), action, by=DOCTOR, now=clock.now)
        session.commit()
        escorted = doctor.post(f"{path}/departure", {"way": "escort", "accompanied_by": "Fay"})
        assert escorted.json["field"] == "deviation"
        assert doctor.post(f"{path}/departure", {"way": "alone"}).status_code == 201
        assert doctor.get(f"{path}/readiness").json["gates"][0]["state"] == "met"


class TestAfterANight:
    """The patient stays on after a dose, and leaves from another visit."""

    @pytest.fixture
    def asks(self) -> dict[str, Any]:
        told = content()
        dosing, talk = told["visits"]["dosing"], told["visits"]["integration"]
        talk["kind"] = "follow-up"
        talk["gates"], dosing["gates"] = dosing["gates"], []
        talk["ways_home"] = dosing.pop("ways_home")
        told["steps"] = [{"key": "night", "visit": "integration"}]
        return told

    def test_it_ends_once_it_is_noted_who_takes_them_home(
        self, session: Session, doctor: Caller, visit: Appointment, clock: Clock
    ) -> None:
        name(session, visit, clock, confirmed=True)
        clock.now = MONDAY_9
        session.commit()
        path = f"/appointments/{visit.id}"
        seen = {"way": "escort", "accompanied_by": "Evan Escort"}
        early = doctor.post(f"{path}/departure", seen)
        assert (early.status_code, early.json["type"]) == (409, "/problems/wrong-status")
        sessions.act(session, Call(visit.id, None), Action.ARRIVE, by=DOCTOR, now=clock.now)
        session.commit()

        told = doctor.get(f"{path}/readiness").json
        assert (told["stage"], told["ready"]) == ("discharge", False)
        etag = doctor.get(path).headers["ETag"]
        refused = doctor.post(f"{path}/fulfil", etag=etag)
        assert [one["code"] for one in refused.json["gates"]] == ["way-home"]
        assert doctor.post(f"{path}/departure", seen).status_code == 201
        assert doctor.post(f"{path}/fulfil", etag=etag).status_code == 200


def test_a_way_that_the_protocol_does_not_allow_is_refused(
    desk: Caller, visit: Appointment
) -> None:
    told = {"name": "Nobody", "phone": "+12125550199", "relation": "none", "way": "alone"}
    refused = desk("PUT", f"/appointments/{visit.id}/escort", told, etag='"0"')
    assert (refused.status_code, refused.json["field"]) == (422, "way")
