"""Seating: a patient's place in a group session, and whether its staff are enough.

A session's places are locked as if the session were a schedule, so of fifty who want its last
place one finds it; PostgreSQL holds the numbers of the places apart, and within how many there
are. Functions here flush and never commit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from models import GroupSession
from models.vocabulary import ActorKind, TaskKind
from scheduler import calendars, facts, joining, placing, tasks
from scheduler.actors import Assignment
from scheduler.errors import NoOpening, SessionFull, Understaffed, Unfit, WrongStatus
from scheduler.facts import Brief
from scheduler.placing import Placement, Seat, Wish
from scheduler.protocols import Phase, Visit


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place in a session at the time at which somebody saw it."""

    group_session_id: UUID
    starts_at: datetime


def secure(session: Session, about: Brief, wanted: Wanted, now: datetime) -> tuple[Wish, Placement]:
    """Lock the session and the patient, and find the first place that is free.

    Refuses with `Unfit` if the session is for another kind of visit, with `WrongStatus` if it
    was cancelled, with `NoOpening` if it was moved, and with `SessionFull`.
    """
    group = facts.one(session, GroupSession, wanted.group_session_id)
    calendars.lock(session, {group.id, about.patient.schedule_id})
    group = facts.to_change(session, GroupSession, group.id, None)
    refuse_cancelled(group)
    _refuse_unfit(group, about)
    if group.starts_at != wanted.starts_at:
        raise NoOpening(
            "This session does not take place then any more.",
            starts_at=group.starts_at.isoformat(),
        )
    taken = facts.places_taken(session, [group.id])[group.id]
    place = next((one for one in range(1, group.places + 1) if one not in taken), None)
    if place is None:
        raise SessionFull("Every place of this session is taken.", places=group.places)
    wish = Wish(
        about.visit, group.starts_at, about.patient.schedule_id, None, region=about.region()
    )
    placing.make_way(session, wish, now)
    [site] = [one for one in calendars.sites(session) if one.site_id == group.site_id]
    staff = calendars.staff_of(session, group)
    for one in staff:
        if one.actor.kind is ActorKind.PRACTITIONER:
            placing.refuse_unlicensed(wish, one, site)
    return wish, Placement(site, staff, seat=Seat(group.id, place, group.places))


def refuse_cancelled(group: GroupSession) -> None:
    """Refuse with `WrongStatus` if the session does not take place any more."""
    if group.cancelled_at is not None:
        raise WrongStatus(
            "This session was cancelled.", cancelled_at=group.cancelled_at.isoformat()
        )


@dataclass(frozen=True, slots=True)
class Staffed:
    """How many actors a phase with a ratio has, and how many its patients need."""

    role: str
    kind: str | None
    per_patients: int
    seated: int
    needed: int

    @property
    def is_kept(self) -> bool:
        """Whether the ratio is kept."""
        return self.seated >= self.needed


def ratios(visit: Visit, staff: Sequence[Assignment], patients: int) -> list[Staffed]:
    """The ratios of a group visit, for so many patients and these actors."""
    return [
        Staffed(
            phase.role,
            phase.kind,
            phase.per_patients,
            _seated(visit, phase, staff),
            0 if patients == 0 else phase.wanted_for(patients),
        )
        for phase in visit.phases
        if phase.per_patients is not None
    ]


def settle(session: Session, group_session_id: UUID, now: datetime) -> None:
    """Note that who is in the session, or serves it, has changed: is its ratio still kept?

    Staff get a task while it is not.
    """
    group = facts.to_change(session, GroupSession, group_session_id, None)
    group.version += 1
    session.flush()
    patients = len(facts.places_taken(session, [group.id])[group.id])
    told = ratios(facts.group_visit(session, group), calendars.staff_of(session, group), patients)
    short = group.cancelled_at is None and not all(one.is_kept for one in told)
    wanted = tasks.Wanted(kind=TaskKind.STAFF_GROUP, subject_id=group.id, due_at=now, urgent=True)
    tasks.keep(session, wanted, now, stands=short)


def refuse_understaffed(session: Session, group_session_id: UUID) -> None:
    """Refuse with `Understaffed` if one more patient would be too many for the staff there.

    Of those who came: whoever is not in the room, or is discharged, needs nobody.
    """
    group = facts.one(session, GroupSession, group_session_id)
    patients = facts.treated(session, group.id) + 1
    told = ratios(facts.group_visit(session, group), calendars.staff_of(session, group), patients)
    short = [one for one in told if not one.is_kept]
    if short:
        raise Understaffed(
            "The session has too few staff for one more patient to begin.",
            patients=patients,
            staffing=shown(short),
        )


def shown(told: Iterable[Staffed]) -> list[dict[str, object]]:
    """Ratios as callers see them."""
    return [
        {
            "role": one.role,
            "kind": one.kind,
            "per_patients": one.per_patients,
            "seated": one.seated,
            "needed": one.needed,
        }
        for one in told
    ]


def _seated(visit: Visit, phase: Phase, staff: Sequence[Assignment]) -> int:
    """Those of the phase's kind, but for the ones that another phase needs meanwhile."""
    same = {
        one.actor.schedule_id
        for one in staff
        if one.role == phase.role and phase.kind in {None, one.actor.kind}
    }
    elsewhere = sum(
        other.count
        for other in visit.phases
        if (other.role, other.kind) == (phase.role, phase.kind)
        and other.per_patients is None
        and not other.present
        and other.start < phase.end
        and phase.start < other.end
    )
    return max(0, len(same) - elsewhere)


def _refuse_unfit(group: GroupSession, about: Brief) -> None:
    if not joining.is_for(about.visit, group.kind, group.starts_at, group.ends_at):
        raise Unfit("This session is not for such a visit.", kind=group.kind, visit=group.visit)
