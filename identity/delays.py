"""Delays: what failed often is not tried again at once, each time twice as late.

A name alone locks nobody out. A browser in which somebody signed in before is counted by
itself, so that strangers who try their name do not slow them; and no delay is longer than a
quarter of an hour. A try is counted before it is looked at: many at once count as many.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from scheduler.errors import TooManyTries

LONGEST = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
"""So long after the last delay a failure counts no more."""


@dataclass(frozen=True, slots=True)
class About:
    """What tries are counted of."""

    name: str
    free: int
    """So many failures cost nothing."""
    eases: timedelta = timedelta(hours=1)
    """After so long without one, a failure less counts."""

    @property
    def subject(self) -> bytes:
        return hashlib.sha256(self.name.encode()).digest()


def account(email: str, known: str | None) -> About:
    """Tries at an account; those of a browser that it knows (`known`) apart."""
    return About(f"account {email} {known or ''}", free=5)


def address(told: str | None) -> About:
    """Tries from one network address: a clinic's people may share one."""
    return About(f"address {told}", free=20, eases=timedelta(minutes=5))


def visitors(told: str | None) -> About:
    """Wrong dates of birth from one network address, behind whichever patients' links."""
    return About(f"address of visitors {told}", free=20, eases=timedelta(minutes=5))


def factor(user_id: object) -> About:
    """Tries at a second factor; only who has the password comes so far."""
    return About(f"factor {user_id}", free=5)


def count(session: Session, about: Sequence[About], now: datetime) -> None:
    """Count a try, or refuse with `TooManyTries` if it comes too early.

    Commit before the try is looked at; `forgive` if it was a good one.
    """
    session.execute(_FORGET, {"old": now - FORGOTTEN})
    for one in sorted(about, key=lambda one: one.subject):
        told = {"subject": one.subject, "now": now}
        waits = session.scalar(_WAITS, told)
        counted = (
            waits is None
            and session.execute(
                _COUNT,
                {
                    **told,
                    "id": uuid7(),
                    "free": one.free,
                    "eases": one.eases.total_seconds(),
                    "longest": LONGEST.total_seconds(),
                },
            ).first()
        )
        if not counted:
            left = (waits - now).total_seconds() if waits else 1
            raise TooManyTries(
                "This failed too often lately. Please wait a little.", retry_after=int(left) + 1
            )


def forgive(session: Session, about: Sequence[About]) -> None:
    """Take a try back: it was a good one. Of an account all, for its owner was here."""
    for one in sorted(about, key=lambda one: one.subject):
        statement = _ONE_LESS if one.name.startswith("address") else _NONE
        session.execute(statement, {"subject": one.subject})


_WAITS = text("SELECT until FROM sign_in_delay WHERE subject = :subject AND until > :now")

_COUNT = text(
    """
    INSERT INTO sign_in_delay AS d (id, subject, failures, until) VALUES (:id, :subject, 1, :now)
    ON CONFLICT (clinic_id, subject) DO UPDATE
       SET (failures, until) = (
           SELECT eased.left + 1,
                  CAST(:now AS timestamptz) + make_interval(secs => CASE
                      WHEN eased.left < :free THEN 0
                      ELSE least(:longest, 2 ^ least(eased.left + 1 - :free, 20)) END)
             FROM (SELECT greatest(0, d.failures - floor(
                       extract(epoch FROM CAST(:now AS timestamptz) - d.until) / :eases
                   ))::integer AS left) AS eased)
     WHERE d.until <= :now
    RETURNING failures
    """
)
"""The row is locked, and looked at anew under the lock: of many at once each is counted."""

_ONE_LESS = text(
    "UPDATE sign_in_delay SET failures = greatest(failures - 1, 0) WHERE subject = :subject"
)
_NONE = text("DELETE FROM sign_in_delay WHERE subject = :subject")
_FORGET = text("DELETE FROM sign_in_delay WHERE until < :old")
