"""A visit that is not ready in time stands still, is told of, and goes ahead once it is ready."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from models import Appointment, AppointmentEvent, Message, Task, enter_clinic
from models.vocabulary import (
    AppointmentStatus,
    ClearanceOutcome,
    MessageKind,
    MessageState,
    Recipient,
    Role,
    TaskKind,
    TaskStatus,
)
from notifications import links
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from scheduler import apart, booking, clearances, courses, escorts, facts, sessions, suspending
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.clearances import NewClearance
from scheduler.escorts import NewEscort
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    gate,
    make_patient,
    make_protocol,
    protocol_content,
    rule,
)
from tests.fakes import MailServer, mail_server
from tests.integration.conftest import Caller, Clock
from tests.integration.test_consents import Page
from tests.integration.test_delivery import as_worker

DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)
TUESDAY = MONDAY_9 + DAY  # 09:00 in New York
EVENING = MONDAY_9 + timedelta(hours=8)  # 17:00 on Monday
IN_TIME = {"days": -1, "at": "17:00"}


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-suspended"}
    dosing = told["visits"]["dosing"]
    dosing["gates"] = [gate("medical-clearance", "arrival"), gate("vitals", "dose")]
    dosing["checklist"] = []
    dosing["suspend"] = {"when": IN_TIME, "source": ["T"]}
    told["cadences"]["full"] = [
        rule("on-booking", "confirmation", {"on": "booking"}),
        rule("hours-before", "day-of", {"hours": -3, "from": "start"}, not_after=_AN_HOUR_BEFORE),
    ]
    told["steps"] = [{"key": "dosing", "visit": "dosing"}]
    return told


_AN_HOUR_BEFORE = {"hours": -1, "from": "start"}


def book(session: Session, world: World) -> Appointment:
    return book_for(session, world.patient_id, make_protocol(session, content()), TUESDAY)


def book_for(session: Session, patient_id: UUID, version_id: UUID, at: datetime) -> Appointment:
    course = courses.open_course(session, patient_id, version_id, by=DOCTOR)
    [step] = facts.steps_of(session, course.id)
    order = Order(patient_id=patient_id, starts_at=at, course_step_id=step.id)
    return booking.book(session, order, by=DOCTOR, now=SUNDAY_NOON)


def settle(session: Session, world: World, at: Any) -> None:
    told = NewClearance(gate="medical-clearance", outcome="cleared", cleared_at=at)  # type: ignore[arg-type]
    clearances.clear(session, world.patient_id, told, by=DOCTOR, now=at)


def refuse(session: Session, world: World, at: Any) -> None:
    told = NewClearance(gate="medical-clearance", outcome=ClearanceOutcome.REFUSED, cleared_at=at)
    clearances.clear(session, world.patient_id, told, by=DOCTOR, now=at)


@pytest.fixture
def visit(session: Session, world: World) -> Appointment:
    """A dose on Tuesday at nine, of a patient whom nobody has cleared."""
    return book(session, world)


def told(session: Session, kind: MessageKind) -> set[tuple[Recipient, MessageState]]:
    query = select(Message.recipient, Message.state).where(Message.kind == kind)
    return {(one.recipient, one.state) for one in session.execute(query)}


def task(session: Session) -> TaskStatus | None:
    return session.scalar(select(Task.status).where(Task.kind == TaskKind.DECIDE_VISIT))


class TestTime:
    @pytest.mark.parametrize(("at", "expected"), [(-1, False), (0, True), (1, True)])
    def test_it_is_suspended_to_the_minute(
        self, session: Session, visit: Appointment, at: int, expected: bool
    ) -> None:
        assert suspending.review(session, EVENING + at * MINUTE) == expected
        assert (visit.suspended_at is not None) is expected
        assert visit.status is AppointmentStatus.BOOKED  # never cancelled by itself
        assert task(session) == (TaskStatus.REQUESTED if expected else None)

    def test_it_is_told_once(self, session: Session, visit: Appointment) -> None:
        suspending.review(session, EVENING)
        suspending.review(session, EVENING + MINUTE)
        found = told(session, MessageKind.VISIT_SUSPENDED)
        assert {one for one, _ in found} == {
            Recipient.PATIENT,
            Recipient.FRONT_DESK,
            Recipient.PRACTITIONER,
        }
        actions = select(AppointmentEvent.facts).where(AppointmentEvent.action == "suspend")
        assert session.scalars(actions).all() == [{"open": ["medical-clearance"]}]

    def test_what_is_of_the_day_does_not_suspend_it(
        self, session: Session, world: World, visit: Appointment
    ) -> None:
        settle(session, world, SUNDAY_NOON)
        assert suspending.review(session, EVENING) == 0  # vital signs are asked at the dose


class TestGoingAhead:
    def test_settled_it_goes_ahead(
        self, session: Session, world: World, visit: Appointment
    ) -> None:
        suspending.review(session, EVENING)
        settle(session, world, EVENING + MINUTE)
        assert suspending.review(session, EVENING + 2 * MINUTE) == 1
        assert visit.suspended_at is None
        assert task(session) is TaskStatus.COMPLETED
        # Nobody had heard of it yet, so nobody hears that it goes ahead after all.
        assert {one for _, one in told(session, MessageKind.VISIT_SUSPENDED)} == {
            MessageState.SUPERSEDED
        }
        assert told(session, MessageKind.VISIT_RESUMED) == set()

    def test_passed_over_it_goes_ahead(self, session: Session, visit: Appointment) -> None:
        suspending.review(session, EVENING)
        reasons = Reasons({"medical-clearance": "Seen this morning, will be typed in."})
        sessions.override(session, visit.id, reasons, by=DOCTOR, now=EVENING + MINUTE)
        suspending.review(session, EVENING + 2 * MINUTE)
        assert visit.suspended_at is None

    def test_who_comes_ready_before_the_next_look_is_let_in(
        self, session: Session, world: World, visit: Appointment
    ) -> None:
        suspending.review(session, EVENING)
        settle(session, world, TUESDAY - MINUTE)
        sessions.act(session, Call(visit.id, None), Action.ARRIVE, by=DOCTOR, now=TUESDAY)
        assert visit.suspended_at is None
        assert visit.status is AppointmentStatus.ARRIVED
        suspending.review(session, TUESDAY)
        assert task(session) is TaskStatus.COMPLETED

    def test_moved_it_is_judged_for_its_new_time(
        self, session: Session, visit: Appointment
    ) -> None:
        suspending.review(session, EVENING)
        move = Move(starts_at=TUESDAY + DAY)
        booking.reschedule(session, Call(visit.id, None), move, by=DOCTOR, now=EVENING)
        assert visit.suspended_at is None
        assert suspending.review(session, EVENING + DAY - MINUTE) == 0
        assert suspending.review(session, EVENING + DAY) == 1

    def test_moved_while_the_clock_looks_it_is_let_be(
        self, session: Session, visit: Appointment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between judging it and taking hold of it, somebody moves it to another day."""
        take_hold = facts.to_change

        def moved_first(*asked: Any) -> Any:
            monkeypatch.undo()
            move = Move(starts_at=TUESDAY + DAY)
            booking.reschedule(session, Call(visit.id, None), move, by=DOCTOR, now=EVENING)
            return take_hold(*asked)

        monkeypatch.setattr(facts, "to_change", moved_first)
        assert suspending.review(session, EVENING) == 0
        assert visit.suspended_at is None

    def test_nobody_has_missed_a_suspended_visit(
        self, session: Session, visit: Appointment
    ) -> None:
        suspending.review(session, EVENING)
        assert sessions.mark_noshows(session, TUESDAY + 3 * DAY) == 0
        visit.suspended_at = None
        session.flush()
        assert sessions.mark_noshows(session, TUESDAY + 3 * DAY) == 1


