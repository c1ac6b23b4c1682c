"""Random walks over the life of a dosing visit, each asked of a real PostgreSQL.

Whoever does whatever, at whatever time: no state without its events; nothing begins or ends
while something that keeps the patient safe is open, by an account that is kept here apart from
the rules; and whatever came of it can be taken back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from models import AppointmentEvent, ChecklistItem, Slot
from models.vocabulary import (
    AppointmentStatus,
    ClearanceOutcome,
    Measure,
    Progress,
    Role,
    TaskStatus,
)
from scheduler import (
    booking,
    checklists,
    clearances,
    courses,
    escorts,
    facts,
    incidents,
    lifecycle,
    observing,
    sessions,
    suspending,
)
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.checklists import Settling
from scheduler.clearances import NewClearance
from scheduler.errors import Refusal
from scheduler.escorts import NewEscort
from scheduler.history import state_of
from scheduler.lifecycle import Action
from scheduler.observing import Noted
from tests.factories import (
    DAY,
    MONDAY_9,
    SOURCE,
    SUNDAY_NOON,
    figure,
    gate,
    make_protocol,
    make_world,
    protocol_content,
)
from tests.properties import cases

MINUTE = timedelta(minutes=1)
DESK = Authority("key:desk", Role.SCHEDULER)
NURSE = Authority("key:nurse", Role.CLINICIAN, None, frozenset({"monitor"}))
DOCTOR = Authority("key:doctor", Role.CLINICIAN, None, frozenset({"prescriber"}))
PATIENT = Authority("patient")
PEOPLE = (DESK, NURSE, DOCTOR, PATIENT)

GATES = {
    "medical-clearance": "dose",
    "transport-home": "dose",
    "fasting": "dose",
    "vitals": "dose",
    "observation": "discharge",
    "care": "discharge",
}
LIFT = {
    "medical-clearance": {"prescriber"},
    "transport-home": {"prescriber"},
    "fasting": {"prescriber", "monitor"},
    "vitals": {"prescriber"},
    "observation": set(),
    "care": {"prescriber"},
}


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-walks", "caps": [], "gaps": []}
    dosing = told["visits"]["dosing"]
    limit = {"measure": "systolic", "pass": {"most": 140}, "source": SOURCE}
    dosing["gates"] = [
        gate(
            "medical-clearance",
            "arrival",
            holds=figure(2, "d"),
            ends_on=["adverse-event"],
            who=["prescriber"],
            lift=["prescriber"],
        ),
        gate("transport-home", "arrival", "escort", lift=["prescriber"]),
        gate("fasting", "arrival", "checklist", lift=["prescriber", "monitor"]),
        gate(
            "vitals",
            "dose",
            "measurement",
            holds=figure(30, "min"),
            limits=[limit],
            lift=["prescriber"],
        ),
        gate("observation", "discharge", "observation", minutes=figure(120, "min"), lift=[]),
        gate("care", "discharge", "incidents", lift=["prescriber"]),
    ]
    dosing["suspend"] = {"when": {"hours": -2, "from": "start"}, "source": SOURCE}
    told["incidents"] = [
        {
            "code": "crisis",
            "title": "A crisis",
            "urgent": True,
            "health_event": "adverse-event",
            "source": SOURCE,
            "checklist": [
                {
                    "code": "doctor-told",
                    "title": "Doctor told",
                    "owner": "clinician",
                    "due_after": figure(5, "min"),
                    "gate": "care",
                }
            ],
        }
    ]
    dosing["checklist"] = [
        {
            "code": "fasting",
            "title": "Nothing eaten",
            "owner": "patient",
            "due_before": figure(24, "h"),
            "gate": "fasting",
        }
    ]
    told["steps"] = [{"key": "dosing", "visit": "dosing"}]
    return told


@dataclass
class Account:
    """What is known of each gate, kept apart from the rules."""

    cleared_at: datetime | None = None
    refused: bool = False
    escort: bool = False
    fasting: bool = False
    systolic: tuple[float, datetime] | None = None
    dosed_at: datetime | None = None
    went_wrong_at: datetime | None = None
    """When something last did, which ends the clearance."""
    cared_for: bool = True
    reasons: dict[str, datetime] = field(default_factory=dict)

    def is_open(self, code: str, now: datetime) -> bool:
        """Whether nothing speaks against it at `now`, with the patient here."""
        return self._met(code, now) or self._excused(code)

    def _met(self, code: str, now: datetime) -> bool:
        if code == "medical-clearance":
            return (
                self.cleared_at is not None
                and not self.refused
                and not self._is_ended()
                and now <= self.cleared_at + 2 * DAY
            )
        if code == "care":
            return self.cared_for
        if code == "transport-home":
            return self.escort
        if code == "fasting":
            return self.fasting
        if code == "vitals":
            last = self.systolic
            return last is not None and last[0] <= 140 and now <= last[1] + 30 * MINUTE
        return self.dosed_at is not None and now >= self.dosed_at + 120 * MINUTE

    def _excused(self, code: str) -> bool:
        given = self.reasons.get(code)
        if given is None or code == "observation":
            return False
        wrong = self.went_wrong_at
        if wrong is not None and given < wrong:
            about_it = code == "care" or (code == "medical-clearance" and self._is_ended())
            if about_it:
                return False
        last = self.systolic
        beyond = code == "vitals" and last is not None and last[0] > 140
        return not (beyond and last is not None and last[1] > given)

    def _is_ended(self) -> bool:
        """Whether what happened ended a clearance that was given before it."""
        cleared, wrong = self.cleared_at, self.went_wrong_at
        if cleared is None or wrong is None or self.refused:
            return False
        return cleared < wrong


Step = tuple[str, int, int, Authority]
"""What is tried, a number of its own, how many minutes after the last, and who tries it."""

ACTS = [
    Action.ARRIVE,
    Action.START_DOSING,
    Action.START_RECOVERY,
    Action.DISCHARGE,
    Action.FULFIL,
    Action.NOSHOW,
]
TRIED = [
    *ACTS,
    *ACTS,
    "clear",
    "escort",
    "tick",
    "measure",
    "measure",
    "override",
    "go_wrong",
    "look_after",
    "review",
    "move",
    "cancel",
]

steps = st.lists(
    st.tuples(
        st.sampled_from(TRIED),
        st.integers(0, 9),
        st.sampled_from([0, 1, 5, 29, 30, 31, 119, 120, 121, 24 * 60]),
        st.sampled_from(PEOPLE),
    ),
    max_size=30,
)
WELL = [
    ("clear", 0, 0, DOCTOR),
    ("escort", 0, 0, DESK),
    ("tick", 0, 0, PATIENT),
    (Action.ARRIVE, 0, 20 * 60, DESK),
    ("measure", 0, 60, NURSE),
    (Action.START_DOSING, 0, 5, DOCTOR),
    (Action.START_RECOVERY, 0, 90, DOCTOR),
    (Action.DISCHARGE, 0, 31, DOCTOR),
    (Action.FULFIL, 0, 1, DOCTOR),
]
"""A day on which everything goes well."""


class Walk:
    """One visit, and what is done to it."""

    def __init__(self, session: Session) -> None:
        self.session, self.now, self.account = session, SUNDAY_NOON, Account()
        world = make_world(session)
        version_id = make_protocol(session, content())
        self.course = courses.open_course(session, world.patient_id, version_id, by=DESK)
        [step] = facts.steps_of(session, self.course.id)
        self.patient_id, self.step_id = world.patient_id, step.id
        order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
        self.visit = booking.book(session, order, by=DESK, now=self.now)

    def go(self, step: Step) -> None:
        what, number, minutes, by = step
        self.now += minutes * MINUTE
        attempt = self.session.begin_nested()
        try:
            self._try(what, number, by)
            attempt.commit()
        except Refusal:
            attempt.rollback()
            self.session.expire_all()
        self.check()

    def _try(self, what: str, number: int, by: Authority) -> None:
        if what in ACTS:
            self._act(Action(what), by)
        else:
            getattr(self, f"_{what}")(number, by)

    def _act(self, action: Action, by: Authority) -> None:
        before = self.visit.status, self.visit.progress
        sessions.act(self.session, Call(self.visit.id, None), action, by=by, now=self.now)
        if action is Action.ARRIVE:
            assert self._open("arrive", max(self.now, self.visit.starts_at))
        if action is Action.START_DOSING:
            assert before == (AppointmentStatus.ARRIVED, Progress.WAITING)
            assert self._open("dose", self.now)
            self.account.dosed_at = self.now
        if action is Action.DISCHARGE:
            assert self.account.is_open("observation", self.now)
            assert self.account.is_open("care", self.now)

    def _open(self, stage: str, now: datetime) -> bool:
        asked = [code for code, shuts in GATES.items() if shuts == "dose"]
        if stage == "arrive":
            asked.remove("vitals")
        return all(self.account.is_open(code, now) for code in asked)

    def _clear(self, number: int, by: Authority) -> None:
        refused = number > 7
        outcome = ClearanceOutcome.REFUSED if refused else ClearanceOutcome.CLEARED
        told = NewClearance(gate="medical-clearance", outcome=outcome, cleared_at=self.now)
        clearances.clear(self.session, self.patient_id, told, by=by, now=self.now)
        assert "prescriber" in by.practitioner_roles or refused
        self.account.cleared_at, self.account.refused = self.now, refused

    def _escort(self, number: int, by: Authority) -> None:
        told = NewEscort(
            name=f"Evan {number}", phone="+12125550199", relation="friend", confirmed=number < 8
        )
        escort = escorts.name_escort(self.session, self.visit.id, told, by=by, now=self.now)
        self.account.escort = escort.confirmed_at is not None
        assert not self.account.escort or by.role is not None or number < 8

    def _tick(self, number: int, by: Authority) -> None:
        query = select(ChecklistItem).where(ChecklistItem.appointment_id == self.visit.id)
        item = self.session.scalars(query.with_for_update()).one()
        status = TaskStatus.COMPLETED if number < 8 else TaskStatus.REQUESTED
        checklists.settle(self.session, item, Settling(status=status), by=by, now=self.now)
        self.account.fasting = number < 8

    def _measure(self, number: int, by: Authority) -> None:
        systolic = 120.0 + 5 * number
        noted = Noted(values={Measure.SYSTOLIC: systolic}, taken_at=self.now)
        observing.note(self.session, self.visit.id, noted, by=by, now=self.now)
        assert by.practitioner_roles
        self.account.systolic = systolic, self.now

    def _go_wrong(self, number: int, by: Authority) -> None:
        if by.role is None:
            return  # the service lets staff alone
        told = incidents.Told(
            patient_id=self.patient_id,
            code="crisis",
            occurred_at=self.now,
            appointment_id=None if self.visit.progress is None else self.visit.id,
        )
        incidents.record(self.session, told, by=by, now=self.now)
        self.account.went_wrong_at, self.account.cared_for = self.now, False

    def _look_after(self, number: int, by: Authority) -> None:
        query = select(ChecklistItem).where(
            ChecklistItem.incident_id.is_not(None), ChecklistItem.status == TaskStatus.REQUESTED
        )
        for item in self.session.scalars(query.with_for_update()).all():
            settling = Settling(status=TaskStatus.COMPLETED)
            incidents.settle(self.session, item, settling, by=by, now=self.now)
            assert by.role is Role.CLINICIAN
            self.account.cared_for = True

    def _review(self, number: int, by: Authority) -> None:
        """The clock looks: what is not ready two hours before does not go ahead."""
        suspending.review(self.session, self.now)
        self.session.refresh(self.visit)
        due = self.visit.starts_at - 120 * MINUTE <= self.now < self.visit.ends_at
        if self.visit.status is AppointmentStatus.BOOKED and due:
            ready = self._open("arrive", max(self.now, self.visit.starts_at))
            assert (self.visit.suspended_at is None) is ready

    def _override(self, number: int, by: Authority) -> None:
        code = list(GATES)[number % len(GATES)]
        reasons = Reasons({code: "for this walk"})
        sessions.override(self.session, self.visit.id, reasons, by=by, now=self.now)
        assert by.practitioner_roles & LIFT[code]
        self.account.reasons[code] = self.now

    def _move(self, number: int, by: Authority) -> None:
        to = MONDAY_9 + (number % 3) * DAY
        was = self.visit.starts_at
        booking.reschedule(
            self.session, Call(self.visit.id, None), Move(starts_at=to), by=by, now=self.now
        )
        if to != was:  # what was promised for the old day is asked again
            self.account.reasons.clear()
            self.account.fasting = self.account.escort = False

    def _cancel(self, number: int, by: Authority) -> None:
        if number > 5:  # most walks go on
            booking.cancel(self.session, Call(self.visit.id, None), by=by, now=self.now)

    def check(self) -> None:
        """What holds wherever the walk stands."""
        events = self.session.scalars(
            select(AppointmentEvent)
            .where(AppointmentEvent.appointment_id == self.visit.id)
            .order_by(AppointmentEvent.at, AppointmentEvent.id)
        ).all()
        assert events[-1].to_status is self.visit.status
        assert events[-1].progress is self.visit.progress
        for earlier, later in pairwise(events):
            assert later.from_status is earlier.to_status
        if self.visit.status is AppointmentStatus.FULFILLED:
            acts = [event.action for event in events]
            assert acts.index(Action.START_DOSING) < acts.index(Action.DISCHARGE)

    def take_back(self) -> None:
        """Whatever came of it, one act takes it back, and the step can be booked again."""
        assert Action.ENTER_IN_ERROR in lifecycle.possible(state_of(self.visit), self.visit.kind)
        call = Call(self.visit.id, None, "of another patient")
        sessions.correct(self.session, call, by=DOCTOR, now=self.now)
        self.check()
        assert self.visit.status is AppointmentStatus.ENTERED_IN_ERROR
        query = select(func.count()).where(Slot.appointment_id == self.visit.id)
        assert self.session.scalars(query).one() == 0
        assert self.course.status == "active"
        monday = next(
            MONDAY_9 + n * 7 * DAY for n in range(60) if MONDAY_9 + n * 7 * DAY > self.now
        )
        order = Order(patient_id=self.patient_id, starts_at=monday, course_step_id=self.step_id)
        booking.book(self.session, order, by=DESK, now=self.now)


@contextmanager
def _passing(engine: Engine) -> Iterator[Session]:
    """A session of which nothing stays."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        outer.rollback()


