"""Passkeys on pages: made on the account's, and signed in with on the clinic's."""

from uuid import UUID

from flask import Blueprint, current_app, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import delete

from identity import accounts, delays, passkeys, sessions
from identity.passkeys import Here
from models import Passkey, db
from scheduler.doors import public
from scheduler.errors import NotFound, NotProven
from web import forms, people
from web.people import asked_by, here, now, signed_in, wholly
from web.signing_in import ask, ask_for_code, come_in, enter

blueprint = Blueprint("passkeys", __name__, template_folder="templates")
blueprint.after_request(people.seal)


def page(problem: str | None = None, passkey_id: UUID | None = None) -> str:
    """One's passkeys, and what a device is asked for to make another."""
    options = passkeys.offer(db.session(), here(), _site())
    people.keep()
    return render_template(
        "passkeys.html",
        form=here().csrf,
        passkeys=passkeys.of(db.session(), here().user.id),
        options=options,
        problem=problem,
    )


@blueprint.get("/account/passkeys")
@wholly
def show() -> ResponseReturnValue:
    """Show one's passkeys; only a fresh second factor lets one make another."""
    return page() if here().is_fresh(now()) else redirect("/sign-in/code", 303)


@blueprint.post("/account/passkeys")
@wholly
@asked_by(page)
def keep() -> ResponseReturnValue:
    """Keep the passkey that a device has made."""
    here().refuse_unless_fresh(now())
    name = forms.text(request.form, "name", "what to call it", 60)
    passkeys.keep(db.session(), here(), request.form.get("answer", ""), name, _site())
    accounts.tell_of_change(db.session(), here().user, now())
    people.done("passkey-made", here().user)
    return redirect("/account/passkeys", 303)


@blueprint.post("/account/passkeys/<uuid:passkey_id>/remove")
@wholly
@asked_by(page)
def remove(passkey_id: UUID) -> ResponseReturnValue:
    """Take a passkey no more."""
    here().refuse_unless_fresh(now())
    gone = delete(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == here().user.id)
    if not db.session.execute(gone.returning(Passkey.id)).first():
        raise NotFound("There is no such passkey.")
    accounts.tell_of_change(db.session(), here().user, now())
    people.done("passkey-removed", here().user)
    return redirect("/account/passkeys", 303)


@blueprint.post("/sign-in/<uuid:clinic_id>/passkey")
@public("Who signs in is not known before.")
@asked_by(ask)
def begin(clinic_id: UUID) -> ResponseReturnValue:
    """Ask the device to sign; the page does so by itself."""
    clinic = enter(clinic_id)
    delays.count(db.session(), [delays.address(request.remote_addr)], now())
    options, token = passkeys.ask(db.session(), _site(), now())
    people.keep()
    answer = make_response(
        render_template(
            "passkey.html",
            clinic=clinic,
            options=options,
            onward=f"/sign-in/{clinic_id}/passkey/answer",
            instead=f"/sign-in/{clinic_id}",
        )
    )
    return people.send_away(answer, token)


@blueprint.post("/sign-in/<uuid:clinic_id>/passkey/answer")
@public("Who signs in is not known before.")
@asked_by(ask)
def sign_in(clinic_id: UUID) -> ResponseReturnValue:
    """Let in whose device signed what was asked: that is both factors at once."""
    enter(clinic_id)
    told = request.form.get("answer", "")
    with people.taken_once(passkeys.WAY) as known:
        user = passkeys.whose(db.session(), known, told, _site(), now())
    delays.forgive(db.session(), [delays.address(request.remote_addr)])
    begun, token = people.begin(user)
    mine = sessions.SignedIn(user, begun, sessions.csrf_of(token))
    return come_in(mine, "signed-in-by-passkey")


@blueprint.post("/sign-in/code/passkey")
@signed_in
@asked_by(ask_for_code)
def begin_again() -> ResponseReturnValue:
    """Ask a device of who is here to sign, in the place of a code."""
    options = passkeys.ask_again(db.session(), here(), _site())
    people.keep()
    return render_template(
        "passkey.html",
        form=here().csrf,
        options=options,
        onward="/sign-in/code/passkey/answer",
        instead="/sign-in/code",
    )


@blueprint.post("/sign-in/code/passkey/answer")
@signed_in
@asked_by(ask_for_code)
def show_again() -> ResponseReturnValue:
    """Take what their device signed for a second factor; the session is whole from here on."""
    mine, about = here(), [delays.factor(here().user.id)]
    delays.count(db.session(), about, now())
    answer = passkeys.answered(mine, request.form.get("answer", ""))
    people.keep()
    try:
        passkeys.confirm(db.session(), mine.user, answer, _site(), now())
    except NotProven:
        people.refused("second-factor-refused", mine.user)
        raise
    delays.forgive(db.session(), about)
    return come_in(mine, "passkey-shown")


def _site() -> Here:
    return Here(current_app.config["PUBLIC_URL"])
