"""Tenants: on what terms clinics are here, and what operators do to them.

The rules of a clinic's life stand in the functions of the database (migrations 0041 and 0042),
which the operators' role calls and no other may: it can read no table of a clinic. What they
refuse comes as a code of `scheduler/errors.py`. Functions here flush and never commit.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from models.vocabulary import TenancyStatus
from scheduler import chain
from scheduler.audit import Origin
from scheduler.chain import Fault
from scheduler.errors import ClinicClosed, ClinicSuspended, NotFound


class OperatorPermission(StrEnum):
    """What a door of the operators asks for. No role of a clinic holds one, nor can a key of it."""

    CLINICS_READ = "operator:clinics:read"
    CLINICS_WRITE = "operator:clinics:write"
    CLINICS_SHRED = "operator:clinics:shred"
    EVENTS_READ = "operator:events:read"


class Move(StrEnum):
    """What takes a clinic from one state to another."""

    SUSPEND = "suspend"
    RESUME = "resume"
    CLOSE = "close"
    REOPEN = "reopen"
    SHRED = "shred"


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever runs the service for clinics, and where they call from."""

    name: str
    """As it stands in trails: `operator:ops/3fa9c1d2`."""
    origin: Origin

    def told(self) -> str:
        """For the functions of the database."""
        return json.dumps({**asdict(self.origin), "actor": self.name}, default=str)


@dataclass(frozen=True, slots=True)
class Seen:
    """A clinic as the operator last saw it."""

    id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Step:
    """What an operator wants to happen to a clinic, and what they say about it."""

    move: Move
    told: Mapping[str, object]
    """`reason`, `during_visits`, `shred_after`, and the clinic's name where it is to be typed."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a clinic's records are to be under a legal hold, and why."""

    stands: bool
    reason: str


def refuse_unless_open(status: str, *, closed_too: bool = False) -> None:
    """Refuse whoever comes to a clinic whose doors are shut."""
    if status == TenancyStatus.SUSPENDED:
        raise ClinicSuspended(
            "Access to this clinic is suspended. Ask whoever runs the service for you."
        )
    if status != TenancyStatus.ACTIVE and not (closed_too and status == TenancyStatus.CLOSED):
        raise ClinicClosed(
            "This clinic is closed. Its admins can take out an archive of it: POST /archives."
        )


def is_open(session: Session) -> bool:
    """Whether the entered clinic's doors are open."""
    status: str | None = session.scalar(_STATUS, {"id": session.info["clinic_id"]})
    return status == TenancyStatus.ACTIVE


def admit(session: Session, digest: bytes, now: datetime) -> tuple[str, str] | None:
    """The name and the prefix of the key that was shown, if it still works."""
    found = session.execute(_ADMIT, {"shown": digest, "now": now}).one_or_none()
    return None if found is None else (found.name, found.prefix)


