"""A clinic from a folder: read everything, tell every fault, then write it, whole or not at all."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from intake import calendars, tables
from intake.calendars import Leave
from intake.faults import ClinicFaults, Notes
from intake.tables import Row
from models import (
    Clinic,
    Closure,
    Device,
    OpeningHours,
    Patient,
    Practitioner,
    Protocol,
    ProtocolVersion,
    Qualification,
    Room,
    Schedule,
    Site,
    enter_clinic,
)
from models.vocabulary import ActorKind, PractitionerRole
from scheduler import protocols, public_holidays
from scheduler.icalendars import Shift

FIRST_MONDAY = date(2026, 1, 5)
"""From when on rooms and devices count as open."""

LANGUAGES = frozenset({"en", "es"})


@dataclass(frozen=True, slots=True)
class Place:
    """A room or a device: where it stands and when it is open."""

    site: str
    name: str
    kind: str
    hours: Shift


@dataclass(frozen=True, slots=True)
class Licence:
    """A practitioner's licence, as the table has it."""

    role: PractitionerRole
    number: str
    valid_from: date
    valid_until: date
    regions: tuple[str, ...]

    def columns(self) -> dict[str, Any]:
        """The same as its row has it."""
        return {
            "role": self.role,
            "licence": self.number,
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
            "regions": list(self.regions),
        }


@dataclass(slots=True)
class Person:
    """A practitioner with licences, hours and leave."""

    calendar: str
    name: str
    email: str
    phone: str | None
    lanes: int
    licences: list[Licence]
    shifts: list[Shift]
    leave: list[Leave]


@dataclass(frozen=True, slots=True)
class ClinicFiles:
    """Everything that the folder says."""

    clinic: dict[str, str]
    sites: list[dict[str, Any]]
    rooms: list[Place]
    devices: list[Place]
    people: list[Person]
    patients: list[dict[str, Any]]
    protocols: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return self.clinic["name"]


def read(folder: Path, now: datetime | None = None) -> ClinicFiles:
    """Read a clinic's folder.

    `now` is from when on recurring leave is written down; the beginning of 2026 if left out.
    Raises ClinicFaults with everything that is wrong, in one pass.
    """
    notes = Notes()
    since = now or datetime(2026, 1, 1, tzinfo=UTC)
    clinics = [_clinic(row) for row in tables.rows(folder, "clinic.csv", CLINIC, notes)]
    if len(clinics) != 1:
        notes.add("clinic.csv", 2, "-", f"There must be one clinic here, not {len(clinics)}.")
    sites = [read_site(row) for row in tables.rows(folder, "sites.csv", SITE, notes)]
    _unique(notes, "sites.csv", "name", (site["name"] for site in sites))
    zones = {site["name"]: site["time_zone"] for site in sites}
    files = ClinicFiles(
        clinics[0] if clinics else {},
        sites,
        _places(folder, "rooms.csv", zones, notes),
        _places(folder, "devices.csv", zones, notes, required=False),
        _people(folder, zones, since, notes),
        _patients(folder, notes),
        _protocols(folder, notes),
    )
    if notes.faults:
        raise ClinicFaults(notes.faults)
    return files


def store(session: Session, files: ClinicFiles, by: str, now: datetime) -> UUID:
    """Write a clinic. Flushes, never commits; returns its id, which `session` has entered."""
    clinic_id = uuid7()
    enter_clinic(session, clinic_id)
    clinic = Clinic(clinic_id=clinic_id, **files.clinic)
    session.add(clinic)
    session.flush()
    sites = {site["name"]: Site(id=uuid7(), **site) for site in files.sites}
    session.add_all(sites.values())
    session.flush()
    ids = {name: site.id for name, site in sites.items()}
    for model, kind, places in (
        (Room, ActorKind.ROOM, files.rooms),
        (Device, ActorKind.DEVICE, files.devices),
    ):
        for place in places:
            schedule_id = _schedule(session, kind, place.name)
            open_hours(session, schedule_id, [place.hours], ids)
            session.add(
                model(
                    id=uuid7(),
                    site_id=ids[place.site],
                    schedule_id=schedule_id,
                    name=place.name,
                    kind=place.kind,
                )
            )
    for person in files.people:
        store_person(session, person, ids)
    for patient in files.patients:
        name = patient["record_number"]
        schedule_id = _schedule(session, ActorKind.PATIENT, name)
        session.add(Patient(id=uuid7(), schedule_id=schedule_id, **patient))
    session.flush()
    clinic.default_protocol_id = _store_protocols(session, files.protocols, by, now)
    session.flush()
    return clinic_id


def _clinic(row: Row) -> dict[str, str]:
    return {
        "name": row.text("name"),
        "email": row.read("email", tables.email, ""),
        "phone": row.read("phone", tables.phone, ""),
        "time_zone": row.read("time_zone", tables.zone, ""),
        "emergency_text": row.text("emergency_text"),
    }


