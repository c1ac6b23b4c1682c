"""Signing: how another system knows that an event is ours, as Standard Webhooks 1.0.0 has it.

HMAC-SHA256 over the id, the time of the try and the body, with a secret that the two share.
While a secret is being replaced there are two, and two signatures. Secrets are written and read
here alone.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from uuid_utils.compat import uuid7

import vault
from notifications.reading import HERE
from vault import Place

PREFIX = "whsec_"
KEY_BYTES = 32


def headers(event_id: UUID, at: datetime, body: bytes, shared: Iterable[str]) -> dict[str, str]:
    """The headers that sign one try at an instant, with each of the secrets."""
    seconds = int(at.timestamp())
    signed = f"{event_id}.{seconds}.".encode() + body
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in shared),
    }


def current(connection: Connection[Any], webhook_id: UUID) -> list[str]:
    """The secrets that a webhook's receiver may verify with now, the newest first."""
    rows = connection.execute(_CURRENT, {"webhook": webhook_id}).fetchall()
    return [
        vault.open_text(connection, _place(clinic_id, row_id), told)
        for clinic_id, row_id, told in rows
    ]


def renew(connection: Connection[Any], webhook_id: UUID, keep: timedelta) -> str:
    """Give a webhook a new secret; the one before is good for so long beside it.

    The connection is that of a session.
    """
    made = PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    about = {"webhook": webhook_id, "keep": keep}
    connection.execute(_FORGET, about)
    connection.execute(_END, about)
    [(clinic_id,)] = connection.execute(f"SELECT {HERE}").fetchall()
    place = _place(clinic_id, uuid7())
    sealed = vault.seal_text(connection, place, made)
    connection.execute(_ADD, {**about, "id": place.row, "secret": sealed})
    return made


def _place(clinic_id: UUID, row_id: UUID) -> Place:
    return Place(clinic_id, "webhook_secret", "secret", row_id)


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


_CURRENT = f"""
    SELECT clinic_id, id, secret FROM webhook_secret
     WHERE clinic_id = {HERE} AND webhook_id = %(webhook)s
       AND (ends_at IS NULL OR ends_at > clock_timestamp())
     ORDER BY ends_at DESC NULLS FIRST
"""

_FORGET = f"""
    DELETE FROM webhook_secret
     WHERE clinic_id = {HERE} AND webhook_id = %(webhook)s AND ends_at IS NOT NULL
"""

_END = f"""
    UPDATE webhook_secret SET ends_at = clock_timestamp() + %(keep)s
     WHERE clinic_id = {HERE} AND webhook_id = %(webhook)s AND ends_at IS NULL
"""

_ADD = f"""
    INSERT INTO webhook_secret (clinic_id, id, webhook_id, secret)
    VALUES ({HERE}, %(id)s, %(webhook)s, %(secret)s)
"""
