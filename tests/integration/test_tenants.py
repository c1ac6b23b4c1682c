"""Several clinics in one database, and whoever runs it for them: what each may, and may not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import Engine, create_engine, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import cli
import operators
from api import keys
from app import build
from database import access
from database.access import Access, connect
from database.scratch import SECRET
from identity import accounts, sessions
from identity.accounts import Invitation
from identity.sessions import Whence
from intake.bulk import Importer
from intake.feeds import Refresher
from intake.fetching import Fetcher
from models import Appointment, CalendarFeed, Message, PatientLink, UserAccount, db, enter_clinic
from models.vocabulary import AppointmentStatus, Channel, Role
from notifications import links, queue
from scheduler import facts, tenants
from scheduler.errors import ClinicSuspended
from scheduler.jobs import JOBS
from scheduler.permissions import Permission
from scheduler.tenants import OperatorPermission
from tests.factories import MONDAY_9, SUNDAY_NOON, World
from tests.integration.conftest import Caller, Clock, settings
from worker import Worker

DAY = timedelta(days=1)
NEW = {
    "name": "River Practice",
    "email": "hello@river.example",
    "phone": "+12125550123",
    "time_zone": "America/New_York",
    "admin": {"name": "Ada First", "email": "Ada@River.example"},
}
WHY = {"reason": "The contract ended."}


@pytest.fixture(scope="module")
def app(database: Access, clock: Clock) -> Iterator[Flask]:
    app = build(settings(), database.service, clock, database.operator)
    app.config["TESTING"] = True
    yield app
    with app.app_context():
        db.engine.dispose()
    app.config["OPERATORS"].dispose()


@pytest.fixture
def clinic(committed: Session, committed_world: World, clock: Clock) -> World:
    clock.now = SUNDAY_NOON
    return committed_world


@pytest.fixture
def operator(app: Flask, database: Access, clinic: World) -> Caller:
    with connect(database.owner, autocommit=False) as connection:
        secret = operators.issue(connection, "ops", 365 * DAY, SUNDAY_NOON)
    return Caller(app.test_client(), secret)


def of_role(app: Flask, session: Session, clinic_id: UUID, role: Role = Role.ADMIN) -> Caller:
    enter_clinic(session, clinic_id)
    _, secret = keys.issue(session, str(role), role, None, SUNDAY_NOON)
    session.commit()
    return Caller(app.test_client(), secret)


@pytest.fixture
def admin(app: Flask, committed: Session, clinic: World) -> Caller:
    return of_role(app, committed, clinic.clinic_id)


class At:
    """A clinic at the operators' doors."""

    def __init__(self, operator: Caller, clinic_id: Any) -> None:
        self.operator, self.path = operator, f"/operator/clinics/{clinic_id}"

    def read(self) -> Any:
        return self.operator.get(self.path).json

    def do(self, move: str, told: Any = None, **more: Any) -> Any:
        etag = self.operator.get(self.path).headers["ETag"]
        return self.operator.post(f"{self.path}/{move}", told or WHY, etag=etag, **more)

    def limit(self, **told: Any) -> Any:
        etag = self.operator.get(self.path).headers["ETag"]
        return self.operator("PATCH", self.path, told, etag=etag)


@pytest.fixture
def at(operator: Caller, clinic: World) -> At:
    return At(operator, clinic.clinic_id)


