"""In bulk: files in, line by line and once; everything of a kind out, in one order."""

import csv
import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, event, func, select, update
from sqlalchemy.orm import Session

import intake.bulk
from api import keys
from intake import tables
from intake.bulk import Importer
from intake.keeping import Before
from intake.tables import Row
from models import (
    AuditEvent,
    Device,
    Import,
    ImportFault,
    OpeningHours,
    Patient,
    Practitioner,
    Qualification,
    Room,
    Site,
    enter_clinic,
)
from models.vocabulary import ImportFormat, ImportKind, Role
from scheduler import facts, imports, records
from scheduler.authority import Authority
from scheduler.imports import File
from tests.factories import SUNDAY_NOON, World, make_patient, make_world
from tests.integration.conftest import Caller, Keyring

HEAD = "record_number,given_name,family_name,birth_date,email,phone,time_zone,language,region"
BY = Authority("key:admin")


def line(number: int | str, **changes: str) -> str:
    cells = {
        "record_number": f"R-{number}",
        "given_name": "Bea",
        "family_name": "Bulk",
        "birth_date": "1980-01-02",
        "email": f"bea{number}@example.com",
        "phone": "+12125550123",
        "time_zone": "America/New_York",
        "language": "en",
        "region": "",
    }
    return ",".join((cells | changes).values())


def table(*lines: str, head: str = HEAD) -> str:
    return "\r\n".join([head, *lines, ""])


