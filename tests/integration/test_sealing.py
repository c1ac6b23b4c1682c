"""What is sealed opens in its own place alone, and outlives every change of key."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

import checkup
import cli
import config
import vault
from database import access, backups, programs
from database.access import Access
from database.scratch import SECRET
from models import HealthEvent, Patient, Practitioner, Screen, Task, UserAccount, enter_clinic
from models import sealed as sealing
from models.vocabulary import HealthEventKind, Owner, TaskKind, TaskStatus
from scheduler import facts, lines, resealing, tasks
from scheduler.authority import Authority, Call
from scheduler.tasks import Settled, Wanted
from tests import MASTER
from tests.factories import SUNDAY_NOON, World, make_patient, make_world, screen
from tests.integration.conftest import Caller
from tests.integration.test_backups import elsewhere, quietly
from tests.integration.test_doctor import found
from tests.service import ROOT
from tests.staff import make_user
from vault import CannotOpen, Forgotten, NoSuchKey
from vault import masters as master_keys

__all__ = ["elsewhere"]

SAID = "Said in confidence, once."


def note(session: Session, patient_id: UUID, said: str = SAID) -> UUID:
    event = HealthEvent(
        id=uuid7(),
        patient_id=patient_id,
        kind=next(iter(HealthEventKind)),
        happened_at=SUNDAY_NOON,
        note=said,
        noted_by="test",
        noted_at=SUNDAY_NOON,
    )
    session.add(event)
    session.flush()
    return event.id


def stored(session: Session, table: str, column: str, row_id: UUID) -> str:
    found = session.scalar(
        text(f"SELECT CAST({column} AS text) FROM {table} WHERE id = :id"), {"id": row_id}
    )
    return str(found).strip('"')


def read_note(session: Session, event_id: UUID) -> str | None:
    session.expire_all()
    return session.get_one(HealthEvent, (session.info["clinic_id"], event_id)).note


def owner_writes(ways: Access, statement: str, **values: Any) -> None:
    """As somebody would who has the database, and not the keys."""
    with access.connect(ways.owner) as connection:
        table = statement.split()[1]
        connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        connection.execute(statement, values)
        connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def heard(session: Session) -> None:
    """Let the minute pass in which other processes may not know of a new key."""
    session.execute(text("UPDATE clinic_key SET created_at = created_at - interval '5 min'"))
    session.commit()


def walk_through(session: Session) -> int:
    """Walk until there is nothing more to do; tell in how many steps."""
    steps = 0
    while resealing.walk(session, SUNDAY_NOON):
        session.commit()
        steps += 1
    session.commit()
    return steps


def test_a_field_is_sealed_in_its_row_and_read_as_any_other(session: Session, world: World) -> None:
    event_id = note(session, world.patient_id)
    screen_id = screen(session, world.patient_id)

    for told in (
        stored(session, "health_event", "note", event_id),
        stored(session, "screen", "answers", screen_id),
    ):
        assert vault.is_sealed(told)
    assert read_note(session, event_id) == SAID
    answers = session.get_one(Screen, (world.clinic_id, screen_id)).answers
    assert answers == {}
    assert lines.read(session, [world.patient_id]).patient(world.patient_id).screen is not None


def test_nothing_and_what_is_not_flushed_yet(session: Session, world: World) -> None:
    event = session.get_one(HealthEvent, (world.clinic_id, note(session, world.patient_id)))
    event.note = None
    assert event.note is None
    event.note = "Otherwise."
    assert event.note == "Otherwise."
    session.rollback()


def test_a_statement_can_neither_compare_nor_write_it(session: Session, world: World) -> None:
    with pytest.raises(TypeError, match="no statement can compare"):
        HealthEvent.note == SAID  # noqa: B015
    with pytest.raises(Exception, match="written through its model"):
        session.execute(sqlalchemy_insert(world), {"id": uuid7()})


def sqlalchemy_insert(world: World) -> Any:
    table: Any = HealthEvent.__table__
    return table.insert().values(
        patient_id=world.patient_id,
        kind=next(iter(HealthEventKind)),
        happened_at=SUNDAY_NOON,
        note=SAID,
        noted_by="test",
        noted_at=SUNDAY_NOON,
    )


def test_what_was_swapped_does_not_open(
    database: Access, committed: Session, committed_world: World
) -> None:
    world = committed_world
    one, other = note(committed, world.patient_id), note(committed, world.patient_id, "Another.")
    screen_id = screen(committed, world.patient_id)
    committed.commit()
    elsewhere_id = make_world(committed, "Elsewhere").patient_id
    foreign = note(committed, elsewhere_id)
    committed.commit()
    enter_clinic(committed, world.clinic_id)
    for column, source in (("note", f"id = '{other}'"), ("note", f"id = '{foreign}'")):
        owner_writes(
            database,
            f"UPDATE health_event SET note = (SELECT {column} FROM health_event WHERE {source}) "
            "WHERE id = %(id)s",
            id=one,
        )
        with pytest.raises((CannotOpen, NoSuchKey), match=rf"health_event\.note of row {one}"):
            read_note(committed, one)
        committed.rollback()
    owner_writes(
        database,
        "UPDATE screen SET answers = notes, notes = answers WHERE id = %(id)s",
        id=screen_id,
    )
    with pytest.raises(CannotOpen, match=r"screen\.answers"):
        lines.read(committed, [world.patient_id])


def test_what_was_written_before_there_were_seals_is_read_and_sealed(
    database: Access, committed: Session, worker_engine: Engine, committed_world: World
) -> None:
    event_id, screen_id = (
        note(committed, committed_world.patient_id),
        screen(committed, committed_world.patient_id, "pregnancy"),
    )
    user = make_user(committed).id
    committed.commit()
    owner_writes(database, "UPDATE health_event SET note = %(said)s", said=SAID)
    owner_writes(database, """UPDATE screen SET answers = '{"pregnancy": "present"}'""")
    owner_writes(database, "UPDATE user_account SET totp_secret = 'JBSWY3DPEHPK3PXP'")

    assert read_note(committed, event_id) == SAID
    assert found(checkup.keys, database)["seals"][0] == "warn"

    heard(committed)
    with Session(worker_engine) as worker:
        enter_clinic(worker, committed_world.clinic_id)
        walk_through(worker)

    assert vault.is_sealed(stored(committed, "health_event", "note", event_id))
    assert vault.is_sealed(stored(committed, "screen", "answers", screen_id))
    assert read_note(committed, event_id) == SAID
    assert committed.get_one(Screen, (committed_world.clinic_id, screen_id)).answers == {
        "pregnancy": "present"
    }
    account = committed.get_one(UserAccount, (committed_world.clinic_id, user))
    assert account.totp_secret == "JBSWY3DPEHPK3PXP"
    assert "not sealed: user_account 1 " in found(checkup.keys, database)["seals"][1]
    resealing.renew(committed)
    heard(committed)
    finish(database, committed_world.clinic_id)
    assert vault.is_sealed(stored(committed, "user_account", "totp_secret", user))
    assert found(checkup.keys, database)["keys"][0] == "ok"


def test_who_changes_a_row_writes_nothing_over_what_others_have_written(
    committed: Session, service_engine: Engine, committed_world: World
) -> None:
    user = make_user(committed, totp_secret="JBSWY3DPEHPK3PXP").id
    committed.commit()
    with Session(service_engine) as slow:
        enter_clinic(slow, committed_world.clinic_id)
        read = slow.get_one(UserAccount, (committed_world.clinic_id, user))
        resealing.renew(committed)
        account = committed.get_one(UserAccount, (committed_world.clinic_id, user))
        account.totp_secret, account.email = None, "new@example.com"
        committed.commit()

        read.name = "Called Otherwise"
        slow.commit()

    committed.refresh(account)
    assert (account.name, account.totp_secret) == ("Called Otherwise", None)
    assert account.email == "new@example.com"
    query = select(UserAccount.id).where(UserAccount.email.equals(committed, "new@example.com"))
    assert committed.scalars(query).all() == [user]


def test_a_key_that_was_taken_back_is_never_used_again(
    service_engine: Engine, committed: Session
) -> None:
    world = make_world(committed)
    committed.commit()
    with Session(service_engine) as session:
        enter_clinic(session, world.clinic_id)
        note(session, world.patient_id)
        session.close()  # its first key is gone
        with session.begin_nested() as inner:
            note(session, world.patient_id)
            resealing.renew(session)
            note(session, world.patient_id)
            inner.rollback()
        events = [note(session, world.patient_id)]
        session.commit()
        resealing.renew(session)
        note(session, world.patient_id)
        session.rollback()
        events.append(note(session, world.patient_id))
        session.commit()
    forget_what_is_remembered()
    enter_clinic(committed, world.clinic_id)
    assert [read_note(committed, one) for one in events] == [SAID, SAID]


def forget_what_is_remembered() -> None:
    """As another process, which has yet to read any key."""
    vault.unlock(master_keys.read(master_keys.made()))
    vault.unlock(master_keys.read(MASTER))


def test_two_keys_live_while_everything_is_sealed_anew_also_if_somebody_dies(
    database: Access, committed: Session, committed_world: World, tmp_path: Path
) -> None:
    events = [note(committed, committed_world.patient_id, f"Said {n}") for n in range(1200)]
    committed.commit()
    number = resealing.renew(committed)
    committed.commit()
    after = note(committed, committed_world.patient_id, "Said after.")
    committed.commit()
    assert vault.number_of(stored(committed, "health_event", "note", after)) == number
    assert read_note(committed, events[0]) == "Said 0"
    assert resealing.walk(committed, SUNDAY_NOON) == 0, "others may not know of the key yet"
    heard(committed)

    died = subprocess.run(
        [
            sys.executable,
            "-c",
            DIES,
            access.psycopg_url(database.worker),
            str(committed.info["clinic_id"]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    halfway = resealing.standing(committed)
    assert halfway is not None
    assert halfway.table == "health_event"
    assert halfway.after == events[499]
    assert [read_note(committed, one) for one in (events[0], events[600], after)] == [
        "Said 0",
        "Said 600",
        "Said after.",
    ]

    assert finish(database, committed.info["clinic_id"]) < 60
    done = resealing.standing(committed)
    assert done is not None
    assert done.is_over
    assert (done.stuck, done.walked >= 1200) == (0, True)
    numbers = committed.scalars(
        text("SELECT DISTINCT split_part(note, '.', 2) FROM health_event")
    ).all()
    assert numbers == [str(number)]
    assert [read_note(committed, one) for one in events] == [f"Said {n}" for n in range(1200)]
    retired = committed.scalars(
        text("SELECT retired_at IS NOT NULL FROM clinic_key ORDER BY number")
    ).all()
    assert retired == [True, False]


DIES = """
import os, signal, sys
from uuid import UUID
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
import tests
from models import enter_clinic
from scheduler import resealing
with Session(create_engine(sys.argv[1].replace("postgresql", "postgresql+psycopg", 1))) as session:
    enter_clinic(session, UUID(sys.argv[2]))
    while True:
        before = resealing.standing(session)
        resealing.walk(session, None)
        if before.table == "health_event" and before.after is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        session.commit()
