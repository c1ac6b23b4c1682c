"""Busy clinics of two sizes, made by a fixed seed: what searches and plans are measured on.

S: 20 clinicians, 10 rooms, 90 days; M: four times as many; L: 200 clinicians, 100 rooms, a year.
About 70 % of the time is taken: dosing visits take all they need at once, and the rest of the day
is filled with shorter visits around one gap. A random fill in crumbs would leave no room for a
dosing visit, which no clinic would do to itself.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import environ
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from benchmarks.place import Place
from database.access import Access
from database.scratch import scratch
from models.vocabulary import PractitionerRole
from tests.crowd import NOW
from tests.factories import (
    clear,
    figure,
    make_device,
    make_patient,
    make_practitioner,
    make_protocol,
    make_room,
    make_world,
    protocol_content,
)

ZONE = ZoneInfo("America/New_York")
FIRST = datetime(2027, 1, 11, 14, 0, tzinfo=UTC)
"""09:00 on a Monday in New York."""
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
QUARTER = 15 * MINUTE
ROUND = 20 * MINUTE
"""For so long a prescriber sees a patient at the start of a dosing visit."""
KEPT = "kept free"
DAY = timedelta(days=1)
TAKEN = 0.7
LENGTHS = (30, 30, 45, 60)
"""Of the visits that fill the days, in minutes: so that L has half a million slots."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a clinic is."""

    name: str
    therapists: int
    prescribers: int
    monitors: int
    dosing_rooms: int
    consulting_rooms: int
    days: int

    @property
    def clinicians(self) -> int:
        """How many people work there."""
        return self.therapists + self.prescribers + self.monitors

    @property
    def schedules(self) -> int:
        """How many schedules there are: of people, of rooms, and a device in each dosing room."""
        return self.clinicians + 2 * self.dosing_rooms + self.consulting_rooms


