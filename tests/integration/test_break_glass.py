"""A record opened in an emergency: one patient's, to be read, for an hour, seen by others."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent, Message, Task
from models.vocabulary import MessageKind, Role, TaskKind, TaskStatus
from scheduler.permissions import BY_GLASS, Permission
from tests.factories import SUNDAY_NOON, World, make_patient
from tests.integration.conftest import Caller, Clock, Keyring


def last(session: Session) -> AuditEvent:
    session.expire_all()
    return session.scalars(select(AuditEvent).order_by(AuditEvent.sequence.desc())).first()  # type: ignore[return-value]


class TestBreakGlass:
    REASON = "Collapsed in the waiting room, nobody else is here"

    def ask(self, who: Caller, world: World) -> Any:
        return who.post(
            "/break-glass", {"patient_id": str(world.patient_id), "reason": self.REASON}
        )

    def test_opens_one_record_for_an_hour_to_be_read(
        self, tablet: Caller, session: Session, world: World, clock: Clock
    ) -> None:
        path = f"/patients/{world.patient_id}/screening"
        assert tablet.get(path).status_code == 403
        glass = self.ask(tablet, world)
        assert (glass.status_code, glass.json["is_repeated"]) == (201, False)
        assert tablet.get(path).status_code == 200
        line = last(session)
        assert line.facts["break_glass"] == glass.json["id"]
        assert line.patient_id == world.patient_id
        note = {"taken_at": "2026-03-01T12:00:00Z"}
        assert tablet.post(f"/patients/{world.patient_id}/screens", note).status_code == 403
        other, _ = make_patient(session)
        session.commit()
        assert tablet.get(f"/patients/{other}/screening").status_code == 403
        clock.now = SUNDAY_NOON + timedelta(minutes=59)
        assert tablet.get(path).status_code == 200
        clock.now = SUNDAY_NOON + timedelta(minutes=60)
        assert tablet.get(path).status_code == 403

    def test_opens_it_to_who_asked_alone(self, tablet: Caller, desk: Caller, world: World) -> None:
        self.ask(tablet, world)
        assert desk.get(f"/patients/{world.patient_id}/screening").status_code == 403

    @pytest.mark.parametrize("reason", [None, "", "urgent", " " * 20])
    def test_takes_a_reason(self, tablet: Caller, world: World, reason: str | None) -> None:
        told = {"patient_id": str(world.patient_id), "reason": reason}
        answer = tablet.post("/break-glass", told)
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/reason")

    def test_of_nobody_is_nothing(self, tablet: Caller) -> None:
        told = {"patient_id": str(uuid4()), "reason": self.REASON}
        assert tablet.post("/break-glass", told).status_code == 404

    def test_is_told_at_once_and_waits_until_somebody_else_has_looked(
        self, admin: Caller, doctor: Caller, key: Keyring, session: Session, world: World
    ) -> None:
        asker = key(Role.CLINICIAN, name="admin", scopes=[Permission.BREAK_GLASS_ASK])
        glass = self.ask(asker, world).json
        message = session.scalars(
            select(Message).where(Message.kind == MessageKind.BREAK_GLASS)
        ).one()
        assert (message.recipient, message.due_at) == ("front-desk", SUNDAY_NOON)
        body = doctor.get(f"/messages/{message.id}").json["body"]
        assert "somebody opened a patient's record in an emergency" in body
        assert self.REASON not in body
        task = session.scalars(select(Task).where(Task.kind == TaskKind.REVIEW_BREAK_GLASS)).one()
        assert (task.status, task.urgent, task.patient_id) == (TaskStatus.REQUESTED, False, None)
        auditor = key(Role.AUDITOR)
        queue = "/break-glass?reviewed=false"
        assert [one["id"] for one in auditor.get(queue).json["items"]] == [glass["id"]]
        assert last(session).entity == "break-glass"
        path = f"/break-glass/{glass['id']}/review"
        verdict = {"justified": True, "note": "I saw it"}
        assert admin.post(path, verdict, etag='"1"').status_code == 403
        assert key(Role.ADMIN).post(path, verdict, etag='"1"').status_code == 403
        assert auditor.post(path, verdict).status_code == 428
        assert auditor.post(path, verdict, etag='"1"').json["justified"] is True
        assert auditor.post(path, verdict, etag='"2"').status_code == 409
        assert auditor.get(queue).json["items"] == []
        session.expire_all()
        assert session.get(Task, (world.clinic_id, task.id)).status is TaskStatus.COMPLETED  # type: ignore[union-attr]

    def test_the_privacy_officer_hears_if_there_is_one(
        self, admin: Caller, tablet: Caller, session: Session, world: World
    ) -> None:
        told = {"privacy_officer_id": str(world.prescriber_id)}
        etag = admin.get("/clinic").headers["ETag"]
        assert admin("PATCH", "/clinic", told, etag=etag).status_code == 200
        self.ask(tablet, world)
        message = session.scalars(
            select(Message).where(Message.kind == MessageKind.BREAK_GLASS)
        ).one()
        assert (message.recipient, message.recipient_id) == ("practitioner", world.prescriber_id)

    def test_the_third_within_a_week_is_marked(
        self, tablet: Caller, session: Session, world: World, clock: Clock
    ) -> None:
        marked = []
        for days in (0, 3, 6, 20):
            clock.now = SUNDAY_NOON + timedelta(days=days)
            marked.append(self.ask(tablet, world).json["is_repeated"])
        assert marked == [False, False, True, False]
        urgent = session.scalars(
            select(Task.urgent).where(Task.kind == TaskKind.REVIEW_BREAK_GLASS)
        ).all()
        assert sorted(urgent) == [False, False, False, True]

    def test_is_for_those_who_treat(self, admin: Caller, desk: Caller, world: World) -> None:
        """Who runs the clinic reads no clinical text, in an emergency either: they review."""
        for one in (admin, desk):
            assert self.ask(one, world).status_code == 403

    def test_opens_reading_alone(self) -> None:
        assert {one.split(":")[1] for one in BY_GLASS} == {"read"}
