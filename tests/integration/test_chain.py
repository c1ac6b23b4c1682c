"""The chain of the audit trail: nobody writes it anew without being found out."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

import auditing
import worker
from database.access import Access
from database.opening import Opened
from intake.bulk import Importer
from intake.feeds import Refresher
from intake.fetching import Fetcher
from models import AuditEvent, enter_clinic
from scheduler import audit, chain, heads
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.jobs import JOBS
from tests.factories import SUNDAY_NOON, World
from tests.integration.conftest import Clock

BY = Authority("key:somebody/1")


def wrong_in(engine: Engine, clinic_id: UUID, *kept: Any) -> Any:
    with Session(engine) as session:
        enter_clinic(session, clinic_id)
        return heads.verify(session, kept)


STATEMENTS = [
    "INSERT INTO audit_event (id, sequence, at, actor, action, entity, form, previous_hash, hash) "
    "VALUES (gen_random_uuid(), 99, now(), 'a', 'read', 'x', 2, '', '')",
    "UPDATE audit_event SET actor = 'somebody else'",
    "DELETE FROM audit_event",
    "TRUNCATE audit_event",
]


class TestTheChain:
    @pytest.fixture
    def clinic_id(self, committed: Session, committed_world: World) -> UUID:
        """A clinic with ten lines, the seventh of them published."""
        for number in range(10):
            act = Act(
                action="read",
                entity="patient",
                patient_id=committed_world.patient_id,
                facts={"what": f'é "{number}" \n\\', "count": 1.5},
            )
            audit.record(committed, BY, act, SUNDAY_NOON)
            committed.commit()
        return committed_world.clinic_id

    @pytest.fixture
    def owner(self, database: Access) -> Iterator[Engine]:
        """Whoever may do everything in the database."""
        engine = create_engine(database.owner)
        yield engine
        engine.dispose()

    @pytest.mark.parametrize("statement", STATEMENTS)
    @pytest.mark.parametrize("role", ["service", "worker"])
    def test_abuse_60_no_role_of_ours_touches_it(
        self, database: Access, clinic_id: UUID, role: str, statement: str
    ) -> None:
        engine = create_engine(getattr(database, role))
        with Session(engine) as session:
            enter_clinic(session, clinic_id)
            with pytest.raises(ProgrammingError) as refused:
                session.execute(text(statement))
        assert refused.value.orig.sqlstate == "42501"  # type: ignore[union-attr]
        engine.dispose()

    def test_abuse_60_holds_as_it_was_written(
        self, service_engine: Engine, worker_engine: Engine, clinic_id: UUID
    ) -> None:
        assert wrong_in(service_engine, clinic_id) is None
        assert wrong_in(worker_engine, clinic_id) is None

    @pytest.mark.parametrize(
        ("statement", "sequence", "wrong"),
        [
            ("UPDATE audit_event SET actor = 'x' WHERE sequence = 4", 4, "was changed"),
            ("UPDATE audit_event SET outcome = 'denied' WHERE sequence = 4", 4, "was changed"),
            ("UPDATE audit_event SET address = '10.0.0.1' WHERE sequence = 4", 4, "was changed"),
            ("UPDATE audit_event SET form = 1 WHERE sequence = 4", 4, "was changed"),
            ("UPDATE audit_event SET facts = '{}' WHERE sequence = 10", 10, "was changed"),
            ("UPDATE audit_event SET at = at - '1 d'::interval WHERE sequence = 3", 3, "changed"),
            ("DELETE FROM audit_event WHERE sequence = 5", 6, "line 5 is missing"),
            ("DELETE FROM audit_event WHERE sequence = 1", 2, "line 1 is missing"),
        ],
    )
    def test_abuse_60_names_the_first_line_that_is_wrong(
        self,
        owner: Engine,
        service_engine: Engine,
        clinic_id: UUID,
        statement: str,
        sequence: int,
        wrong: str,
    ) -> None:
        do(owner, statement)

        fault = wrong_in(service_engine, clinic_id)
        assert (fault.sequence, wrong in fault.wrong) == (sequence, True), fault
        assert str(UUID(fault.id)) == fault.id

    def test_abuse_60_a_tail_that_was_rewritten_is_found_by_a_head_that_was_kept(
        self,
        owner: Engine,
        worker_engine: Engine,
        clinic_id: UUID,
        tmp_path: Path,
    ) -> None:
        with Session(worker_engine) as session:
            enter_clinic(session, clinic_id)
            assert heads.publish(session, SUNDAY_NOON) == 1
            assert heads.publish(session, SUNDAY_NOON) == 0
            session.commit()
            assert (heads.ship(session, tmp_path), heads.ship(session, tmp_path)) == (1, 0)
        kept = heads.read(tmp_path)[clinic_id]
        assert wrong_in(worker_engine, clinic_id, *kept) is None
        do(owner, "TRUNCATE audit_head")  # whoever rewrites the one removes the other
        rewrite(owner, clinic_id, 8)

        assert wrong_in(worker_engine, clinic_id) is None
        fault = wrong_in(worker_engine, clinic_id, *kept)
        assert (fault.sequence, "was rewritten" in fault.wrong) == (10, True)
        do(owner, "DELETE FROM audit_event WHERE sequence > 7")
        assert wrong_in(worker_engine, clinic_id) is None
        fault = wrong_in(worker_engine, clinic_id, *kept)
        assert (fault.sequence, fault.id, "is missing" in fault.wrong) == (8, None, True)

    def test_heads_are_written_on_after_a_restoration(
        self, owner: Engine, worker_engine: Engine, clinic_id: UUID, tmp_path: Path
    ) -> None:
        """The trail goes on from an earlier line than the last whose head was written."""

        def publish(now: datetime) -> tuple[int, int]:
            with Session(worker_engine) as session:
                enter_clinic(session, clinic_id)
                published = heads.publish(session, now)
                session.commit()
                return published, heads.ship(session, tmp_path)

        assert publish(SUNDAY_NOON) == (1, 1)
        do(owner, "TRUNCATE audit_head")
        do(owner, "DELETE FROM audit_event WHERE sequence > 7")

        assert publish(SUNDAY_NOON + timedelta(hours=1)) == (1, 1)
        told = heads.read(tmp_path)[clinic_id]
        assert [head.sequence for head in told] == [10, 7]

    def test_abuse_60_a_clock_that_was_set_back_is_found(
        self, owner: Engine, service_engine: Engine, clinic_id: UUID
    ) -> None:
        rewrite(owner, clinic_id, 8, "created_at = created_at - '1 h'::interval")

        fault = wrong_in(service_engine, clinic_id)
        assert (fault.sequence, "before the line before it" in fault.wrong) == (8, True)

    def test_abuse_60_raises_an_alarm(
        self,
        app: Flask,
        owner: Engine,
        worker_engine: Engine,
        clinic_id: UUID,
        clock: Clock,
        tmp_path: Path,
    ) -> None:
        refresher = Refresher(worker_engine, clock, Fetcher(()).fetch)
        importer = Importer(worker_engine, clock)
        at_work = worker.Worker(worker_engine, clock, [], [], refresher, importer, 1, tmp_path)
        watch = next(job for job in JOBS if job.name == "watch-audit-trail")
        for statement, breaks in (
            ("SELECT 1", 0),
            ("UPDATE audit_event SET actor = 'x' WHERE sequence = 9", 1),
            ("UPDATE audit_event SET actor = 'key:somebody/1' WHERE sequence = 9", 0),
        ):
            do(owner, statement)
            at_work.do(watch)
            at_work.sweep()
            client = app.test_client()
            told = client.get("/metrics").text.splitlines()
            assert f"afterglow_audit_chain_breaks {breaks}.0" in told
            alarms = ["audit"] if breaks else None
            ready = client.get("/health/ready").json or {}
            assert ready.get("alarms") == alarms

    def test_what_is_no_head_is_told(self, tmp_path: Path) -> None:
        for told in ('{"clinic_id": "x"}', "[]", "no json", '{"sequence": "x"}'):
            (tmp_path / "heads.jsonl").write_text(told)
            with pytest.raises(ValueError, match="no head"):
                heads.read(tmp_path)

    def test_the_hours_heads_are_published_and_written_by_the_worker(
        self, worker_engine: Engine, clinic_id: UUID, clock: Clock, tmp_path: Path
    ) -> None:
        refresher = Refresher(worker_engine, clock, Fetcher(()).fetch)
        importer = Importer(worker_engine, clock)
        folder = tmp_path / "heads"
        at_work = worker.Worker(worker_engine, clock, [], [], refresher, importer, 1, folder)
        at_work.do(next(job for job in JOBS if job.name == "publish-audit-heads"))
        at_work.ship_heads()

        [line] = (tmp_path / "heads" / f"{clinic_id}.jsonl").read_text().splitlines()
        assert json.loads(line)["sequence"] == 10

    def test_lines_of_before_hold_in_the_form_they_were_made_in(
        self, owner: Engine, service_engine: Engine, clinic_id: UUID
    ) -> None:
        do(owner, AS_BEFORE)
        rewrite(owner, clinic_id, 2)

        assert wrong_in(service_engine, clinic_id) is None
        do(owner, "UPDATE audit_event SET actor = 'x' WHERE sequence = 1")
        assert wrong_in(service_engine, clinic_id).sequence == 1

    def test_the_command_names_it_and_fails(
        self,
        owner: Engine,
        service_engine: Engine,
        clinic_id: UUID,
        capsys: pytest.CaptureFixture[str],
        database: Access,
    ) -> None:
        opened = Opened(database, None)
        assert auditing._is_wrong(opened, (clinic_id, "Test"), [], 0) is False
        assert "lines looked at: 10. All as written." in capsys.readouterr().out
        do(owner, "UPDATE audit_event SET actor = 'x' WHERE sequence = 4")
        assert auditing._is_wrong(opened, (clinic_id, "Test"), [], 0) is True
        assert re.search(r"line 4 \([0-9a-f-]{36}\) was changed", capsys.readouterr().out)
        assert auditing._is_wrong(opened, (clinic_id, "Test"), [], 4) is False


def do(owner: Engine, statement: str) -> None:
    """Do what whoever owns the tables could, past row-level security."""
    with owner.begin() as connection:
        for told in ("NO FORCE", "FORCE"):
            connection.execute(text(f"ALTER TABLE audit_event {told} ROW LEVEL SECURITY"))
            if told == "NO FORCE":
                connection.execute(text(statement))


def rewrite(owner: Engine, clinic_id: UUID, start: int, changes: str = "actor = 'x'") -> None:
    """Change lines from `start` on, hashes and all."""
    do(owner, f"UPDATE audit_event SET {changes} WHERE sequence >= {start}")
    with Session(owner) as session:
        enter_clinic(session, clinic_id)
        for sequence in range(start, 11):
            line = session.scalars(select(AuditEvent).filter_by(sequence=sequence)).one()
            before = session.scalars(select(AuditEvent).filter_by(sequence=sequence - 1)).first()
            line.previous_hash = before.hash if before is not None else b""
            session.flush()
            told = session.execute(heads._LINES, {"after": sequence - 1}).first()
            line.hash = chain.hash_of(told)
        session.commit()


AS_BEFORE = """
    UPDATE audit_event SET form = 1, hash = sha256(previous_hash || convert_to(concat_ws('|',
           clinic_id, sequence, extract(epoch FROM at), actor, action, entity, entity_id,
           patient_id, facts), 'UTF8')) WHERE sequence = 1
"""
