"""Outcomes over HTTP: scores of a course against its doses, in figures and as a picture."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, Patient, enter_clinic
from models.vocabulary import Role
from tests import after
from tests.after import Course
from tests.factories import MONDAY_9, World, make_patient, make_world
from tests.integration.conftest import Caller, Clock, Keyring

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def course(session: Session, world: World, clock: Clock, bound: Any) -> Course:
    """19 when it was opened, 16 before the first dose, 12 and 4 after it."""
    made = after.open_course(session, world)
    now = clock.now
    first = made.book("preparation", MONDAY_9, now)
    made.answer(first, "phq-9", 19, MONDAY_9 - HOUR)
    made.answer(first, "gad-7", 14, MONDAY_9 - HOUR)
    made.walk(first)
    doses = [
        made.book(f"dosing-{n}", at, now)
        for n, at in ((1, MONDAY_9 + 2 * DAY), (2, MONDAY_9 + 9 * DAY))
    ]
    made.answer(doses[0], "phq-9", 16, MONDAY_9 + 1 * DAY)
    made.walk(doses[0])
    made.answer(doses[1], "phq-9", 12, MONDAY_9 + 8 * DAY)
    clock.now = MONDAY_9 + 10 * DAY
    session.commit()
    return made


@pytest.fixture
def path(course: Course) -> str:
    return f"/courses/{course.id}/outcomes"


def points(found: Any, instrument: str) -> list[tuple[int, str | None, int | None]]:
    [curve] = [one for one in found["curves"] if one["instrument"] == instrument]
    return [
        (one["score"], one["band"], one["change"] and one["change"]["points"])
        for one in curve["points"]
    ]


class TestFigures:
    def test_scores_stand_beside_the_last_before_the_first_dose(
        self, doctor: Caller, path: str
    ) -> None:
        found = doctor.get(path).json
        assert points(found, "phq-9") == [
            (19, "moderately-severe", None),
            (16, "moderately-severe", None),
            (12, "moderate", -4),
        ]
        assert points(found, "gad-7") == [(14, "moderate", None)]
        phq = found["curves"][1]
        assert phq["baseline_id"] == phq["points"][1]["id"]
        assert found["time_zone"] == "America/New_York"

    def test_doses_are_told_given_or_not(self, doctor: Caller, path: str) -> None:
        first, second = doctor.get(path).json["doses"]
        assert (first["step"], first["status"]) == ("dosing-1", "fulfilled")
        given = MONDAY_9 + 2 * DAY + timedelta(minutes=10)
        assert datetime.fromisoformat(first["dosed_at"]) == given
        assert (second["step"], second["status"], second["dosed_at"]) == (
            "dosing-2",
            "booked",
            None,
        )

    def test_what_staff_enter_counts_by_what_they_say_it_is_about(
        self, doctor: Caller, path: str, course: Course
    ) -> None:
        where = f"/patients/{course.patient_id}/questionnaire-responses"
        told = {"instrument": "madrs", "score": 30}
        days = {"before": -2 * DAY, "within": 3 * DAY}
        for days_from in days.values():
            at = (MONDAY_9 + days_from).isoformat()
            assert doctor.post(where, {**told, "authored_at": at}).status_code == 201
        assert len(points(doctor.get(path).json, "madrs")) == 1
        early = {**told, "score": 33, "authored_at": (MONDAY_9 - 3 * DAY).isoformat()}
        assert doctor.post(where, {**early, "course_id": str(course.id)}).status_code == 201
        found = points(doctor.get(path).json, "madrs")
        assert [(score, change) for score, _, change in found] == [(33, None), (30, -3)]

    def test_what_is_entered_on_its_day_is_about_the_course_that_the_patient_is_in(
        self, doctor: Caller, desk: Caller, session: Session, world: World, clock: Clock
    ) -> None:
        """Also before the first visit: that is what a course begins from."""
        made = after.open_course(session, world)
        session.commit()
        where = f"/patients/{made.patient_id}/questionnaire-responses"
        told = {"instrument": "madrs", "score": 30}
        entered = doctor.post(where, told).json
        assert entered["course_id"] == str(made.id)
        wrong = doctor.post(where, {**told, "authored_at": (clock.now - DAY).isoformat()}).json
        assert wrong["course_id"] is None  # another day's may be another time's
        right = {**told, "score": 31, "replaces": entered["id"]}
        assert doctor.post(where, right).json["course_id"] == str(made.id)
        found = doctor.get(f"/courses/{made.id}/outcomes").json
        assert points(found, "madrs") == [(31, None, None)]

    def test_a_response_is_about_a_course_of_its_patient(
        self, doctor: Caller, session: Session, course: Course
    ) -> None:
        another, _ = make_patient(session)
        session.commit()
        told = {"instrument": "madrs", "score": 30, "course_id": str(course.id)}
        where = f"/patients/{another}/questionnaire-responses"
        refused = doctor.post(where, told)
        assert (refused.status_code, refused.json["field"]) == (422, "course_id")
        unknown = doctor.post(where, {**told, "course_id": str(uuid4())})
        assert unknown.status_code == 404
        assert doctor.get(where).json["items"] == []

    def test_an_entry_in_error_is_no_point(self, doctor: Caller, path: str, course: Course) -> None:
        where = f"/patients/{course.patient_id}/questionnaire-responses"
        wrong = doctor.get(path).json["curves"][0]["points"][0]["id"]
        undone = {"instrument": "gad-7", "replaces": wrong, "in_error": True}
        assert doctor.post(where, undone).status_code == 201
        assert [one["instrument"] for one in doctor.get(path).json["curves"]] == ["phq-9"]

    def test_the_same_figures_have_the_same_etag(
        self, doctor: Caller, path: str, course: Course
    ) -> None:
        etag = doctor.get(path).headers["ETag"]
        assert doctor.get(path, **{"If-None-Match": etag}).status_code == 304
        where = f"/patients/{course.patient_id}/questionnaire-responses"
        told = {"instrument": "madrs", "score": 30, "course_id": str(course.id)}
        doctor.post(where, told)
        assert doctor.get(path, **{"If-None-Match": etag}).status_code == 200

    def test_who_read_it_is_written_down(
        self, doctor: Caller, session: Session, path: str, course: Course
    ) -> None:
        doctor.get(path)
        doctor.get(f"{path}/picture")
        read = select(func.count()).where(
            AuditEvent.entity_id == course.id, AuditEvent.action == "read"
        )
        assert session.scalar(read) == 2


class TestPicture:
    def test_it_is_one_of_two_kinds(self, doctor: Caller, path: str) -> None:
        svg = doctor.get(f"{path}/picture")
        assert (svg.status_code, svg.mimetype) == (200, "image/svg+xml")
        assert b"16" in svg.data
        assert "sandbox" in svg.headers["Content-Security-Policy"]
        assert svg.headers["Cache-Control"] == "no-store"
        png = doctor.get(f"{path}/picture?format=png&instrument=phq-9")
        assert (png.status_code, png.mimetype) == (200, "image/png")
        assert png.data.startswith(b"\x89PNG")

    def test_it_names_nobody(
        self, doctor: Caller, session: Session, path: str, course: Course
    ) -> None:
        patient = session.scalars(select(Patient).where(Patient.id == course.patient_id)).one()
        told = doctor.get(f"{path}/picture").text
        assert "PHQ-9" in told
        for name in ("given_name", "family_name", "record_number", "email", "id"):
            assert f"{getattr(patient, name)}".lower() not in told.lower(), name

    def test_one_instrument_alone(self, doctor: Caller, path: str) -> None:
        told = doctor.get(f"{path}/picture?instrument=gad-7").text
        assert "GAD-7" in told
        assert "PHQ-9" not in told
        assert "Nothing yet" in doctor.get(f"{path}/picture?instrument=sds").text

    def test_the_same_picture_is_not_drawn_again(self, doctor: Caller, path: str) -> None:
        svg = doctor.get(f"{path}/picture").headers["ETag"]
        png = doctor.get(f"{path}/picture?format=png").headers["ETag"]
        assert svg != png
        again = doctor.get(f"{path}/picture", **{"If-None-Match": svg})
        assert (again.status_code, again.data) == (304, b"")

    @pytest.mark.parametrize(
        "query", ["format=gif", "format=", "instrument=nothing", "size=9", "format=svg%00"]
    )
    def test_what_it_does_not_know_is_refused(self, doctor: Caller, path: str, query: str) -> None:
        assert doctor.get(f"{path}/picture?{query}").status_code == 422


@pytest.mark.parametrize("what", ["outcomes", "outcomes/picture"])
class TestDoors:
    def test_clinicians_alone_see_scores(self, key: Keyring, course: Course, what: str) -> None:
        assert key(Role.AUDITOR).get(f"/courses/{course.id}/{what}").status_code == 403
        assert key(Role.SCHEDULER).get(f"/courses/{course.id}/{what}").status_code == 403
        assert key(Role.CLINICIAN).get(f"/courses/{course.id}/{what}").status_code == 200

    def test_another_clinic_sees_nothing(
        self, doctor: Caller, session: Session, world: World, what: str
    ) -> None:
        other = make_world(session, "Another Practice")
        theirs = after.open_course(session, other)
        enter_clinic(session, world.clinic_id)
        session.commit()
        for course_id in (theirs.id, uuid4()):
            assert doctor.get(f"/courses/{course_id}/{what}").status_code == 404
