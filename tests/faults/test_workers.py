"""Workers are killed, frozen and made to wait, at every point of a message's way."""

import threading
import time
from datetime import timedelta
from email.message import EmailMessage
from uuid import UUID

import pytest

from notifications.delivery import ALARM_BEFORE
from tests.crowd import DUE
from tests.faults.conftest import Begin, Note
from tests.faults.trial import HOUR, Trial, many, whole

pytestmark = pytest.mark.faults

POINTS = {
    "claimed": "SIGKILL between claim and release",
    "released": "SIGKILL between release and hand-over",
    "handed-over": "SIGKILL between hand-over and settle",
}


def many_killed(trial: Trial, point: str, times: int) -> None:
    """One worker after the other dies at that point; what is left is for the next."""
    trial.service.set_clock(DUE, swept=False)
    for number in range(times):
        trial.start(f"worker{number}", signal_at=f"{point}:SIGKILL")
        trial.wait_for_end(f"worker{number}")
        trial.let_leases_end()


@pytest.mark.parametrize("point", POINTS)
def test_a_mails_worker_dies(begin: Begin, note: Note, point: str) -> None:
    trial = begin(many(24, 200))
    trial.crowd.plan(many(24, 200))
    many_killed(trial, point, many(2, 6))

    trial.come_to_rest()

    row = trial.verdict(f"mail: {POINTS[point]}")
    # Up to four letters are in hand side by side; a mail server cannot be asked about them.
    assert row.uncertain <= (0 if point == "claimed" else 4 * many(2, 6))
    assert (row.uncertain > 0) == (point != "claimed")
    note(row)


@pytest.mark.parametrize("point", ["released", "handed-over"])
def test_a_text_messages_worker_dies(begin: Begin, note: Note, point: str) -> None:
    trial = begin(many(24, 200))
    trial.crowd.plan(many(24, 200), channel="sms")
    many_killed(trial, point, many(2, 6))

    trial.come_to_rest()

    row = trial.verdict(f"text: {POINTS[point]}, the provider is asked")
    assert row.uncertain == 0
    assert trial.texts.asked
    note(row)


def test_a_worker_dies_while_it_settles(begin: Begin, note: Note) -> None:
    trial = begin(many(6, 40))
    trial.crowd.plan(many(6, 40))
    held = threading.Event()
    died = threading.Event()

    def hold_the_row(mail: EmailMessage) -> str:
        """Keep the worker from writing down what it is about to hear."""
        message_id = UUID(str(mail["Message-ID"])[1:].split("@")[0])
        if not held.is_set():
            held.set()
            threading.Thread(target=hold, args=(message_id,)).start()
            assert locked.wait(10)
        return "250 OK"

    locked = threading.Event()

    def hold(message_id: UUID) -> None:
        with trial.crowd.owner() as connection, connection.transaction():
            connection.execute("SELECT 1 FROM message WHERE id = %s FOR UPDATE", [message_id])
            locked.set()
            died.wait(30)

    trial.mail.answer = hold_the_row
    trial.service.set_clock(DUE, swept=False)
    trial.start("worker1")
    trial.service.wait_until(lambda: trial.crowd.waiting_for_locks(), "a settle that waits")
    trial.service.kill("worker1")
    died.set()

    trial.come_to_rest()

    note(trial.verdict("mail: SIGKILL while it settles"))


def test_one_of_three_workers_freezes_before_the_release(begin: Begin, note: Note) -> None:
    trial = begin(many(30, 300))
    trial.crowd.plan(many(30, 300))
    trial.service.set_clock(DUE, swept=False)
    trial.start("worker1", signal_at="claimed:SIGSTOP")
    trial.service.wait_until(lambda: trial.frozen("worker1"), "a frozen worker")
    assert trial.count("sending")
    trial.let_leases_end()
    trial.start("worker2", "worker3")
    trial.service.wait_until(lambda: trial.count("sent") == many(30, 300), "the others' work")
    trial.thaw("worker1")

    trial.come_to_rest()

    row = trial.verdict("one of 3 workers frozen past its lease, then thawed: claimed")
    assert row.uncertain == 0
    note(row)


