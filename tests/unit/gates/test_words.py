"""What is said of a gate: why it stands as it does, for whoever is asked to settle it."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from models.vocabulary import (
    ClearanceOutcome,
    EligibilityOutcome,
    HealthEventKind,
    Measure,
    Stage,
    StepKind,
    TaskStatus,
    WayHome,
)
from scheduler.measuring import Measured
from scheduler.protocols import Beyond, Gate, GivenFor, Limit, Recheck, SettledBy
from scheduler.readiness import (
    Companion,
    Duty,
    EarlierStep,
    Item,
    Known,
    Leaving,
    Renewal,
    Serving,
    Shutting,
    Vouched,
    moment,
    turns,
)
from scheduler.screening import Reconciled, Ruling, Screen
from tests.unit.gates.trials import AT, DAY, HOUR, MEDICINE, MINUTE, ROUTE, judge

NEVER = Beyond(None, None)
SYSTOLIC = Limit(
    measure=Measure.SYSTOLIC,
    least=None,
    most=140,
    hold=Beyond(None, 160),
    stop=Beyond(None, 180),
    near_baseline=None,
)
PULSE = Limit(
    measure=Measure.HEART_RATE, least=50, most=110, hold=NEVER, stop=NEVER, near_baseline=None
)
CLEARED, GOES_ON = ClearanceOutcome.CLEARED, EligibilityOutcome.ELIGIBLE


def gate(settled_by: str, **more: Any) -> Gate:
    plain: dict[str, Any] = {
        "holds": 30 * MINUTE,
        "holds_first": None,
        "ends_on": frozenset(HealthEventKind),
        "longest_gap": 60 * DAY,
        "kinds": frozenset({StepKind.PREPARATION}),
        "minutes": 90 * MINUTE,
        "instrument": "c-ssrs",
        "limits": (SYSTOLIC, PULSE),
        "recheck": Recheck(10 * MINUTE, 1),
        "given_for": frozenset(GivenFor),
    }
    return Gate(
        code="g",
        title="Fasted",
        shuts=Stage.DOSE,
        settled_by=SettledBy(settled_by),
        who=(),
        lift=frozenset(),
        **{**plain, **more},
    )


def vouched_for(
    at: datetime = AT, outcome: ClearanceOutcome = CLEARED, **more: Any
) -> dict[str, Any]:
    """Vouched for, for the visit's own medicine and route unless said otherwise."""
    beside = ("happened", "doses", "renewed")
    rest: dict[str, Any] = {key: more.pop(key) for key in beside if key in more}
    told = Vouched(outcome, at, **{"medicine": MEDICINE, "route": ROUTE, **more})
    return {"clearances": {"g": [told]}, **rest}


def item(status: TaskStatus, title: str) -> Item:
    return Item("g", title, status, AT)


def duty(title: str) -> Duty:
    return Duty("g", title, TaskStatus.REQUESTED, AT)


def step(key: str) -> EarlierStep:
    return EarlierStep(key, StepKind.PREPARATION, fulfilled=False)


def taken(minutes: int, systolic: float | None, pulse: float | None) -> Measured:
    told = {Measure.SYSTOLIC: systolic, Measure.HEART_RATE: pulse}
    values = {measure: value for measure, value in told.items() if value is not None}
    at = AT + minutes * MINUTE
    return Measured(at, values, at)


TODO, DONE, FAILED = TaskStatus.REQUESTED, TaskStatus.COMPLETED, TaskStatus.FAILED