"""
"""A worker that dies after it has sealed the second batch of a table, and has not said so."""


def finish(ways: Access, clinic_id: UUID) -> int:
    engine = create_engine(ways.worker)
    with Session(engine) as session:
        enter_clinic(session, clinic_id)
        steps = walk_through(session)
    engine.dispose()
    return steps


def test_the_walk_writes_nothing_over_what_somebody_is_writing(
    database: Access, committed: Session, committed_world: World
) -> None:
    patient = committed.get_one(Patient, (committed_world.clinic_id, committed_world.patient_id))
    resealing.renew(committed)
    heard(committed)
    patient.phone = "+12125550199"
    committed.flush()

    with ThreadPoolExecutor(1) as other:
        walking = other.submit(finish, database, committed_world.clinic_id)
        wait_until_somebody_waits(database)
        committed.commit()
        walking.result(timeout=30)

    committed.expire_all()
    assert patient.phone == "+12125550199"
    found_so = select(Patient.id).where(Patient.phone.equals(committed, "+12125550199"))
    assert committed.scalars(found_so).all() == [committed_world.patient_id]


def wait_until_somebody_waits(ways: Access) -> None:
    """Until a statement waits for a row that somebody else is writing."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    give_up = time.monotonic() + 20
    with access.connect(ways.owner) as connection:
        while connection.execute(waiting).fetchall() == [(0,)]:
            assert time.monotonic() < give_up, "nobody waits"
            time.sleep(0.02)


