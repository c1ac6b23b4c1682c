"""The mail server and the provider of text messages fail in every way that they have."""

import base64
import hashlib
import hmac
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID

import pytest
import requests

from tests.crowd import DUE
from tests.faults.conftest import Begin, Note
from tests.faults.trial import Trial, many, whole

pytestmark = pytest.mark.faults


def sent_to(mail: EmailMessage) -> str:
    return str(mail["Message-ID"])


class TestMail:
    def test_down_for_an_hour(self, begin: Begin, note: Note) -> None:
        number = many(20, 300)
        trial = begin(number)
        trial.crowd.plan(number)
        trial.mail.close()
        trial.start("worker1", "worker2")
        for minutes in range(0, 61, 5):
            trial.service.set_clock(DUE + timedelta(minutes=minutes))
        assert trial.count("scheduled") == number
        trial.mail.open()

        trial.come_to_rest()

        row = trial.verdict("mail server down for an hour")
        assert (trial.count("sent"), row.uncertain) == (number, 0)
        note(row)

    @whole
    def test_refuses_for_ever(self, begin: Begin, note: Note) -> None:
        number = many(20, 300)
        trial = begin(number)
        trial.crowd.plan(number)
        trial.refused = {"smtp-550"}
        trial.mail.welcome = lambda address: (
            "550 no such person"
            if address.startswith("crowd") and trial.rng.random() < 0.5
            else "250 OK"
        )
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.first_round()

        trial.come_to_rest()

        row = trial.verdict("mail server refuses half of the addresses for ever")
        assert 0 < trial.count("failed") < number
        assert len(trial.crowd.calls_to_make()) == trial.count("failed")  # people are told to call
        note(row)

    def test_greylists(self, begin: Begin, note: Note) -> None:
        number = many(20, 300)
        trial = begin(number)
        trial.crowd.plan(number)
        tries: Counter[str] = Counter()

        def later(mail: EmailMessage) -> str:
            tries[sent_to(mail)] += 1
            return "250 OK" if tries[sent_to(mail)] > 1 else "451 4.7.1 Greylisted, try again"

        trial.mail.answer = later
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.first_round()

        trial.come_to_rest()

        row = trial.verdict("mail server greylists")
        assert (trial.count("sent"), row.uncertain) == (number, 0)
        assert set(tries.values()) == {2}
        note(row)

    @whole
    def test_is_slow(self, begin: Begin, note: Note) -> None:
        number = many(12, 200)
        trial = begin(number)
        trial.crowd.plan(number)
        trial.mail.pause = 0.5
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1", "worker2")
        trial.first_round()

        trial.come_to_rest()

        row = trial.verdict("mail server slow: half a second for each")
        assert (trial.count("sent"), row.uncertain) == (number, 0)
        note(row)

    @pytest.mark.parametrize("answer", ["gone", "drop"])
    def test_closes_in_the_midst(self, begin: Begin, note: Note, answer: str) -> None:
        number = many(20, 300)
        trial = begin(number)
        trial.crowd.plan(number)
        trial.mail.answer = lambda _: answer if trial.rng.random() < 0.3 else "250 OK"
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.first_round()

        trial.come_to_rest()

        how = {"gone": "closes in DATA, takes nothing", "drop": "takes the mail, closes unanswered"}
        row = trial.verdict(f"mail server {how[answer]}")
        assert 0 < row.uncertain == number - trial.count("sent")
        note(row)

    @whole
    def test_takes_the_mail_and_times_out(self, begin: Begin, note: Note) -> None:
        trial = begin(60)
        trial.crowd.plan(60)
        trial.mail.answer = lambda _: "hang" if trial.rng.random() < 0.1 else "250 OK"
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.first_round()

        trial.come_to_rest()

        row = trial.verdict("mail server takes the mail, then times out")
        assert 0 < row.uncertain == 60 - trial.count("sent")
        note(row)

    @whole
    def test_sometimes_busy(self, begin: Begin, note: Note) -> None:
        number = many(40, 1000)
        trial = begin(min(number, 1000))
        trial.crowd.plan(number)
        trial.mail.answer = lambda _: trial.rng.choice(
            ["250 OK", "421 too busy", "451 later", "452 full"]
        )
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1", "worker2")
        for minutes in range(0, 120, 10):
            trial.service.set_clock(DUE + timedelta(minutes=minutes))
        trial.mail.answer = lambda _: "250 OK"

        trial.come_to_rest()

        row = trial.verdict("mail server answers 421, 451 and 452 to three in four")
        assert (trial.count("sent"), row.uncertain) == (number, 0)
        note(row)


