"""What the protocol beside it means, told in full."""

from datetime import time, timedelta
from typing import Any

from models.vocabulary import (
    ConditionAction,
    HealthEventKind,
    Measure,
    MedicineAction,
    MessageKind,
    Owner,
    Place,
    Recipient,
    Severity,
    Stage,
    StepKind,
    WayHome,
)
from notifications.cadence import Anchor, Moment, Rule
from scheduler.incident_kinds import Duty, IncidentKind
from scheduler.protocols import (
    Advice,
    Beyond,
    Branch,
    Cap,
    Check,
    Gap,
    Gate,
    GivenFor,
    Group,
    IfSkipped,
    Limit,
    Owes,
    Phase,
    Protocol,
    Recheck,
    SettledBy,
    Span,
    Step,
    Tie,
    Visit,
    Watch,
    Window,
)
from scheduler.screening import HealthCondition, MedicineClass

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIFT = frozenset({"prescriber"})
NOTHING = timedelta(0)


def phase(role: str, start: int, end: int, **more: Any) -> Phase:
    plain: dict[str, Any] = {"kind": None, "turnover": NOTHING, "shared": False, "present": False}
    return Phase(role=role, start=start * MINUTE, end=end * MINUTE, **{**plain, **more})


def gate(code: str, shuts: Stage, settled_by: SettledBy, **more: Any) -> Gate:
    plain: dict[str, Any] = {
        "title": code.capitalize(),
        "holds": None,
        "holds_first": None,
        "ends_on": frozenset(),
        "longest_gap": None,
        "kinds": frozenset(),
        "minutes": NOTHING,
        "lift": LIFT,
    }
    return Gate(code=code, shuts=shuts, settled_by=settled_by, **{**plain, **more})


PLAIN = Visit(
    key="plain",
    kind=StepKind.PREPARATION,
    title="Plain",
    length=50 * MINUTE,
    phases=(phase("therapist", 5, 50),),
    gates=(gate("g", Stage.BOOKING, SettledBy.CLEARANCE, who=("clinician",), lift=frozenset()),),
    checklist=(
        Check(
            code="form",
            title="F",
            owner=Owner.FRONT_DESK,
            due_before=NOTHING,
            due_after=7 * DAY,
            gate=None,
        ),
    ),
    cadence_name="quiet",
    cadence=(),
)

NOWHERE = Beyond(None, None)
CLEARED = gate(
    "cleared",
    Stage.ARRIVAL,
    SettledBy.CLEARANCE,
    holds=90 * DAY,
    holds_first=30 * DAY,
    ends_on=frozenset({HealthEventKind.PREGNANCY}),
    longest_gap=60 * DAY,
    given_for=frozenset({GivenFor.ROUTE, GivenFor.TEXT}),
    who=("prescriber", "clinician"),
)
SCREENED = gate(
    "screened",
    Stage.BOOKING,
    SettledBy.SCREEN,
    conditions=(
        HealthCondition(code="mania", title="Mania", action=ConditionAction.HOLD, lift=LIFT),
        HealthCondition(code="age", title="Age", action=ConditionAction.CAUTION, lift=frozenset()),
    ),
    who=("clinician",),
)
GONE_THROUGH = gate(
    "gone-through",
    Stage.BOOKING,
    SettledBy.MEDICINES,
    medicines=(MedicineClass(code="maoi", title="MAOI", action=MedicineAction.BLOCK),),
    who=("clinician",),
)
MEASURED = gate(
    "measured",
    Stage.DOSE,
    SettledBy.MEASUREMENT,
    holds=30 * MINUTE,
    limits=(
        Limit(
            measure=Measure.SYSTOLIC,
            least=90,
            most=140,
            hold=Beyond(80, 160),
            stop=Beyond(70, 180),
            near_baseline=20,
        ),
        Limit(
            measure=Measure.ORIENTED,
            least=None,
            most=None,
            hold=NOWHERE,
            stop=NOWHERE,
            near_baseline=None,
        ),
    ),
    recheck=Recheck(10 * MINUTE, 2),
    who=("monitor",),
)
WATCHED = gate(
    "watched",
    Stage.DISCHARGE,
    SettledBy.OBSERVATION,
    minutes=120 * MINUTE,
    kinds=frozenset({StepKind.INTEGRATION}),
    instrument="c-ssrs",
    who=("monitor",),
)


