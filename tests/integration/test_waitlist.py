"""Freed times are offered to those who wait, in order, and accepting is judged as booking is."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from models import (
    Appointment,
    Clinic,
    FreedTime,
    GroupSession,
    Message,
    Offer,
    Slot,
    WaitlistEntry,
    enter_clinic,
)
from models.vocabulary import (
    AppointmentStatus,
    ClearanceOutcome,
    MessageKind,
    OfferState,
    Role,
    StepKind,
    WaitingState,
)
from notifications import links, reading
from scheduler import booking, courses, facts, groups, offering, offers, sessions, waiting, waitlist
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.errors import (
    NotReady,
    OfferGone,
    Refusal,
    SessionFull,
    SlotTaken,
    Taken,
    TooManyHolds,
    Unfit,
    WrongStatus,
)
from scheduler.jobs import JOBS
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from scheduler.placing import Named
from scheduler.waitlist import Wanted
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    clear,
    make_patient,
    make_practitioner,
    make_protocol,
    make_world,
    protocol_content,
)
from tests.groups import Circle, Member, make_circle, make_member
from tests.integration.conftest import Caller, Clock
from tests.integration.test_text_messages import FROM, write_in

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
PATIENT = Authority("patient")
NOW = SUNDAY_NOON + timedelta(hours=2)  # 09:00 in New York: nobody is asleep
HALF_AN_HOUR = timedelta(minutes=30)
WEDNESDAY_9 = MONDAY_9 + 2 * DAY


@dataclass
class Desk:
    """What is done in a small clinic, at the scheduler's own door."""

    session: Session
    world: World
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.set(settle_minutes=0)

    def set(self, **settings: Any) -> None:
        clinic = self.session.scalars(select(Clinic)).one()
        for name, value in settings.items():
            setattr(clinic, name, value)
        self.session.flush()

    def step(self, key: str = "preparation", patient_id: UUID | None = None) -> UUID:
        """A step of a new course, of somebody new."""
        who = patient_id or make_patient(self.session)[0]
        version_id = self.world.protocol_version_id
        course = courses.open_course(self.session, who, version_id, by=DESK)
        return next(one.id for one in facts.steps_of(self.session, course.id) if one.key == key)

    def waits(self, step_id: UUID | None = None, **wishes: Any) -> WaitlistEntry:
        wanted = Wanted(course_step_id=step_id or self.step(), **wishes)
        return waitlist.join(self.session, wanted, by=DESK, now=self.now)

    def books(self, at: datetime = WEDNESDAY_9, step_id: UUID | None = None) -> Appointment:
        who = self.world.patient_id
        if step_id is not None:
            who = facts.step_to_place(self.session, step_id)[0].patient.id
        order = Order(
            patient_id=who,
            starts_at=at,
            step_kind=None if step_id else StepKind.PREPARATION,
            course_step_id=step_id,
        )
        return booking.book(self.session, order, by=DESK, now=self.now)

    def cancels(self, visit: Appointment) -> None:
        booking.cancel(self.session, Call(visit.id, None), by=DESK, now=self.now)

    def frees(self, at: datetime = WEDNESDAY_9) -> None:
        """A visit is booked and called off, and the worker has looked."""
        self.cancels(self.books(at))
        self.works()

    def works(self, after: timedelta = timedelta(0)) -> None:
        """The worker does what there is to do."""
        self.now += after
        waiting.lapse(self.session, self.now)
        while offering.offer_freed_times(self.session, self.now):
            pass
        self.session.expire_all()

    def offers(self, state: OfferState = OfferState.STANDING) -> list[Offer]:
        query = select(Offer).where(Offer.state == state).order_by(Offer.offered_at, Offer.id)
        return list(self.session.scalars(query))

    def accepts(self, offer: Offer) -> Offer:
        return offers.accept(self.session, Call(offer.id, None), by=PATIENT, now=self.now)

    def visit_of(self, entry: WaitlistEntry) -> Appointment | None:
        return self.session.scalar(
            select(Appointment).where(
                Appointment.course_step_id == entry.course_step_id,
                Appointment.status == AppointmentStatus.BOOKED,
            )
        )

    def said(self, kind: MessageKind) -> list[UUID]:
        query = select(Message.recipient_id).where(Message.kind == kind).order_by(Message.id)
        return list(self.session.scalars(query))


@pytest.fixture
def desk_of(session: Session, world: World) -> Desk:
    return Desk(session, world)


