"""42 CFR Part 2: what falls under it, who sees it, and what leaves the clinic of it."""

import io
import json
import threading
import zipfile
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from api import keys
from archiving import Archiver
from database.access import Access, connect
from models import Base, Course, enter_clinic, hide_part2
from models.vocabulary import Role
from scheduler import archives, courses, facts, part2
from scheduler.authority import Authority, Call
from scheduler.permissions import BUNDLES, SEES_ALL, Permission
from tests import after
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient, make_protocol
from tests.integration.conftest import Caller, Keyring
from tests.worlds import furnish

FALLS: dict[str, Any] = {"part2": True}
READS = BUNDLES[Role.CLINICIAN] - SEES_ALL - {Permission.PART2_READ}
CARE = {
    "purpose": "treatment-payment-operations",
    "recipient": "My treating providers and health plans",
    "signed_on": "2026-02-27",
}


@pytest.fixture
def hidden(session: Session, world: World, bound: Any) -> after.Course:
    """A course with a visit ahead, whose protocol says that it falls under it."""
    made = after.open_course(session, world, after.content(code="test-part2", part2=True))
    made.book("preparation", MONDAY_9, SUNDAY_NOON)
    session.commit()
    return made


@pytest.fixture
def shown(session: Session, hidden: after.Course) -> after.Course:
    """Another patient's, of which nobody said so."""
    patient_id, _ = make_patient(session)
    version_id = make_protocol(session, after.content())
    course = courses.open_course(session, patient_id, version_id, by=after.DESK)
    made = after.Course(session, patient_id, course.id)
    made.book("preparation", MONDAY_9 + 3 * DAY, SUNDAY_NOON)
    session.commit()
    return made


@pytest.fixture
def reader(key: Keyring) -> Caller:
    """Another system: it reads what a clinician may read, but for this."""
    return key(Role.CLINICIAN, name="elsewhere", scopes=READS)


def ids(answer: Any) -> set[str]:
    return {one["id"] for one in answer.json["items"]}


class TestWhatFallsUnderIt:
    def test_is_what_the_protocol_says_with_its_visits(
        self, doctor: Caller, hidden: after.Course, shown: after.Course
    ) -> None:
        for course, falls in ((hidden, True), (shown, False)):
            read = doctor.get(f"/courses/{course.id}")
            assert read.json["part2"] is falls
            assert course.visit("preparation").part2 is falls
            etag = read.headers["ETag"]
            told = {"part2": not falls}
            changed = doctor("PATCH", f"/courses/{course.id}", told, etag=etag)
            if falls:
                assert changed.status_code == 422
                assert changed.json["type"] == "/problems/unfit"
                assert changed.json["field"] == "part2"
            else:
                assert changed.json["part2"] is True

    def test_or_who_opens_the_course_or_a_clinician_later(
        self, desk: Caller, doctor: Caller, admin: Caller, shown: after.Course, world: World
    ) -> None:
        told = {"patient_id": str(world.patient_id), "protocol_code": "test-after"}
        assert desk.post("/courses", told).json["part2"] is False
        made = desk.post("/courses", told | FALLS)
        assert (made.status_code, made.json["part2"]) == (201, True)
        visit = shown.visit("preparation")
        before = desk.get(f"/appointments/{visit.id}").headers["ETag"]
        for falls in (True, False):
            etag = desk.get(f"/courses/{shown.id}").headers["ETag"]
            path, change = f"/courses/{shown.id}", {"part2": falls}
            assert desk("PATCH", path, change, etag=etag).status_code == 403
            assert doctor("PATCH", path, change, etag=etag).json["part2"] is falls
            shown.session.expire_all()
            assert shown.visit("preparation").part2 is falls
            line = admin.get("/audit-events?entity=course&sort=desc&limit=1").json["items"][0]
            assert line["facts"] == {"changed": ["part2"], "part2": falls}
        assert desk.get(f"/appointments/{visit.id}").headers["ETag"] != before

    def test_a_visit_without_a_course_follows_its_protocol(
        self, session: Session, hidden: after.Course
    ) -> None:
        there = hidden.visit("preparation")
        values = {
            "site": there.site_id,
            "patient": there.patient_id,
            "v": there.protocol_version_id,
        }
        made = session.execute(
            text(
                "INSERT INTO appointment (id, patient_id, protocol_version_id, visit, kind, "
                "site_id, status, starts_at, ends_at, booked_by) VALUES (gen_random_uuid(), "
                ":patient, :v, 'preparation', 'preparation', :site, 'cancelled', now(), "
                "now() + interval '1 hour', 'test') RETURNING part2"
            ),
            values,
        )
        assert made.scalar_one() is True

    def test_one_that_is_booked_meanwhile_follows_too(
        self, committed: Session, service_engine: Engine, committed_world: World
    ) -> None:
        """Whoever marks the course has it locked; the booking waits and sees the mark."""
        course = after.open_course(committed, committed_world)
        committed.commit()
        part2.mark(committed, Call(course.id, None), falls=True)
        made: list[bool] = []

        def book() -> None:
            with Session(service_engine) as other:
                enter_clinic(other, committed_world.clinic_id)
                theirs = after.Course(other, committed_world.patient_id, course.id)
                visit = theirs.book("preparation", MONDAY_9, SUNDAY_NOON)
                other.commit()
                other.refresh(visit)
                made.append(visit.part2)

        booking = threading.Thread(target=book)
        booking.start()
        _wait_until_somebody_waits(committed)
        committed.commit()
        booking.join(20)
        assert made == [True]


