"""Workers are killed as they tell other systems: nothing is lost, what comes twice has one id."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import WebhookAttempt, WebhookDelivery
from models.vocabulary import DeliveryState, Role
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World
from tests.integration.conftest import certificate, served
from tests.receivers import Receiver, receiver
from tests.service import Service, give_keys

pytestmark = pytest.mark.faults

__all__ = ["certificate", "served"]  # fixtures


@pytest.fixture
def to(
    service: Service,
    certificate: tuple[Path, Path],
    served: ssl.SSLContext,
    committed: Session,
    committed_world: World,
) -> Iterator[Receiver]:
    give_keys(service, committed, committed_world.clinic_id, SUNDAY_NOON)
    service.more["WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    service.more["SSL_CERT_FILE"] = str(certificate[0])
    with receiver(served) as there:
        service.start("web")
        yield there


def subscribe(service: Service, to: Receiver) -> Any:
    told = {"url": to.url, "event_types": ["appointment.*"]}
    made = service.call(Role.ADMIN, "POST", "/webhooks", told)
    assert made.status_code == 201, made.text
    return made.json()


def book(service: Service, world: World, day: int = 0) -> str:
    told = {
        "patient_id": str(world.patient_id),
        "step_kind": "preparation",
        "starts_at": (MONDAY_9 + day * DAY).isoformat(),
    }
    made = service.call(Role.SCHEDULER, "POST", "/appointments", told)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def let_lease_end(session: Session) -> None:
    session.rollback()
    session.execute(text("UPDATE webhook_delivery SET leased_until = now() WHERE attempts = 1"))
    session.commit()


def states(session: Session) -> list[DeliveryState]:
    session.rollback()
    return list(session.scalars(select(WebhookDelivery.state)))


@pytest.mark.parametrize(("point", "heard"), [("webhook-claimed", 0), ("webhook-sent", 1)])
def test_killed_between_it_is_told_all_the_same(
    service: Service,
    to: Receiver,
    committed: Session,
    committed_world: World,
    point: str,
    heard: int,
) -> None:
    made = subscribe(service, to)
    book(service, committed_world)
    service.start("worker", AFTERGLOW_SIGNAL_AT=f"{point}:SIGKILL")
    service.wait_until(lambda: service.processes["worker"].poll() is not None, "the worker to die")
    service.processes.pop("worker")
    assert (len(to.heard), states(committed)) == (heard, [DeliveryState.SENDING])

    let_lease_end(committed)
    service.start("worker2")
    service.wait_until(
        lambda: states(committed) == [DeliveryState.DELIVERED], "the delivery to come through"
    )

    assert len(to.heard) == heard + 1
    assert len({one.id for one in to.heard}) == 1
    assert to.heard[-1].verified(made["secret"])["type"] == "appointment.booked"
    assert committed.scalars(select(WebhookAttempt.status)).all() == [204]


def test_what_happens_is_told_at_once_and_while_a_receiver_hangs_to_others(
    service: Service, to: Receiver, committed: Session, committed_world: World
) -> None:
    subscribe(service, to)
    to.answer = lambda _asked: not to.over.wait(60)
    with receiver() as quick:
        subscribe(service, quick)
        service.start("worker")
        visits = {book(service, committed_world, day) for day in range(3)}
        service.wait_until(lambda: len(quick.heard) == 3, "the other to hear of all", 8)

        assert len(to.heard) == 1
        told = [json.loads(one.body)["data"]["appointment_id"] for one in quick.heard]
        assert sorted(told) == sorted(visits)
        assert len({one.id for one in quick.heard}) == 3
        to.over.set()
        to.answer = lambda _asked: False
        service.wait_until(
            lambda: set(states(committed)) == {DeliveryState.DELIVERED}, "all to come through"
        )
        service.stop("worker")
