"""The day of a visit: arrival, dose, recovery, discharge, and overrides of gates.

Each act asks the gates of its stage first. Functions here flush and never commit.
"""

from contextlib import nullcontext
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Override, Patient, Site
from models.vocabulary import AppointmentStatus, Stage
from notifications import outbox
from scheduler import (
    booking,
    calendars,
    evidence,
    facts,
    history,
    judging,
    lifecycle,
    placing,
    reopening,
    seating,
    steps,
    suspending,
)
from scheduler.authority import Authority, Call, Reasons
from scheduler.errors import (
    MayNotOverride,
    NotFound,
    NotOpen,
    NotQualified,
    NotReady,
    Taken,
    TooEarly,
    TooLate,
    TooYoung,
    Unfit,
    WrongStatus,
)
from scheduler.history import Happened
from scheduler.lifecycle import Action
from scheduler.placing import Wish

JOB = Authority("job:noshows")


def act(
    session: Session, call: Call, action: Action, *, by: Authority, now: datetime
) -> Appointment:
    """Take a visit one step further on its day.

    Refuses with `WrongStatus`, with `NotReady` and the gates that are shut, with `TooEarly` for a
    noshow before the visit has begun, or for an arrival before its day, and with `TooLate` for one
    after it. Nothing begins with somebody whose licence does not hold on the day, or today
    (`NotQualified`), with somebody too young (`TooYoung`), nor where somebody whom the protocol
    wants on site is not there (`NotOpen`); no dose too soon after those that were given
    (`RuleBroken`). In a group session nobody begins for whom there are too few staff
    (`Understaffed`).
    """
    # The course before the visit: two last visits may be fulfilled at once.
    course = steps.course_in_hand(session, call.id) if action is Action.FULFIL else None
    shared = facts.group_of(session, call.id) if action is Action.START_DOSING else None
    if shared is not None:
        calendars.lock(session, {shared})  # of two who begin at once, one sees the other
    appointment = facts.to_change(session, Appointment, call.id, call.version)
    before = history.state_of(appointment)
    after = lifecycle.follow(action, before, appointment.kind)
    if shared is not None:
        seating.refuse_understaffed(session, shared)
    _refuse_at_another_time(session, appointment, action, now)
    if action in {Action.ARRIVE, Action.START_DOSING}:
        _refuse_amiss(session, appointment, now)
        _refuse_alone(session, appointment, now)
        judging.refuse_broken(session, appointment, now)
    if (stage := lifecycle.stage_of(action, appointment.kind)) is not None:
        _refuse_unless_ready(session, appointment, stage, now)
    if action is Action.ARRIVE and appointment.suspended_at is not None:
        suspending.resume(session, appointment, now, by=by, is_here=True)
    is_missed = action is Action.NOSHOW
    with booking.falling_away(session, appointment, now) if is_missed else nullcontext():
        appointment.status, appointment.progress = after.status, after.progress
        appointment.version += 1
        session.flush()
    happened = Happened(action=action, before=before, reason=call.reason)
    history.record(session, appointment, happened, by, now)
    if is_missed:
        outbox.supersede(session, appointment.id, now)
        booking.give_back(session, appointment, now)
    if course is not None:
        steps.settle(session, course, now)
    return appointment


def correct(session: Session, call: Call, *, by: Authority, now: datetime) -> Appointment:
    """Note that a visit never was, or not as it stands: it ends as entered in error.

    Its time is free, its step can be booked again, and a course that it completed is open. Who
    knows of a visit ahead is told that it is off. Refuses with `WrongStatus`, with `Unfit`
    without a reason, and with `MayNotOverride` whoever is no clinician once the patient was here.
    """
    if not call.reason:
        raise Unfit("Say what was wrong, in `reason`.", field="reason")
    course = steps.course_in_hand(session, call.id)
    calendars.lock(session, facts.schedules_of(session, call.id))
    appointment = facts.to_change(session, Appointment, call.id, call.version)
    before = history.state_of(appointment)
    after = lifecycle.follow(Action.ENTER_IN_ERROR, before, appointment.kind)
    was_here = before.progress is not None or before.status is AppointmentStatus.FULFILLED
    if was_here and not by.practitioner_roles:
        raise MayNotOverride("A clinician takes back what was noted of a day.", who=["clinician"])
    with reopening.told_after(session, appointment.patient_id, now):
        booking.take_back(session, appointment, after, now)
        happened = Happened(action=Action.ENTER_IN_ERROR, before=before, reason=call.reason)
        history.record(session, appointment, happened, by, now)
        if course is not None and appointment.course_step_id is not None:
            steps.reopen(session, course, appointment.course_step_id, now)
    return appointment