def post(caller: Caller, body: str | bytes, query: str = "kind=patients", **headers: str) -> Any:
    told = {
        "Authorization": f"Bearer {caller.key}",
        "Content-Type": "text/csv",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return caller.client.post(f"/api/v1/imports?{query}", data=body, headers=told)


def work_off(session: Session) -> None:
    """Read what waits, as the worker does, in the test's own transaction."""
    while (found := facts.import_to_read(session)) is not None:
        intake.bulk.read_on(session, found, intake.bulk.Reading.of(found), SUNDAY_NOON)
    session.commit()


def hand_in(session: Session, content: str, kind: ImportKind, **changes: Any) -> Import:
    told = {"format": ImportFormat.CSV, "dry_run": False, **changes}
    return imports.hand_in(session, File(kind=kind, content=content, **told), BY, SUNDAY_NOON)


def faults(session: Session) -> list[tuple[int, str]]:
    rows = session.scalars(select(ImportFault).order_by(ImportFault.line, ImportFault.field))
    return [(one.line, one.field) for one in rows]


class TestHandingIn:
    def test_it_is_accepted_and_its_progress_is_told(self, admin: Caller, session: Session) -> None:
        answer = post(admin, table(line(1), line(2, time_zone="Mars/Base"), line(3)))

        assert answer.status_code == 202, answer.json
        where = answer.headers["Location"].removeprefix("/api/v1")
        told = admin.get(where).json
        assert told == answer.json
        assert (told["status"], told["total"], told["done"]) == ("requested", 3, 0)

        work_off(session)

        told = admin.get(where).json
        assert (told["status"], told["done"], told["made"], told["faulty"]) == (
            "completed",
            3,
            2,
            1,
        )
        [fault] = admin.get(f"{where}/faults").json["items"]
        assert (fault["line"], fault["field"]) == (3, "time_zone")
        assert "America/New_York" in fault["detail"]
        assert [one["id"] for one in admin.get("/imports").json["items"]] == [told["id"]]

    def test_its_faults_are_told_page_by_page(self, admin: Caller, session: Session) -> None:
        lines = [line(n, phone="none", language="fr") for n in range(3)]
        where = f"/imports/{post(admin, table(*lines)).json['id']}/faults?limit=2"
        work_off(session)

        told: list[tuple[int, str]] = []
        while where is not None:
            page = admin.get(where)
            assert page.status_code == 200, page.json
            told += [(one["line"], one["field"]) for one in page.json["items"]]
            where = page.json["next"]

        assert sorted(told) == [(n, name) for n in (2, 3, 4) for name in ("language", "phone")]
        assert [number for number, _ in told] == [2, 2, 3, 3, 4, 4]

    def test_what_was_handed_in_is_gone_once_it_is_read(
        self, admin: Caller, session: Session
    ) -> None:
        post(admin, table(line(1)))
        work_off(session)

        assert [one.content for one in session.scalars(select(Import))] == [None]
        assert imports.forget(session, SUNDAY_NOON + imports.KEPT) == 0
        assert imports.forget(session, SUNDAY_NOON + 2 * imports.KEPT) == 1

    @pytest.mark.parametrize("role", [Role.SCHEDULER, Role.CLINICIAN, Role.AUDITOR])
    def test_only_admins_may(self, key: Keyring, role: Role) -> None:
        caller = key(role)

        assert post(caller, table(line(1))).status_code == 403
        assert caller.get("/imports").status_code == 403
        assert caller.get("/exports/patients").status_code == 403

    @pytest.mark.parametrize(
        ("body", "media_type", "query", "status"),
        [
            (table(line(1)), "application/json", "kind=patients", 415),
            (table(line(1)), "", "kind=patients", 415),
            (table(line(1)), "text/plain", "kind=patients", 415),
            (table(line(1)), "text/csv", "kind=people", 422),
            (table(line(1)), "text/csv", "", 422),
            (table(line(1)), "text/csv", "kind=patients&dry_run=perhaps", 422),
            (b"\xff\xfe\x00", "text/csv", "kind=patients", 400),
            ("", "text/csv", "kind=patients", 422),
            (HEAD, "text/csv", "kind=patients", 422),
            (table(line(1), 'a"b"c,"'), "text/csv", "kind=patients", 422),
            (table(line("\x00")), "text/csv", "kind=patients", 422),
            ("\n" * (imports.MOST_LINES + 2), "text/csv", "kind=patients", 422),
            ("{}\n" * (imports.MOST_LINES + 1), "application/x-ndjson", "kind=sites", 422),
            (b"x" * (imports.MOST_BYTES + 1), "text/csv", "kind=patients", 413),
        ],
    )
    def test_what_cannot_be_read_is_refused_at_the_door(
        self, admin: Caller, body: Any, media_type: str, query: str, status: int
    ) -> None:
        answer = post(admin, body, query, Content_Type=media_type)

        assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")

    def test_as_many_as_are_promised_are_taken(self, admin: Caller) -> None:
        assert post(admin, "{}\n" * imports.MOST_LINES, Content_Type="application/x-ndjson").json[
            "total"
        ] == (imports.MOST_LINES)

    def test_other_doors_still_take_json_alone(self, admin: Caller) -> None:
        told = {"Authorization": f"Bearer {admin.key}", "Content-Type": "text/csv"}
        answer = admin.client.post("/api/v1/sites", data=table(line(1)), headers=told)

        assert answer.status_code == 415

    def test_it_is_handed_in_once_under_one_key(self, admin: Caller, session: Session) -> None:
        first = post(admin, table(line(1)), Idempotency_Key="once-and-no-more")
        again = post(admin, table(line(1)), Idempotency_Key="once-and-no-more")
        other = post(admin, table(line(2)), Idempotency_Key="once-and-no-more")
        dry = post(
            admin, table(line(1)), "kind=patients&dry_run=true", Idempotency_Key="once-and-no-more"
        )

        assert (first.json, again.headers["Idempotency-Replayed"]) == (again.json, "true")
        assert (other.status_code, dry.status_code) == (422, 422)
        assert session.scalar(select(func.count()).select_from(Import)) == 1

    def test_one_that_waits_is_cancelled_before_any_line_is_read(
        self, admin: Caller, session: Session
    ) -> None:
        where = post(admin, table(line(1))).headers["Location"].removeprefix("/api/v1")
        cancelled = admin.post(f"{where}/cancel", **{"Idempotency-Key": "cancel-it-once"})
        again = admin.post(f"{where}/cancel", **{"Idempotency-Key": "cancel-it-once"})
        work_off(session)

        assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")
        assert (again.status_code, again.json) == (200, cancelled.json)
        assert (cancelled.json["done"], cancelled.json["made"]) == (0, 0)
        assert admin.get(where).json == cancelled.json
        assert session.scalar(select(func.count()).where(Patient.record_number == "R-1")) == 0
        other = post(admin, table(line(1)))
        work_off(session)
        path = f"/imports/{other.json['id']}/cancel"
        assert admin.post(path).status_code == 409

    def test_few_may_wait_at_once(self, admin: Caller) -> None:
        for number in range(imports.MOST_OPEN):
            assert post(admin, table(line(number))).status_code == 202

        assert post(admin, table(line("more"))).json["type"] == "/problems/unfit"

    def test_another_clinic_s_is_not_there(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        make_world(session, "Another Practice")
        foreign = hand_in(session, table(line(1)), ImportKind.PATIENTS).id
        enter_clinic(session, world.clinic_id)
        session.commit()

        assert admin.get(f"/imports/{foreign}").status_code == 404
        assert admin.get(f"/imports/{foreign}/faults").status_code == 404
        assert admin.get("/imports").json["items"] == []


class TestLines:
    def test_a_dry_run_tells_the_same_and_keeps_nothing(
        self, session: Session, world: World
    ) -> None:
        lines = [line(1), line(1), line(2, email="at home"), line(3, birth_date="soon")]
        dry = hand_in(session, table(*lines), ImportKind.PATIENTS, dry_run=True)
        before = session.scalar(select(func.count()).select_from(Patient))
        work_off(session)
        told = faults(session)
        assert session.scalar(select(func.count()).select_from(Patient)) == before
        assert (dry.made, dry.faulty) == (1, 3)

        wet = hand_in(session, table(*lines), ImportKind.PATIENTS)
        work_off(session)

        assert (wet.made, wet.faulty) == (1, 3)
        assert sorted(faults(session)) == sorted(told + told)

    def test_what_is_here_already_is_a_fault_and_stays_as_it_is(
        self, session: Session, world: World
    ) -> None:
        make_patient(session, record_number="R-1", given_name="Ada")
        hand_in(session, table(line(1), line(2)), ImportKind.PATIENTS)
        work_off(session)

        assert faults(session) == [(2, "record_number")]
        names = session.scalars(select(Patient.given_name).where(Patient.record_number == "R-1"))
        assert names.all() == ["Ada"]

    def test_a_file_may_be_sent_again_when_its_faults_are_mended(
        self, session: Session, world: World
    ) -> None:
        hand_in(session, table(line(1), line(2, phone="none")), ImportKind.PATIENTS)
        work_off(session)
        again = hand_in(session, table(line(1), line(2)), ImportKind.PATIENTS)
        work_off(session)

        assert (again.made, again.faulty) == (1, 1)
        found = session.scalars(
            select(Patient.record_number).where(Patient.record_number.like("R-%"))
        )
        assert sorted(found) == ["R-1", "R-2"]

    @pytest.mark.parametrize(
        ("head", "expected"),
        [
            (HEAD.replace("region", "state"), [(2, "-"), (2, "region")]),
            (HEAD.replace(",region", ""), [(2, "region")]),
            (HEAD.replace("region", "email"), [(2, "email"), (2, "region")]),
        ],
    )
    def test_a_table_of_other_columns_says_which(
        self, session: Session, world: World, head: str, expected: list[tuple[int, str]]
    ) -> None:
        cut = line(1).rsplit(",", 1)[0] if head.count(",") == 7 else line(1)
        found = hand_in(session, table(cut, head=head), ImportKind.PATIENTS)
        work_off(session)

        assert faults(session) == expected
        assert (found.made, found.done) == (0, 1)

    def test_which_columns_are_wrong_is_told_once_and_of_every_line_that_they_are(
        self, session: Session, world: World
    ) -> None:
        head = HEAD.replace("region", "state")
        found = hand_in(session, table(*map(line, range(3)), head=head), ImportKind.PATIENTS)
        work_off(session)

        assert faults(session) == [(2, "-"), (2, "region"), (3, "-"), (4, "-")]
        assert (found.faulty, found.done) == (3, 3)

    def test_a_line_has_few_faults_however_much_is_wrong_with_it(
        self, session: Session, world: World
    ) -> None:
        """Or a file that fits through the door would be more than the worker can hold."""
        most = intake.bulk.MOST_STRANGE
        names = [f"odd{number}" for number in range(2000)]
        hand_in(session, table(",".join(names), head=",".join(names)), ImportKind.PATIENTS)
        work_off(session)
        assert len(faults(session)) == most

        told = json.dumps(dict.fromkeys(names, "x"))
        hand_in(session, told, ImportKind.PATIENTS, format=ImportFormat.NDJSON)
        work_off(session)
        assert len(faults(session)) == 2 * most

    def test_cells_that_are_too_many_or_too_few_spoil_their_line_alone(
        self, session: Session, world: World
    ) -> None:
        found = hand_in(session, table(line(1), "R-9,Ann", line(2)), ImportKind.PATIENTS)
        work_off(session)

        assert (faults(session), found.made) == ([(3, "-")], 2)

    def test_a_quote_before_what_looks_like_a_formula_is_taken_away(
        self, session: Session, world: World
    ) -> None:
        told = line(1, phone="'+12125550199", given_name="'=Bea", family_name="'t Hooft")
        hand_in(session, table(told), ImportKind.PATIENTS)
        work_off(session)

        patient = session.scalars(select(Patient).where(Patient.record_number == "R-1")).one()
        assert (patient.phone, patient.given_name) == ("+12125550199", "=Bea")
        assert patient.family_name == "'t Hooft"

    @pytest.mark.parametrize(
        "told",
        [
            "[]",
            "nonsense",
            "[" * 100_000,
            '{"name": {"deep": 1}}',
            '{"name": true}',
            '{"name": 1.5}',
            '{"name": "a", "name": "b"}',
            '{"nam\\ud800e": "a"}',
            '{"record_number": "a\\u0000b"}',
            '{"record_number": "\\ud800", "email": "\\ud800@example.com"}',
        ],
    )
    def test_a_line_of_json_that_is_none_spoils_itself_alone(
        self, session: Session, world: World, told: str
    ) -> None:
        good = json.dumps(dict(zip(HEAD.split(","), line(1).split(","), strict=True)))
        found = hand_in(
            session, f"{told}\n\n{good}\n", ImportKind.PATIENTS, format=ImportFormat.NDJSON
        )
        work_off(session)

        assert (found.total, found.made, found.faulty) == (2, 1, 1)
        assert {number for number, _ in faults(session)} == {1}

    def test_json_may_leave_out_what_may_be_blank(self, session: Session, world: World) -> None:
        told = {
            "record_number": "R-1",
            "given_name": "Bea",
            "family_name": "Bulk",
            "birth_date": "1980-01-02",
            "time_zone": "America/New_York",
            "language": "en",
            "phone": None,
        }
        found = hand_in(session, json.dumps(told), ImportKind.PATIENTS, format=ImportFormat.NDJSON)
        work_off(session)

        assert (found.made, faults(session)) == (1, [])

    def test_sites_rooms_and_devices_are_read_in(self, session: Session, world: World) -> None:
        head = "name,address,phone,time_zone,holiday_region,holidays_worked"
        hand_in(
            session,
            table("Dock,1 Way,+12125550100,America/Denver,US-CO,", head=head),
            ImportKind.SITES,
        )
        head = "site,name,kind,weekdays,opens,closes"
        for kind in (ImportKind.ROOMS, ImportKind.DEVICES):
            told = [f"Dock,A,dosing,{days},08:00,20:00" for days in ("MO TU", "NEVER")]
            told += ["Nowhere,B,dosing,MO,08:00,20:00", "Dock,C,dosing,MO,20:00,08:00"]
            hand_in(session, table(*told, head=head), kind)
        work_off(session)

        site = session.scalars(select(Site).where(Site.name == "Dock")).one()
        models: tuple[Any, ...] = (Room, Device)
        for model in models:
            [place] = session.scalars(select(model).where(model.site_id == site.id)).all()
            hours = session.scalars(
                select(OpeningHours).where(OpeningHours.schedule_id == place.schedule_id)
            ).one()
            assert hours.rule == "FREQ=WEEKLY;BYDAY=MO,TU"
        assert faults(session) == sorted([(3, "name"), (4, "site"), (5, "closes")] * 2)

    @pytest.mark.parametrize(
        ("kind", "changes", "field"),
        [
            (ImportKind.ROOMS, {"opens": "10+01"}, "opens"),
            (ImportKind.ROOMS, {"closes": "T1700"}, "closes"),
            (ImportKind.PRACTITIONERS, {"lanes": "9" * 5000}, "lanes"),
            (ImportKind.PRACTITIONERS, {"valid_from": "2026-W01-1"}, "valid_from"),
            (ImportKind.PRACTITIONERS, {"valid_until": "9999-12-31"}, "valid_until"),
            (ImportKind.PRACTITIONERS, {"valid_until": "\ud800"}, "valid_until"),
            (ImportKind.PATIENTS, {"birth_date": "0001-01-01"}, "birth_date"),
            (ImportKind.PATIENTS, {"record_number": "R\x00"}, "record_number"),
            (ImportKind.PATIENTS, {"email": "bea@\ud800.example"}, "email"),
            (ImportKind.SITES, {"holidays_worked": "\ud800"}, "holidays_worked"),
        ],
    )
    def test_an_odd_cell_spoils_its_line_and_the_next_ones_are_read(
        self,
        session: Session,
        world: World,
        kind: ImportKind,
        changes: dict[str, str],
        field: str,
    ) -> None:
        site = session.scalars(select(Site.name)).first()
        known: dict[ImportKind, dict[str, Any]] = {
            ImportKind.PATIENTS: dict(zip(HEAD.split(","), line(1).split(","), strict=True)),
            ImportKind.SITES: {
                "name": "Annex",
                "address": "1 Main St",
                "phone": "+12125550123",
                "time_zone": "America/New_York",
            },
            ImportKind.ROOMS: {
                "site": site,
                "name": "R9",
                "kind": "dosing",
                "weekdays": "MO",
                "opens": "09:00",
                "closes": "17:00",
            },
            ImportKind.PRACTITIONERS: {
                "name": "Nia New",
                "email": "nia@example.com",
                "lanes": "3",
                "role": "monitor",
                "licence": "L-9",
                "regions": "US-NY",
                "valid_from": "2026-01-01",
                "valid_until": "2030-01-01",
            },
        }
        good = known[kind]
        odd = good | {intake.keeping.KINDS[kind].named: "Odd"} | changes
        content = "\n".join(json.dumps(one) for one in (odd, good))
        found = hand_in(session, content, kind, format=ImportFormat.NDJSON)
        work_off(session)

        assert faults(session) == [(1, field)]
        assert (found.done, found.made, found.ended_at) == (2, 1, SUNDAY_NOON)

    def test_a_line_that_we_stumble_over_is_told_and_the_next_ones_are_read(
        self, session: Session, world: World
    ) -> None:
        found = hand_in(session, table(line(1), line(2), line(3)), ImportKind.PATIENTS)
        reading = intake.bulk.Reading.of(found)

        def stumble(row: Row, before: Before) -> Any:
            return 1 / 0 if row.cells["record_number"] == "R-2" else patients.of(row, before)

        patients = reading.kind
        reading.kind = replace(patients, of=stumble)
        intake.bulk.read_on(session, found, reading, SUNDAY_NOON)

        assert faults(session) == [(3, "-")]
        assert (found.done, found.made, found.ended_at) == (3, 2, SUNDAY_NOON)

    def test_a_practitioner_has_a_line_for_each_licence(
        self, session: Session, world: World
    ) -> None:
        head = "name,email,phone,lanes,role,licence,valid_from,valid_until,regions"
        nia = "Nia New,Nia@Example.com,,3,{},L-9,2026-01-01,2030-01-01,US-NY"
        lines = [
            nia.format("monitor"),
            nia.format("therapist"),
            nia.format("monitor"),
            nia.format("wizard"),
            nia.format("prescriber").replace("Nia New", "Somebody Else"),
        ]
        found = hand_in(session, table(*lines, head=head), ImportKind.PRACTITIONERS)
        work_off(session)

        person = session.scalars(select(Practitioner).where(Practitioner.name == "Nia New")).one()
        roles = session.scalars(
            select(Qualification.role).where(Qualification.practitioner_id == person.id)
        )
        assert faults(session) == [(4, "licence"), (5, "role"), (6, "email")]
        assert sorted(roles) == ["monitor", "therapist"]
        assert found.done == 5

    def test_each_that_was_made_has_its_line_in_the_trail(
        self, session: Session, admin: Caller
    ) -> None:
        made = post(admin, table(line(1), line(2, phone="none")))
        work_off(session)

        rows = session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)).all()
        told = [
            (row.action, row.entity)
            for row in rows
            if row.facts.get("import") or row.entity == "import"
        ]
        assert told == [("create", "import"), ("create", "patient"), ("execute", "import")]
        patient = session.scalars(select(Patient).where(Patient.record_number == "R-1")).one()
        [row] = [row for row in rows if row.entity == "patient"]
        assert (row.patient_id, row.facts["import"]) == (patient.id, made.json["id"])
        assert {row.actor for row in rows if row.entity != "api_key"} == {made.json["made_by"]}


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def many(committed: Session, committed_world: World) -> int:
    """A file of several batches, handed in."""
    number = 3 * intake.bulk.AT_ONCE + 7
    content = table(*(line(n, phone="x" if n % 100 == 0 else "") for n in range(number)))
    hand_in(committed, content, ImportKind.PATIENTS)
    committed.commit()
    return number


