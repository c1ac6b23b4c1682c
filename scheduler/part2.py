"""42 CFR Part 2: which courses fall under it, and to whom patients let them be disclosed.

Who may not see their patients is decided in the database, by row-level security (migration 0044),
which follows `part2:read`; see docs/part2.md. Functions here flush and never commit.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Course, DisclosureConsent
from models.vocabulary import DisclosurePurpose
from scheduler import facts
from scheduler.authority import Authority, Call
from scheduler.errors import Unfit, WrongStatus

NOTICE = "42 CFR part 2 prohibits unauthorized use or disclosure of these records."
"""What goes along with records that are disclosed.

Source: 42 CFR 2.32(a)(2).
"""


def notice(signed_on: date) -> str:
    """What goes along with a row that is disclosed by a consent for all of care, signed on a day.

    Source: 42 CFR 2.32, the notice and the scope of the consent.
    """
    return (
        f"{NOTICE} Disclosed by the patient's written consent of {signed_on.isoformat()}, for "
        "treatment, payment and health care operations."
    )


@dataclass(frozen=True, slots=True)
class Signed:
    """What a patient signed: what for, to whom, and from when until when."""

    purpose: DisclosurePurpose
    recipient: str
    signed_on: date
    ends_on: date | None


def mark(session: Session, call: Call, *, falls: bool) -> Course:
    """Say whether a course falls under Part 2; its visits follow it.

    Refuses with `Unfit` to take one out whose protocol says that it does.
    """
    course = facts.to_change(session, Course, call.id, call.version)
    if course.part2 != falls:
        course.part2 = falls
        course.version += 1
        session.flush()
        session.refresh(course)
    if course.part2 != falls:
        raise Unfit("Its protocol says that its courses fall under it.", field="part2")
    return course


def note_consent(
    session: Session, patient_id: UUID, signed: Signed, *, by: Authority
) -> DisclosureConsent:
    """Keep what a patient signed."""
    consent = DisclosureConsent(
        id=uuid7(),
        patient_id=patient_id,
        purpose=signed.purpose,
        recipient=signed.recipient,
        signed_on=signed.signed_on,
        ends_on=signed.ends_on,
        noted_by=by.name,
        version=1,
    )
    session.add(consent)
    session.flush()
    return consent


def withdraw(session: Session, call: Call, *, by: Authority, now: datetime) -> DisclosureConsent:
    """Note that a patient took a consent back. Refuses with `WrongStatus` if they did before."""
    consent = facts.to_change(session, DisclosureConsent, call.id, call.version)
    if consent.withdrawn_at is not None:
        raise WrongStatus(
            "This consent was withdrawn already.", withdrawn_at=consent.withdrawn_at.isoformat()
        )
    consent.withdrawn_at, consent.withdrawn_by = now, by.name
    consent.version += 1
    session.flush()
    return consent
