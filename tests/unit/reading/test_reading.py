"""Protocols as they are read: every word of a file reaches the rules, and what is not said too."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from models.vocabulary import Place, StepKind, WayHome
from scheduler import protocols
from scheduler.protocols import Fault, Protocol
from tests.factories import protocol_content
from tests.unit.reading.meant import FULL, MEANT, PLAIN
from tests.unit.reading.told import TOLD

MINUTE = timedelta(minutes=1)


def test_what_is_told_is_what_is_meant() -> None:
    told = protocols.read(TOLD)
    for field in fields(Protocol):
        assert getattr(told, field.name) == getattr(MEANT, field.name)


def test_what_is_not_told_is_the_plainest() -> None:
    more = {"caps", "gaps", "incidents", "screening", "doses_alone"}
    read = protocols.read({key: told for key, told in TOLD.items() if key not in more})
    assert read.doses_alone is None
    screened, gone_through = read.visits["full"].gates[1:3]
    assert (screened.conditions, gone_through.medicines) == ((), ())
    assert (read.caps, read.gaps, read.incidents) == ((), (), {})
    plain = read.visits["plain"]
    assert plain == PLAIN
    assert (plain.place, plain.grid) == (Place.SITE, 15 * MINUTE)
    assert (plain.notice, plain.ahead, plain.group, plain.suspend) == (None,) * 4
    assert (plain.medicine, plain.route, plain.gates[0].given_for) == (None, None, frozenset())
    assert (plain.ways_home, plain.watch) == ((WayHome.ESCORT,), ())


def test_a_step_and_the_first_visit_of_a_kind_are_found() -> None:
    read = protocols.read(TOLD)
    assert read.step("two").position == 2
    assert read.first_visit_of(StepKind.DOSING) == FULL
    assert read.first_visit_of(StepKind.SCREENING) is None
    with pytest.raises(KeyError, match="three"):
        read.step("three")


@pytest.mark.parametrize(("patients", "wanted"), [(0, 1), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_a_ratio_is_rounded_up(patients: int, wanted: int) -> None:
    therapist, _, _, pump = protocols.read(TOLD).visits["full"].phases
    assert therapist.wanted_for(patients) == wanted
    assert pump.wanted_for(patients) == 2


@pytest.mark.parametrize(
    ("value", "lies_there"), [(79.9, True), (80, False), (159.9, False), (160, True)]
)
def test_beyond_is_below_the_one_or_at_the_other(value: float, lies_there: bool) -> None:
    [systolic, oriented] = protocols.read(TOLD).visits["full"].gates[3].limits
    assert systolic.hold.holds(value) is lies_there
    assert not oriented.hold.holds(value)


def test_a_check_is_due_before_the_start_or_after_the_end() -> None:
    read = protocols.read(TOLD)
    [form], [eat] = read.visits["plain"].checklist, read.visits["full"].checklist
    start = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
    end = start + 50 * MINUTE
    assert form.due_at(start, end) == end + timedelta(days=7)
    assert eat.due_at(start, end) == start - timedelta(days=1)


def test_every_fault_is_told_in_the_order_of_the_file() -> None:
    told = protocol_content()
    assert protocols.check(told) == []
    told["visits"]["dosing"]["minutes"].pop("source")
    told["caps"][0]["most"] = "x"
    told["gaps"] = 3
    told["steps"].append({})

    assert protocols.check(told) == [
        Fault("/caps/0/most", "'x' is not of type 'object'"),
        Fault("/gaps", "3 is not of type 'array'"),
        Fault("/steps/4", "'key' is a required property"),
        Fault("/steps/4", "'visit' is a required property"),
        Fault("/visits/dosing/minutes", "'source' is a required property"),
    ]


def test_of_a_good_shape_the_sense_is_asked() -> None:
    told = protocol_content()
    told["steps"][1]["key"] = "preparation"
    assert protocols.check(told)[0].pointer == "/steps/1/key"
    assert protocols.check([]) == [Fault("/", "[] is not of type 'object'")]


def test_a_cadence_alone_is_checked_alike() -> None:
    rules = protocol_content()["cadences"]["plain"]
    assert protocols.check_cadence(rules) == []
    rules[1]["rule"] = rules[0]["rule"]
    assert protocols.check_cadence(rules) == [
        Fault("/1/rule", "Two of these are called 'on-booking'.")
    ]
    rules[0].pop("to")
    rules[1]["rule"] = 3
    assert protocols.check_cadence(rules) == [
        Fault("/0", "'to' is a required property"),
        Fault("/1/rule", "3 is not of type 'string'"),
    ]