def importer(engine: Engine) -> Importer:
    return Importer(engine, lambda: SUNDAY_NOON)


def counted(session: Session) -> tuple[int, int, list[tuple[int, int]]]:
    session.rollback()
    patients = session.scalars(
        select(Patient.record_number).where(Patient.record_number.like("R-%"))
    ).all()
    assert len(patients) == len(set(patients))
    rows = session.execute(select(Import.done, Import.made, Import.faulty)).all()
    return (
        len(patients),
        len(faults(session)),
        [(made, faulty) for _, made, faulty in rows],
    )


class TestTheWorker:
    def test_a_kill_at_any_statement_loses_and_doubles_nothing(
        self, committed: Session, committed_world: World, worker_engine: Engine, many: int
    ) -> None:
        """Killed at the first statement, then at a later one each time, until it gets through."""
        left = [0]

        def kill(*_: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        event.listen(worker_engine, "before_cursor_execute", kill)
        try:
            for at in range(1, 4000, 61):
                left[0] = at
                try:
                    importer(worker_engine).work([committed_world.clinic_id])
                except Killed:
                    continue
                break
        finally:
            event.remove(worker_engine, "before_cursor_execute", kill)

        faulty = -(-many // 100)
        assert counted(committed) == (many - faulty, faulty, [(many - faulty, faulty)])

    def test_several_workers_share_it_and_nothing_is_done_twice(
        self, committed: Session, committed_world: World, worker_engine: Engine, many: int
    ) -> None:
        def work() -> None:
            one = importer(worker_engine)
            for _ in range(20):
                one.work([committed_world.clinic_id])

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        faulty = -(-many // 100)
        assert counted(committed) == (many - faulty, faulty, [(many - faulty, faulty)])

    def test_it_is_cancelled_midway_and_what_was_made_stays(
        self,
        app: Flask,
        committed: Session,
        committed_world: World,
        worker_engine: Engine,
        many: int,
    ) -> None:
        """Asked for while the worker has the second batch in hand: that one is still kept whole."""
        caller = Caller(
            app.test_client(), keys.issue(committed, "admin", Role.ADMIN, None, SUNDAY_NOON)[1]
        )
        committed.commit()
        [told] = caller.get("/imports").json["items"]
        path = f"/imports/{told['id']}"
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(caller.post(f"{path}/cancel")))
        batches = [0]

        def ask(*told: Any) -> None:
            batches[0] += told[2].startswith("SELECT import")
            if batches[0] == 2 and asking.ident is None:
                asking.start()

        event.listen(worker_engine, "after_cursor_execute", ask)
        try:
            one = importer(worker_engine)
            for _ in range(20):
                one.work([committed_world.clinic_id])
        finally:
            event.remove(worker_engine, "after_cursor_execute", ask)
        asking.join()

        [answer] = answers
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled"), answer.json
        assert answer.json["cancelled_by"].startswith("key:admin/")
        done = answer.json["done"]
        assert 0 < done < many
        assert done % intake.bulk.AT_ONCE == 0
        made, wrong = answer.json["made"], answer.json["faulty"]
        assert counted(committed) == (made, wrong, [(made, wrong)])
        assert caller.get(path).json == answer.json
        [kept] = committed.scalars(select(Import)).all()
        assert kept.content is None
        again = caller.post(f"{path}/cancel")
        assert (again.status_code, again.json["type"]) == (409, "/problems/wrong-status")

    def test_who_came_in_meanwhile_spoils_a_line_and_not_its_batch(
        self,
        committed: Session,
        committed_world: World,
        worker_engine: Engine,
        service_engine: Engine,
        many: int,
    ) -> None:
        """Between the look and the keeping somebody else adds a patient of the same number."""
        waiting = [True]

        def add(*told: Any) -> None:
            if waiting and told[2].startswith("INSERT INTO schedule"):
                waiting.clear()
                with Session(service_engine) as session:
                    enter_clinic(session, committed_world.clinic_id)
                    make_patient(session, record_number="R-5")
                    session.commit()

        event.listen(worker_engine, "before_cursor_execute", add)
        try:
            importer(worker_engine).work([committed_world.clinic_id])
        finally:
            event.remove(worker_engine, "before_cursor_execute", add)

        faulty = -(-many // 100) + 1
        assert counted(committed) == (many - faulty + 1, faulty, [(many - faulty, faulty)])

    def test_all_licences_of_somebody_new_are_kept_though_a_line_beside_them_is_not(
        self,
        committed: Session,
        committed_world: World,
        worker_engine: Engine,
        service_engine: Engine,
    ) -> None:
        head = "name,email,phone,lanes,role,licence,valid_from,valid_until,regions"
        row = "{0},{0}@example.com,,1,{1},L-9,2026-01-01,2030-01-01,US-NY"
        lines = [row.format(*one) for one in (("nia", "monitor"), ("nia", "therapist"))]
        other = row.format("bob", "monitor")
        hand_in(committed, table(*lines, other, head=head), ImportKind.PRACTITIONERS)
        committed.commit()
        waiting = [True]

        def add(*told: Any) -> None:
            if waiting and told[2].startswith("INSERT INTO schedule"):
                waiting.clear()
                with Session(service_engine) as session:
                    enter_clinic(session, committed_world.clinic_id)
                    hand_in(session, table(other, head=head), ImportKind.PRACTITIONERS)
                    [found] = session.scalars(select(Import).order_by(Import.id.desc()).limit(1))
                    reading = intake.bulk.Reading.of(found)
                    intake.bulk.read_on(session, found, reading, SUNDAY_NOON)
                    session.commit()

        event.listen(worker_engine, "before_cursor_execute", add)
        try:
            importer(worker_engine).work([committed_world.clinic_id])
        finally:
            event.remove(worker_engine, "before_cursor_execute", add)

        assert faults(committed) == [(4, "-")]
        held = select(func.count()).select_from(Qualification).join(Practitioner)
        assert committed.scalar(held.where(Practitioner.name == "nia")) == 2
        assert committed.scalar(held.where(Practitioner.name == "bob")) == 1


def export(caller: Caller, kind: str, query: str = "format=ndjson", **headers: str) -> Any:
    answer = caller.get(f"/exports/{kind}?{query}", **headers)
    assert answer.status_code == 200, answer.json
    return answer


class TestExports:
    def test_all_is_there_once_in_one_order_whatever_the_size_of_a_page(
        self, admin: Caller, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(6):
            make_patient(session)
        session.commit()
        whole = export(admin, "patients").get_data(as_text=True)
        for size in (1, 2, 7, 8):
            monkeypatch.setattr("api.exports.AT_ONCE", size)
            assert export(admin, "patients").get_data(as_text=True) == whole

        told = [json.loads(row) for row in whole.splitlines()]
        assert [one["id"] for one in told] == [
            str(key) for key in session.scalars(select(Patient.id).order_by(Patient.id))
        ]

    @pytest.mark.parametrize(
        "kind",
        [
            *("sites", "rooms", "devices", "practitioners", "qualifications", "patients"),
            *("courses", "course-steps", "appointments"),
        ],
    )
    def test_both_formats_say_the_same(
        self, admin: Caller, session: Session, world: World, desk: Caller, kind: str
    ) -> None:
        new = {
            "patient_id": str(world.patient_id),
            "protocol_version_id": str(world.protocol_version_id),
        }
        course = desk.post("/courses", new)
        step = course.json["steps"][0]["id"]
        visit = {
            "patient_id": str(world.patient_id),
            "course_step_id": step,
            "starts_at": "2026-03-02T14:00:00Z",
        }
        assert desk.post("/appointments", visit).status_code == 201

        rows = [json.loads(row) for row in export(admin, kind).get_data(as_text=True).splitlines()]
        answer = export(admin, kind, "", Accept="text/csv")
        assert answer.mimetype == "text/csv"
        cells = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))
        assert rows
        assert len(cells) == len(rows)
        for row, cell in zip(rows, cells, strict=True):
            assert list(cell) == list(row)
            assert row["id"] == cell["id"]
            if row.get("phone"):
                assert cell["phone"] == f"'{row['phone']}"

    @pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "'=", "''+"])
    def test_a_name_is_never_a_formula_and_comes_back_as_it_was(
        self, admin: Caller, session: Session, world: World, begin: str
    ) -> None:
        make_patient(session, given_name=f'{begin}cmd|"/c calc"!A1', record_number="R-1")
        session.commit()

        told = export(admin, "patients", "format=csv").get_data(as_text=True)

        rows = {row["record_number"]: row for row in csv.DictReader(io.StringIO(told, newline=""))}
        assert rows["R-1"]["given_name"] == f'\'{begin}cmd|"/c calc"!A1'
        if begin not in "\t\r":
            again = {
                record.cells["record_number"]: record.cells
                for record in records.records(told, ImportFormat.CSV)
            }
            assert again["R-1"]["given_name"] == f'{begin}cmd|"/c calc"!A1'

    @pytest.mark.parametrize("written", ["csv", "ndjson"])
    def test_one_that_breaks_off_cannot_pass_for_whole(
        self, admin: Caller, session: Session, monkeypatch: pytest.MonkeyPatch, written: str
    ) -> None:
        """Granian ends what broke off as if it were whole."""
        monkeypatch.setattr("api.exports.AT_ONCE", 2)
        for number in range(9):
            make_patient(session, record_number=f"R-{number}")
        session.commit()
        left = [2]

        def break_off(*told: Any) -> None:
            left[0] -= "FROM patient" in told[2]
            if left[0] < 0:
                raise ConnectionError

        answer = export(admin, "patients", f"format={written}")
        engine = session.connection().engine
        event.listen(engine, "before_cursor_execute", break_off)
        taken: list[bytes] = []
        try:
            with pytest.raises(ConnectionError):
                taken.extend(answer.iter_encoded())
        finally:
            event.remove(engine, "before_cursor_execute", break_off)

        told = b"".join(taken).decode()
        read: dict[str, Callable[[], Any]] = {
            "csv": lambda: list(csv.reader(io.StringIO(told, newline=""), strict=True)),
            "ndjson": lambda: [json.loads(row) for row in told.splitlines()],
        }
        with pytest.raises((csv.Error, json.JSONDecodeError)):
            read[written]()
        assert ("R-0" in told, "R-8" in told) == (True, False)

    def test_several_values_of_a_cell_can_be_told_apart(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        worked = ["Labor Day", "Juneteenth National Independence Day"]
        session.execute(update(Site).values(holiday_region="US", holidays_worked=worked))
        session.commit()

        told = export(admin, "sites", "format=csv").get_data(as_text=True)

        [row] = csv.DictReader(io.StringIO(told, newline=""))
        assert tables.worked(row["holidays_worked"]) == tuple(worked)

    def test_it_stands_in_the_trail_before_anything_leaves(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        export(admin, "patients")

        row = session.scalars(
            select(AuditEvent).where(AuditEvent.entity == "export").limit(1)
        ).one()
        assert (row.action, row.facts) == ("execute", {"kind": "patients", "format": "ndjson"})

    def test_a_clinic_takes_out_its_own_alone_on_every_page(
        self, admin: Caller, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        make_patient(session)
        session.commit()
        monkeypatch.setattr("api.exports.AT_ONCE", 1)

        told = export(admin, "patients").get_data(as_text=True)

        assert str(world.patient_id) in told
        assert str(other.patient_id) not in told

    def test_a_connection_of_its_own_for_every_page_is_still_the_clinic_s(
        self,
        app: Flask,
        committed: Session,
        committed_world: World,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What the request has entered is gone when its answer is streamed."""
        make_patient(committed)
        _, secret = keys.issue(committed, "admin", Role.ADMIN, None, SUNDAY_NOON)
        committed.commit()
        make_world(committed, "Another Practice")
        committed.commit()
        enter_clinic(committed, committed_world.clinic_id)
        monkeypatch.setattr("api.exports.AT_ONCE", 1)

        told = Caller(app.test_client(), secret).get("/exports/patients").get_data(as_text=True)

        assert [json.loads(row)["id"] for row in told.splitlines()] == [
            str(key) for key in committed.scalars(select(Patient.id).order_by(Patient.id))
        ]
        assert len(told.splitlines()) == 2
