"""Words of the pages that speak the patient's language; the others are in notifications/locale.

As in messages, no word betrays why somebody comes: a page is read over shoulders too.
"""

from collections.abc import Mapping

from models.vocabulary import StepKind

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
