"""Channels: the ways out. Each takes an envelope and says truthfully what became of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message ready to leave."""

    name: str
    """Unique to the message, and the same at every try."""
    sender: str
    recipient: str
    content: bytes
    due_at: datetime
    give_up_at: float
    """By the monotonic clock: nothing may leave after this, however long the process slept."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody else answers for it now."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It was provably not accepted."""

    code: str
    for_ever: bool
    """Whether trying again is pointless."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been accepted; the answer was lost."""

    code: str


Outcome = Accepted | Refused | Unknown


class Channel(Protocol):
    """A way out."""

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Hand the envelope over, within 20 seconds. Never raises for what the other side does."""

    def close(self) -> None:
        """Let go of connections."""
