"""Calendars to subscribe to: `/calendar/<token>.ics`, a clinician's or a patient's visits.

Neutral words only: calendars are shared, and copied to other companies.
"""

from datetime import datetime, timedelta

from flask import Blueprint, Response, current_app
from flask.typing import ResponseReturnValue
from sqlalchemy import select, text

from models import SERVES, Appointment, CalendarFeed, Site, Slot, db, enter_clinic
from models.vocabulary import AppointmentStatus
from notifications import invitation, links
from notifications.invitation import Entry, Method
from scheduler import audit, facts, tenants
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.doors import Asks, asks

blueprint = Blueprint("feeds", __name__, url_prefix="/calendar")

BACK, AHEAD = timedelta(days=60), timedelta(days=400)
_SHOWN = (
    AppointmentStatus.BOOKED,
    AppointmentStatus.ARRIVED,
    AppointmentStatus.CHECKED_IN,
    AppointmentStatus.FULFILLED,
)


@blueprint.get("/<token>.ics")
@asks(Asks.TOKEN)
def feed(token: str) -> ResponseReturnValue:
    """The calendar behind a token; 404 for one that is not, or not any more."""
    session, now = db.session(), _now()
    digest = links.digest(token)
    session.execute(_TELL, {"token": digest.hex()})
    found = session.scalar(select(CalendarFeed).where(CalendarFeed.token_hash == digest))
    if found is None or found.revoked_at is not None:
        return Response(status=404)
    enter_clinic(session, found.clinic_id)
    if not tenants.is_open(session):  # who subscribed keeps what they have, and asks again
        return Response(status=503, headers={"Retry-After": "3600"})
    home = facts.clinic(session)
    rows = session.execute(
        select(Appointment, Site, Slot.group_session_id)
        .join(Site, (Site.clinic_id == Appointment.clinic_id) & (Site.id == Appointment.site_id))
        .join(Slot, SERVES)
        .where(
            Slot.schedule_id == found.schedule_id,
            Slot.starts_at >= now - BACK,
            Slot.starts_at < now + AHEAD,
            Appointment.status.in_(_SHOWN),
        )
        .distinct()
        .order_by(Appointment.starts_at)
    )
    # To staff a group session is one entry, however many come.
    shown = {shared or visit.id: (visit, site) for visit, site, shared in rows}
    entries = [
        Entry(
            clinic_id=home.clinic_id,
            appointment_id=entry_id,
            revision=visit.revision,
            starts_at=visit.starts_at,
            ends_at=visit.ends_at,
            clinic=home.name,
            clinic_email=home.email,
            place=f"{site.name}, {site.address}",
            is_certain=visit.suspended_at is None or entry_id != visit.id,
        )
        for entry_id, (visit, site) in shown.items()
    ]
    told = invitation.calendar(entries, Method.PUBLISH, now)
    audit.record(session, CALENDAR, _act(found, len(entries)), now)
    session.commit()
    headers = {"Cache-Control": "private, max-age=300", "X-Robots-Tag": "noindex, nofollow"}
    return Response(told, content_type="text/calendar; charset=utf-8", headers=headers)


CALENDAR = Authority("calendar")
"""Whoever knows the address of a calendar."""


def _act(feed: CalendarFeed, count: int) -> Act:
    theirs = facts.patient_on(db.session(), feed.schedule_id)
    return Act(
        action="read",
        entity="calendar_feed",
        entity_id=feed.id,
        patient_id=theirs,
        facts={"count": count},
    )


def _now() -> datetime:
    now: datetime = current_app.config["CLOCK"]()
    return now


_TELL = text("SELECT set_config('afterglow.token', :token, true)")