def override(
    session: Session, appointment_id: UUID, reasons: Reasons, *, by: Authority, now: datetime
) -> list[Override]:
    """Open gates of a visit with a reason each, for the time at which it stands now.

    Also a cap or a gap that a dose would break by when others were given. Refuses with `NotFound`
    for a gate that the visit does not have, with `NotReady` for one that no reason opens as
    things stand, and with `MayNotOverride` if `by` holds none of the roles that the protocol
    asks for.
    """
    appointment = facts.to_change(session, Appointment, appointment_id, None)
    broken = {one.code: one for one in judging.broken_by_doses(session, appointment, now)}
    judged = evidence.judge(session, [appointment], now)[appointment.id]
    gates = {one.gate.code: one for one in judged.gates}
    fixed = [one for one in judged.gates if one.gate.code in reasons.given and one.is_fixed]
    if fixed:
        raise NotReady("No reason opens this now.", gates=judging.told(fixed))
    overrides = []
    for code, reason in reasons.given.items():
        if code in gates:
            reasons.refuse_unless_lifted(code, gates[code].lift, by)
        elif code in broken:
            judging.refuse_unless_lifted(reasons, broken[code], by)
        else:
            raise NotFound(f"This visit has no gate {code!r}.", gates=sorted(gates))
        overrides.append(
            Override(
                id=uuid7(),
                appointment_id=appointment.id,
                code=code,
                reason=reason,
                by=by.name,
                at=now,
                starts_at=appointment.starts_at,
                revision=appointment.revision,
            )
        )
    session.add_all(overrides)
    session.flush()
    happened = Happened(
        action="override",
        before=history.state_of(appointment),
        facts=history.passed_over(reasons.given),
    )
    history.record(session, appointment, happened, by, now)
    return overrides


def take_back(
    session: Session, call: Call, override_id: UUID, *, by: Authority, now: datetime
) -> Override:
    """Note that a gate or a rule was never meant to be passed over: the visit is judged without.

    Whoever knows of a visit ahead hears that it is open again. Refuses with `NotFound`, with
    `Unfit` without a reason, with `Taken` if it was taken back before, and with `MayNotOverride`
    whoever could not have given it: of a rule that is whoever gave it, and any clinician.
    """
    if not call.reason:
        raise Unfit("Say what was wrong, in `reason`.", field="reason")
    visit = facts.to_change(session, Appointment, call.id, call.version)
    wrong = facts.one(session, Override, override_id)
    if wrong.appointment_id != visit.id:
        raise NotFound("There is no such override of this visit.")
    _refuse_to_take_back(session, visit, wrong, by)
    if wrong.replaces is not None or facts.is_override_replaced(session, wrong.id):
        raise Taken("That override was taken back already.", field="id")
    line = Override(
        id=uuid7(),
        appointment_id=visit.id,
        code=wrong.code,
        reason=call.reason,
        by=by.name,
        at=now,
        starts_at=wrong.starts_at,
        revision=wrong.revision,
        replaces=wrong.id,
    )
    booked = facts.booked_ahead(session, visit.patient_id, now)
    ahead = [one for one in booked if one.id == visit.id]
    settled = reopening.settled(session, ahead, now)
    session.add(line)
    session.flush()
    reopening.tell(session, ahead, settled, now, taken_back=True)
    happened = Happened(
        action="take-back-override",
        before=history.state_of(visit),
        reason=call.reason,
        facts={"code": wrong.code},
    )
    history.record(session, visit, happened, by, now)
    return line