@pytest.mark.timeout(0)
@cases(100)
@given(walk=steps)
def test_no_walk_gets_past_what_is_open_and_each_can_be_taken_back(
    service_engine: Engine, walk: list[Step]
) -> None:
    with _passing(service_engine) as session:
        here = Walk(session)
        for step in walk:
            here.go(step)
        here.take_back()


@pytest.mark.timeout(0)
@cases(100)
@given(
    strays=st.lists(
        st.tuples(
            st.integers(0, 9), st.sampled_from(TRIED), st.integers(0, 9), st.sampled_from(PEOPLE)
        ),
        max_size=6,
    )
)
def test_nor_does_a_day_that_goes_astray(
    service_engine: Engine, strays: list[tuple[int, str, int, Authority]]
) -> None:
    """A good day, with strays in between: so that many walks reach the end."""
    walk: list[Step] = list(WELL)
    for place, what, number, by in sorted(strays, key=lambda one: -one[0]):
        walk.insert(place, (what, number, 1, by))
    with _passing(service_engine) as session:
        here = Walk(session)
        for step in walk:
            here.go(step)
        here.take_back()


def test_a_good_day_ends_well(service_engine: Engine) -> None:
    with _passing(service_engine) as session:
        here = Walk(session)
        for step in WELL:
            here.go(step)
        assert here.visit.status is AppointmentStatus.FULFILLED
        assert here.course.status == "completed"
        here.take_back()