class TestOffers:
    def test_the_longest_waiting_is_asked_and_the_time_is_kept(self, desk_of: Desk) -> None:
        first = desk_of.waits()
        desk_of.now += timedelta(minutes=1)
        desk_of.waits()

        desk_of.frees()

        [offer] = desk_of.offers()
        assert (offer.entry_id, offer.expires_at) == (first.id, desk_of.now + HALF_AN_HOUR)
        proposed = facts.one(desk_of.session, Appointment, offer.appointment_id)
        assert (proposed.status, proposed.starts_at) == (AppointmentStatus.PROPOSED, WEDNESDAY_9)
        assert desk_of.said(MessageKind.OFFER) == [first.patient_id]
        with pytest.raises(Refusal, match="free together"):
            desk_of.books()

    def test_accepting_books_the_step_and_ends_the_entry(self, desk_of: Desk) -> None:
        entry = desk_of.waits()
        desk_of.frees()
        [offer] = desk_of.offers()

        accepted = desk_of.accepts(offer)

        visit = desk_of.visit_of(entry)
        assert visit is not None
        assert (accepted.state, accepted.visit_id) == (OfferState.ACCEPTED, visit.id)
        assert visit.starts_at == WEDNESDAY_9
        desk_of.session.refresh(entry)
        assert entry.state is WaitingState.SERVED
        desk_of.works(HALF_AN_HOUR)
        assert desk_of.offers() == []

    def test_run_out_or_let_go_it_passes_to_the_next_and_never_back(self, desk_of: Desk) -> None:
        waiting = [desk_of.waits() for _ in range(3)]
        desk_of.frees()
        [first] = desk_of.offers()

        desk_of.works(HALF_AN_HOUR)
        [second] = desk_of.offers()
        with pytest.raises(OfferGone):
            desk_of.accepts(first)
        offers.decline(desk_of.session, Call(second.id, None), by=PATIENT, now=desk_of.now)
        desk_of.works()
        [third] = desk_of.offers()
        desk_of.works(HALF_AN_HOUR)
        desk_of.works(timedelta(hours=2))

        assert [one.entry_id for one in (first, second, third)] == [one.id for one in waiting]
        assert desk_of.offers() == []
        assert (
            desk_of.session.scalars(select(Slot).where(Slot.starts_at >= WEDNESDAY_9)).all() == []
        )

    def test_late_by_a_moment_is_late_though_no_worker_has_looked(self, desk_of: Desk) -> None:
        desk_of.waits()
        desk_of.frees()
        [offer] = desk_of.offers()
        desk_of.now += HALF_AN_HOUR

        with pytest.raises(OfferGone):
            desk_of.accepts(offer)
        order = Order(
            patient_id=desk_of.world.patient_id,
            starts_at=WEDNESDAY_9,
            step_kind=StepKind.PREPARATION,
            assignments=_named(desk_of.world),
        )
        booking.book(desk_of.session, order, by=DESK, now=desk_of.now)  # it gives way
        desk_of.works()
        assert len(desk_of.offers(OfferState.EXPIRED)) == 1

    def test_several_at_once_nothing_is_kept_and_the_first_wins(self, desk_of: Desk) -> None:
        desk_of.set(offers_at_once=3)
        waiting = [desk_of.waits() for _ in range(4)]
        desk_of.frees()
        offers = desk_of.offers()
        assert [one.entry_id for one in offers] == [one.id for one in waiting[:3]]
        assert (
            desk_of.session.scalars(select(Slot).where(Slot.starts_at >= WEDNESDAY_9)).all() == []
        )
        desk_of.session.execute(
            text("UPDATE message SET state = 'sent', released_at = now() WHERE recipient_id = :id"),
            {"id": offers[0].patient_id},
        )

        desk_of.accepts(offers[1])

        assert [one.entry_id for one in desk_of.offers(OfferState.LOST)] == [
            waiting[0].id,
            waiting[2].id,
        ]
        assert desk_of.said(MessageKind.OFFER_GONE) == [waiting[0].patient_id]  # the other knew not
        with pytest.raises(OfferGone):
            desk_of.accepts(offers[0])
        assert {one.state for one in (waiting[0], waiting[2])} == {WaitingState.WAITING}

    def test_who_waits_for_two_steps_thinks_about_one_offer(self, desk_of: Desk) -> None:
        desk_of.set(offers_at_once=3)
        who, _ = make_patient(desk_of.session)
        first = desk_of.waits(desk_of.step(patient_id=who))
        desk_of.waits(desk_of.step(patient_id=who))
        other = desk_of.waits()

        desk_of.frees()

        assert [one.entry_id for one in desk_of.offers()] == [first.id, other.id]

    def test_taken_by_the_desk_it_is_lost_and_not_doubled(self, desk_of: Desk) -> None:
        desk_of.set(offers_at_once=2)
        entries = [desk_of.waits(), desk_of.waits()]
        desk_of.frees()
        desk_of.books()

        lost = desk_of.accepts(desk_of.offers()[0])

        assert lost.state is OfferState.LOST
        assert desk_of.visit_of(entries[0]) is None
        assert entries[0].state is WaitingState.WAITING

    def test_who_loses_a_window_soonest_is_asked_first(self, desk_of: Desk) -> None:
        desk_of.waits()
        hurried = desk_of.waits(latest=WEDNESDAY_9 + DAY)

        desk_of.frees()

        assert [one.entry_id for one in desk_of.offers()] == [hurried.id]

    def test_a_protocols_window_counts_as_well(self, desk_of: Desk) -> None:
        desk_of.waits()
        dosing = desk_of.step("dosing-1")
        about = facts.step_to_place(desk_of.session, dosing)[0]
        clear(desk_of.session, about.patient.id, ["medical-clearance", "consent"])
        [preparation, _, integration, _] = [
            one.id for one in facts.steps_of(desk_of.session, about.course_id or uuid4())
        ]
        desk_of.books(MONDAY_9, preparation)
        desk_of.books(MONDAY_9 + DAY, dosing)
        hurried = desk_of.waits(integration)  # 24 to 72 hours after

        desk_of.frees()

        assert [one.entry_id for one in desk_of.offers()] == [hurried.id]

    @pytest.mark.parametrize(
        ("wishes", "fits"),
        [
            ({"weekdays": [2]}, True),
            ({"weekdays": [0, 4]}, False),
            ({"begin": time(9), "until": time(10)}, True),
            ({"begin": time(10)}, False),
            ({"until": time(9)}, False),
            ({"latest": WEDNESDAY_9}, False),
            ({"earliest": WEDNESDAY_9 + timedelta(hours=1)}, False),
            ({"earliest": WEDNESDAY_9, "latest": WEDNESDAY_9 + timedelta(minutes=5)}, True),
        ],
    )
    def test_wishes_are_kept(self, desk_of: Desk, wishes: dict[str, Any], fits: bool) -> None:
        desk_of.waits(**wishes)

        desk_of.frees()

        assert len(desk_of.offers()) == fits

    def test_who_wants_a_therapist_gets_that_one(self, desk_of: Desk) -> None:
        other_id, _ = make_practitioner(desk_of.session, desk_of.world.site_id)
        desk_of.waits(practitioner_id=other_id)
        mine = desk_of.waits(practitioner_id=desk_of.world.therapist_id)

        desk_of.frees()

        [offer] = desk_of.offers()
        assert offer.entry_id == mine.id
        assert str(desk_of.world.therapist) in str(offer.assignments)

    def test_who_is_not_ready_is_passed_over_until_they_are(self, desk_of: Desk) -> None:
        dosing = desk_of.step("dosing-1")
        about = facts.step_to_place(desk_of.session, dosing)[0]
        [preparation, *_] = facts.steps_of(desk_of.session, about.course_id or uuid4())
        desk_of.books(MONDAY_9, preparation.id)
        desk_of.waits(dosing)
        desk_of.frees()
        assert desk_of.offers() == []

        clear(desk_of.session, about.patient.id, ["medical-clearance", "consent"])
        desk_of.works(timedelta(hours=1))

        [offer] = desk_of.offers()
        clear(
            desk_of.session,
            about.patient.id,
            ["consent"],
            at=desk_of.now,
            outcome=ClearanceOutcome.REFUSED,
        )
        with pytest.raises(NotReady), desk_of.session.begin_nested():
            desk_of.accepts(offer)
        assert facts.one(desk_of.session, Offer, offer.id).state is OfferState.STANDING

    def test_nobody_is_asked_at_night(self, desk_of: Desk) -> None:
        desk_of.waits()
        desk_of.now = NOW - timedelta(hours=3)
        desk_of.frees()
        assert desk_of.offers() == []

        desk_of.works(timedelta(hours=3))

        assert len(desk_of.offers()) == 1

    def test_an_undo_within_the_settling_time_finds_the_time_free(self, desk_of: Desk) -> None:
        desk_of.set(settle_minutes=3)
        desk_of.waits()
        desk_of.frees()
        assert desk_of.offers() == []
        desk_of.books()

        desk_of.works(timedelta(minutes=3))

        assert desk_of.offers() == []

    def test_the_same_day_is_for_those_on_standby_several_at_once(self, desk_of: Desk) -> None:
        desk_of.waits()
        ready = [desk_of.waits(standby=True) for _ in range(2)]
        desk_of.now = MONDAY_9 + timedelta(minutes=10)

        desk_of.frees(MONDAY_9 + timedelta(hours=3))

        assert [one.entry_id for one in desk_of.offers()] == [one.id for one in ready]
        assert desk_of.accepts(desk_of.offers()[1]).state is OfferState.ACCEPTED

    def test_standby_may_come_within_the_notice(self, desk_of: Desk) -> None:
        content = protocol_content()
        content["code"] = "noticed"
        content["visits"]["preparation"]["notice"] = {"value": 2, "unit": "d", "source": ["T"]}
        version_id = make_protocol(desk_of.session, content)
        desk_of.now = MONDAY_9
        visit = desk_of.books(MONDAY_9 + timedelta(hours=3))
        entry_step = next(
            one.id
            for one in facts.steps_of(
                desk_of.session,
                courses.open_course(
                    desk_of.session, make_patient(desk_of.session)[0], version_id, by=DESK
                ).id,
            )
            if one.key == "preparation"
        )
        desk_of.waits(entry_step, standby=True)
        desk_of.cancels(visit)
        desk_of.works()

        [offer] = desk_of.offers()
        desk_of.accepts(offer)

        [code] = desk_of.session.execute(text("SELECT code FROM override")).scalars()
        assert code == "short-notice"

    def test_who_did_not_come_frees_what_is_left(self, desk_of: Desk) -> None:
        visit = desk_of.books(MONDAY_9)
        desk_of.waits(standby=True)
        desk_of.now = MONDAY_9 + timedelta(minutes=20)

        sessions.act(desk_of.session, Call(visit.id, None), Action.NOSHOW, by=DESK, now=desk_of.now)
        desk_of.works()

        [offer] = desk_of.offers()
        proposed = facts.one(desk_of.session, Appointment, offer.appointment_id)
        assert proposed.starts_at == MONDAY_9 + HALF_AN_HOUR


