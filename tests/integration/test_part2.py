"""42 CFR Part 2: what falls under it, who sees it, and what leaves the clinic of it."""

import io
import json
import threading
import zipfile
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from archiving import Archiver
from database.access import Access, connect
from models import Course, enter_clinic, hide_part2
from models.vocabulary import Role
from scheduler import archives, part2
from scheduler.authority import Authority, Call
from scheduler.permissions import BUNDLES, TAKES_ALL, Permission
from tests import after
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World
from tests.integration.conftest import Caller, Clock, Keyring
from tests.worlds import furnish

FALLS: dict[str, Any] = {"part2": True}
READS = BUNDLES[Role.CLINICIAN] - TAKES_ALL - {Permission.PART2_READ}
CARE = {
    "purpose": "treatment-payment-operations",
    "recipient": "My treating providers and health plans",
    "signed_on": "2026-02-27",
}


def opened(session: Session, world: World, told: dict[str, Any] | None = None) -> after.Course:
    """A course with a visit ahead, under a protocol of its own."""
    made = after.open_course(session, world, after.content(**(told or {})))
    made.book("preparation", MONDAY_9, SUNDAY_NOON)
    session.commit()
    return made


@pytest.fixture
def hidden(session: Session, world: World, bound: Any) -> after.Course:
    return opened(session, world, {"code": "test-part2", **FALLS})


@pytest.fixture
def shown(session: Session, world: World, hidden: after.Course) -> after.Course:
    made = after.open_course(session, world)
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

    def test_or_who_opens_the_course_or_somebody_later(
        self, desk: Caller, shown: after.Course, world: World
    ) -> None:
        told = {"patient_id": str(world.patient_id), "protocol_code": "test-after"}
        assert desk.post("/courses", told).json["part2"] is False
        made = desk.post("/courses", told | FALLS)
        assert (made.status_code, made.json["part2"]) == (201, True)
        visit = shown.visit("preparation")
        before = desk.get(f"/appointments/{visit.id}").headers["ETag"]
        etag = desk.get(f"/courses/{shown.id}").headers["ETag"]
        assert desk("PATCH", f"/courses/{shown.id}", FALLS, etag=etag).status_code == 200
        shown.session.expire_all()
        assert shown.visit("preparation").part2 is True
        assert desk.get(f"/appointments/{visit.id}").headers["ETag"] != before
        etag = desk.get(f"/courses/{shown.id}").headers["ETag"]
        desk("PATCH", f"/courses/{shown.id}", {"part2": False}, etag=etag)
        shown.session.expire_all()
        assert shown.visit("preparation").part2 is False

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
    def test_finds_neither_the_course_nor_its_visits(
        self,
        request: pytest.FixtureRequest,
        key: Keyring,
        hidden: after.Course,
        shown: after.Course,
        who: str,
    ) -> None:
        caller = key(Role.AUDITOR) if who == "auditor" else request.getfixturevalue("reader")
        visit, other = hidden.visit("preparation"), shown.visit("preparation")
        assert caller.get(f"/courses/{shown.id}").status_code == 200
        assert caller.get(f"/appointments/{other.id}").status_code == 200
        for path in (
            *(f"/courses/{hidden.id}", f"/courses/{hidden.id}/proposals"),
            *(f"/appointments/{visit.id}", f"/appointments/{visit.id}/events"),
            *(f"/appointments/{visit.id}/readiness", f"/appointments/{visit.id}/messages"),
        ):
            answer = caller.get(path)
            assert answer.status_code == 404, path
        assert ids(caller.get("/courses")) == {str(shown.id)}
        assert ids(caller.get("/appointments")) == {str(other.id)}
        told = caller.get("/messages?limit=200").json["items"]
        assert {one["appointment_id"] for one in told} == {str(other.id)}

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
        self, key: Keyring, doctor: Caller, hidden: after.Course, world: World
    ) -> None:
        """Free times show nobody; a time that is taken is taken for everybody."""
        blind = key(Role.SCHEDULER, scopes=[Permission.OPENINGS_READ])
        query = "step_kind=preparation&from=2026-03-02T14:00:00Z&to=2026-03-02T17:00:00Z"
        seen = [caller.get(f"/openings?{query}") for caller in (blind, doctor)]
        assert seen[0].status_code == 200, seen[0].json
        assert seen[0].json == seen[1].json
        assert min(one["starts_at"] for one in seen[0].json["items"]) == "2026-03-02T15:00:00Z"

    def test_sees_it_in_an_emergency(
        self, key: Keyring, hidden: after.Course, world: World, clock: Clock
    ) -> None:
        caller = key(
            Role.CLINICIAN,
            name="tablet",
            scopes=[Permission.BREAK_GLASS_ASK, Permission.APPOINTMENTS_READ],
        )
        path = f"/appointments/{hidden.visit('preparation').id}"
        assert caller.get(path).status_code == 404
        told = {"patient_id": str(world.patient_id), "reason": "Found unconscious at the bus stop"}
        assert caller.post("/break-glass", told).status_code == 201
        assert caller.get(path).status_code == 200
        assert caller.get("/appointments").json["items"] == []
        clock.now += timedelta(minutes=60)
        assert caller.get(path).status_code == 404

    def test_a_key_that_changes_plans_is_given_leave_to_see_them(self, admin: Caller) -> None:
        told = {"name": "booking", "role": "scheduler", "scopes": ["appointments:write"]}
        refused = admin.post("/api-keys", told)
        assert refused.json["errors"][0]["pointer"] == "/scopes"
        assert "part2:read" in refused.json["errors"][0]["detail"]
        told["scopes"].append("part2:read")  # type: ignore[attr-defined]
        assert admin.post("/api-keys", told).status_code == 201


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