def _wait_until_somebody_waits(session: Session) -> None:
    """Until a connection waits for a lock of another."""
    event = threading.Event()
    for _ in range(400):
        if session.scalar(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")):
            return
        event.wait(0.05)
    raise AssertionError("nobody waits")


class TestWhoMayNotSee:
    @pytest.mark.parametrize("who", ["auditor", "reader"])
    def test_finds_neither_the_patient_nor_what_is_theirs(
        self,
        request: pytest.FixtureRequest,
        key: Keyring,
        hidden: after.Course,
        shown: after.Course,
        who: str,
    ) -> None:
        caller = key(Role.AUDITOR) if who == "auditor" else request.getfixturevalue("reader")
        visit, other = hidden.visit("preparation"), shown.visit("preparation")
        for course, one, status in ((shown, other, 200), (hidden, visit, 404)):
            for path in (
                *(f"/courses/{course.id}", f"/courses/{course.id}/proposals"),
                *(f"/appointments/{one.id}", f"/appointments/{one.id}/events"),
                *(f"/appointments/{one.id}/readiness", f"/appointments/{one.id}/messages"),
                f"/patients/{course.patient_id}/channel-consents",
            ):
                assert caller.get(path).status_code == status, path
        assert ids(caller.get("/courses")) == {str(shown.id)}
        assert ids(caller.get("/appointments")) == {str(other.id)}
        told = caller.get("/messages?limit=200").json["items"]
        assert {one["appointment_id"] for one in told} == {str(other.id)}
        board = caller.get("/readiness?from=2026-03-02T00:00:00Z&to=2026-03-09T00:00:00Z").json
        assert {one["appointment"]["id"] for one in board["items"]} == {str(other.id)}

    def test_reads_no_line_about_them_in_the_trail(
        self, key: Keyring, admin: Caller, desk: Caller, hidden: after.Course
    ) -> None:
        desk.get(f"/courses/{hidden.id}")
        auditor = key(Role.AUDITOR)
        auditor.get(f"/courses/{hidden.id}")
        asked = f"/audit-events?entity_id={hidden.id}"
        lines = admin.get(asked).json["items"]
        # Who was turned away is on it as well, with whose record it was.
        assert [one["outcome"] for one in lines] == ["denied", "success"]
        assert {one["patient_id"] for one in lines} == {str(hidden.patient_id)}
        assert auditor.get(asked).json["items"] == []

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR])
    def test_takes_the_trail_along_without_them(
        self, app: Flask, committed: Session, committed_world: World, role: Role
    ) -> None:
        """Streamed once the request is over: what it saw is to be set again."""
        course = after.open_course(committed, committed_world)
        part2.mark(committed, Call(course.id, None), falls=True)
        _, doctors = keys.issue(committed, "doctor", Role.CLINICIAN, None, SUNDAY_NOON)
        _, theirs = keys.issue(committed, "theirs", role, None, SUNDAY_NOON)
        committed.commit()
        Caller(app.test_client(), doctors).get(f"/courses/{course.id}")
        Caller(app.test_client(), doctors).get("/courses")
        for form in ("jsonl", "csv"):
            path = f"/audit-events/export?format={form}"
            told = Caller(app.test_client(), theirs).get(path).get_data(as_text=True)
            assert (str(course.id) in told) is (role is Role.ADMIN)
            assert "list_courses" in told

    def test_is_told_what_nobody_is_told_of_what_is_not_there(
        self, reader: Caller, hidden: after.Course
    ) -> None:
        nothing = "00000000-0000-7000-8000-000000000000"
        for path in ("courses", "appointments"):
            thing = hidden.id if path == "courses" else hidden.visit("preparation").id
            here, there = (reader.get(f"/{path}/{one}") for one in (thing, nothing))
            assert here.status_code == there.status_code == 404
            told = [dict(answer.json or {}, instance="") for answer in (here, there)]
            assert told[0] == told[1]

    def test_everybody_who_books_sees_all(
        self, desk: Caller, doctor: Caller, admin: Caller, hidden: after.Course
    ) -> None:
        for caller in (desk, doctor, admin):
            assert caller.get(f"/courses/{hidden.id}").status_code == 200
            assert ids(caller.get("/appointments")) == {str(hidden.visit("preparation").id)}

    def test_still_finds_no_time_that_such_a_visit_takes(
        self, key: Keyring, doctor: Caller, hidden: after.Course, shown: after.Course
    ) -> None:
        """Free times show nobody; a time that is taken is taken for everybody."""
        blind = key(Role.SCHEDULER, scopes=[Permission.OPENINGS_READ])
        when = "from=2026-03-02T14:00:00Z&to=2026-03-02T17:00:00Z"
        seen = [caller.get(f"/openings?step_kind=preparation&{when}") for caller in (blind, doctor)]
        assert seen[0].status_code == 200, seen[0].json
        assert seen[0].json == seen[1].json
        assert min(one["starts_at"] for one in seen[0].json["items"]) == "2026-03-02T15:00:00Z"
        for course, status in ((shown, 200), (hidden, 404)):
            step = next(one for one in facts.steps_of(course.session, course.id))
            named = f"step_kind=preparation&patient_id={course.patient_id}"
            for query in (f"course_step_id={step.id}", named):
                assert blind.get(f"/openings?{query}&{when}").status_code == status, query
                assert doctor.get(f"/openings?{query}&{when}").status_code == 200, query

    def test_is_not_told_whose_it_is_by_another_system(
        self, admin: Caller, desk: Caller, doctor: Caller, shown: after.Course, session: Session
    ) -> None:
        """Nor of what was written before the course was flagged, and is still to be sent."""
        made = {"url": "https://127.0.0.1:9/hooks", "event_types": ["*"]}
        assert admin.post("/webhooks", made).status_code == 201
        other, _ = make_patient(session)
        session.commit()
        told = {"patient_id": str(other), "protocol_code": "test-after"}
        assert desk.post("/courses", told | FALLS).headers["ETag"] == '"1"'
        visit = shown.visit("preparation")
        etag = desk.get(f"/appointments/{visit.id}").headers["ETag"]
        assert desk.post(f"/appointments/{visit.id}/confirm", etag=etag).status_code == 200

        def named() -> set[Any]:
            return set(session.scalars(text("SELECT data->>'patient_id' FROM webhook_event")))

        assert named() == {None, str(shown.patient_id)}
        etag = doctor.get(f"/courses/{shown.id}").headers["ETag"]
        assert doctor("PATCH", f"/courses/{shown.id}", FALLS, etag=etag).status_code == 200
        assert named() == {None}

    @pytest.mark.parametrize("scope", sorted(SEES_ALL & BUNDLES[Role.CLINICIAN]))
    def test_is_nobody_who_changes_plans(
        self, key: Keyring, hidden: after.Course, scope: Permission
    ) -> None:
        """A dose that is hidden would count for no gap between doses."""
        caller = key(Role.CLINICIAN, name="x", scopes=[scope, Permission.COURSES_READ])
        assert caller.get(f"/courses/{hidden.id}").status_code == 200


