"""A trial: real workers, a real database and real sinks, something that goes wrong, a verdict.

The oracle compares what the sinks took with what the rows say. Random choices come from
FAULT_SEED; FAULTS=whole tries more, and waits where the short run lets time pass in the rows.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from psycopg.rows import class_row

from database.access import Access
from tests.crowd import NOW, Crowd, gather
from tests.fakes import MailServer, SmsServer, mail_server, sms_server
from tests.ledger import Row
from tests.service import Service, running

WHOLE = os.environ.get("FAULTS") == "whole"
whole = pytest.mark.skipif(not WHOLE, reason="in the whole run: make faults")
"""For trials that the short run leaves out, because others are like them or because they wait."""

HOUR = timedelta(hours=1)
A_MINUTE = timedelta(minutes=1)


def many(short: int, whole: int) -> int:
    """How many, in the short run and in the whole one."""
    return whole if WHOLE else short


@dataclass(frozen=True, slots=True)
class Line:
    """A message as its row has it."""

    id: UUID
    state: str
    due_at: datetime
    not_after: datetime
    sent_at: datetime | None
    last_error: str | None


@dataclass
class Trial:
    """A clinic's messages, the workers that carry them, and who takes them."""

    crowd: Crowd
    service: Service
    mail: MailServer
    texts: SmsServer
    rng: random.Random
    refused: set[str] = field(default_factory=set)
    """Errors for which a message may rightly end as failed."""

    def start(self, *names: str, signal_at: str = "") -> None:
        """Start workers; with `signal_at` they kill or freeze themselves there."""
        for name in names:
            self.service.start(name, AFTERGLOW_SIGNAL_AT=signal_at)

    def wait_for_end(self, name: str) -> None:
        """A worker that kills itself has done so."""
        process = self.service.processes.pop(name)
        assert process.wait(30) == -signal.SIGKILL

    def freeze(self, name: str) -> None:
        """Stop a worker where it stands."""
        os.killpg(self.service.processes[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        os.killpg(self.service.processes[name].pid, signal.SIGCONT)

    def frozen(self, name: str) -> bool:
        """Whether a worker has frozen itself."""
        told = Path(f"/proc/{self.service.processes[name].pid}/stat").read_text()
        return told.rsplit(")", 1)[1].split()[0] == "T"

    def count(self, *states: str) -> int:
        """How many messages to patients are in these states."""
        with self.crowd.connect() as connection:
            [(number,)] = connection.execute(
                "SELECT count(*) FROM message WHERE state = ANY(%s) AND recipient = 'patient'",
                [list(states)],
            ).fetchall()
        return int(number)

    def lines(self) -> list[Line]:
        """All messages to patients; what staff are told besides is not counted."""
        with (
            self.crowd.connect() as connection,
            connection.cursor(row_factory=class_row(Line)) as c,
        ):
            return c.execute(
                "SELECT id, state, due_at, not_after, sent_at, last_error FROM message "
                "WHERE recipient = 'patient'"
            ).fetchall()

    def wait_until_said(self, number: int, seconds: float = 60) -> None:
        """So many mails have arrived."""
        self.mail.wait_for(number, seconds)

    def clock_goes_on(self) -> None:
        """Some seconds pass, so that what was put off for a moment is due again."""
        now = datetime.fromisoformat(self.service.clock_file.read_text())
        self.service.set_clock(now + timedelta(seconds=2), swept=False)

    def first_round(self) -> None:
        """Everything that is due has been tried once."""
        now = datetime.fromisoformat(self.service.clock_file.read_text())

        def is_over() -> bool:
            with self.crowd.connect() as connection:
                found = connection.execute(
                    "SELECT 1 FROM message WHERE state = 'sending' "
                    "OR (state = 'scheduled' AND due_at <= %s) LIMIT 1",
                    [now],
                ).fetchone()
            return found is None

        self.service.wait_until(is_over, "the first round", 90)

    def let_leases_end(self) -> None:
        """The dead's leases end, and what is uncertain is old enough to be asked about."""
        self.crowd.run(
            "UPDATE message SET leased_until = now() - interval '1 s' WHERE state = 'sending'", {}
        )
        self.crowd.run(
            "UPDATE message SET released_at = released_at - interval '5 min' "
            "WHERE state IN ('sending', 'uncertain') AND released_at IS NOT NULL",
            {},
        )

    def come_to_rest(self, hours: int = 6) -> None:
        """Nothing fails any more: a healthy worker, and time for every retry."""
        self.service.stop(*(name for name in self.service.processes if name != "web"))
        self.let_leases_end()
        self.start("worker9")
        for _ in range(hours):
            now = datetime.fromisoformat(self.service.clock_file.read_text())
            self.service.set_clock(now + HOUR)
            self.let_leases_end()
            self.service.wait_until(lambda: not self.count("sending"), "what is in hand")
            if self.texts.texts or self.texts.asked:
                self.service.wait_until(lambda: not self._unclear_texts(), "the provider's word")
            if not self.count("scheduled", "sending"):
                return
        raise AssertionError(f"still open: {Counter(line.state for line in self.lines())}")

    def said(self) -> Counter[UUID]:
        """How often each message was taken by a sink."""
        return Counter(
            [
                *(UUID(str(mail["Message-ID"])[1:].split("@")[0]) for mail in self.mail.mails),
                *(UUID(text["StatusCallback"].rsplit("/", 1)[1]) for text in self.texts.texts),
            ]
        )

    def verdict(self, fault: str, said: Counter[UUID] | None = None, *, wrong: int = 0) -> Row:
        """What it came to; fails if anything was lost, doubled or said wrongly."""
        said = self.said() if said is None else said
        lines = self.lines()
        row = Row(
            fault=fault,
            tried=len(lines),
            lost=sum(self._is_lost(line, said[line.id]) for line in lines),
            doubled=sum(times > 1 for times in said.values()),
            wrong=wrong,
            uncertain=sum(line.state == "uncertain" for line in lines),
            late=sum(
                line.state == "expired" or (line.sent_at or line.due_at) - line.due_at > A_MINUTE
                for line in lines
            ),
        )
        states = Counter((line.state, line.last_error) for line in lines)
        assert (row.lost, row.doubled, row.wrong) == (0, 0, 0), (row, states)
        return row

    def _is_lost(self, line: Line, times: int) -> bool:
        match line.state:
            case "sent" | "delivered":
                return times == 0
            case "uncertain" | "superseded":
                return False
            case "failed":
                return line.last_error not in self.refused
            case "expired":
                return times > 0
            case _:
                return True

    def _unclear_texts(self) -> int:
        with self.crowd.connect() as connection:
            [(number,)] = connection.execute(
                "SELECT count(*) FROM message WHERE state = 'uncertain' AND channel = 'sms'"
            ).fetchall()
        return int(number)


@contextmanager
def trial(ways: Access, folder: Path, patients: int, name: str, **more: str) -> Iterator[Trial]:
    """A clinic with so many patients, each with a visit tomorrow, at an hour before `DUE`."""
    with ExitStack() as stack:
        mail = stack.enter_context(mail_server())
        texts = stack.enter_context(sms_server())
        service = stack.enter_context(running(ways, folder, mail, NOW))
        service.more |= {
            "SMS_URL": texts.url,
            "SMS_ACCOUNT": texts.account,
            "SMS_TOKEN": texts.token,
            **more,
        }
        crowd = gather(ways, patients)
        crowd.run(
            "UPDATE clinic SET quiet_from = '00:00', quiet_until = '00:00', "
            "sms_from = '+12125550101'",
            {},
        )
        rng = random.Random(f"{os.environ['FAULT_SEED']} {name}")
        yield Trial(crowd, service, mail, texts, rng)
