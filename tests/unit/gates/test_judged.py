"""What is told of a gate beside how it stands: by when, by whom, and since when."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from models.vocabulary import ClearanceOutcome, GateState, Stage, TaskStatus
from scheduler import checking, readiness
from scheduler.readiness import Amiss, Item, Judged, Known, Licence, Serving, amiss, assess
from tests.unit.gates.test_words import gate, taken, vouched_for
from tests.unit.gates.trials import AT, DAY, HOUR, MET, MINUTE, OVERRIDDEN, judge

FAILED, TODO = TaskStatus.FAILED, TaskStatus.REQUESTED


def item(of: str | None, before: timedelta, **more: Any) -> Item:
    return Item(of, "t", **{"status": TODO, "due_at": AT - before, **more})


@pytest.mark.parametrize(
    "items",
    [
        [item("g", 2 * HOUR)],
        [item("g", HOUR), item("g", 2 * HOUR)],
        [item("g", 2 * HOUR), item("g", HOUR)],  # also where the later one is listed last
        [item("g", 2 * HOUR), item("g", -HOUR)],  # due after the visit
        [item("g", 2 * HOUR), item("other", DAY), item(None, DAY)],
    ],
)
def test_it_is_due_when_the_first_of_its_items_is(items: list[Item]) -> None:
    assert judge(gate("checklist"), items=items).due_at == AT - 2 * HOUR


def test_an_item_that_is_due_after_the_start_puts_nothing_off() -> None:
    assert judge(gate("checklist"), items=[item("g", -HOUR)]).due_at == AT


ROLES = ("therapist", "monitor")
TODAY = date(2026, 6, 15)
NEW_YORK, AUCKLAND = "America/New_York", "Pacific/Auckland"


def held(role: str, since: int = -9, until: int = 9, *regions: str) -> Licence:
    return Licence(role, TODAY + since * DAY, TODAY + until * DAY, regions)


def serving(**told: Any) -> Serving:
    """Two who may serve the visit, and a patient who is old enough; but for what is told."""
    staff = [(role, [held(role)]) for role in ROLES]
    sound = Serving(NEW_YORK, staff, date(1990, 6, 15), 18)
    return sound._replace(**told)


def test_the_day_is_the_one_that_these_tests_take_it_for() -> None:
    assert AT.astimezone(ZoneInfo(NEW_YORK)).date() == TODAY
    assert AT.astimezone(ZoneInfo(AUCKLAND)).date() == TODAY + DAY


@pytest.mark.parametrize(
    ("told", "after", "unlicensed", "too_young"),
    [
        ({}, 0 * DAY, [], False),
        ({"staff": []}, 0 * DAY, [], False),
        # Licences, to the day; everybody's, in the order of their roles.
        ({"staff": [("monitor", [])]}, 0 * DAY, ["monitor"], False),
        ({"staff": [(one, []) for one in ROLES]}, 0 * DAY, ["monitor", "therapist"], False),
        ({"staff": [("monitor", []), ("monitor", [])]}, 0 * DAY, ["monitor"], False),
        ({"staff": [("monitor", [held("therapist")])]}, 0 * DAY, ["monitor"], False),
        ({"staff": [("monitor", [held("monitor", 0, 0)])]}, 0 * DAY, [], False),
        ({"staff": [("monitor", [held("monitor", -9, -1)])]}, 0 * DAY, ["monitor"], False),
        ({"staff": [("monitor", [held("monitor", 1, 9)])]}, 0 * DAY, ["monitor"], False),
        (
            {"staff": [("monitor", [held("monitor", 1, 9), held("monitor", -9, 0)])]},
            0 * DAY,
            [],
            False,
        ),
        # Where the day of the visit is over they are asked for today as well.
        ({"staff": [("monitor", [held("monitor", 0, 0)])]}, DAY, ["monitor"], False),
        ({"staff": [("monitor", [held("monitor", 0, 1)])]}, DAY, [], False),
        ({"staff": [("monitor", [held("monitor", 1, 1)])]}, DAY, ["monitor"], False),
        (
            {"staff": [("monitor", [held("monitor", 0, 0), held("monitor", 1, 1)])]},
            DAY,
            [],
            False,
        ),
        ({"staff": [("monitor", [held("monitor", 0, 0)])], "is_over": True}, DAY, [], False),
        # As of a moment before the visit they are asked for its day alone.
        ({"staff": [("monitor", [held("monitor", 0, 0)])]}, -2 * DAY, [], False),
        # Days are those of the site.
        (
            {"time_zone": AUCKLAND, "staff": [("monitor", [held("monitor", 0, 0)])]},
            0 * DAY,
            ["monitor"],
            False,
        ),
        (
            {"time_zone": AUCKLAND, "staff": [("monitor", [held("monitor", 1, 1)])]},
            0 * DAY,
            [],
            False,
        ),
        # By video they hold where the patient is.
        ({"staff": [("monitor", [held("monitor", -9, 9, "US-NY")])]}, 0 * DAY, [], False),
        (
            {"staff": [("monitor", [held("monitor", -9, 9, "US-NY", "US-NJ")])], "region": "US-NJ"},
            0 * DAY,
            [],
            False,
        ),
        (
            {"staff": [("monitor", [held("monitor", -9, 9, "US-NY")])], "region": "US-NJ"},
            0 * DAY,
            ["monitor"],
            False,
        ),
        (
            {"staff": [("monitor", [held("monitor", -9, 9, "US-NY")])], "region": ""},
            0 * DAY,
            ["monitor"],
            False,
        ),
        # Age, on the day of the visit, however late it begins.
        ({"birth_date": date(2008, 6, 15)}, 0 * DAY, [], False),
        ({"birth_date": date(2008, 6, 16)}, 0 * DAY, [], True),
        ({"birth_date": date(2008, 6, 16)}, DAY, [], True),
        ({"birth_date": date(2008, 6, 16), "time_zone": AUCKLAND}, 0 * DAY, [], False),
        ({"birth_date": date(2008, 6, 15), "minimum_age": 19}, 0 * DAY, [], True),
        (
            {"birth_date": date(2008, 6, 16), "staff": [("monitor", [])]},
            0 * DAY,
            ["monitor"],
            True,
        ),
    ],
)
def test_the_service_asks_for_licences_and_age_on_the_day(
    told: dict[str, Any], after: timedelta, unlicensed: list[str], too_young: bool
) -> None:
    known = Known(starts_at=AT, ends_at=AT + HOUR, serving=serving(**told))
    assert amiss(known, AT + after) == Amiss(tuple(unlicensed), too_young)


def test_of_a_visit_that_is_not_booked_the_service_asks_nothing() -> None:
    known = Known(starts_at=AT)
    assert amiss(known, AT) == Amiss((), False)
    assert [one.gate.code for one in assess([gate("clearance")], known, AT).gates] == ["g"]


@pytest.mark.parametrize(
    ("told", "at", "codes", "details"),
    [
        ({}, AT, [], []),
        (
            {"staff": [(role, []) for role in ROLES]},
            AT,
            ["credentials"],
            ["No licence that holds on the day: monitor, therapist."],
        ),
        (
            {"staff": [("monitor", [held("monitor", 0, 0)])]},
            AT + DAY,
            ["credentials"],
            ["No licence that holds on the day: monitor."],
        ),
        (
            {"minimum_age": 40},
            AT,
            ["minimum-age"],
            ["The patient is younger on the day than the protocol allows."],
        ),
        (
            {"minimum_age": 40, "staff": [("monitor", [])]},
            AT,
            ["credentials", "minimum-age"],
            [
                "No licence that holds on the day: monitor.",
                "The patient is younger on the day than the protocol allows.",
            ],
        ),
    ],
)
def test_what_the_service_asks_is_told_at_the_end_where_it_is_not_so(
    told: dict[str, Any], at: datetime, codes: list[str], details: list[str]
) -> None:
    """Nothing opens it: no reason, and nobody's."""
    given = {"credentials": AT, "minimum-age": AT}
    known = Known(starts_at=AT, ends_at=AT + HOUR, overridden=given, serving=serving(**told))
    first, *rest = assess([gate("clearance")], known, at).gates

    assert first.gate.code == "g"
    assert [one.gate.code for one in rest] == codes
    for one, detail in zip(rest, details, strict=True):
        assert one == Judged(
            one.gate, GateState.FAILED, detail, AT, None, True, frozenset(), None, None
        )
        assert one.is_shut
        assert (one.gate.shuts, one.gate.who, one.gate.lift) == (
            Stage.ARRIVAL,
            ("admin",),
            frozenset(),
        )