@pytest.fixture
def furnished(committed: Session, service_engine: Engine, worker_engine: Engine) -> Any:
    """A clinic with one of everything, all of whose courses fall under it."""
    with Session(service_engine) as service, Session(worker_engine) as worker:
        there = furnish(service, worker, "Part 2 Practice")
        enter_clinic(service, there.world.clinic_id)
        for course in service.query(Course).all():
            part2.mark(service, Call(course.id, None), falls=True)
        service.commit()
    return there


NOT_HIDDEN = {"slot"}
"""A time that is taken, which says of nobody."""
ABOUT_ANYTHING = {"audit_event", "calendar_feed", "group_session", "message_archive", "patient"}
"""They lead to a patient otherwise than by a foreign key, or are one."""


def leading_to_patients() -> dict[str, str]:
    """By the name of each table that leads to a patient by foreign keys, however far: how."""
    found = {"patient": "SELECT id FROM patient WHERE id = :patient"}
    while True:
        more: dict[str, str] = {}
        for name, table in Base.metadata.tables.items():
            ways = [
                f"{column.name} IN ({found[fk.referred_table.name]})"
                for fk in table.foreign_key_constraints
                if fk.referred_table.name in found
                for column in fk.columns
                if column.name != "clinic_id"
            ]
            if ways and name not in found:
                more[name] = f"SELECT id FROM {name} WHERE {' OR '.join(ways)}"
        if not more:
            return found
        found |= more


