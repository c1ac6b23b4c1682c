"""Ratios of a group visit: how many actors so many patients need, and who counts."""

from collections import Counter
from copy import deepcopy
from uuid import UUID

import pytest

from scheduler import placing, protocols
from scheduler.placing import Named
from tests.groups import group_content

VISITS = protocols.read(group_content()).visits


def named(**roles: int) -> list[Named]:
    return [Named(role, UUID(int=n)) for role, number in roles.items() for n in range(number)]


@pytest.mark.parametrize(("patients", "therapists"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_a_ratio_rounds_up(patients: int, therapists: int) -> None:
    visit = placing.staffed(VISITS["dosing"], patients, None)

    counts = Counter({phase.role: phase.count for phase in visit.phases if not phase.present})
    assert counts == {"therapist": therapists, "room": 1, "monitor": 1}


@pytest.mark.parametrize(("given", "taken"), [(0, 1), (1, 1), (2, 2), (5, 2)])
def test_the_caller_may_name_fewer_but_not_none_and_no_more_than_needed(
    given: int, taken: int
) -> None:
    visit = placing.staffed(VISITS["dosing"], 6, named(therapist=given, room=1, monitor=1))

    assert visit.phases[0].count == taken


def test_a_ratio_of_those_who_are_merely_present_is_a_fault() -> None:
    content = deepcopy(group_content())
    content["visits"]["dosing"]["phases"][0]["present"] = True

    found = [fault.pointer for fault in protocols.check(content)]
    assert found == ["/visits/dosing/phases/0/per_patients"]
