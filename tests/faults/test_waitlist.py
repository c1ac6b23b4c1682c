"""Twenty take one offered time at once; workers are killed as offers go out; holds in a rush."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from database.access import Access
from models import Appointment, FreedTime, Message, Offer, Slot, WaitlistEntry, enter_clinic
from models.vocabulary import (
    AppointmentStatus,
    MessageKind,
    MessageState,
    OfferState,
    Role,
    StepKind,
)
from scheduler import courses, facts
from scheduler.authority import Authority
from tests.conftest import clean
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient, make_world
from tests.fakes import mail_server
from tests.faults.conftest import Note
from tests.faults.place import THE_DAY, Place
from tests.faults.trial import many
from tests.ledger import Row
from tests.pages import Page
from tests.service import Service, give_keys, running

NOW = SUNDAY_NOON + timedelta(hours=2)
PATIENTS = 20
FREED = many(20, 100)
KILLS = many(2, 12)
SENDERS = 4
"""Messages that a worker has in hand at a time, and so at a kill."""
STORM = many(25, 100)
WEDNESDAY_9 = MONDAY_9 + 2 * DAY
DESK = Authority("test")

pytestmark = pytest.mark.faults


@pytest.fixture
def service(database: Access, tmp_path: Path) -> Iterator[Service]:
    with mail_server() as mail, running(database, tmp_path, mail, NOW) as service:
        yield service
    clean(database)


def ready(session: Session, **settings: int) -> World:
    """A small clinic that says things at once and at any hour."""
    world = make_world(session)
    settle(session, settle_minutes=0, **settings)
    return world


def settle(session: Session, **settings: int) -> None:
    told = ", ".join(f"{name} = {value}" for name, value in settings.items())
    session.execute(text(f"UPDATE clinic SET quiet_from = '0:00', quiet_until = '0:00', {told}"))


def steps(session: Session, version_id: UUID, number: int) -> list[UUID]:
    """The first step of a course each, of so many new patients."""
    found = []
    for _ in range(number):
        course = courses.open_course(session, make_patient(session)[0], version_id, by=DESK)
        found.append(facts.steps_of(session, course.id)[0].id)
    return found


def busy_version(session: Session) -> UUID:
    """The protocol of `Place`, which the clinic follows by default."""
    return facts.visit_of_kind(session, StepKind.PREPARATION)[0]


def post(service: Service, path: str, told: dict[str, Any], **headers: str) -> Any:
    answer = service.call(Role.SCHEDULER, "POST", path, told, **headers)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def free(service: Service, order: dict[str, Any]) -> None:
    """Book a visit and call it off."""
    visit = post(service, "/appointments", order)
    post(service, f"/appointments/{visit['id']}/cancel", {}, **{"If-Match": '"1"'})


def test_of_twenty_who_accept_at_once_one_wins_and_all_are_told(
    service: Service, service_engine: Engine
) -> None:
    with Session(service_engine) as session:
        world = ready(session, offers_at_once=PATIENTS)
        waiting = steps(session, world.protocol_version_id, PATIENTS)
        session.commit()
        give_keys(service, session, world.clinic_id, NOW)
    service.start("web")
    for step in waiting:
        post(service, "/waitlist", {"course_step_id": str(step)})
    order = {
        "patient_id": str(world.patient_id),
        "step_kind": "preparation",
        "starts_at": WEDNESDAY_9.isoformat(),
    }
    free(service, order)
    service.start("worker")
    offers = service.mail.wait_for(PATIENTS)
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(Page, offers))
    begin = threading.Barrier(PATIENTS)

    def take(page: Page) -> tuple[int, str]:
        begin.wait(30)
        answer = page.press("offer/accept")
        told = "yours" if "The time is yours" in answer.text else "?"
        return answer.status_code, "gone" if "somebody was a little faster" in answer.text else told

    with ThreadPoolExecutor(PATIENTS) as pool:
        answers = Counter(pool.map(take, pages))

    assert Counter(told for _, told in answers.elements()) == {"yours": 1, "gone": PATIENTS - 1}
    assert {status for status, _ in answers} <= {200, 422}
    with Session(service_engine) as session:
        enter_clinic(session, world.clinic_id)
        states = Counter(session.scalars(select(Offer.state)))
        assert states == {OfferState.ACCEPTED: 1, OfferState.LOST: PATIENTS - 1}
        booked = select(Appointment).where(Appointment.status == AppointmentStatus.BOOKED)
        [visit] = session.scalars(booked)
        assert visit.course_step_id in waiting
        assert set(session.scalars(select(Slot.appointment_id))) == {visit.id}
        still = select(func.count()).where(WaitlistEntry.state == "waiting")
        assert session.scalar(still) == PATIENTS - 1
    # an offer each, and then one is told what is booked and nineteen that the time has gone
    mails = service.mail.wait_for(2 * PATIENTS)
    subjects = Counter(str(mail["Subject"]).split(":")[0] for mail in mails)
    assert subjects["This time has gone"] == PATIENTS - 1
    gone = {str(mail["To"]) for mail in mails if "has gone" in str(mail["Subject"])}
    assert len(gone) == PATIENTS - 1
    assert "job.failed" not in service.log.read_text()


def test_a_worker_that_is_killed_loses_no_offer_and_doubles_none(
    service: Service, service_engine: Engine, note: Note
) -> None:
    with Session(service_engine) as session:
        place = Place(session, service, FREED)
        settle(session, settle_minutes=0)
        version_id = busy_version(session)
        waiting = steps(session, version_id, FREED)
        session.commit()
        service.start("web")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: free(service, place.order(n)), range(FREED)))
            told = [{"course_step_id": str(step)} for step in waiting]
            list(pool.map(lambda one: post(service, "/waitlist", one), told))

        def offered() -> int:
            session.rollback()
            enter_clinic(session, place.clinic_id)
            return session.scalar(select(func.count()).select_from(Offer)) or 0

        for kill in range(KILLS):
            service.start("worker")
            enough = (kill + 1) * FREED // (KILLS + 1)
            service.wait_until(lambda enough=enough: offered() >= enough, "offers to go out")
            service.kill("worker")
        service.start("worker")
        service.wait_until(lambda: offered() == FREED, "all to be offered")
        let_leases_end(service, session)

        offers = session.scalars(select(Offer)).all()
        freed = set(session.scalars(select(FreedTime.id)))
        assert Counter(one.freed_time_id for one in offers) == dict.fromkeys(freed, 1)
        assert len({one.patient_id for one in offers}) == len(offers) == FREED
        said = session.scalars(select(Message).where(Message.kind == MessageKind.OFFER)).all()
        assert Counter(one.appointment_id for one in said) == {
            one.appointment_id: 1 for one in offers
        }
        kept = select(Slot.appointment_id).distinct()
        assert set(session.scalars(kept)) == {one.appointment_id for one in offers}
        arrived = Counter(
            str(m["Message-ID"]).strip("<>").split("@")[0] for m in service.mail.mails
        )
        row = Row(
            fault=f"offers to those who wait: {KILLS} kills of the worker",
            tried=len(said),
            lost=sum(one.state is MessageState.SENT and not arrived[str(one.id)] for one in said),
            doubled=sum(arrived[str(one.id)] > 1 for one in said),
            wrong=0,
            uncertain=sum(one.state is MessageState.UNCERTAIN for one in said),
            late=0,
        )
        assert {one.state for one in said} <= {MessageState.SENT, MessageState.UNCERTAIN}
    note(row)
    assert (row.lost, row.doubled) == (0, 0)
    assert row.uncertain <= SENDERS * KILLS


def let_leases_end(service: Service, session: Session) -> None:
    """What the dead held is taken back; time passes in the rows."""

    def is_settled() -> bool:
        session.rollback()
        session.execute(
            text(
                "UPDATE message SET leased_until = now() - interval '1 s' "
                "WHERE state = 'sending' AND leased_until < now() + interval '50 s'"
            )
        )
        session.commit()
        open_states = (MessageState.SENDING, MessageState.SCHEDULED)
        offers = select(Message.id).where(
            Message.kind == MessageKind.OFFER, Message.state.in_(open_states)
        )
        return session.scalars(offers).first() is None

    service.wait_until(is_settled, "every offer to be said")


def test_of_many_holds_at_once_a_caller_gets_as_many_as_the_clinic_allows(
    service: Service, service_engine: Engine
) -> None:
    most, tried = 5, 20
    with Session(service_engine) as session:
        place = Place(session, service, tried)
        settle(session, holds_per_caller=most)
        session.commit()
    service.start("web")
    begin = threading.Barrier(tried)

    def hold(number: int) -> tuple[int, str]:
        begin.wait(30)
        answer = service.call(Role.SCHEDULER, "POST", "/appointments/hold", place.order(number))
        return answer.status_code, answer.json().get("type", "held")

    with ThreadPoolExecutor(tried) as pool:
        answers = Counter(pool.map(hold, range(tried)))

    assert answers == {
        (201, "held"): most,
        (409, "/problems/too-many-holds"): tried - most,
    }


@dataclass
class Storm:
    """What callers do at random. Each act returns the status of its answer."""

    service: Service
    place: Place
    rng: Random

    def act(self, path: str, what: str, told: dict[str, Any] | None = None) -> int:
        etag = self.service.call(Role.SCHEDULER, "GET", path).headers["ETag"]
        answer = self.service.call(
            Role.SCHEDULER, "POST", f"{path}/{what}", told or {}, **{"If-Match": etag}
        )
        return answer.status_code

    def cancel(self, visit: Any) -> int:
        return self.act(f"/appointments/{visit['id']}", "cancel")

    def move(self, visit: Any) -> int:
        told = {"starts_at": (THE_DAY + 7 * DAY).isoformat()}
        return self.act(f"/appointments/{visit['id']}", "reschedule", told)

    def standing(self) -> list[Any]:
        found = self.service.call(Role.SCHEDULER, "GET", "/offers?state=standing")
        return list(found.json()["items"])

    def answer(self, _: Any) -> int:
        found = self.standing()
        what = self.rng.choice(["accept", "accept", "decline"])
        return self.act(f"/offers/{self.rng.choice(found)['id']}", what) if found else 0

    def withdraw(self, entry: Any) -> int:
        return self.act(f"/waitlist/{entry['id']}", "withdraw")

    def hold(self, number: int) -> int:
        path, told = "/appointments/hold", self.place.order(number)
        return self.service.call(Role.SCHEDULER, "POST", path, told).status_code


def test_everybody_does_everything_at_once(service: Service, service_engine: Engine) -> None:
    """Visits called off, moved and held, offers taken and let go, wishes withdrawn: no 5xx."""
    with Session(service_engine) as session:
        place = Place(session, service, STORM)
        settle(session, settle_minutes=0, offers_at_once=2)
        waiting = steps(session, busy_version(session), STORM)
        session.commit()
    service.start("web")
    visits = [post(service, "/appointments", place.order(n)) for n in range(STORM)]
    entries = [post(service, "/waitlist", {"course_step_id": str(step)}) for step in waiting]
    service.start("worker")
    storm = Storm(service, place, Random(os.environ["FAULT_SEED"]))

    assert {storm.cancel(one) for one in visits[::2]} == {200}
    service.wait_until(lambda: len(storm.standing()) > 5, "offers to stand")
    with ThreadPoolExecutor(8) as pool:
        acts = [pool.submit(storm.cancel, one) for one in visits[1::4]]
        acts += [pool.submit(storm.answer, None) for _ in range(3 * STORM)]
        acts += [pool.submit(storm.move, one) for one in visits[3::4]]
        acts += [pool.submit(storm.withdraw, one) for one in entries[::5]]
        acts += [pool.submit(storm.hold, number) for number in range(0, STORM, 4)]
        codes = Counter(one.result() for one in acts)

    assert max(codes) < 500, codes
    assert "job.failed" not in service.log.read_text()
    with Session(service_engine) as session:
        enter_clinic(session, place.clinic_id)
        assert_served_once(session)


def assert_served_once(session: Session) -> None:
    """Who accepted has one visit and waits no more; nobody else has either."""
    accepted = session.scalars(select(Offer.entry_id).where(Offer.state == OfferState.ACCEPTED))
    found = Counter(accepted)
    assert found
    assert set(found.values()) == {1}
    booked = Counter(
        session.scalars(
            select(Appointment.course_step_id).where(
                Appointment.status == AppointmentStatus.BOOKED,
                Appointment.course_step_id.is_not(None),
            )
        )
    )
    served = select(WaitlistEntry).where(WaitlistEntry.state == "served")
    entries = {one.id: one.course_step_id for one in session.scalars(served)}
    assert entries.keys() == found.keys()
    assert booked == dict.fromkeys(entries.values(), 1)