def watch(code: str, late: int, **more: Any) -> Watch:
    plain: dict[str, Any] = {
        "measures": (Measure.SYSTOLIC,),
        "before": None,
        "after": NOTHING,
        "every": None,
        "until": NOTHING,
    }
    told = {**plain, **more}
    return Watch(code=code, title=code.capitalize(), late_after=late * MINUTE, **told)


FULL = Visit(
    key="full",
    kind=StepKind.DOSING,
    title="Full",
    length=120 * MINUTE,
    phases=(
        phase("therapist", 0, 90, per_patients=3, shared=True),
        phase("prescriber", 10, 120, present=True),
        phase("room", 0, 120, kind="dosing", setup=10 * MINUTE, turnover=20 * MINUTE),
        phase("device", 15, 55, kind="pump", count=2),
    ),
    gates=(CLEARED, SCREENED, GONE_THROUGH, MEASURED, WATCHED),
    checklist=(
        Check(
            code="eat",
            title="Eat nothing",
            owner=Owner.PATIENT,
            due_before=24 * HOUR,
            due_after=None,
            gate="cleared",
            instruments=("phq-9",),
        ),
    ),
    watch=(
        watch("before", 15, before=Stage.DOSE, measures=(Measure.SYSTOLIC, Measure.DIASTOLIC)),
        watch("peak", 10, after=40 * MINUTE, until=40 * MINUTE),
        watch("row", 3, after=10 * MINUTE, every=5 * MINUTE, until=30 * MINUTE),
    ),
    cadence_name="said",
    cadence=(
        Rule(
            code="r",
            kind=MessageKind.REMINDER,
            to=Recipient.PATIENT,
            when=Moment(anchor=Anchor.START, hours=-3),
            not_after=Moment(anchor=Anchor.START, hours=0),
        ),
    ),
    place=Place.TELEHEALTH,
    notice=Span(value=24, unit="h"),
    ahead=Span(value=90, unit="d"),
    grid=30 * MINUTE,
    group=Group(places=6, least=4),
    ways_home=(WayHome.RIDE, WayHome.ESCORT),
    suspend=Moment(days=-1, at=time(17)),
    afterwards=(
        Advice(
            code="rest",
            words={"en": "Rest.", "es": "Descanse."},
            lasts=Span(value=2, unit="d"),
        ),
    ),
    medicine="ketamine",
    route="oral",
)

TWO = Step(
    key="two",
    position=2,
    visit=FULL,
    windows=(
        Window(
            step="one",
            least=Span(value=1, unit="d"),
            most=Span(value=72, unit="h"),
            severity=Severity.BLOCK,
            lift=LIFT,
            same_weekday=True,
            if_skipped=IfSkipped.IGNORE,
        ),
        Window(step="one", least=None, most=None, severity=Severity.WARN, lift=frozenset()),
    ),
    owes=Owes(steps=("one",), severity=Severity.WARN, lift=LIFT),
    same=(Tie(role="therapist", step="one", severity=Severity.WARN, lift=LIFT),),
    differs=(Tie(role="monitor", step="one", severity=Severity.BLOCK, lift=LIFT),),
    only_if=Branch(step="one", outcomes=frozenset({"go-on"})),
)
ONE = Step(key="one", position=1, visit=PLAIN, windows=(), owes=None, outcomes=("go-on", "stop"))

FALL = IncidentKind(
    code="fall",
    title="A fall",
    is_urgent=False,
    health_event=None,
    on_departure=frozenset(),
    duties=(
        Duty(code="told", title="Told", owner=Owner.CLINICIAN, due_after=5 * MINUTE, gate=None),
    ),
)
MEANT = Protocol(
    code="c",
    title="T",
    minimum_age=21,
    caps=(
        Cap(
            code="cap",
            kind=StepKind.DOSING,
            most=3,
            within=Span(value=7, unit="d"),
            severity=Severity.WARN,
            lift=LIFT,
        ),
    ),
    gaps=(
        Gap(
            code="gap",
            kind=StepKind.INTEGRATION,
            least=Span(value=48, unit="h"),
            severity=Severity.BLOCK,
            lift=LIFT,
        ),
    ),
    visits={"plain": PLAIN, "full": FULL},
    incidents={"fall": FALL},
    doses_alone=2,
    steps=(ONE, TWO),
)