def test_all_that_leads_to_such_a_patient_is_hidden_with_them(
    furnished: Any, service_engine: Engine, database: Access
) -> None:
    """Every table, as the models have their foreign keys, in a clinic with one of everything."""
    with connect(database.owner) as connection:
        rules = connection.execute(
            "SELECT tablename::text FROM pg_policies WHERE policyname = 'part2' "
            "AND permissive = 'RESTRICTIVE' AND cmd = 'SELECT'"
        ).fetchall()
    tables = leading_to_patients()
    assert {name for (name,) in rules} == (tables.keys() | ABOUT_ANYTHING) - NOT_HIDDEN
    there, seen = set(), set()
    with Session(service_engine) as session:
        enter_clinic(session, furnished.world.clinic_id)
        asked = {"patient": furnished.world.patient_id}
        rows = {name: session.scalars(text(query), asked).all() for name, query in tables.items()}
        hide_part2(session, hidden=True)
        for name, found in rows.items():
            query = text(f"SELECT count(*) FROM {name} WHERE id = ANY (:ids)")
            if found:
                there.add(name)
            if session.scalar(query, {"ids": list(found)}):
                seen.add(name)
    assert seen == NOT_HIDDEN & there
    assert len(there) > 25, tables.keys() - there


class TestConsents:
    @pytest.fixture
    def path(self, world: World) -> str:
        return f"/patients/{world.patient_id}/disclosure-consents"

    def test_are_noted_read_and_withdrawn(self, desk: Caller, key: Keyring, path: str) -> None:
        made = desk.post(path, CARE)
        assert (made.status_code, made.json["ends_on"]) == (201, None)
        one = f"{path}/{made.json['id']}"
        assert desk.get(one).json == made.json
        assert key(Role.AUDITOR).get(path).status_code == 403
        assert desk.post(f"{one}/withdraw").status_code == 428
        back = desk.post(f"{one}/withdraw", etag=made.headers["ETag"])
        assert back.json["withdrawn_at"] == "2026-03-01T12:00:00Z"
        again = desk.post(f"{one}/withdraw", etag=back.headers["ETag"])
        assert (again.status_code, again.json["type"]) == (409, "/problems/wrong-status")
        assert [each["id"] for each in desk.get(path).json["items"]] == [made.json["id"]]

    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ({"signed_on": "2026-03-02"}, "/signed_on"),
            ({"ends_on": "2026-02-26"}, "/ends_on"),
            ({"purpose": "marketing"}, "/purpose"),
            ({"recipient": " "}, "/recipient"),
        ],
    )
    def test_make_sense(self, desk: Caller, path: str, told: Any, field: str) -> None:
        answer = desk.post(path, CARE | told)
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, field)

    def test_say_to_whom_where_nobody_reads_it(
        self, desk: Caller, path: str, session: Session
    ) -> None:
        desk.post(path, CARE)
        [stored] = session.scalars(text("SELECT recipient FROM disclosure_consent"))
        assert "providers" not in stored