NAMES = ("course_id", "course_step_id", "appointment_id", "visit_id")
SHOWN_ALL_THE_SAME = {"slot"}
"""Whose time is taken, and when: of what, its visit says."""


def test_all_that_hangs_on_such_a_course_is_hidden_with_it(
    furnished: Any, service_engine: Engine, database: Access
) -> None:
    """Every table that names a course or a visit, as the catalogue has them."""
    with connect(database.owner) as connection:
        tables = connection.execute(
            "SELECT c.relname, array_agg(a.attname::text) FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY (%s) "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') "
            "AND NOT c.relispartition GROUP BY c.relname",
            [list(NAMES)],
        ).fetchall()
        rules = connection.execute(
            "SELECT tablename::text FROM pg_policies WHERE policyname = 'part2' "
            "AND permissive = 'RESTRICTIVE' AND cmd = 'SELECT'"
        )
        ruled = {table for (table,) in rules} - {"course"}
    empty = set()
    with Session(service_engine) as session:
        enter_clinic(session, furnished.world.clinic_id)
        alone = [
            str(one) for one in session.scalars(text("SELECT id FROM appointment WHERE NOT part2"))
        ]
        for table, columns in tables:
            if table in SHOWN_ALL_THE_SAME:
                continue
            named = " OR ".join(
                f"({column} IS NOT NULL AND {column}::text <> ALL (:alone))" for column in columns
            )
            query = text(f"SELECT count(*) FROM {table} WHERE {named}")
            hide_part2(session, hidden=False)
            there = session.scalar(query, {"alone": alone})
            hide_part2(session, hidden=True)
            assert session.scalar(query, {"alone": alone}) == 0, table
            if not there:
                empty.add(table)
    # Where the clinic has none, its rule has to do.
    assert {table for table, _ in tables} - SHOWN_ALL_THE_SAME == ruled
    assert len(ruled - empty) > 12


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
        assert {one["redisclosure_notice"] for one in theirs} == {part2.NOTICE}
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
            assert self.taken(blind, kind)[0] == []
            assert self.taken(admin, kind)[0] != []

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
