"""Moments: whether what is told of a visit can have been when it is said to have been.

What is noted of a day is read later as its history, and gates are judged by it: a slip of the
hand, another day or another hour, is refused while whoever made it still remembers.
"""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from models import Appointment, Patient
from scheduler import facts
from scheduler.errors import Unfit
from scheduler.lifecycle import Action

EARLY = timedelta(hours=1)
"""Somebody may be measured, or fall, before the desk notes that they are here."""


def refuse_before_birth(patient: Patient, at: datetime, field: str) -> None:
    """Refuse with `Unfit` what is told of a patient who was not born yet."""
    if at.date() < patient.birth_date:
        raise Unfit("The patient was not born yet.", field=field)


def refuse_before_visit(session: Session, visit: Appointment, at: datetime, field: str) -> None:
    """Refuse with `Unfit` what is told of a visit that had not begun, by more than an hour.

    It began with its time, or before it if the patient was noted as here before.
    """
    arrived_at = facts.done_at(session, visit.id, Action.ARRIVE)
    began_at = min(arrived_at or visit.starts_at, visit.starts_at)
    if at < began_at - EARLY:
        raise Unfit("The visit had not begun yet.", field=field, began_at=began_at.isoformat())


def refuse_before_dose(session: Session, visit: Appointment, at: datetime, field: str) -> None:
    """Refuse with `Unfit` what comes after a dose and is told of a time before it."""
    dosed_at = facts.done_at(session, visit.id, Action.START_DOSING)
    if dosed_at is None:
        refuse_before_visit(session, visit, at, field)
    elif at < dosed_at:
        raise Unfit("That was before the dose.", field=field, dosed_at=dosed_at.isoformat())
