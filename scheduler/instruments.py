"""Instruments: questionnaires as versioned data, and what answers amount to.

An instrument is a file in instruments/: its items, its scoring, its bands, and the answers at
which a clinician must look the same day. The words of an item stand there only where the
licence allows it; of others the clinic enters its own, and of some only scores are kept.

Pure: no database, no clock, no Flask. The files are read once, at the start.

Source: FHIR R4 Questionnaire and QuestionnaireResponse; each figure names its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "instruments"


class Scoring(StrEnum):
    """How a score comes about."""

    SUM = "sum"
    """The sum of all answers."""
    LEVEL = "level"
    """The first of its levels that some answer reaches."""
    ENTERED = "entered"
    """Somebody else has worked it out: no items are kept here."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question."""

    code: str
    text: str | None
    """None: the clinic's own words are shown, if it has entered any."""
    topic: str
    """What it asks about, for staff."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to choose from, and what it counts."""

    value: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Reached:
    """Answers of which one is enough: item by item the least that counts."""

    code: str
    any: tuple[tuple[str, int], ...]
    shuts: bool = False
    """Whether a gate that rests on the instrument is shut by it."""

    def by(self, answers: Mapping[str, int]) -> bool:
        """Whether one of `answers` reaches it."""
        return any(answers.get(item, -1) >= least for item, least in self.any)


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of scores with a name, from its lowest."""

    least: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A questionnaire in one version."""

    code: str
    version: str
    title: str
    heading: str | None
    items: tuple[Item, ...]
    choices: tuple[Choice, ...]
    scoring: Scoring
    least: int | None
    most: int | None
    levels: tuple[Reached, ...]
    bands: tuple[Band, ...]
    flags: tuple[Reached, ...]
    response_percent: int | None
    """From how large a drop from the baseline it counts as response, in per cent."""
    remission: int | None
    """Up to which score it counts as remission."""
    holds: timedelta | None
    """How old answers may be when a visit that was moved begins; None: as old as may be."""

    @property
    def has_words(self) -> bool:
        """Whether its questions may be shown as they are shipped."""
        return bool(self.items) and all(item.text for item in self.items)

    def does_hold(self, authored_at: datetime, at: datetime) -> bool:
        """Whether what was answered then still says something at another time."""
        return self.holds is None or at <= authored_at + self.holds


@dataclass(frozen=True, slots=True)
class Scored:
    """What answers amount to."""

    score: int | None
    """None: the instrument has levels, or not everything is answered."""
    band: str | None
    flags: tuple[str, ...]
    """What a clinician must look at, most pressing first."""
    shuts: bool
    """Whether a gate that rests on it is shut."""


@dataclass(frozen=True, slots=True)
class Change:
    """A score beside the baseline's."""

    points: int
    """Below zero: it fell, which is better in all instruments that are shipped."""
    percent: float | None
    """None: the baseline was zero."""
    is_response: bool | None
    """None: the instrument has no such figure."""
    is_remission: bool | None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with answers: where (a JSON pointer), and what."""

    pointer: str
    detail: str


def read(told: Mapping[str, Any]) -> Instrument:
    """Turn a file's content into an Instrument."""
    scoring = told["scoring"]
    return Instrument(
        code=told["code"],
        version=told["version"],
        title=told["title"],
        heading=told["heading"],
        items=tuple(_item(one) for one in told["items"]),
        choices=tuple(Choice(one["value"], one["text"]) for one in told["answers"]),
        scoring=Scoring(scoring["by"]),
        least=scoring.get("least"),
        most=scoring.get("most"),
        levels=tuple(map(_reached, told.get("levels", ()))),
        bands=tuple(Band(one["from"], one["code"]) for one in told.get("bands", ())),
        flags=tuple(map(_reached, told["flags"])),
        response_percent=told.get("response", {}).get("percent"),
        remission=told.get("remission", {}).get("at_most"),
        holds=timedelta(hours=told["holds"]["hours"]) if "holds" in told else None,
    )


def _item(told: Mapping[str, Any]) -> Item:
    text = told.get("text")
    return Item(told["code"], text, told.get("topic", text))


def _reached(told: Mapping[str, Any]) -> Reached:
    any_of = tuple((one["item"], one["at_least"]) for one in told["any"])
    return Reached(told["code"], any_of, told.get("shuts", False))


LIBRARY: Mapping[str, Instrument] = {
    one.code: one
    for one in (
        read(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))
    )
}
"""The instruments that are shipped, by code, each in its newest version."""


def faults(instrument: Instrument, answers: Mapping[str, int]) -> list[Fault]:
    """List what is wrong with answers, whether or not they are all there."""
    items = {item.code for item in instrument.items}
    values = [choice.value for choice in instrument.choices]
    found = []
    for code, value in answers.items():
        if code not in items:
            found.append(Fault(f"/answers/{code}", f"{instrument.title} has no such item."))
        elif value not in values:
            told = ", ".join(map(str, values))
            found.append(Fault(f"/answers/{code}", f"Choose one of {told}."))
    return found


def missing(instrument: Instrument, answers: Mapping[str, int]) -> list[str]:
    """The codes of items that nobody has answered yet."""
    return [item.code for item in instrument.items if item.code not in answers]


def score(instrument: Instrument, answers: Mapping[str, int]) -> Scored:
    """Say what answers amount to. Flags count as soon as they are given, half-filled or not."""
    whole = not missing(instrument, answers)
    total = sum(answers.values()) if whole and instrument.scoring is Scoring.SUM else None
    band = None
    if whole and instrument.scoring is Scoring.LEVEL:
        band = next((one.code for one in instrument.levels if one.by(answers)), "none")
    return Scored(
        total,
        band if total is None else band_of(instrument, total),
        tuple(flag.code for flag in instrument.flags if flag.by(answers)),
        any(flag.shuts for flag in instrument.flags if flag.by(answers)),
    )


def entered(instrument: Instrument, total: int) -> Scored:
    """The same for a score that somebody has worked out elsewhere."""
    return Scored(total, band_of(instrument, total), (), shuts=False)


def in_range(instrument: Instrument, total: int) -> bool:
    """Whether such a score exists."""
    least, most = instrument.least, instrument.most
    return least is not None and most is not None and least <= total <= most


def band_of(instrument: Instrument, total: int) -> str | None:
    """The name of the stretch that a score lies in. None: the instrument has none."""
    found = [band.code for band in instrument.bands if band.least <= total]
    return found[-1] if found else None


def change(instrument: Instrument, baseline: int, total: int) -> Change:
    """Compare a score with the baseline's.

    Response is a drop of at least the instrument's percentage; remission a score at or below
    its figure.
    """
    percent = None if baseline == 0 else 100 * (total - baseline) / baseline
    asked = instrument.response_percent
    return Change(
        total - baseline,
        percent,
        None if asked is None else (percent is not None and percent <= -asked),
        None if instrument.remission is None else total <= instrument.remission,
    )
