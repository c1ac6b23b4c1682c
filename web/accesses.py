"""Who looked at my record: the audit trail, told to the patient in plain words.

Which part of the record, when, and who, by name and by what they are here. Not what stands in
it, and nothing of keys, addresses or machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from flask import Blueprint, redirect, render_template
from flask.typing import ResponseReturnValue

from models import Patient, db
from notifications import languages
from scheduler import accesses, audit, facts
from scheduler.accesses import Access
from scheduler.authority import PATIENT
from scheduler.doors import Asks, asks
from web import visitor
from web.patient import act_of, closed, now, seal
from web.words import ACCESSES, CHANGED, LOOKED, WHO, sayer

blueprint = Blueprint("accesses", __name__, url_prefix="/p/who-looked")
blueprint.after_request(seal)

MOST = 200
"""Lines that the page shows."""


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody did, when, and who it was."""

    what: str
    who: str
    day: str
    emergency: bool


@blueprint.get("")
@asks(Asks.VISIT)
def show() -> ResponseReturnValue:
    """Show who looked at the record of the patient behind the link, or changed it."""
    here = visitor.remembered(db.session(), now())
    if here is None:
        return closed()
    if not here.is_known:
        return redirect("/p/", 303)
    language = facts.one(db.session(), Patient, here.link.patient_id).language
    found = accesses.of_patient(db.session(), here.link.patient_id)[:MOST]
    page = render_template(
        "accesses.html",
        clinic=here.clinic,
        language=language if language in languages.LOCALES else "en",
        say=sayer(language, ACCESSES),
        lines=_told(found, language, ZoneInfo(here.clinic.time_zone)),
    )
    audit.record(db.session(), PATIENT, act_of(here, "read", "accesses"), now())
    db.session.commit()
    return page


def _told(found: Sequence[Access], language: str, zone: ZoneInfo) -> Sequence[Line]:
    def say(words: str) -> str:
        return languages.translate(language, words)

    return [
        Line(
            what=say((LOOKED if one.looked else CHANGED)[one.part]),
            who=", ".join(filter(None, (one.name, say(WHO[one.who])))),
            day=languages.day(one.at.astimezone(zone), language),
            emergency=one.emergency,
        )
        for one in found
    ]
