"""What the clinical facts ask of a visit, gate by gate: written here once more, by hand.

The figures are those of their sections 3 to 5 and 8. Nothing here is read from a protocol file:
a figure that changes in one of them must change here too, by somebody who looked at the source.
"""

from datetime import time, timedelta

from models.vocabulary import HealthEventKind, Measure, Stage, StepKind, WayHome
from tests.unit.gates.measured import Limited, Lines
from tests.unit.gates.settled import (
    Aftermath,
    Asked,
    Departing,
    Earlier,
    Escorted,
    Items,
    Observed,
)
from tests.unit.gates.table_of_screens import SCREENED
from tests.unit.gates.timed import Notice, days, hours
from tests.unit.gates.trials import DAY, HOUR, MINUTE, Row
from tests.unit.gates.visits import (
    CLINIC,
    GROUP,
    HOME,
    INFUSIONS,
    MEDICAL,
    NOBODY,
    OREGON,
    TALKS,
    TRIAL,
    TRIAL_TALKS,
)
from tests.unit.gates.vouched import Clearance

BOOKING, ARRIVAL = Stage.BOOKING, Stage.ARRIVAL
DOSE, DISCHARGE = Stage.DOSE, Stage.DISCHARGE
DONE = "preparation-done"
PAIRS = f"kap/medicine-session group/make-up {TRIAL}"


def steps(
    code: str, gate: str, kind: StepKind, visits: str, who: str, lift: str = "prescriber"
) -> Earlier:
    """A gate of earlier visits, asked at arrival unless said otherwise."""
    return Earlier(code, gate, ARRIVAL, visits, who, lift=lift, kinds=frozenset({kind}))


def consent(
    who: str, visits: str, given_for: str, later: timedelta = 365 * DAY, lift: str = "prescriber"
) -> Clearance:
    """G2: to what is given, how, and in these words."""
    return Clearance(
        *("G2", "consent", BOOKING, visits, who), given_for=given_for, later=later, lift=lift
    )


BEFORE: list[Row] = [
    # G1: first dose within 30 days of it, later ones within 90; sooner on news, or a gap of 60.
    Clearance(
        "G1",
        "medical-clearance",
        BOOKING,
        f"{MEDICAL} {TALKS} {TRIAL_TALKS}",
        "prescriber",
        first=30 * DAY,
        later=90 * DAY,
        gap=60 * DAY,
        ends_on=frozenset(HealthEventKind),
    ),
    # G2: 12 months; a change of the medicine, the route or the text ends it. In Oregon the forms
    # of the preparation session, 90 days.
    consent("patient clinician", f"{CLINIC} {HOME}", "medicine route text"),
    consent("patient clinician", TALKS, "text"),
    consent("clinician", TRIAL, "medicine route text"),
    consent("clinician", TRIAL_TALKS, "text"),
    consent("facilitator", OREGON, "medicine route text", later=90 * DAY, lift=NOBODY),
    Items(
        "G4",
        "changes",
        DOSE,
        f"{MEDICAL} {OREGON}",
        "clinician",
        due={"changes-asked": 15 * MINUTE},
    ),
    Clearance("G4", "taper", BOOKING, TRIAL, "prescriber", lift=NOBODY, later=30 * DAY),
    # G5: today, every dose.
    Asked("G5", "safety-screen", DOSE, MEDICAL, "clinician", instrument="c-ssrs", holds=12 * HOUR),
    # G6: somebody who has said yes; after a night here, the morning; in Oregon a signed plan.
    Escorted("G6", "transport-home", ARRIVAL, f"{CLINIC} mdma-at/night", "patient front-desk"),
    Clearance("G6", "morning-after", ARRIVAL, TRIAL, "clinician", later=72 * HOUR),
    Clearance("G6", "transport-plan", ARRIVAL, OREGON, "facilitator", lift=NOBODY, later=90 * DAY),
    # G7: attested a day before.
    Items(
        "G7",
        "fasting",
        ARRIVAL,
        f"{CLINIC} {TRIAL}",
        "patient front-desk",
        due={"fasting": 24 * HOUR},
    ),
    # G9: a day before each dose.
    Clearance("G9", "pregnancy-status", DOSE, MEDICAL, "clinician", later=24 * HOUR),
    # G10: enrolled once. Who is on site stands in STAFF.
    Clearance("G10", "rems-enrolment", BOOKING, "esketamine/session", "prescriber", lift=NOBODY),
    # G11; how long before stands with the rules of the course.
    steps("G11", DONE, StepKind.PREPARATION, f"kap/medicine-session {GROUP} {TRIAL}", "therapist"),
    steps("G11", DONE, StepKind.PREPARATION, OREGON, "facilitator", NOBODY),
    # G13: of the last dose, before the next one. T1: a reassessment; T3: a clinician's look.
    steps("G13", "integration-done", StepKind.INTEGRATION, PAIRS, "therapist"),
    steps("T1", "reassessed", StepKind.FOLLOW_UP, "iv-infusion/booster", "prescriber"),
    steps("T3", "reviewed", StepKind.FOLLOW_UP, HOME, "prescriber"),
    # What only one template asks for.
    Clearance("T3", "remote-prescribing", BOOKING, HOME, "prescriber", lift=NOBODY, later=90 * DAY),
    Escorted("T3", "peer-present", ARRIVAL, HOME, "patient front-desk"),
    Items("T3", "kit", ARRIVAL, HOME, "front-desk", due={"kit-arrived": 72 * HOUR}),
    Clearance("T3", "whereabouts", DOSE, HOME, "clinician", lift=NOBODY, later=12 * HOUR),
    Clearance("T3", "peer-seen", DOSE, HOME, "clinician", later=12 * HOUR),
    Clearance("T6", "information-form", BOOKING, OREGON, "facilitator", lift=NOBODY),
    Clearance("T6", "touch", DOSE, OREGON, "facilitator", lift=NOBODY, later=90 * DAY),
    Clearance("T6", "representative", DOSE, OREGON, "facilitator", lift=NOBODY, later=12 * HOUR),
    # What went wrong before: section 3d, an adverse event ends what was cleared.
    Aftermath("G1", "incidents-followed-up", ARRIVAL, f"{MEDICAL} {OREGON}", "clinician"),
]

