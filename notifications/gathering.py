"""Gathering: what of the claimed messages is said now, and what goes out in one letter.

For each clinic, in one transaction: read what the messages speak of; end those whose moment
does not ask for them; put off those found at night; let a patient have one message a day of
those that can wait, none of them during a visit, with everything in it that is due that day;
make the links.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from models.vocabulary import Channel, MessageKind, Recipient, TokenPurpose
from notifications import fallback, links, queue, reading
from notifications.cadence import ASSURING, CALM, TOGETHER, audible
from notifications.queue import Claimed, End, Result
from notifications.reading import Letter
from notifications.templates import Own
from notifications.wall_time import at_wall_time

log = structlog.get_logger()

LINK_LASTS = timedelta(days=7)
"""After the end of the visit."""
ASK_AGAIN = timedelta(minutes=5)
"""So long what may not be said of a suspended visit waits before it is looked at again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What gathering needs to be told from outside."""

    page: Callable[[str], str]
    """Turns a link's token into an address."""
    escort_page: Callable[[UUID, UUID], str]
    """Where an escort of a clinic says that they will come."""
    account_page: Callable[[str], str]
    """Where somebody chooses a password with such a token."""
    unready: Callable[[UUID, Sequence[UUID]], set[UUID]]
    """Which of a clinic's visits have a gate that is shut."""
    broken: Callable[[Claimed], Result]
    """What becomes of a message that cannot be read."""


@dataclass(slots=True)
class Group:
    """Messages that go out as one letter to one reader; mostly there is one."""

    messages: list[Claimed]
    letters: list[Letter]
    own: Own
    pages: dict[UUID, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Claimed]:
        return iter(self.messages)

    @property
    def first(self) -> Claimed:
        return self.messages[0]

    @property
    def reader_version(self) -> int:
        return self.letters[0].reader_version

    @property
    def to_patient(self) -> bool:
        return self.letters[0].recipient is Recipient.PATIENT


def put_together(
    connection: Connection[Any],
    batch: Sequence[Claimed],
    now: datetime,
    ask: Ask,
) -> list[Group]:
    """Make letters of claimed messages; what is not said now is settled here."""
    groups: list[Group] = []
    ordered = sorted(batch, key=lambda one: one.clinic_id)
    for clinic_id, messages in groupby(ordered, key=lambda one: one.clinic_id):
        told = list(messages)
        queue.enter(connection, clinic_id)
        try:
            groups += _together(connection, now, ask, told)
        except Exception as error:  # one of them is broken: the others go out
            if isinstance(error, psycopg.OperationalError):
                raise  # the database is away
            groups += _one_by_one(connection, now, ask, told)
    return sorted(groups, key=lambda group: (group.first.due_at, group.first.id))


def _together(
    connection: Connection[Any], now: datetime, ask: Ask, messages: list[Claimed]
) -> list[Group]:
    with connection.transaction():
        return _Gathering(connection, now, ask, messages[0].clinic_id).of(messages)


def _one_by_one(
    connection: Connection[Any], now: datetime, ask: Ask, messages: list[Claimed]
) -> list[Group]:
    groups: list[Group] = []
    for one in messages:
        try:
            groups += _together(connection, now, ask, [one])
        except Exception as error:
            if isinstance(error, psycopg.OperationalError):
                raise
            log.exception("message.broken", message_id=str(one.id), kind=one.kind)
            with connection.transaction():
                states = queue.settle(connection, [ask.broken(one)], now)
                fallback.after(connection, states, now)
    return groups