class TestWhatLeaves:
    KINDS = ("courses", "course-steps", "appointments")

    def taken(self, caller: Caller, kind: str) -> tuple[list[Any], str | None]:
        answer = caller.get(f"/exports/{kind}?format=ndjson")
        assert answer.status_code == 200
        lines = [json.loads(line) for line in answer.get_data(as_text=True).splitlines()]
        return lines, answer.headers.get("Withheld-Records")

    def about(self, course: after.Course, lines: list[Any]) -> list[Any]:
        mine = (str(course.id),)
        return [one for one in lines if one["id"] in mine or one.get("course_id") in mine]

    @pytest.mark.parametrize("kind", KINDS)
    def test_takes_the_patients_consent_and_a_notice_along(
        self, admin: Caller, hidden: after.Course, shown: after.Course, world: World, kind: str
    ) -> None:
        path = f"/patients/{world.patient_id}/disclosure-consents"
        lines, withheld = self.taken(admin, kind)
        assert self.about(hidden, lines) == []
        assert [one["redisclosure_notice"] for one in lines] == [None] * len(lines)
        assert self.about(shown, lines) != []
        assert withheld not in {None, "0"}
        for no in (
            CARE | {"purpose": "other"},
            CARE | {"signed_on": "2026-02-01", "ends_on": "2026-02-28"},
        ):
            admin.post(path, no)
            assert self.about(hidden, self.taken(admin, kind)[0]) == []
        made = admin.post(path, CARE | {"ends_on": "2026-03-01"})
        lines, withheld = self.taken(admin, kind)
        theirs = self.about(hidden, lines)
        [notice] = {one["redisclosure_notice"] for one in theirs}
        assert notice.startswith(part2.NOTICE)
        assert "2026-02-27" in notice
        assert {one["redisclosure_notice"] for one in self.about(shown, lines)} == {None}
        assert withheld == "0"
        one = f"{path}/{made.json['id']}/withdraw"
        assert admin.post(one, etag=made.headers["ETag"]).status_code == 200
        assert self.about(hidden, self.taken(admin, kind)[0]) == []

    def test_is_nothing_for_who_may_not_see_it(
        self, key: Keyring, admin: Caller, hidden: after.Course, world: World
    ) -> None:
        admin.post(f"/patients/{world.patient_id}/disclosure-consents", CARE)
        blind = key(Role.ADMIN, name="blind", scopes=[Permission.BULK_EXPORT])
        for kind in self.KINDS:
            assert self.taken(blind, kind) == ([], "0")
            assert self.taken(admin, kind)[0] != []
        assert self.taken(blind, "patients")[0] == []
        assert self.taken(admin, "patients")[0] != []

    def test_what_is_taken_back_meanwhile_stays(
        self, admin: Caller, hidden: after.Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = f"/patients/{hidden.patient_id}/disclosure-consents"
        made = admin.post(path, CARE)
        at = made.headers["ETag"]
        asks = facts.disclosed_by

        def late(*told: Any) -> Any:
            admin.post(f"{path}/{made.json['id']}/withdraw", etag=at)
            return asks(*told)

        monkeypatch.setattr("scheduler.facts.disclosed_by", late)
        assert self.about(hidden, self.taken(admin, "courses")[0]) == []

    @pytest.mark.parametrize("falls", [False, True])
    def test_an_archive_says_it_for_all(
        self, committed: Session, service_engine: Engine, committed_world: World, falls: bool
    ) -> None:
        course = after.open_course(committed, committed_world)
        part2.mark(committed, Call(course.id, None), falls=falls)
        asked = archives.ask(committed, Authority("key:admin"), SUNDAY_NOON)
        committed.commit()
        Archiver(service_engine, lambda: SUNDAY_NOON).work([committed_world.clinic_id])
        assert _manifest(committed, asked.id)["redisclosure_notice"] == (
            part2.NOTICE if falls else None
        )


def _manifest(session: Session, archive_id: UUID) -> Any:
    file, number = io.BytesIO(), 0
    while (piece := archives.piece(session, archive_id, number)) is not None:
        file.write(piece)
        number += 1
    with zipfile.ZipFile(file) as whole:
        return json.loads(whole.read("manifest.json"))
