"""Channels: the ways out. Each takes an envelope and says truthfully what became of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message ready to leave."""

    name: str
    """Unique to the message, and the same at every try."""
    sender: str
    recipient: str
    content: bytes
    """A mail whole; of a text message its text, in UTF-8."""
    due_at: datetime
    give_up_at: float
    """By the monotonic clock: nothing may leave after this, however long the process slept."""
    valid_seconds: int = 14400
    """For how long it is of use to the reader."""
    callback: str = ""
    """Where the provider tells what became of it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody else answers for it now."""

    provider: str | None = None
    reference: str | None = None
    """What the provider calls it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It was provably not accepted."""

    code: str
    for_ever: bool
    """Whether trying again is pointless."""
    bad_address: bool = False
    """The address itself was refused: nothing else reaches the reader there."""
    wait_seconds: float | None = None
    """How long the provider asked us to wait."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been accepted; the answer was lost."""

    code: str
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A message that a provider has."""

    reference: str
    created_at: datetime


Outcome = Accepted | Refused | Unknown


@runtime_checkable
class Asked(Protocol):
    """A way out that can be asked what it was given."""

    def find(self, provider: str | None, recipient: str, since: datetime) -> list[Seen] | None:
        """What `provider` was given for `recipient` since then. None: it cannot be asked now."""


class Channel(Protocol):
    """A way out."""

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Hand the envelope over, within 20 seconds. Never raises for what the other side does."""

    def close(self) -> None:
        """Let go of connections."""