def test_a_row_that_does_not_open_is_told_of_and_stops_nobody(
    database: Access, committed: Session, committed_world: World
) -> None:
    one, other = (note(committed, committed_world.patient_id) for _ in range(2))
    resealing.renew(committed)
    committed.commit()
    owner_writes(
        database,
        "UPDATE health_event SET note = (SELECT note FROM health_event WHERE id = %(other)s) "
        "WHERE id = %(one)s",
        one=one,
        other=other,
    )
    heard(committed)
    with capture_logs() as logged:
        finish(database, committed_world.clinic_id)

    [told_of] = [line["told"] for line in logged if line["event"] == "seal.stuck"]
    assert told_of.startswith(f"health_event.note of row {one}, clinic ")
    assert SAID not in told_of
    assert read_note(committed, other) == SAID
    told = found(checkup.keys, database)
    assert told["keys"][0] == "bad"
    assert "1 rows do not open" in told["keys"][1]
    assert committed.scalars(text("SELECT retired_at FROM clinic_key")).all() == [None, None]


def test_what_lets_people_in_and_does_not_open_is_told_of_too(
    database: Access, committed: Session, committed_world: World
) -> None:
    one = make_user(committed, totp_secret="JBSWY3DPEHPK3PXP").id
    other = make_user(committed, email="eve@example.com", totp_secret="JBSWY3DPEHPK3PXP").id
    committed.commit()
    owner_writes(
        database,
        "UPDATE user_account SET totp_secret = "
        "(SELECT totp_secret FROM user_account WHERE id = %(other)s) WHERE id = %(one)s",
        one=one,
        other=other,
    )

    resealing.renew(committed)
    heard(committed)
    finish(database, committed_world.clinic_id)

    done = resealing.standing(committed)
    assert done is not None
    assert (done.is_over, done.stuck) == (True, 1)
    assert committed.scalars(text("SELECT retired_at FROM clinic_key")).all() == [None, None]