PRESSURE = {
    Measure.SYSTOLIC: Lines(passes=140, hold=160, stop=180),
    Measure.DIASTOLIC: Lines(passes=90, hold=100, stop=110),
}
OXYGEN = {Measure.OXYGEN_SATURATION: Lines(passes=94, hold=91, up=False)}
YES = Lines(passes=1, up=False)


def vitals(who: str, limits: dict[Measure, Lines], visits: str) -> Limited:
    """G8: 30 minutes before the dose; 160/100 is measured again twice, 10 minutes apart."""
    holds, apart = 30 * MINUTE, 10 * MINUTE
    return Limited(
        *("G8", "vitals", DOSE, visits, who), holds=holds, limits=limits, times=2, apart=apart
    )


def observed(minutes: int, visits: str, who: str = "monitor", lift: str = "prescriber") -> Observed:
    """D2: so many minutes from the dose."""
    return Observed("D2", "observation", DISCHARGE, visits, who, lift=lift, minutes=minutes)


MEASURED: list[Row] = [
    vitals("monitor", {**PRESSURE, **OXYGEN}, f"{CLINIC} {TRIAL}"),
    vitals("clinician", PRESSURE, HOME),
    # D1: Aldrete of 9, oriented, steady, no nausea, pressure within 20 per cent, escort here.
    Limited(
        "D1",
        "recovery-score",
        DISCHARGE,
        f"{CLINIC} {TRIAL}",
        "monitor",
        holds=60 * MINUTE,
        limits={
            Measure.RECOVERY_SCORE: Lines(passes=9, up=False),
            Measure.ORIENTED: YES,
            Measure.STEADY_GAIT: YES,
            Measure.NAUSEA_CONTROLLED: YES,
            Measure.SYSTOLIC: Lines(near=(96, 144)),
            Measure.DIASTOLIC: Lines(near=(64, 96)),
        },
    ),
]