def test_a_visit_that_cannot_be_judged_holds_up_no_other(
    session: Session, visit: Appointment
) -> None:
    patients = [make_patient(session)[0] for _ in range(3)]
    others = [
        book_for(session, patient_id, visit.protocol_version_id, TUESDAY + (1 + number) * DAY)
        for number, patient_id in enumerate(patients)
    ]
    others[1].visit = "gone"  # as no release of ours writes it
    session.flush()
    evening = EVENING + DAY
    failed = apart.failures().get("suspend-unready", 0)
    with capture_logs() as lines:
        assert suspending.review(session, evening) == 1
    assert [one.suspended_at for one in others] == [evening, None, None]
    assert [(one["event"], one["row_id"]) for one in lines] == [("row.failed", str(others[1].id))]
    assert lines[0]["log_level"] == "error"
    suspending.review(session, evening + MINUTE)
    assert apart.failures()["suspend-unready"] == failed + 2  # told of again until it is mended


def test_it_is_shown(session: Session, desk: Caller, visit: Appointment, clock: Clock) -> None:
    suspending.review(session, EVENING)
    session.commit()
    clock.now = EVENING
    [row] = desk.get("/readiness?from=2026-03-03T00:00:00Z&to=2026-03-04T00:00:00Z").json["items"]
    assert row["appointment"]["suspended_at"] == "2026-03-02T22:00:00Z"


