"""Questionnaires: filled in on the patient's page or entered by staff, scored, and looked at.

What is half filled in is kept. Answers that a clinician must see raise a flag in the same
transaction, whether the questionnaire is sent or not, and cancel nothing: people decide.
Functions here flush and never commit.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import (
    Appointment,
    Course,
    Patient,
    QuestionnaireDraft,
    QuestionnaireResponse,
)
from models.vocabulary import MessageKind, Owner, TaskKind, TaskStatus
from scheduler import alarms, checklists, facts, instruments, reopening, telling
from scheduler.alarms import Alarm
from scheduler.authority import Authority
from scheduler.errors import MayNotOverride, NotFound, Taken, Unfit
from scheduler.instruments import LIBRARY, Instrument, Scored, Scoring
from scheduler.telling import Said

AT_ONCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Filled:
    """Answers to an instrument that a visit's checklist asks for."""

    instrument: str
    answers: Mapping[str, int]


def known(code: str) -> Instrument:
    """An instrument by its code; refuses with `NotFound`."""
    found = LIBRARY.get(code)
    if found is None:
        raise NotFound(f"There is no instrument {code!r}.", instruments=sorted(LIBRARY))
    return found


def asked_of(session: Session, visit: Appointment) -> list[str]:
    """The instruments that a visit's checklist asks for, in its order, each once."""
    checklist = facts.brief_of(session, visit).visit.checklist
    return list(dict.fromkeys(code for check in checklist for code in check.instruments))


def keep(
    session: Session, visit: Appointment, filled: Filled, *, now: datetime
) -> QuestionnaireDraft:
    """Keep what a patient has answered so far; flags are raised as soon as they are given.

    Refuses with `NotFound` for an instrument that this visit does not ask for, with `Unfit`
    for answers that it does not have, and with `Taken` once it was sent.
    """
    instrument = _asked(session, visit, filled)
    facts.to_change(session, Appointment, visit.id, None)  # of two who save at once, one waits
    if instrument.code in facts.instruments_filled(session, visit):
        raise Taken("This was sent already. Thank you.", field="instrument")
    draft = facts.draft_to_change(session, visit.id, instrument.code)
    if draft is None:
        draft = QuestionnaireDraft(
            id=uuid7(),
            appointment_id=visit.id,
            patient_id=visit.patient_id,
            instrument=instrument.code,
            version=0,
            answers={},
            flags=[],
        )
        session.add(draft)
    was, raised = instruments.score(instrument, draft.answers), set(draft.flags)
    draft.answers = {**draft.answers, **filled.answers}
    found = instruments.score(instrument, draft.answers)
    draft.flags = _pressing(instrument, {*raised, *found.flags})
    if found.shuts and (draft.shut_at is None or not was.shuts):
        draft.shut_at = now
    draft.saved_at = now
    draft.version += 1
    session.flush()
    new = [flag for flag in found.flags if flag not in raised]
    _alarm(session, _About(draft.id, visit.patient_id, visit.id), new, now)
    return draft


def _pressing(instrument: Instrument, raised: Collection[str]) -> list[str]:
    """Flags in the order in which they are to be looked at."""
    return [flag.code for flag in instrument.flags if flag.code in raised]


def send(
    session: Session, visit: Appointment, filled: Filled, *, by: Authority, now: datetime
) -> QuestionnaireResponse:
    """Turn the answers kept so far, and these, into a response; what waited for it is done.

    What was flagged stays so, also where the answer was changed before it was sent.
    Refuses with what `keep` refuses, and with `Unfit` while an item is not answered.
    """
    instrument = _asked(session, visit, filled)
    draft = keep(session, visit, filled, now=now)
    answers = dict(draft.answers)
    left = instruments.missing(instrument, answers)
    if left:
        raise Unfit(
            "Some questions are not answered yet; what you answered is kept.",
            field=f"answers.{left[0]}",
            missing=left,
        )
    scored = instruments.score(instrument, answers)
    response = _response(
        draft.id,
        New(visit.patient_id, instrument.code, now, answers, appointment_id=visit.id),
        replace(scored, flags=tuple(draft.flags), shuts=scored.shuts or draft.shut_at is not None),
        by,
        now,
    )
    response.course_id, response.revision = visit.course_id, visit.revision
    session.delete(draft)
    session.add(response)
    session.flush()
    _settle(session, visit, by, now)
    return response