class TestTexts:
    @pytest.mark.parametrize(
        ("answer", "how"),
        [
            pytest.param("429", "429", marks=whole),
            pytest.param("503", "503", marks=whole),
            ("500", "500, nothing taken"),
            ("lost", "takes it and closes unanswered"),
            pytest.param("refuse-late", "closes before it takes it", marks=whole),
        ],
    )
    def test_answers(self, begin: Begin, note: Note, answer: str, how: str) -> None:
        number = many(20, 300)
        trial = begin(number)
        trial.crowd.plan(number, channel="sms")
        trial.texts.answer = lambda _: answer if trial.rng.random() < 0.4 else "201"
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.service.wait_until(
            lambda: (
                not any(line.state == "scheduled" and line.due_at <= DUE for line in trial.lines())
            ),
            "the first round",
        )
        trial.texts.answer = lambda _: "201"

        trial.come_to_rest()

        row = trial.verdict(f"text provider: {how}")
        assert (trial.count("sent"), row.uncertain) == (number, 0)
        note(row)

    @whole
    def test_times_out(self, begin: Begin, note: Note) -> None:
        trial = begin(40)
        trial.crowd.plan(40, channel="sms")
        trial.texts.answer = lambda _: "hang" if trial.rng.random() < 0.1 else "201"
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.first_round()

        trial.come_to_rest()

        row = trial.verdict("text provider: takes it and times out")
        assert (trial.count("sent"), row.uncertain) == (40, 0)
        note(row)

    def test_its_callbacks_come_late_twice_and_out_of_order(self, begin: Begin, note: Note) -> None:
        number = many(20, 200)
        trial = begin(number)
        trial.crowd.plan(number, channel="sms")
        trial.texts.answer = lambda _: "lost" if trial.rng.random() < 0.5 else "201"
        trial.service.set_clock(DUE, swept=False)
        trial.service.start("web")
        trial.start("worker1")
        trial.service.wait_until(lambda: not trial.count("scheduled", "sending"), "the texts")
        assert trial.count("uncertain")
        words = [
            (text, status)
            for text in trial.texts.texts
            for status in ("sent", "delivered", "sent", "delivered", "queued")
        ]
        trial.rng.shuffle(words)
        for text, status in words:
            tell(trial, text, status)

        assert trial.count("delivered") == number  # whatever was in doubt is not any more
        trial.come_to_rest()
        note(trial.verdict("text provider: callbacks late, twice, out of order"))


def tell(trial: Trial, text: dict[str, str], status: str) -> None:
    """A signed callback, as the provider makes it."""
    url = text["StatusCallback"]
    form = {"MessageSid": text["sid"], "MessageStatus": status, "To": text["To"]}
    signed = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    digest = hmac.new(trial.texts.token.encode(), signed.encode(), hashlib.sha1).digest()
    answer = requests.post(
        url,
        data=form,
        headers={"X-Twilio-Signature": base64.b64encode(digest).decode()},
        timeout=20,
    )
    assert answer.status_code in {200, 204}, answer.text


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A disk of that size."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_disk_of_the_file_outbox_is_full(begin: Begin, note: Note, tmp_path: Path) -> None:
    number = many(40, 200)
    with small_disk(tmp_path / "disk", 4096) as disk:
        trial = begin(number, SMTP_HOST="", AFTERGLOW_VAR=str(disk))
        trial.crowd.plan(number)
        stuffing = disk / "stuffing"
        stuffing.write_bytes(b"x" * (4096 - 64) * 1024)
        trial.service.set_clock(DUE, swept=False)
        trial.start("worker1")
        trial.first_round()
        written = len(list((disk / "outbox").glob("*.eml")))
        assert written < number
        assert trial.count("scheduled") == number - written
        stuffing.unlink()

        trial.come_to_rest()

        said = Counter(
            UUID(file.stem.split("confirm-request-")[1]) for file in (disk / "outbox").glob("*.eml")
        )
        row = trial.verdict("disk full in the file outbox", said)
        assert (trial.count("sent"), row.uncertain) == (number, 0)
        note(row)