class TestMovingEarlier:
    def test_accepting_moves_the_visit_and_frees_its_time_for_the_next(self, desk_of: Desk) -> None:
        step = desk_of.step()
        later = desk_of.books(WEDNESDAY_9 + 7 * DAY, step)
        entry = desk_of.waits(step)
        assert entry.visit_id == later.id
        next_one = desk_of.waits(earliest=WEDNESDAY_9 + 5 * DAY)

        desk_of.frees()
        [offer] = desk_of.offers()
        desk_of.accepts(offer)

        desk_of.session.refresh(later)
        assert (later.starts_at, offer.visit_id) == (WEDNESDAY_9, later.id)
        desk_of.session.refresh(entry)
        assert entry.state is WaitingState.SERVED
        desk_of.works()
        [offer] = desk_of.offers()
        assert offer.entry_id == next_one.id
        desk_of.accepts(offer)
        desk_of.works()
        assert desk_of.offers() == []

    def test_only_an_earlier_time_is_offered(self, desk_of: Desk) -> None:
        step = desk_of.step()
        desk_of.books(WEDNESDAY_9 - DAY, step)
        desk_of.waits(step)

        desk_of.frees()

        assert desk_of.offers() == []

    def test_the_entry_ends_with_its_visit(self, desk_of: Desk) -> None:
        step = desk_of.step()
        visit = desk_of.books(WEDNESDAY_9, step)
        entry = desk_of.waits(step)

        desk_of.cancels(visit)
        desk_of.works()

        assert entry.state is WaitingState.LAPSED


