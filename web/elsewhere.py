"""Signing in by way of another site, and linking one's account with it."""

from uuid import UUID

from flask import Blueprint, current_app, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from identity import accounts, delays, providers, sessions
from identity.providers import Flow, Seen
from models import IdentityProvider, db
from scheduler.doors import public
from scheduler.errors import NotProven, Refusal
from web import account, people
from web.people import asked_by, here, now, signed_in, wholly
from web.signing_in import ask, come_in, enter

blueprint = Blueprint("elsewhere", __name__, template_folder="templates")
blueprint.after_request(people.seal)


def _ask(clinic_id: UUID, problem: str | None = None, provider_id: UUID | None = None) -> str:
    return ask(clinic_id, problem)


@blueprint.post("/sign-in/<uuid:clinic_id>/provider/<uuid:provider_id>")
@public("Who signs in is not known before.")
@asked_by(_ask)
def leave(clinic_id: UUID, provider_id: UUID) -> ResponseReturnValue:
    """Send somebody to another site, to be known there."""
    enter(clinic_id)
    delays.count(db.session(), [delays.address(request.remote_addr)], now())
    return _send(clinic_id, provider_id)


@blueprint.post("/account/providers/<uuid:provider_id>")
@wholly
@asked_by(account.page)
def begin_link(provider_id: UUID) -> ResponseReturnValue:
    """Send somebody who is signed in to another site, to sign in by it from now on."""
    here().refuse_unless_fresh(now())
    return _send(here().user.clinic_id, provider_id, here().user.id)


@blueprint.get("/sign-in/<uuid:clinic_id>/provider/<uuid:provider_id>/callback")
@public("Who signs in is not known before.")
def come_back(clinic_id: UUID, provider_id: UUID) -> ResponseReturnValue:
    """Take back whom another site has sent; what they bring works once, in their browser alone."""
    try:
        enter(clinic_id)
        provider = providers.one(db.session(), provider_id)
        flow = _flow(clinic_id, provider_id)
        with people.taken_once():
            told = request.args.to_dict()
            seen = providers.come_back(db.session(), provider, people.sent_away(), told, flow)
        if seen.link_to is not None:
            return _link(provider_id=provider_id, seen=seen)
        return _sign_in(provider, seen)
    except Refusal as refusal:
        db.session.rollback()
        return make_response(ask(clinic_id, refusal.detail), 422)


@signed_in
def _link(provider_id: UUID, seen: Seen) -> ResponseReturnValue:
    """Link whom the other site knows with who asked for it, if they are still here."""
    mine = here()
    if mine.user.id != seen.link_to or not mine.is_whole:
        raise NotProven("This did not begin here. Please begin anew.")
    providers.link(db.session(), providers.one(db.session(), provider_id), mine.user, seen.subject)
    accounts.tell_of_change(db.session(), mine.user, now())
    people.done("identity-linked", mine.user)
    return redirect("/account?done=linked", 303)


def _sign_in(provider: IdentityProvider, seen: Seen) -> ResponseReturnValue:
    """Let in whom the site knows; without a second factor there, one is asked for here."""
    user = providers.whose(db.session(), provider, seen.subject)
    delays.forgive(db.session(), [delays.address(request.remote_addr)])
    begun, token = sessions.begin(db.session(), user, people.whence(), now())
    if seen.second_factor_at is not None:
        mine = sessions.SignedIn(user, begun, sessions.csrf_of(token))
        return come_in(mine, "signed-in-elsewhere", given_at=seen.second_factor_at)
    people.done("known-elsewhere", user)
    return people.let_in(make_response(redirect("/sign-in/code", 303)), token)


def _send(clinic_id: UUID, provider_id: UUID, link_to: UUID | None = None) -> ResponseReturnValue:
    provider = providers.one(db.session(), provider_id)
    flow = _flow(clinic_id, provider_id)
    url, token = providers.leave(db.session(), provider, flow, link_to)
    page = render_template("leave.html", url=url, name=provider.name)
    people.keep()
    return people.send_away(make_response(page), token)


def _flow(clinic_id: UUID, provider_id: UUID) -> Flow:
    back = f"{current_app.config['PUBLIC_URL']}/sign-in/{clinic_id}/provider/{provider_id}/callback"
    return Flow(current_app.config["EXCHANGE"], back, now())
