"""Signing in by way of another site, and linking one's account with it."""

from uuid import UUID

from flask import Blueprint, current_app, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from identity import accounts, delays, providers, sessions
from identity.providers import Aim, Flow, Seen
from models import IdentityProvider, db
from models.vocabulary import TokenPurpose
from scheduler.doors import Asks, asks, public
from scheduler.errors import NotProven, Refusal, Unfit
from web import account, people
from web.people import asked_by, here, now, signed_in, wholly
from web.signing_in import ask, ask_for_password, come_in, enter, link_told

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
    people.keep()
    return _send(clinic_id, provider_id, Aim(anew="anew" in request.form))


@blueprint.post("/account/providers/<uuid:provider_id>")
@wholly
@asked_by(account.page)
def begin_link(provider_id: UUID) -> ResponseReturnValue:
    """Send somebody who is signed in to another site, to sign in by it from now on."""
    here().refuse_unless_fresh(now())
    return _send(here().user.clinic_id, provider_id, Aim(link_to=here().user.id))


@blueprint.post("/sign-in/new-password/provider/<uuid:provider_id>")
@asks(Asks.TOKEN)
@asked_by(ask_for_password)
def accept(provider_id: UUID) -> ResponseReturnValue:
    """Send the reader of an invitation to another site, to take it up by being known there."""
    found = accounts.behind(db.session(), link_told(), now())
    if found is None or found[0].purpose is not TokenPurpose.INVITATION:
        raise Unfit("This link does not work any more.")
    link, user = found
    return _send(user.clinic_id, provider_id, Aim(invitation=link.id))


@blueprint.post("/account/providers/<uuid:provider_id>/remove")
@wholly
@asked_by(account.page)
def unlink(provider_id: UUID) -> ResponseReturnValue:
    """Let one's account of another site open this one no more."""
    here().refuse_unless_fresh(now())
    providers.unlink(db.session(), provider_id, here().user.id)
    accounts.tell_of_change(db.session(), here().user, now())
    people.done("identity-unlinked", here().user)
    return redirect("/account?done=unlinked", 303)


@blueprint.get("/sign-in/<uuid:clinic_id>/provider/<uuid:provider_id>/callback")
@public("Who signs in is not known before.")
def come_back(clinic_id: UUID, provider_id: UUID) -> ResponseReturnValue:
    """Take back whom another site has sent; what they bring works once, in their browser alone."""
    try:
        enter(clinic_id)
        provider = _site(provider_id)
        flow = _flow(clinic_id, provider_id)
        with people.taken_once(providers.WAY) as known:
            seen = providers.come_back(provider, known, request.args.to_dict(), flow)
            if seen.aim.link_to is None:
                if seen.aim.invitation is not None:
                    _take_up(provider, seen.aim.invitation, seen)
                return _sign_in(provider, seen)
        return _link(provider_id=provider_id, seen=seen)
    except Refusal as refusal:
        db.session.rollback()
        return make_response(ask(clinic_id, refusal.detail), 422)


@signed_in
def _link(provider_id: UUID, seen: Seen) -> ResponseReturnValue:
    """Link whom the other site knows with who asked for it, if they are still here."""
    mine = here()
    if mine.user.id != seen.aim.link_to or not mine.is_whole:
        raise NotProven("This did not begin here. Please begin anew.")
    providers.link(db.session(), providers.one(db.session(), provider_id), mine.user, seen.subject)
    accounts.tell_of_change(db.session(), mine.user, now())
    people.done("identity-linked", mine.user)
    return redirect("/account?done=linked", 303)


def _take_up(provider: IdentityProvider, invitation_id: UUID, seen: Seen) -> None:
    """Make who was invited somebody who works here, and signs in by that site."""
    user = accounts.accept_elsewhere(db.session(), invitation_id, seen.email, now())
    providers.link(db.session(), providers.one(db.session(), provider.id), user, seen.subject)
    people.done("invitation-taken-up-elsewhere", user)


def _sign_in(provider: IdentityProvider, seen: Seen) -> ResponseReturnValue:
    """Let in whom the site knows; without a second factor there, one is asked for here."""
    user = providers.whose(db.session(), provider, seen.subject)
    delays.forgive(db.session(), [delays.address(request.remote_addr)])
    begun, token = people.begin(user)
    if seen.second_factor_at is not None:
        mine = sessions.SignedIn(user, begun, sessions.csrf_of(token))
        return come_in(mine, "signed-in-elsewhere", given_at=seen.second_factor_at)
    people.done("known-elsewhere", user)
    return people.let_in(make_response(redirect("/sign-in/code", 303)), token)


def _send(clinic_id: UUID, provider_id: UUID, aim: Aim) -> ResponseReturnValue:
    provider = _site(provider_id)
    flow = _flow(clinic_id, provider_id)
    url, token = providers.leave(db.session(), provider, flow, aim)
    page = render_template("leave.html", url=url, name=provider.name)
    people.keep()
    return people.send_away(make_response(page), token)


def _site(provider_id: UUID) -> IdentityProvider:
    """The other site, read whole: while it is asked nothing of the database is held."""
    provider = providers.one(db.session(), provider_id)
    secret = provider.client_secret
    db.session.expunge(provider)
    provider.client_secret = secret  # opened: without the database nothing sealed is
    people.keep()
    return provider


def _flow(clinic_id: UUID, provider_id: UUID) -> Flow:
    back = f"{current_app.config['PUBLIC_URL']}/sign-in/{clinic_id}/provider/{provider_id}/callback"
    return Flow(current_app.config["EXCHANGE"], back, now())