@dataclass
class Full:
    """A group session whose places are all taken, and those who would like one."""

    desk: Desk
    circle: Circle
    group: GroupSession
    taken: list[Appointment]

    def waits(self, **wishes: Any) -> WaitlistEntry:
        """Somebody new, ready for a place, waits for one."""
        member = make_member(self.desk.session, self.circle.version_id)
        return self.desk.waits(member.steps["preparation"], **wishes)

    def seats(self, member: Member) -> Appointment:
        order = Order(
            patient_id=member.patient_id,
            starts_at=self.group.starts_at,
            course_step_id=member.steps["preparation"],
            group_session_id=self.group.id,
        )
        return booking.book(self.desk.session, order, by=DESK, now=self.desk.now)

    def free_one(self) -> None:
        self.desk.cancels(self.taken.pop())
        self.desk.works()

    def changes(self, how: str) -> None:
        session, call, now = self.desk.session, Call(self.group.id, None), self.desk.now
        if how == "cancelled":
            groups.cancel(session, call, by=DESK, now=now)
        else:
            move = Move(starts_at=WEDNESDAY_9 + 7 * DAY)
            groups.move(session, call, move, by=DESK, now=now)


@pytest.fixture
def full(desk_of: Desk) -> Full:
    circle = make_circle(desk_of.session, desk_of.world)
    wanted = groups.Wanted(
        visit="preparation", protocol_version_id=circle.version_id, starts_at=WEDNESDAY_9
    )
    group = groups.make(desk_of.session, wanted, by=DESK, now=desk_of.now)
    made = Full(desk_of, circle, group, [])
    made.taken += [made.seats(member) for member in circle.members]
    return made


