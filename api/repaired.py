"""Repairs as callers see them: what is proposed, and what came of what they accepted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

from api import showing
from api.fields import Flag, Id, Instant
from api.showing import AppointmentSchema, AssignmentSchema
from models import Proposal
from models.vocabulary import StepKind
from scheduler.repairs import Accepted


class RepairMoveSchema(Schema):
    """A visit with a new time, or with other people at its old one."""

    appointment_id = Id(allow_none=True)
    course_step_id = Id(allow_none=True, metadata={"description": "Of one to be booked anew."})
    patient_id = Id()
    kind = fields.Enum(StepKind, by_value=True)
    old = Instant(data_key="from")
    new = Instant(data_key="to")
    ends_at = Instant()
    site_id = Id()
    assignments = fields.List(fields.Nested(AssignmentSchema))
    why = fields.String(
        metadata={
            "description": "`away`, `nobody-stands-by`, `missed`, `cancelled`, the rule that is "
            "broken, or `follows`: it moves so that another can."
        }
    )


class UnrepairableSchema(Schema):
    """A visit that cannot stay and has nowhere to go: for people to settle."""

    appointment_id = Id(allow_none=True)
    course_step_id = Id(allow_none=True)
    patient_id = Id()
    why = fields.String()
    detail = fields.String()


class RepairSchema(Schema):
    """What is proposed. Nothing is kept free for it."""

    id = Id(allow_none=True, metadata={"description": "Of one course's repair, to accept it by."})
    expires_at = Instant(allow_none=True)
    moves = fields.List(fields.Nested(RepairMoveSchema))
    unrepairable = fields.List(fields.Nested(UnrepairableSchema))
    is_best = Flag(
        allow_none=True, metadata={"description": "Whether nothing better exists; null: unknown."}
    )


class RefusedRepairSchema(Schema):
    """A patient of whom nothing was changed."""

    patient_id = Id()
    code = fields.String()
    detail = fields.String()


class AcceptedRepairSchema(Schema):
    """What was moved, who was not, and a fresh proposal for those."""

    appointments = fields.List(fields.Nested(AppointmentSchema))
    refused = fields.List(fields.Nested(RefusedRepairSchema))
    proposal = fields.Nested(RepairSchema)


def accepted(done: Accepted) -> dict[str, Any]:
    """What an acceptance led to, ready to be written."""
    moved = [one for its in done.done.values() for one in its]
    return {
        "appointments": showing.appointments(moved),
        "refused": [
            {"patient_id": patient_id, "code": refusal.code, "detail": refusal.detail}
            for patient_id, refusal in done.refused.items()
        ],
        "proposal": shown(done.fresh.proposals, done.fresh.is_best),
    }


def shown(proposals: Sequence[Proposal], is_best: bool | None = None) -> dict[str, Any]:
    """Proposals, one for each patient, as one repair."""
    return {
        "id": proposals[0].id if len(proposals) == 1 else None,
        "expires_at": min((one.expires_at for one in proposals), default=None),
        "moves": [_move(one, step) for one in proposals for step in one.steps],
        "unrepairable": [
            {**each, "patient_id": one.patient_id}
            for one in proposals
            for each in one.cost["unrepairable"]
        ],
        "is_best": is_best,
    }


def read_assignments(assignments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who serves, as a proposal keeps it, ready to be written."""
    read = datetime.fromisoformat
    return [
        {**each, "starts_at": read(each["from"]), "ends_at": read(each["to"])}
        for each in assignments
    ]


def _move(proposal: Proposal, step: dict[str, Any]) -> dict[str, Any]:
    read = datetime.fromisoformat
    return {
        **step,
        "patient_id": proposal.patient_id,
        "kind": StepKind(step["kind"]),
        "old": read(step["from"]),
        "new": read(step["to"]),
        "ends_at": read(step["ends_at"]),
        "assignments": read_assignments(step["assignments"]),
    }
