"""Consents: the clinic's texts in their versions, and what patients sign on their page.

A signature settles the gate: its clearance is written with it, in the patient's name, where the
protocol lets the patient vouch (`who`). Functions here flush and never commit; nothing that was
written is changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Clearance, Consent, ConsentText, Patient
from models.vocabulary import ClearanceOutcome, CourseStatus, GateState, TaskKind
from notifications.paper import Signed
from scheduler import checklists, clearances, evidence, facts, readiness, reopening, rules, tasks
from scheduler.authority import PATIENT, Authority
from scheduler.clearances import NewClearance, Pair
from scheduler.errors import NotFound, Stale, Taken, WrongStatus
from scheduler.protocols import Gate, GivenFor, SettledBy, Visit
from scheduler.readiness import Known, Vouched
from scheduler.tasks import Wanted

SOON = timedelta(hours=4)
"""Within which staff are asked to call whoever does not agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewText:
    """A new version of what patients agree to."""

    code: str
    language: str
    title: str
    body: str
    renews: bool


def write(session: Session, told: NewText, *, by: Authority, now: datetime) -> ConsentText:
    """Write a new version of a text; those before stay as they are.

    If it renews, the consents given to earlier ones end: whoever has a visit ahead that rested
    on one hears of it.
    """
    ahead = facts.booked_of_cleared(session, told.code, now) if told.renews else ()
    before = reopening.settled(session, ahead, now)
    text = ConsentText(
        id=uuid7(),
        code=told.code,
        number=facts.last_text(session, told.code) + 1,
        language=told.language,
        title=told.title,
        body=told.body,
        renews=told.renews,
        written_by=by.name,
        written_at=now,
    )
    session.add(text)
    session.flush()
    reopening.tell(session, ahead, before, now)
    return text


@dataclass(frozen=True, slots=True)
class Ask:
    """A consent that a patient is asked for, and how it stands."""

    gate: str
    pair: Pair
    """The medicine and the route, where the gate asks for them."""
    text: ConsentText
    is_open: bool
    """A signature would settle it for some visit."""
    is_refused: bool
    """Somebody said no: for people to talk about."""


def asked_of(session: Session, visit: Appointment, now: datetime) -> Sequence[Ask]:
    """The consents that a visit's course rests on, and that its patient may give alone.

    Those of steps that are not booked yet too, since a gate may stand before the booking.
    """
    found: dict[tuple[str, Pair], list[_Behind]] = {}
    for one in _behind(session, visit, now):
        found.setdefault((one.gate.code, clearances.pair_of(one.gate, one.visit)), []).append(one)
    named = {code for code, pair in found if pair != _NONE}
    language = facts.one(session, Patient, visit.patient_id).language
    asks = []
    for (code, pair), behind in found.items():
        text = facts.text_as_of(session, code, language, now)
        if text is None or (pair == _NONE and code in named):  # one that names them settles both
            continue
        is_open = any(one.is_open and one.would_open(now) for one in behind)
        is_refused = any(one.state is GateState.FAILED for one in behind)
        asks.append(Ask(code, pair, text, is_open, is_refused))
    return asks


_NONE: Pair = (None, None)


@dataclass(frozen=True, slots=True)
class _Behind:
    """A visit behind a gate, booked or not, and as of when it is judged."""

    gate: Gate
    visit: Visit
    known: Known
    at: datetime

    @property
    def state(self) -> GateState:
        judged, *_ = readiness.assess([self.gate], self.known, self.at).gates
        return judged.state

    @property
    def is_open(self) -> bool:
        return self.state in {GateState.OPEN, GateState.EXPIRED}

    def would_open(self, now: datetime) -> bool:
        """Whether a signature now would settle it: nobody signs what lapses before the visit."""
        known = self.known
        signed = Vouched(ClearanceOutcome.CLEARED, now, None, known.medicine, known.route, _NEWEST)
        after = replace(known, clearances={self.gate.code: (signed,)})
        return replace(self, known=after).state is GateState.MET


_NEWEST = 10**9
"""No version of a text has a higher number."""


def _behind(session: Session, visit: Appointment, now: datetime) -> Iterator[_Behind]:
    version = facts.protocol(session, visit.protocol_version_id)
    if not any(_is_signed(gate) for one in version.visits.values() for gate in one.gates):
        return
    gates = facts.gates_of(session, visit.patient_id)
    strict = {gate.code for gate in gates if not clearances.may_vouch(gate, PATIENT)}
    for ahead, known, at in _ahead(session, visit, now):
        for gate in ahead.gates:
            if _is_signed(gate) and gate.code not in strict:
                yield _Behind(gate, ahead, known, at)


def _is_signed(gate: Gate) -> bool:
    """Whether a gate is one that the patient opens by signing a text."""
    by_text = gate.settled_by is SettledBy.CLEARANCE and GivenFor.TEXT in gate.given_for
    return by_text and clearances.may_vouch(gate, PATIENT)