class TestPlaces:
    """A visit that several patients share: a place that becomes free is offered as time is."""

    def test_a_freed_place_is_kept_and_accepting_takes_it(self, full: Full) -> None:
        entry, later = full.waits(), full.waits()

        full.free_one()

        [offer] = full.desk.offers()
        assert offer.entry_id == entry.id
        with pytest.raises(SessionFull):  # kept: nobody at the desk gives it away
            full.seats(make_member(full.desk.session, full.circle.version_id))
        full.desk.accepts(offer)
        visit = full.desk.visit_of(entry)
        assert visit is not None
        assert (visit.group_session_id, visit.starts_at) == (full.group.id, WEDNESDAY_9)
        assert entry.state is WaitingState.SERVED
        full.desk.works()
        assert (full.desk.offers(), later.state) == ([], WaitingState.WAITING)

    def test_let_go_it_passes_to_the_next(self, full: Full) -> None:
        full.waits()
        second = full.waits()
        full.free_one()
        [offer] = full.desk.offers()

        offers.decline(full.desk.session, Call(offer.id, None), by=PATIENT, now=full.desk.now)
        full.desk.works()

        assert [one.entry_id for one in full.desk.offers()] == [second.id]

    def test_several_at_once_the_first_has_it(self, full: Full) -> None:
        full.desk.set(offers_at_once=3)
        for _ in range(3):
            full.waits()

        full.free_one()
        first, second, third = full.desk.offers()

        assert full.desk.accepts(second).state is OfferState.ACCEPTED
        assert [one.state for one in (first, third)] == [OfferState.LOST, OfferState.LOST]
        told = {first.patient_id, third.patient_id}
        assert set(full.desk.said(MessageKind.OFFER_GONE)) <= told

    def test_taken_by_the_desk_it_is_lost(self, full: Full) -> None:
        full.desk.set(offers_at_once=2)
        entry, _ = full.waits(), full.waits()
        full.free_one()
        first, _ = full.desk.offers()
        full.seats(make_member(full.desk.session, full.circle.version_id))

        assert full.desk.accepts(first).state is OfferState.LOST
        assert entry.state is WaitingState.WAITING

    @pytest.mark.parametrize("how", ["cancelled", "moved"])
    def test_an_offer_is_lost_with_its_session(self, full: Full, how: str) -> None:
        full.waits()
        full.free_one()
        [offer] = full.desk.offers()

        full.changes(how)

        assert full.desk.accepts(offer).state is OfferState.LOST  # though no worker has looked

    @pytest.mark.parametrize("how", ["cancelled", "moved"])
    def test_the_worker_ends_it_as_well(self, full: Full, how: str) -> None:
        full.waits()
        full.free_one()
        [offer] = full.desk.offers()

        full.changes(how)
        full.desk.works()

        assert offer.state is OfferState.LOST
        assert full.desk.offers() == []

    def test_who_has_a_place_cannot_wait_for_an_earlier_one(self, full: Full) -> None:
        with pytest.raises(Unfit, match="Cancel it first"):
            full.desk.waits(full.circle.members[0].steps["preparation"])

    def test_wishes_are_kept(self, full: Full) -> None:
        full.waits(weekdays=[0])  # Mondays; the session is on a Wednesday
        suited = full.waits(weekdays=[2])

        full.free_one()

        assert [one.entry_id for one in full.desk.offers()] == [suited.id]


