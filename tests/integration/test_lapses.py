"""A licence that ends: who else could serve the visits after it, without closing anything."""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, Closure, Practitioner, Proposal, Qualification, Site
from models.vocabulary import PractitionerRole
from scheduler import facts
from tests.factories import DAY, MONDAY_9, World, clear, make_practitioner, make_site
from tests.integration.conftest import Caller
from tests.integration.test_repairs import course

DOSE_ON = date(2026, 3, 4)


@pytest.fixture
def booked(session: Session, world: World, desk: Caller) -> dict[str, Any]:
    """A course with a dose on Wednesday, and a second nurse."""
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    made = course(desk, world.patient_id)
    make_practitioner(session, world.site_id, PractitionerRole.MONITOR, lanes=2)
    session.commit()
    return made


def licence(session: Session, world: World, until: date) -> Qualification:
    """The nurse's, which now ends on a day."""
    found = session.scalars(
        select(Qualification)
        .join(Practitioner, Practitioner.id == Qualification.practitioner_id)
        .where(Practitioner.schedule_id == world.monitor)
    ).one()
    found.valid_until = until
    session.commit()
    return found


def lapse(desk: Caller, held: Qualification, **more: Any) -> Any:
    return desk.post("/disruptions", {"qualification_id": str(held.id), **more})


@pytest.mark.parametrize(
    ("until", "moves"), [(date(2026, 3, 3), 1), (DOSE_ON, 0), (date(2026, 3, 2), 1)]
)
def test_visits_after_its_last_day_get_somebody_else(
    session: Session,
    desk: Caller,
    world: World,
    booked: dict[str, Any],
    until: date,
    moves: int,
) -> None:
    answer = lapse(desk, licence(session, world, until))
    assert answer.status_code == 201, answer.json
    assert answer.json["disruption"]["role"] == "monitor"
    found = answer.json["proposal"]["moves"]
    assert len(found) == moves
    assert session.scalar(select(Closure.id)) is None  # nothing is closed
    if not moves:
        return
    [move] = found
    assert move["from"] == move["to"]
    assert str(world.monitor) not in {one["schedule_id"] for one in move["assignments"]}
    visit = session.get_one(Appointment, (world.clinic_id, move["appointment_id"]))
    assert facts.unlicensed(session, visit, DOSE_ON) == ["monitor"]
    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept")
    assert [one["starts_at"] for one in done.json["appointments"]] == [move["from"]]
    session.expire_all()
    assert facts.unlicensed(session, visit, DOSE_ON) == []


@pytest.mark.parametrize(
    ("clinic", "site", "until", "moves"),
    [
        ("America/New_York", "Asia/Tokyo", date(2026, 3, 3), 1),  # the 3rd is not over in New York
        ("America/New_York", "Asia/Tokyo", DOSE_ON, 0),
        ("Asia/Tokyo", "America/New_York", DOSE_ON, 0),  # the 5th has begun in Tokyo
        ("Asia/Tokyo", "America/New_York", date(2026, 3, 3), 1),
    ],
)
def test_its_last_day_is_that_of_the_site(
    session: Session,
    desk: Caller,
    world: World,
    clinic: str,
    site: str,
    until: date,
    moves: int,
) -> None:
    facts.clinic(session).time_zone = clinic
    facts.one(session, Site, world.site_id).time_zone = site
    make_site(session, clinic)
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    session.commit()
    order = {
        "patient_id": str(world.patient_id),
        "step_kind": "dosing",
        "starts_at": datetime(2026, 3, 4, 9, tzinfo=ZoneInfo(site)).isoformat(),
    }
    booked = desk.post("/appointments", order)
    assert booked.status_code == 201, booked.json
    make_practitioner(session, world.site_id, PractitionerRole.MONITOR, lanes=2)
    answer = lapse(desk, licence(session, world, until))
    assert answer.status_code == 201, answer.json
    assert len(answer.json["proposal"]["moves"]) == moves
    assert len(session.scalars(select(Proposal)).all()) == moves


def test_one_that_goes_on_under_another_licence_breaks_nothing(
    session: Session, desk: Caller, world: World, booked: dict[str, Any]
) -> None:
    held = licence(session, world, date(2026, 3, 3))
    session.add(
        Qualification(
            practitioner_id=held.practitioner_id,
            role=held.role,
            licence="Another",
            valid_from=DOSE_ON,
            valid_until=date(2027, 3, 3),
            version=1,
        )
    )
    session.commit()
    refused = lapse(desk, held)
    assert (refused.status_code, refused.json["field"]) == (422, "qualification_id")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"from": MONDAY_9.isoformat()}, "from"),
        ({"schedule_id": "01920000-0000-7000-8000-000000000001"}, "schedule_id"),
        ({"to": (MONDAY_9 - DAY).isoformat()}, "to"),
        ({"to": (MONDAY_9 + 200 * DAY).isoformat()}, "to"),
        ({"qualification_id": None}, "qualification_id"),
    ],
)
def test_what_cannot_be_is_refused(
    session: Session, desk: Caller, world: World, booked: dict[str, Any], more: Any, field: str
) -> None:
    refused = lapse(desk, licence(session, world, date(2026, 3, 3)), **more)
    assert refused.status_code == 422
    assert field in str(refused.json)