def _ahead(
    session: Session, visit: Appointment, now: datetime
) -> Iterator[tuple[Visit, Known, datetime]]:
    """The visits of a course that are still to come, in its order; else the visit alone."""
    if visit.course_id is None:
        yield from _booked(session, [visit], now).values()
        return
    course, protocol = facts.course_of(session, visit.course_id)
    if course.status is not CourseStatus.ACTIVE:
        return
    live = facts.live_visits(session, course.id)
    booked = _booked(session, list(live.values()), now)
    before = evidence.before_course(session, course.patient_id, course.id, protocol)
    placed = facts.steps_of(session, course.id)
    outcomes = {one.key: one.outcome for one in placed if one.outcome is not None}
    skipped = {one.key for one in placed if one.skipped_at is not None}
    for one in placed:
        step = protocol.step(one.key)
        if one.id in booked:
            yield booked[one.id]
        elif one.id in live or one.key in skipped:
            continue
        elif rules.belongs(step, protocol, outcomes, skipped) is not False:
            yield step.visit, before(step), now


def _booked(
    session: Session, visits: Sequence[Appointment], now: datetime
) -> Mapping[UUID | None, tuple[Visit, Known, datetime]]:
    """Those of the visits that can still be prepared, by their step."""
    ahead = [one for one in visits if one.status in checklists.AHEAD]
    known = evidence.known(session, ahead) if ahead else {}
    return {
        one.course_step_id: (
            facts.protocol(session, one.protocol_version_id).visits[one.visit],
            known[one.id],
            readiness.moment(one.starts_at, now, under_way=one.progress is not None),
        )
        for one in ahead
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What a patient sends with their name under a text, as they saw it."""

    number: int
    """Which of the consents that they are asked for, from 1."""
    text_id: UUID
    pair: Pair
    name: str
    address: str | None


def sign(session: Session, visit: Appointment, signing: Signing, *, now: datetime) -> Consent:
    """Take in a signature, and settle the gate with it.

    Refuses with `NotFound` for what is not asked, with `Taken` if it was signed already, with
    `WrongStatus` if somebody said no, and with `Stale` if the text is another by now.
    """
    ask = _to_answer(session, visit, signing, now)
    clearance = _clear(session, visit, ask, ClearanceOutcome.CLEARED, now)
    clinic = facts.clinic(session)
    consent = Consent(
        id=uuid7(),
        patient_id=visit.patient_id,
        course_id=visit.course_id,
        appointment_id=visit.id,
        text_id=ask.text.id,
        clearance_id=clearance.id,
        gate=ask.gate,
        medicine=clearance.medicine,
        route=clearance.route,
        name=signing.name,
        language=ask.text.language,
        signed_at=now,
        address=signing.address,
        clinic_name=clinic.name,
        time_zone=clinic.time_zone,
    )
    session.add(consent)
    session.flush()
    return consent


def decline(session: Session, visit: Appointment, signing: Signing, *, now: datetime) -> Clearance:
    """Note that the patient does not agree: the gate is shut, and staff are asked to call.

    Refuses with what `sign` refuses.
    """
    ask = _to_answer(session, visit, signing, now)
    clearance = _clear(session, visit, ask, ClearanceOutcome.REFUSED, now)
    wanted = Wanted(
        kind=TaskKind.CALL_PATIENT,
        subject_id=clearance.id,
        due_at=now + SOON,
        urgent=visit.starts_at - now < timedelta(days=2),
        patient_id=visit.patient_id,
        appointment_id=visit.id,
        note=f"Does not agree to: {ask.text.title}",
    )
    tasks.ask(session, wanted)
    return clearance


def _to_answer(session: Session, visit: Appointment, signing: Signing, now: datetime) -> Ask:
    """What is signed or declined. Of two who send at once, one waits and finds it answered."""
    facts.to_change(session, Patient, visit.patient_id, None)
    asks = asked_of(session, visit, now)
    if not 1 <= signing.number <= len(asks):
        raise NotFound("You are not asked for this any more.")
    ask = asks[signing.number - 1]
    if ask.is_refused:
        raise WrongStatus("Please call us about this.")
    if not ask.is_open:
        raise Taken("There is nothing left to sign here. Thank you.")
    if (ask.text.id, ask.pair) != (signing.text_id, signing.pair):
        raise Stale("The text has changed. Please read it as it is now.")
    return ask


def _clear(
    session: Session, visit: Appointment, ask: Ask, outcome: ClearanceOutcome, now: datetime
) -> Clearance:
    medicine, route = ask.pair
    told = NewClearance(
        gate=ask.gate,
        outcome=outcome,
        cleared_at=now,
        medicine=medicine,
        route=route,
        text_id=ask.text.id,
    )
    return clearances.clear(session, visit.patient_id, told, by=PATIENT, now=now)


def copy_of(consent: Consent, text: ConsentText) -> Signed:
    """What the copy on paper shows: nothing that can change after the signature."""
    return Signed(
        reference=str(consent.id),
        clinic=consent.clinic_name,
        code=text.code,
        number=text.number,
        language=consent.language,
        title=text.title,
        body=text.body,
        name=consent.name,
        what=what_for((consent.medicine, consent.route)),
        signed_at=consent.signed_at,
        time_zone=consent.time_zone,
        address=consent.address,
    )


def what_for(pair: Pair) -> str:
    """A medicine and a route, as people read them."""
    return ", ".join(one.replace("-", " ") for one in pair if one is not None)
