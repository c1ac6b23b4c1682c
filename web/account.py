"""The account page: where one is signed in, one's password and second factor."""

from uuid import UUID

from flask import Blueprint, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from identity import accounts, delays, factors, providers, sessions
from models import db
from scheduler import facts
from scheduler.errors import NotFound, NotProven
from web import people
from web.forms import BadForm
from web.people import asked_by, here, now, signed_in, wholly

blueprint = Blueprint("account", __name__, template_folder="templates")
blueprint.after_request(people.seal)

DONE = {
    "password": "Your password was changed, and you were signed out everywhere else.",
    "linked": "From now on you may sign in by that site, too.",
    "unlinked": "You do not sign in by that site any more.",
    "ended": "That session was ended.",
}


def page(problem: str | None = None, session_id: UUID | None = None, **_: UUID) -> str:
    """The page itself."""
    mine = here()
    return render_template(
        "account.html",
        clinic=facts.clinic(db.session()),
        mine=mine,
        sessions=db.session.scalars(sessions.standing(mine.user.id, now())).all(),
        providers=providers.unlinked(db.session(), mine.user.id),
        linked=providers.linked(db.session(), mine.user.id),
        least=accounts.shortest(db.session(), mine.user),
        problem=problem,
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/account")
@wholly
def show() -> ResponseReturnValue:
    """Show one's account."""
    return page()


@blueprint.post("/account/sessions/<uuid:session_id>/end")
@wholly
@asked_by(page)
def end(session_id: UUID) -> ResponseReturnValue:
    """Sign out somewhere else."""
    if not sessions.end(db.session(), here().user.id, session_id, now()):
        raise NotFound("That session has ended already.")
    people.done("signed-out-elsewhere", here().user)
    return redirect("/account?done=ended", 303)


@blueprint.post("/account/password")
@wholly
@asked_by(page)
def change_password() -> ResponseReturnValue:
    """Have another password, by the one there is and a fresh second factor."""
    mine = here()
    mine.refuse_unless_fresh(now())
    if request.form.get("new", "") != request.form.get("again", ""):
        raise BadForm("These two are not the same.")
    about = [delays.factor(mine.user.id)]
    delays.count(db.session(), about, now())
    people.keep()
    if not accounts.is_password(db.session(), mine.user, request.form.get("password", "")):
        people.refused("password-refused", mine.user)
        raise NotProven("That is not your password.")
    delays.forgive(db.session(), about)
    new = request.form.get("new", "")
    accounts.change_password(db.session(), mine.user, new, now(), but=mine.session.id)
    people.done("password-changed", mine.user)
    return redirect("/account?done=password", 303)


@blueprint.post("/account/recovery-codes")
@wholly
@asked_by(page)
def new_codes() -> ResponseReturnValue:
    """Have new codes for the loss of the second factor; the old ones work no more."""
    here().refuse_unless_fresh(now())
    codes = factors.new_codes(db.session(), here().user.id)
    accounts.tell_of_change(db.session(), here().user, now())
    people.done("recovery-codes-made", here().user)
    return render_template("recovery-codes.html", codes=codes)


@blueprint.post("/sign-out")
@signed_in
def sign_out() -> ResponseReturnValue:
    """End the session here."""
    clinic_id = here().user.clinic_id
    sessions.end(db.session(), here().user.id, here().session.id, now())
    people.done("signed-out", here().user)
    return people.let_out(make_response(redirect(f"/sign-in/{clinic_id}", 303)))
