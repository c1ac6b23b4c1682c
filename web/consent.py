"""What a patient is asked to sign: a page for each, and copies of what was signed.

The address names a number and nothing else. The page speaks the language of the text: nobody
ticks words in another one than what they read.
"""

import ipaddress
from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from models import Appointment, db
from notifications import paper
from scheduler import audit, consents, facts
from scheduler.authority import PATIENT
from scheduler.consents import Ask, Signing
from scheduler.doors import Asks, asks
from scheduler.errors import NotFound, Refusal, Stale, Taken, WrongStatus
from web import forms, visitor
from web.forms import BadForm
from web.patient import act_of, closed, now, seal
from web.visitor import Visitor

blueprint = Blueprint("consent", __name__, url_prefix="/p/papers")
blueprint.after_request(seal)

Take = Callable[..., Any]


@blueprint.get("/<int:number>")
@asks(Asks.VISIT)
def show(number: int) -> ResponseReturnValue:
    """Show a text to sign, as it is now."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not here.is_known:
        return redirect("/p/", 303)
    digest, shown = here.link.token_hash, _page(here, number)
    audit.record(db.session(), PATIENT, act_of(here, "read", "papers"), now())
    db.session.commit()
    return visitor.remember(make_response(shown), digest, known=True)  # reading takes its time


@blueprint.post("/<int:number>")
@asks(Asks.VISIT)
def answer(number: int) -> ResponseReturnValue:
    """Take in a signature, or that the patient does not agree."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not here.is_known or not visitor.is_own_form(here, request.form.get("form", "")):
        return redirect("/p/", 303)
    digest, done = here.link.token_hash, ""
    declines = request.form.get("do") == "decline"
    try:
        signing = _signing(number, _ask(here, number).text.language, declines=declines)
        take: Take = consents.decline if declines else consents.sign
        take(db.session(), _visit(here), signing, now=now())
        audit.record(db.session(), PATIENT, act_of(here, "update", "papers"), now())
        db.session.commit()
        done = "?done=no" if declines else "?done=signed"
    except (NotFound, Taken, WrongStatus):  # sent twice, or settled meanwhile: the page tells
        db.session.rollback()
    except (BadForm, Refusal) as refusal:
        db.session.rollback()
        return _again(number, refusal)
    return visitor.remember(make_response(redirect(f"/p/{done}", 303)), digest, known=True)


@blueprint.get("/<uuid:consent_id>.pdf")
@asks(Asks.VISIT)
def copy(consent_id: UUID) -> ResponseReturnValue:
    """The copy of what was signed for this visit's course."""
    here = visitor.remembered(db.session(), now())
    if here is None or not here.is_known:
        return closed()
    signed = {one.id: (one, text) for one, text in facts.consents_of(db.session(), _visit(here))}
    if consent_id not in signed:
        abort(404)
    told = paper.draw(consents.copy_of(*signed[consent_id]))
    audit.record(db.session(), PATIENT, act_of(here, "read", "papers"), now())
    db.session.commit()
    headers = {"Content-Disposition": 'attachment; filename="copy.pdf"'}
    return Response(told, content_type="application/pdf", headers=headers)


def _visit(here: Visitor) -> Appointment:
    return facts.one(db.session(), Appointment, here.link.appointment_id)


def _ask(here: Visitor, number: int) -> Ask:
    asks = consents.asked_of(db.session(), _visit(here), now())
    if not 1 <= number <= len(asks):
        raise NotFound("You are not asked for this any more.")
    return asks[number - 1]


def _signing(number: int, language: str, *, declines: bool) -> Signing:
    """What the form says, as strictly as a signature deserves."""
    try:
        text_id = UUID(request.form.get("text", ""))
    except ValueError as error:
        raise BadForm(paper.say(language, "changed")) from error
    name = "" if declines else _name(language)
    if not declines and request.form.get("agree") != "yes":
        raise BadForm(paper.say(language, "no_tick"))
    pair = request.form.get("medicine") or None, request.form.get("route") or None
    return Signing(number=number, text_id=text_id, pair=pair, name=name, address=_address())


def _name(language: str) -> str:
    try:
        name = forms.optional_text(request.form, "name", 200)
    except BadForm as error:
        raise BadForm(paper.say(language, "odd_name")) from error
    if name is None or not any(map(str.isalpha, name)):
        raise BadForm(paper.say(language, "no_name"))
    if not forms.is_one_line(name):
        raise BadForm(paper.say(language, "odd_name"))
    return name


def _address() -> str | None:
    """Where the request came from: what trusted proxies say (TRUSTED_PROXIES), else who called."""
    try:
        return str(ipaddress.ip_address(request.remote_addr or ""))
    except ValueError:
        return None


def _again(number: int, refusal: Exception) -> ResponseReturnValue:
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    return _page(here, number, refusal), 422


def _page(here: Visitor, number: int, refusal: Exception | None = None) -> str:
    try:
        ask = _ask(here, number)
    except NotFound:
        abort(404)
    if not ask.is_open:
        abort(404)
    language = ask.text.language
    problem = None
    if refusal is not None:
        problem = refusal.detail if isinstance(refusal, Refusal) else str(refusal)
    if isinstance(refusal, Stale):
        problem = paper.say(language, "changed")
    return render_template(
        "paper.html",
        clinic=here.clinic,
        form=visitor.csrf(here),
        ask=ask,
        number=number,
        language=language,
        what=consents.what_for(ask.pair),
        say=lambda name: paper.say(language, name),
        problem=problem,
        name=request.form.get("name", ""),
    )
