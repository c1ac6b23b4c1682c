"""The patient's page: one visit behind one link, on a phone, without JavaScript.

`GET /p/<token>` changes nothing and uses nothing up: mail scanners open links before people
do. It moves the token out of the address bar. Before the date of birth the page names the
clinic and nobody else. Acts are POSTs with a token of their own, answered by a redirect.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import wraps
from uuid import UUID

from flask import (
    Blueprint,
    Response,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
)
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from identity import delays
from models import Appointment, ChecklistItem, db
from models.vocabulary import AuditOutcome, OfferState, Owner, ReplyMeaning, TaskStatus
from scheduler import audit, booking, checklists, doors, escorts, facts, offers, replies
from scheduler.audit import Act
from scheduler.authority import PATIENT, Call
from scheduler.checklists import Settling
from scheduler.doors import Asks, Door, asks
from scheduler.errors import OfferGone, Refusal, TooManyTries
from scheduler.escorts import NewEscort
from web import forms, showing, visitor
from web.forms import BadForm
from web.visitor import Visitor

blueprint = Blueprint(
    "patient", __name__, url_prefix="/p", template_folder="templates", static_folder="static"
)

CLOSED = "This link is closed"

GONE = "This time has gone: somebody was a little faster. You stay on our list."

DONE = {
    "confirmed": "Thank you. We know that you will come.",
    "asked": "We have noted that you need another time. We will call you.",
    "saved": "Saved. Thank you.",
    "kept": "Kept. You can go on at any time.",
    "sent": "Thank you for your answers. We read them before we see you.",
    "signed": "Thank you. What you signed is below, with a copy for you.",
    "no": "Thank you for telling us. We will call you about it.",
    "well": "Good to hear. Thank you.",
    "call": "We will call you today.",
    "taken": "Thank you. The time is yours; we will write to you about it.",
    "gone": GONE,
    "let-go": "Thank you for telling us. You stay on our list.",
}
"""What is said after an act, by its code in the address."""


@blueprint.after_request
def seal(response: Response) -> Response:
    """Keep the page out of caches, indexes, frames and referrers; let nothing else load."""
    response.headers.update(
        {
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
                "base-uri 'none'; frame-ancestors 'none'"
            ),
            "Referrer-Policy": "no-referrer",
            "X-Robots-Tag": "noindex, nofollow",
            "X-Content-Type-Options": "nosniff",
        }
    )
    if request.endpoint != "patient.static":
        response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/<token>")
@asks(Asks.TOKEN)
def follow(token: str) -> ResponseReturnValue:
    """Take the token out of the address and go on to the page. Changes nothing."""
    digest = visitor.digest_of(token)
    if visitor.find(db.session(), digest, now()) is None:
        return closed()
    return visitor.remember(make_response(redirect("/p/", 303)), digest, known=False)


@blueprint.get("/")
@asks(Asks.VISIT)
def show() -> ResponseReturnValue:
    """Show the visit, or ask for the date of birth first."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not here.is_known:
        return _ask(here)
    audit.record(db.session(), PATIENT, act_of(here, "read"), now())
    db.session.commit()
    return _page(here, DONE.get(request.args.get("done", "")))


@blueprint.get("/appointment.ics")
@asks(Asks.VISIT)
def calendar() -> ResponseReturnValue:
    """The visit as a file for the patient's own calendar."""
    here = visitor.remembered(db.session(), now())
    if here is None or not here.is_known:
        return closed()
    told = showing.calendar(db.session(), here, now())
    audit.record(db.session(), PATIENT, act_of(here, "read", "calendar"), now())
    db.session.commit()
    headers = {"Content-Disposition": 'attachment; filename="appointment.ics"'}
    return Response(told, content_type="text/calendar; charset=utf-8", headers=headers)