@dataclass(frozen=True, slots=True)
class New:
    """A response that staff enter: with its answers, or with a score alone."""

    patient_id: UUID
    instrument: str
    authored_at: datetime
    answers: Mapping[str, int] = field(default_factory=dict)
    score: int | None = None
    appointment_id: UUID | None = None
    course_id: UUID | None = None
    replaces: UUID | None = None
    in_error: bool = False


def enter(session: Session, new: New, *, by: Authority, now: datetime) -> QuestionnaireResponse:
    """Enter what was filled in on paper, worked out elsewhere, or wrong before.

    Refuses with `NotFound`, with `Unfit` for answers or a score that the instrument does not
    have, with `Taken` if what it replaces was replaced before, and with `MayNotOverride` for
    whoever is no clinician and would replace one.
    """
    facts.one(session, Patient, new.patient_id)
    replaced = _to_replace(session, new, by)
    if replaced is not None and new.appointment_id is None:
        new = replace(new, appointment_id=replaced.appointment_id)
    visit = None
    if new.appointment_id is not None:
        visit = facts.one(session, Appointment, new.appointment_id)
        if visit.patient_id != new.patient_id:
            raise Unfit("That is somebody else's visit.", field="appointment_id")
    if new.authored_at > now:
        raise Unfit("Nothing was filled in in the future.", field="authored_at")
    instrument = known(new.instrument)
    scored = Scored(None, None, (), False) if new.in_error else _scored(instrument, new)
    response = _response(uuid7(), new, scored, by, now)
    response.course_id = _course_of(session, new, visit, now)
    response.revision = None if visit is None else visit.revision
    with _putting_right(session, replaced, now):
        session.add(response)
        session.flush()
    about = _About(response.id, new.patient_id, new.appointment_id)
    _alarm(session, about, scored.flags, now)
    if visit is not None:
        _settle(session, visit, by, now)
    return response


@contextmanager
def _putting_right(
    session: Session, replaced: QuestionnaireResponse | None, now: datetime
) -> Iterator[None]:
    """Ask again for what a response had ticked that does not count any more, and tell of it."""
    if replaced is None:
        yield
        return
    with reopening.told_after(session, replaced.patient_id, now, taken_back=True):
        if replaced.appointment_id is None:
            yield
            return
        visit = facts.one(session, Appointment, replaced.appointment_id)
        before = facts.instruments_filled(session, visit)
        yield
        _ask_again(session, visit, before - facts.instruments_filled(session, visit), now)


def _ask_again(session: Session, visit: Appointment, lost: set[str], now: datetime) -> None:
    """Open the items that were ticked by what is not filled in any more; the patient hears."""
    opened = [code for code, wanted in _wanted(session, visit).items() if wanted & lost]
    items = [
        item
        for item in facts.items_to_change(session, visit.id, opened)
        if item.status is TaskStatus.COMPLETED and checklists.can_be_done(visit, item)
    ]
    for item in items:
        item.status, item.settled_by, item.settled_at = TaskStatus.REQUESTED, None, None
        item.marked_at = now
        item.version += 1
    session.flush()
    due_at = now + timedelta(minutes=facts.clinic(session).settle_minutes)
    if any(item.owner is Owner.PATIENT for item in items) and due_at < visit.starts_at:
        said = Said(
            kind=MessageKind.QUESTIONNAIRE_DUE,
            occasion=f"asked-again:{visit.revision}:{now:%Y%m%dT%H%M}",
            due_at=due_at,
            not_after=telling.in_time(visit, due_at),
        )
        telling.tell(session, visit, said, telling.patient(session, visit), now)


def _course_of(session: Session, new: New, visit: Appointment | None, now: datetime) -> UUID | None:
    """The course that a response is about: as it is told, else what it replaces or its visit says.

    One of today that names none is about the course that the patient is in, if there is one.
    """
    if new.course_id is None:
        if new.replaces is not None:
            return facts.one(session, QuestionnaireResponse, new.replaces).course_id
        if visit is not None:
            return visit.course_id
        return _only_course(session, new, now)
    if facts.one(session, Course, new.course_id).patient_id != new.patient_id:
        raise Unfit("That is another patient's course.", field="course_id")
    if visit is not None and visit.course_id != new.course_id:
        raise Unfit("That visit is no part of this course.", field="course_id")
    return new.course_id


def _only_course(session: Session, new: New, now: datetime) -> UUID | None:
    zone = ZoneInfo(facts.clinic(session).time_zone)
    if new.authored_at.astimezone(zone).date() != now.astimezone(zone).date():
        return None
    active = facts.courses_in(session, new.patient_id)
    return active[0] if len(active) == 1 else None


