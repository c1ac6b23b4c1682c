"""What a provider of text messages tells us: replies, and what became of messages.

Every call must carry the provider's signature over the address as we gave it out and the form;
the address names the clinic. A call that is told twice changes nothing the second time. The
answer is empty: what we have to say goes out as messages of its own.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import structlog
from flask import Blueprint, Response, abort, current_app, request
from flask.typing import ResponseReturnValue

from models import db, enter_clinic
from models.vocabulary import Channel, MessageState
from notifications import fallback, queue, reading
from notifications.queue import Word
from scheduler import audit, replies
from scheduler.audit import Act
from scheduler.authority import PATIENT
from scheduler.doors import Asks, asks
from scheduler.replies import Heard
from web import forms

blueprint = Blueprint("hooks", __name__, url_prefix="/hooks")

LONGEST_BODY = 1600
_MEANS: Mapping[str, MessageState] = {
    "accepted": MessageState.SENT,
    "queued": MessageState.SENT,
    "sending": MessageState.SENT,
    "sent": MessageState.SENT,
    "delivered": MessageState.DELIVERED,
    "read": MessageState.DELIVERED,
    "undelivered": MessageState.FAILED,
    "failed": MessageState.FAILED,
}

log = structlog.get_logger()


@blueprint.post("/sms/<uuid:clinic_id>/inbound")
@asks(Asks.SIGNATURE)
def inbound(clinic_id: UUID) -> ResponseReturnValue:
    """Take in a patient's text message."""
    provider = _signed_by()
    enter_clinic(db.session(), clinic_id)
    heard = Heard(
        provider=provider,
        reference=request.form.get("MessageSid", "")[:100],
        channel=Channel.SMS,
        sender=request.form.get("From", "")[:20],
        body=forms.visible(request.form.get("Body", ""))[:LONGEST_BODY],
    )
    if not heard.reference or not heard.sender:
        abort(400)
    reply = replies.hear(db.session(), heard, _now())
    if reply is not None:
        act = Act(action="create", entity="reply", entity_id=reply.id, patient_id=reply.patient_id)
        audit.record(db.session(), PATIENT, act, _now())
    db.session.commit()
    log.info("reply.heard", meaning=None if reply is None else reply.meaning)
    return _empty()


@blueprint.post("/sms/<uuid:clinic_id>/status/<uuid:message_id>")
@asks(Asks.SIGNATURE)
def status(clinic_id: UUID, message_id: UUID) -> ResponseReturnValue:
    """Take in what became of a message."""
    provider = _signed_by()
    told = request.form.get("MessageStatus", "").lower()
    if told not in _MEANS:
        log.warning("receipt.unknown", status=told[:20])
        return _empty()
    enter_clinic(db.session(), clinic_id)
    connection = reading.raw(db.session())
    word = Word(
        message_id=message_id,
        provider=provider,
        reference=request.form.get("MessageSid", "")[:100],
        status=told,
        means=_MEANS[told],
        code=f"sms-{request.form['ErrorCode'][:10]}" if request.form.get("ErrorCode") else None,
    )
    if queue.receive(connection, word, _now()) is MessageState.FAILED:
        fallback.fall_over(connection, [message_id], _now())
    db.session.commit()
    return _empty()


def _signed_by() -> str:
    """The provider that signed the call; 403 without a signature that is right."""
    told = request.headers.get("X-Twilio-Signature", "").encode()
    url = current_app.config["PUBLIC_URL"] + request.full_path.rstrip("?")
    form = request.form.to_dict(flat=False)
    tokens: Mapping[str, str] = current_app.config["SMS_TOKENS"]
    signers = [
        name
        for name, token in tokens.items()
        if hmac.compare_digest(told, signature(token, url, form).encode())
    ]
    if not signers:
        log.warning("hook.unsigned")
        abort(403)
    return signers[0]


def signature(token: str, url: str, form: Mapping[str, list[str]]) -> str:
    """The signature of a call: HMAC-SHA1 over its address and its sorted parameters.

    Source: the provider's security guide; the algorithm is theirs.
    """
    told = url + "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
    return base64.b64encode(hmac.new(token.encode(), told.encode(), hashlib.sha1).digest()).decode()


def _empty() -> Response:
    return Response("<Response></Response>", content_type="text/xml; charset=utf-8")


def _now() -> datetime:
    now: datetime = current_app.config["CLOCK"]()
    return now
