"""What is offered can be booked, and nothing is left out: small clinics, made up, asked for real.

Every start on the grid is tried in the real database, in savepoints that are taken back: what
`GET /openings` would offer, as it is offered; what it would not, with whoever could be named.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from models import Closure, OpeningHours, Schedule
from models.vocabulary import PractitionerRole, StepKind
from scheduler import booking, openings
from scheduler.actors import Opening
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.errors import Refusal
from scheduler.openings import Search
from scheduler.placing import Named
from tests.factories import (
    MONDAY_9,
    SUNDAY_NOON,
    figure,
    make_default,
    make_patient,
    make_practitioner,
    make_room,
    make_world,
    protocol_content,
)
from tests.properties import cases

DESK = Authority("key:desk")
MINUTE = timedelta(minutes=1)
HERE, THERE = "US-NY", "US-NJ"
WINDOW = 4 * 60
"""Minutes from nine o'clock that a case looks at."""


@dataclass
class Given:
    """What is made up about a clinic, in minutes from nine o'clock on Monday."""

    phases: list[dict[str, Any]]
    minutes: int
    grid: int
    people: list[tuple[list[str], int, str]]
    """Roles, lanes, and the state of the licences."""
    rooms: int
    hours: list[tuple[int, int]]
    """For each person and room: from when, for how long."""
    closures: list[tuple[int, int, int]] = field(default_factory=list)
    """Of whom, from when, for how long."""
    visits: list[int] = field(default_factory=list)
    """Visits that are booked before, each at the opening with that number."""
    own: int | None = None
    """Which of them is the patient's own."""
    by_video: bool = False
    notice: int | None = None
    most_per_day: int | None = None


@st.composite
def clinics(draw: st.DrawFn) -> Given:
    by_video = draw(st.integers(0, 3)) == 0
    minutes = draw(st.sampled_from([30, 45, 60, 90]))
    number = draw(st.integers(2, 3))
    room = {"room": "consulting", "from": 0, "to": minutes, "source": "T"}
    phases = [_phase(draw, minutes) for _ in range(draw(st.integers(1, 2)))]
    if not by_video and draw(st.booleans()):
        phases.append({**room, "turnover": draw(st.sampled_from([0, 10, 20]))})
    people = [
        (
            draw(st.lists(st.sampled_from(["therapist", "monitor"]), min_size=1, unique=True)),
            draw(st.integers(1, 2)),
            draw(st.sampled_from([HERE, THERE])),
        )
        for _ in range(number)
    ]
    rooms = draw(st.integers(1, 2))
    begin, length = st.integers(0, 12), st.integers(6, 60)
    everybody = number + rooms
    return Given(
        phases=phases,
        minutes=minutes,
        grid=draw(st.sampled_from([15, 20, 30])),
        people=people,
        rooms=rooms,
        hours=[(draw(begin) * 5, draw(st.integers(24, 60)) * 5) for _ in range(everybody)],
        closures=[
            (draw(st.integers(0, everybody - 1)), draw(st.integers(0, 48)) * 5, draw(length) * 5)
            for _ in range(draw(st.integers(0, 2)))
        ],
        visits=draw(st.lists(st.integers(0, 8), max_size=3)),
        own=draw(st.sampled_from([None, 0])),
        by_video=by_video,
        notice=draw(st.sampled_from([None, None, 22, 23])),
        most_per_day=draw(st.sampled_from([None, None, 1, 2])),
    )