class TestEntries:
    def test_one_ends_when_its_step_gets_a_visit_and_its_offer_with_it(self, desk_of: Desk) -> None:
        entry = desk_of.waits()
        desk_of.frees()

        visit = desk_of.books(WEDNESDAY_9 + DAY, entry.course_step_id)
        desk_of.works()

        assert entry.state is WaitingState.SERVED
        assert [one.state for one in desk_of.session.scalars(select(Offer))] == [
            OfferState.WITHDRAWN
        ]
        assert visit.status is AppointmentStatus.BOOKED

    def test_one_is_withdrawn_and_its_offer_with_it(self, desk_of: Desk) -> None:
        entry = desk_of.waits()
        other = desk_of.waits()
        desk_of.frees()

        waitlist.leave(desk_of.session, Call(entry.id, None), now=desk_of.now)
        desk_of.works()

        assert [one.entry_id for one in desk_of.offers(OfferState.WITHDRAWN)] == [entry.id]
        assert [one.entry_id for one in desk_of.offers()] == [other.id]
        with pytest.raises(WrongStatus):
            waitlist.leave(desk_of.session, Call(entry.id, None), now=desk_of.now)

    def test_who_has_left_cannot_take_what_still_stands(self, desk_of: Desk) -> None:
        entry = desk_of.waits()
        desk_of.frees()
        waitlist.leave(desk_of.session, Call(entry.id, None), now=desk_of.now)

        with pytest.raises(OfferGone), desk_of.session.begin_nested():
            desk_of.accepts(desk_of.offers()[0])

    def test_whoever_joins_is_thought_of_at_once(self, desk_of: Desk) -> None:
        desk_of.frees()

        desk_of.waits()
        desk_of.works()

        assert len(desk_of.offers()) == 1

    def test_one_lapses_with_its_course(self, desk_of: Desk) -> None:
        entry = desk_of.waits()
        course = facts.step_to_place(desk_of.session, entry.course_step_id)[0].course_id
        assert course is not None
        courses.discontinue(desk_of.session, Call(course, None), by=DESK, now=desk_of.now)

        desk_of.works()

        assert entry.state is WaitingState.LAPSED

    def test_a_step_waits_once(self, desk_of: Desk) -> None:
        entry = desk_of.waits()
        with pytest.raises(Taken):
            desk_of.waits(entry.course_step_id)
        with pytest.raises(Unfit):
            desk_of.waits(latest=desk_of.now)

    def test_a_freed_time_is_over_when_it_has_passed(self, desk_of: Desk) -> None:
        desk_of.frees()

        desk_of.works(4 * DAY)

        assert [one.look_at for one in desk_of.session.scalars(select(FreedTime))] == [None]

    def test_moving_a_visit_frees_its_old_time(self, desk_of: Desk) -> None:
        visit = desk_of.books()
        entry = desk_of.waits()
        move = Move(starts_at=WEDNESDAY_9 + DAY)

        booking.reschedule(desk_of.session, Call(visit.id, None), move, by=DESK, now=desk_of.now)
        desk_of.works()

        assert [one.entry_id for one in desk_of.offers()] == [entry.id]

    @pytest.mark.parametrize("act", ["confirm", "reschedule", "cancel"])
    def test_nobody_can_make_a_visit_of_a_proposed_one_but_by_accepting(
        self, desk_of: Desk, act: str
    ) -> None:
        desk_of.waits()
        desk_of.frees()
        call = Call(desk_of.offers()[0].appointment_id, None)
        acts: dict[str, Any] = {
            "confirm": lambda: booking.confirm(desk_of.session, call, by=DESK, now=desk_of.now),
            "cancel": lambda: booking.cancel(desk_of.session, call, by=DESK, now=desk_of.now),
            "reschedule": lambda: booking.reschedule(
                desk_of.session, call, Move(starts_at=WEDNESDAY_9), by=DESK, now=desk_of.now
            ),
        }
        with pytest.raises(WrongStatus):
            acts[act]()


class TestHolds:
    def hold(self, desk: Desk, hour: int, by: Authority = DESK) -> Appointment:
        order = Order(
            patient_id=make_patient(desk.session)[0],
            starts_at=MONDAY_9 + timedelta(hours=hour),
            step_kind=StepKind.PREPARATION,
            hold=True,
            reasons=Reasons(),
        )
        return booking.book(desk.session, order, by=by, now=desk.now)

    def test_a_caller_holds_so_many_at_most(self, desk_of: Desk) -> None:
        desk_of.set(holds_per_caller=2)
        for hour in (0, 1):
            self.hold(desk_of, hour)
        with pytest.raises(TooManyHolds) as refused:
            self.hold(desk_of, 2)
        assert (refused.value.facts["held"], refused.value.facts["most"]) == (2, 2)
        self.hold(desk_of, 2, Authority("key:other", BUNDLES[Role.SCHEDULER]))

        desk_of.now += timedelta(minutes=15)  # run out, though nobody has swept
        self.hold(desk_of, 3)

    def test_a_booking_is_no_hold(self, desk_of: Desk) -> None:
        desk_of.set(holds_per_caller=1)
        self.hold(desk_of, 0)
        with pytest.raises(SlotTaken):
            booking.book(
                desk_of.session,
                Order(
                    patient_id=desk_of.world.patient_id,
                    starts_at=MONDAY_9,
                    step_kind=StepKind.PREPARATION,
                    assignments=_named(desk_of.world),
                ),
                by=DESK,
                now=desk_of.now,
            )
        assert desk_of.books().status is AppointmentStatus.BOOKED


def _named(world: World) -> tuple[Named, ...]:
    return (Named("therapist", world.therapist), Named("room", world.consulting_room))


