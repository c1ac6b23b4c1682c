"""The escort's page: a time, a place, and two buttons. Nothing else about the patient.

GET changes nothing, because link scanners follow it. The address holds a signed name and no
more; what stands there is read when it is opened.
"""

from dataclasses import replace
from uuid import UUID
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time
from flask import Blueprint, current_app, redirect, render_template, request
from flask.typing import ResponseReturnValue

from models import Appointment, Escort, Patient, Site, db, enter_clinic
from notifications import links
from scheduler import audit, escorts, facts, tenants
from scheduler.audit import Act
from scheduler.doors import Asks, asks
from scheduler.errors import NotFound, Stale, WrongStatus
from web.patient import CLOSED, now, seal

blueprint = Blueprint("escorting", __name__, url_prefix="/e", template_folder="templates")
blueprint.after_request(seal)


@blueprint.get("/<token>")
@asks(Asks.TOKEN)
def show(token: str) -> ResponseReturnValue:
    """Show when and where, and what was answered."""
    escort = _find(token)
    if escort is None:
        return render_template("closed.html", title=CLOSED), 404
    return _page(escort)


def _page(escort: Escort, *, is_moved: bool = False) -> str:
    """When and where as it stands now; `is_moved`: what was answered was to another time."""
    visit = facts.one(db.session(), Appointment, escort.appointment_id)
    site = facts.one(db.session(), Site, visit.site_id)
    ends = visit.ends_at.astimezone(ZoneInfo(site.time_zone))
    page = render_template(
        "escort.html",
        clinic=facts.clinic(db.session()),
        escort=escort,
        patient=facts.one(db.session(), Patient, visit.patient_id),
        site=site,
        day=format_date(ends, "full", locale="en_US"),
        time=format_time(ends, "short", tzinfo=ends.tzinfo, locale="en_US"),
        answered=request.args.get("answered"),
        is_needed=escorts.is_needed(escort, visit),
        is_unsure=visit.suspended_at is not None,
        is_moved=is_moved,
        revision=visit.revision,
    )
    audit.record(db.session(), escorts.ESCORT, _act("read", escort, visit), now())
    db.session.commit()
    return page


@blueprint.post("/<token>")
@asks(Asks.TOKEN)
def answer(token: str) -> ResponseReturnValue:
    """Note that the escort will come, or cannot, at the time that the page showed.

    If that is not the visit's any more, nothing is noted, and they are asked about the new one.
    """
    escort = _find(token)
    if escort is None:
        return render_template("closed.html", title=CLOSED), 404
    comes = request.form.get("comes") == "yes"
    visit = facts.one(db.session(), Appointment, escort.appointment_id)
    act = replace(_act("update", escort, visit), facts={"comes": comes})
    try:
        revision = request.form.get("revision", type=int)
        escorts.answer(db.session(), escort.id, comes=comes, revision=revision, now=now())
    except WrongStatus:
        db.session.rollback()
        return redirect(f"/e/{token}", 303)
    except Stale:
        db.session.rollback()
        return _page(escort, is_moved=True), 409
    audit.record(db.session(), escorts.ESCORT, act, now())
    db.session.commit()
    return redirect(f"/e/{token}?answered={'yes' if comes else 'no'}", 303)


def _act(action: str, escort: Escort, visit: Appointment) -> Act:
    return Act(action=action, entity="escort", entity_id=escort.id, patient_id=visit.patient_id)


def _find(token: str) -> Escort | None:
    ids: tuple[UUID, UUID] | None = links.escort(current_app.config["SECRET_KEY"], token)
    if ids is None:
        return None
    enter_clinic(db.session(), ids[0])
    if not tenants.is_open(db.session()):
        return None
    try:
        return facts.one(db.session(), Escort, ids[1])
    except NotFound:
        return None