def _phase(draw: st.DrawFn, minutes: int) -> dict[str, Any]:
    first = draw(st.integers(0, minutes // 5 - 1)) * 5
    told: dict[str, Any] = {
        "role": draw(st.sampled_from(["therapist", "monitor"])),
        "from": first,
        "to": draw(st.integers(first // 5 + 1, minutes // 5)) * 5,
        "source": "T",
    }
    match draw(st.integers(0, 5)):
        case 0:
            return {**told, "shared": True}
        case 1:
            return {**told, "present": True}
        case 2:
            return {**told, "setup": 10, "turnover": 15}
        case 3:
            return {**told, "count": 2}
        case _:
            return told


class Clinic:
    """The clinic as it was made up, in the database."""

    def __init__(self, session: Session, made: Given) -> None:
        self.session, self.made = session, made
        self.world = make_world(session)
        self.patient_id, _ = make_patient(session, region=HERE)
        make_default(session, self._content())
        site = self.world.site_id
        self.people = [
            make_practitioner(
                session, site, *map(PractitionerRole, roles), lanes=lanes, regions=[region]
            )[1]
            for roles, lanes, region in made.people
        ]
        self.rooms = [make_room(session, site, "consulting") for _ in range(made.rooms)]
        self._set_hours()
        self._book_before()

    def offered(self) -> dict[datetime, Opening]:
        found = openings.find(self.session, self._search(self.patient_id), SUNDAY_NOON)
        assert not found.more
        return {one.starts_at: one for one in found.openings}

    def grid(self) -> Iterator[datetime]:
        for number in range(WINDOW // self.made.grid):
            yield MONDAY_9 + number * self.made.grid * MINUTE

    def can_book(self, start: datetime, assignments: tuple[Named, ...] | None) -> bool:
        attempt = self.session.begin_nested()
        try:
            self._book(self.patient_id, start, assignments)
        except Refusal:
            return False
        finally:
            attempt.rollback()
        return True

    def choices(self) -> Iterator[tuple[Named, ...]]:
        """Everybody who could be named for the visit, in every way."""
        seats = [
            [Named("room", one) for one in self.rooms]
            if "room" in phase
            else [
                Named(phase["role"], one)
                for one, (roles, _, _) in zip(self.people, self.made.people, strict=True)
                if phase["role"] in roles
            ]
            for phase in self.made.phases
            if not phase.get("present")
            for _ in range(phase.get("count", 1))
        ]
        return product(*seats)

    def _content(self) -> dict[str, Any]:
        content, made = protocol_content(), self.made
        visit = content["visits"]["preparation"]
        visit |= {
            "phases": made.phases,
            "minutes": figure(made.minutes, "min"),
            "grid": made.grid,
            "place": "telehealth" if made.by_video else "site",
            "checklist": [],
        }
        if made.notice is not None:
            visit["notice"] = figure(made.notice, "h")
        return content

    def _set_hours(self) -> None:
        ours = [*self.people, *self.rooms]
        everybody = [self.world.therapist, self.world.monitor, self.world.consulting_room]
        for schedule_id in everybody:  # who is there in every test takes no part here
            self.session.add(_closure(schedule_id, MONDAY_9 - 9 * 60 * MINUTE, 48 * 60))
        for schedule_id, (begin, minutes) in zip(ours, self.made.hours, strict=True):
            start = datetime(2026, 1, 5, 9, 0) + begin * MINUTE
            self.session.execute(
                update(OpeningHours)
                .where(OpeningHours.schedule_id == schedule_id)
                .values(first_start=start, minutes=minutes)
            )
        for number, begin, minutes in self.made.closures:
            self.session.add(_closure(ours[number], MONDAY_9 + begin * MINUTE, minutes))
        if self.made.most_per_day is not None:
            self.session.execute(
                update(Schedule)
                .where(Schedule.id == self.people[0])
                .values(most_per_day=self.made.most_per_day)
            )
        self.session.flush()
        self.session.expire_all()

    def _book_before(self) -> None:
        for place, number in enumerate(self.made.visits):
            patient_id = self.patient_id
            if place != self.made.own:
                patient_id, _ = make_patient(self.session, region=HERE)
            found = openings.find(self.session, self._search(patient_id), SUNDAY_NOON).openings
            if number < len(found):
                self._book(patient_id, found[number].starts_at, _named(found[number]))

    def _search(self, patient_id: UUID) -> Search:
        return Search(
            start=MONDAY_9,
            end=MONDAY_9 + WINDOW * MINUTE,
            step_kind=StepKind.PREPARATION,
            patient_id=patient_id,
            limit=200,
        )

    def _book(
        self, patient_id: UUID, start: datetime, assignments: tuple[Named, ...] | None
    ) -> None:
        order = Order(
            patient_id=patient_id,
            starts_at=start,
            step_kind=StepKind.PREPARATION,
            assignments=assignments,
        )
        booking.book(self.session, order, by=DESK, now=SUNDAY_NOON)


def _closure(schedule_id: UUID, start: datetime, minutes: int) -> Closure:
    return Closure(
        schedule_id=schedule_id, starts_at=start, ends_at=start + minutes * MINUTE, reason="away"
    )


def _named(opening: Opening) -> tuple[Named, ...]:
    return tuple(Named(one.role, one.actor.schedule_id) for one in opening.assignments)


@contextmanager
def _passing(engine: Engine) -> Iterator[Session]:
    """A session of which nothing stays."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        outer.rollback()


ONLY_STOOD_BY = Given(
    phases=[{"role": "therapist", "from": 0, "to": 5, "source": "T", "present": True}],
    minutes=30,
    grid=15,
    people=[(["therapist"], 1, HERE)],
    rooms=1,
    hours=[(0, 120), (0, 120)],
    by_video=True,
)


STANDS_BY_FOR_ONE_WHO_IS_FULL = Given(
    phases=[
        {"role": "therapist", "from": 25, "to": 30, "source": "T", "shared": True},
        {"role": "therapist", "from": 0, "to": 5, "source": "T", "present": True},
    ],
    minutes=30,
    grid=15,
    people=[(["therapist"], 1, HERE), (["therapist"], 1, THERE), (["therapist"], 1, HERE)],
    rooms=2,
    hours=[(0, 120), (0, 155), (55, 120), (0, 120), (0, 120)],
    closures=[(0, 0, 30), (0, 0, 30)],
    visits=[0],
    by_video=True,
    most_per_day=1,
)


@pytest.mark.timeout(0)
@cases(10)
@example(made=ONLY_STOOD_BY)
@example(made=STANDS_BY_FOR_ONE_WHO_IS_FULL)
@given(made=clinics())
def test_what_is_offered_can_be_booked_and_nothing_is_left_out(
    service_engine: Engine, made: Given
) -> None:
    with _passing(service_engine) as session:
        clinic = Clinic(session, made)
        offered = clinic.offered()
        for start in clinic.grid():
            if start in offered:
                assert clinic.can_book(start, _named(offered[start]))
            else:
                can = [named for named in clinic.choices() if clinic.can_book(start, named)]
                assert can == []
            assert clinic.can_book(start, None) is (start in offered)
        assert set(offered) <= set(clinic.grid())