S = Size("S", 14, 3, 3, 6, 4, 90)
M = Size("M", 56, 12, 12, 24, 16, 90)
L = Size("L", 140, 30, 30, 60, 40, 365)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A taken stretch of a lane."""

    schedule_id: UUID
    lane: int
    role: str
    starts_at: datetime
    ends_at: datetime


@dataclass
class Busy:
    """A busy clinic in a database of its own."""

    ways: Access
    size: Size
    clinic_id: UUID
    site_id: UUID
    therapists: list[UUID]
    prescribers: list[UUID]
    monitors: list[UUID]
    dosing_rooms: list[UUID]
    consulting_rooms: list[UUID]
    devices: list[UUID]
    patients: list[UUID]
    """Who come to the clinic in its visits so far."""
    waiting: list[UUID]
    """Who have none yet."""
    version_id: UUID
    slots: int = 0

    def place(self) -> Place:
        """The same as other benchmarks know it."""
        return Place(
            self.ways, self.clinic_id, self.therapists, self.consulting_rooms, self.waiting
        )


def content(cleared_days: int = 90) -> dict[str, Any]:
    """The protocol of the busy clinics: two preparations, six doses, each with its integration.

    `cleared_days`: so long a medical clearance holds.
    """
    made = protocol_content()
    made["code"] = "busy"
    made["visits"]["preparation"]["minutes"] = figure(90, "min")
    for phase in made["visits"]["preparation"]["phases"]:
        phase["to"] = 90
    dosing = made["visits"]["dosing"]
    dosing["phases"] = [phase for phase in dosing["phases"] if "device" not in phase]
    for one in dosing["gates"]:
        if one["code"] == "medical-clearance":
            one["holds"] = figure(cleared_days, "d")
    made["steps"] = list(_steps())
    return made


def _steps() -> Iterator[dict[str, Any]]:
    yield {"key": "preparation-1", "visit": "preparation"}
    yield _step("preparation-2", "preparation", ("preparation-1", (1, "d"), (14, "d")))
    before = ("preparation-2", (1, "d"), (14, "d"))
    for number in range(1, 7):
        dose = f"dosing-{number}"
        yield _step(dose, "dosing", before)
        yield _step(f"integration-{number}", "integration", (dose, (24, "h"), (72, "h")))
        before = (dose, (5, "d"), (21, "d"))


def _step(key: str, visit: str, after: tuple[str, Any, Any]) -> dict[str, Any]:
    anchor, least, most = after
    window = {"step": anchor, "least": figure(*least), "most": figure(*most)}
    return {"key": key, "visit": visit, "after": [{**window, "severity": "block", "lift": []}]}


@contextmanager
def busy(size: Size, seed: int = 7, cleared_days: int = 90) -> Iterator[Busy]:
    """A fresh database with such a clinic, where a medical clearance holds for so long."""
    with scratch(environ.get("DATABASE_URL")) as ways:
        engine = create_engine(ways.service)
        with Session(engine) as session:
            clinic = _found(session, ways, size, content(cleared_days))
            session.commit()
        engine.dispose()
        dice = random.Random(seed)  # a fixed seed is the point
        stretches = [one for one in _fill(clinic, dice) if one.role != KEPT]
        _copy(clinic, stretches)
        clinic.slots = len(stretches)
        yield clinic


def _found(session: Session, ways: Access, size: Size, protocol: dict[str, Any]) -> Busy:
    world = make_world(session, "Busy Practice")
    version_id = make_protocol(session, protocol)
    session.execute(_DEFAULT, {"version": version_id})

    def people(role: PractitionerRole, count: int, lanes: int = 1) -> list[UUID]:
        return [
            make_practitioner(session, world.site_id, role, lanes=lanes)[1] for _ in range(count)
        ]

    def rooms(kind: str, count: int) -> list[UUID]:
        return [make_room(session, world.site_id, kind) for _ in range(count)]

    patients, waiting = ([make_patient(session)[0] for _ in range(60)] for _ in range(2))
    for patient_id in waiting:
        clear(session, patient_id, ["medical-clearance", "consent"], at=NOW)
    return Busy(
        ways,
        size,
        world.clinic_id,
        world.site_id,
        [*people(PractitionerRole.THERAPIST, size.therapists - 1), world.therapist],
        [*people(PractitionerRole.PRESCRIBER, size.prescribers - 1), world.prescriber],
        [*people(PractitionerRole.MONITOR, size.monitors - 1, lanes=3), world.monitor],
        [*rooms("dosing", size.dosing_rooms - 1), world.dosing_room],
        [*rooms("consulting", size.consulting_rooms - 1), world.consulting_room],
        [make_device(session, world.site_id, "monitor") for _ in range(size.dosing_rooms - 1)]
        + [world.device],
        patients,
        waiting,
        version_id,
    )


def _fill(clinic: Busy, dice: random.Random) -> Iterator[Stretch]:
    for day in _weekdays(clinic.size.days):
        sessions = list(_sessions(clinic, day, dice))
        yield from sessions
        busy = _by_schedule(sessions)
        for role, people in (("therapist", clinic.therapists), ("prescriber", clinic.prescribers)):
            for schedule_id in people:
                whole = Stretch(schedule_id, 0, role, day, day + 8 * HOUR)
                yield from _day(whole, dice, busy.get(schedule_id, []))
        for schedule_id in clinic.consulting_rooms:
            yield from _day(Stretch(schedule_id, 0, "room", day, day + 8 * HOUR), dice)


def _sessions(clinic: Busy, day: datetime, dice: random.Random) -> Iterator[Stretch]:
    """Dosing visits: a room has two times a day for one, of which most are taken.

    Each takes a therapist, a monitor's lane, a room and its device for three hours, and a
    prescriber for twenty minutes; what a prescriber has to be there for is one after the other.
    """
    lanes = [(monitor, lane) for monitor in clinic.monitors for lane in range(3)]
    for begin in (day, day + 4 * HOUR):
        therapists = dice.sample(clinic.therapists, len(clinic.dosing_rooms))
        for number, room in enumerate(clinic.dosing_rooms):
            round_, prescriber = divmod(number, len(clinic.prescribers))
            start = begin + round_ * ROUND
            end = start + 3 * HOUR
            if dice.random() < TAKEN:
                monitor, lane = lanes[number]
                yield Stretch(room, 0, "room", start, end + ROUND)
                yield Stretch(clinic.devices[number], 0, "device", start, end)
                yield Stretch(monitor, lane, "monitor", start, end)
                yield Stretch(therapists[number], 0, "therapist", start, end)
                yield Stretch(clinic.prescribers[prescriber], 0, "prescriber", start, start + ROUND)
            else:  # a prescriber's rounds are kept free for dosing visits
                yield Stretch(clinic.prescribers[prescriber], 0, KEPT, start, start + ROUND)


def _by_schedule(stretches: list[Stretch]) -> dict[UUID, list[Stretch]]:
    found: dict[UUID, list[Stretch]] = {}
    for one in stretches:
        found.setdefault(one.schedule_id, []).append(one)
    return found


def _weekdays(days: int) -> Iterator[datetime]:
    """09:00 on each working day."""
    local = FIRST.astimezone(ZONE).replace(tzinfo=None)
    for number in range(days):
        wall = local + number * DAY
        if wall.weekday() < 5:
            yield wall.replace(tzinfo=ZONE).astimezone(UTC)


def _day(whole: Stretch, dice: random.Random, busy: Sequence[Stretch] = ()) -> Iterator[Stretch]:
    """Visits from morning to evening but for one gap, of 30 % of the day on average.

    Around what the schedule is busy with already.
    """
    gap = dice.triangular(0, 2 * (1 - TAKEN), 1 - TAKEN) * 8 * HOUR
    gap -= gap % QUARTER
    begins = whole.starts_at + dice.randrange(0, (8 * HOUR - gap) // QUARTER + 1) * QUARTER
    shut = sorted(
        [(begins, begins + gap), (whole.ends_at, whole.ends_at)]
        + [(one.starts_at, one.ends_at) for one in busy]
    )
    start = whole.starts_at
    for shut_from, shut_until in shut:
        while start + LENGTHS[0] * MINUTE <= shut_from:
            until = min(shut_from, start + dice.choice(LENGTHS) * MINUTE)
            yield Stretch(whole.schedule_id, whole.lane, whole.role, start, until)
            start = until
        start = max(start, shut_until)


def _copy(clinic: Busy, stretches: list[Stretch]) -> None:
    """Put a visit and its slot into the database for each stretch, by COPY."""
    url = clinic.ways.owner.set(drivername="postgresql").render_as_string(hide_password=False)
    ids = [uuid7() for _ in stretches]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE slot DISABLE TRIGGER USER")  # nobody keeps anything warm yet
        cursor.execute("SELECT set_config('afterglow.clinic', %s, true)", [str(clinic.clinic_id)])
        cursor.execute(_STRETCHES)
        with cursor.copy("COPY stretch FROM STDIN") as copy:
            for number, (visit, one) in enumerate(zip(ids, stretches, strict=True)):
                patient = clinic.patients[number % len(clinic.patients)]
                what = (visit, uuid7(), patient, one.schedule_id, one.lane, one.role)
                copy.write_row((*what, one.starts_at, one.ends_at))
        cursor.execute(_VISITS, {"version": clinic.version_id, "site": clinic.site_id})
        cursor.execute(_SLOTS)
        cursor.execute("ALTER TABLE slot ENABLE TRIGGER USER")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE slot, appointment")


_STRETCHES = """
    CREATE TEMP TABLE stretch (visit uuid, slot uuid, patient uuid, schedule uuid, lane integer,
                               role text, starts_at timestamptz, ends_at timestamptz)
"""

# Row-level security takes no COPY; so it goes by way of a table of the session's own.
_VISITS = """
    INSERT INTO appointment (id, patient_id, protocol_version_id, visit, kind, site_id, status,
                             starts_at, ends_at, booked_by)
    SELECT visit, patient, %(version)s, 'integration', 'integration', %(site)s, 'booked',
           starts_at, ends_at, 'benchmark'
      FROM stretch
"""

_SLOTS = """
    INSERT INTO slot (id, schedule_id, lane, appointment_id, role, status, starts_at, ends_at,
                      during)
    SELECT slot, schedule, lane, visit, role, 'busy', starts_at, ends_at,
           tstzrange(starts_at, ends_at)
      FROM stretch
"""

_DEFAULT = text(
    "UPDATE clinic SET default_protocol_id = "
    "(SELECT protocol_id FROM protocol_version WHERE id = :version)"
)