SAID: list[tuple[str, dict[str, Any], str]] = [
    ("clearance", {}, "Nobody has cleared it yet."),
    ("clearance", vouched_for(), "Cleared."),
    ("clearance", vouched_for(outcome=ClearanceOutcome.REFUSED), "It was refused."),
    ("clearance", vouched_for(AT - DAY), "It was settled too long before the visit."),
    (
        "clearance",
        vouched_for(AT - MINUTE, happened={"pregnancy": AT}),
        "Ended by what came to light since.",
    ),
    (
        "clearance",
        vouched_for(AT - HOUR, doses=(AT - 60 * DAY - MINUTE,)),
        "More than 60 days since the last dose.",
    ),
    ("clearance", vouched_for(medicine="b"), "Given for another medicine."),
    ("clearance", vouched_for(medicine=None), "Nobody noted its medicine."),
    ("clearance", vouched_for(route="b"), "Given for another route."),
    ("clearance", vouched_for(route=None), "Nobody noted its route."),
    (
        "clearance",
        vouched_for(text=1, renewed={"g": [Renewal(2, AT)]}),
        "The text has changed since.",
    ),
    ("screen", {}, "The patient was not screened yet."),
    ("screen", {"screen": Screen(AT, AT, {})}, "Screened: nothing speaks against it."),
    ("medicines", {}, "Nobody went through what the patient takes."),
    ("medicines", {"reconciled": Reconciled(AT, AT, ())}, "Gone through."),
    ("eligibility", {}, "Nobody has decided otherwise."),
    ("eligibility", {"eligibility": Ruling(GOES_ON, AT)}, "Eligible."),
    ("checklist", {}, "To do: Fasted"),
    (
        "checklist",
        {"items": (item(TODO, "Eat"), item(DONE, "Sleep"), item(TODO, "Drink"))},
        "To do: Eat; Drink",
    ),
    ("checklist", {"items": (item(DONE, "Eat"),)}, "Done."),
    ("checklist", {"items": (item(FAILED, "Eat"),)}, "A checklist item failed."),
    ("escort", {}, "Nobody is named to take the patient home."),
    ("escort", {"escort": Companion(False)}, "The escort is named and has not said yes yet."),
    ("escort", {"escort": Companion(True)}, "The escort has said yes."),
    ("departure", {}, "Nobody has noted who takes the patient home."),
    (
        "departure",
        {"left": Leaving(WayHome.ALONE, AT)},
        "The protocol allows no such way home: alone.",
    ),
    (
        "departure",
        {"left": Leaving(WayHome.RIDE, AT), "ways_home": (WayHome.RIDE,)},
        "Somebody is there to take the patient home.",
    ),
    ("steps", {}, "The visit belongs to no course."),
    ("steps", {"earlier": (step("one"), step("two"))}, "Not done yet: one, two"),
    ("steps", {"earlier": ()}, "Done."),
    ("observation", {}, "Fewer than 90 minutes have passed."),
    ("observation", {"dosed_at": AT - 2 * HOUR}, "At least 90 minutes have passed."),
    ("incidents", {}, "Nothing is left to do."),
    ("incidents", {"duties": [duty("Call"), duty("Write")]}, "To do: Call; Write"),
    ("measurement", {}, "Not measured yet: systolic, heart-rate"),
    (
        "measurement",
        {"measured": (taken(-31, 120, 60),)},
        "Measured too long ago: systolic, heart-rate",
    ),
    ("measurement", {"measured": (taken(0, 120, 60),)}, "Measured, within limits."),
    (
        "measurement",
        {"measured": (taken(0, 141.5, 49),)},
        "Out of range: systolic, heart-rate",
    ),
    ("measurement", {"measured": (taken(0, 120, 111),)}, "Out of range: heart-rate"),
    (
        "measurement",
        {"measured": (taken(0, 180, 60),)},
        "Stop: systolic. Measure again at 15:10 UTC or later.",
    ),
    (
        "measurement",
        {"measured": (taken(0, 160, 60),)},
        "On hold: systolic. Measure again at 15:10 UTC or later.",
    ),
    (
        "measurement",
        {"measured": (taken(-10, 160, 60), taken(0, 165, 60))},
        "On hold: systolic, also when measured again. A better value counts from 15:10 UTC on.",
    ),
    ("questionnaire", {}, "Not filled in yet."),
    (
        "questionnaire",
        {"answered": {"c-ssrs": AT - HOUR}},
        "Filled in too long before the visit.",
    ),
    (
        "questionnaire",
        {"answered": {"c-ssrs": AT}, "shut_by": {"c-ssrs": [Shutting(AT, AT)]}},
        "The answers are for a clinician to look at.",
    ),
    ("questionnaire", {"answered": {"c-ssrs": AT}}, "Filled in."),
]


@pytest.mark.parametrize(("settled_by", "known", "said"), SAID, ids=lambda one: str(one)[:60])
def test_it_is_said_why(settled_by: str, known: dict[str, Any], said: str) -> None:
    assert judge(gate(settled_by), **known).detail == said


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ((taken(0, 141.5, 49),), "Out of range: systolic 141.5, heart-rate 49"),
        ((taken(0, 180, 60),), "Stop: systolic 180. Measure again at 15:10 UTC or later."),
        ((taken(0, 160, 60),), "On hold: systolic 160. Measure again at 15:10 UTC or later."),
        (
            (taken(-10, 160, 60), taken(0, 165, 60)),
            "On hold: systolic 165, also when measured again. "
            "A better value counts from 15:10 UTC on.",
        ),
        ((taken(0, 120, 60),), None),
        ((taken(-31, 120, 60),), None),
    ],
)
def test_those_who_treat_read_what_was_measured(
    measured: tuple[Measured, ...], said: str | None
) -> None:
    assert judge(gate("measurement"), measured=measured).named == said


@pytest.mark.parametrize("shuts", Stage)
def test_it_is_due_when_the_stage_begins(shuts: Stage) -> None:
    one = replace(gate("escort"), shuts=shuts)
    ends_at = AT + 3 * HOUR

    assert judge(one).due_at == AT
    assert judge(one, ends_at=ends_at).due_at == (ends_at if shuts is Stage.DISCHARGE else AT)


def test_of_what_was_passed_over_the_reason_to_is_said_as_well() -> None:
    passed = judge(gate("escort"), overridden={"g": AT})
    assert passed.detail == "Overridden. Nobody is named to take the patient home."