def page(
    session: Session, status: TenancyStatus | None, after: UUID | None, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Clinics in the order in which they came: on what terms, and how big; nothing of patients."""
    asked = {"status": status and status.value, "after": after, "limit": limit}
    return [_shown(row) for row in session.execute(_PAGE, asked).mappings()]


def one(session: Session, clinic_id: UUID) -> Mapping[str, Any]:
    """One of them, or refuse with `NotFound`."""
    found = session.execute(_ONE, {"id": clinic_id}).mappings().one_or_none()
    if found is None:
        raise NotFound("There is no such clinic.")
    return _shown(found)


def found(session: Session, told: Mapping[str, Any], by: Operator, now: datetime) -> UUID:
    """Make a clinic with nothing in it. Refuses with `Taken` a name that is taken."""
    asked = {"told": json.dumps(told), "by": by.told(), "now": now}
    made: UUID = session.execute(_FOUND, asked).scalar_one()
    return made


def refuse_once_begun(session: Session, clinic_id: UUID, by: Operator, now: datetime) -> None:
    """Let the first admin be written to; refuse with `WrongStatus` once a clinic has begun."""
    session.execute(_INVITE, {"id": clinic_id, "by": by.told(), "now": now})


def limit(
    session: Session, seen: Seen, told: Mapping[str, Any], by: Operator, now: datetime
) -> None:
    """Let a clinic have so many requests, accounts and sites; those it has it keeps."""
    asked = {"id": seen.id, "version": seen.version, "told": json.dumps(told)}
    session.execute(_LIMIT, {**asked, "by": by.told(), "now": now})


def hold(session: Session, seen: Seen, wanted: Hold, by: Operator, now: datetime) -> None:
    """Put a clinic's records under a legal hold, or lift it. While it stands none are shredded.

    Refuses with `WrongStatus` what stands so already, and a clinic that is gone.
    """
    asked = {"id": seen.id, "version": seen.version, "told": json.dumps(asdict(wanted))}
    session.execute(_HOLD, {**asked, "by": by.told(), "now": now})


def move(session: Session, seen: Seen, step: Step, by: Operator, now: datetime) -> None:
    """Take a clinic to another state, where the one it is in allows that."""
    asked = {
        "id": seen.id,
        "version": seen.version,
        "act": step.move.value,
        "told": json.dumps(step.told, default=str),
    }
    session.execute(_MOVE, {**asked, "by": by.told(), "now": now})


def events(session: Session, after: int, limit: int) -> Sequence[Any]:
    """What operators did, oldest first."""
    return session.execute(_EVENTS, {"after": after, "limit": limit}).mappings().all()


def shredded(session: Session) -> Sequence[UUID]:
    """The clinics of which nothing is left."""
    return session.scalars(_SHREDDED).all()


def first_fault(session: Session) -> Fault | None:
    """The first line of the operators' trail with which something is wrong."""
    return chain.first_fault(session.execute(_LINES), [])


def shred(session: Session, clinic_id: UUID, at_most: int, now: datetime) -> int:
    """Delete some rows of a clinic that is being shredded; 0 when there is nothing to do."""
    asked = {"id": clinic_id, "most": at_most, "now": now}
    return int(session.execute(_SHRED, asked).scalar_one())


def _shown(row: RowMapping) -> Mapping[str, Any]:
    held = None
    if row["held_since"] is not None:
        held = {"since": row["held_since"], "by": row["held_by"], "reason": row["hold_reason"]}
    return {**row, "status": TenancyStatus(row["status"]), "legal_hold": held}


_STATUS = text("SELECT status FROM tenancy WHERE id = :id")

_SHREDDED = text("SELECT id FROM tenancy WHERE status = 'shredded'")

_ADMIT = text("SELECT id, name, prefix FROM admit_operator(:shown, :now)")

_SEEN = """
    SELECT t.*, coalesce(c.called, t.name) AS called, c.email, c.phone, c.time_zone,
           c.users, c.sites, c.last_active_on
      FROM tenancy t LEFT JOIN LATERAL see_clinic(t.id) c ON true
"""

_PAGE = text(
    f"""
    {_SEEN} WHERE (CAST(:status AS text) IS NULL OR t.status = :status)
       AND (CAST(:after AS uuid) IS NULL OR t.id > :after)
     ORDER BY t.id LIMIT :limit
    """
)

_ONE = text(f"{_SEEN} WHERE t.id = :id")

_FOUND = text("SELECT found_clinic(CAST(:told AS jsonb), CAST(:by AS jsonb), :now)")

_INVITE = text("SELECT invite_admin(:id, CAST(:by AS jsonb), :now)")

_LIMIT = text("SELECT limit_tenancy(:id, :version, CAST(:told AS jsonb), CAST(:by AS jsonb), :now)")

_HOLD = text("SELECT hold_records(:id, :version, CAST(:told AS jsonb), CAST(:by AS jsonb), :now)")

_MOVE = text(
    "SELECT move_tenancy(:id, :version, :act, CAST(:told AS jsonb), CAST(:by AS jsonb), :now)"
)

_SHRED = text("SELECT shred_some(:id, :most, :now)")

_EVENTS = text(
    "SELECT * FROM operator_event WHERE sequence > :after ORDER BY sequence LIMIT :limit"
)

_LINES = text(
    """
    SELECT sequence, id::text AS id, form, previous_hash, hash, created_at,
           NULL AS clinic_id, extract(epoch FROM at)::text AS at_seconds,
           extract(epoch FROM created_at)::text AS written_seconds, actor, action, entity,
           entity_id::text AS entity_id, NULL AS patient_id, facts::text AS facts,
           outcome, NULL AS role, permission, address, request_id::text AS request_id,
           encode(agent_hash, 'hex') AS agent_hash
      FROM operator_event ORDER BY sequence
    """
)
"""A line as scheduler/chain.py reads it: of no clinic, and about no patient."""
