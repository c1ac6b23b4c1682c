"""Words for instruments: as they are shipped, or the clinic's own where they may not be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import InstrumentWording
from scheduler import calendars, facts
from scheduler.authority import Authority
from scheduler.errors import Stale, Taken, Unfit
from scheduler.instruments import Instrument


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is asked, with the answers to choose from."""

    code: str
    text: str
    choices: Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A questionnaire as a patient sees it."""

    instrument: Instrument
    heading: str
    items: Sequence[Asked]


def sheet(session: Session, instrument: Instrument) -> Sheet | None:
    """The questionnaire with its words; None: there are none, or it has no items."""
    if instrument.has_words:
        choices = [(one.value, one.text or "") for one in instrument.choices]
        items = [Asked(item.code, item.text or "", choices) for item in instrument.items]
        return Sheet(instrument, instrument.heading or "", items)
    own = facts.instrument_wording(session, instrument.code)
    if own is None:
        return None
    choices = [(one.value, own.choices[str(one.value)]) for one in instrument.choices]
    items = [Asked(item.code, own.items[item.code], choices) for item in instrument.items]
    return Sheet(instrument, own.heading, items)


@dataclass(frozen=True, slots=True)
class Wording:
    """Words that a clinic has checked that it may use."""

    heading: str
    items: Mapping[str, str]
    choices: Mapping[str, str]


def number(session: Session, instrument: str) -> int:
    """How often the clinic has entered words for an instrument."""
    last = facts.instrument_wording(session, instrument)
    return 0 if last is None else last.number


def word(
    session: Session, instrument: Instrument, wording: Wording, seen: int, *, by: Authority
) -> InstrumentWording:
    """Enter the clinic's words for an instrument; those before stay to be seen.

    `seen` is the number of those that they take the place of. Refuses with `Stale` if there are
    newer ones, with `Taken` if the words are shipped, and with `Unfit` unless there is one for
    each item and each answer.
    """
    calendars.lock_name(session, f"words of {instrument.code}")
    if number(session, instrument.code) != seen:
        raise Stale("These words were changed in the meantime. Read them again.")
    if instrument.has_words or not instrument.items:
        raise Taken(f"{instrument.title} takes no words of the clinic's own.")
    items = {item.code for item in instrument.items}
    choices = {str(choice.value) for choice in instrument.choices}
    for name, given, wanted in (
        ("items", set(wording.items), items),
        ("choices", set(wording.choices), choices),
    ):
        if given != wanted:
            told = ", ".join(sorted(wanted))
            raise Unfit(f"Give words for each of {told}, and nothing else.", field=name)
    row = InstrumentWording(
        id=uuid7(),
        instrument=instrument.code,
        number=seen + 1,
        heading=wording.heading,
        items=dict(wording.items),
        choices=dict(wording.choices),
        written_by=by.name,
    )
    session.add(row)
    session.flush()
    return row
