"""A visit with a dose, and what anybody does to it: each deed asks the service, then notes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import (
    Appointment,
    AppointmentEvent,
    ChecklistItem,
    ConsentText,
    Course,
    Departure,
    Override,
    Patient,
    Qualification,
    Reconciliation,
    Screen,
    Slot,
    enter_clinic,
)
from models.vocabulary import (
    Answer,
    AppointmentStatus,
    ClearanceOutcome,
    CourseStatus,
    EligibilityOutcome,
    HoldOutcome,
    Measure,
    MedicineAction,
    Progress,
    TaskStatus,
    WayHome,
)
from scheduler import (
    booking,
    checklists,
    clearances,
    consents,
    courses,
    departures,
    eligibility,
    escorts,
    evidence,
    facts,
    incidents,
    lifecycle,
    medicines,
    observing,
    questionnaires,
    screens,
    sessions,
    suspending,
)
from scheduler.authority import PATIENT, Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.checklists import Settling
from scheduler.clearances import NewClearance
from scheduler.consents import NewText, Signing
from scheduler.departures import Left
from scheduler.eligibility import NewEligibility
from scheduler.errors import Refusal
from scheduler.escorts import NewEscort
from scheduler.history import state_of
from scheduler.lifecycle import Action
from scheduler.medicines import Listed, NewReconciliation, NewRuling
from scheduler.observing import Noted
from scheduler.permissions import Permission
from scheduler.questionnaires import Filled as OnPage
from scheduler.questionnaires import New
from scheduler.screens import NewDecision, NewScreen
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, ZONE, make_protocol, make_world
from tests.integration.walks import account
from tests.integration.walks.account import Account, Asked, Cleared, Decided, Filled, Given, latest
from tests.integration.walks.day import DESK, DOCTOR, GATES, HOUR, LIFT, MINUTE, NURSE, content

Step = tuple[str, int, int, Authority]
"""What is tried, a number of its own, how many minutes after the last, and who tries it."""

UNDER_WAY = {AppointmentStatus.BOOKED, AppointmentStatus.ARRIVED, AppointmentStatus.CHECKED_IN}

FOUND: Mapping[int, dict[str, Answer]] = {
    4: {"hold": Answer.UNKNOWN},
    5: {"caution": Answer.PRESENT},
    6: {"block": Answer.PRESENT},
    7: {"never": Answer.PRESENT},
    8: {"hold": Answer.PRESENT},
}
"""What a screen finds, by the number of the step; else nothing."""

TAKEN: Mapping[int, tuple[str, ...]] = {
    4: ("discuss",),
    5: ("hold-24h",),
    6: ("block",),
    7: ("hold-24h", "block"),
}
"""What a patient takes, by class."""

RULED: Mapping[int, MedicineAction] = {
    6: MedicineAction.NONE,
    7: MedicineAction.BLOCK,
    8: MedicineAction.BLOCK,
}
"""What is ruled; else what the protocol has."""

CALM = dict.fromkeys(("1", "2", "3", "4", "5", "6", "6-recent"), 0)

DECIDED: Mapping[int, tuple[EligibilityOutcome, str | None, int | None, int | None]] = {
    4: (EligibilityOutcome.ELIGIBLE_WITH_CONDITIONS, "an ECG first", None, None),
    5: (EligibilityOutcome.ELIGIBLE, None, None, 1),
    6: (EligibilityOutcome.DEFERRED, None, 1, None),
    7: (EligibilityOutcome.DEFERRED, None, 1, None),
    8: (EligibilityOutcome.NOT_ELIGIBLE, None, None, None),
    9: (EligibilityOutcome.NOT_ELIGIBLE, None, None, None),
}
"""What is decided about the course: the outcome, on what conditions, until in how many days it is
deferred, and in how many it is looked at again."""


FRIDAY_9 = MONDAY_9 - 3 * DAY
LAST_DOSE = MONDAY_9 - 2 * DAY - 15 * MINUTE
"""The gap of two days is over a quarter of an hour before the visit, and no sooner."""

LICENSED: Mapping[int, date] = {8: date(2026, 3, 1), 9: date(2026, 3, 2)}
"""Until when somebody who serves the visit holds a licence, by the number of the step."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where every walk begins: a visit is booked, and nothing else is done."""

    clinic_id: UUID
    visit_id: UUID


def set_out(session: Session) -> Start:
    """Make a clinic, a course of one dose, and a text to agree to; book the dose."""
    world = make_world(session)
    version_id = make_protocol(session, content())
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    first, step = facts.steps_of(session, course.id)
    give_before(session, world.patient_id, first.id)
    write(session, SUNDAY_NOON, renews=False)
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    return Start(world.clinic_id, booking.book(session, order, by=DESK, now=SUNDAY_NOON).id)


