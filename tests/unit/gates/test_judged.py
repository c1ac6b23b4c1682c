"""What is told of a gate beside how it stands: by when, by whom, and since when."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from models.vocabulary import ClearanceOutcome, GateState, Stage, TaskStatus
from scheduler import checking, readiness
from scheduler.readiness import Amiss, Item, Judged, Known, assess
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


@pytest.mark.parametrize(
    ("amiss", "codes", "details"),
    [
        (Amiss(), [], []),
        (
            Amiss(("monitor", "therapist")),
            ["credentials"],
            ["No licence that holds on the day: monitor, therapist."],
        ),
        (
            Amiss(too_young=True),
            ["minimum-age"],
            ["The patient is younger on the day than the protocol allows."],
        ),
        (
            Amiss(("monitor",), too_young=True),
            ["credentials", "minimum-age"],
            [
                "No licence that holds on the day: monitor.",
                "The patient is younger on the day than the protocol allows.",
            ],
        ),
    ],
)
def test_what_the_service_asks_is_told_at_the_end_where_it_is_not_so(
    amiss: Amiss, codes: list[str], details: list[str]
) -> None:
    """Nothing opens it: no reason, and nobody's."""
    given = {"credentials": AT, "minimum-age": AT}
    known = Known(starts_at=AT, ends_at=AT + HOUR, overridden=given, amiss=amiss)
    first, *rest = assess([gate("clearance")], known, AT - DAY).gates

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
