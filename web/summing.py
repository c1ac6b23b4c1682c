"""The patient's summary: their course in a few kind words, in their language.

How often they came and when, what comes next, how many questionnaires they filled in, and what
helps in the days after. No score, no direction of one, no name of an instrument: what answers
mean is told by a person.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from flask import Blueprint, redirect, render_template
from flask.typing import ResponseReturnValue

from models import Appointment, Patient, db
from models.vocabulary import StepKind
from notifications import languages
from scheduler import audit, facts, summaries
from scheduler.authority import PATIENT
from scheduler.doors import Asks, asks
from scheduler.summaries import Advised, Seen, Summary
from web import visitor
from web.patient import act_of, closed, now, seal
from web.words import KINDS, SUMMARY, sayer

blueprint = Blueprint("summing", __name__, url_prefix="/p/so-far")
blueprint.after_request(seal)

Say = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Line:
    """A few words, and what stands below them."""

    head: str
    below: Sequence[str]


@blueprint.get("")
@asks(Asks.VISIT)
def show() -> ResponseReturnValue:
    """Show the course of the visit that the link was made for."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    visit = facts.one(db.session(), Appointment, here.link.appointment_id)
    if not here.is_known or visit.course_id is None:
        return redirect("/p/", 303)
    found = summaries.of_course(db.session(), visit.course_id, now())
    language = facts.one(db.session(), Patient, here.link.patient_id).language
    zone = ZoneInfo(here.clinic.time_zone)
    page = render_template(
        "summary.html",
        clinic=here.clinic,
        language=language if language in languages.LOCALES else "en",
        say=sayer(language, SUMMARY),
        status=str(found.course.status),
        **_told(found, language, zone),
    )
    audit.record(db.session(), PATIENT, act_of(here, "read", "summary"), now())
    db.session.commit()
    return page


def _told(found: Summary, language: str, zone: ZoneInfo) -> Mapping[str, object]:
    say, kind = sayer(language, SUMMARY), _namer(language)
    left = ", ".join(f"{kind(one)} ({count})" for one, count in found.to_arrange.items())
    return {
        "visits": len(found.took_place),
        "took_place": _by_kind(found.took_place, language),
        "ahead": [_ahead(one, language) for one in found.ahead],
        "to_arrange": left,
        "filled": len(found.filled),
        "filled_on": list(dict.fromkeys(_day(one.at, zone, language) for one in found.filled)),
        "afterwards": [_advised(one, say, language, zone) for one in found.afterwards],
    }


def _ahead(one: Seen, language: str) -> Line:
    local = one.starts_at.astimezone(one.zone)
    day, time = languages.day(local, language), languages.clock(local, language)
    unsure = [sayer(language, SUMMARY)("unsure")] if one.is_suspended else []
    return Line(_namer(language)(one.kind), [day, time, one.place, *unsure])


def _by_kind(visits: Sequence[Seen], language: str) -> list[Line]:
    days: dict[StepKind, list[str]] = {}
    for one in visits:
        days.setdefault(one.kind, []).append(_day(one.starts_at, one.zone, language))
    kind = _namer(language)
    return [
        Line(f"{kind(one)} ({len(its)})" if len(its) > 1 else kind(one), its)
        for one, its in days.items()
    ]


def _advised(one: Advised, say: Say, language: str, zone: ZoneInfo) -> Line:
    words = one.advice.words.get(language, one.advice.words["en"])
    lasts = one.advice.lasts
    if one.until is None:
        unit = "days" if lasts.in_days else "hours"
        count = lasts.value if lasts.in_days else lasts.elapsed.total_seconds() / 3600
        return Line(words, [say(unit, count=f"{count:g}")])
    local = one.until.astimezone(zone)
    day, time = languages.day(local, language), languages.clock(local, language)
    return Line(words, [say("until", day=day, time=time)])


def _namer(language: str) -> Callable[[StepKind], str]:
    def name(kind: StepKind) -> str:
        return languages.translate(language, KINDS[kind])

    return name


def _day(at: datetime, zone: ZoneInfo, language: str) -> str:
    return languages.day(at.astimezone(zone), language)