def give_before(session: Session, patient_id: UUID, step_id: UUID) -> None:
    """Give a dose so long before that on Monday the gap is over a while before the visit."""
    order = Order(patient_id=patient_id, starts_at=FRIDAY_9, course_step_id=step_id)
    visit = booking.book(session, order, by=DESK, now=FRIDAY_9 - DAY)
    call = Call(visit.id, None)
    sessions.act(session, call, Action.ARRIVE, by=DOCTOR, now=FRIDAY_9)
    for action in (Action.START_DOSING, Action.START_RECOVERY, Action.DISCHARGE, Action.FULFIL):
        sessions.act(session, call, action, by=DOCTOR, now=LAST_DOSE)


def write(session: Session, now: datetime, *, renews: bool) -> ConsentText:
    """Write a version of the text."""
    told = NewText(code="consent", language="en", title="T", body="B", renews=renews)
    return consents.write(session, told, by=DESK, now=now)


class Walk:
    """One visit, and what is done to it."""

    def __init__(self, session: Session, start: Start) -> None:
        enter_clinic(session, start.clinic_id)
        self.session, self.now, self.account = session, SUNDAY_NOON, Account()
        self.visit = facts.one(session, Appointment, start.visit_id)
        assert self.visit.course_id is not None
        self.course = facts.one(session, Course, self.visit.course_id)
        self.patient_id = self.visit.patient_id
        self.texts = list(session.scalars(select(ConsentText)))
        self.account.texts = [(one.written_at, one.renews) for one in self.texts]
        self.responses: dict[UUID, Filled] = {}
        self.account.last_dose = LAST_DOSE
        self.screens: list[Screen] = []
        self.lists: list[Reconciliation] = []
        self.departures: list[Departure] = []
        self.overrides: list[Override] = []
        self.taken_back: set[UUID] = set()

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
        if what in set(Action):
            self._act(Action(what), by)
        else:
            deed: Callable[[int, Authority], None] = getattr(self, f"_{what}")
            deed(number, by)

    @property
    def at(self) -> datetime:
        """As of when the visit is judged."""
        here = self.visit.progress is not None
        return self.now if here else max(self.now, self.visit.starts_at)

    def _act(self, action: Action, by: Authority) -> None:
        before, at = (self.visit.status, self.visit.progress), self.at
        sessions.act(self.session, Call(self.visit.id, None), action, by=by, now=self.now)
        starts_at = self.visit.starts_at
        if action in {Action.ARRIVE, Action.START_DOSING}:
            assert not self.account.amiss(starts_at, self.now)
            assert self.account.is_rested(at)
        if action is Action.ARRIVE:
            zone = ZoneInfo(ZONE)
            assert self.now.astimezone(zone).date() == starts_at.astimezone(zone).date()
            assert not self.account.shut("arrival", at)
        if action is Action.START_DOSING:
            assert before == (AppointmentStatus.ARRIVED, Progress.WAITING)
            assert not self.account.shut("dose", at)
            self.account.dosed_at = self.now
        if action is Action.DISCHARGE:
            assert not self.account.shut("discharge", at)

    def _clear(self, number: int, by: Authority) -> None:
        refused = number > 7
        outcome = ClearanceOutcome.REFUSED if refused else ClearanceOutcome.CLEARED
        told = NewClearance(gate="medical-clearance", outcome=outcome, cleared_at=self.now)
        clearances.clear(self.session, self.patient_id, told, by=by, now=self.now)
        assert by.practitioner_roles >= ({"prescriber"} if not refused else set())
        self.account.cleared = Cleared(self.now, refused)

    def _write(self, number: int, by: Authority) -> None:
        """A new version of the text, which may end the consents given to those before."""
        if by.is_staff:  # the service lets staff alone
            renews = number > 4
            self.texts.append(write(self.session, self.now, renews=renews))
            self.account.texts.append((self.now, renews))

    def _agree(self, number: int, by: Authority) -> None:
        """A patient signs what they see on their page, or staff note what is on paper."""
        read = self.texts[0] if number in {6, 7} else self.texts[-1]
        refused = number > 7
        if by == PATIENT:
            page = Signing(
                number=1, text_id=read.id, pair=(None, None), name="Ada Example", address=None
            )
            answer = consents.decline if refused else consents.sign
            was_met = self.account.is_met("consent", self.at)
            was_refused = self.account.consent is not None and self.account.consent.refused
            answer(self.session, self.visit, page, now=self.now)
            assert read is self.texts[-1]
            assert not was_met
            assert not was_refused
        else:
            outcome = ClearanceOutcome.REFUSED if refused else ClearanceOutcome.CLEARED
            told = NewClearance(
                gate="consent", outcome=outcome, cleared_at=self.now, text_id=read.id
            )
            clearances.clear(self.session, self.patient_id, told, by=by, now=self.now)
            assert by == NURSE or (refused and by == DOCTOR)
        self.account.consent = Cleared(self.now, refused, read.number)

    def _screen(self, number: int, by: Authority) -> None:
        found = FOUND.get(number, {})
        at = self.now - 4 * DAY if number == 9 else self.now
        answers = dict.fromkeys(("never", "block", "hold", "caution"), Answer.ABSENT) | found
        told = NewScreen(screened_at=at, answers=answers, notes={})
        row = screens.record(self.session, self.patient_id, told, by=by, now=self.now)
        assert by.practitioner_roles
        self.screens.append(row)
        seen = {code: answer.value for code, answer in found.items()}
        self.account.screens.append(Asked(at, self.now, seen, {}))

    def _decide(self, number: int, by: Authority) -> None:
        """Somebody decides about the hold of a screen: of the one that counts, or the first."""
        if not self.screens:
            return
        which = self._one_of(self.account.screens, number)
        outcome = HoldOutcome.GO_AHEAD if number < 6 else HoldOutcome.REFUSED
        told = NewDecision(condition="hold", outcome=outcome, reason="for this walk")
        screens.decide(self.session, self.screens[which], told, by=by, now=self.now)
        line = self.account.screens[which]
        assert line is latest(self.account.screens)
        assert line.found.get("hold") == "present"
        assert by.practitioner_roles
        line.said["hold"] = outcome.value, self.now

    def _reconcile(self, number: int, by: Authority) -> None:
        classes = TAKEN.get(number, ())
        at = self.now - 4 * DAY if number == 9 else self.now
        listed = [Listed(name=f"A {one}", medicine_class=one) for one in classes]
        told = NewReconciliation(reconciled_at=at, medicines=listed)
        row = medicines.reconcile(self.session, self.patient_id, told, by=by, now=self.now)
        assert by.practitioner_roles
        self.lists.append(row)
        self.account.lists.append(Asked(at, self.now, {one: one for one in classes}, {}))

    def _rule(self, number: int, by: Authority) -> None:
        if not self.lists:
            return
        which = self._one_of(self.account.lists, number)
        line = self.account.lists[which]
        code = ("hold-24h", "block")[number % 2]
        action = RULED.get(number, MedicineAction(code))
        told = NewRuling(medicine_class=code, action=action, reason="for this walk")
        medicines.rule(self.session, self.lists[which], told, by=by, now=self.now)
        assert line is latest(self.account.lists)
        assert code in line.found
        assert by == DOCTOR
        line.said[code] = action.value, self.now

    def _one_of(self, lines: list[Asked], number: int) -> int:
        """The line that counts; rarely the first."""
        counts = latest(lines)
        return 0 if number == 9 else next(n for n, one in enumerate(lines) if one is counts)

    def _go_on(self, number: int, by: Authority) -> None:
        """Somebody decides whether the course goes on."""
        plain = (EligibilityOutcome.ELIGIBLE, None, None, None)
        outcome, conditions, deferred, again = DECIDED.get(number, plain)
        today = (self.now - 5 * 60 * MINUTE).date()  # in New York, give or take an hour
        through = None if again is None else today + again * DAY
        told = NewEligibility(
            outcome=outcome,
            reason="for this walk",
            conditions=conditions,
            deferred_until=None if deferred is None else today + deferred * DAY,
            rescreen_on=through,
        )
        eligibility.decide(self.session, self.course.id, told, by=by, now=self.now)
        assert by == DOCTOR
        goes_on = outcome not in {EligibilityOutcome.DEFERRED, EligibilityOutcome.NOT_ELIGIBLE}
        self.account.decided = Decided(goes_on, self.now, through)

    def _fill_in(self, number: int, by: Authority) -> None:
        """Calm up to 3, else high: now or, from paper, an hour ago. The patient's: on the page."""
        high = number > 3
        answers = CALM | {"5": int(high)}
        if by == PATIENT:
            self._on_the_page(number, answers)
            return
        at = self.now - HOUR if number in {3, 9} else self.now
        told = New(self.patient_id, "c-ssrs", at, answers)
        row = questionnaires.enter(self.session, told, by=by, now=self.now)
        self.responses[row.id] = Filled(at, self.now, high, by == DOCTOR)
        self.account.filled.append(self.responses[row.id])

    def _on_the_page(self, number: int, answers: dict[str, int]) -> None:
        """From 8 on only one answer is given, and kept; else all of them, and sent."""
        kept = {"5": answers["5"]} if number > 7 else answers
        page = OnPage("c-ssrs", kept)
        draft = self.account.draft
        if number > 7:
            questionnaires.keep(self.session, self.visit, page, now=self.now)
            if draft is None:
                line = Filled(self.now, self.now, True, False, whole=False)
                self.account.draft = line
                self.account.filled.append(line)
            return
        row = questionnaires.send(self.session, self.visit, page, by=PATIENT, now=self.now)
        high = draft is not None or answers["5"] == 1
        if draft is not None:
            self.account.filled.remove(draft)
            self.account.draft = None
        self.responses[row.id] = Filled(self.now, self.now, high, False)
        self.account.filled.append(self.responses[row.id])

    def _put_right(self, number: int, by: Authority) -> None:
        """Somebody says that a response was entered in error: mostly the last."""
        if not self.responses:
            return
        ids = list(self.responses)
        which = ids[0] if number > 6 else ids[-1]
        told = New(self.patient_id, "c-ssrs", self.now, replaces=which, in_error=True)
        questionnaires.enter(self.session, told, by=by, now=self.now)
        assert by.practitioner_roles
        line = self.responses[which]
        assert line.counts
        line.counts, line.decided = False, by == DOCTOR

    def _escort(self, number: int, by: Authority) -> None:
        told = NewEscort(
            name=f"Evan {number}", phone="+12125550199", relation="friend", confirmed=number < 8
        )
        escort = escorts.name_escort(self.session, self.visit.id, told, by=by, now=self.now)
        self.account.escort = escort.confirmed_at is not None
        assert not self.account.escort or by.is_staff or number < 8

    def _tick(self, number: int, by: Authority) -> None:
        query = select(ChecklistItem).where(
            ChecklistItem.appointment_id == self.visit.id, ChecklistItem.code == "fasting"
        )
        item = self.session.scalars(query.with_for_update()).one()
        status = TaskStatus.COMPLETED if number < 8 else TaskStatus.REQUESTED
        checklists.settle(self.session, item, Settling(status=status), by=by, now=self.now)
        if self.account.fasting and number >= 8:
            self.account.not_after_all = self.now
        self.account.fasting = number < 8

    def _measure(self, number: int, by: Authority) -> None:
        systolic = 120.0 + 5 * number
        noted = Noted(values={Measure.SYSTOLIC: systolic}, taken_at=self.now)
        observing.note(self.session, self.visit.id, noted, by=by, now=self.now)
        assert by.practitioner_roles
        self.account.systolic = systolic, self.now

    def _go_wrong(self, number: int, by: Authority) -> None:
        if not by.is_staff:
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
            assert by.may(Permission.CHECKLISTS_SIGN)
            self.account.cared_for = True

    def _review(self, number: int, by: Authority) -> None:
        """The clock looks: what is not ready two hours before does not go ahead, else it does."""
        suspending.review(self.session, self.now)
        self.session.refresh(self.visit)
        due = self.visit.starts_at - 120 * MINUTE <= self.now < self.visit.ends_at
        if self.visit.status is AppointmentStatus.BOOKED and due:
            wrong = self.account.amiss(self.visit.starts_at, self.now)
            is_ready = not (self.account.shut("arrival", self.at) or wrong)
            assert (self.visit.suspended_at is None) is is_ready

    def _born(self, number: int, by: Authority) -> None:
        """The day on which the patient was born is put right."""
        self.account.of_age = number < 8
        patient = facts.one(self.session, Patient, self.patient_id)
        patient.birth_date = date(1990, 1, 1) if number < 8 else date(2008, 3, 20)
        self.session.flush()

    def _license(self, number: int, by: Authority) -> None:
        """The licence of the monitor is ended, or renewed."""
        until = LICENSED.get(number, date(2030, 12, 31))
        query = select(Qualification).where(Qualification.role == "monitor")
        self.session.scalars(query).one().valid_until = until
        self.session.flush()
        self.account.licensed_until = until

    def _override(self, number: int, by: Authority) -> None:
        code = list(GATES)[number % len(GATES)]
        reasons = Reasons({code: "for this walk"})
        [row] = sessions.override(self.session, self.visit.id, reasons, by=by, now=self.now)
        assert by.practitioner_roles & self.account.lift(code)
        self.overrides.append(row)
        self.account.reasons.append(Given(row.id, code, self.now))

    def _withdraw(self, number: int, by: Authority) -> None:
        """What somebody passed over was passed over by mistake: the last of it, or any."""
        if not self.overrides:
            return
        row = self.overrides[-1 if number < 5 else number % len(self.overrides)]
        call = Call(self.visit.id, None, "of another patient")
        sessions.take_back(self.session, call, row.id, by=by, now=self.now)
        assert by.practitioner_roles & LIFT[row.code]
        assert row.id not in self.taken_back
        self.taken_back.add(row.id)
        self.account.reasons = [one for one in self.account.reasons if one.id != row.id]

    def _leave(self, number: int, by: Authority) -> None:
        """Somebody notes how the patient left, or another way in its place; rarely once more."""
        last = self.account.left
        told = Left(
            way=WayHome.ESCORT if number < 6 else WayHome.ALONE,
            left_at=self.now,
            deviation="for this walk",
            replaces=None if last is None or number == 5 else last.id,
        )
        row = departures.note(self.session, self.visit.id, told, by=by, now=self.now)
        assert by.practitioner_roles
        assert self.account.dosed_at is not None
        assert last is None or number != 5
        self.departures.append(row)
        self.account.left = account.Left(row.id, number < 6, self.now)

    def _stay(self, number: int, by: Authority) -> None:
        """The patient never left as it was noted: the last of it; rarely the first."""
        if not self.departures:
            return
        row = self.departures[0 if number == 9 else -1]
        call = Call(self.visit.id, None, "of another patient")
        departures.take_back(self.session, call, row.id, by=by, now=self.now)
        assert by.practitioner_roles
        assert self.account.left is not None
        assert self.account.left.id == row.id
        self.account.left = None

    def _move(self, number: int, by: Authority) -> None:
        to = MONDAY_9 + (number % 3) * DAY
        was = self.visit.starts_at
        booking.reschedule(
            self.session, Call(self.visit.id, None), Move(starts_at=to), by=by, now=self.now
        )
        assert self.account.is_met("eligibility", to)
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
        acts = [event.action for event in events]
        if self.visit.status is AppointmentStatus.FULFILLED:
            assert acts.index(Action.START_DOSING) < acts.index(Action.DISCHARGE)
        self._check_suspended(events)
        self._check_gates()

    def _check_suspended(self, events: Sequence[AppointmentEvent]) -> None:
        """It is suspended by a line of its history, and until another, or until it is moved."""
        turns = [
            event.action
            for event in events
            if event.action in {"suspend", "resume"}
            or (event.action == Action.RESCHEDULE and event.facts["from"] != event.facts["to"])
        ]
        assert (self.visit.suspended_at is not None) is (turns[-1:] == ["suspend"])
        assert self.visit.progress is None or self.visit.suspended_at is None

    def _check_gates(self) -> None:
        """What the service says of every gate is what the account says."""
        if self.visit.status in UNDER_WAY:
            judged = evidence.judge(self.session, [self.visit], self.now)[self.visit.id]
            shut = {one.gate.code for one in judged.gates if one.is_shut}
            wrong = self.account.amiss(self.visit.starts_at, self.now)
            assert shut == self.account.all_shut(self.at) | wrong

    def take_back(self) -> None:
        """Whatever came of it, one act takes it back, and the step can be booked again."""
        overrides = self.session.scalars(select(Override)).all()
        names = {one.name: one.practitioner_roles for one in (NURSE, DOCTOR)}
        assert all(names[one.by] & LIFT[one.code] for one in overrides)
        assert Action.ENTER_IN_ERROR in lifecycle.possible(state_of(self.visit), self.visit.kind)
        call = Call(self.visit.id, None, "of another patient")
        sessions.correct(self.session, call, by=DOCTOR, now=self.now)
        self.check()
        assert self.visit.status is AppointmentStatus.ENTERED_IN_ERROR
        query = select(func.count()).where(Slot.appointment_id == self.visit.id)
        assert self.session.scalars(query).one() == 0
        assert self.course.status is CourseStatus.ACTIVE
        self._go_on(0, DOCTOR)
        self._born(0, DESK)
        self._license(0, DESK)
        monday = next(
            MONDAY_9 + n * 7 * DAY for n in range(60) if MONDAY_9 + n * 7 * DAY > self.now
        )
        step_id = self.visit.course_step_id
        order = Order(patient_id=self.patient_id, starts_at=monday, course_step_id=step_id)
        booking.book(self.session, order, by=DESK, now=self.now)
