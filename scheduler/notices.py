"""Notices: what staff are told by the passing of time, outside any visit's cadence.

Every function here is asked again and again: a notice has an occasion, and of one occasion
there is one message, however often it is planned.
"""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Message, Qualification
from models.vocabulary import MessageKind, Owner, Recipient, TaskKind
from notifications import outbox
from notifications.outbox import Notice
from notifications.wall_time import at_wall_time
from scheduler import evidence, facts, tasks
from scheduler.tasks import Wanted

AGENDA_AT = time(7, 0)
"""At the clinic's wall time."""
WARN_DAYS = (90, 60, 30, 14, 7)
"""Days before a licence ends."""
TASK_DAYS = 30
DAY = timedelta(days=1)


def plan_agendas(session: Session, now: datetime) -> int:
    """Plan tomorrow's agenda for each clinician who has visits then. Returns how many are new.

    What stands in it is read when it is sent, so that later changes are in it.
    """
    home = facts.clinic(session)
    zone = ZoneInfo(home.time_zone)
    planned = 0
    for ahead in (0, 1):
        day = now.astimezone(zone).date() + ahead * DAY
        due_at = at_wall_time(datetime.combine(day, AGENDA_AT), zone)
        if due_at <= now:
            continue
        begin, end = (
            at_wall_time(datetime.combine(one, time(0)), zone) for one in (day, day + DAY)
        )
        for practitioner_id in facts.serving(session, begin, end):
            notice = Notice(
                kind=MessageKind.AGENDA,
                recipient=Recipient.PRACTITIONER,
                recipient_id=practitioner_id,
                subject_id=practitioner_id,
                occasion=f"agenda:{day}",
                due_at=due_at,
                not_after=due_at + timedelta(hours=10),
            )
            planned += outbox.notify(session, notice, now)
    return planned


def warn_of_credentials(session: Session, now: datetime) -> int:
    """Tell clinicians and the desk of licences that end soon. Returns how many are new."""
    home = facts.clinic(session)
    zone = ZoneInfo(home.time_zone)
    today = now.astimezone(zone).date()
    told = 0
    for one in facts.licences_ending(session, today, today + max(WARN_DAYS) * DAY):
        left = (one.valid_until - today).days
        step = min(days for days in WARN_DAYS if days >= left)
        ends = at_wall_time(datetime.combine(one.valid_until, time(12)), zone)
        readers: Sequence[tuple[Recipient, UUID]] = (
            (Recipient.PRACTITIONER, one.practitioner_id),
            (Recipient.FRONT_DESK, home.clinic_id),
        )
        for recipient, recipient_id in readers:
            notice = Notice(
                kind=MessageKind.CREDENTIAL_EXPIRING,
                recipient=recipient,
                recipient_id=recipient_id,
                subject_id=one.id,
                occasion=f"ends-in:{step}",
                due_at=now,
                not_after=max(ends, now + DAY),
                starts_at=ends,
            )
            told += outbox.notify(session, notice, now)
        if left <= TASK_DAYS:
            wanted = Wanted(
                kind=TaskKind.RENEW_CREDENTIAL, subject_id=one.id, due_at=max(ends, now)
            )
            tasks.ask(session, wanted)
    for licence in facts.licences_ended(session, now):
        see_to_licence(session, licence, now)
    return told


def see_to_licence(session: Session, licence: Qualification, now: datetime) -> None:
    """Let a task stand while a licence leaves visits ahead that nobody may begin.

    Its note says how many, and when the first is. It ends by itself once they were given to
    somebody else, moved or cancelled, or the licence holds again.
    """
    zone = ZoneInfo(facts.clinic(session).time_zone)
    served = facts.served_ahead(session, licence, now)
    amiss = evidence.amiss(session, served, now)
    left = [one for one in served if licence.role in amiss[one.id].unlicensed]
    first = min((one.starts_at for one in left), default=now)
    day = first.astimezone(zone).date()
    wanted = Wanted(
        kind=TaskKind.RENEW_CREDENTIAL,
        subject_id=licence.id,
        due_at=min(first, now + DAY),
        urgent=True,
        note=f"Visits ahead that nobody may begin: {len(left)}, the first on {day}.",
    )
    if left:
        tasks.keep(session, wanted, now, stands=True)
    elif not 0 <= (licence.valid_until - now.astimezone(zone).date()).days <= TASK_DAYS:
        tasks.keep(session, wanted, now, stands=False)


def set_tasks(session: Session, now: datetime) -> int:
    """Set the tasks that go with what staff were told about visits. Returns how many."""
    return sum(
        _set_task(session, message, kind, now + within)
        for said, (kind, within) in _TASKS.items()
        for message in facts.told_to_staff(session, said, kind, now - 3 * DAY)
    )


def _set_task(session: Session, message: Message, kind: TaskKind, due_at: datetime) -> int:
    wanted = Wanted(
        kind=kind,
        subject_id=message.subject_id,
        due_at=due_at,
        owner=Owner.CLINICIAN if kind is TaskKind.SAFETY_CHECK else Owner.FRONT_DESK,
        urgent=kind is TaskKind.SAFETY_CHECK,
        patient_id=facts.patient_of(session, message.appointment_id),
        appointment_id=message.appointment_id,
    )
    tasks.ask(session, wanted)
    return 1


_TASKS = {
    MessageKind.UNCONFIRMED: (TaskKind.CONFIRM_BY_PHONE, timedelta(hours=4)),
    MessageKind.UNREADY: (TaskKind.MAKE_READY, timedelta(hours=12)),
    MessageKind.SAFETY_UNANSWERED: (TaskKind.SAFETY_CHECK, timedelta(hours=2)),
    MessageKind.INTEGRATION_UNBOOKED: (TaskKind.BOOK_INTEGRATION, timedelta(hours=12)),
    MessageKind.PAPERWORK_DUE: (TaskKind.SEND_PAPERWORK, timedelta(days=1)),
}