LEAVING: list[Row] = [
    Departing(
        "D1",
        "way-home",
        DISCHARGE,
        f"{CLINIC} mdma-at/night",
        "monitor",
        ways=frozenset({WayHome.ESCORT, WayHome.RIDE}),
    ),
    Clearance("D1", "exit-check", DISCHARGE, HOME, "clinician", later=60 * MINUTE),
    # After MDMA nobody goes home before the morning; in Oregon as the plan says, also alone.
    Clearance("D1", "handed-over", DISCHARGE, TRIAL, "clinician", later=60 * MINUTE),
    Departing(
        "D1",
        "leaving",
        DISCHARGE,
        OREGON,
        "facilitator",
        lift="facilitator",
        ways=frozenset({WayHome.ESCORT, WayHome.RIDE, WayHome.ALONE}),
    ),
    Aftermath("D1", "incident-care", DISCHARGE, f"{MEDICAL} {OREGON} mdma-at/night", "clinician"),
    observed(100, INFUSIONS),  # 40 of infusion, and 60 after its end
    observed(120, f"kap/medicine-session {GROUP}"),
    observed(120, "esketamine/session", lift=NOBODY),
    observed(90, HOME),
    observed(360, TRIAL),
    observed(60, OREGON.split()[0], "facilitator", NOBODY),
    observed(120, OREGON.split()[1], "facilitator", NOBODY),
    observed(240, OREGON.split()[2], "facilitator", NOBODY),
    observed(300, OREGON.split()[3], "facilitator", NOBODY),
    observed(360, OREGON.split()[4], "facilitator", NOBODY),
]

GATES: list[Row] = [*BEFORE, *SCREENED, *MEASURED, *LEAVING]

SUSPENDED = {
    # From five in the afternoon of the day before on, unless all is there that arrival asks for.
    **dict.fromkeys(f"{MEDICAL} {OREGON} mdma-at/night".split(), (-1, time(17, 0))),
}

STAFF: dict[str, set[str]] = {
    # G12, G10: who serves from which minute to which; who is present takes no slot.
    "iv-infusion/infusion": {"monitor 0-120 shared", "prescriber 0-120 present"},
    "iv-infusion/booster": {"monitor 0-120 shared", "prescriber 0-120 present"},
    "kap/medicine-session": {
        *("therapist 0-180", "monitor 0-180 shared"),
        *("prescriber 0-20", "prescriber 20-180 present"),
    },
    "at-home/home-session": {"therapist 0-120 shared", "prescriber 0-120 present"},
    "group/group-session": {
        *("therapist 0-210 for each 3", "monitor 0-210"),
        "prescriber 0-210 present",
    },
    "group/make-up": {
        *("therapist 0-180", "monitor 0-180 shared"),
        *("prescriber 0-20", "prescriber 20-180 present"),
    },
    "esketamine/session": {"monitor 0-150 shared", "prescriber 0-150 present"},
    "mdma-at/session": {"therapist 0-480", "cotherapist 0-480", "prescriber 0-480 present"},
    # The least time by dose, and an hour.
    "psilocybin-oregon/session-under-5-mg": {"facilitator 0-120"},
    "psilocybin-oregon/session-5-to-10-mg": {"facilitator 0-180"},
    "psilocybin-oregon/session-10-to-25-mg": {"facilitator 0-300"},
    "psilocybin-oregon/session-25-to-35-mg": {"facilitator 0-360"},
    "psilocybin-oregon/session-35-to-50-mg": {"facilitator 0-420"},
}

# G14 too: not too soon before it starts, not too far ahead.
NOTICES = [
    Notice(visit="iv-infusion/infusion", notice=hours(24), ahead=days(90)),
    Notice(visit="iv-infusion/booster", notice=hours(24)),
    Notice(visit="at-home/home-session", notice=hours(48)),
    Notice(visit="group/group-session", notice=hours(72)),
    Notice(visit="mdma-at/session", notice=hours(72)),
    *(
        Notice(visit=visit)
        for visit in (
            *("kap/medicine-session", "group/make-up", "esketamine/session"),
            *OREGON.split(),
        )
    ),
]

GIVEN = {
    # What is given in a visit and how: what a consent must be for.
    **dict.fromkeys(INFUSIONS.split(), ("ketamine", "intravenous")),
    **dict.fromkeys(["kap/medicine-session", *GROUP.split()], ("ketamine", "intramuscular")),
    HOME: ("ketamine", "sublingual"),
    "esketamine/session": ("esketamine", "intranasal"),
    TRIAL: ("mdma", "oral"),
    **dict.fromkeys(OREGON.split(), ("psilocybin", "oral")),
}

OLD_ENOUGH = {
    "iv-infusion": 18,
    "kap": 18,
    "at-home": 18,
    "group": 18,
    "esketamine": 18,
    "mdma-at": 18,
    "psilocybin-oregon": 21,
}