def test_who_asks_for_what_does_not_open_hears_so_and_the_log_says_where(
    desk: Caller, session: Session, world: World
) -> None:
    other, _ = make_patient(session, phone="+12125550111")
    session.execute(
        text(
            "UPDATE patient SET phone = (SELECT phone FROM patient WHERE id = :other) "
            "WHERE id = :id"
        ),
        {"other": other, "id": world.patient_id},
    )
    session.expire_all()

    with capture_logs() as logged:
        answer = desk.get(f"/patients/{world.patient_id}")

    assert (answer.status_code, answer.json["type"]) == (500, "/problems/does-not-open")
    assert str(world.patient_id) not in answer.text
    [line] = [line for line in logged if line["event"] == "seal.stuck"]
    assert line["told"].startswith(f"patient.phone of row {world.patient_id}, clinic ")


@pytest.fixture
def shell(database: Access, tmp_path: Path) -> Iterator[Any]:
    """The command, as an engineer runs it; this process has its own master key after."""
    told = {
        "DATABASE_URL": access.psycopg_url(database.owner),
        "AFTERGLOW_SECRET": SECRET,
        "AFTERGLOW_VAR": str(tmp_path / "var"),
    }

    def run(*arguments: str, **more: str) -> Any:
        return CliRunner().invoke(cli.main, list(arguments), env={**told, **more})

    yield run
    vault.unlock(master_keys.read(MASTER))


def test_the_master_key_is_replaced_without_sealing_anything_anew(
    shell: Any, committed: Session, committed_world: World
) -> None:
    event_id = note(committed, committed_world.patient_id)
    committed.commit()
    before = stored(committed, "health_event", "note", event_id)
    new = master_keys.made()

    alone = shell("keys", "rewrap", AFTERGLOW_MASTER_KEY=new)
    assert alone.exit_code == 2
    assert "Put that one back, beside the new one." in alone.output
    assert len(alone.output.splitlines()) == 1
    both = shell("keys", "rewrap", AFTERGLOW_MASTER_KEY=f"{new},{MASTER}")
    assert (both.exit_code, "Test Practice: 1 keys rewrapped." in both.output) == (0, True)
    after = shell("keys", "status", AFTERGLOW_MASTER_KEY=new)
    assert "Test Practice: key 1;" in after.output

    assert stored(committed, "health_event", "note", event_id) == before
    committed.commit()
    vault.unlock(master_keys.read(new))
    assert read_note(committed, event_id) == SAID
    committed.execute(text("SELECT 1"))
    committed.commit()
    vault.unlock(master_keys.read(MASTER))
    with pytest.raises(vault.WrongMaster):
        read_note(committed, event_id)


