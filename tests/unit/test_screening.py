"""What a screen, a list of medicines and a decision about a course come to, and until when."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import (
    Answer,
    ConditionAction,
    EligibilityOutcome,
    GateState,
    HoldOutcome,
    MedicineAction,
    Stage,
)
from scheduler import protocols
from scheduler.choosing import behind
from scheduler.intervals import Frame, positions
from scheduler.readiness import Judged, Known, assess
from scheduler.screening import (
    Decided,
    HealthCondition,
    Medicine,
    MedicineClass,
    Reconciled,
    Ruled,
    Ruling,
    Screen,
    flags,
    of_screen,
)
from tests.factories import SOURCE, figure, gate, protocol_content
from tests.properties import cases

VISIT = datetime(2026, 3, 31, 13, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ABSENT, PRESENT, UNKNOWN = Answer.ABSENT, Answer.PRESENT, Answer.UNKNOWN
DOCTOR = frozenset({"prescriber"})
TWO = DOCTOR | {"monitor"}
ALL = TWO | {"therapist"}
"""Who may pass over the gate."""


def content() -> dict[str, Any]:
    """The course for tests, with one condition and one class of each action."""
    told = protocol_content()
    told["screening"] = {
        "conditions": [
            {"code": "never", "title": "Never", "action": "block", "source": SOURCE},
            _condition("block", ["prescriber", "monitor"]),
            _condition("hold", ["prescriber"]),
            _condition("caution"),
            _condition("discuss"),
        ],
        "medicines": [
            {"code": action, "title": action, "action": action, "source": SOURCE}
            for action in MedicineAction
        ],
    }
    told["visits"]["dosing"]["gates"] = [
        gate(
            "screen",
            "booking",
            "screen",
            holds=figure(90, "d"),
            holds_first=figure(30, "d"),
            ends_on=["pregnancy"],
            lift=["prescriber", "monitor", "therapist"],
        ),
        gate("eligibility", "booking", "eligibility", who=["prescriber"]),
        gate("medicines", "arrival", "medicines", holds=figure(72, "h")),
    ]
    told["visits"]["dosing"]["checklist"] = []
    return told


def _condition(action: str, lift: list[str] | None = None) -> dict[str, Any]:
    told = {"code": action, "title": action.capitalize(), "action": action, "source": SOURCE}
    return told if lift is None else told | {"lift": lift}


GATES = {one.code: one for one in protocols.read(content()).visits["dosing"].gates}
CODES = ("never", "block", "hold", "caution", "discuss")


def screen(at: datetime = VISIT - DAY, **found: Answer) -> Screen:
    return Screen(at, at, dict.fromkeys(CODES, ABSENT) | found)


def decided(outcome: HoldOutcome, at: datetime = VISIT - HOUR) -> Screen:
    return replace(screen(hold=PRESENT), decided={"hold": Decided(outcome, at)})


def judged(code: str, at: datetime = VISIT, **known: Any) -> Judged:
    known.setdefault("first_of_kind", False)
    return assess([GATES[code]], Known(starts_at=VISIT, **known), at).gates[0]


class TestScreens:
    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            (None, GateState.OPEN),
            (screen(), GateState.MET),
            (screen(VISIT), GateState.MET),
            (screen(VISIT + TICK), GateState.OPEN),  # after the visit began
            (screen(VISIT - 90 * DAY), GateState.MET),  # its last instant
            (screen(VISIT - 90 * DAY - TICK), GateState.EXPIRED),
            (screen(never=UNKNOWN), GateState.OPEN),
            (screen(block=UNKNOWN), GateState.OPEN),
            (screen(hold=UNKNOWN), GateState.OPEN),
            (screen(caution=UNKNOWN), GateState.OPEN),
            (screen(discuss=UNKNOWN), GateState.OPEN),
            (
                Screen(VISIT - DAY, VISIT - DAY, {"never": ABSENT}),
                GateState.OPEN,
            ),  # not asked for the rest
            (Screen(VISIT - DAY, VISIT - DAY, {}), GateState.OPEN),  # not asked for any
            (Screen(VISIT - DAY, VISIT - DAY, {"other": ABSENT}), GateState.OPEN),
            (screen(never=PRESENT), GateState.FAILED),
            (screen(block=PRESENT), GateState.FAILED),
            (screen(block=PRESENT, hold=UNKNOWN), GateState.FAILED),
            (screen(VISIT - 91 * DAY, block=PRESENT), GateState.FAILED),  # it does not heal by age
            (screen(hold=PRESENT), GateState.OPEN),
            (decided(HoldOutcome.GO_AHEAD), GateState.MET),
            (decided(HoldOutcome.REFUSED), GateState.FAILED),
            (screen(caution=PRESENT, discuss=PRESENT), GateState.MET),
        ],
    )
    def test_it_is_open_once_all_is_known_and_nothing_speaks_against(
        self, told: Screen | None, expected: GateState
    ) -> None:
        assert judged("screen", screen=told).state is expected

    def test_the_first_visit_of_a_kind_asks_for_a_fresher_one(self) -> None:
        old = screen(VISIT - 30 * DAY - TICK)
        first, later = (
            judged("screen", screen=old, first_of_kind=is_first).state for is_first in (True, False)
        )
        assert (first, later) == (GateState.EXPIRED, GateState.MET)

    @pytest.mark.parametrize(
        ("after", "expected"),
        [(-TICK, GateState.MET), (0 * TICK, GateState.MET), (TICK, GateState.EXPIRED)],
    )
    def test_what_happens_to_the_patient_ends_it(
        self, after: timedelta, expected: GateState
    ) -> None:
        happened = {"pregnancy": VISIT - DAY + after, "new-diagnosis": VISIT - HOUR}
        assert judged("screen", screen=screen(), happened=happened).state is expected

    def test_what_lets_it_through_is_told(self) -> None:
        told = replace(
            decided(HoldOutcome.GO_AHEAD),
            answers=screen(hold=PRESENT, caution=PRESENT, discuss=PRESENT).answers,
        )
        assert judged("screen", screen=told).named == (
            "Screened: nothing speaks against it. Decided to go ahead with: Hold. "
            "Take care: Caution. To discuss: Discuss."
        )

    def test_what_keeps_it_shut_is_told(self) -> None:
        found = [
            screen(block=PRESENT, never=PRESENT),
            screen(caution=UNKNOWN),
            screen(hold=PRESENT),
            Screen(VISIT - DAY, VISIT - DAY, dict.fromkeys(CODES[:-1], ABSENT)),
        ]
        assert [judged("screen", screen=one).named for one in found] == [
            "Against it: Never; Block.",
            "Not known yet: Caution.",
            "To be decided by prescriber: Hold.",
            "Not asked yet: Discuss.",
        ]

    @pytest.mark.parametrize(
        ("lifts", "who"),
        [
            (["prescriber"], "prescriber"),
            (["prescriber monitor"], "monitor or prescriber"),
            (["prescriber monitor", "prescriber"], "prescriber"),  # whoever may decide on both
            (["prescriber", "monitor"], "nobody"),
        ],
    )
    def test_who_decides_is_told(self, lifts: list[str], who: str) -> None:
        held = [
            HealthCondition(
                code=lift, title="It", action=ConditionAction.HOLD, lift=frozenset(lift.split())
            )
            for lift in lifts
        ]
        found = of_screen(held, Screen(VISIT, VISIT, dict.fromkeys(lifts, PRESENT)))
        assert found.named == f"To be decided by {who}: {'; '.join('It' for _ in lifts)}."

    @pytest.mark.parametrize(
        ("told", "lift"),
        [
            (screen(never=PRESENT), frozenset()),
            (screen(block=PRESENT), TWO),  # of the gate's roles those of the condition's
            (screen(block=PRESENT, never=PRESENT), frozenset()),
            (screen(hold=PRESENT), DOCTOR),
            (decided(HoldOutcome.REFUSED), DOCTOR),
            (None, ALL),
            # Of what is found and stands, also where something else keeps the gate shut.
            (screen(caution=UNKNOWN), ALL),
            (screen(hold=PRESENT, caution=UNKNOWN), DOCTOR),
            (Screen(VISIT - DAY, VISIT - DAY, {"hold": PRESENT}), DOCTOR),
            (screen(block=PRESENT, hold=PRESENT), DOCTOR),
            (screen(VISIT - 91 * DAY), ALL),
            (screen(VISIT - 91 * DAY, hold=PRESENT), DOCTOR),
            (screen(VISIT - 91 * DAY, hold=UNKNOWN), ALL),
            (screen(VISIT - 91 * DAY, never=PRESENT), frozenset()),
            # A decision to go ahead lapses with its screen, and a reason may outlast both.
            (decided(HoldOutcome.GO_AHEAD), DOCTOR),
            (replace(decided(HoldOutcome.GO_AHEAD), at=VISIT - 91 * DAY), DOCTOR),
            (screen(caution=PRESENT), ALL),
        ],
    )
    def test_who_may_pass_over_it(self, told: Screen | None, lift: frozenset[str]) -> None:
        assert judged("screen", screen=told).lift == lift

    @pytest.mark.parametrize(
        ("told", "since"),
        [
            (screen(block=PRESENT), VISIT - DAY),
            (screen(hold=UNKNOWN), VISIT - DAY),
            (Screen(VISIT - DAY, VISIT - DAY, {"never": ABSENT}), VISIT - DAY),
            (screen(hold=PRESENT), VISIT - DAY),
            (decided(HoldOutcome.REFUSED), VISIT - HOUR),
            (replace(screen(block=PRESENT), known_at=VISIT - HOUR), VISIT - HOUR),  # written late
            (screen(VISIT - 91 * DAY, hold=PRESENT), VISIT - 91 * DAY),  # also once it has lapsed
            (replace(decided(HoldOutcome.GO_AHEAD), at=VISIT - 91 * DAY), VISIT - DAY),
        ],
    )
    def test_a_reason_speaks_of_what_was_known(self, told: Screen, since: datetime) -> None:
        states = [
            judged("screen", screen=told, overridden={"screen": at}).state
            for at in (since, since - TICK)
        ]
        assert states[0] is GateState.OVERRIDDEN
        assert states[1] is judged("screen", screen=told).state is not GateState.OVERRIDDEN


def taking(
    *classes: str | None, at: datetime = VISIT - HOUR, **ruled: MedicineAction
) -> Reconciled:
    names = tuple(Medicine(f"A {one}", one) for one in classes)
    told = {code.replace("_", "-"): Ruled(action, VISIT - HOUR) for code, action in ruled.items()}
    return Reconciled(at, at, names, told)


HELD, BLOCK = MedicineAction.HOLD_DOSE_DAY, MedicineAction.BLOCK


class TestMedicines:
    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            (None, GateState.OPEN),
            (taking(), GateState.MET),
            (taking(at=VISIT), GateState.MET),
            (taking(at=VISIT + TICK), GateState.OPEN),
            (taking(at=VISIT - 72 * HOUR), GateState.MET),  # its last instant
            (taking(at=VISIT - 72 * HOUR - TICK), GateState.EXPIRED),
            (taking(None, "none", "discuss"), GateState.MET),
            (taking("hold-dose-day"), GateState.OPEN),
            (taking("hold-24h"), GateState.OPEN),
            (taking("block"), GateState.OPEN),
            (taking("hold-dose-day", hold_dose_day=HELD), GateState.MET),
            (taking("hold-24h", hold_24h=MedicineAction.NONE), GateState.MET),
            (taking("block", block=MedicineAction.BLOCK), GateState.FAILED),
            (taking("block", block=HELD), GateState.MET),
            (taking("discuss", discuss=MedicineAction.BLOCK), GateState.FAILED),
            (taking("block", "hold-24h", block=MedicineAction.BLOCK), GateState.OPEN),
            (taking(hold_24h=MedicineAction.BLOCK), GateState.MET),  # nobody takes it
        ],
    )
    def test_what_is_held_back_waits_until_it_is_approved(
        self, told: Reconciled | None, expected: GateState
    ) -> None:
        assert judged("medicines", reconciled=told).state is expected

    def test_what_is_left_out_is_told(self) -> None:
        told = taking("discuss", "hold-24h", hold_24h=HELD)
        assert judged("medicines", reconciled=told).named == (
            "Gone through. Left out on the day: A hold-24h. To discuss: A discuss."
        )
        waiting = judged("medicines", reconciled=taking("hold-24h", "block"))
        no = taking("block", "block", "discuss", block=BLOCK, discuss=BLOCK)
        assert judged("medicines", reconciled=no).named == "Not with A discuss; A block, A block."
        assert waiting.named == "To be approved: A hold-24h (hold-24h); A block (block)."

    def test_what_follows_is_told_of_each_class(self) -> None:
        classes = GATES["medicines"].medicines
        told = taking("block", "hold-24h", "other", "block", hold_24h=HELD)
        [held, blocked] = flags(classes, told)
        assert (held.medicine_class.code, held.names) == ("hold-24h", ("A hold-24h",))
        assert (held.action, held.ruled_at, held.waits) == (HELD, VISIT - HOUR, False)
        assert (blocked.medicine_class.code, blocked.names) == ("block", ("A block",) * 2)
        assert (blocked.action, blocked.ruled_at, blocked.waits) == (BLOCK, None, True)

    @pytest.mark.parametrize(
        ("told", "since"),
        [
            (taking("block", at=VISIT - DAY), VISIT - DAY),
            (taking("block", at=VISIT - DAY, block=BLOCK), VISIT - HOUR),
            # Ruled out, while another still waits.
            (taking("block", "hold-24h", at=VISIT - DAY, block=BLOCK), VISIT - HOUR),
            (replace(taking("block", at=VISIT - DAY), known_at=VISIT - HOUR), VISIT - HOUR),
        ],
    )
    def test_a_reason_speaks_of_what_was_known(self, told: Reconciled, since: datetime) -> None:
        states = [
            judged("medicines", reconciled=told, overridden={"medicines": at}).state
            for at in (since, since - TICK)
        ]
        assert states[0] is GateState.OVERRIDDEN
        assert states[1] is judged("medicines", reconciled=told).state is not GateState.OVERRIDDEN


def ruling(outcome: str, until: date | None = None, lapses: datetime | None = None) -> Ruling:
    return Ruling(EligibilityOutcome(outcome), VISIT - DAY, None, until, lapses)


class TestEligibility:
    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            (None, GateState.MET),  # nobody decided
            (ruling("eligible"), GateState.MET),
            (ruling("eligible", lapses=VISIT + TICK), GateState.MET),
            (ruling("eligible", lapses=VISIT), GateState.EXPIRED),  # the day after has begun
            (ruling("eligible-with-conditions", lapses=VISIT), GateState.EXPIRED),
            (ruling("deferred", date(2026, 4, 30)), GateState.FAILED),
            (ruling("deferred", date(2026, 3, 1)), GateState.FAILED),  # does not end by itself
            (ruling("not-eligible"), GateState.FAILED),
        ],
    )
    def test_it_is_shut_by_what_was_decided(self, told: Ruling | None, expected: GateState) -> None:
        assert judged("eligibility", eligibility=told).state is expected

    @pytest.mark.parametrize(
        ("told", "said"),
        [
            (None, "Nobody has decided otherwise."),
            (ruling("eligible"), "Eligible."),
            (ruling("not-eligible"), "Not eligible."),
            (
                ruling("deferred", date(2026, 4, 30)),
                "Deferred until 2026-04-30, when it is decided anew.",
            ),
            (
                ruling("eligible", date(2026, 3, 30), VISIT),
                "To be decided anew: it held through 2026-03-30.",
            ),
        ],
    )
    def test_what_was_decided_is_told(self, told: Ruling | None, said: str) -> None:
        assert judged("eligibility", eligibility=told).detail == said

    def test_conditions_are_told(self) -> None:
        told = Ruling(EligibilityOutcome.ELIGIBLE_WITH_CONDITIONS, VISIT, "with an ECG")
        assert judged("eligibility", eligibility=told).named == "Eligible if: with an ECG"


THROUGH = "Screened: nothing speaks against it."


def eligible_if(conditions: str) -> Ruling:
    return Ruling(EligibilityOutcome.ELIGIBLE_WITH_CONDITIONS, VISIT, conditions)


@pytest.mark.parametrize(
    ("code", "known", "said"),
    [
        ("screen", {"screen": screen(block=PRESENT)}, "Something speaks against it."),
        ("screen", {"screen": screen(caution=UNKNOWN)}, "Not everything is known."),
        ("screen", {"screen": screen(hold=PRESENT)}, "To be decided by prescriber."),
        ("screen", {"screen": screen(caution=PRESENT)}, THROUGH),
        ("screen", {"screen": decided(HoldOutcome.GO_AHEAD)}, THROUGH),
        ("screen", {"screen": decided(HoldOutcome.REFUSED)}, "Something speaks against it."),
        (
            "screen",
            {"screen": Screen(VISIT, VISIT, {"never": ABSENT})},
            "Not everything was asked.",
        ),
        (
            "medicines",
            {"reconciled": taking("hold-24h", "block")},
            "Something is to be approved.",
        ),
        (
            "medicines",
            {"reconciled": taking("block", block=MedicineAction.BLOCK)},
            "Not with what the patient takes.",
        ),
        (
            "medicines",
            {"reconciled": taking("discuss", "hold-24h", hold_24h=HELD)},
            "Gone through.",
        ),
        ("eligibility", {"eligibility": eligible_if("Not if Never")}, "Eligible, with conditions."),
    ],
)
@pytest.mark.parametrize("overridden", [False, True])
def test_what_a_patient_has_or_takes_is_named_to_those_who_treat_alone(
    code: str, known: dict[str, Any], said: str, overridden: bool
) -> None:
    given: dict[str, Any] = {"overridden": {code: VISIT + HOUR}} if overridden else {}
    found = judged(code, **known, **given)
    names = {"Never", "Block", "Hold", "Caution", "Discuss", "A block", "A discuss", "A hold"}
    assert found.named is not None
    assert any(name in found.named for name in names)
    assert found.detail.removeprefix("Overridden. ") == said
    assert found.named.startswith("Overridden. ") == found.detail.startswith("Overridden. ")


def test_it_is_told_since_when_it_is_known() -> None:
    told = screen(block=PRESENT)
    assert judged("screen", screen=told).since == told.known_at


def test_no_reason_passes_over_a_decision_that_came_after_it() -> None:
    """Eligible, and to be decided anew before the visit: whoever gave the reason knew nothing."""
    later = Ruling(EligibilityOutcome.ELIGIBLE, VISIT - DAY, None, date(2026, 3, 30), VISIT - HOUR)
    for given_at, state in ((later.at - TICK, GateState.EXPIRED), (later.at, GateState.OVERRIDDEN)):
        found = judged("eligibility", eligibility=later, overridden={"eligibility": given_at})
        assert found.state is state


FRAME = Frame(VISIT - 2 * DAY, 4 * 288)
NEAR = st.timedeltas(-3 * DAY, 3 * DAY)


@cases(50)
@given(NEAR, st.sampled_from([0, 30, 90]), NEAR, st.booleans(), st.sampled_from(Answer))
def test_what_is_behind_these_gates_is_what_judging_every_start_finds(
    off: timedelta, age: int, lapses: timedelta, first: bool, found: Answer
) -> None:
    known = Known(
        starts_at=VISIT,
        screen=screen(VISIT + off - age * DAY, hold=found),
        eligibility=ruling("eligible", lapses=VISIT + lapses),
        first_of_kind=first,
    )
    gates = list(GATES.values())
    oracle = [
        at for at in range(FRAME.size) if assess(gates, known, FRAME.at(at)).shut(Stage.BOOKING)
    ]

    assert list(positions(behind(FRAME, gates, known))) == oracle


def _drop_screening(told: Any) -> None:
    del told["screening"]


def _drop_gates(told: Any) -> None:
    told["visits"]["dosing"]["gates"] = []


def _twice(told: Any) -> None:
    told["screening"]["conditions"].append(told["screening"]["conditions"][0])


def _nobody_decides(told: Any) -> None:
    told["screening"]["conditions"][2]["lift"] = []


def _somebody_lifts_a_caution(told: Any) -> None:
    told["screening"]["conditions"][3]["lift"] = ["prescriber"]


def _nobody_approves(told: Any) -> None:
    told["visits"]["dosing"]["gates"][2]["lift"] = []


def _forever(told: Any) -> None:
    del told["visits"]["dosing"]["gates"][2]["holds"]


def _no_source(told: Any) -> None:
    told["screening"]["medicines"][0]["source"] = ["nowhere"]


@pytest.mark.parametrize(
    ("break_it", "pointer"),
    [
        (_drop_screening, "/visits/dosing/gates/0/by"),
        (_drop_gates, "/screening/conditions"),
        (_drop_gates, "/screening/medicines"),
        (_twice, "/screening/conditions/5/code"),
        (_nobody_decides, "/screening/conditions/2/lift"),
        (_somebody_lifts_a_caution, "/screening/conditions/3/lift"),
        (_nobody_approves, "/visits/dosing/gates/2/lift"),
        (_forever, "/visits/dosing/gates/2"),
        (_no_source, "/screening/medicines/0/source"),
    ],
)
def test_a_screening_that_cannot_work_is_told_where(
    break_it: Callable[[Any], None], pointer: str
) -> None:
    told = content()
    assert protocols.check(told) == []
    break_it(told)

    assert pointer in {fault.pointer for fault in protocols.check(told)}


def test_only_gates_of_their_kind_ask_for_them() -> None:
    assert [one.code for one in GATES["screen"].conditions] == list(CODES)
    assert GATES["screen"].medicines == ()
    assert GATES["medicines"].conditions == ()
    assert GATES["screen"].conditions[0] == HealthCondition(
        code="never", title="Never", action=ConditionAction.BLOCK, lift=frozenset()
    )
    assert GATES["medicines"].medicines[-1] == MedicineClass(
        code="block", title="block", action=MedicineAction.BLOCK
    )