def _to_replace(session: Session, new: New, by: Authority) -> QuestionnaireResponse | None:
    """The response that another is to stand in the place of, if that is theirs to say."""
    if new.replaces is None:
        if new.in_error:
            raise Unfit("Name what was entered in error.", field="replaces")
        return None
    if not by.practitioner_roles:
        raise MayNotOverride("A clinician puts responses right.", who=["clinician"])
    replaced = facts.one(session, QuestionnaireResponse, new.replaces)
    if (replaced.patient_id, replaced.instrument) != (new.patient_id, new.instrument):
        raise Unfit("That is another patient's, or another instrument's.", field="replaces")
    if facts.is_response_replaced(session, new.replaces):
        raise Taken("That response was replaced already.", field="replaces")
    return replaced


def _scored(instrument: Instrument, new: New) -> Scored:
    if new.answers and new.score is not None:
        raise Unfit("Give answers or a score, not both.", field="score")
    if new.answers:
        _refuse_faults(instrument, new.answers)
        left = instruments.missing(instrument, new.answers)
        if left:
            raise Unfit("Some questions are not answered.", field="answers", missing=left)
        return instruments.score(instrument, new.answers)
    if new.score is None:
        raise Unfit("Give answers, or a score.", field="answers")
    if instrument.scoring is Scoring.LEVEL:
        raise Unfit(f"{instrument.title} has no score; give the answers.", field="score")
    if not instruments.in_range(instrument, new.score):
        raise Unfit(
            f"{instrument.title} runs from {instrument.least} to {instrument.most}.", field="score"
        )
    return instruments.entered(instrument, new.score)


def _asked(session: Session, visit: Appointment, filled: Filled) -> Instrument:
    asked = asked_of(session, visit)
    if filled.instrument not in asked:
        raise NotFound("This visit does not ask for that.", instruments=asked)
    instrument = known(filled.instrument)
    _refuse_faults(instrument, filled.answers)
    return instrument


def _refuse_faults(instrument: Instrument, answers: Mapping[str, int]) -> None:
    wrong = instruments.faults(instrument, answers)
    if wrong:
        raise Unfit(
            "Some answers do not fit the questionnaire.",
            errors=[{"pointer": one.pointer, "detail": one.detail} for one in wrong],
        )


def _response(
    response_id: UUID, new: New, scored: Scored, by: Authority, now: datetime
) -> QuestionnaireResponse:
    return QuestionnaireResponse(
        id=response_id,
        patient_id=new.patient_id,
        appointment_id=new.appointment_id,
        instrument=new.instrument,
        instrument_version=LIBRARY[new.instrument].version,
        answers=dict(new.answers),
        score=scored.score,
        band=scored.band,
        flags=list(scored.flags),
        shuts=scored.shuts,
        authored_at=new.authored_at,
        authored_by=by.name,
        roles=sorted(by.practitioner_roles),
        noted_at=now,
        replaces=new.replaces,
        in_error=new.in_error,
    )


def _settle(session: Session, visit: Appointment, by: Authority, now: datetime) -> None:
    """Tick what a visit's checklist asked for, once all its instruments are filled in."""
    filled = facts.instruments_filled(session, visit)
    wanted = _wanted(session, visit)
    for item in facts.items_to_change(session, visit.id, wanted):
        if item.status is TaskStatus.REQUESTED and wanted[item.code] <= filled:
            item.status, item.settled_by, item.settled_at = TaskStatus.COMPLETED, by.name, now
            item.version += 1
    session.flush()


def _wanted(session: Session, visit: Appointment) -> dict[str, set[str]]:
    """The instruments by which each item of a visit's checklist is ticked."""
    checklist = facts.brief_of(session, visit).visit.checklist
    return {check.code: set(check.instruments) for check in checklist if check.instruments}


@dataclass(frozen=True, slots=True)
class _About:
    """Whose answers they are, and where."""

    id: UUID
    """Of the response, or of the draft that will be one."""
    patient_id: UUID
    appointment_id: UUID | None


def _alarm(session: Session, about: _About, flags: Sequence[str], now: datetime) -> None:
    """Let a clinician look within a minute. Of each flag once, sent or not."""
    for flag in flags:
        alarms.sound(
            session,
            Alarm(
                task=TaskKind.READ_ANSWERS,
                message=MessageKind.ANSWERS_FLAGGED,
                subject_id=about.id,
                about_id=about.patient_id,
                occasion=flag,
                due_at=now + AT_ONCE,
                patient_id=about.patient_id,
                appointment_id=about.appointment_id,
            ),
            now,
        )
