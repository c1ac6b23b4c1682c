"""Shelves: lists of things that are set up once and read often. Find, add, change."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema
from sqlalchemy import Delete, Select, delete, select
from sqlalchemy.exc import IntegrityError
from uuid_utils.compat import uuid7

from api import edge, pages, preconditions
from models import Closure, OpeningHours, Schedule, Tenanted, db
from models.vocabulary import ActorKind
from scheduler import facts
from scheduler.audit import Act
from scheduler.errors import WrongStatus


def changes_of(schema: type[Schema]) -> Schema:
    """The schema of a change: every field of `schema`, none of them needed."""
    name = schema.__name__.replace("Schema", "ChangeSchema")
    told: Any = type(name, (schema,), {"__doc__": f"What can change. {schema.__doc__}"})
    made: Schema = told(partial=True)
    return made


@dataclass(frozen=True, slots=True)
class Shelf:
    """Everything of one kind, and how it is shown."""

    model: Any
    schema: type[Schema]

    @property
    def entity(self) -> str:
        return str(self.model.__tablename__)

    def page(self, asked: dict[str, Any], query: Select[Any] | None = None) -> dict[str, Any]:
        """A page of them, oldest first."""
        found = select(self.model) if query is None else query
        return pages.page(found, [self.model.id], asked)

    def read(self, row_id: UUID) -> Any:
        """One of them, with its ETag."""
        row = facts.one(db.session(), self.model, row_id)
        if hasattr(row, "version"):
            preconditions.tag(row.version)
        return row

    def add(self, row: Tenanted, at: str | None = None) -> Response:
        """Put a new one there; it is read by its id, or by what else is told (`at`)."""
        db.session.add(row)
        db.session.flush()
        db.session.refresh(row)
        preconditions.tag(getattr(row, "version", 1))
        return edge.done(
            self.schema,
            row,
            self.act("create", row),
            status=201,
            location=f"{request.path}/{at or row.id}",
        )

    def change(
        self,
        row_id: UUID,
        changes: Mapping[str, Any],
        *,
        told: Iterable[str] | None = None,
        check: Callable[[Any], object] | None = None,
        then: Callable[[Any], object] | None = None,
    ) -> Response:
        """Change one, if the caller has seen it as it is, and if it stands up to `check` then.

        `told` are the fields that the caller named, where more than those change. `then` is done
        with it once it is changed.
        """
        version = preconditions.seen_version()
        row = facts.to_change(db.session(), self.model, row_id, version)
        with db.session.no_autoflush:
            for name, value in changes.items():
                setattr(row, name, value)
            if check is not None:
                check(row)
        if "name" in changes and hasattr(row, "schedule_id"):  # its schedule is shown by it
            facts.one(db.session(), Schedule, row.schedule_id).name = changes["name"]
        row.version += 1
        db.session.flush()
        if then is not None:
            then(row)
        preconditions.tag(row.version)
        named = sorted(changes if told is None else told)
        return edge.done(self.schema, row, self.act("update", row, named))

    def remove(self, row_id: UUID, *first: Delete) -> Response:
        """Take one away that was put there by mistake, with its schedule and what goes `first`.

        Nothing else may name it.
        """
        row = facts.to_change(db.session(), self.model, row_id, preconditions.seen_version())
        act = self.act("delete", row)
        try:
            with db.session.begin_nested():
                for statement in first:
                    db.session.execute(statement)
                db.session.execute(delete(self.model).where(self.model.id == row_id))
                if hasattr(row, "schedule_id"):
                    _remove_schedule(row.schedule_id)
        except IntegrityError as error:
            raise WrongStatus("It is in use: something that is kept refers to it.") from error
        return edge.gone(act)

    def act(self, action: str, row: Any, changed: list[str] | None = None) -> Act:
        """The line in the audit trail."""
        return Act(
            action=action,
            entity=self.entity,
            entity_id=row.id,
            patient_id=row.id if self.entity == "patient" else getattr(row, "patient_id", None),
            facts={"changed": changed} if changed else {},
        )


def new_schedule(kind: ActorKind, name: str, lanes: int = 1) -> UUID:
    """Make the schedule that somebody or something new is booked by; `lanes`: visits at once."""
    schedule = Schedule(id=uuid7(), actor_kind=kind, name=name, lanes=lanes)
    db.session.add(schedule)
    db.session.flush()
    return schedule.id


def _remove_schedule(schedule_id: UUID) -> None:
    """Its hours and what closes it say nothing without it; what was booked there refuses."""
    for model in (OpeningHours, Closure):
        db.session.execute(delete(model).where(model.schedule_id == schedule_id))
    db.session.execute(delete(Schedule).where(Schedule.id == schedule_id))
