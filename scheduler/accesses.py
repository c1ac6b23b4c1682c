"""Accesses: who looked at a patient's record or changed it, as the audit trail says it to them.

What the trail has as codes and keys is told here as a person, what they are here, and the part of
the record. Acts of one kind by one person on one day are one line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Patient
from scheduler import facts

MOST = 1000
"""Lines of the trail that are gone through, the newest."""


class Who(StrEnum):
    """What somebody is to the patient."""

    PATIENT = "patient"
    ESCORT = "escort"
    CALENDAR = "calendar"
    ADMIN = "admin"
    DESK = "scheduler"
    CLINICIAN = "clinician"
    AUDITOR = "auditor"
    STAFF = "staff"
    SYSTEM = "system"


class Part(StrEnum):
    """Which part of the record."""

    DETAILS = "details"
    HEALTH = "health"
    LIST = "list"
    MESSAGES = "messages"
    PAPERS = "papers"
    PLAN = "plan"
    VISITS = "visits"
    WAY_HOME = "way-home"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody did with a part of the record, on one day."""

    at: datetime
    """The last time."""
    who: Who
    name: str | None
    looked: bool
    """Looked at it; else added to it or changed it."""
    part: Part
    emergency: bool
    count: int = 1


def of_patient(session: Session, patient_id: UUID) -> Sequence[Access]:
    """Who looked at a patient's record or changed it, the newest first.

    Refuses with `NotFound` for nobody's.
    """
    facts.one(session, Patient, patient_id)
    zone = ZoneInfo(facts.clinic(session).time_zone)
    lines = facts.lines_about(session, patient_id, MOST)
    people = facts.names_of_users(session)
    return together((told(line, people) for line in lines), zone)


def together(accesses: Iterable[Access], zone: ZoneInfo) -> Sequence[Access]:
    """Those of one kind by one person on one day as one, in the order in which they come."""
    found: dict[tuple[Any, ...], Access] = {}
    for one in accesses:
        day = one.at.astimezone(zone).date()
        kind = day, one.who, one.name, one.looked, one.part, one.emergency
        before = found.get(kind)
        found[kind] = one if before is None else replace(before, count=before.count + 1)
    return list(found.values())


def told(line: Any, people: Mapping[str, str]) -> Access:
    """A line of the trail, told to the patient it is about.

    `people` are the names of who signs in, by their id: the trail has no more of them.
    """
    kind, _, name = line.actor.partition(":")
    who = _WHO.get(line.role or kind, Who.STAFF if name else Who.SYSTEM)
    return Access(
        at=line.at,
        who=who,
        name=_spoken(kind, name, people) if who in _NAMED else None,
        looked=line.action == "read",
        part=_part(line),
        emergency="break_glass" in line.facts,
    )


def _spoken(kind: str, name: str, people: Mapping[str, str]) -> str | None:
    """What the clinic calls somebody, without the mark that tells their keys apart."""
    if kind == "user":
        return people.get(name)
    return name.rpartition("/")[0] or name or None


def _part(line: Any) -> Part:
    """By what was shown if the line says it, else by the kind of thing."""
    shown = str(line.facts.get("what", "")).split("_", 1)[-1]
    return _PARTS.get(shown) or _PARTS.get(line.entity, Part.RECORD)


_NAMED = frozenset({Who.ADMIN, Who.DESK, Who.CLINICIAN, Who.AUDITOR, Who.STAFF})

_WHO: Mapping[str, Who] = {
    "patient": Who.PATIENT,
    "escort": Who.ESCORT,
    "calendar": Who.CALENDAR,
    "admin": Who.ADMIN,
    "scheduler": Who.DESK,
    "clinician": Who.CLINICIAN,
    "auditor": Who.AUDITOR,
    "job": Who.SYSTEM,
    "cli": Who.SYSTEM,
}

_HEALTH = (
    "clearance clearances departure eligibility health_event health_events incident incidents "
    "item observation observations outcomes picture questionnaire questionnaire_response questions "
    "readiness reconciliation reconciliations responses medicine_ruling screen screen_decision "
    "screening screens override overrides watch"
)
_PARTS: Mapping[str, Part] = {
    **dict.fromkeys(_HEALTH.split(), Part.HEALTH),
    **dict.fromkeys(("checklist", "checklist_item"), Part.LIST),
    **dict.fromkeys(("message", "messages_of", "reply", "channel_consent"), Part.MESSAGES),
    **dict.fromkeys(("consent", "consents", "disclosure_consent", "papers"), Part.PAPERS),
    **dict.fromkeys(("course", "summary", "proposal", "waitlist_entry", "step"), Part.PLAN),
    **dict.fromkeys(("appointment", "offer", "calendar_feed", "events", "task"), Part.VISITS),
    **dict.fromkeys(("feed", "patient_feeds"), Part.VISITS),
    **dict.fromkeys(("patient",), Part.DETAILS),
    **dict.fromkeys(("escort",), Part.WAY_HOME),
}
"""By the name of a table, or of what a door shows."""