class TestPages:
    """Nor do the patient's page, their calendar, or the escort's page say that it takes place."""

    def test_the_patients(
        self, session: Session, client: FlaskClient, visit: Appointment, clock: Clock
    ) -> None:
        clock.now = EVENING
        page = Page(session, client, visit)
        assert "I will come" in page.get()
        assert "STATUS:CONFIRMED" in client.get("/p/appointment.ics").text
        suspending.review(session, EVENING)
        session.commit()
        shown = page.get()
        assert "This time is not certain yet" in shown
        assert "I will come" not in shown
        assert "STATUS:TENTATIVE" in client.get("/p/appointment.ics").text

    def test_the_escorts(
        self, session: Session, client: FlaskClient, visit: Appointment, clock: Clock
    ) -> None:
        clock.now = EVENING
        named = NewEscort(name="Evan Escort", phone="+12125550199", relation="friend")
        escort = escorts.name_escort(session, visit.id, named, by=DOCTOR, now=SUNDAY_NOON)
        suspending.review(session, EVENING)
        session.commit()
        address = f"/e/{links.escort_token('for tests', visit.clinic_id, escort.id)}"
        shown = client.get(address).text
        assert "Please do not set out" in shown
        assert "Please be there" not in shown


class TestWhatIsSaid:
    @pytest.fixture
    def server(self) -> Iterator[MailServer]:
        with mail_server() as server:
            yield server

    @pytest.fixture
    def sweep(self, server: MailServer, worker_engine: Engine, committed: Session) -> Iterator[Any]:
        channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))
        now = [SUNDAY_NOON]
        delivery = Delivery(as_worker(worker_engine), [channel], lambda: now[0], "http://c.test")

        def at(moment: Any) -> list[str]:
            now[0] = moment
            before = len(server.mails)
            delivery.sweep()
            return [str(one["Subject"]) for one in server.mails[before:]]

        yield at
        delivery.close()

    def test_nothing_says_meanwhile_that_it_takes_place(
        self, committed: Session, committed_world: World, sweep: Any
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        visit = book(committed, committed_world)
        committed.commit()
        sweep(MONDAY_9)
        suspending.review(committed, EVENING)
        committed.commit()
        assert sweep(EVENING) == []  # staff may be about to give their reasons
        assert len([one for one in sweep(EVENING + 3 * MINUTE) if "Before" in one]) == 1

        seven = TUESDAY - timedelta(hours=2)  # "see you" was due at six, and quiet until nine
        assert sweep(seven) == []
        settle(committed, committed_world, seven)
        suspending.review(committed, seven + MINUTE)
        committed.commit()
        subjects = sweep(seven + 6 * MINUTE)
        assert any("Goes ahead" in one for one in subjects)
        # The patient was told last that it cannot go ahead, and would set out before nine.
        assert any("All is settled" in one for one in subjects)
        assert visit.suspended_at is None

    def test_what_says_that_it_goes_ahead_is_off_once_it_is_suspended_again(
        self, committed: Session, committed_world: World, sweep: Any
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        book(committed, committed_world)
        committed.commit()
        sweep(MONDAY_9)
        suspending.review(committed, EVENING)
        committed.commit()
        sweep(EVENING + 3 * MINUTE)
        settle(committed, committed_world, EVENING + 4 * MINUTE)
        suspending.review(committed, EVENING + 4 * MINUTE)
        again = EVENING + 5 * MINUTE
        refuse(committed, committed_world, again)
        suspending.review(committed, again)
        committed.commit()
        assert told(committed, MessageKind.VISIT_RESUMED) == {
            (one, MessageState.SUPERSEDED)
            for one in set(Recipient) - {Recipient.ESCORT, Recipient.USER}
        }

        # Settled again before anybody heard a second time: all still believe the first.
        settle(committed, committed_world, again + MINUTE)
        suspending.review(committed, again + MINUTE)
        committed.commit()
        said = sweep(again + MINUTE)
        assert not any("please call us" in one for one in said)
        assert any("All is settled" in one for one in said)
        assert any("Goes ahead" in one for one in said)

    def test_who_serves_hears_that_it_goes_ahead_when_the_patient_comes_ready(
        self, committed: Session, committed_world: World, sweep: Any
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        visit = book(committed, committed_world)
        committed.commit()
        sweep(MONDAY_9)
        suspending.review(committed, EVENING)
        committed.commit()
        sweep(EVENING + 3 * MINUTE)
        settle(committed, committed_world, TUESDAY)
        sessions.act(committed, Call(visit.id, None), Action.ARRIVE, by=DOCTOR, now=TUESDAY)
        committed.commit()
        assert {one for one, _ in told(committed, MessageKind.VISIT_RESUMED)} == {
            Recipient.FRONT_DESK,
            Recipient.PRACTITIONER,
        }
        assert any("Goes ahead" in one for one in sweep(TUESDAY + MINUTE))

    def test_a_visit_that_cannot_begin_is_told_of_at_night_rather_than_too_late(
        self, committed: Session, committed_world: World, sweep: Any
    ) -> None:
        """At nine in the evening, of a visit at nine in the morning, when the quiet hours end."""
        enter_clinic(committed, committed_world.clinic_id)
        book(committed, committed_world)
        settle(committed, committed_world, SUNDAY_NOON)
        committed.commit()
        sweep(MONDAY_9)
        night = EVENING + timedelta(hours=4)
        refuse(committed, committed_world, night)
        suspending.review(committed, night)
        committed.commit()
        said = sweep(night + 3 * MINUTE)
        assert any("Before" in one for one in said)

    def test_what_was_due_meanwhile_is_said_if_it_is_of_use(
        self, committed: Session, committed_world: World, sweep: Any
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        book(committed, committed_world)
        due = select(Message).where(Message.kind == MessageKind.DAY_OF)
        committed.scalars(due).one().due_at = EVENING + 10 * MINUTE
        committed.commit()
        sweep(MONDAY_9)
        suspending.review(committed, EVENING)
        committed.commit()
        sweep(EVENING + 3 * MINUTE)
        assert sweep(EVENING + 10 * MINUTE) == []
        settle(committed, committed_world, EVENING + 11 * MINUTE)
        suspending.review(committed, EVENING + 12 * MINUTE)
        committed.commit()
        said = sweep(EVENING + 15 * MINUTE)
        assert any("See you" in one for one in said)
        assert any("All is settled" in one for one in said)


class TestOver:
    def test_one_whose_time_is_over_stays_a_task_until_somebody_decides(
        self, session: Session, visit: Appointment
    ) -> None:
        suspending.review(session, EVENING)
        looked_at = {"status": "completed", "settled_by": "key:desk", "settled_at": EVENING}
        session.execute(update(Task).values(**looked_at))
        over = visit.ends_at + MINUTE
        assert sessions.mark_noshows(session, over + DAY) == 0
        suspending.review(session, over - 2 * MINUTE)
        assert task(session) is TaskStatus.COMPLETED

        suspending.review(session, over)
        assert task(session) is TaskStatus.REQUESTED
        assert session.scalars(select(Task.note)).one() == suspending.OVER

        sessions.act(session, Call(visit.id, None), Action.NOSHOW, by=DOCTOR, now=over)
        suspending.review(session, over + MINUTE)
        assert task(session) is TaskStatus.COMPLETED
