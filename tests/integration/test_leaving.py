"""How a clinic leaves: with everything it has, and without a row of it staying behind."""

import hashlib
import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, LargeBinary, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import operators
from api import keys
from app import build
from archiving import Archiver, Stopped
from database.access import Access, connect
from database.scratch import scratch
from models import Archive, IdempotencyKey, db, enter_clinic
from models.vocabulary import Role
from scheduler import archives, tenants
from scheduler.authority import Authority
from tests.factories import SUNDAY_NOON
from tests.fakes import MailServer
from tests.filling import contents, counts, fill, forget_checks, tenanted
from tests.integration.conftest import Caller, Clock, settings
from tests.service import running

DAY = timedelta(days=1)
LATER = SUNDAY_NOON + 31 * DAY
BY = Authority("key:admin")


@pytest.fixture(scope="module")
def place() -> Iterator[Access]:
    """A database of our own: its tables hold what makes no sense."""
    with scratch(os.environ.get("DATABASE_URL")) as ways:
        owner = create_engine(ways.owner)
        with owner.begin() as connection:
            forget_checks(connection)
        owner.dispose()
        yield ways


@pytest.fixture
def owner(place: Access) -> Iterator[Engine]:
    engine = create_engine(place.owner)
    yield engine
    engine.dispose()


@pytest.fixture
def worker(place: Access) -> Iterator[Engine]:
    engine = create_engine(place.worker)
    yield engine
    engine.dispose()


@pytest.fixture
def service(place: Access) -> Iterator[Engine]:
    engine = create_engine(place.service)
    yield engine
    engine.dispose()


@pytest.fixture
def pair(owner: Engine) -> tuple[UUID, UUID]:
    """Two clinics with something in every table: one that leaves, and one that stays."""
    with owner.begin() as connection:
        return fill(connection, f"Leaving {os.urandom(4).hex()}"), fill(connection, "Staying")


@pytest.fixture(scope="module")
def app(place: Access, clock: Clock) -> Iterator[Flask]:
    app = build(settings(), place.service, clock, place.operator)
    yield app
    app.config["OPERATORS"].dispose()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def operator(app: Flask, place: Access, clock: Clock) -> Caller:
    clock.now = SUNDAY_NOON
    with connect(place.owner, autocommit=False) as connection:
        secret = operators.issue(connection, "ops", 365 * DAY, SUNDAY_NOON)
    return Caller(app.test_client(), secret)


def told(operator: Caller, clinic_id: UUID, move: str, **more: Any) -> Any:
    path = f"/operator/clinics/{clinic_id}"
    etag = operator.get(path).headers["ETag"]
    return operator.post(f"{path}/{move}", {"reason": "They left.", **more}, etag=etag)


def ordered_to_go(operator: Caller, clock: Clock, clinic_id: UUID) -> None:
    """Close a clinic and, once it may be, have it shredded."""
    told(operator, clinic_id, "close", during_visits=True)
    clock.now = LATER
    name = operator.get(f"/operator/clinics/{clinic_id}").json["name"]
    assert told(operator, clinic_id, "shred", name=name).status_code == 202


def shred(engine: Engine, clinic_id: UUID, steps: int, at_most: int = 100) -> int:
    """So many steps of it, or until there is none left. How many there were."""
    for step in range(steps):
        with Session(engine) as session, session.begin():
            if not tenants.shred(session, clinic_id, at_most, LATER):
                return step
    return steps


def looked(owner: Engine, look: Any, clinic_id: UUID) -> Any:
    with owner.begin() as connection:
        return look(connection, clinic_id)


