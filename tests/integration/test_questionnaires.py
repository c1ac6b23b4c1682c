"""Questionnaires: kept, sent, entered, put right; flags reach a clinician; gates rest on them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, ChecklistItem, Clinic, Message, QuestionnaireDraft, Task
from models.vocabulary import MessageKind, Recipient, Role, TaskKind, TaskStatus
from scheduler import booking, courses, evidence, facts, questionnaires
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.checklists import Settling, settle
from scheduler.errors import NotFound, Taken, Unfit
from scheduler.permissions import BUNDLES
from scheduler.questionnaires import Filled
from tests.factories import MONDAY_9, World, figure, gate, make_protocol, protocol_content
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
PATIENT = Authority("patient")
CALM = {str(number): 0 for number in range(1, 10)}
EASY = {str(number): 0 for number in range(1, 8)}
SAFE = dict.fromkeys(("1", "2", "3", "4", "5", "6", "6-recent"), 0)
HIGH = SAFE | {"5": 1}
MINUTE = timedelta(minutes=1)


def asking_content() -> dict[str, Any]:
    content = protocol_content() | {"code": "test-asking"}
    visit = content["visits"]["preparation"]
    visit["gates"] = [
        gate(
            "safety-screen", "arrival", "questionnaire", instrument="c-ssrs", holds=figure(12, "h")
        )
    ]
    visit["checklist"] = [
        {
            "code": "questions",
            "title": "Some questions",
            "owner": "patient",
            "due_before": figure(24, "h"),
            "instruments": ["phq-9", "gad-7"],
        }
    ]
    content["steps"] = [{"key": "preparation", "visit": "preparation"}]
    return content


@pytest.fixture
def visit(session: Session, world: World, clock: Clock, bound: Any) -> Appointment:
    return booked(session, world, asking_content(), clock)


@pytest.fixture
def screened(session: Session, world: World, clock: Clock, bound: Any) -> Appointment:
    """A visit whose checklist asks for the C-SSRS."""
    content = asking_content()
    content["visits"]["preparation"]["checklist"][0]["instruments"] = ["c-ssrs"]
    return booked(session, world, content, clock)


def booked(session: Session, world: World, content: Any, clock: Clock) -> Appointment:
    version_id = make_protocol(session, content)
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    [step] = facts.steps_of(session, course.id)
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    made = booking.book(session, order, by=DESK, now=clock.now)
    session.commit()
    return made


@pytest.fixture
def doctor(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


def item(session: Session, visit: Appointment) -> ChecklistItem:
    query = select(ChecklistItem).where(ChecklistItem.appointment_id == visit.id)
    return session.scalars(query).one()


def send(session: Session, visit: Appointment, code: str, answers: Any, clock: Clock) -> Any:
    filled = Filled(code, answers)
    return questionnaires.send(session, visit, filled, by=PATIENT, now=clock.now)


class TestOnThePage:
    def test_what_is_half_filled_in_is_kept(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        for answers in ({"1": 2}, {"2": 1}, {"1": 3}):
            questionnaires.keep(session, visit, Filled("phq-9", answers), now=clock.now)
        draft = session.scalars(select(QuestionnaireDraft)).one()
        assert draft.answers == {"1": 3, "2": 1}

        with pytest.raises(Unfit) as refusal:
            send(session, visit, "phq-9", {"3": 0}, clock)
        assert refusal.value.facts["missing"] == ["4", "5", "6", "7", "8", "9"]

        rest = {str(number): 0 for number in range(4, 10)}
        response = send(session, visit, "phq-9", rest, clock)
        assert (response.id, response.score, response.band) == (draft.id, 4, "minimal")
        assert session.scalars(select(QuestionnaireDraft)).all() == []

    def test_what_was_sent_is_not_begun_anew(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        """Somebody presses twice: the second finds that it was sent."""
        send(session, visit, "phq-9", CALM, clock)
        with pytest.raises(Taken):
            questionnaires.keep(session, visit, Filled("phq-9", {"1": 2}), now=clock.now)
        assert session.scalars(select(QuestionnaireDraft)).all() == []

    def test_the_item_is_ticked_once_all_are_sent(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        send(session, visit, "phq-9", CALM, clock)
        assert item(session, visit).status is TaskStatus.REQUESTED
        send(session, visit, "gad-7", {str(n): 0 for n in range(1, 8)}, clock)
        assert item(session, visit).status is TaskStatus.COMPLETED

    def test_a_patient_cannot_tick_it(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        done = Settling(status=TaskStatus.COMPLETED)
        with pytest.raises(Unfit, match="fill in the questions"):
            settle(session, item(session, visit), done, by=PATIENT, now=clock.now)

    def test_only_what_the_visit_asks_for(
        self, session: Session, visit: Appointment, clock: Clock
    ) -> None:
        with pytest.raises(NotFound):
            questionnaires.keep(session, visit, Filled("pcl-5", {"1": 1}), now=clock.now)
        with pytest.raises(Unfit):
            questionnaires.keep(session, visit, Filled("phq-9", {"1": 9}), now=clock.now)


class TestAskedAgain:
    """What does not count any more, or not for the day, is to be filled in anew."""

    def test_what_was_entered_in_error_is_asked_again(
        self, session: Session, visit: Appointment, doctor: Caller, clock: Clock
    ) -> None:
        sent = self._sent(session, visit, clock)
        path = f"/patients/{visit.patient_id}/questionnaire-responses"
        wrong = {"instrument": "gad-7", "replaces": str(sent.id), "in_error": True}
        assert doctor.post(path, wrong).status_code == 201
        session.expire_all()
        opened = item(session, visit)
        assert (opened.status, opened.settled_at) == (TaskStatus.REQUESTED, None)
        query = select(Message.recipient_id).where(
            Message.kind == MessageKind.QUESTIONNAIRE_DUE, Message.rule.startswith("asked-again:")
        )
        assert session.scalars(query).all() == [visit.patient_id]
        send(session, visit, "gad-7", EASY, clock)
        assert item(session, visit).status is TaskStatus.COMPLETED

    def test_what_was_put_right_is_not(
        self, session: Session, visit: Appointment, doctor: Caller, clock: Clock
    ) -> None:
        sent = self._sent(session, visit, clock)
        path = f"/patients/{visit.patient_id}/questionnaire-responses"
        right = {"instrument": "gad-7", "replaces": str(sent.id), "answers": EASY | {"1": 1}}
        assert doctor.post(path, right).json["appointment_id"] == str(visit.id)
        session.expire_all()
        assert item(session, visit).status is TaskStatus.COMPLETED

    def test_people_hear_of_a_gate_that_rested_on_it(
        self, session: Session, visit: Appointment, doctor: Caller, clock: Clock
    ) -> None:
        clock.now = MONDAY_9 - timedelta(hours=10)
        path = f"/patients/{visit.patient_id}/questionnaire-responses"
        calm = doctor.post(path, {"instrument": "c-ssrs", "answers": SAFE}).json
        wrong = {"instrument": "c-ssrs", "replaces": calm["id"], "in_error": True}
        assert doctor.post(path, wrong).status_code == 201
        [task] = doctor.get("/tasks?status=requested").json["items"]
        assert (task["kind"], task["note"]) == ("settle-anew", "safety-screen")

    @pytest.mark.parametrize(("weeks", "holds"), [(1, False), (0, True)])
    def test_a_visit_that_was_moved_asks_for_what_does_not_hold(
        self, session: Session, visit: Appointment, clock: Clock, weeks: int, holds: bool
    ) -> None:
        """Seven days: sent on Sunday, it holds on Tuesday, and not a week from Monday."""
        self._sent(session, visit, clock)
        to = MONDAY_9 + timedelta(weeks=weeks, days=1 - weeks)
        booking.reschedule(
            session, Call(visit.id, None), Move(starts_at=to), by=DESK, now=clock.now
        )
        session.expire_all()
        status = TaskStatus.COMPLETED if holds else TaskStatus.REQUESTED
        assert item(session, visit).status is status
        if holds:
            with pytest.raises(Taken):
                send(session, visit, "phq-9", CALM, clock)
        else:  # also at once, and once more for all
            self._sent(session, visit, clock)
            assert item(session, visit).status is TaskStatus.COMPLETED

    def _sent(self, session: Session, visit: Appointment, clock: Clock) -> Any:
        send(session, visit, "phq-9", CALM, clock)
        sent = send(session, visit, "gad-7", EASY, clock)
        session.commit()
        assert item(session, visit).status is TaskStatus.COMPLETED
        return sent


class TestFlags:
    def test_a_clinician_hears_at_once_whether_it_is_sent_or_not(
        self, session: Session, world: World, visit: Appointment, clock: Clock
    ) -> None:
        session.scalars(select(Clinic)).one().on_call_id = world.prescriber_id
        session.flush()

        questionnaires.keep(session, visit, Filled("phq-9", {"9": 1}), now=clock.now)
        told = self._told(session)
        send(session, visit, "phq-9", CALM | {"9": 1}, clock)

        assert self._told(session) == told  # once
        serving = set(facts.practitioners_of(session, visit.id))
        assert {reader for recipient, reader, _ in told if recipient is Recipient.PRACTITIONER} == {
            *serving,
            world.prescriber_id,
        }
        assert {due for _, _, due in told} == {clock.now}
        task = session.scalars(select(Task).where(Task.kind == TaskKind.READ_ANSWERS)).one()
        assert (task.urgent, task.patient_id) == (True, world.patient_id)
        assert visit.status == "booked"  # nothing is cancelled

    def test_what_is_worse_opens_the_task_again(
        self, session: Session, screened: Appointment, desk: Caller, doctor: Caller, clock: Clock
    ) -> None:
        self._keep(session, screened, {"1": 1}, clock)
        assert self._settle(desk).json["type"] == "/problems/may-not-override"
        assert self._settle(doctor).status_code == 200
        clock.now += MINUTE
        self._keep(session, screened, {"2": 1}, clock)
        assert doctor.get("/tasks?status=requested").json["items"] == []  # nothing new
        self._keep(session, screened, {"5": 1}, clock)
        [task] = doctor.get("/tasks?status=requested").json["items"]
        assert (task["kind"], task["owner"], task["urgent"]) == ("read-answers", "clinician", True)
        assert task["settled_by"] is None

    def _keep(self, session: Session, visit: Appointment, answers: Any, clock: Clock) -> None:
        questionnaires.keep(session, visit, Filled("c-ssrs", answers), now=clock.now)
        session.commit()

    def _settle(self, caller: Caller) -> Any:
        [task] = caller.get("/tasks?status=requested").json["items"]
        path = f"/tasks/{task['id']}"
        etag = caller.get(path).headers["ETag"]
        return caller("PATCH", path, {"status": "cancelled"}, etag=etag)

    def _told(self, session: Session) -> set[Any]:
        rows = session.execute(
            select(Message.recipient, Message.recipient_id, Message.due_at).where(
                Message.kind == MessageKind.ANSWERS_FLAGGED
            )
        )
        return {tuple(row) for row in rows}


class TestGate:
    @pytest.mark.parametrize(
        ("answers", "state"),
        [(SAFE, "met"), (SAFE | {"3": 1}, "met"), (SAFE | {"4": 1}, "failed")],
    )
    def test_the_answers_of_the_day_open_it(
        self, doctor: Caller, visit: Appointment, clock: Clock, answers: Any, state: str
    ) -> None:
        clock.now = MONDAY_9 - timedelta(minutes=30)
        self._enter(doctor, visit, answers)
        assert self._state(doctor, visit) == state

    @pytest.mark.parametrize(
        ("before", "state"),
        [(timedelta(hours=12), "met"), (timedelta(hours=12, minutes=1), "expired")],
    )
    def test_for_so_long(
        self, doctor: Caller, visit: Appointment, clock: Clock, before: timedelta, state: str
    ) -> None:
        clock.now = MONDAY_9 - before
        self._enter(doctor, visit, SAFE)
        assert self._state(doctor, visit) == state

    def test_a_reason_speaks_of_the_answers_that_were_known(
        self, doctor: Caller, visit: Appointment, clock: Clock
    ) -> None:
        clock.now = MONDAY_9 - timedelta(hours=2)
        self._enter(doctor, visit, SAFE | {"4": 1})
        told = {"code": "safety-screen", "reason": "seen at length, safe to go on"}
        assert doctor.post(f"/appointments/{visit.id}/overrides", told).status_code == 201
        assert self._state(doctor, visit) == "overridden"
        clock.now += timedelta(minutes=1)
        self._enter(doctor, visit, SAFE | {"5": 1})
        assert self._state(doctor, visit) == "failed"

    def _enter(self, doctor: Caller, visit: Appointment, answers: Any) -> None:
        path = f"/patients/{visit.patient_id}/questionnaire-responses"
        told = {"instrument": "c-ssrs", "answers": answers, "appointment_id": str(visit.id)}
        made = doctor.post(path, told)
        assert made.status_code == 201, made.json

    def _state(self, doctor: Caller, visit: Appointment) -> str:
        [found] = doctor.get(f"/appointments/{visit.id}/readiness").json["gates"]
        state: str = found["state"]
        return state


class TestOverHttp:
    @pytest.fixture
    def path(self, visit: Appointment) -> str:
        return f"/patients/{visit.patient_id}/questionnaire-responses"

    def test_scores_stand_beside_the_first(self, doctor: Caller, path: str, clock: Clock) -> None:
        for score in (30, 16, 15, 9):
            clock.now += timedelta(days=1)
            told = {"instrument": "madrs", "score": score}
            assert doctor.post(path, told).status_code == 201
        shown = doctor.get(f"{path}?instrument=madrs").json["items"]
        assert [one["change"] and one["change"]["points"] for one in shown] == [
            None,
            -14,
            -15,
            -21,
        ]
        assert [one["change"] and one["change"]["is_response"] for one in shown] == [
            None,
            False,
            True,
            True,
        ]
        assert [one["change"] and one["change"]["is_remission"] for one in shown][-1] is True

    def test_the_desk_enters_them_and_reads_none(
        self, desk: Caller, doctor: Caller, key: Keyring, path: str
    ) -> None:
        made: Any = desk.post(path, {"instrument": "phq-9", "answers": CALM | {"9": 1}})
        assert made.status_code == 201
        told = {"answers", "score", "band", "flags", "change"}
        assert not told & {*made.json}
        assert desk.get(path).status_code == key(Role.AUDITOR).get(path).status_code == 403
        [shown] = doctor.get(path).json["items"]
        assert (shown["score"], shown["flags"]) == (1, ["self-harm"])

    def test_an_entry_is_put_right_by_another(
        self, doctor: Caller, desk: Caller, path: str
    ) -> None:
        wrong = doctor.post(path, {"instrument": "madrs", "score": 31}).json
        right = {"instrument": "madrs", "score": 13, "replaces": wrong["id"]}
        assert desk.post(path, right).status_code == 403
        assert doctor.post(path, right).status_code == 201
        assert doctor.post(path, right).json["type"] == "/problems/already-exists"
        counts = {one["score"]: one["counts"] for one in doctor.get(path).json["items"]}
        assert counts == {31: False, 13: True}

    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ({"instrument": "madrs", "score": 61}, "score"),
            ({"instrument": "madrs"}, "answers"),
            ({"instrument": "madrs", "score": -1}, "score"),
            ({"instrument": "c-ssrs", "score": 1}, "score"),
            ({"instrument": "phq-9", "answers": {"1": 1}}, "answers"),
            ({"instrument": "phq-9", "answers": CALM, "score": 0}, "score"),
            (
                {"instrument": "phq-9", "answers": CALM, "authored_at": "2030-01-01T00:00:00Z"},
                "authored_at",
            ),
            ({"instrument": "madrs", "in_error": True}, "replaces"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, doctor: Caller, path: str, told: Any, field: str
    ) -> None:
        refused = doctor.post(path, told)
        assert (refused.status_code, refused.json["field"]) == (422, field)

    def test_words_are_the_clinics_where_they_are_not_shipped(
        self, admin: Caller, doctor: Caller
    ) -> None:
        shown = doctor.get("/instruments/c-ssrs").json
        assert shown["can_be_filled_in"] is False
        words = {
            "heading": "In the last month",
            "items": {one["code"]: f"Question {one['code']}?" for one in shown["items"]},
            "choices": {"0": "No", "1": "Yes"},
        }
        path, none_yet = "/instruments/c-ssrs/wording", '"0"'
        assert doctor("PUT", path, words, etag=none_yet).status_code == 403
        short = {**words, "choices": {"0": "No"}}
        refused = admin("PUT", path, short, etag=none_yet)
        assert (refused.status_code, refused.json["field"]) == (422, "choices")
        assert admin("PUT", path, words).status_code == 428
        entered = admin("PUT", path, words, etag=none_yet)
        assert entered.status_code == 200
        assert admin("PUT", path, words, etag=none_yet).status_code == 412
        answer = doctor.get("/instruments/c-ssrs")
        assert answer.headers["ETag"] == entered.headers["ETag"] == '"1"'
        shown = answer.json
        assert shown["can_be_filled_in"] is True
        assert shown["items"][0]["text"] == "Question 1?"
        assert admin("PUT", "/instruments/phq-9/wording", words, etag='"0"').status_code == 409
        assert doctor.get("/instruments/nothing").status_code == 404


def test_somebody_on_call_is_one_of_the_clinics(admin: Caller, world: World) -> None:
    etag = admin.get("/clinic").headers["ETag"]
    told = {"on_call_id": str(world.prescriber_id)}
    changed = admin("PATCH", "/clinic", told, etag=etag)
    assert changed.json["on_call_id"] == str(world.prescriber_id)
    unknown = {"on_call_id": str(UUID(int=7))}
    refused = admin("PATCH", "/clinic", unknown, etag=changed.headers["ETag"])
    assert refused.status_code in {404, 422}


class TestHighAnswers:
    """What shuts a gate: only whom the gate names, a reason or time opens it again."""

    @pytest.fixture(autouse=True)
    def _soon(self, clock: Clock, bound: Any) -> None:
        clock.now = MONDAY_9 - timedelta(hours=1)

    def _state(self, session: Session, visit: Appointment, clock: Clock) -> str:
        session.expire_all()
        [judged] = evidence.judge(session, [visit], clock.now)[visit.id].gates
        return judged.state.value

    def _enter(self, caller: Caller, visit: Appointment, answers: Any, **more: Any) -> Any:
        told = {"instrument": "c-ssrs", "answers": answers, **more}
        return caller.post(f"/patients/{visit.patient_id}/questionnaire-responses", told)

    def test_the_desk_does_not_open_it_with_a_calm_response(
        self, session: Session, visit: Appointment, desk: Caller, doctor: Caller, clock: Clock
    ) -> None:
        for answers, state in ((HIGH, "failed"), (SAFE, "failed")):
            assert self._enter(desk, visit, answers).status_code == 201
            assert self._state(session, visit, clock) == state
            clock.now += MINUTE
        assert self._enter(doctor, visit, SAFE).status_code == 201
        assert self._state(session, visit, clock) == "met"
        assert self._enter(desk, visit, SAFE).status_code == 201
        assert self._state(session, visit, clock) == "met"

    @pytest.mark.parametrize(("role", "state"), [("monitor", "failed"), ("prescriber", "met")])
    def test_nor_does_a_clinician_whom_the_gate_does_not_name(
        self, session: Session, world: World, clock: Clock, bound: Any, role: str, state: str
    ) -> None:
        """Neither by saying that it was entered in error, nor by a calm one."""
        content = asking_content()
        content["visits"]["preparation"]["gates"][0]["who"] = ["prescriber"]
        visit = booked(session, world, content, clock)
        by = Authority("key:somebody", BUNDLES[Role.CLINICIAN], None, frozenset({role}))
        high = self._new(session, visit, clock, DESK, answers=HIGH)
        assert self._state(session, visit, clock) == "failed"
        clock.now += MINUTE
        self._new(session, visit, clock, by, replaces=high.id, in_error=True)
        self._new(session, visit, clock, DESK, answers=SAFE)
        assert self._state(session, visit, clock) == state

    def _new(
        self, session: Session, visit: Appointment, clock: Clock, by: Authority, **told: Any
    ) -> Any:
        new = questionnaires.New(visit.patient_id, "c-ssrs", clock.now, **told)
        return questionnaires.enter(session, new, by=by, now=clock.now)

    def test_it_lapses(
        self, session: Session, visit: Appointment, desk: Caller, clock: Clock
    ) -> None:
        clock.now = MONDAY_9 - timedelta(hours=12, minutes=1)
        assert self._enter(desk, visit, HIGH).status_code == 201
        clock.now = MONDAY_9 - MINUTE
        assert self._enter(desk, visit, SAFE).status_code == 201
        assert self._state(session, visit, clock) == "met"

    def test_what_was_noted_later_about_earlier_is_news(
        self, session: Session, visit: Appointment, desk: Caller, doctor: Caller, clock: Clock
    ) -> None:
        earlier = (clock.now - MINUTE).isoformat()
        assert self._enter(doctor, visit, SAFE).status_code == 201
        clock.now += MINUTE
        assert self._enter(desk, visit, HIGH, authored_at=earlier).status_code == 201
        assert self._state(session, visit, clock) == "failed"

    def test_a_calm_response_that_was_entered_in_error_decides_nothing(
        self, session: Session, visit: Appointment, desk: Caller, doctor: Caller, clock: Clock
    ) -> None:
        assert self._enter(desk, visit, HIGH).status_code == 201
        clock.now += MINUTE
        calm = self._enter(doctor, visit, SAFE).json
        assert self._state(session, visit, clock) == "met"
        clock.now += MINUTE
        wrong = self._enter(doctor, visit, {}, replaces=calm["id"], in_error=True)
        assert wrong.status_code == 201, wrong.json
        assert self._state(session, visit, clock) == "failed"

    @pytest.mark.parametrize("before", [False, True])
    def test_half_filled_in_shuts_as_well(
        self,
        session: Session,
        screened: Appointment,
        doctor: Caller,
        clock: Clock,
        before: bool,
    ) -> None:
        if before:
            assert self._enter(doctor, screened, SAFE).status_code == 201
            clock.now += MINUTE
        questionnaires.keep(session, screened, Filled("c-ssrs", {"5": 1}), now=clock.now)
        session.commit()
        assert self._state(session, screened, clock) == "failed"
        clock.now += MINUTE
        self._take_back(session, screened, clock)
        assert self._state(session, screened, clock) == "failed"
        clock.now += MINUTE
        assert self._enter(doctor, screened, SAFE).status_code == 201
        assert self._state(session, screened, clock) == "met"

    def _take_back(self, session: Session, screened: Appointment, clock: Clock) -> None:
        """The patient answers otherwise, and sends that."""
        questionnaires.keep(session, screened, Filled("c-ssrs", {"5": 0}), now=clock.now)
        session.commit()
        assert self._state(session, screened, clock) == "failed"
        response = send(session, screened, "c-ssrs", SAFE, clock)
        session.commit()
        assert (response.flags, response.shuts) == (["risk-high"], True)
