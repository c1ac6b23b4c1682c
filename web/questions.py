"""The patient's questionnaires: a page for each, kept half filled in, sent once.

The address names a number and nothing else. A patient sees the questions and the clinic's
words, never a score.
"""

from collections.abc import Collection
from dataclasses import dataclass

from flask import Blueprint, abort, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from models import Appointment, db
from scheduler import audit, facts, questionnaires, wordings
from scheduler.authority import PATIENT
from scheduler.doors import Asks, asks
from scheduler.errors import Refusal, Taken, Unfit
from scheduler.questionnaires import Filled, known
from scheduler.wordings import Sheet
from web import visitor
from web.patient import act_of, closed, now, seal
from web.visitor import Visitor

blueprint = Blueprint("questions", __name__, url_prefix="/p/questions")
blueprint.after_request(seal)


@dataclass(frozen=True, slots=True)
class _Page:
    """A questionnaire of the visit that a visitor came for."""

    here: Visitor
    visit: Appointment
    sheet: Sheet
    number: int

    def shown(self, problem: str | None = None, missing: Collection[str] = ()) -> str:
        """The page, with what was answered so far."""
        drafts = facts.drafts_of(db.session(), self.visit.id)
        answers = {draft.instrument: draft.answers for draft in drafts}
        return render_template(
            "questions.html",
            clinic=self.here.clinic,
            form=visitor.csrf(self.here),
            sheet=self.sheet,
            number=self.number,
            answers=answers.get(self.sheet.instrument.code, {}),
            problem=problem,
            missing=missing,
        )


@blueprint.get("/<int:number>")
@asks(Asks.VISIT)
def show(number: int) -> ResponseReturnValue:
    """Show a questionnaire, with what was answered so far."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not here.is_known:
        return redirect("/p/", 303)
    page = _page(here, number)
    audit.record(db.session(), PATIENT, act_of(here, "read", "questions"), now())
    shown = page.shown()
    db.session.commit()
    return shown


@blueprint.post("/<int:number>")
@asks(Asks.VISIT)
def answer(number: int) -> ResponseReturnValue:
    """Keep the answers, and send them if that is asked and they are all there."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not here.is_known or not visitor.is_own_form(here, request.form.get("form", "")):
        return redirect("/p/", 303)
    digest, page = here.link.token_hash, _page(here, number)
    filled = Filled(page.sheet.instrument.code, _chosen(page.sheet))
    try:
        questionnaires.keep(db.session(), page.visit, filled, now=now())
    except Taken:  # sent in the same moment
        db.session.rollback()
        return _back(digest, "sent")
    audit.record(db.session(), PATIENT, act_of(here, "update", "questions"), now())
    db.session.commit()  # kept, whatever comes of the rest
    if request.form.get("do") != "send":
        return _back(digest, "kept")
    return _sent(digest, number, filled)


def _sent(digest: bytes, number: int, filled: Filled) -> ResponseReturnValue:
    """Send it in a transaction of its own; what does not let it is told on the page."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    try:
        visit = _page(here, number).visit
        questionnaires.send(db.session(), visit, filled, by=PATIENT, now=now())
        audit.record(db.session(), PATIENT, act_of(here, "create", "responses"), now())
        db.session.commit()
    except Taken:
        db.session.rollback()
    except Refusal as refusal:
        db.session.rollback()
        here = visitor.remembered(db.session(), now())
        if here is None:
            return closed()
        missing = refusal.facts.get("missing", ()) if isinstance(refusal, Unfit) else ()
        assert isinstance(missing, list | tuple)
        told = "Please answer the marked questions too." if missing else refusal.detail
        return _page(here, number).shown(told, missing), 422
    return _back(digest, "sent")


def _page(here: Visitor, number: int) -> _Page:
    visit = facts.one(db.session(), Appointment, here.link.appointment_id)
    asked = questionnaires.asked_of(db.session(), visit)
    if not 1 <= number <= len(asked):
        abort(404)
    sheet = wordings.sheet(db.session(), known(asked[number - 1]))
    if sheet is None or asked[number - 1] in facts.instruments_filled(db.session(), visit):
        abort(404)
    return _Page(here, visit, sheet, number)


def _chosen(sheet: Sheet) -> dict[str, int]:
    """What was chosen; what the sheet does not offer is left out."""
    chosen = {}
    for item in sheet.items:
        offered = {str(value): value for value, _ in item.choices}
        told = offered.get(request.form.get(f"q-{item.code}", ""))
        if told is not None:
            chosen[item.code] = told
    return chosen


def _back(digest: bytes, done: str) -> ResponseReturnValue:
    answer = make_response(redirect(f"/p/?done={done}", 303))
    return visitor.remember(answer, digest, known=True)