def test_no_protocol_may_call_a_gate_as_the_service_does() -> None:
    assert readiness.DEMANDS == checking.RESERVED


def test_a_reason_changes_nothing_but_the_state() -> None:
    """By when it was to be settled, when it lapsed and who may pass over it is told as before."""
    one = replace(gate("clearance"), lift=frozenset({"prescriber"}))
    known = {**vouched_for(AT - DAY), "items": [item("g", HOUR)]}
    shut = judge(one, **known)
    assert (shut.due_at, shut.expires_at) == (AT - HOUR, AT - DAY + 30 * MINUTE)

    passed = judge(one, overridden={"g": AT}, **known)

    detail = f"Overridden. {shut.detail}"
    assert passed == replace(shut, state=OVERRIDDEN, detail=detail)
    assert passed.is_fixed is False


@pytest.mark.parametrize(
    ("settled_by", "known"),
    [
        ("clearance", vouched_for(AT - HOUR, ClearanceOutcome.REFUSED)),
        (
            "checklist",
            {
                "items": [
                    item("g", HOUR, status=FAILED, marked_at=AT - 2 * HOUR),
                    item("g", HOUR, status=FAILED, marked_at=AT - HOUR),
                    item("g", HOUR, status=FAILED),
                    item("g", HOUR, status=TaskStatus.COMPLETED, marked_at=AT),
                ]
            },
        ),
        (
            "checklist",  # done, and asked for again
            {
                "items": [
                    item("g", HOUR, status=TaskStatus.REQUESTED, marked_at=AT - HOUR),
                    item("g", HOUR, status=TaskStatus.REQUESTED, marked_at=AT - 2 * HOUR),
                    item("g", HOUR, status=TaskStatus.REQUESTED),
                    item("g", HOUR, status=TaskStatus.COMPLETED, marked_at=AT),
                ]
            },
        ),
    ],
)
def test_a_reason_from_before_it_came_to_light_is_none(
    settled_by: str, known: dict[str, Any]
) -> None:
    one = gate(settled_by)
    shut = judge(one, **known)
    assert shut.state not in {MET, OVERRIDDEN}
    assert shut.expires_at is None
    for given_at, state in (
        (AT - HOUR - MINUTE, shut.state),
        (AT - HOUR, OVERRIDDEN),
        (AT, OVERRIDDEN),
    ):
        assert judge(one, overridden={"g": given_at}, **known).state is state


def test_a_value_beyond_is_known_also_where_another_is_missing() -> None:
    known: dict[str, Any] = {"measured": (taken(0, None, 111),)}
    passed = judge(gate("measurement"), overridden={"g": AT - MINUTE}, **known)
    assert passed.state not in {MET, OVERRIDDEN}


def test_answers_in_order_that_are_too_old_bring_nothing_to_light() -> None:
    known: dict[str, Any] = {"answered": {"c-ssrs": AT - HOUR}, "overridden": {"g": AT - DAY}}
    assert judge(gate("questionnaire"), **known).state is OVERRIDDEN