def read_site(row: Row) -> dict[str, Any]:
    """A site."""
    return {
        "name": row.text("name"),
        "address": row.text("address"),
        "phone": row.read("phone", tables.phone, ""),
        "time_zone": row.read("time_zone", tables.zone, ""),
        **_holidays(row),
    }


def _holidays(row: Row) -> dict[str, Any]:
    """The public holidays of a site, and those on which it is open."""
    region = row.read("holiday_region", tables.holidays, None)
    worked = row.read("holidays_worked", tables.worked, NOWHERE)
    for name in public_holidays.unknown(region, worked):
        row.fault("holidays_worked", f"{name!r} is not one of the holidays of {region}.")
    return {"holiday_region": region, "holidays_worked": list(worked)}


def _places(
    folder: Path, name: str, zones: dict[str, str], notes: Notes, *, required: bool = True
) -> list[Place]:
    rows = tables.rows(folder, name, PLACE, notes, required=required)
    found = [read_place(row, zones) for row in rows]
    _unique(notes, name, "name", (f"{place.site}: {place.name}" for place in found))
    return found


def read_place(row: Row, zones: Collection[str]) -> Place:
    """A room or a device, at one of the sites."""
    site = row.text("site")
    if site and site not in zones:
        row.fault("site", f"{site!r} is not a site; name one that is there.")
    opens = row.read("opens", tables.wall, time(0))
    closes = row.read("closes", tables.wall, time(23, 55))
    first = datetime.combine(FIRST_MONDAY, opens)
    minutes = (datetime.combine(FIRST_MONDAY, closes) - first) // timedelta(minutes=1)
    if minutes < 5:
        row.fault("closes", "It must close after it opens.")
    rule = f"FREQ=WEEKLY;BYDAY={row.read('weekdays', tables.weekdays, 'MO')}"
    hours = Shift(place=site, first_start=first, minutes=minutes, rule=rule)
    return Place(site, row.text("name"), row.text("kind"), hours)


def _people(folder: Path, zones: dict[str, str], now: datetime, notes: Notes) -> list[Person]:
    """Read practitioners: a line each, and one more for every further licence."""
    found: dict[str, Person] = {}
    for row in tables.rows(folder, "practitioners.csv", PERSON, notes):
        slug = row.text("calendar")
        if slug not in found:
            found[slug] = read_person(row, slug)
        licence = read_licence(row)
        if licence is not None:
            found[slug].licences.append(licence)
    people = list(found.values())
    _unique(notes, "practitioners.csv", "email", (person.email for person in people))
    for person in people:
        if not _is_plain(person.calendar):
            notes.add("practitioners.csv", 0, "calendar", f"{person.calendar!r}: use a-z, 0-9, -.")
            continue
        file = f"hours/{person.calendar}.ics"
        person.shifts = calendars.shifts(folder / file, file, zones, notes)
        home = zones[person.shifts[0].place] if person.shifts else "UTC"
        file = f"leave/{person.calendar}.ics"
        if (folder / file).exists():
            person.leave = calendars.leave(folder / file, file, home, now, notes)
    return people


def read_person(row: Row, slug: str) -> Person:
    """A practitioner, without licences yet."""
    return Person(
        slug,
        row.text("name"),
        row.read("email", tables.email, ""),
        row.read("phone", lambda told: tables.phone(told) if told else None, None),
        row.read("lanes", tables.lanes, 1),
        [],
        [],
        [],
    )


def read_licence(row: Row) -> Licence | None:
    """A licence; None if its role is none."""
    role = row.text("role")
    if role not in set(PractitionerRole):
        row.fault("role", f"{role!r} is not a role; use one of {', '.join(PractitionerRole)}.")
        return None
    start = row.read("valid_from", tables.day, date.min)
    end = row.read("valid_until", tables.day, date.max)
    if end < start:
        row.fault("valid_until", "It ends before it begins.")
    regions = row.read("regions", tables.regions, NOWHERE)
    return Licence(PractitionerRole(role), row.text("licence"), start, end, regions)


def _patients(folder: Path, notes: Notes) -> list[dict[str, Any]]:
    found = [read_patient(row) for row in tables.rows(folder, "patients.csv", PATIENT, notes)]
    numbers = (patient["record_number"] for patient in found)
    _unique(notes, "patients.csv", "record_number", numbers)
    return found


def read_patient(row: Row) -> dict[str, Any]:
    """A patient."""
    language = row.text("language")
    if language not in LANGUAGES:
        row.fault("language", f"{language!r}: use one of {', '.join(sorted(LANGUAGES))}.")
    return {
        "record_number": row.text("record_number"),
        "given_name": row.text("given_name"),
        "family_name": row.text("family_name"),
        "birth_date": row.read("birth_date", tables.day, date.min),
        "email": row.read("email", lambda told: tables.email(told) if told else None, None),
        "phone": row.read("phone", lambda told: tables.phone(told) if told else None, None),
        "time_zone": row.read("time_zone", tables.zone, ""),
        "language": language,
        "region": row.read("region", lambda told: tables.region(told) if told else None, None),
    }