@blueprint.post("/birth-date")
@asks(Asks.VISIT)
def prove() -> ResponseReturnValue:
    """Check the date of birth. Five wrong ones shut the link, and many slow an address down."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not visitor.is_own_form(here, request.form.get("form", "")):
        return _ask(here, "Please try once more.")
    about = [delays.visitor(request.remote_addr)]
    try:
        delays.count(db.session(), about, now())
    except TooManyTries as refusal:
        db.session.rollback()
        retry_after = {"Retry-After": str(refusal.facts["retry_after"])}
        return _ask(here, refusal.detail, 429), retry_after
    db.session.commit()
    shut = here.link.tries >= visitor.TRIES
    is_right = visitor.prove(db.session(), here, forms.birth_date(request.form))
    if is_right:
        delays.forgive(db.session(), about)
    if not shut:  # nobody fills the trail at a link that opens no more
        audit.record(db.session(), PATIENT, _tried(here, is_right=is_right), now())
    db.session.commit()
    if not is_right:
        return _ask(here, "That is not the date we have. Please check it.")
    return visitor.remember(make_response(redirect("/p/", 303)), here.link.token_hash, known=True)


def act(view: Callable[..., str]) -> Callable[..., ResponseReturnValue]:
    """Let a known visitor act by a form of their own; then show the page again.

    The view does one thing and names what is said about it. A refusal or a bad form is shown
    on the page, and nothing has changed.
    """

    @wraps(view)
    def guarded(**parts: object) -> ResponseReturnValue:
        here = visitor.remembered(db.session(), now())
        if here is None:
            return closed()
        if not here.is_known or not visitor.is_own_form(here, request.form.get("form", "")):
            return _ask(here)
        digest, endpoint = here.link.token_hash, request.endpoint or ""
        try:
            done = view(here, **parts)
            audit.record(db.session(), PATIENT, act_of(here, "update", endpoint), now())
            db.session.commit()
        except (BadForm, Refusal) as refusal:
            db.session.rollback()
            again = visitor.remembered(db.session(), now())
            return closed() if again is None else (_page(again, None, _said(refusal)), 422)
        answer = make_response(redirect(f"/p/?done={done}", 303))
        return visitor.remember(answer, digest, known=True)

    return doors.mark(guarded, Door(Asks.VISIT))


@blueprint.post("/confirm")
@act
def confirm(here: Visitor) -> str:
    """Note that the patient will come."""
    booking.confirm(db.session(), Call(here.link.appointment_id, None), by=PATIENT, now=now())
    return "confirmed"


@blueprint.post("/ask-to-move")
@act
def ask_to_move(here: Visitor) -> str:
    """Note that the patient needs another time."""
    checklists.ask_to_move(db.session(), here.link.appointment_id, by=PATIENT, now=now())
    return "asked"


@blueprint.post("/well")
@act
def well(here: Visitor) -> str:
    """Note that the patient is well, or that they would like a call."""
    wants_call = request.form.get("call") == "yes"
    meaning = ReplyMeaning.CALL_ME if wants_call else ReplyMeaning.WELL
    visit = facts.one(db.session(), Appointment, here.link.appointment_id)
    replies.note_wellbeing(db.session(), visit, meaning, now())
    return "call" if wants_call else "well"


@blueprint.post("/offer/accept")
@act
def accept_offer(here: Visitor) -> str:
    """Take the time that is offered."""
    offer = offers.accept(db.session(), _offer_call(here), by=PATIENT, now=now())
    return "taken" if offer.state is OfferState.ACCEPTED else "gone"


@blueprint.post("/offer/decline")
@act
def decline_offer(here: Visitor) -> str:
    """Let the time that is offered go."""
    offers.decline(db.session(), _offer_call(here), by=PATIENT, now=now())
    return "let-go"


@blueprint.post("/checklist/<uuid:item_id>")
@act
def settle(here: Visitor, item_id: UUID) -> str:
    """Tick an item of this visit's checklist, or take the tick back."""
    item = db.session.scalar(
        select(ChecklistItem)
        .where(
            ChecklistItem.id == item_id,
            ChecklistItem.appointment_id == here.link.appointment_id,
            ChecklistItem.owner == Owner.PATIENT,
        )
        .with_for_update()
    )
    if item is None:
        raise BadForm("That item is not on your list.")
    undo = request.form.get("undo") == "yes"
    settling = Settling(
        status=TaskStatus.REQUESTED if undo else TaskStatus.COMPLETED,
        answer=None if undo else forms.optional_text(request.form, "answer", 1000),
    )
    checklists.settle(db.session(), item, settling, by=PATIENT, now=now())
    return "saved"


@blueprint.post("/escort")
@act
def name_escort(here: Visitor) -> str:
    """Name who takes the patient home."""
    told = NewEscort(
        name=forms.text(request.form, "name", "their name", 200),
        phone=forms.phone(request.form, "phone"),
        email=forms.email(request.form, "email"),
        relation=forms.text(request.form, "relation", "who they are to you", 100),
        may_message=request.form.get("may_message") == "yes",
    )
    escorts.name_escort(db.session(), here.link.appointment_id, told, by=PATIENT, now=now())
    return "saved"


def _offer_call(here: Visitor) -> Call:
    offer = facts.offer_of(db.session(), here.link.appointment_id)
    if offer is None:
        raise BadForm("Nothing is offered here.")
    return Call(offer.id, None)


def _page(here: Visitor, done: str | None, problem: str | None = None) -> str:
    shown = showing.visit(db.session(), here, now())
    return render_template(
        "visit.html",
        clinic=here.clinic,
        shown=shown,
        form=visitor.csrf(here),
        done=done,
        problem=problem,
        told=request.form if problem else {},
    )


def _ask(here: Visitor, problem: str | None = None, status: int | None = None) -> Response:
    shut = here.link.tries >= visitor.TRIES
    page = render_template(
        "ask.html",
        clinic=here.clinic,
        form=visitor.csrf(here),
        problem=problem,
        shut=shut,
        left=visitor.TRIES - here.link.tries,
    )
    return make_response(page, status or (403 if shut else (422 if problem else 200)))


def closed() -> ResponseReturnValue:
    """The same page for a link that never was, has run out, or was taken back."""
    return render_template("closed.html", title=CLOSED), 404


def _said(refusal: Exception) -> str:
    if isinstance(refusal, OfferGone):
        return GONE
    return refusal.detail if isinstance(refusal, Refusal) else str(refusal)


def _tried(here: Visitor, *, is_right: bool) -> Act:
    outcome = AuditOutcome.SUCCESS if is_right else AuditOutcome.DENIED
    return replace(act_of(here, "execute", "birth-date"), outcome=outcome)


def act_of(here: Visitor, action: str, what: str = "patient.show") -> Act:
    """A line of the audit trail about what a visitor did."""
    return Act(
        action=action,
        entity="appointment",
        entity_id=here.link.appointment_id,
        patient_id=here.link.patient_id,
        facts={"what": what},
    )


def now() -> datetime:
    """The time of the request."""
    moment: datetime = current_app.config["CLOCK"]()
    return moment
