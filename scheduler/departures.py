"""Departures: how a patient left after a dose, and what that starts.

Functions here flush and never commit. Nothing that was written is changed: a slip is replaced
by a line of its own.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Departure
from models.vocabulary import AppointmentStatus, StepKind, WayHome
from scheduler import facts, history, incidents, moments
from scheduler.authority import Authority, Call
from scheduler.errors import MayNotOverride, NotFound, Taken, Unfit, WrongStatus
from scheduler.history import Happened
from scheduler.protocols import SettledBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How a patient left."""

    way: WayHome
    left_at: datetime
    accompanied_by: str | None = None
    deviation: str | None = None
    """Why it was otherwise than planned."""
    replaces: UUID | None = None


def note(
    session: Session, appointment_id: UUID, left: Left, *, by: Authority, now: datetime
) -> Departure:
    """Write down who stands there to take the patient home, or how they left otherwise.

    A way that the protocol counts as an incident starts that one's checklist. Refuses with
    `MayNotOverride` whoever is no clinician, with `WrongStatus` unless a dose was given or the
    patient stays on after one, with `Unfit` where it is otherwise than planned and nobody says
    why, for the future and for a time before the dose, and with `Taken` if it was noted already
    and this does not replace it.
    """
    if not by.practitioner_roles:
        raise MayNotOverride("A clinician sees the patient off.", who=["clinician"])
    visit = facts.to_change(session, Appointment, appointment_id, None)
    if visit.status not in _here(session, visit):
        raise WrongStatus("The patient is not under observation.", visit_status=visit.status)
    if left.left_at > now:
        raise Unfit("Nobody has left in the future.", field="left_at")
    moments.refuse_before_dose(session, visit, left.left_at, "left_at")
    last = facts.departure_of(session, appointment_id)
    if (None if last is None else last.id) != left.replaces:
        raise Taken("How the patient left is noted already; replace that.", field="replaces")
    if left.deviation is None and _deviates(session, visit, left):
        raise Unfit("This is not as planned. Say why, in `deviation`.", field="deviation")
    line = Departure(
        id=uuid7(),
        appointment_id=visit.id,
        way=left.way,
        accompanied_by=left.accompanied_by,
        left_at=left.left_at,
        deviation=left.deviation,
        noted_by=by.name,
        noted_at=now,
        replaces=left.replaces,
        in_error=False,
    )
    session.add(line)
    session.flush()
    if last is None or last.way is not left.way:
        incidents.of_departure(session, line, visit, by=by, now=now)
    return line


def take_back(
    session: Session, call: Call, departure_id: UUID, *, by: Authority, now: datetime
) -> Departure:
    """Note that nobody left as it was noted: it was entered in error, and nothing takes its place.

    An incident that it started stands until that is taken back as well. Refuses with `NotFound`,
    with `Unfit` without a reason, with `MayNotOverride` whoever is no clinician, and with `Taken`
    if it was replaced or taken back before.
    """
    if not by.practitioner_roles:
        raise MayNotOverride("A clinician takes this back.", who=["clinician"])
    if not call.reason:
        raise Unfit("Say what was wrong, in `reason`.", field="reason")
    visit = facts.to_change(session, Appointment, call.id, call.version)
    wrong = facts.one(session, Departure, departure_id)
    if wrong.appointment_id != visit.id:
        raise NotFound("There is no such departure of this visit.")
    last = facts.departure_of(session, visit.id)
    if last is None or last.id != wrong.id:
        raise Taken("That line was replaced or taken back already.", field="id")
    line = Departure(
        id=uuid7(),
        appointment_id=visit.id,
        way=wrong.way,
        left_at=wrong.left_at,
        deviation=call.reason,
        noted_by=by.name,
        noted_at=now,
        replaces=wrong.id,
        in_error=True,
    )
    session.add(line)
    session.flush()
    before = history.state_of(visit)
    happened = Happened(action="take-back-departure", before=before, reason=call.reason)
    history.record(session, visit, happened, by, now)
    return line


def _here(session: Session, visit: Appointment) -> frozenset[AppointmentStatus]:
    """Where a visit stands from which a patient may leave after a dose."""
    if visit.kind is StepKind.DOSING:
        return frozenset({AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED})
    gates = facts.brief_of(session, visit).visit.gates
    if all(gate.settled_by is not SettledBy.DEPARTURE for gate in gates):
        return frozenset()
    return frozenset({AppointmentStatus.ARRIVED, AppointmentStatus.FULFILLED})


def _deviates(session: Session, visit: Appointment, left: Left) -> bool:
    planned = facts.escort_of(session, visit.id)
    if planned is None and left.way is WayHome.ALONE:
        return left.way not in facts.brief_of(session, visit).visit.ways_home
    if planned is None or left.way is not planned.way:
        return True
    return (left.accompanied_by or "").casefold() != planned.name.casefold()
