"""A patient is found by how a name or the number begins, whatever the case, and by nothing else."""

from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy.orm import Session

from tests.factories import make_patient, make_world
from tests.integration.conftest import Caller


@pytest.fixture(autouse=True)
def patients(session: Session, desk: Caller) -> None:
    for number, given, family in (
        ("MRN-1", "Zoë", "Ångström"),
        ("MRN-2", "Sam", "O'Brien"),
        ("MRN-3", "Ida", "de la Cruz"),
        ("100%_x", "Kim", "Smithson"),
    ):
        make_patient(session, record_number=number, given_name=given, family_name=family)


def found(desk: Caller, told: str) -> set[str]:
    answer = desk.get(f"/patients?q={quote(told)}")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.get_json()["items"]
    return {one["record_number"] for one in items}


@pytest.mark.parametrize(
    ("told", "numbers"),
    [
        ("smith", {"100%_x"}),
        ("SMITHSON", {"100%_x"}),
        ("mithson", set()),
        ("smithsons", set()),
        ("Ångs", {"MRN-1"}),
        ("zo", {"MRN-1"}),
        ("o'b", {"MRN-2"}),
        ("De La", {"MRN-3"}),
        ("mrn-", {"MRN-1", "MRN-2", "MRN-3"}),
        ("100%", {"100%_x"}),
        ("100%_", {"100%_x"}),
        ("%", set()),
        ("_", set()),
        ("\\", set()),
    ],
)
def test_it_is_found_by_how_it_begins(desk: Caller, told: str, numbers: set[str]) -> None:
    assert found(desk, told) == numbers


def test_who_has_another_name_is_found_by_that(desk: Caller, session: Session) -> None:
    [one] = desk.get("/patients?q=smithson").get_json()["items"]
    etag = desk.get(f"/patients/{one['id']}").headers["ETag"]
    changed = desk("PATCH", f"/patients/{one['id']}", {"family_name": "Zauber"}, etag)
    assert changed.status_code == 200, changed.text

    assert found(desk, "zau") == {"100%_x"}
    assert found(desk, "smi") == set()


def test_another_clinics_patients_are_not_found(desk: Caller, session: Session) -> None:
    make_world(session, "Two")
    make_patient(session, family_name="Smithers")

    assert found(desk, "smith") == {"100%_x"}