class TestShredding:
    def test_every_table_has_something_to_forget(
        self, owner: Engine, pair: tuple[UUID, UUID]
    ) -> None:
        """What the other tests here rest on."""
        for clinic_id in pair:
            there = looked(owner, counts, clinic_id)
            assert there.keys() == {table.name for table in tenanted()}
            assert {name for name, number in there.items() if number < 2} == {"clinic"}

    def test_not_a_row_stays_and_of_the_other_clinic_all_do(
        self,
        owner: Engine,
        worker: Engine,
        pair: tuple[UUID, UUID],
        operator: Caller,
        clock: Clock,
    ) -> None:
        leaving, staying = pair
        before = looked(owner, contents, staying)
        ordered_to_go(operator, clock, leaving)
        had = looked(owner, counts, leaving)

        assert shred(worker, leaving, 1000, at_most=1) > len(had)

        assert set(looked(owner, counts, leaving).values()) == {0}
        assert looked(owner, contents, staying) == before
        shown = operator.get(f"/operator/clinics/{leaving}").json
        assert (shown["status"], shown["email"], shown["users"]) == ("shredded", None, None)
        # A table that is emptied with another is not counted, and the calendar's changes go on.
        assert shown["rows_gone"] > len(had)

    def test_what_is_left_is_a_line_of_the_operators(
        self,
        owner: Engine,
        worker: Engine,
        pair: tuple[UUID, UUID],
        operator: Caller,
        clock: Clock,
    ) -> None:
        leaving, _ = pair
        ordered_to_go(operator, clock, leaving)
        head = looked(owner, _head, leaving)
        shred(worker, leaving, 1000)

        events = operator.get("/operator/events?limit=200").json["items"]
        ordered, done = [one for one in events if one["entity_id"] == str(leaving)][-2:]
        assert (ordered["facts"]["to"], done["facts"]["to"]) == ("shredding", "shredded")
        assert (ordered["facts"]["clinics_line"], ordered["facts"]["clinics_head"]) == head
        assert done["facts"]["rows"]["patient"] == 2
        assert done["actor"] == ordered["actor"]
        assert done["facts"]["name"].startswith("Leaving ")

    def test_keys_of_encrypted_fields_go_first(
        self, owner: Engine, worker: Engine, operator: Caller, clock: Clock
    ) -> None:
        with owner.begin() as connection:
            leaving = fill(connection, "Leaving with keys")
            made = connection.scalar(text("SELECT to_regclass('clinic_key') IS NULL"))
            if made:
                connection.execute(
                    text(
                        "CREATE TABLE clinic_key (clinic_id uuid NOT NULL REFERENCES clinic, "
                        "id uuid NOT NULL)"
                    )
                )
                connection.execute(
                    text("INSERT INTO clinic_key VALUES (:id, :id)"), {"id": leaving}
                )
        try:
            ordered_to_go(operator, clock, leaving)
            shred(worker, leaving, 1)
            left = looked(owner, counts, leaving)
            assert left["clinic_key"] == 0
            assert sum(left.values()) > 100
            shred(worker, leaving, 1000)
        finally:
            with owner.begin() as connection:
                if made:
                    connection.execute(text("DROP TABLE clinic_key"))

    def test_nothing_goes_that_was_not_ordered_to(
        self, owner: Engine, worker: Engine, pair: tuple[UUID, UUID], operator: Caller
    ) -> None:
        leaving, _ = pair
        before = looked(owner, contents, leaving)
        assert shred(worker, leaving, 5) == 0
        told(operator, leaving, "close", during_visits=True)
        assert shred(worker, leaving, 5) == 0
        after = looked(owner, contents, leaving)
        assert {name: rows for name, rows in after.items() if name != "audit_event"} == {
            name: rows for name, rows in before.items() if name != "audit_event"
        }

    def test_a_signed_protocol_goes_only_with_its_clinic(
        self, owner: Engine, pair: tuple[UUID, UUID]
    ) -> None:
        told = {"id": str(pair[0])}
        with owner.connect() as connection:
            connection.execute(text("SELECT set_config('afterglow.clinic', :id, true)"), told)
            with pytest.raises(DBAPIError, match="a signed protocol version never changes"):
                connection.execute(text("DELETE FROM protocol_version WHERE clinic_id = :id"), told)

    @pytest.mark.timeout(200)
    def test_killed_in_the_midst_it_is_gone_on_with(
        self,
        place: Access,
        owner: Engine,
        pair: tuple[UUID, UUID],
        operator: Caller,
        clock: Clock,
        tmp_path: Path,
    ) -> None:
        leaving, staying = pair
        told(operator, staying, "suspend", during_visits=True)  # no job is to touch its rows
        before = looked(owner, counts, staying)
        ordered_to_go(operator, clock, leaving)
        had = sum(looked(owner, counts, leaving).values())

        with running(place, tmp_path, MailServer(port=25), LATER) as at_work:
            at_work.start("worker", AFTERGLOW_SIGNAL_AT="shredding:SIGKILL")
            assert at_work.processes.pop("worker").wait(60) == -signal.SIGKILL
            left = sum(looked(owner, counts, leaving).values())
            assert 0 < left < had
            at_work.start("worker")
            path = f"/operator/clinics/{leaving}"
            at_work.wait_until(
                lambda: operator.get(path).json["status"] == "shredded", "the end", seconds=90
            )

        assert set(looked(owner, counts, leaving).values()) == {0}
        after = looked(owner, counts, staying)
        assert [name for name, number in before.items() if after[name] < number] == []