@whole
@pytest.mark.parametrize("channel", ["email", "sms"])
def test_one_of_three_workers_freezes_after_the_release(
    begin: Begin, note: Note, channel: str
) -> None:
    trial = begin(60)
    trial.crowd.plan(60, channel=channel)
    trial.service.set_clock(DUE, swept=False)
    trial.start("worker1", signal_at="released:SIGSTOP")
    trial.service.wait_until(lambda: trial.frozen("worker1"), "a frozen worker")
    trial.start("worker2", "worker3")
    time.sleep(70)  # a lease is machine time, and the frozen one's clock goes on as well
    trial.thaw("worker1")

    trial.come_to_rest()

    row = trial.verdict(f"one of 3 workers frozen past its lease, then thawed: released, {channel}")
    assert row.uncertain <= 4
    note(row)


@whole
def test_workers_die_at_random(begin: Begin, note: Note) -> None:
    number = many(150, 1000)
    trial = begin(number)
    trial.crowd.plan(number)
    trial.mail.pause = 0.02
    names = ("worker1", "worker2", "worker3")
    trial.service.set_clock(DUE, swept=False)
    trial.start(*names)
    kills = 0
    while trial.count("scheduled"):
        time.sleep(trial.rng.uniform(0.3, 3.0))
        trial.clock_goes_on()
        name = trial.rng.choice(names)
        trial.service.kill(name)
        kills += 1
        trial.start(name)

    trial.come_to_rest()

    row = trial.verdict("mail: 3 workers, SIGKILL at random")
    assert row.uncertain <= 4 * kills
    note(row)


def test_ten_thousand_are_due_after_a_day_of_downtime(begin: Begin, note: Note) -> None:
    number = many(500, 10_000)
    trial = begin(many(250, 2500))
    trial.crowd.plan_apart(number, DUE - 24 * HOUR, 24 * HOUR / number)
    trial.service.set_clock(DUE, swept=False)
    trial.start("worker1", "worker2")

    trial.service.wait_until(
        lambda: not trial.count("scheduled", "sending"), "what was due", many(60, 240)
    )

    row = trial.verdict(f"{number:,} due at once after a day of downtime")
    told_too_late = {line.id for line in trial.lines() if line.not_after < DUE}
    assert trial.count("expired") == len(told_too_late) > 0
    trial.service.wait_until(
        lambda: told_too_late <= trial.crowd.calls_to_make(), "people to be told to call", 60
    )
    # Also about those that were close to being too late when somebody looked.
    alarmed = {line.id for line in trial.lines() if line.not_after < DUE + ALARM_BEFORE}
    assert trial.crowd.calls_to_make() <= alarmed
    assert trial.count("sent") == number - len(told_too_late)
    assert row.uncertain == 0
    note(row)


@whole
@pytest.mark.parametrize("step", [timedelta(minutes=10), -HOUR], ids=["forward", "back"])
def test_the_clock_is_stepped(begin: Begin, note: Note, step: timedelta) -> None:
    number = many(40, 400)
    trial = begin(number)
    trial.crowd.plan_apart(number, DUE, timedelta(seconds=30))
    trial.start("worker1", "worker2")
    now = DUE
    for _ in range(10):
        trial.service.set_clock(now, swept=False)
        now += number * timedelta(seconds=3)
        trial.service.wait_until(lambda: not trial.count("sending"), "what is in hand")
        trial.service.set_clock(now + step, swept=False)

    trial.come_to_rest()

    way = "forward 10 min" if step > timedelta(0) else "back 1 h"
    row = trial.verdict(f"clock stepped {way}, ten times, and returned")
    assert row.uncertain == 0
    note(row)