def kind(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json["type"].removeprefix("/problems/")


class TestApart:
    """The two have neither doors, nor keys, nor roles of the database in common."""

    def test_an_operators_key_opens_no_door_of_a_clinic(self, app: Flask, operator: Caller) -> None:
        tried = 0
        for rule in app.url_map.iter_rules():
            if isinstance(getattr(app.view_functions[rule.endpoint], "permission", 0), Permission):
                for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                    answer = operator(method, filled(rule), {}, etag='"1"')
                    # 415: it is not even looked who asks.
                    assert answer.status_code in {401, 415}, (method, rule)
                    tried += 1
        assert tried > 200

    @pytest.mark.parametrize("role", Role)
    def test_a_clinics_key_opens_no_door_of_the_operators(
        self, app: Flask, committed: Session, clinic: World, operator: Caller, role: Role
    ) -> None:
        caller = of_role(app, committed, clinic.clinic_id, role)
        nobody = Caller(app.test_client(), "op_00000000_nonsense")
        tried = 0
        for rule in app.url_map.iter_rules():
            asked = getattr(app.view_functions[rule.endpoint], "permission", None)
            if isinstance(asked, OperatorPermission):
                for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                    for who in (caller, nobody):
                        answer = who(method, filled(rule), {}, etag='"1"')
                        assert kind(answer) == (401, "unauthenticated"), (method, rule)
                    tried += 1
        assert tried == 13

    def test_no_key_of_a_clinic_can_be_given_what_an_operator_may(self, admin: Caller) -> None:
        told = {"name": "x", "role": "admin", "scopes": [OperatorPermission.CLINICS_READ]}
        assert admin.post("/api-keys", told).status_code == 422
        assert {str(one) for one in OperatorPermission}.isdisjoint(map(str, Permission))

    def test_a_key_that_has_ended_opens_nothing(
        self, operator: Caller, database: Access, clock: Clock
    ) -> None:
        assert operator.get("/operator/clinics").status_code == 200
        clock.now += 365 * DAY
        assert operator.get("/operator/clinics").status_code == 401
        clock.now = SUNDAY_NOON
        with connect(database.owner) as connection:
            connection.execute("UPDATE operator_key SET revoked_at = %s", [SUNDAY_NOON])
        assert operator.get("/operator/clinics").status_code == 401

    def test_without_a_way_in_for_them_their_doors_are_shut(
        self, database: Access, clock: Clock, operator: Caller
    ) -> None:
        app = build(settings(), database.service, clock)
        assert Caller(app.test_client(), operator.key).get("/operator/clinics").status_code == 401

    def test_a_fault_at_their_doors_says_nothing_of_what_was_sent(self, app: Flask) -> None:
        with app.config["OPERATORS"].connect() as there, pytest.raises(DBAPIError) as fault:
            there.execute(text("SELECT 1 / 0, CAST(:told AS text)"), {"told": "a-name"})
        assert "a-name" not in str(fault.value)

    def test_the_operators_role_may_touch_no_table_of_a_clinic(
        self, database: Access, clinic: World
    ) -> None:
        """By grants, whatever a statement says: also where row-level security would let it."""
        role = database.operator.username
        with connect(database.owner) as connection:
            touched = connection.execute(
                """
                SELECT c.relname, privilege
                  FROM pg_class c,
                       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege
                 WHERE c.relnamespace = 'public'::regnamespace
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                   AND has_any_column_privilege(%(role)s, c.oid, privilege)
                UNION SELECT c.relname, privilege
                  FROM pg_class c, unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) privilege
                 WHERE c.relnamespace = 'public'::regnamespace
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                   AND has_table_privilege(%(role)s, c.oid, privilege)
                """,
                {"role": role},
            ).fetchall()
            called = connection.execute(
                "SELECT proname FROM pg_proc WHERE prosecdef AND prorettype <> 'trigger'::regtype "
                "AND pronamespace = 'public'::regnamespace "
                "AND has_function_privilege(%s, oid, 'EXECUTE') ORDER BY proname",
                [role],
            ).fetchall()
        assert set(touched) == {("tenancy", "SELECT"), ("operator_event", "SELECT")}
        assert [name for (name,) in called] == [
            "admit_operator",
            "found_clinic",
            "hold_records",
            "invite_admin",
            "limit_tenancy",
            "move_tenancy",
            "see_clinic",
        ]
        with connect(database.operator) as connection:
            connection.execute(f"SET afterglow.clinic = '{clinic.clinic_id}'")
            for table in ("patient", "appointment", "message", "audit_event", "operator_key"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"SELECT FROM {table}")  # ours

    def test_nobody_else_may_do_what_operators_do(self, database: Access, clinic: World) -> None:
        theirs = (
            *("admit_operator", "found_clinic", "hold_records", "limit_tenancy", "move_tenancy"),
            "see_clinic",
        )
        for url in (database.service, database.worker):
            with connect(url) as connection:
                connection.execute(f"SET afterglow.clinic = '{clinic.clinic_id}'")
                for statement in (
                    "UPDATE tenancy SET most_users = NULL",
                    "DELETE FROM tenancy",
                    "SELECT FROM operator_event",
                    "SELECT FROM operator_key",
                ):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(statement)
                may = connection.execute(
                    "SELECT count(*) FROM pg_proc WHERE proname = ANY(%s) "
                    "AND has_function_privilege(oid, 'EXECUTE')",
                    [list(theirs)],
                ).fetchone()
                assert may == (0,)
        with connect(database.service) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT shred_some(%s, 1, now())", [clinic.clinic_id])
            assert connection.execute("SELECT count(*) FROM tenancy").fetchone() == (0,)

    def test_what_is_shown_says_nothing_about_patients(
        self, at: At, operator: Caller, admin: Caller
    ) -> None:
        admin.get("/sites")
        shown = at.read()

        assert shown["name"] == "Test Practice"
        assert (shown["users"], shown["sites"], shown["status"]) == (0, 1, "active")
        assert set(shown) == {
            *("id", "name", "status", "since", "by", "reason", "shred_after", "email", "phone"),
            *("time_zone", "users", "sites", "last_active_on", "rows_gone", "created_at"),
            *("requests_per_minute", "most_users", "most_sites", "legal_hold"),
        }


def filled(rule: Any) -> str:
    """The path of a route, with something in each gap."""
    values = {
        name: {"IntegerConverter": 1, "UUIDConverter": uuid4()}.get(type(one).__name__, "x")
        for name, one in rule._converters.items()
    }
    return str(rule.build(values, append_unknown=False)[1])


class TestFounding:
    def test_a_clinic_begins_with_an_admin_who_is_invited_by_mail(
        self, operator: Caller, committed: Session, app: Flask, clock: Clock
    ) -> None:
        made = operator.post("/operator/clinics", {**NEW, "most_users": 2})

        assert made.status_code == 201, made.json
        assert (made.json["status"], made.json["users"], made.json["most_users"]) == (
            "active",
            1,
            2,
        )
        at = At(operator, made.json["id"])
        assert at.read() == made.json
        assert made.headers["Location"] == f"/api/v1{at.path}"
        enter_clinic(committed, UUID(made.json["id"]))
        [user] = committed.scalars(select(UserAccount))
        assert (user.email, user.roles, user.status) == ("ada@river.example", ["admin"], "invited")
        [message] = committed.scalars(select(Message))
        assert (message.kind, message.recipient_id) == ("account-invitation", user.id)
        assert (message.due_at, message.not_after) == (SUNDAY_NOON, SUNDAY_NOON + 3 * DAY)
        lines = of_role(app, committed, user.clinic_id).get("/audit-events").json["items"]
        assert lines[0]["actor"].startswith("operator:ops/")

    def test_a_name_is_taken_once(self, operator: Caller) -> None:
        operator.post("/operator/clinics", NEW)
        again = operator.post("/operator/clinics", {**NEW, "name": "RIVER practice"})
        assert kind(again) == (409, "already-exists")
        assert len(operator.get("/operator/clinics").json["items"]) == 2

    @pytest.mark.parametrize("field", ["time_zone", "email", "admin", "requests_per_minute"])
    def test_what_is_wrong_is_told(self, operator: Caller, field: str) -> None:
        told = operator.post("/operator/clinics", {**NEW, field: "nowhere"})
        assert kind(told) == (422, "invalid")
        assert told.json["errors"][0]["pointer"].startswith(f"/{field}")

    def test_the_first_admin_is_written_to_again_until_somebody_has_come(
        self, operator: Caller, committed: Session, app: Flask
    ) -> None:
        made = operator.post("/operator/clinics", NEW).json
        path = f"/operator/clinics/{made['id']}/invite-admin"

        assert operator.post(path, NEW["admin"]).status_code == 200
        enter_clinic(committed, UUID(made["id"]))
        assert len(committed.scalars(select(Message)).all()) == 2
        assert len(committed.scalars(select(UserAccount)).all()) == 1
        committed.execute(update(UserAccount).values(password_hash="x", status="active"))
        committed.commit()

        answer = operator.post(path, {"name": "Me", "email": "me@operator.example"})
        assert kind(answer) == (409, "wrong-status")

    def test_only_the_last_of_these_letters_opens_anything(
        self, operator: Caller, committed: Session, clock: Clock
    ) -> None:
        """Or an operator could invite themselves first, and come after the admin has."""
        made = operator.post("/operator/clinics", NEW).json
        path = f"/operator/clinics/{made['id']}/invite-admin"
        me = {"name": "Me", "email": "me@operator.example"}

        for told, openers in ((me, me), (NEW["admin"], NEW["admin"])):
            assert operator.post(path, told).status_code == 200
            enter_clinic(committed, UUID(made["id"]))
            users = {one.id: one.email for one in committed.scalars(select(UserAccount))}
            waiting = committed.scalars(select(Message).where(Message.state == "scheduled")).all()
            assert [users[one.recipient_id] for one in waiting] == [openers["email"].lower()]
            committed.rollback()

    def test_nobody_is_invited_into_a_clinic_that_has_begun(self, at: At, operator: Caller) -> None:
        told = {"name": "Me", "email": "me@operator.example"}
        assert kind(operator.post(f"{at.path}/invite-admin", told)) == (409, "wrong-status")

    def test_they_are_listed_page_by_page(self, operator: Caller) -> None:
        for number in range(3):
            operator.post("/operator/clinics", {**NEW, "name": f"Practice {number}"})
        found: list[str] = []
        path = "/operator/clinics?limit=3"
        while path:
            page = operator.get(path).json
            found += [one["name"] for one in page["items"]]
            path = page["next"]
        assert found == ["Test Practice", "Practice 0", "Practice 1", "Practice 2"]
        assert operator.get("/operator/clinics?status=closed").json["items"] == []


class TestLimits:
    def test_requests_bind_at_once_and_no_clinic_raises_its_own(
        self, at: At, admin: Caller, committed: Session, clinic: World
    ) -> None:
        committed.execute(text("UPDATE clinic SET requests_per_minute = 1000"))
        committed.commit()
        assert at.limit(requests_per_minute=3).json["requests_per_minute"] == 3
        answers = [admin.get("/sites").status_code for _ in range(4)]
        assert answers == [200, 200, 200, 429]

    def test_sites_and_accounts_are_counted_where_they_are_made(
        self, at: At, admin: Caller, committed: Session, clinic: World
    ) -> None:
        at.limit(most_sites=2, most_users=1)
        site = {"address": "1 Way", "phone": "+12125550123", "time_zone": "America/New_York"}
        assert admin.post("/sites", {**site, "name": "Second"}).status_code == 201
        refused = admin.post("/sites", {**site, "name": "Third"})
        assert kind(refused) == (409, "limit-reached")
        assert refused.json["detail"] == "This clinic may have 2 sites."

        user = {"name": "A", "roles": ["scheduler"]}
        first = admin.post("/users", {**user, "email": "a@x.example"})
        assert kind(admin.post("/users", {**user, "email": "b@x.example"})) == (
            409,
            "limit-reached",
        )
        path = f"/users/{first.json['id']}"
        admin("PATCH", path, {"status": "disabled"}, etag='"1"')
        assert admin.post("/users", {**user, "email": "b@x.example"}).status_code == 201
        committed.execute(update(UserAccount).values(password_hash="x"))
        committed.commit()
        back = admin("PATCH", path, {"status": "active"}, etag='"2"')
        assert kind(back) == (409, "limit-reached")

    def test_what_it_has_beyond_a_limit_it_keeps(self, at: At, admin: Caller) -> None:
        at.limit(most_sites=1)
        assert at.limit(most_sites=None).json["most_sites"] is None
        assert len(admin.get("/sites").json["items"]) == 1

    def test_who_has_not_seen_it_as_it_is_changes_nothing(self, at: At, operator: Caller) -> None:
        at.limit(most_sites=3)
        stale = operator("PATCH", at.path, {"most_sites": 4}, etag='"1"')
        blind = operator("PATCH", at.path, {"most_sites": 4})
        assert (kind(stale), kind(blind)) == ((412, "stale"), (428, "precondition-required"))


class TestSuspended:
    def test_no_door_opens_until_it_is_resumed(self, at: At, admin: Caller, app: Flask) -> None:
        answer = at.do("suspend")

        assert (answer.status_code, answer.json["status"]) == (200, "suspended")
        for path in ("/sites", "/patients", "/archives", "/session"):
            assert kind(admin.get(path)) == (403, "clinic-suspended")
        assert at.do("resume").json["status"] == "active"
        assert admin.get("/sites").status_code == 200

    def test_the_clinic_sees_who_did_it_and_why(self, at: At, admin: Caller) -> None:
        at.do("suspend", {"reason": "Not paid."})
        at.do("resume", {"reason": "Paid."})
        lines = [
            one
            for one in admin.get("/audit-events?entity=clinic").json["items"]
            if one["actor"].startswith("operator:")
        ]
        told = sorted((one["facts"]["to"], one["facts"]["reason"]) for one in lines)
        assert told == [("active", "Paid."), ("suspended", "Not paid.")]

    def test_its_pages_for_patients_are_shut_and_the_calendar_asks_again_later(
        self, at: At, committed: Session, clinic: World, app: Flask, admin: Caller
    ) -> None:
        enter_clinic(committed, clinic.clinic_id)
        committed.add(
            CalendarFeed(
                schedule_id=clinic.therapist, token_hash=links.digest("t0ken"), made_by="x"
            )
        )
        visit_id = visit(committed, clinic, AppointmentStatus.BOOKED, MONDAY_9)
        link = PatientLink(
            appointment_id=visit_id,
            patient_id=clinic.patient_id,
            token_hash=links.digest("pat1ent"),
            expires_at=MONDAY_9,
        )
        committed.add(link)
        committed.commit()
        client = app.test_client()
        paths = ("/calendar/t0ken.ics", "/p/pat1ent")
        assert [client.get(path).status_code for path in paths] == [200, 303]

        at.do("suspend")
        assert [client.get(path).status_code for path in paths] == [503, 404]
        assert client.get(f"/sign-in/{clinic.clinic_id}").status_code == 200

    def test_nobody_is_shut_out_who_is_there_for_a_visit(
        self, at: At, committed: Session, clinic: World, clock: Clock
    ) -> None:
        visit(committed, clinic, AppointmentStatus.CHECKED_IN, MONDAY_9)
        clock.now = MONDAY_9 + timedelta(hours=1)

        assert kind(at.do("suspend")) == (409, "visits-under-way")
        assert kind(at.do("close")) == (409, "visits-under-way")
        assert at.do("suspend", {**WHY, "during_visits": True}).status_code == 200

    def test_what_was_missed_meanwhile_is_nobodys_fault(
        self, at: At, committed: Session, clinic: World, clock: Clock
    ) -> None:
        missed = visit(committed, clinic, AppointmentStatus.BOOKED, MONDAY_9)
        later = MONDAY_9 + 5 * DAY
        assert [one.id for one in facts.missed(committed, later)] == [missed]
        committed.rollback()
        at.do("suspend")
        clock.now = later
        at.do("resume")
        enter_clinic(committed, clinic.clinic_id)
        assert facts.missed(committed, later + DAY) == []


class TestStandingStill:
    @pytest.fixture
    def due(self, committed: Session, clinic: World) -> UUID:
        """A message to somebody of the staff that is due."""
        enter_clinic(committed, clinic.clinic_id)
        told = Invitation(email="a@x.example", name="A", roles=[Role.SCHEDULER])
        user = accounts.invite(committed, told, SUNDAY_NOON)
        committed.commit()
        return user.id

    @pytest.mark.parametrize(("shuts", "opens"), [("suspend", "resume"), ("close", "reopen")])
    def test_what_is_due_is_neither_said_nor_lost(
        self, at: At, due: UUID, database: Access, shuts: str, opens: str
    ) -> None:
        later = SUNDAY_NOON + DAY

        def said() -> list[UUID]:
            with connect(database.worker) as connection:
                ahead = queue.next_due(connection, Channel.EMAIL)
                claimed = queue.claim(connection, Channel.EMAIL, later, 10)
                assert (ahead is None) == (claimed == [])
                return [one.recipient_id for one in claimed]

        at.do(shuts)
        assert said() == []
        at.do(opens)
        assert said() == [due]

    def test_what_is_of_no_use_any_more_is_expired_and_seen(
        self, at: At, due: UUID, database: Access, committed: Session
    ) -> None:
        at.do("suspend")
        with connect(database.worker) as connection:
            assert len(queue.expire(connection, SUNDAY_NOON + 4 * DAY)) == 1
        assert [one.state for one in committed.scalars(select(Message))] == ["expired"]

    def test_no_job_runs_for_it_but_what_guards_its_trail(
        self, at: At, clinic: World, worker_engine: Engine, clock: Clock, tmp_path: Path
    ) -> None:
        ran: list[str] = []

        def noted(name: str) -> Any:
            def run(_session: Session, _now: datetime) -> int:
                ran.append(name)
                return 0

            return run

        refresher = Refresher(worker_engine, clock, Fetcher(()).fetch)
        importer = Importer(worker_engine, clock)
        at_work = Worker(worker_engine, clock, [], [], refresher, importer, 1, tmp_path)
        at.do("suspend")
        for job in JOBS:
            at_work.do(replace(job, run=noted(job.name)))
        assert ran == ["watch-audit-trail", "publish-audit-heads"]

    def test_nobody_signs_in_and_who_is_signed_in_stands_before_a_shut_door(
        self, at: At, due: UUID, committed: Session, clinic: World
    ) -> None:
        enter_clinic(committed, clinic.clinic_id)
        committed.execute(update(UserAccount).values(password_hash="x", status="active"))
        user = committed.scalars(select(UserAccount)).one()
        _, token = sessions.begin(committed, user, Whence(None, "x"), SUNDAY_NOON)
        committed.commit()

        at.do("suspend")
        found = sessions.find(committed, token, SUNDAY_NOON)
        assert found is not None
        assert found.status == "suspended"
        with pytest.raises(ClinicSuspended):
            sessions.begin(committed, user, Whence(None, "x"), SUNDAY_NOON)
        committed.rollback()
        at.do("resume")
        at.do("close")  # who is to take all of it along has to come in
        sessions.begin(committed, user, Whence(None, "x"), SUNDAY_NOON)


class TestShell:
    def told(self, database: Access, *asked: str) -> Any:
        environment = {
            "DATABASE_URL": access.psycopg_url(database.owner),
            "AFTERGLOW_SECRET": SECRET,
        }
        return CliRunner().invoke(cli.main, asked, env=environment)

    def test_a_key_is_made_listed_and_revoked(
        self, app: Flask, database: Access, clinic: World, clock: Clock
    ) -> None:
        clock.now = datetime.now(UTC)
        made = self.told(database, "operator", "create", "night shift", "--days", "30")
        assert made.exit_code == 0, made.output
        caller = Caller(app.test_client(), made.output.strip())
        assert caller.get("/operator/clinics").status_code == 200

        listed = self.told(database, "operator", "list").output
        prefix = caller.key[:11]
        assert prefix in listed
        assert "night shift" in listed
        assert caller.key not in listed
        assert self.told(database, "operator", "revoke", prefix).exit_code == 0
        assert caller.get("/operator/clinics").status_code == 401
        again = self.told(database, "operator", "revoke", prefix)
        assert (again.exit_code, "There is no key" in again.output) == (2, True)

    def test_their_trail_is_recomputed_with_the_clinics(
        self, at: At, database: Access, clinic: World
    ) -> None:
        at.do("suspend")
        assert self.told(database, "audit", "verify").exit_code == 0
        with connect(database.owner) as connection:
            connection.execute("UPDATE operator_event SET actor = 'x' WHERE sequence = 1")
        told = self.told(database, "audit", "verify")
        assert told.exit_code == 1
        assert "Operators: line 1" in told.output


def visit(session: Session, clinic: World, status: AppointmentStatus, starts_at: datetime) -> UUID:
    enter_clinic(session, clinic.clinic_id)
    made = Appointment(
        id=uuid4(),
        patient_id=clinic.patient_id,
        protocol_version_id=clinic.protocol_version_id,
        visit="preparation",
        kind="preparation",
        site_id=clinic.site_id,
        status=status,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(hours=1),
        booked_by="test",
    )
    session.add(made)
    session.commit()
    return made.id


class TestLifeCycle:
    @pytest.mark.parametrize(
        ("first", "then"),
        [
            ([], ["resume", "reopen", "shred"]),
            (["suspend"], ["suspend", "reopen", "shred"]),
            (["close"], ["suspend", "resume", "close"]),
            (["suspend", "close"], ["suspend", "resume", "close"]),
            (["close", "reopen"], ["resume", "reopen", "shred"]),
        ],
    )
    def test_what_may_not_follow_is_refused(
        self, at: At, first: list[str], then: list[str]
    ) -> None:
        for move in first:
            assert at.do(move).status_code == 200, move
        for move in then:
            told = {**WHY, "name": "Test Practice"} if move == "shred" else WHY
            assert kind(at.do(move, told)) == (409, "wrong-status"), move

    def test_a_closed_clinic_can_be_reopened_and_archived_and_no_more(
        self, at: At, admin: Caller
    ) -> None:
        closed = at.do("close").json

        assert (closed["status"], closed["shred_after"]) == ("closed", "2026-03-31T12:00:00Z")
        assert kind(admin.get("/sites")) == (403, "clinic-closed")
        assert admin.get("/archives").status_code == 200
        assert admin.post("/archives").status_code == 202
        assert at.do("reopen").json["shred_after"] is None
        assert admin.get("/sites").status_code == 200

    def test_it_is_shredded_after_a_while_by_its_name_alone(self, at: At, clock: Clock) -> None:
        at.do("close")
        clock.now += 30 * DAY - timedelta(seconds=1)
        assert kind(at.do("shred", {**WHY, "name": "Test Practice"})) == (422, "too-early")
        clock.now += timedelta(seconds=1)
        assert kind(at.do("shred", {**WHY, "name": "Test practice"})) == (422, "unfit")
        answer = at.do("shred", {**WHY, "name": "Test Practice"})
        assert (answer.status_code, answer.json["status"]) == (202, "shredding")
        assert kind(at.do("reopen")) == (409, "wrong-status")
        assert kind(at.limit(most_sites=1)) == (409, "wrong-status")

    def test_under_a_legal_hold_it_is_not_shredded(
        self, at: At, clock: Clock, clinic: World, admin: Caller, database: Access
    ) -> None:
        held = at.do("hold", {"reason": "The court of the county asked."})
        assert held.json["legal_hold"]["reason"] == "The court of the county asked."
        assert held.json["legal_hold"]["by"].startswith("operator:")
        assert kind(at.do("hold")) == (409, "wrong-status")
        line = admin.get("/audit-events?entity=clinic&sort=desc&limit=1").json["items"][0]
        assert line["facts"] == {"legal_hold": True, "reason": "The court of the county asked."}
        at.do("close")
        clock.now += 30 * DAY
        typed = {**WHY, "name": "Test Practice"}
        assert kind(at.do("shred", typed)) == (409, "legal-hold")
        with (
            connect(database.owner) as connection,
            pytest.raises(psycopg.Error, match="legal-hold"),
        ):
            connection.execute(
                "UPDATE tenancy SET status = 'shredding' WHERE id = %s", [clinic.clinic_id]
            )
        assert at.do("release").json["legal_hold"] is None
        assert kind(at.do("release")) == (409, "wrong-status")
        assert at.do("shred", typed).status_code == 202
        assert kind(at.do("hold")) == (409, "wrong-status")

    def test_operators_acts_are_a_chain_that_shows_who_meddles(
        self, at: At, operator: Caller, database: Access
    ) -> None:
        at.do("suspend")
        at.do("resume")
        shown = operator.get("/operator/events?limit=2").json
        rest = operator.get(f"/operator/events?after={shown['next']}").json
        acts = [(one["entity"], one["action"]) for one in shown["items"] + rest["items"]]
        assert acts == [("operator_key", "create"), ("clinic", "update"), ("clinic", "update")]
        assert len(rest["items"][0]["facts"]["clinics_head"]) == 64
        with connect(database.owner) as connection:
            engine_says = self.fault(database)
            assert engine_says is None
            connection.execute("UPDATE operator_event SET actor = 'x' WHERE sequence = 2")
        fault = self.fault(database)
        assert fault is not None
        assert fault.sequence == 2

    @staticmethod
    def fault(database: Access) -> Any:
        engine = create_engine(database.operator)
        with Session(engine) as session:
            found = tenants.first_fault(session)
        engine.dispose()
        return found
