"""Passkeys (WebAuthn): a device signs what we ask, for this site alone, after asking its owner.

The device has seen a fingerprint, a face or a PIN: a passkey is both factors at once, and no
other site can ask for it. What is to be signed is random, kept here, and taken once.
Source: W3C Web Authentication Level 3.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import webauthn
from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from identity import begun
from identity.sessions import SignedIn
from models import Passkey, UserAccount
from models.vocabulary import UserStatus
from scheduler.errors import NotProven

MOST = 20
"""So many a person may have."""
WAY = "passkey"

_UNKNOWN = "This passkey is not known here."
_NO_ANSWER = (WebAuthnException, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What comes of reading something that no device would send."""


@dataclass(frozen=True, slots=True)
class Here:
    """The site for which passkeys are made."""

    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device says to what it was asked to sign."""

    challenge: bytes | None
    """What it was asked. None: nothing, or it was answered before."""
    told: str


def of(session: Session, user_id: UUID) -> list[Passkey]:
    """The passkeys of somebody, oldest first."""
    found = select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id)
    return list(session.scalars(found))


def offer(session: Session, mine: SignedIn, here: Here) -> str:
    """What a device is asked for, to make a passkey for who is signed in."""
    known = [PublicKeyCredentialDescriptor(one.credential_id) for one in of(session, mine.user.id)]
    options = webauthn.generate_registration_options(
        rp_id=here.host,
        rp_name="Afterglow",
        user_id=mine.user.id.bytes,
        user_name=mine.user.email,
        user_display_name=mine.user.name,
        exclude_credentials=known,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
    )
    mine.session.challenge = options.challenge
    session.flush()
    return webauthn.options_to_json(options)


def keep(session: Session, mine: SignedIn, told: str, name: str, here: Here) -> Passkey:
    """Keep a passkey that a device has just made. Refuses with `NotProven`."""
    challenge, mine.session.challenge = mine.session.challenge, None
    if challenge is None or len(of(session, mine.user.id)) >= MOST:
        raise NotProven("Please begin anew.")
    try:
        made = webauthn.verify_registration_response(
            credential=told,
            expected_challenge=challenge,
            expected_rp_id=here.host,
            expected_origin=here.origin,
            require_user_verification=True,
        )
    except _NO_ANSWER as error:
        raise NotProven("The device's answer is not right. Please begin anew.") from error
    if _found(session, made.credential_id) is not None:
        raise NotProven("This passkey belongs to somebody already.")
    passkey = Passkey(
        id=uuid7(),
        user_id=mine.user.id,
        credential_id=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        name=name,
    )
    session.add(passkey)
    session.flush()
    return passkey


def ask(session: Session, here: Here, now: datetime) -> tuple[str, str]:
    """What any device is asked to sign; returns that, and the browser's token meanwhile."""
    options = webauthn.generate_authentication_options(
        rp_id=here.host, user_verification=UserVerificationRequirement.REQUIRED
    )
    known = {"challenge": bytes_to_base64url(options.challenge)}
    return webauthn.options_to_json(options), begun.begin(session, WAY, known, now)


def whose(
    session: Session, known: Mapping[str, Any], told: str, here: Here, now: datetime
) -> UserAccount:
    """Who signed what was asked (`known`), with a device of theirs. Refuses with `NotProven`."""
    answer = Answer(base64url_to_bytes(known["challenge"]), told)
    passkey = _signed(session, answer, here, now)
    user = session.scalars(select(UserAccount).where(UserAccount.id == passkey.user_id)).one()
    if user.status is not UserStatus.ACTIVE:
        raise NotProven(_UNKNOWN)
    return user


def ask_again(session: Session, mine: SignedIn, here: Here) -> str:
    """What a device of somebody who is signed in is asked to sign, to show that it is still them.

    Refuses with `NotProven` who has none.
    """
    known = [PublicKeyCredentialDescriptor(one.credential_id) for one in of(session, mine.user.id)]
    if not known:
        raise NotProven("You have no passkey here.")
    options = webauthn.generate_authentication_options(
        rp_id=here.host,
        allow_credentials=known,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    mine.session.challenge = options.challenge
    session.flush()
    return webauthn.options_to_json(options)


def answered(mine: SignedIn, told: str) -> Answer:
    """What a device says to what was asked last, which is asked no more.

    Commit before it is looked at, so that nothing is tried twice.
    """
    challenge, mine.session.challenge = mine.session.challenge, None
    return Answer(challenge, told)


def confirm(session: Session, user: UserAccount, answer: Answer, here: Here, now: datetime) -> None:
    """Take a device's answer for a second factor. Refuses with `NotProven` unless it is theirs."""
    if _signed(session, answer, here, now).user_id != user.id:
        raise NotProven(_UNKNOWN)


def _signed(session: Session, answer: Answer, here: Here, now: datetime) -> Passkey:
    """The passkey by which a device signed what it was asked. Refuses with `NotProven`."""
    if answer.challenge is None:
        raise NotProven("Please begin anew.")
    passkey = _named(session, answer.told)
    try:
        signed = webauthn.verify_authentication_response(
            credential=answer.told,
            expected_challenge=answer.challenge,
            expected_rp_id=here.host,
            expected_origin=here.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except _NO_ANSWER as error:
        raise NotProven("The device's answer is not right. Please begin anew.") from error
    passkey.sign_count, passkey.used_at = signed.new_sign_count, now
    session.flush()
    return passkey


def _named(session: Session, told: str) -> Passkey:
    """The passkey that an answer names, locked."""
    try:
        credential_id = base64url_to_bytes(json.loads(told)["rawId"])
    except _NO_ANSWER as error:
        raise NotProven("The device's answer is not right. Please begin anew.") from error
    passkey = _found(session, credential_id)
    if passkey is None:
        raise NotProven(_UNKNOWN)
    return passkey


def _found(session: Session, credential_id: bytes) -> Passkey | None:
    return session.scalar(
        select(Passkey).where(Passkey.credential_id == credential_id).with_for_update()
    )