def test_rotating_by_hand_tells_how_far_it_is(
    shell: Any, committed: Session, committed_world: World
) -> None:
    note(committed, committed_world.patient_id)
    make_user(committed, totp_secret="JBSWY3DPEHPK3PXP")
    committed.commit()

    done = shell("keys", "rotate")
    assert "Test Practice: key 2 seals from now on." in done.output
    [told] = committed.scalars(text("SELECT totp_secret FROM user_account")).all()
    assert vault.number_of(told) == 2, "what lets people in is sealed at once"
    assert "key 2; table 1 of " in shell("keys", "status").output
    assert shell("keys", "rotate", "--clinic", str(uuid7())).exit_code == 2
    trail = committed.execute(
        text("SELECT actor, entity, facts FROM audit_event ORDER BY sequence DESC LIMIT 1")
    ).one()
    assert trail == ("operator:shell", "clinic_key", {"number": 2})


@pytest.mark.parametrize("command", [["-m", "worker"], ["-c", "import app; app.create_app()"]])
def test_nothing_starts_with_another_master_key(
    database: Access,
    committed: Session,
    committed_world: World,
    command: list[str],
    tmp_path: Path,
) -> None:
    note(committed, committed_world.patient_id)
    committed.commit()
    refused = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": access.psycopg_url(database.owner),
            "AFTERGLOW_SECRET": SECRET,
            "AFTERGLOW_VAR": str(tmp_path),
            "AFTERGLOW_MASTER_KEY": master_keys.made(),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode != 0
    assert len(refused.stderr.splitlines()) == 1
    assert "AFTERGLOW_MASTER_KEY: clinics' keys are wrapped with master " in refused.stderr


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"AFTERGLOW_MASTER_KEY": ""}, "AFTERGLOW_MASTER_KEY is not set"),
        ({"AFTERGLOW_MASTER_KEY": "short"}, "AFTERGLOW_MASTER_KEY: "),
        ({"AFTERGLOW_MASTER_KEY_FILE": "/nowhere"}, "not both"),
        (
            {"AFTERGLOW_MASTER_KEY": "", "AFTERGLOW_MASTER_KEY_FILE": "/nowhere"},
            "/nowhere cannot be read",
        ),
    ],
)
def test_a_master_key_that_cannot_be_used_is_one_line(
    shell: Any, told: dict[str, str], why: str
) -> None:
    refused = shell("keys", "status", **told)
    assert refused.exit_code == 2
    assert why in refused.output
    assert len(refused.output.splitlines()) == 1


def test_a_service_with_a_database_of_its_own_makes_its_master_key_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AFTERGLOW_MASTER_KEY", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFTERGLOW_VAR", str(tmp_path))

    made = config.load().masters

    assert config.load().masters == made
    assert (tmp_path / "master-key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/clinic")
    monkeypatch.setenv("AFTERGLOW_MASTER_KEY_FILE", str(tmp_path / "master-key"))
    assert config.load().masters == made


def test_a_clinic_whose_keys_were_forgotten_is_unreadable_for_ever(
    database: Access, committed: Session, committed_world: World
) -> None:
    event_id = note(committed, committed_world.patient_id)
    other = make_world(committed, "Other")
    committed.commit()
    kept = note(committed, other.patient_id)
    committed.commit()
    enter_clinic(committed, committed_world.clinic_id)

    assert resealing.forget(committed, committed_world.clinic_id) == 1
    committed.commit()

    with pytest.raises(Forgotten, match="forgotten for ever"):
        read_note(committed, event_id)
    committed.rollback()
    with pytest.raises(Forgotten):
        note(committed, committed_world.patient_id)
    committed.rollback()
    assert resealing.walk(committed, SUNDAY_NOON) == 0
    assert committed.scalars(text("SELECT wrapped FROM clinic_key")).all() == [None]
    enter_clinic(committed, other.clinic_id)
    committed.commit()
    assert read_note(committed, kept) == SAID
    heard(committed)
    finish(database, other.clinic_id)
    told = found(checkup.keys, database)
    assert told["keys"][0] == "ok"
    assert "of 1 clinics forgotten" in told["keys"][1]