def _head(connection: Connection, clinic_id: UUID) -> tuple[int, str]:
    connection.execute(
        text("SELECT set_config('afterglow.clinic', :id, true)"), {"id": str(clinic_id)}
    )
    row = connection.execute(
        text(
            "SELECT sequence, encode(hash, 'hex') FROM audit_event WHERE clinic_id = :id "
            "ORDER BY sequence DESC LIMIT 1"
        ),
        {"id": clinic_id},
    ).one()
    return row[0], row[1]


class TestArchive:
    @pytest.fixture
    def leaving(self, pair: tuple[UUID, UUID], service: Engine) -> UUID:
        """A clinic of which nobody else's archive waits."""
        with Session(service) as session:
            enter_clinic(session, pair[0])
            session.execute(text("DELETE FROM archive"))
            session.commit()
        return pair[0]

    @staticmethod
    def asked(service: Engine, clinic_id: UUID) -> UUID:
        with Session(service) as session:
            enter_clinic(session, clinic_id)
            made = archives.ask(session, BY, SUNDAY_NOON)
            session.commit()
            return made.id

    @pytest.fixture
    def caller(self, operator: Caller, service: Engine, leaving: UUID) -> Caller:
        with Session(service) as session:
            enter_clinic(session, leaving)
            _, secret = keys.issue(session, "admin", Role.ADMIN, None, SUNDAY_NOON)
            session.commit()
        return Caller(operator.client, secret)

    def test_holds_every_row_of_every_table_and_says_how_many(
        self, owner: Engine, service: Engine, leaving: UUID, caller: Caller, clock: Clock
    ) -> None:
        asked = caller.post("/archives")
        assert (asked.status_code, asked.json["status"]) == (202, "requested")
        there = looked(owner, counts, leaving)
        content = f"/archives/{asked.json['id']}/content"
        assert caller.get(content).status_code == 422

        Archiver(service, clock).work([leaving])

        done = caller.get(f"/archives/{asked.json['id']}").json
        assert (done["status"], done["done"]) == ("completed", done["total"])
        answer = caller.get(content)
        file = answer.get_data()
        assert (len(file), hashlib.sha256(file).hexdigest()) == (done["bytes"], done["sha256"])
        with zipfile.ZipFile(io.BytesIO(file)) as whole:
            manifest = json.loads(whole.read("manifest.json"))
            lines = {name: whole.read(f"{name}.jsonl").splitlines() for name in manifest["tables"]}
            for name, one in manifest["tables"].items():
                read = whole.read(f"{name}.jsonl")
                assert hashlib.sha256(read).hexdigest() == one["sha256"]
                assert len(lines[name]) == one["rows"], name
        assert manifest["clinic_id"] == str(leaving)
        # The catalogue says which tables there are: one that comes later cannot be left out.
        del there["archive_part"]
        assert {name: one["rows"] for name, one in manifest["tables"].items()} == there
        assert all(json.loads(line)["clinic_id"] == str(leaving) for line in lines["patient"])

    def test_what_lets_people_in_is_left_out(self) -> None:
        """Of columns that hold bytes, all but those that are known to open nothing."""
        harmless = {
            *("agent_hash", "hash", "previous_hash", "fingerprint", "subject"),
            *("credential_id", "public_key", "content", "document", "signature", "image"),
        }
        held = {
            column.name
            for table in tenanted()
            for column in table.columns
            if isinstance(column.type, LargeBinary) and table.name not in archives.NOT_TAKEN
        }
        assert held - archives.WITHHELD <= harmless
        withheld = {
            (name, column)
            for name, model in archives.tables().items()
            for column in archives.withheld(model)
        }
        assert {
            ("user_account", "password_hash"),
            ("user_account", "totp_secret"),
            ("api_key", "secret_hash"),
            ("webhook_secret", "secret"),
            ("identity_provider", "client_secret"),
        } <= withheld

    def test_an_answer_that_may_have_shown_a_way_in_is_left_out(self) -> None:
        """One that made a calendar shows its address, by which anybody may read it."""
        told = archives.told(IdempotencyKey(key="a-calendar-1", status=201))
        assert (told["key"], told["status"]) == ("a-calendar-1", 201)
        assert "body" not in told
        assert archives.withheld(IdempotencyKey) == ["body"]

    def test_every_table_of_the_catalogue_has_a_class(
        self, owner: Engine, pair: tuple[UUID, UUID]
    ) -> None:
        there = looked(owner, counts, pair[0])
        assert there.keys() - archives.tables().keys() == archives.NOT_TAKEN

    def test_whoever_was_killed_left_nothing_to_trip_over(
        self, service: Engine, leaving: UUID, clock: Clock
    ) -> None:
        self.asked(service, leaving)
        killed = Archiver(service, clock, at=_killer("patient"))
        killed.work([leaving])
        with Session(service) as session:
            enter_clinic(session, leaving)
            [half] = session.query(Archive).all()
            assert (half.ended_at, half.done > 5) == (None, True)

        Archiver(service, clock).work([leaving])
        with Session(service) as session:
            enter_clinic(session, leaving)
            [whole] = session.query(Archive).all()
            parts = session.execute(
                text("SELECT content FROM archive_part WHERE archive_id = :id ORDER BY number"),
                {"id": whole.id},
            ).scalars()
            assert hashlib.sha256(b"".join(parts)).hexdigest() == whole.sha256

    def test_one_is_written_at_a_time_and_kept_for_a_week(
        self, service: Engine, leaving: UUID, caller: Caller, clock: Clock
    ) -> None:
        first = caller.post("/archives").json
        assert caller.post("/archives").json["type"] == "/problems/unfit"
        Archiver(service, clock).work([leaving])
        assert caller.get(f"/archives/{first['id']}/content").status_code == 200

        clock.now += 7 * DAY
        assert caller.get(f"/archives/{first['id']}/content").status_code == 404
        Archiver(service, clock).work([leaving])
        assert caller.get("/archives").json["items"] == []

    def test_it_is_there_to_be_had_of_a_closed_clinic(
        self, service: Engine, leaving: UUID, caller: Caller, operator: Caller, clock: Clock
    ) -> None:
        told(operator, leaving, "close", during_visits=True)
        asked = caller.post("/archives").json
        Archiver(service, clock).work([leaving])
        assert caller.get(f"/archives/{asked['id']}/content").status_code == 200
        etag = caller.get(f"/archives/{asked['id']}").headers["ETag"]
        assert caller("DELETE", f"/archives/{asked['id']}", etag=etag).status_code == 204

    def test_it_leaves_a_line_for_whoever_asks_and_fetches(
        self, service: Engine, leaving: UUID, caller: Caller, clock: Clock
    ) -> None:
        asked = caller.post("/archives").json
        Archiver(service, clock).work([leaving])
        caller.get(f"/archives/{asked['id']}/content")
        with Session(service) as session:
            enter_clinic(session, leaving)
            acts = session.execute(
                text(
                    "SELECT action FROM audit_event WHERE entity = 'archive' AND entity_id = :id "
                    "ORDER BY sequence"
                ),
                {"id": asked["id"]},
            ).scalars()
            assert list(acts) == ["create", "read"]

    @pytest.mark.parametrize("role", [Role.SCHEDULER, Role.CLINICIAN, Role.AUDITOR])
    def test_only_admins_may(
        self, service: Engine, leaving: UUID, operator: Caller, role: Role
    ) -> None:
        with Session(service) as session:
            enter_clinic(session, leaving)
            _, secret = keys.issue(session, str(role), role, None, SUNDAY_NOON)
            session.commit()
        assert Caller(operator.client, secret).post("/archives").status_code == 403


def _killer(at: str) -> Any:
    def kill(point: str) -> None:
        if point == at:
            raise Stopped

    return kill
