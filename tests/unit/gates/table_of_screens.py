"""What the clinical facts ask of a patient's health and medicines: sections 3a and 3b, by hand."""

from datetime import timedelta

from models.vocabulary import HealthEventKind, Stage
from tests.unit.gates.screened import Eligible, GoneThrough, Screened
from tests.unit.gates.trials import DAY, HOUR, Row
from tests.unit.gates.visits import CLINIC, HOME, NOBODY, OREGON, TRIAL

BY_DOCTOR = "hold prescriber"

OF_THE_LABEL = ("aneurysm", "arteriovenous-malformation", "brain-haemorrhage", "hypersensitivity")
EXPECTING = ("pregnancy", "breastfeeding")
OF_THE_MIND = ("psychosis", "mania")
OF_DEPENDENCE = ("substance-dependence", "opioid-use-disorder")
OF_THE_BODY = (
    *("uncontrolled-hypertension", "unstable-heart-disease", "untreated-hyperthyroidism"),
    *("intracranial-pressure", "glaucoma", "severe-liver-disease"),
)
WATCHED = {"moderate-liver-disease": "caution", "bladder-symptoms": "discuss"}

KETAMINE = {
    **dict.fromkeys((*OF_THE_LABEL, *EXPECTING), "block prescriber"),
    **dict.fromkeys((*OF_THE_MIND, *OF_DEPENDENCE, "suicidal-intent", *OF_THE_BODY), BY_DOCTOR),
    **WATCHED,
}
SPRAY = {**KETAMINE, **dict.fromkeys(OF_THE_LABEL, "block")}  # a label: nobody passes over it
AT_HOME = {  # section 3a: home use excludes them
    **KETAMINE,
    **dict.fromkeys((*OF_THE_LABEL, *EXPECTING, *OF_THE_MIND, *OF_DEPENDENCE), "block"),
    "suicidal-intent": "block",
}
MDMA = {
    **dict.fromkeys(EXPECTING, "block prescriber"),
    **dict.fromkeys((*OF_THE_MIND, "suicidal-intent"), BY_DOCTOR),
    **dict.fromkeys(("uncontrolled-hypertension", "unstable-heart-disease"), BY_DOCTOR),
    "severe-liver-disease": BY_DOCTOR,
}
PSILOCYBIN = {  # the information form
    "lithium-in-30-days": "block",
    **dict.fromkeys(("mushroom-allergy", "psychosis", "thoughts-of-harm"), "hold facilitator"),
    **dict.fromkeys(("in-treatment", "medicines-during-session"), "discuss"),
    **dict.fromkeys(("interpreter", "support-person"), "discuss"),
}

LEFT_OUT = {"stimulants": "hold-dose-day", "hypnotics": "hold-24h", "cannabis": "hold-24h"}
LIKE_MOST = {
    "benzodiazepines": "discuss",
    "hypnotics": "hold-24h",
    "opioids": "discuss",
    "stimulants": "hold-dose-day",
    "maoi": "discuss",
}
HARMLESS = {"antidepressants": "none", "lithium": "none", "cannabis": "hold-24h"}
OF_KETAMINE = {
    **LIKE_MOST,
    "lamotrigine": "discuss",
    "cyp-inhibitors-inducers": "discuss",
    **HARMLESS,
    "other-psychedelics": "discuss",
}
OF_THE_SPRAY = {**LIKE_MOST, "nasal-sprays": "discuss", **HARMLESS}
OF_MDMA = {  # tapered off before
    "psychiatric-medicines": "block",
    "maoi": "block",
    **LEFT_OUT,
    "other-psychedelics": "discuss",
}

NEWS = frozenset(HealthEventKind) - {HealthEventKind.NEW_MEDICATION}
SESSION = "esketamine/session"
OTHERS = " ".join(one for one in CLINIC.split() if one != SESSION)


def screen(
    visits: str,
    conditions: dict[str, str],
    who: str = "clinician",
    lift: str = "prescriber",
    later: timedelta = 90 * DAY,
    ends_on: frozenset[HealthEventKind] = NEWS,
) -> Screened:
    """G3: clear, or passed over by who may."""
    return Screened(
        *("G3", "contraindication-screen", Stage.BOOKING, visits, who),
        conditions=conditions,
        lift=lift,
        later=later,
        ends_on=ends_on,
    )


def medicines(visits: str, classes: dict[str, str]) -> GoneThrough:
    """G4: gone through within 72 hours, what is held back approved."""
    return GoneThrough(
        *("G4", "medications", Stage.ARRIVAL, visits, "clinician"),
        classes=classes,
        later=72 * HOUR,
        ends_on=frozenset({HealthEventKind.NEW_MEDICATION}),
    )


SCREENED: list[Row] = [
    screen(OTHERS, KETAMINE),
    screen(SESSION, SPRAY),
    screen(HOME, AT_HOME),
    screen(TRIAL, MDMA),
    # The form asks for lithium in the last 30 days.
    screen(OREGON, PSILOCYBIN, "facilitator", NOBODY, 30 * DAY, frozenset()),
    medicines(f"{OTHERS} {HOME}", OF_KETAMINE),
    medicines(SESSION, OF_THE_SPRAY),
    medicines(TRIAL, OF_MDMA),
    Eligible("G3", "eligibility", Stage.BOOKING, f"{CLINIC} {HOME} {TRIAL}", "prescriber"),
    Eligible("G3", "eligibility", Stage.BOOKING, OREGON, "facilitator", lift=NOBODY),
]