@dataclass(slots=True)
class _Gathering:
    connection: Connection[Any]
    now: datetime
    ask: Ask
    clinic_id: UUID
    results: list[Result] = field(default_factory=list)
    in_visits: Mapping[UUID, datetime] = field(default_factory=dict)
    """Until when patients are in a visit, of those who are."""

    def of(self, messages: list[Claimed]) -> list[Group]:
        calm = sorted({one.recipient_id for one in messages if _may_wait(one) or _joins(one)})
        if calm:
            queue.lock_readers(self.connection, calm)
            self.in_visits = reading.in_visits(self.connection, calm, self.now)
        letters = reading.letters(self.connection, [one.id for one in messages])
        wanted = {one.id: one.conditions for one in messages}
        unmet = reading.unmet(
            self.connection,
            list(letters.values()),
            wanted,
            lambda ids: self.ask.unready(self.clinic_id, ids),
        )
        said = [
            one for one in messages if self._is_said_now(one, letters.get(one.id), one.id in unmet)
        ]
        own = reading.wordings(self.connection) if said else {}
        groups = self._groups(said, letters, own)
        self._end()
        self._make_links(groups)
        return groups

    def _is_said_now(self, message: Claimed, letter: Letter | None, is_unmet: bool) -> bool:
        """Whether it is; if not, note what becomes of it."""
        if letter is None:
            self._note(message, End.SUPERSEDED, code="gone")
        elif is_unmet or self._is_over(message, letter):
            self._note(message, End.SUPERSEDED, code="not-needed")
        elif message.not_after < self.now:
            self._note(message, End.EXPIRED)
        elif letter.silent:
            self._note(message, End.SUPPRESSED)
        elif not letter.address or (letter.channel is Channel.SMS and not letter.sms_from):
            self._note(message, End.FAILED, code="no-address")
        elif (until := self._waits_until(message, letter)) is not None:
            self._note(message, End.PUT_BACK, due_at=until)
        else:
            due_at = audible(
                self.now,
                letter.quiet,
                earliest=self.now,
                not_after=message.not_after,
                kind=letter.kind,
            )
            if due_at == self.now:
                return True
            end = End.EXPIRED if due_at is None else End.PUT_BACK
            self._note(message, end, due_at=due_at)
        return False

    def _is_over(self, message: Claimed, letter: Letter) -> bool:
        """Whether the visit is suspended until it is too late to say this."""
        return _is_out_of_place(message, letter) and self.now + ASK_AGAIN > message.not_after

    def _waits_until(self, message: Claimed, letter: Letter) -> datetime | None:
        """No telephone rings in a visit for what can wait, nor for what may not take place."""
        if _is_out_of_place(message, letter):
            return self.now + ASK_AGAIN
        until = self.in_visits.get(message.recipient_id) if _may_wait(message) else None
        return until if until is not None and until <= message.not_after else None

    def _groups(self, said: list[Claimed], letters: Mapping[UUID, Letter], own: Own) -> list[Group]:
        heard = self._heard_today(said, letters)
        groups: list[Group] = []
        open_groups: dict[tuple[UUID, bool], Group] = {}
        for message in said:
            letter = letters[message.id]
            if message.recipient_id in heard and self._waits_a_day(message, letter):
                continue
            if not (_may_wait(message) or _joins(message)):
                groups.append(Group([message], [letter], own))
                continue
            key = message.recipient_id, _may_wait(message)
            if key in open_groups:
                open_groups[key].messages.append(message)
                open_groups[key].letters.append(letter)
            else:
                open_groups[key] = Group([message], [letter], own)
                groups.append(open_groups[key])
        for (_, can_wait), group in open_groups.items():
            self._add_what_is_due(group, can_wait)
        return groups

    def _heard_today(self, said: list[Claimed], letters: Mapping[UUID, Letter]) -> set[UUID]:
        asked = {
            one.recipient_id: _day_of(self.now, letters[one.id])[0]
            for one in said
            if _may_wait(one)
        }
        if not asked:
            return set()
        token = said[0].claim_token
        return queue.calm_today(self.connection, list(asked.items()), token)

    def _waits_a_day(self, message: Claimed, letter: Letter) -> bool:
        """Put off what can wait until tomorrow, unless it would then be too late."""
        if not _may_wait(message):
            return False
        tomorrow = _day_of(self.now, letter)[1]
        morning = audible(
            tomorrow, letter.quiet, earliest=tomorrow, not_after=message.not_after, kind=letter.kind
        )
        if morning is None or morning > message.not_after or morning < tomorrow:
            return False
        self._note(message, End.PUT_BACK, due_at=morning)
        return True

    def _add_what_is_due(self, group: Group, can_wait: bool) -> None:
        """Take along what else is due for this reader: today's, of what can wait."""
        until = self.now
        if can_wait:
            until = _day_of(self.now, group.letters[0])[1] - timedelta(microseconds=1)
        kinds = CALM if can_wait else TOGETHER
        more = queue.gather(self.connection, group.first, kinds, (self.now, until))
        letters = reading.letters(self.connection, [one.id for one in more])
        for message in more:
            letter = letters[message.id]
            if _is_out_of_place(message, letter):
                self._note(message, End.PUT_BACK, due_at=self.now + ASK_AGAIN)
                continue
            group.messages.append(message)
            group.letters.append(letter)

    def _note(
        self,
        message: Claimed,
        end: End,
        *,
        due_at: datetime | None = None,
        code: str | None = None,
    ) -> None:
        self.results.append(Result(message=message, end=end, due_at=due_at, code=code))

    def _end(self) -> None:
        states = queue.settle(self.connection, self.results, self.now)
        fallback.after(self.connection, states, self.now)

    def _make_links(self, groups: list[Group]) -> None:
        for group in groups:
            for letter in group.letters:
                if letter.recipient is Recipient.ESCORT:
                    page = self.ask.escort_page(self.clinic_id, letter.reader_id)
                    group.pages[letter.message_id] = page
        self._make_account_links(groups)
        wanted = [
            (group, letter)
            for group in groups
            for letter in group.letters
            if letter.recipient is Recipient.PATIENT
            and letter.appointment_id is not None
            and letter.patient_id is not None
        ]
        new = [
            links.New(letter.appointment_id, letter.patient_id, letter.ends_at + LINK_LASTS)
            for _, letter in wanted
            if letter.appointment_id is not None and letter.patient_id is not None
        ]
        for (group, letter), token in zip(wanted, links.mint(self.connection, new), strict=True):
            group.pages[letter.message_id] = self.ask.page(token)

    def _make_account_links(self, groups: list[Group]) -> None:
        """A link that lets somebody choose a password works as long as its message is of use."""
        for group in groups:
            purpose = _PURPOSES.get(MessageKind(group.first.kind))
            if purpose is not None:
                link = links.AccountLink(group.first.recipient_id, purpose, group.first.not_after)
                token = links.mint_account(self.connection, link)
                group.pages[group.first.id] = self.ask.account_page(token)


_PURPOSES = {
    MessageKind.ACCOUNT_INVITATION: TokenPurpose.INVITATION,
    MessageKind.PASSWORD_RESET: TokenPurpose.RESET,
}


def _may_wait(message: Claimed) -> bool:
    return message.recipient == Recipient.PATIENT and MessageKind(message.kind) in CALM


def _joins(message: Claimed) -> bool:
    return message.recipient == Recipient.PATIENT and MessageKind(message.kind) in TOGETHER


def _is_out_of_place(message: Claimed, letter: Letter) -> bool:
    return letter.suspended and MessageKind(message.kind) in ASSURING


def _day_of(now: datetime, letter: Letter) -> tuple[datetime, datetime]:
    """The reader's day that `now` is in: its first instant, and that of the next."""
    today = now.astimezone(letter.quiet.zone).date()
    begin, end = (
        at_wall_time(datetime.combine(day, time(0)), letter.quiet.zone)
        for day in (today, today + timedelta(days=1))
    )
    return begin, end
