"""Break-glass: a patient's record opened in an emergency, for an hour, seen by others.

It opens what there is to read of one patient to somebody whose role does not, and nothing that
is changed or exported. Whoever is responsible for privacy hears of it at once; it stays in the
list of those to be reviewed until somebody else has looked at it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import BreakGlass, Patient
from models.vocabulary import MessageKind, Recipient, TaskKind
from notifications import outbox
from notifications.outbox import Notice
from scheduler import facts, tasks
from scheduler.authority import Authority, Call
from scheduler.errors import MayNotOverride, WrongStatus
from scheduler.tasks import Wanted

LASTS = timedelta(minutes=60)
REVIEWED_WITHIN = timedelta(hours=24)
REPEATED_WITHIN = timedelta(days=7)
REPEATED = 3
"""So many in a week are no emergencies any more."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody who looked at it thinks."""

    justified: bool
    note: str | None = None


def open_record(
    session: Session, patient_id: UUID, reason: str, *, by: Authority, now: datetime
) -> BreakGlass:
    """Open a patient's record for an hour, and tell whoever is to hear of it."""
    facts.one(session, Patient, patient_id)
    before = facts.glasses_since(session, by.name, now - REPEATED_WITHIN)
    glass = BreakGlass(
        id=uuid7(),
        patient_id=patient_id,
        asked_by=by.name,
        practitioner_id=by.practitioner_id,
        reason=reason,
        asked_at=now,
        expires_at=now + LASTS,
        is_repeated=before + 1 >= REPEATED,
        version=1,
    )
    session.add(glass)
    session.flush()
    tasks.ask(session, _to_review(glass))
    _tell(session, glass, now)
    return glass


def review(
    session: Session, call: Call, verdict: Verdict, *, by: Authority, now: datetime
) -> BreakGlass:
    """Note that somebody else has looked at it.

    Refuses with `MayNotOverride` whoever asked for it themselves, and with `WrongStatus` if it
    was reviewed.
    """
    glass = facts.to_change(session, BreakGlass, call.id, call.version)
    if _is_theirs(glass, by):
        raise MayNotOverride("Somebody else reviews this.", who=["admin", "auditor"])
    if glass.reviewed_at is not None:
        raise WrongStatus("This was reviewed already.", reviewed_at=glass.reviewed_at.isoformat())
    glass.reviewed_by, glass.reviewed_at = by.name, now
    glass.justified, glass.review_note = verdict.justified, verdict.note
    glass.version += 1
    session.flush()
    tasks.keep(session, _to_review(glass), now, stands=False)
    return glass


def _is_theirs(glass: BreakGlass, by: Authority) -> bool:
    """Also with another key of the same name, as after a rotation."""
    if by.practitioner_id is not None and by.practitioner_id == glass.practitioner_id:
        return True
    return _person(by.name) == _person(glass.asked_by)


def _person(name: str) -> str:
    return name.rpartition("/")[0] or name


def _to_review(glass: BreakGlass) -> Wanted:
    return Wanted(
        kind=TaskKind.REVIEW_BREAK_GLASS,
        subject_id=glass.id,
        due_at=glass.asked_at + REVIEWED_WITHIN,
        urgent=glass.is_repeated,
    )


def _tell(session: Session, glass: BreakGlass, now: datetime) -> None:
    home = facts.clinic(session)
    officer = home.privacy_officer_id
    reader = (
        (Recipient.FRONT_DESK, home.clinic_id)
        if officer is None
        else (Recipient.PRACTITIONER, officer)
    )
    notice = Notice(
        kind=MessageKind.BREAK_GLASS,
        recipient=reader[0],
        recipient_id=reader[1],
        subject_id=glass.id,
        occasion="break-glass",
        due_at=now,
        not_after=now + 2 * REVIEWED_WITHIN,
    )
    outbox.notify(session, notice, now)
