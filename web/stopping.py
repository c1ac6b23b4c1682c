"""No more e-mails: one request from a mail program, or one press on a page.

GET shows a page and changes nothing, because link scanners follow it. POST, with or without a
page before it, stops the mails at once and may be repeated.
Source: RFC 8058.
"""

from datetime import datetime
from uuid import UUID

from flask import Blueprint, Response, current_app, render_template
from flask.typing import ResponseReturnValue

from models import Clinic, Patient, db, enter_clinic
from models.vocabulary import Channel
from notifications import links
from scheduler import audit, facts, replies
from scheduler.audit import Act
from scheduler.authority import PATIENT
from scheduler.doors import Asks, asks
from scheduler.errors import NotFound
from scheduler.replies import Wish
from web.patient import CLOSED, seal

blueprint = Blueprint("stopping", __name__, url_prefix="/u", template_folder="templates")
blueprint.after_request(seal)

WORDING = "No more e-mails of this kind"


@blueprint.get("/<token>")
@asks(Asks.TOKEN)
def ask(token: str) -> ResponseReturnValue:
    """Show the page with the button."""
    found = _find(token)
    if found is None:
        return render_template("closed.html", title=CLOSED), 404
    clinic, patient = found
    return render_template(
        "stop.html", clinic=clinic, done=Channel.EMAIL.value in patient.opted_out
    )


@blueprint.post("/<token>")
@asks(Asks.TOKEN)
def stop(token: str) -> ResponseReturnValue:
    """Write to this patient by e-mail no more."""
    found = _find(token)
    if found is None:
        return Response(status=404)
    clinic, patient = found
    if Channel.EMAIL.value not in patient.opted_out:
        wish = Wish(
            channel=Channel.EMAIL,
            given=False,
            wording=WORDING,
            source="email",
            noted_by="patient",
            at=_now(),
        )
        replies.grant(db.session(), patient, wish)
        act = Act(
            action="update",
            entity="patient",
            entity_id=patient.id,
            patient_id=patient.id,
            facts={"changed": ["opted_out"]},
        )
        audit.record(db.session(), PATIENT, act, _now())
        db.session.commit()
        clinic, patient = _find(token) or (clinic, patient)
    return render_template("stop.html", clinic=clinic, done=True)


def _find(token: str) -> tuple[Clinic, Patient] | None:
    ids: tuple[UUID, UUID] | None = links.unsubscriber(current_app.config["SECRET_KEY"], token)
    if ids is None:
        return None
    enter_clinic(db.session(), ids[0])
    try:
        patient = facts.to_change(db.session(), Patient, ids[1], None)
        return facts.clinic(db.session()), patient
    except NotFound:
        return None


def _now() -> datetime:
    now: datetime = current_app.config["CLOCK"]()
    return now
