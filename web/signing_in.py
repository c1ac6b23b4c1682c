"""Signing in: a password, then a second factor; and how to come to a new password.

A clinic has its own page, `/sign-in/<clinic>`; where there is one clinic, or the browser knows
which, `/sign-in` leads there. Whether there is an account is told to nobody: neither by words
nor by how long an answer takes.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Blueprint, current_app, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select, text

from identity import accounts, delays, factors, passkeys, providers, sessions
from identity.sessions import SignedIn
from models import Clinic, IdentityProvider, db, enter_clinic
from models.vocabulary import TokenPurpose
from scheduler import facts
from scheduler.doors import Asks, asks, public
from scheduler.errors import NotFound, NotProven, Unfit
from web import people
from web.forms import BadForm
from web.people import asked_by, here, now, signed_in

blueprint = Blueprint("signing_in", __name__, url_prefix="/sign-in", template_folder="templates")
blueprint.after_request(people.seal)

LINK_COOKIE_SECONDS = 15 * 60


@blueprint.get("/")
@blueprint.get("", endpoint="bare")
@public("Who signs in is not known before.")
def find_clinic() -> ResponseReturnValue:
    """Lead on to the page of the clinic, if it is clear which."""
    clinic_id = people.known_clinic() or db.session.scalar(text("SELECT only_clinic()"))
    if clinic_id is not None:
        return redirect(f"/sign-in/{clinic_id}", 303)
    return render_template("sign-in-where.html"), 404


def ask(clinic_id: UUID, problem: str | None = None, done: str | None = None) -> str:
    """The page that asks for address and password."""
    clinic = enter(clinic_id)
    told = request.form.get("email", "")
    return render_template(
        "sign-in.html",
        clinic=clinic,
        providers=providers.active(db.session()),
        problem=problem,
        done=done,
        email=told,
    )


@blueprint.get("/<uuid:clinic_id>")
@public("Who signs in is not known before.")
def show(clinic_id: UUID) -> ResponseReturnValue:
    """Ask for address and password."""
    try:
        return ask(clinic_id)
    except NotFound:
        return render_template("sign-in-where.html"), 404


@blueprint.post("/<uuid:clinic_id>")
@public("Who signs in is not known before.")
@asked_by(ask)
def sign_in(clinic_id: UUID) -> ResponseReturnValue:
    """Take address and password; on to the second factor."""
    enter(clinic_id)
    email = accounts.folded(_told("email"))
    about = [
        delays.account(email, people.known(email)),
        delays.address(request.remote_addr),
    ]
    delays.count(db.session(), about, now())
    people.keep()
    user = accounts.by_email(db.session(), email)
    if not accounts.is_password(db.session(), user, _told("password")) or user is None:
        people.refused("sign-in-refused", user)
        raise NotProven("The address or the password is not right.")
    delays.forgive(db.session(), about)
    _, token = people.begin(user)
    has_factor = factors.has_any(db.session(), user)
    people.done("password-right", user)
    onward = "/sign-in/code" if has_factor else "/sign-in/second-factor"
    return people.let_in(make_response(redirect(onward, 303)), token)


def ask_for_code(problem: str | None = None) -> str:
    """The page that asks for a second factor."""
    mine = here()
    return render_template(
        "sign-in-code.html",
        form=mine.csrf,
        user=mine.user,
        has_passkey=bool(passkeys.of(db.session(), mine.user.id)),
        providers=_elsewhere(mine) if mine.is_whole else (),
        problem=problem,
    )


def _elsewhere(mine: SignedIn) -> list[IdentityProvider]:
    """The other sites at which somebody can show once more that it is them."""
    linked = providers.linked(db.session(), mine.user.id)
    return [one for one in providers.active(db.session()) if one in linked]


@blueprint.get("/code")
@signed_in
def show_code() -> ResponseReturnValue:
    """Ask for a second factor, also once more of somebody who gave one a while ago."""
    if not (here().is_whole or factors.has_any(db.session(), here().user)):
        return redirect("/sign-in/second-factor", 303)
    return ask_for_code()


@blueprint.post("/code")
@signed_in
@asked_by(ask_for_code)
def give_code() -> ResponseReturnValue:
    """Take a code of the app, or one for its loss; the session is whole from here on."""
    mine = here()
    about = [delays.factor(mine.user.id)]
    delays.count(db.session(), about, now())
    people.keep()
    try:
        factors.take(db.session(), mine.user, _told("code"), now())
    except NotProven:
        people.refused("second-factor-refused", mine.user)
        raise
    delays.forgive(db.session(), about)
    return come_in(mine, "signed-in")


def ask_to_enrol(problem: str | None = None) -> str:
    """The page on which an app is set up. Its secret stays the same until a code shows it."""
    pending = here().session.totp_pending
    if pending is None:
        pending = here().session.totp_pending = factors.new_secret()
        people.keep()
    clinic = facts.clinic(db.session())
    return render_template(
        "second-factor.html",
        form=here().csrf,
        picture=factors.picture(pending, here().user.email, clinic.name),
        secret=pending,
        problem=problem,
    )


@blueprint.get("/second-factor")
@signed_in
def show_enrolment() -> ResponseReturnValue:
    """Show how to set up an app; only a fresh second factor lets one replace another."""
    if _may_not_enrol():
        return redirect("/sign-in/code", 303)
    return ask_to_enrol()


@blueprint.post("/second-factor")
@signed_in
@asked_by(ask_to_enrol)
def enrol() -> ResponseReturnValue:
    """Keep the app that shows a right code, and tell the codes for its loss, once."""
    if _may_not_enrol():
        return redirect("/sign-in/code", 303)
    mine = here()
    secret = mine.session.totp_pending
    step = None if secret is None else factors.step_of(secret, _told("code"), now())
    if secret is None or step is None:
        raise NotProven("This code is not right. Wait for the next one, and try again.")
    codes = accounts.enrol(db.session(), mine.user, secret, step)
    mine.session.totp_pending = None
    accounts.tell_of_change(db.session(), mine.user, now())
    answer = make_response(render_template("recovery-codes.html", codes=codes))
    return come_in(mine, "second-factor-set-up", answer)


def ask_who_forgot(clinic_id: UUID, problem: str | None = None, done: bool = False) -> str:
    """The page for who does not know their password."""
    clinic = enter(clinic_id)
    return render_template("forgot.html", clinic=clinic, problem=problem, done=done)


@blueprint.get("/<uuid:clinic_id>/forgot")
@public("Who signs in is not known before.")
def show_forgot(clinic_id: UUID) -> ResponseReturnValue:
    """Ask for the address of who does not know their password."""
    try:
        return ask_who_forgot(clinic_id)
    except NotFound:
        return render_template("sign-in-where.html"), 404


@blueprint.post("/<uuid:clinic_id>/forgot")
@public("Who signs in is not known before.")
@asked_by(ask_who_forgot)
def forgot(clinic_id: UUID) -> ResponseReturnValue:
    """Have a link mailed to the address, if it has an account; the answer is always the same."""
    enter(clinic_id)
    email = accounts.folded(_told("email"))
    about = [delays.About(f"forgot {email}", free=2), delays.address(request.remote_addr)]
    delays.count(db.session(), about, now())
    accounts.ask_for_password(db.session(), email, now())
    people.done("password-forgotten")
    return ask_who_forgot(clinic_id, done=True)


@blueprint.get("/new-password/<token>")
@asks(Asks.TOKEN)
def follow(token: str) -> ResponseReturnValue:
    """Take the token of a link out of the address. Changes nothing: mail scanners come first."""
    if accounts.behind(db.session(), token, now()) is None:
        return render_template("link-closed.html"), 404
    answer = make_response(redirect("/sign-in/new-password", 303))
    answer.set_cookie(
        _link_cookie(),
        token,
        max_age=LINK_COOKIE_SECONDS,
        secure=current_app.config["SECURE"],
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return answer


def ask_for_password(problem: str | None = None, provider_id: UUID | None = None) -> str:
    """The page on which the reader of a link chooses a password."""
    found = accounts.behind(db.session(), link_told(), now())
    if found is None:
        return render_template("link-closed.html")
    link, user = found
    is_invited = link.purpose is TokenPurpose.INVITATION
    return render_template(
        "new-password.html",
        clinic=facts.clinic(db.session()),
        email=user.email,
        providers=providers.active(db.session()) if is_invited else (),
        least=accounts.shortest(db.session(), user),
        problem=problem,
    )


@blueprint.get("/new-password")
@asks(Asks.TOKEN)
def show_new_password() -> ResponseReturnValue:
    """Ask the reader of a link for a password."""
    found = accounts.behind(db.session(), link_told(), now())
    return ask_for_password(), 404 if found is None else 200


@blueprint.post("/new-password")
@asks(Asks.TOKEN)
@asked_by(ask_for_password)
def choose_password() -> ResponseReturnValue:
    """Keep the password that the reader of a link chose; they sign in with it next."""
    if _told("password") != _told("again"):
        raise BadForm("These two are not the same.")
    user = accounts.choose_password(db.session(), link_told(), _told("password"), now())
    clinic_id = user.clinic_id
    people.done("password-chosen", user)
    answer = make_response(redirect(f"/sign-in/{clinic_id}", 303))
    answer.delete_cookie(_link_cookie(), path="/", secure=current_app.config["SECURE"])
    return answer


def come_in(
    mine: sessions.SignedIn, what: str, answer: Any = None, given_at: datetime | None = None
) -> ResponseReturnValue:
    """Let somebody in who has given their second factor, under a new token."""
    token = sessions.complete(db.session(), mine, now(), given_at=given_at)
    user = mine.user
    answer = make_response(redirect("/account", 303)) if answer is None else answer
    people.remember(answer, user)
    people.done(what, user)
    return people.let_in(answer, token)


def _may_not_enrol() -> bool:
    """Only who comes in for the first time has no second factor to show before they have one."""
    mine = here()
    has_one = mine.is_whole or factors.has_any(db.session(), mine.user)
    return has_one and not mine.is_fresh(now())


def enter(clinic_id: UUID) -> Clinic:
    enter_clinic(db.session(), clinic_id)
    clinic = db.session.scalar(select(Clinic).where(Clinic.clinic_id == clinic_id))
    if clinic is None:
        raise NotFound("There is no such clinic.")
    return clinic


def _told(field: str) -> str:
    """What was typed. Passwords may hold anything but what no database stores."""
    told = request.form.get(field, "")
    if not told or len(told) > 1000 or "\x00" in told:
        raise Unfit("Please fill in everything.")
    return told


def link_told() -> str:
    """The token of the link that brought somebody here."""
    return request.cookies.get(_link_cookie(), "")


def _link_cookie() -> str:
    return "__Host-afterglow-link" if current_app.config["SECURE"] else "afterglow-link"
