"""Fifty people want the last places of a group session at once: exactly as many get one."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from models import Appointment, GroupSession, Message, Slot, enter_clinic
from models.vocabulary import Role
from tests.factories import MONDAY_9, SUNDAY_NOON, make_world
from tests.groups import PLACES, Circle, make_circle
from tests.service import Service, give_keys

MANY = 50
TWICE = 10
"""So many of them ask twice at once."""

pytestmark = pytest.mark.faults


def test_of_fifty_at_once_as_many_win_as_there_are_places(
    service: Service, service_engine: Engine
) -> None:
    with Session(service_engine) as session:
        world = make_world(session)
        circle = make_circle(session, world, MANY - TWICE)
        session.commit()
        give_keys(service, session, world.clinic_id, SUNDAY_NOON)
    service.start("web")
    path = _session(service, circle)
    members = [*circle.members, *circle.members[:TWICE]]

    def ask(number: int) -> tuple[int, str, float]:
        member = members[number]
        told = {
            "patient_id": str(member.patient_id),
            "course_step_id": str(member.steps["preparation"]),
        }
        begun = time.monotonic()
        answer = service.call(Role.SCHEDULER, "POST", f"{path}/places", told)
        return answer.status_code, answer.json().get("type", ""), time.monotonic() - begun

    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(ask, range(MANY)))

    assert Counter(status for status, _, _ in answers) == {201: PLACES, 409: MANY - PLACES}
    told = {kind.removeprefix("/problems/") for _, kind, _ in answers if kind}
    assert told <= {"session-full", "slot-taken", "step-already-booked"}, told
    slowest = max(seconds for _, _, seconds in answers)
    print(f"{MANY} takers of {PLACES} places: the slowest answer took {slowest:.2f} s")  # noqa: T201
    assert slowest < 10
    with Session(service_engine) as session:
        enter_clinic(session, world.clinic_id)
        visits = session.scalars(select(Appointment)).all()
        assert {one.place for one in visits} == set(range(1, PLACES + 1))
        assert len({one.patient_id for one in visits}) == len(visits) == PLACES
        own = session.scalars(select(Slot.schedule_id).where(Slot.role == "patient")).all()
        assert len(set(own)) == len(own) == PLACES
        assert session.scalars(select(GroupSession.version)).all() == [1 + PLACES]
        told_of = select(func.count(func.distinct(Message.appointment_id)))
        assert session.scalar(told_of) == PLACES


def test_some_leave_and_it_moves_while_others_join(
    service: Service, service_engine: Engine
) -> None:
    """Whatever the order: nobody is left at another time than the session's, or sits twice."""
    with Session(service_engine) as session:
        world = make_world(session)
        circle = make_circle(session, world, 18)
        session.commit()
        give_keys(service, session, world.clinic_id, SUNDAY_NOON)
    service.start("web")
    path = _session(service, circle)

    def join(number: int) -> int:
        member = circle.members[number]
        told = {
            "patient_id": str(member.patient_id),
            "course_step_id": str(member.steps["preparation"]),
        }
        answer = service.call(Role.SCHEDULER, "POST", f"{path}/places", told)
        if answer.status_code == 201 and number % 3 == 0:
            where = answer.headers["Location"].removeprefix("/api/v1")
            etag = {"If-Match": answer.headers["ETag"]}
            return service.call(Role.SCHEDULER, "POST", f"{where}/cancel", {}, **etag).status_code
        return answer.status_code

    def move(hours: int) -> int:
        found = service.call(Role.SCHEDULER, "GET", path)
        told = {"starts_at": MONDAY_9.replace(hour=14 + hours).isoformat()}
        etag = {"If-Match": found.headers["ETag"]}
        answer = service.call(Role.SCHEDULER, "POST", f"{path}/reschedule", told, **etag)
        return answer.status_code

    with ThreadPoolExecutor(24) as pool:
        joined = [pool.submit(join, number) for number in range(18)]
        moved = [pool.submit(move, hours) for hours in (1, 2, 3, 4, 5, 6)]
        answers = Counter(one.result() for one in (*joined, *moved))

    assert set(answers) <= {200, 201, 409, 412}, answers
    with Session(service_engine) as session:
        enter_clinic(session, world.clinic_id)
        group = session.scalars(select(GroupSession)).one()
        standing = session.scalars(select(Appointment).where(Appointment.status == "booked")).all()
        assert {one.starts_at for one in standing} <= {group.starts_at}
        assert len({one.place for one in standing}) == len(standing) <= PLACES
        slots = session.execute(select(Slot.role, Slot.starts_at).where(Slot.status == "busy"))
        assert Counter(row.starts_at for row in slots) == {group.starts_at: len(standing) + 3}


def _session(service: Service, circle: Circle) -> str:
    told = {
        "protocol_version_id": str(circle.version_id),
        "visit": "preparation",
        "starts_at": MONDAY_9.isoformat(),
        "assignments": circle.staff(0, 1),
    }
    answer = service.call(Role.SCHEDULER, "POST", "/group-sessions", told)
    assert answer.status_code == 201, answer.text
    return f"/group-sessions/{answer.json()['id']}"
