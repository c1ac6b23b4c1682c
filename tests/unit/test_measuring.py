"""Vital signs: where they lie, when they are due, and what opens the gate that rests on them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.vocabulary import GateState, Measure, Stage
from scheduler import measuring, protocols, readiness
from scheduler.measuring import DueState, Measured
from scheduler.readiness import Judged, Known
from tests.factories import SOURCE, figure, gate, protocol_content

NINE = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

VITALS = gate(
    "vitals",
    "dose",
    "measurement",
    holds=figure(30, "min"),
    recheck={"after": figure(10, "min"), "times": 2, "source": SOURCE},
    limits=[
        {
            "measure": "systolic",
            "pass": {"least": 90, "most": 140},
            "hold": {"from": 160},
            "stop": {"from": 180},
            "source": SOURCE,
        },
        {"measure": "diastolic", "pass": {"most": 90}, "source": SOURCE},
    ],
)
LEAVING = gate(
    "recovery",
    "discharge",
    "measurement",
    holds=figure(60, "min"),
    limits=[
        {"measure": "recovery-score", "pass": {"least": 9}, "source": SOURCE},
        {"measure": "systolic", "near_baseline": 20, "source": SOURCE},
    ],
)


def content() -> dict[str, Any]:
    told = protocol_content()
    dosing = told["visits"]["dosing"]
    dosing["gates"] = [VITALS, LEAVING]
    dosing["checklist"] = []
    dosing["watch"] = [
        _watch("before", before="dose"),
        _watch("peak", after_dose=figure(40, "min")),
        _watch(
            "during",
            after_dose=figure(10, "min"),
            every=figure(10, "min"),
            until=figure(30, "min"),
        ),
        _watch("leaving", before="discharge"),
    ]
    return told


def _watch(code: str, **when: Any) -> dict[str, Any]:
    return {
        "code": code,
        "title": code,
        "measures": ["systolic", "diastolic"],
        "late_after": figure(5, "min"),
        **when,
    }


READ = protocols.read(content()).visits["dosing"]


def test_the_protocol_is_one() -> None:
    assert protocols.check(content()) == []


def at(minutes: float, **values: float) -> Measured:
    codes = {name.replace("_", "-"): value for name, value in values.items()}
    taken = NINE + minutes * MINUTE
    return Measured(taken, {Measure(code): value for code, value in codes.items()}, taken)


def judged(
    code: str, *measured: Measured, minutes: float = 0, dosed: float | None = None, **more: Any
) -> Judged:
    [asked] = [one for one in READ.gates if one.code == code]
    known = Known(
        starts_at=NINE,
        measured=measured,
        dosed_at=None if dosed is None else NINE + dosed * MINUTE,
        **more,
    )
    [found] = readiness.assess([asked], known, NINE + minutes * MINUTE).gates
    return found


class TestLimits:
    @pytest.mark.parametrize(
        ("systolic", "diastolic", "state", "fixed"),
        [
            (90, 60, GateState.MET, False),
            (89.9, 60, GateState.FAILED, False),
            (140, 90, GateState.MET, False),
            (140.1, 90, GateState.FAILED, False),
            (140, 90.1, GateState.FAILED, False),
            (159.9, 90, GateState.FAILED, False),
            (160, 90, GateState.FAILED, True),
            (179.9, 90, GateState.FAILED, True),
            (180, 90, GateState.FAILED, True),
        ],
    )
    def test_to_the_millimetre(
        self, systolic: float, diastolic: float, state: GateState, fixed: bool
    ) -> None:
        found = judged("vitals", at(-5, systolic=systolic, diastolic=diastolic))
        assert (found.state, found.is_fixed) == (state, fixed)

    @pytest.mark.parametrize(
        ("taken", "state"),
        [
            (-30, GateState.MET),
            (-30.1, GateState.EXPIRED),
            (0, GateState.MET),
            (0.1, GateState.OPEN),
        ],
    )
    def test_to_the_minute(self, taken: float, state: GateState) -> None:
        assert judged("vitals", at(taken, systolic=120, diastolic=80)).state is state

    def test_what_is_missing_is_named(self) -> None:
        found = judged("vitals", at(-5, systolic=120))
        assert (found.state, found.detail) == (GateState.OPEN, "Not measured yet: diastolic")

    def test_each_measure_counts_by_its_last_value(self) -> None:
        found = judged("vitals", at(-20, systolic=150, diastolic=80), at(-5, systolic=130))
        assert found.state is GateState.MET
        assert found.expires_at == NINE + 10 * MINUTE  # the diastolic's half hour

    def test_near_the_baseline_means_near_the_last_before_the_dose(self) -> None:
        before, dose = at(-5, systolic=120, diastolic=80), 0
        for value, state in (
            (144, GateState.MET),
            (144.1, GateState.FAILED),
            (96, GateState.MET),
            (95.9, GateState.FAILED),
        ):
            after = at(118, systolic=value, recovery_score=9)
            found = judged("recovery", before, after, minutes=120, dosed=dose)
            assert found.state is state, value
        nobody_knows = judged(
            "recovery", at(118, systolic=120, recovery_score=9), minutes=120, dosed=dose
        )
        assert nobody_knows.state is GateState.FAILED


class TestReasons:
    def test_beyond_the_limits_a_reason_opens_it_that_was_given_since(self) -> None:
        beyond = at(-5, systolic=150, diastolic=80)
        for given, state in ((-6, GateState.FAILED), (-5, GateState.OVERRIDDEN)):
            overridden = {"vitals": NINE + given * MINUTE}
            assert judged("vitals", beyond, overridden=overridden).state is state

    def test_on_hold_only_once_it_was_measured_again_often_enough(self) -> None:
        high = [at(-30 + minutes, systolic=165, diastolic=80) for minutes in (0, 9, 10, 20, 21)]
        reason = {"vitals": NINE}
        for known, state in ((1, "failed"), (2, "failed"), (3, "failed"), (4, "overridden")):
            found = judged("vitals", *high[:known], overridden=reason)
            assert found.state == state, known

    def test_it_says_when_to_measure_again(self) -> None:
        found = judged("vitals", at(-5, systolic=165, diastolic=80))
        assert found.named == "On hold: systolic 165. Measure again at 14:05 UTC or later."

    def test_once_it_was_lower_the_count_begins_anew(self) -> None:
        values = (165, 165, 150, 165)
        taken = [
            at(-30 + 10 * number, systolic=value, diastolic=80)
            for number, value in enumerate(values)
        ]
        assert judged("vitals", *taken, overridden={"vitals": NINE}).is_fixed

    def test_of_what_was_only_beyond_a_better_value_counts_at_once(self) -> None:
        taken = [
            at(-minutes, systolic=value, diastolic=80) for minutes, value in ((2, 150), (1, 130))
        ]
        assert judged("vitals", *taken).state is GateState.MET

    def test_at_the_stop_line_nothing_opens_it(self) -> None:
        high = [at(-30 + 10 * n, systolic=185, diastolic=80) for n in range(4)]
        found = judged("vitals", *high, overridden={"vitals": NINE})
        assert (found.state, found.is_fixed) == (GateState.FAILED, True)

    def test_of_what_is_not_measured_a_reason_does(self) -> None:
        """A cuff that is broken: a prescriber may decide without."""
        overridden = {"vitals": NINE - MINUTE}
        assert judged("vitals", overridden=overridden).state is GateState.OVERRIDDEN


def due(
    *measured: Measured, minutes: float, dosed: float | None, stage: Stage | None
) -> dict[tuple[str, float], DueState]:
    dosed_at = None if dosed is None else NINE + dosed * MINUTE
    found = measuring.due(READ.watch, measured, dosed_at, stage, NINE + minutes * MINUTE)
    return {(one.watch.code, (one.due_at - NINE) / MINUTE): one.state for one in found}


class TestWatch:
    def test_before_the_dose(self) -> None:
        assert due(minutes=0, dosed=None, stage=Stage.ARRIVAL) == {}
        assert due(minutes=0, dosed=None, stage=Stage.DOSE) == {("before", 0): DueState.DUE}
        taken = at(-3, systolic=120, diastolic=80)
        assert due(taken, minutes=0, dosed=None, stage=Stage.DOSE) == {
            ("before", -3): DueState.DONE
        }

    @pytest.mark.parametrize(
        ("minutes", "state"),
        [
            (39, DueState.AHEAD),
            (40, DueState.DUE),
            (45, DueState.DUE),
            (45.1, DueState.LATE),
            (300, DueState.LATE),
        ],
    )
    def test_the_peak_is_late_after_five_minutes(self, minutes: float, state: DueState) -> None:
        found = due(minutes=minutes, dosed=0, stage=Stage.DISCHARGE)
        assert found["peak", 40] is state

    def test_each_of_a_row_counts_for_itself(self) -> None:
        found = due(at(11, systolic=130, diastolic=80), minutes=28, dosed=0, stage=Stage.DISCHARGE)
        assert found["during", 10] is DueState.DONE
        assert found["during", 20] is DueState.LATE  # though the next is due from minute 25 on
        assert found["during", 30] is DueState.AHEAD

    def test_a_minute_early_is_in_time(self) -> None:
        found = due(at(36, systolic=130, diastolic=80), minutes=50, dosed=0, stage=Stage.DISCHARGE)
        assert found["peak", 40] is DueState.DONE

    def test_before_leaving_is_after_all_that_has_a_time(self) -> None:
        early = due(minutes=39, dosed=0, stage=Stage.DISCHARGE)
        assert early["leaving", 40] is DueState.AHEAD
        assert due(minutes=50, dosed=0, stage=Stage.DISCHARGE)["leaving", 50] is DueState.DUE
        calm = at(110, systolic=120, diastolic=80)
        done = due(calm, minutes=115, dosed=0, stage=Stage.DISCHARGE)
        assert done["leaving", 110] is DueState.DONE

    def test_half_of_it_is_not_it(self) -> None:
        found = due(at(41, systolic=130), minutes=50, dosed=0, stage=Stage.DISCHARGE)
        assert found["peak", 40] is DueState.LATE


def test_every_measure_has_a_unit() -> None:
    assert set(measuring.KINDS) == set(Measure)