def test_a_dump_tells_nothing_that_is_sealed_and_holds_no_key(
    database: Access, committed: Session, committed_world: World, tmp_path: Path
) -> None:
    note(committed, committed_world.patient_id)
    make_user(committed, totp_secret="JBSWY3DPEHPK3PXP")
    committed.commit()
    [wrapped] = committed.scalars(text("SELECT encode(wrapped, 'hex') FROM clinic_key")).all()

    path = tmp_path / "clinic.backup"
    backups.write(database, path, datetime(2027, 1, 1, tzinfo=UTC), "1", quietly)
    dump = dumped(path)

    assert committed_world.clinic_id.hex in dump.replace("-", "")
    for told in (SAID, "JBSWY3DPEHPK3PXP", wrapped):
        assert told not in dump
    assert wrapped in backups.keys_of(path).read_text()
    assert backups.keys_of(path).stat().st_mode & 0o777 == 0o600


def dumped(path: Path) -> str:
    """What a backup holds, as text."""
    program = programs.find("pg_restore", backups.read_manifest(path).server)
    with tarfile.open(path) as tar:
        part = tar.extractfile(backups.DUMP)
        assert part is not None
        told = part.read()
    return subprocess.run(
        [str(program), "--file=-"], input=told, capture_output=True, check=True
    ).stdout.decode()


def test_a_backup_comes_back_with_its_keys_and_without_those_that_were_taken_out(
    database: Access,
    elsewhere: Access,
    committed: Session,
    committed_world: World,
    tmp_path: Path,
) -> None:
    event_id = note(committed, committed_world.patient_id)
    other = make_world(committed, "Other")
    committed.commit()
    gone = note(committed, other.patient_id)
    committed.commit()
    path = tmp_path / "clinic.backup"
    backups.write(database, path, datetime(2027, 1, 1, tzinfo=UTC), "1", quietly)
    keys = backups.keys_of(path)
    lines_ = keys.read_text().splitlines(keepends=True)
    keys.write_text("".join(one for one in lines_ if str(other.clinic_id) not in one))
    forget_what_is_remembered()

    backups.restore(elsewhere, path, quietly)

    engine = create_engine(elsewhere.service)
    with Session(engine) as session:
        enter_clinic(session, committed_world.clinic_id)
        assert read_note(session, event_id) == SAID
    with Session(engine) as session:
        enter_clinic(session, other.clinic_id)
        with pytest.raises(NoSuchKey, match="restored without"):
            read_note(session, gone)
    engine.dispose()

    keys.unlink()
    with pytest.raises(backups.BadBackup, match=r"keys is not there: without the keys nothing"):
        backups.restore(elsewhere, path, quietly, replace=True)
    keys.write_text("{}\n")
    with pytest.raises(backups.BadBackup, match="is damaged: each line is one key"):
        backups.restore(elsewhere, path, quietly, replace=True)


def test_what_is_said_about_a_task_is_sealed_until_it_is_asked_for_anew(
    session: Session, world: World
) -> None:
    wanted = Wanted(
        kind=TaskKind.READ_REPLY,
        subject_id=uuid7(),
        due_at=SUNDAY_NOON,
        note="Codes",
        owner=Owner.PATIENT,
    )
    tasks.ask(session, wanted)
    task = session.scalars(select(Task)).one()
    assert task.said == "Codes"

    settled = Settled(TaskStatus.COMPLETED, SAID)
    tasks.settle(session, Call(task.id, 1), settled, by=Authority("key:desk"), now=SUNDAY_NOON)

    assert (task.said, task.note) == (SAID, "Codes")
    assert vault.is_sealed(stored(session, "task", "remark", task.id))
    tasks.keep(session, wanted, SUNDAY_NOON, stands=True)
    session.expire_all()
    assert (task.said, task.status) == ("Codes", TaskStatus.REQUESTED)