def test_every_way_to_settle_a_gate_has_its_words() -> None:
    assert {settled_by for settled_by, _, _ in SAID} == set(SettledBy)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        # What is on hold comes before what is missing, that before what is old or beyond.
        ((taken(0, 160, None),), "On hold: systolic"),
        ((taken(0, 150, None),), "Not measured yet: heart-rate"),
        ((taken(-31, None, 60), taken(0, 150, None)), "Measured too long ago: heart-rate"),
        ((taken(0, 185, 111),), "Stop: systolic."),
        # What holds a visit up does so until it was measured again, however long ago that is.
        ((taken(-31, 185, 60),), "Stop: systolic."),
        ((taken(-31, 160, 60), taken(0, None, 60)), "On hold: systolic"),
    ],
)
def test_the_worst_is_said_first(measured: tuple[Measured, ...], said: str) -> None:
    assert judge(gate("measurement"), measured=measured).detail.startswith(said)


def test_a_reason_speaks_of_the_newest_of_what_is_beyond() -> None:
    """Given between two readings it does not speak of the second."""
    both = (taken(-20, 150, None), taken(-10, None, 111))
    for minutes, opens in ((-20, False), (-11, False), (-10, True)):
        given = {"g": AT + minutes * MINUTE}
        judged = judge(gate("measurement"), measured=both, overridden=given)
        assert (judged.state == "overridden") is opens
    oldest = judge(gate("measurement"), measured=(taken(-20, 120, None), taken(-10, None, 60)))
    assert oldest.expires_at == AT + 10 * MINUTE


@pytest.mark.parametrize(
    "measured",
    [
        (taken(-20, 150, 60), taken(-10, 150, None)),
        (taken(-10, 150, None),),  # the rest is not measured yet
        (taken(-50, None, 60), taken(-10, 150, None)),  # the rest was, too long ago
        (taken(-40, 150, None), taken(-10, None, 60)),  # it was itself, too long ago
        (taken(-30, 165, None), taken(-10, 165, None)),  # on hold, also when measured again
        (taken(-30, 165, 60), taken(-20, 165, 60), taken(-10, None, 111)),  # and what came then
    ],
)
def test_whatever_is_said_a_reason_knows_of_what_is_beyond(measured: tuple[Measured, ...]) -> None:
    known_at = max(one.taken_at for one in measured if one.values != {Measure.HEART_RATE: 60})
    for given_at, opens in ((known_at - MINUTE, False), (known_at, True)):
        judged = judge(gate("measurement"), measured=measured, overridden={"g": given_at})
        assert (judged.state == "overridden") is opens


def test_what_passes_later_takes_no_reason_away() -> None:
    measured = (taken(-20, 150, None), taken(-10, None, 60))
    judged = judge(gate("measurement"), measured=measured, overridden={"g": AT - 15 * MINUTE})
    assert judged.state == "overridden"


def test_of_two_on_hold_each_is_measured_again() -> None:
    held = replace(PULSE, hold=Beyond(None, 130))
    both = (taken(-30, 165, 60), taken(-10, 165, 131))
    judged = judge(gate("measurement", limits=(SYSTOLIC, held)), measured=both)
    assert judged.is_fixed
    assert judged.named == "On hold: heart-rate 131. Measure again at 15:00 UTC or later."


@pytest.mark.parametrize(
    ("place", "said"), [("America/New_York", "11:10 EDT"), ("America/Denver", "09:10 MDT")]
)
def test_a_time_is_what_the_clocks_of_the_site_show(place: str, said: str) -> None:
    there = Serving(place, (), date(1990, 6, 15), 18)
    judged = judge(gate("measurement"), measured=(taken(0, 165, 60),), serving=there)
    assert judged.detail == f"On hold: systolic. Measure again at {said} or later."


def test_without_a_recheck_what_is_on_hold_stays_so() -> None:
    high = tuple(taken(-10 * n, 165, 60) for n in (3, 2, 1, 0))
    judged = judge(gate("measurement", recheck=None), measured=high)
    assert judged.is_fixed
    assert "again at 15:00 UTC" in judged.detail


@pytest.mark.parametrize(
    ("now", "under_way", "as_of"),
    [
        (AT - MINUTE, False, AT),
        (AT, False, AT),
        (AT + MINUTE, False, AT + MINUTE),
        (AT - MINUTE, True, AT - MINUTE),
        (AT + MINUTE, True, AT + MINUTE),
    ],
)
def test_as_of_when_a_visit_is_judged(now: datetime, under_way: bool, as_of: datetime) -> None:
    assert moment(AT, now, under_way=under_way) == as_of


def test_the_turns_of_all_gates_are_told_together() -> None:
    """Also of those that come before one with turns of its own."""
    one, other = gate("clearance"), replace(gate("clearance", holds=DAY), code="h")
    known = Known(
        starts_at=AT,
        clearances={"g": [Vouched(CLEARED, AT)], "h": [Vouched(CLEARED, AT + MINUTE)]},
        dosed_at=AT + HOUR,
    )
    assert turns([one, other], known) == {
        *(AT, AT + 30 * MINUTE),
        *(AT + MINUTE, AT + MINUTE + DAY),
        AT + HOUR + 90 * MINUTE,
    }


def test_what_ended_it_is_named_to_those_who_treat() -> None:
    ended = judge(gate("clearance"), **vouched_for(AT - MINUTE, happened={"pregnancy": AT}))
    assert ended.named == "Ended by pregnancy."
