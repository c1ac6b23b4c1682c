"""A course that takes place: visits without gates, walked through by the rules' own acts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import Role, StepKind
from scheduler import booking, courses, facts, questionnaires, sessions
from scheduler.authority import Authority, Call
from scheduler.booking import Order
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from scheduler.questionnaires import Filled
from tests.factories import World, figure, make_protocol, protocol_content

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
PATIENT = Authority("patient")


def content(**changes: Any) -> dict[str, Any]:
    """The course for tests without its gates; the first visit asks two questionnaires."""
    told = protocol_content() | {"code": "test-after"} | changes
    for visit in told["visits"].values():
        visit["gates"], visit["checklist"] = [], []
    told["visits"]["preparation"]["checklist"] = [questions("phq-9", "gad-7")]
    told["visits"]["dosing"]["checklist"] = [questions("phq-9")]
    for step in told["steps"]:
        step.pop("owes", None)
    return told


def questions(*instruments: str) -> dict[str, Any]:
    return {
        "code": "questions",
        "title": "Some questions",
        "owner": "patient",
        "due_before": figure(24, "h"),
        "instruments": list(instruments),
    }


@dataclass(slots=True)
class Course:
    """One patient's course, and what is done with it."""

    session: Session
    patient_id: UUID
    id: UUID

    def book(self, key: str, at: datetime, now: datetime) -> Appointment:
        step = next(one for one in facts.steps_of(self.session, self.id) if one.key == key)
        order = Order(patient_id=self.patient_id, starts_at=at, course_step_id=step.id)
        return booking.book(self.session, order, by=DESK, now=now)

    def visit(self, key: str) -> Appointment:
        """The visit that a step has."""
        step = next(one for one in facts.steps_of(self.session, self.id) if one.key == key)
        return next(
            visit
            for visit, _ in facts.visits_of(self.session, self.id)
            if visit.course_step_id == step.id
        )

    def walk(self, visit: Appointment, *acts: Action) -> None:
        """Take it through its day, ten minutes apart; all of it if no acts are named."""
        whole: tuple[Action, ...] = (Action.ARRIVE, Action.FULFIL)
        if visit.kind is StepKind.DOSING:
            dose = (Action.START_DOSING, Action.START_RECOVERY, Action.DISCHARGE)
            whole = (Action.ARRIVE, *dose, Action.FULFIL)
        for number, act in enumerate(acts or whole):
            at = visit.starts_at + timedelta(minutes=10 * number)
            sessions.act(self.session, Call(visit.id, None), act, by=DESK, now=at)

    def answer(self, visit: Appointment, code: str, score: int, at: datetime) -> None:
        """Fill in a questionnaire of a visit so that it comes to a score."""
        size = {"phq-9": 9, "gad-7": 7}[code]
        whole, rest = divmod(score, size)
        answers = {str(n): whole + (n <= rest) for n in range(1, size + 1)}
        filled = Filled(code, answers)
        questionnaires.send(self.session, visit, filled, by=PATIENT, now=at)


def open_course(session: Session, world: World, told: dict[str, Any] | None = None) -> Course:
    version_id = make_protocol(session, told or content())
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    return Course(session, world.patient_id, course.id)
