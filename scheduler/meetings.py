"""Meetings: read the group sessions that are to be held, with who serves them and what is free."""

from datetime import datetime

from sqlalchemy.orm import Session

from scheduler import calendars, facts
from scheduler.joining import Meeting


def ahead(session: Session, start: datetime, end: datetime) -> list[Meeting]:
    """The group sessions that start in `[start, end)`, in the order of time."""
    groups = facts.groups_between(session, start, end)
    staff = calendars.staff_of_each(session, groups)
    taken = facts.places_taken(session, [one.id for one in groups])
    return [
        Meeting(
            one.id,
            one.kind,
            one.site_id,
            one.starts_at,
            one.ends_at,
            staff[one.id],
            one.places,
            len(taken[one.id]),
        )
        for one in groups
    ]