def test_people_are_found_by_what_is_sealed_by_equality_and_in_their_clinic(
    session: Session, world: World
) -> None:
    patient_id, _ = make_patient(session, email="Ada@Example.com", phone="+12125550111")
    nobody, _ = make_patient(session, email=None, phone=None)
    session.flush()

    def found_at(**told: str) -> list[UUID]:
        [(name, value)] = told.items()
        field: Any = getattr(Patient, name)
        query = select(Patient.id).where(field.equals(session, value))
        return list(session.scalars(query).all())

    assert vault.is_sealed(stored(session, "patient", "email", patient_id))
    assert found_at(email=" ada@example.COM") == [patient_id]
    assert found_at(email="ada@example.co") == []
    assert found_at(phone="+12125550111") == [patient_id]
    assert stored(session, "patient", "phone_index", nobody) == "None"

    patient = session.get_one(Patient, (world.clinic_id, patient_id))
    patient.email, patient.phone = "eve@example.com", None
    session.flush()
    assert found_at(email="ada@example.com") == []
    assert found_at(email="eve@example.com") == [patient_id]
    assert found_at(phone="+12125550111") == []
    index = stored(session, "patient", "email_index", patient_id)
    resealing.renew(session)
    assert found_at(email="eve@example.com") == [patient_id], "another key, and the same index"

    make_world(session, "Elsewhere")
    assert found_at(email="eve@example.com") == []
    there, _ = make_patient(session, email="eve@example.com")
    session.flush()
    assert stored(session, "patient", "email_index", there) != index


def test_no_two_practitioners_have_one_address(session: Session, world: World) -> None:
    one, other = session.scalars(select(Practitioner).limit(2)).all()
    other.email = one.email.upper()
    with pytest.raises(IntegrityError, match="uq__practitioner__clinic_id_email_index"):
        session.flush()


def test_who_was_there_before_there_were_seals_is_found_before_and_after_the_walk(
    database: Access, committed: Session, committed_world: World
) -> None:
    note(committed, committed_world.patient_id)
    committed.commit()
    owner_writes(
        database,
        "UPDATE patient SET email = 'Old@Example.com', email_index = NULL, phone = '+12125550122', "
        "phone_index = NULL",
    )
    people = select(Practitioner.id).order_by(Practitioner.id)
    one, other = committed.scalars(people.limit(2)).all()
    committed.commit()
    owner_writes(
        database,
        "UPDATE practitioner SET email_index = NULL, email = 'same@example.com' "
        "WHERE id IN (%(one)s, %(other)s)",
        one=one,
        other=other,
    )

    def there() -> list[str]:
        committed.commit()
        by_phone = facts.patients_at(committed, "+12125550122")
        query = select(Patient).where(Patient.email.equals(committed, "old@example.com"))
        return [str(p.email) for p in (*by_phone, *committed.scalars(query))]

    assert there() == ["Old@Example.com"] * 2
    heard(committed)
    finish(database, committed_world.clinic_id)
    assert vault.is_sealed(stored(committed, "patient", "email", committed_world.patient_id))
    assert there() == ["Old@Example.com"] * 2
    done = resealing.standing(committed)
    assert done is not None
    assert (done.is_over, done.stuck) == (True, 1), "two practitioners with one address"


def test_the_doctor_sees_the_wrong_master_and_two_of_them(
    database: Access, committed: Session, committed_world: World
) -> None:
    note(committed, committed_world.patient_id)
    committed.commit()
    assert found(checkup.masters, database)["master key"][0] == "ok"
    new = master_keys.made()
    try:
        vault.unlock(master_keys.read(new))
        told = found(checkup.masters, database, masters=master_keys.read(new))
        assert told["master key"][0] == "bad"
        both = master_keys.read(f"{new} {MASTER}")
        vault.unlock(both)
        told = found(checkup.masters, database, masters=both)
        assert told["master key"][0] == "warn"
    finally:
        vault.unlock(master_keys.read(MASTER))


def test_the_worker_may_write_what_is_sealed_and_nothing_else_of_what_is_append_only(
    database: Access,
) -> None:
    columns = {
        (table, name)
        for table, all_ in sealing.COLUMNS.items()
        for one in all_
        for name in (one.name, one.index)
    }
    with access.connect(database.owner) as connection:
        may = connection.execute(
            "SELECT table_name, column_name FROM information_schema.column_privileges p "
            "WHERE grantee = %s AND privilege_type = 'UPDATE' AND NOT EXISTS ("
            "    SELECT FROM information_schema.role_table_grants g WHERE g.grantee = p.grantee "
            "    AND g.table_name = p.table_name AND g.privilege_type = 'UPDATE')",
            [database.worker.username],
        ).fetchall()
    assert set(may) <= columns
    assert {table for table, _ in columns - set(may)} >= resealing.SIGN_IN
