"""Words of the pages that speak the patient's language; the others are in notifications/locale.

As in messages, no word betrays why somebody comes: a page is read over shoulders too.
"""

from collections.abc import Callable, Mapping
from string import Template

from models.vocabulary import StepKind
from notifications import languages
from scheduler.accesses import Part, Who

SUMMARY: Mapping[str, str] = {
    "title": "Your time with us",
    "took_place": "What has taken place",
    "visits_none": "Your first visit is still ahead of you.",
    "visits_one": "You have been with us once.",
    "visits_many": "You have been with us $count times.",
    "ahead": "What comes next",
    "unsure": "This time is not certain yet. We will call you about it.",
    "ahead_none": "Nothing is booked at the moment.",
    "to_arrange": "Still to arrange: $what. We will call you; you can also call us.",
    "completed": "All your visits have taken place. Thank you for your trust.",
    "revoked": "There are no more visits planned. If you would like to talk, call us.",
    "filled": "What you filled in",
    "filled_none": "You have not filled in any questionnaires yet.",
    "filled_one": "You filled in one questionnaire. Thank you.",
    "filled_many": "You filled in $count questionnaires. Thank you.",
    "filled_why": "Your answers help us to see with you how things change. What they tell us "
    "we like to talk over with you: ask us about them when we meet.",
    "afterwards": "After each session",
    "hours": "for $count hours",
    "days": "for $count days",
    "until": "until $day, $time",
    "back": "Back",
    "questions": "Questions? Call",
}
"""Of the page that sums up a course, by what it is."""

KINDS: Mapping[StepKind, str] = {
    StepKind.SCREENING: "First meeting",
    StepKind.PREPARATION: "Getting ready together",
    StepKind.DOSING: "Session",
    StepKind.INTEGRATION: "Talk afterwards",
    StepKind.FOLLOW_UP: "Follow-up",
}
"""What patients call a visit. A protocol's own titles may name a dose."""

ACCESSES: Mapping[str, str] = {
    "title": "Who looked at your record",
    "why": "Everybody who works here must have a reason to look at your record. This list says "
    "who did, or changed something in it, the latest first.",
    "nobody": "Nobody has looked at it so far.",
    "older": "If you would like to know about earlier times, or if something here surprises you, "
    "please ask us.",
    "emergency": "In an emergency; somebody else looks at whether it was one.",
    "back": "Back",
    "questions": "Questions? Call",
}
"""Of the page that says who looked at a record."""

LOOKED: Mapping[Part, str] = {
    Part.DETAILS: "Looked at your details",
    Part.HEALTH: "Looked at what is noted about your health",
    Part.LIST: "Looked at your list of things to do",
    Part.MESSAGES: "Looked at your messages",
    Part.PAPERS: "Looked at your papers",
    Part.PLAN: "Looked at the plan of your visits",
    Part.VISITS: "Looked at your visits",
    Part.WAY_HOME: "Looked at who takes you home",
    Part.RECORD: "Looked at your record",
}

CHANGED: Mapping[Part, str] = {
    Part.DETAILS: "Changed your details",
    Part.HEALTH: "Noted something about your health",
    Part.LIST: "Changed your list of things to do",
    Part.MESSAGES: "Wrote or changed a message",
    Part.PAPERS: "Changed your papers",
    Part.PLAN: "Changed the plan of your visits",
    Part.VISITS: "Changed your visits",
    Part.WAY_HOME: "Changed who takes you home",
    Part.RECORD: "Changed your record",
}

WHO: Mapping[Who, str] = {
    Who.PATIENT: "You",
    Who.ESCORT: "Whoever takes you home",
    Who.CALENDAR: "A calendar that is kept up to date from here",
    Who.ADMIN: "administration",
    Who.DESK: "front desk",
    Who.CLINICIAN: "your care team",
    Who.AUDITOR: "somebody who checks what we do",
    Who.STAFF: "our staff",
    Who.SYSTEM: "Our system, by itself",
}


def sayer(language: str, words: Mapping[str, str]) -> Callable[..., str]:
    """What says `words` by their names in a language."""

    def say(name: str, **values: object) -> str:
        return Template(languages.translate(language, words[name])).substitute(values)

    return say