class TestOverHttp:
    """The same at the API's doors, on the patient's page, and by text message."""

    @pytest.fixture(autouse=True)
    def at_nine(self, clock: Clock, bound: Any, desk_of: Desk, session: Session) -> None:
        clock.now = NOW
        session.commit()

    def offered(self, desk_of: Desk) -> dict[str, Any]:
        desk_of.waits()
        desk_of.frees()
        desk_of.session.commit()
        [offer] = desk_of.offers()
        return {"id": str(offer.id), "visit": str(offer.appointment_id)}

    def test_a_patient_joins_and_leaves(self, desk: Caller, desk_of: Desk) -> None:
        told = {
            "course_step_id": str(desk_of.step()),
            "weekdays": ["monday", "friday"],
            "not_before": "09:00",
            "before": "12:00",
            "site_id": str(desk_of.world.site_id),
            "standby": True,
        }
        desk_of.session.commit()

        made = desk.post("/waitlist", told)

        assert made.status_code == 201, made.json
        assert {name: made.json[name] for name in told} == told
        assert (made.json["state"], made.json["visit_id"]) == ("waiting", None)
        assert desk.get("/waitlist").json["items"] == [made.json]
        assert desk.post("/waitlist", told).json["type"] == "/problems/already-exists"
        path = f"/waitlist/{made.json['id']}"
        assert desk.post(f"{path}/withdraw").status_code == 428
        assert desk.post(f"{path}/withdraw", etag='"9"').status_code == 412
        left = desk.post(f"{path}/withdraw", etag='"1"')
        assert (left.status_code, left.json["state"]) == (200, "withdrawn")
        assert desk.get("/waitlist").json["items"] == []
        assert desk.get("/waitlist?state=withdrawn").json["items"] == [left.json]

    @pytest.mark.parametrize(
        ("changed", "status", "where"),
        [
            ({"course_step_id": None}, 422, "/course_step_id"),
            ({"course_step_id": str(uuid4())}, 404, None),
            ({"weekdays": ["someday"]}, 422, "/weekdays/0"),
            ({"weekdays": "monday"}, 422, "/weekdays"),
            ({"not_before": "25:00"}, 422, "/not_before"),
            ({"not_before": "12:00", "before": "09:00"}, 422, "/before"),
            (
                {"earliest": "2026-03-09T00:00:00Z", "latest": "2026-03-08T00:00:00Z"},
                422,
                "/latest",
            ),
            ({"latest": "2026-02-01T00:00:00Z"}, 422, None),
            ({"latest": "tomorrow"}, 422, "/latest"),
            ({"site_id": str(uuid4())}, 404, None),
            ({"practitioner_id": str(uuid4())}, 404, None),
            ({"standby": "perhaps"}, 422, "/standby"),
            ({"patient_id": str(uuid4())}, 422, "/patient_id"),
            ({"colour": "blue"}, 422, "/colour"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self,
        desk: Caller,
        desk_of: Desk,
        changed: dict[str, Any],
        status: int,
        where: str | None,
    ) -> None:
        told = {"course_step_id": str(desk_of.step()), **changed}
        desk_of.session.commit()

        answer = desk.post("/waitlist", told)

        assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
        if where is not None:
            assert answer.json["errors"][0]["pointer"] == where
        assert desk.get("/waitlist").json["items"] == []

    def test_the_desk_accepts_for_the_patient(self, desk: Caller, desk_of: Desk) -> None:
        offer = self.offered(desk_of)
        [shown] = desk.get("/offers?state=standing").json["items"]
        assert (shown["starts_at"], shown["kept_until"]) == (
            "2026-03-04T14:00:00Z",
            shown["expires_at"],
        )
        assert [one["starts_at"] for one in desk.get("/freed-times").json["items"]] == [
            "2026-03-04T14:00:00Z"
        ]
        path = f"/offers/{offer['id']}"
        assert desk.post(f"{path}/accept").status_code == 428

        accepted = desk.post(f"{path}/accept", etag='"1"')

        assert (accepted.status_code, accepted.json["state"]) == (200, "accepted")
        visit = desk.get(f"/appointments/{accepted.json['visit_id']}").json
        assert (visit["status"], visit["starts_at"]) == ("booked", "2026-03-04T14:00:00Z")
        again = desk.post(f"{path}/decline", etag='"2"')
        assert (again.status_code, again.json["type"]) == (409, "/problems/offer-gone")

    def test_the_clinic_sets_how_offers_are_made(self, admin: Caller) -> None:
        etag = admin.get("/clinic").headers["ETag"]
        told = {"offer_minutes": 20, "offers_at_once": 3, "holds_per_caller": 5}
        answer = admin("PATCH", "/clinic", told, etag=etag)
        assert {name: answer.json[name] for name in told} == told
        wrong = admin("PATCH", "/clinic", {"offer_minutes": 1}, etag=answer.headers["ETag"])
        assert wrong.json["errors"][0]["pointer"] == "/offer_minutes"

    def test_a_hold_too_many_is_told_plainly(
        self, admin: Caller, desk: Caller, desk_of: Desk, world: World
    ) -> None:
        etag = admin.get("/clinic").headers["ETag"]
        admin("PATCH", "/clinic", {"holds_per_caller": 1}, etag=etag)
        told = {
            "patient_id": str(world.patient_id),
            "step_kind": "preparation",
            "starts_at": MONDAY_9.isoformat(),
        }
        assert desk.post("/appointments/hold", told).status_code == 201

        answer = desk.post("/appointments/hold", {**told, "starts_at": WEDNESDAY_9.isoformat()})

        assert (answer.status_code, answer.json["type"]) == (409, "/problems/too-many-holds")
        assert (answer.json["held"], answer.json["most"]) == (1, 1)
        assert answer.json["next_expires_at"] == "2026-03-01T14:15:00Z"

    def page(self, client: FlaskClient, desk_of: Desk, visit: str) -> str:
        proposed = facts.one(desk_of.session, Appointment, UUID(visit))
        new = links.New(proposed.id, proposed.patient_id, proposed.ends_at)
        [token] = links.mint(reading.raw(desk_of.session), [new])
        desk_of.session.commit()
        client.get(f"/p/{token}")
        told = {"form": form_of(client.get("/p/").text), "birth_date": "1980-05-17"}
        client.post("/p/birth-date", data={**told, "day": "17", "month": "5", "year": "1980"})
        return client.get("/p/").text

    def test_the_patient_takes_it_on_the_page(self, client: FlaskClient, desk_of: Desk) -> None:
        offer = self.offered(desk_of)
        page = self.page(client, desk_of, offer["visit"])
        assert "I take this time" in page
        assert "I will come" not in page

        client.post("/p/confirm", data={"form": form_of(page)})
        answer = client.post("/p/offer/accept", data={"form": form_of(page)})

        assert "The time is yours" in client.get(answer.headers["Location"]).text
        desk_of.session.expire_all()
        assert [one.settled_by for one in desk_of.offers(OfferState.ACCEPTED)] == ["patient"]
        late = client.post("/p/offer/accept", data={"form": form_of(page)})
        assert late.status_code == 422

    def test_the_patient_lets_it_go_on_the_page(self, client: FlaskClient, desk_of: Desk) -> None:
        offer = self.offered(desk_of)
        page = self.page(client, desk_of, offer["visit"])

        answer = client.post("/p/offer/decline", data={"form": form_of(page)})

        assert "You stay on our list" in client.get(answer.headers["Location"]).text
        desk_of.session.expire_all()
        assert len(desk_of.offers(OfferState.DECLINED)) == 1

    @pytest.mark.parametrize(
        ("body", "state", "answers"),
        [("1", OfferState.ACCEPTED, ["noted"]), ("2", OfferState.DECLINED, ["noted"])],
    )
    def test_the_patient_answers_by_text(
        self, client: FlaskClient, desk_of: Desk, body: str, state: OfferState, answers: list[str]
    ) -> None:
        self.by_text(desk_of)
        self.offered(desk_of)
        self.sent(desk_of)

        assert write_in(client, desk_of.world, body) == 200
        assert write_in(client, desk_of.world, body) == 200  # told twice, heard once

        desk_of.session.expire_all()
        assert len(desk_of.offers(state)) == 1
        planned = desk_of.session.scalars(select(Message.kind).where(Message.rule == "noted"))
        assert [str(kind) for kind in planned] == answers

    def test_too_late_by_text_is_told_kindly_once(
        self, client: FlaskClient, desk_of: Desk, clock: Clock
    ) -> None:
        self.by_text(desk_of)
        self.offered(desk_of)
        self.sent(desk_of)
        clock.now = NOW + HALF_AN_HOUR

        write_in(client, desk_of.world, "yes", "SM1")
        write_in(client, desk_of.world, "1", "SM2")

        desk_of.session.expire_all()
        assert len(desk_of.said(MessageKind.OFFER_GONE)) == 1
        assert desk_of.offers(OfferState.ACCEPTED) == []

    def by_text(self, desk_of: Desk) -> None:
        desk_of.set(sms_from=FROM)

    def sent(self, desk_of: Desk) -> None:
        desk_of.session.execute(
            text(
                "UPDATE message SET state = 'sent', released_at = now(), sent_at = now(), "
                "done_at = now(), channel = 'sms' WHERE kind = 'offer'"
            )
        )
        desk_of.session.commit()


def form_of(page: str) -> str:
    found = re.search(r'name="form" value="([^"]+)"', page)
    assert found is not None, page
    return found.group(1)


def test_a_worker_that_sees_every_clinic_takes_its_own(
    committed: Session, committed_world: World, worker_engine: Engine
) -> None:
    make_world(committed, "Another Practice")
    committed.commit()

    with Session(worker_engine) as session:
        enter_clinic(session, committed_world.clinic_id)
        assert facts.clinic(session).clinic_id == committed_world.clinic_id
        for job in JOBS:
            job.run(session, NOW)
