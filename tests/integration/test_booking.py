"""Booking, asked of the rules and a real PostgreSQL."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models import Appointment, AppointmentEvent, ChecklistItem, CourseStep, Message, Slot
from models.vocabulary import (
    AppointmentStatus,
    GateState,
    MessageKind,
    MessageState,
    PractitionerRole,
    Recipient,
    Role,
    StepKind,
    TaskStatus,
)
from scheduler import booking, checklists, courses, escorts, evidence, facts, sessions
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.checklists import Settling
from scheduler.errors import (
    MayNotOverride,
    NoOpening,
    NotOpen,
    NotQualified,
    NotReady,
    RuleBroken,
    SlotTaken,
    StartsInThePast,
    StepAlreadyBooked,
    Unfit,
    UnfitAssignment,
)
from scheduler.escorts import NewEscort
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from scheduler.placing import Named
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    clear,
    make_device,
    make_patient,
    make_practitioner,
    make_protocol,
    make_room,
    protocol_content,
    rule,
)

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
HOUR = timedelta(hours=1)
NEXT_MONDAY = MONDAY_9 + 7 * DAY


def preparation(world: World, **changes: object) -> Order:
    order = Order(
        patient_id=world.patient_id,
        starts_at=MONDAY_9,
        step_kind=StepKind.PREPARATION,
        assignments=(
            Named("therapist", world.therapist),
            Named("room", world.consulting_room),
        ),
    )
    return replace(order, **changes)  # type: ignore[arg-type]


def dosing(world: World, **changes: object) -> Order:
    order = Order(patient_id=world.patient_id, starts_at=NEXT_MONDAY, step_kind=StepKind.DOSING)
    return replace(order, **changes)  # type: ignore[arg-type]


def book(session: Session, order: Order, by: Authority = DESK) -> Appointment:
    return booking.book(session, order, by=by, now=SUNDAY_NOON)


class TestBook:
    def test_takes_the_people_the_room_and_the_patient(
        self, session: Session, world: World
    ) -> None:
        appointment = book(session, preparation(world))

        assert appointment.status is AppointmentStatus.BOOKED
        assert appointment.ends_at == MONDAY_9 + HOUR
        taken = session.scalars(select(Slot.schedule_id)).all()
        assert set(taken) == {world.therapist, world.consulting_room, world.patient}

    def test_each_phase_takes_its_own_length_and_the_turnover_after_it(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])

        book(session, dosing(world))

        minutes = sorted(
            (slot.role, slot.lane, str(slot.status), (slot.ends_at - slot.starts_at).seconds // 60)
            for slot in session.scalars(select(Slot))
        )
        assert minutes == [
            ("device", 0, "busy", 180),
            ("monitor", 0, "busy", 180),
            ("patient", 0, "busy", 180),
            ("prescriber", 0, "busy", 20),
            ("room", 0, "busy", 180),
            ("room", 0, "busy-unavailable", 20),
            ("therapist", 0, "busy", 180),
        ]

    def test_writes_history_checklist_and_messages_with_it(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])

        appointment = book(session, dosing(world))

        assert session.scalars(select(AppointmentEvent.action)).all() == ["book"]
        items = session.execute(select(ChecklistItem.code, ChecklistItem.due_at)).all()
        assert dict(items) == {
            "fasting": appointment.starts_at - DAY,
            "call-escort": appointment.starts_at - DAY,
        }
        due = session.execute(select(Message.kind, Message.due_at)).all()
        assert dict(due) == {
            MessageKind.CONFIRMATION: SUNDAY_NOON + timedelta(hours=2),  # 09:00, out of the night
            # The clocks go forward on 8 March: the same wall time is an hour more of elapsed time.
            MessageKind.CHECKLIST_REQUEST: NEXT_MONDAY - 7 * DAY + HOUR,
            MessageKind.REMINDER: NEXT_MONDAY - timedelta(hours=72),
            MessageKind.CONFIRM_REQUEST: NEXT_MONDAY - DAY,
            MessageKind.AFTERCARE: NEXT_MONDAY + DAY,
        }

    def test_refuses_with_the_gates_that_are_shut(self, session: Session, world: World) -> None:
        clear(session, world.patient_id, ["consent"])

        with pytest.raises(NotReady) as refusal:
            book(session, dosing(world))

        assert [gate["code"] for gate in refusal.value.facts["gates"]] == ["medical-clearance"]  # type: ignore[attr-defined]

    def test_a_prescriber_may_open_a_gate_with_a_reason(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["consent"])
        order = dosing(world, reasons=Reasons({"medical-clearance": "Seen by phone."}))

        with pytest.raises(MayNotOverride):
            book(session, order)
        assert book(session, order, by=DOCTOR).status is AppointmentStatus.BOOKED

    @pytest.mark.parametrize(
        ("minutes_apart", "fits"), [(-60, True), (-55, False), (0, False), (55, False), (60, True)]
    )
    def test_lets_visits_touch_but_not_overlap(
        self, session: Session, world: World, minutes_apart: int, fits: bool
    ) -> None:
        first = MONDAY_9 + 2 * HOUR
        book(session, preparation(world, starts_at=first))
        stranger, _ = make_patient(session)
        order = preparation(
            world, patient_id=stranger, starts_at=first + timedelta(minutes=minutes_apart)
        )

        if fits:
            book(session, order)
        else:
            with pytest.raises(SlotTaken):
                book(session, order)

    def test_no_patient_is_in_two_visits_at_once(self, session: Session, world: World) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        book(session, dosing(world))

        with pytest.raises(SlotTaken) as refusal:
            book(session, preparation(world, starts_at=NEXT_MONDAY + HOUR))

        assert str(world.patient) in refusal.value.facts["schedule_ids"]  # type: ignore[operator]

    def test_a_shared_nurse_watches_two_rooms_and_not_three(
        self, session: Session, world: World
    ) -> None:
        for _ in range(2):  # two more of everything but the nurse and the prescriber
            make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
            make_room(session, world.site_id, "dosing")
            make_device(session, world.site_id, "monitor")
        starts = [NEXT_MONDAY, NEXT_MONDAY + HOUR, NEXT_MONDAY + 2 * HOUR]
        patients = [make_patient(session)[0] for _ in starts]
        for patient_id in patients:
            clear(session, patient_id, ["medical-clearance", "consent"])

        for patient_id, start in zip(patients[:2], starts, strict=False):
            book(session, dosing(world, patient_id=patient_id, starts_at=start))
        with pytest.raises(NoOpening):
            book(session, dosing(world, patient_id=patients[2], starts_at=starts[2]))

    @pytest.mark.parametrize(
        ("change", "refusal"),
        [
            ({"starts_at": SUNDAY_NOON}, StartsInThePast),
            ({"starts_at": MONDAY_9 - HOUR}, NotOpen),
            ({"starts_at": MONDAY_9 + 5 * DAY}, NotOpen),
            ({"starts_at": MONDAY_9 + 7 * HOUR + timedelta(minutes=5)}, NotOpen),
            ({"assignments": ()}, UnfitAssignment),
            ({"assignments": None, "starts_at": MONDAY_9 - HOUR}, NoOpening),
        ],
    )
    def test_refuses_times_and_people_that_do_not_fit(
        self,
        session: Session,
        world: World,
        change: dict[str, object],
        refusal: type[Exception],
    ) -> None:
        with pytest.raises(refusal):
            book(session, preparation(world, **change))

        assert session.scalar(select(func.count()).select_from(Slot)) == 0

    def test_refuses_a_licence_that_ends_before_the_visit(
        self, session: Session, world: World
    ) -> None:
        session.execute(
            text("UPDATE qualification SET valid_until = '2026-03-01' WHERE role = 'therapist'")
        )
        with pytest.raises(NotQualified):
            book(session, preparation(world))
        with pytest.raises(NoOpening):
            book(session, preparation(world, assignments=None))

    def test_refuses_somebody_else_in_the_role(self, session: Session, world: World) -> None:
        people = (Named("therapist", world.prescriber), Named("room", world.consulting_room))
        with pytest.raises(UnfitAssignment):
            book(session, preparation(world, assignments=people))

    def test_refuses_a_schedule_of_nobody(self, session: Session, world: World) -> None:
        people = (Named("therapist", uuid4()), Named("room", world.consulting_room))
        with pytest.raises(UnfitAssignment):
            book(session, preparation(world, assignments=people))


class TestHold:
    def test_keeps_the_time_for_a_while(self, session: Session, world: World) -> None:
        held = book(session, preparation(world, hold=True))
        assert held.held_until == SUNDAY_NOON + timedelta(minutes=15)
        assert session.scalar(select(func.count()).select_from(Message)) == 0

        stranger, _ = make_patient(session)
        later = replace(preparation(world), patient_id=stranger)
        with pytest.raises(SlotTaken):
            book(session, later)
        assert held.held_until is not None
        booking.book(session, later, by=DESK, now=held.held_until)
        session.refresh(held)
        assert held.status is AppointmentStatus.CANCELLED

    def test_becomes_a_booking_when_confirmed_in_time(self, session: Session, world: World) -> None:
        held = book(session, preparation(world, hold=True))

        booking.confirm(session, Call(held.id, 1), by=DESK, now=SUNDAY_NOON)

        assert held.status is AppointmentStatus.BOOKED
        assert set(session.scalars(select(Slot.status))) == {"busy"}
        assert session.scalar(select(func.count()).select_from(Message)) == 2

    def test_a_job_releases_it_when_it_runs_out(self, session: Session, world: World) -> None:
        held = book(session, preparation(world, hold=True))
        assert booking.release_expired_holds(session, SUNDAY_NOON) == 0
        over = held.held_until
        assert over is not None

        assert booking.release_expired_holds(session, over) == 1
        assert booking.release_expired_holds(session, over + HOUR) == 0
        assert session.scalar(select(func.count()).select_from(Slot)) == 0

    def test_run_out_it_gives_way_with_the_time_around_it(
        self, session: Session, world: World
    ) -> None:
        """The room's turnover is a hold's as well: whoever is named for right after finds it."""
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        held = book(session, dosing(world, hold=True))
        named = tuple(
            Named(row.role, row.schedule_id)
            for row in session.execute(
                select(Slot.role, Slot.schedule_id)
                .where(Slot.appointment_id == held.id, Slot.role != "patient")
                .distinct()
            )
        )
        other, _ = make_patient(session)
        clear(session, other, ["medical-clearance", "consent"])
        after = dosing(world, patient_id=other, starts_at=NEXT_MONDAY + 3 * HOUR, assignments=named)

        visit = booking.book(session, after, by=DESK, now=SUNDAY_NOON + HOUR)

        assert visit.status is AppointmentStatus.BOOKED


class TestReschedule:
    def test_moves_time_slots_checklist_and_messages(self, session: Session, world: World) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        appointment = book(session, dosing(world))
        moved_to = NEXT_MONDAY + DAY

        changed = booking.reschedule(
            session, Call(appointment.id, 1), Move(starts_at=moved_to), by=DESK, now=SUNDAY_NOON
        )

        assert (appointment.starts_at, appointment.revision) == (moved_to, 2)
        assert changed.out == []
        starts = set(session.scalars(select(Slot.starts_at).where(Slot.role == "therapist")))
        assert starts == {moved_to}
        states = session.execute(
            select(Message.revision, Message.state, func.count()).group_by(
                Message.revision, Message.state
            )
        )
        assert set(states) == {
            (1, MessageState.SUPERSEDED, 5),
            (2, MessageState.SCHEDULED, 5),
        }
        assert set(session.scalars(select(ChecklistItem.due_at))) == {moved_to - DAY}

    def test_may_overlap_the_time_it_leaves(self, session: Session, world: World) -> None:
        appointment = book(session, preparation(world))
        half_an_hour_later = MONDAY_9 + HOUR / 2
        booking.reschedule(
            session,
            Call(appointment.id, None),
            Move(starts_at=half_an_hour_later),
            by=DESK,
            now=SUNDAY_NOON,
        )
        assert appointment.starts_at == half_an_hour_later

    def test_leaves_everything_if_the_new_time_is_taken(
        self, session: Session, world: World
    ) -> None:
        appointment = book(session, preparation(world))
        stranger, _ = make_patient(session)
        book(session, preparation(world, patient_id=stranger, starts_at=MONDAY_9 + HOUR))
        session.commit()

        with pytest.raises(NoOpening):
            booking.reschedule(
                session,
                Call(appointment.id, None),
                Move(starts_at=MONDAY_9 + HOUR),
                by=DESK,
                now=SUNDAY_NOON,
            )
        session.rollback()
        session.refresh(appointment)
        assert (appointment.starts_at, appointment.revision) == (MONDAY_9, 1)


class TestCancel:
    def test_frees_the_time_and_takes_back_the_messages(
        self, session: Session, world: World
    ) -> None:
        appointment = book(session, preparation(world))

        changed = booking.cancel(session, Call(appointment.id, 1, "ill"), by=DESK, now=SUNDAY_NOON)

        assert changed.out == []
        assert appointment.status is AppointmentStatus.CANCELLED
        assert session.scalar(select(func.count()).select_from(Slot)) == 0
        assert set(session.scalars(select(Message.state))) == {MessageState.SUPERSEDED}

    def test_tells_who_knew(self, session: Session, world: World) -> None:
        appointment = book(session, preparation(world))
        _say_confirmation(session, appointment.id)

        changed = booking.cancel(session, Call(appointment.id, 1), by=DESK, now=SUNDAY_NOON)

        assert [out.kind for out in changed.out] == [MessageKind.CONFIRMATION]
        planned = session.scalars(
            select(Message.kind).where(Message.state == MessageState.SCHEDULED)
        ).all()
        assert planned == [MessageKind.CANCELLATION]


class TestMovedMessage:
    def test_who_was_told_the_old_time_is_told_of_the_new(
        self, session: Session, world: World
    ) -> None:
        appointment = book(session, preparation(world))
        _say_confirmation(session, appointment.id)

        self._move(session, appointment.id, MONDAY_9 + HOUR)

        assert MessageKind.MOVED in self._planned(session)
        assert MessageKind.CONFIRMATION not in self._planned(session)

    def test_an_undone_move_says_nothing(self, session: Session, world: World) -> None:
        appointment = book(session, preparation(world))
        _say_confirmation(session, appointment.id)

        self._move(session, appointment.id, MONDAY_9 + HOUR)
        self._move(session, appointment.id, MONDAY_9)

        assert MessageKind.MOVED not in self._planned(session)

    def _move(self, session: Session, appointment_id: UUID, to: object) -> None:
        booking.reschedule(
            session,
            Call(appointment_id, None),
            Move(starts_at=to),  # type: ignore[arg-type]
            by=DESK,
            now=SUNDAY_NOON,
        )

    def _planned(self, session: Session) -> list[MessageKind]:
        return list(
            session.scalars(select(Message.kind).where(Message.state == MessageState.SCHEDULED))
        )


def _say_confirmation(session: Session, appointment_id: UUID) -> None:
    session.execute(
        text(
            "UPDATE message SET state = 'sent', released_at = now(), sent_at = now() "
            "WHERE appointment_id = :id AND kind = 'confirmation'"
        ),
        {"id": appointment_id},
    )


class TestCourse:
    def test_its_steps_are_judged_by_its_protocol(self, session: Session, world: World) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        course = courses.open_course(session, world.patient_id, world.protocol_version_id, by=DESK)
        steps = session.scalars(select(CourseStep).where(CourseStep.course_id == course.id))
        step = {one.key: one.id for one in steps}

        with pytest.raises(RuleBroken) as refusal:
            book(session, _step_order(world, step["dosing-1"], NEXT_MONDAY))
        assert _codes(refusal.value) == ["no-preparation"]

        book(session, _step_order(world, step["preparation"], MONDAY_9))
        with pytest.raises(StepAlreadyBooked):
            book(session, _step_order(world, step["preparation"], MONDAY_9 + DAY))
        session.commit()
        book(session, _step_order(world, step["dosing-1"], NEXT_MONDAY))

        with pytest.raises(RuleBroken) as refusal:  # too late after its dose
            book(session, _step_order(world, step["integration-1"], NEXT_MONDAY + 4 * DAY))
        assert _codes(refusal.value) == ["integration-1-too-late"]
        with pytest.raises(RuleBroken) as refusal:
            book(session, _step_order(world, step["dosing-2"], NEXT_MONDAY + 7 * DAY))
        assert _codes(refusal.value) == ["owes-integration-1"]

        book(session, _step_order(world, step["integration-1"], NEXT_MONDAY + 2 * DAY))
        book(session, _step_order(world, step["dosing-2"], NEXT_MONDAY + 7 * DAY))


def _step_order(world: World, step_id: UUID, at: object) -> Order:
    return Order(patient_id=world.patient_id, starts_at=at, course_step_id=step_id)  # type: ignore[arg-type]


def _codes(refusal: RuleBroken) -> list[str]:
    return [rule["code"] for rule in refusal.facts["rules"]]  # type: ignore[attr-defined]


class TestTheDay:
    def test_an_unready_dosing_visit_is_refused_with_its_gates(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        appointment = book(session, dosing(world))

        with pytest.raises(NotReady) as refusal:
            sessions.act(
                session, Call(appointment.id, None), Action.ARRIVE, by=DESK, now=NEXT_MONDAY
            )

        gates = [gate["code"] for gate in refusal.value.facts["gates"]]  # type: ignore[attr-defined]
        assert gates == ["transport-home", "fasting", "preparation-done"]

    def test_readiness_is_asked_for_many_visits_in_the_same_queries(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        visits = [book(session, dosing(world, starts_at=NEXT_MONDAY + n * 7 * DAY)) for n in (0, 1)]

        judged = evidence.judge(session, visits, SUNDAY_NOON)

        assert set(judged) == {visit.id for visit in visits}

    def test_a_dose_before_its_time_is_observed_as_long_as_any(
        self, session: Session, world: World
    ) -> None:
        """The visit is at nine; the dose was at six. At 07:59 it is not two hours."""
        visit = self._dosed_early(session, world)
        dosed_at = NEXT_MONDAY - 3 * HOUR

        for minutes, state in ((119, GateState.OPEN), (120, GateState.MET)):
            now = dosed_at + timedelta(minutes=minutes)
            gates = evidence.judge(session, [visit], now)[visit.id].gates
            assert {one.gate.code: one.state for one in gates}["observation"] is state

    def _dosed_early(self, session: Session, world: World) -> Appointment:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        visit = book(session, dosing(world))
        early = NEXT_MONDAY - 3 * HOUR
        codes = [gate.code for gate in facts.brief_of(session, visit).visit.gates]
        codes.remove("observation")  # nobody may pass over it
        reasons = Reasons(dict.fromkeys(codes, "for this test"))
        sessions.override(session, visit.id, reasons, by=DOCTOR, now=early)
        for action in (Action.ARRIVE, Action.START_DOSING):
            sessions.act(session, Call(visit.id, None), action, by=DOCTOR, now=early)
        return visit


class TestReasons:
    """A reason speaks for one time and place."""

    def test_it_does_not_come_back_with_the_visit(self, session: Session, world: World) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        visit = book(session, dosing(world))
        reasons = Reasons({"fasting": "ate nothing since six"})
        sessions.override(session, visit.id, reasons, by=DOCTOR, now=SUNDAY_NOON)
        assert self._fasting(session, visit) is GateState.OVERRIDDEN

        for to in (NEXT_MONDAY + DAY, NEXT_MONDAY):
            booking.reschedule(
                session, Call(visit.id, None), Move(starts_at=to), by=DESK, now=SUNDAY_NOON
            )

        assert self._fasting(session, visit) is GateState.OPEN

    def test_one_given_with_the_move_counts(self, session: Session, world: World) -> None:
        clear(session, world.patient_id, ["consent"])
        reasons = Reasons({"medical-clearance": "seen this morning"})
        visit = book(session, dosing(world, reasons=reasons), DOCTOR)

        move = Move(starts_at=NEXT_MONDAY + DAY, reasons=reasons)
        booking.reschedule(session, Call(visit.id, None), move, by=DOCTOR, now=SUNDAY_NOON)

        gates = evidence.judge(session, [visit], SUNDAY_NOON)[visit.id].gates
        states = {one.gate.code: one.state for one in gates}
        assert states["medical-clearance"] is GateState.OVERRIDDEN

    def test_waiving_what_a_gate_rests_on_takes_the_same_right(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        visit = book(session, dosing(world))
        query = select(ChecklistItem).where(
            ChecklistItem.appointment_id == visit.id, ChecklistItem.gate == "fasting"
        )
        item = session.scalars(query).one()
        waived = Settling(status=TaskStatus.CANCELLED, answer="ate nothing since six")

        with pytest.raises(MayNotOverride):
            checklists.settle(session, item, waived, by=DESK, now=SUNDAY_NOON)
        silent = Settling(status=TaskStatus.CANCELLED)
        with pytest.raises(Unfit, match="Say why"):
            checklists.settle(session, item, silent, by=DOCTOR, now=SUNDAY_NOON)
        checklists.settle(session, item, waived, by=DOCTOR, now=SUNDAY_NOON)

        assert self._fasting(session, visit) is GateState.MET

    def test_none_passes_over_what_was_done_and_is_to_be_done_after_all(
        self, session: Session, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        visit = book(session, dosing(world))
        query = select(ChecklistItem).where(
            ChecklistItem.appointment_id == visit.id, ChecklistItem.gate == "fasting"
        )
        item = session.scalars(query).one()
        reasons = Reasons({"fasting": "ate nothing since six"})
        minutes = [SUNDAY_NOON + n * timedelta(minutes=1) for n in range(5)]
        asked, done = Settling(status=TaskStatus.REQUESTED), Settling(status=TaskStatus.COMPLETED)

        sessions.override(session, visit.id, reasons, by=DOCTOR, now=minutes[0])
        checklists.settle(session, item, asked, by=DESK, now=minutes[1])  # as it was: no news
        assert self._fasting(session, visit) is GateState.OVERRIDDEN
        checklists.settle(session, item, done, by=DESK, now=minutes[2])
        checklists.settle(session, item, asked, by=DESK, now=minutes[3])
        assert self._fasting(session, visit) is GateState.OPEN
        sessions.override(session, visit.id, reasons, by=DOCTOR, now=minutes[4])
        assert self._fasting(session, visit) is GateState.OVERRIDDEN

    def _fasting(self, session: Session, visit: Appointment) -> GateState:
        gates = evidence.judge(session, [visit], SUNDAY_NOON)[visit.id].gates
        return next(one.state for one in gates if one.gate.code == "fasting")


class TestWhoHears:
    def test_naming_an_escort_says_nothing_to_the_patient_anew(
        self, session: Session, world: World
    ) -> None:
        """Moved, so that the confirmation of the new time is none; the escort is named after."""
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        visit = book(session, dosing(world))
        _say_confirmation(session, visit.id)
        move = Move(starts_at=NEXT_MONDAY + DAY)
        booking.reschedule(session, Call(visit.id, None), move, by=DESK, now=SUNDAY_NOON)
        before = self._planned(session, visit)

        told = NewEscort(
            name="Evan Escort",
            phone="+12125550199",
            relation="partner",
            email="evan@example.com",
            may_message=True,
            confirmed=True,
        )
        escorts.name_escort(session, visit.id, told, by=DESK, now=SUNDAY_NOON)

        new = self._planned(session, visit) - before
        assert {recipient for _, recipient, _ in new} == {Recipient.ESCORT}

    def test_who_takes_over_hears_and_who_left_does_not(
        self, session: Session, world: World
    ) -> None:
        content = protocol_content() | {"code": "with-words-to-staff"}
        content["cadences"]["plain"] += [
            rule(
                "unheard",
                "safety-unanswered",
                {"hours": 36, "from": "end"},
                to="practitioner",
                not_after={"hours": 96, "from": "end"},
            )
        ]
        version_id = make_protocol(session, content)
        course = courses.open_course(session, world.patient_id, version_id, by=DESK)
        step = next(one for one in facts.steps_of(session, course.id) if one.key == "preparation")
        visit = book(session, preparation(world, step_kind=None, course_step_id=step.id))
        _, other = make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
        room = Named("room", world.consulting_room)

        for therapist in (other, world.therapist, other):
            move = Move(starts_at=MONDAY_9, assignments=(Named("therapist", therapist), room))
            booking.reschedule(session, Call(visit.id, None), move, by=DESK, now=SUNDAY_NOON)
            serving = set(facts.practitioners_of(session, visit.id))
            assert len(serving) == 1
            assert self._clinicians(session, visit) == serving

    def _clinicians(self, session: Session, visit: Appointment) -> set[UUID]:
        """Those to whom something is planned to be said."""
        return {
            reader
            for _, recipient, reader in self._planned(session, visit)
            if recipient is Recipient.PRACTITIONER
        }

    def _planned(self, session: Session, visit: Appointment) -> set[tuple[str, Recipient, UUID]]:
        rows = session.execute(
            select(Message.rule, Message.recipient, Message.recipient_id).where(
                Message.appointment_id == visit.id, Message.state == MessageState.SCHEDULED
            )
        )
        return {(row.rule, row.recipient, row.recipient_id) for row in rows}
