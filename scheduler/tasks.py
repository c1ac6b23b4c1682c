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
from scheduler.errors import MayNotOverride, WrongStatus


@dataclass(frozen=True, kw_only=True)
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
    """Let a task be open while its cause stands, and settled by itself once that is gone.

    One that opens again is due as its new cause has it, and its note says what stands now.
    """
    if stands:
        ask(session, wanted)
        session.execute(_OPEN, vars(wanted))
    else:
        about = {"kind": wanted.kind, "subject_id": wanted.subject_id}
        session.execute(_END, {**about, "by": JOB, "now": now})


JOB = "job:tasks"
"""Who has settled what ended by itself."""

_OPEN = text(
    """
    UPDATE task SET status = 'requested', settled_by = NULL, settled_at = NULL,
           due_at = CASE WHEN status = 'requested' THEN due_at ELSE :due_at END,
           urgent = urgent OR :urgent,
           owner = CASE WHEN status = 'requested' THEN owner ELSE :owner END,
           remark = CASE WHEN CAST(:note AS text) IS NULL THEN remark END,
           note = coalesce(:note, note), version = version + 1
     WHERE kind = :kind AND subject_id = :subject_id
       AND (status <> 'requested' OR (:urgent AND NOT urgent)
            OR note IS DISTINCT FROM coalesce(:note, note))
    """
)

_END = text(
    """
    UPDATE task SET status = 'completed', settled_by = :by, settled_at = :now,
           version = version + 1
     WHERE kind = :kind AND subject_id = :subject_id AND status = 'requested'
    """
)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a task."""

    status: TaskStatus
    note: str | None = None


def settle(session: Session, call: Call, settled: Settled, *, by: Authority, now: datetime) -> Task:
    """Note that a task is done, or need not be.

    Refuses with `MayNotOverride` if it is somebody else's, and with `WrongStatus` if it was
    settled.
    """
    task = facts.to_change(session, Task, call.id, call.version)
    if not by.owns(task.owner):
        raise MayNotOverride(f"This task is for a {task.owner} to settle.", owner=task.owner)
    if task.status is not TaskStatus.REQUESTED:
        raise WrongStatus("This task is settled already.", task_status=task.status)
    task.status, task.settled_by, task.settled_at = settled.status, by.name, now
    task.remark = settled.note or task.remark
    task.version += 1
    session.flush()
    return task
