"""Events: of what other systems can be told. The catalogue; triggers write the rows.

An event holds ids and how often its thing has changed, never a name and nothing of a patient's
health: whoever may know more reads it over REST with a key of their own. No type says what a
visit is for or what was found.
Source: Standard Webhooks 1.0.0, "Thin payloads" (https://www.standardwebhooks.com).
"""

from collections.abc import Mapping
from dataclasses import dataclass

EVERYTHING = "*"

PING = "ping"


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event."""

    meaning: str
    data: tuple[str, ...]
    """What its `data` holds, beside `clinic_id`."""


_VISIT = ("appointment_id", "patient_id", "course_id", "revision", "version")
_COURSE = ("course_id", "patient_id", "version")

TYPES: Mapping[str, EventType] = {
    "appointment.offered": EventType("A time is offered to whoever waits for one.", _VISIT),
    "appointment.held": EventType("A time is held for a visit, for a while.", _VISIT),
    "appointment.released": EventType("A held or offered time was let go.", _VISIT),
    "appointment.booked": EventType("A visit was booked, or a held time was taken.", _VISIT),
    "appointment.confirmed": EventType("The patient says that they will come.", _VISIT),
    "appointment.rescheduled": EventType("A visit was moved.", _VISIT),
    "appointment.cancelled": EventType("A visit was cancelled.", _VISIT),
    "appointment.suspended": EventType("A visit is not ready in time: people decide.", _VISIT),
    "appointment.resumed": EventType("A suspended visit takes place after all.", _VISIT),
    "appointment.arrived": EventType("The patient is here.", _VISIT),
    "appointment.progressed": EventType("The visit went on to its next part.", _VISIT),
    "appointment.fulfilled": EventType("The visit took place.", _VISIT),
    "appointment.noshow": EventType("The patient did not come.", _VISIT),
    "appointment.entered-in-error": EventType("The visit never was; it was noted wrongly.", _VISIT),
    "course.opened": EventType("A patient was put under a protocol.", _COURSE),
    "course.completed": EventType("Nothing of the course is left to be done.", _COURSE),
    "course.reopened": EventType("Something of a completed course is to be done again.", _COURSE),
    "course.revoked": EventType("The course was ended before its time.", _COURSE),
    "clearance.recorded": EventType(
        "Somebody vouched for a gate, or refused to.", ("clearance_id", "patient_id")
    ),
    "checklist-item.changed": EventType(
        "Something to be done was settled, or is to be done again.",
        ("checklist_item_id", "appointment_id", "version"),
    ),
    "message.failed": EventType(
        "A message was refused for ever: people call.", ("message_id", "appointment_id", "version")
    ),
    "message.expired": EventType(
        "A message could not be said in time.", ("message_id", "appointment_id", "version")
    ),
    PING: EventType("You asked for a test. Every webhook can be sent it.", ("webhook_id",)),
}

SUBSCRIBABLE = frozenset(
    {EVERYTHING}
    | {f"{name.partition('.')[0]}.*" for name in TYPES if name != PING}
    | (TYPES.keys() - {PING})
)
"""What a webhook may ask for: a type, all of a kind as `appointment.*`, or `*`."""
