"""Tasks: what staff are asked to do because a message cannot do it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Task
from models.vocabulary import Owner, TaskKind, TaskStatus
from scheduler import facts
from scheduler.authority import Authority, Call
from scheduler.errors import WrongStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A task to be set."""

    kind: TaskKind
    subject_id: UUID
    due_at: datetime
    owner: Owner = Owner.FRONT_DESK
    urgent: bool = False
    patient_id: UUID | None = None
    appointment_id: UUID | None = None
    note: str | None = None


def ask(session: Session, wanted: Wanted) -> None:
    """Set a task; of one kind a subject has one."""
    session.execute(
        insert(Task)
        .values(
            id=uuid7(),
            kind=wanted.kind,
            owner=wanted.owner,
            urgent=wanted.urgent,
            subject_id=wanted.subject_id,
            patient_id=wanted.patient_id,
            appointment_id=wanted.appointment_id,
            due_at=wanted.due_at,
            note=wanted.note,
            status=TaskStatus.REQUESTED,
        )
        .on_conflict_do_nothing(constraint="uq__task__once")
    )


def keep(session: Session, wanted: Wanted, now: datetime, *, stands: bool) -> None:
    """Let a task be open while its cause stands, and settled by itself once that is gone."""
    if stands:
        ask(session, wanted)
    session.execute(
        _KEEP,
        {"kind": wanted.kind, "subject": wanted.subject_id, "stands": stands, "now": now},
    )


_KEEP = text(
    """
    UPDATE task SET status = CASE WHEN :stands THEN 'requested' ELSE 'completed' END,
           settled_by = CASE WHEN :stands THEN NULL ELSE 'job:tasks' END,
           settled_at = CASE WHEN :stands THEN NULL ELSE CAST(:now AS timestamptz) END,
           version = version + 1
     WHERE kind = :kind AND subject_id = :subject AND (status = 'requested') <> :stands
    """
)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a task."""

    status: TaskStatus
    note: str | None = None


def settle(session: Session, call: Call, settled: Settled, *, by: Authority, now: datetime) -> Task:
    """Note that a task is done, or need not be. Refuses with `WrongStatus` if it was settled."""
    task = facts.to_change(session, Task, call.id, call.version)
    if task.status is not TaskStatus.REQUESTED:
        raise WrongStatus("This task is settled already.", task_status=task.status)
    task.status, task.settled_by, task.settled_at = settled.status, by.name, now
    task.note = settled.note or task.note
    task.version += 1
    session.flush()
    return task
