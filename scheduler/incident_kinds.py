"""Kinds of incidents, as a protocol knows them: what is done about each, by whom, by when.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from models.vocabulary import HealthEventKind, Owner, WayHome
from scheduler.spans import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """A line of an incident's checklist."""

    code: str
    title: str
    owner: Owner
    due_after: timedelta
    """After the incident."""
    gate: str | None
    """A gate of later stages, or of later visits, that is shut until it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentKind:
    """Something that may go wrong, and what is done about it."""

    code: str
    title: str
    is_urgent: bool
    """Whoever serves the visit, is on call or at the desk is told at once."""
    health_event: HealthEventKind | None
    """It is noted as such too, and ends the clearances that such an event ends."""
    on_departure: frozenset[WayHome]
    """It begins by itself when a patient leaves in one of these ways."""
    duties: tuple[Duty, ...]


def read(told: Mapping[str, Any]) -> IncidentKind:
    """Read a kind of incident as protocol files write it."""
    event = told.get("health_event")
    return IncidentKind(
        code=told["code"],
        title=told["title"],
        is_urgent=told.get("urgent", False),
        health_event=None if event is None else HealthEventKind(event),
        on_departure=frozenset(map(WayHome, told.get("on_departure", ()))),
        duties=tuple(map(_duty, told["checklist"])),
    )


def _duty(told: Mapping[str, Any]) -> Duty:
    return Duty(
        code=told["code"],
        title=told["title"],
        owner=Owner(told["owner"]),
        due_after=Span.read(told["due_after"]).elapsed,
        gate=told.get("gate"),
    )