def _refuse_to_take_back(
    session: Session, visit: Appointment, wrong: Override, by: Authority
) -> None:
    gates = facts.brief_of(session, visit).visit.gates
    gate = next((one for one in gates if one.code == wrong.code), None)
    if gate is not None:
        by.refuse_to_lift(gate.lift, wrong.code)
    elif by.name != wrong.by and not by.practitioner_roles:
        raise MayNotOverride("Who gave it or a clinician takes this back.", who=["clinician"])


def mark_noshows(session: Session, now: datetime) -> int:
    """Mark the visits that ended long ago and never began. Returns how many.

    A patient who is in the building is never marked: those visits are not `booked` any more.
    """
    marked = 0
    for appointment in facts.missed(session, now):
        try:
            with session.begin_nested():
                act(session, Call(appointment.id, None), Action.NOSHOW, by=JOB, now=now)
            marked += 1
        except WrongStatus:  # the patient came in the same instant
            continue
    return marked


def _refuse_at_another_time(
    session: Session, appointment: Appointment, action: Action, now: datetime
) -> None:
    if action is Action.NOSHOW and now < appointment.starts_at:
        raise TooEarly("Nobody has missed a visit that has not begun.")
    if action is Action.ARRIVE:
        zone = _zone_of(session, appointment)
        today = now.astimezone(zone).date()
        if today < appointment.starts_at.astimezone(zone).date():
            raise TooEarly("The visit is not today. Move it first, if it takes place now.")
        if today > appointment.ends_at.astimezone(zone).date():
            raise TooLate("The day of the visit is over. Move it first, if it takes place now.")


def _zone_of(session: Session, appointment: Appointment) -> ZoneInfo:
    return ZoneInfo(facts.one(session, Site, appointment.site_id).time_zone)


def _refuse_amiss(session: Session, appointment: Appointment, now: datetime) -> None:
    """What was asked at the booking is asked on the day as well: nobody may pass over it."""
    amiss = evidence.amiss(session, [appointment], now)[appointment.id]
    if amiss.unlicensed:
        told = ", ".join(amiss.unlicensed)
        raise NotQualified(
            f"Whoever serves this visit as {told} holds no licence on the day, where the patient "
            "is. Give it to somebody else first.",
            roles=list(amiss.unlicensed),
        )
    if amiss.too_young:
        least = facts.protocol(session, appointment.protocol_version_id).minimum_age
        raise TooYoung(f"The protocol is for people of {least} and older.")


def _refuse_alone(session: Session, appointment: Appointment, now: datetime) -> None:
    """Who only stands by has no slot, so nothing else would say that they have gone.

    On a later day than the visit's they must be there on that one as well.
    """
    visit = facts.protocol(session, appointment.protocol_version_id).visits[appointment.visit]
    if not any(phase.present for phase in visit.phases):
        return
    zone = _zone_of(session, appointment)
    moments = {one.astimezone(zone).date(): one for one in (now, appointment.starts_at)}
    patient = facts.one(session, Patient, appointment.patient_id)
    for starts_at in moments.values():
        wish = Wish(
            visit,
            starts_at,
            None,
            named=(),
            region=facts.region_of(patient, visit),
            site_id=appointment.site_id,
        )
        roles = placing.absent(session, wish)
        if roles:
            raise NotOpen(
                f"The protocol wants a {' and a '.join(roles)} on site throughout, who works "
                "there then and holds a licence on the day. Let them come first.",
                roles=roles,
            )


def _refuse_unless_ready(
    session: Session, appointment: Appointment, stage: Stage, now: datetime
) -> None:
    shut = evidence.judge(session, [appointment], now)[appointment.id].shut(stage)
    if shut:
        raise NotReady(f"Not ready for {stage}.", stage=stage, gates=judging.told(shut))