def _protocols(folder: Path, notes: Notes) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "protocols").glob("*.json")):
        file = f"protocols/{path.name}"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            notes.add(file, error.lineno, "-", f"This is not JSON: {error.msg}.")
            continue
        except (OSError, UnicodeDecodeError, RecursionError):
            notes.add(file, 0, "-", "This file cannot be read.")
            continue
        faults = protocols.check(content)
        for fault in faults:
            notes.add(file, 1, fault.pointer, fault.detail)
        if not faults:
            found.append(content)
    _unique(notes, "protocols", "code", (content["code"] for content in found))
    return found


def _unique(notes: Notes, file: str, name: str, told: Iterable[str]) -> None:
    seen: set[str] = set()
    for number, value in enumerate(told, start=2):
        if value in seen and value:
            notes.add(file, number, name, f"{value!r} is here twice.")
        seen.add(value)


def _is_plain(slug: str) -> bool:
    return slug.isascii() and all(letter.isalnum() or letter == "-" for letter in slug)


def store_person(session: Session, person: Person, sites: dict[str, UUID]) -> UUID:
    """Write a practitioner with licences, hours and leave. Flushes."""
    schedule_id = _schedule(session, ActorKind.PRACTITIONER, person.name, person.lanes)
    open_hours(session, schedule_id, person.shifts, sites)
    session.add_all(
        Closure(
            id=uuid7(),
            schedule_id=schedule_id,
            uid=away.uid or None,
            starts_at=away.starts_at,
            ends_at=away.ends_at,
            reason=away.reason,
        )
        for away in person.leave
    )
    practitioner = Practitioner(
        id=uuid7(),
        schedule_id=schedule_id,
        name=person.name,
        email=person.email,
        phone=person.phone,
    )
    session.add(practitioner)
    session.flush()
    session.add_all(
        Qualification(id=uuid7(), practitioner_id=practitioner.id, **one.columns())
        for one in person.licences
    )
    return practitioner.id


def _schedule(session: Session, kind: ActorKind, name: str, lanes: int = 1) -> UUID:
    return schedules(session, kind, [(name, lanes)])[0]


def schedules(session: Session, kind: ActorKind, told: Iterable[tuple[str, int]]) -> list[UUID]:
    """Make schedules of these names, with so many lanes. Flushes."""
    made = [Schedule(id=uuid7(), actor_kind=kind, name=name, lanes=lanes) for name, lanes in told]
    session.add_all(made)
    session.flush()
    return [one.id for one in made]


def open_hours(
    session: Session, schedule_id: UUID, shifts: Iterable[Shift], sites: dict[str, UUID]
) -> None:
    """Let a schedule be open at these shifts."""
    session.add_all(
        OpeningHours(
            id=uuid7(),
            schedule_id=schedule_id,
            site_id=sites[shift.place],
            uid=shift.uid or None,
            first_start=shift.first_start,
            minutes=shift.minutes,
            rule=shift.rule,
            exceptions=list(shift.exceptions),
            time_zone=shift.zone,
        )
        for shift in shifts
    )


def _store_protocols(
    session: Session, contents: list[dict[str, Any]], by: str, now: datetime
) -> UUID | None:
    """Store each as a signed first version; returns the clinic's default: kap, else the first."""
    first = None
    for content in sorted(contents, key=lambda one: (one["code"] != "kap", one["code"])):
        protocol = Protocol(id=uuid7(), code=content["code"], title=content["title"])
        session.add(protocol)
        session.flush()
        session.add(
            ProtocolVersion(
                id=uuid7(),
                protocol_id=protocol.id,
                number=1,
                content=content,
                signed_by=by,
                signed_at=now,
            )
        )
        first = first or protocol.id
    return first


NOWHERE: tuple[str, ...] = ()
CLINIC = ("name", "email", "phone", "time_zone", "emergency_text")
SITE = ("name", "address", "phone", "time_zone", "holiday_region", "holidays_worked")
PLACE = ("site", "name", "kind", "weekdays", "opens", "closes")
PERSON = (
    "calendar",
    "name",
    "email",
    "phone",
    "lanes",
    "role",
    "licence",
    "valid_from",
    "valid_until",
    "regions",
)
PATIENT = (
    "record_number",
    "given_name",
    "family_name",
    "birth_date",
    "email",
    "phone",
    "time_zone",
    "language",
    "region",
)

__all__ = ["ClinicFaults", "ClinicFiles", "read", "store"]
