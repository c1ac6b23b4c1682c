"""For what a clearance was given: medicine, route and text. And the copy on paper."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.vocabulary import ClearanceOutcome, GateState
from notifications import paper
from notifications.paper import Signed
from scheduler import protocols
from scheduler.protocols import Gate
from scheduler.readiness import Known, Renewal, Vouched, assess
from tests.factories import DAY, protocol_content
from tests.pdf import read

VISIT = datetime(2026, 3, 31, 13, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)
GIVEN = VISIT - 10 * DAY
CLEARED, REFUSED = ClearanceOutcome.CLEARED, ClearanceOutcome.REFUSED


def content(asks: list[str]) -> dict[str, Any]:
    told = protocol_content()
    dosing = told["visits"]["dosing"]
    dosing["medicine"], dosing["route"] = "esketamine", "intranasal"
    next(gate for gate in dosing["gates"] if gate["code"] == "consent")["for"] = asks
    return told


def consent(*asks: str) -> Gate:
    visit = protocols.read(content(list(asks))).visits["dosing"]
    return next(gate for gate in visit.gates if gate.code == "consent")


def given(outcome: ClearanceOutcome = CLEARED, at: datetime = GIVEN, **what: Any) -> Vouched:
    return Vouched(outcome, at, **what)


def judged(gate: Gate, *clearances: Vouched, **known: Any) -> tuple[GateState, str]:
    told = Known(
        starts_at=VISIT,
        clearances={"consent": clearances},
        medicine="esketamine",
        route="intranasal",
        **known,
    )
    [one] = assess([gate], told, VISIT).gates
    return one.state, one.detail


OWN: dict[str, Any] = {"medicine": "esketamine", "route": "intranasal"}
MET = (GateState.MET, "Cleared.")


class TestMedicineAndRoute:
    @pytest.mark.parametrize(
        ("for_what", "expected"),
        [
            (OWN, MET),
            (OWN | {"route": "oral"}, (GateState.EXPIRED, "Given for another route.")),
            (OWN | {"medicine": "ketamine"}, (GateState.EXPIRED, "Given for another medicine.")),
            ({"medicine": "esketamine"}, (GateState.EXPIRED, "Nobody noted its route.")),
            ({}, (GateState.EXPIRED, "Nobody noted its medicine.")),
        ],
    )
    def test_it_counts_for_the_visits_own_alone(self, for_what: Any, expected: Any) -> None:
        assert judged(consent("medicine", "route"), given(**for_what)) == expected

    def test_what_the_gate_does_not_ask_makes_no_difference(self) -> None:
        other: dict[str, Any] = {"medicine": "ketamine", "route": "oral"}
        assert judged(consent("text"), given(**other)) == MET
        assert judged(consent("route"), given(**other | {"route": "intranasal"})) == MET

    def test_a_later_one_for_another_route_takes_nothing_away(self) -> None:
        """A course may give a medicine in two ways, each with a consent of its own."""
        other = given(at=GIVEN + DAY, medicine="esketamine", route="oral")
        assert judged(consent("medicine", "route"), given(**OWN), other) == MET

    @pytest.mark.parametrize(
        ("for_what", "expected"),
        [
            (OWN, GateState.FAILED),
            ({}, GateState.FAILED),  # it speaks of any
            ({"medicine": "esketamine"}, GateState.FAILED),
            (OWN | {"route": "oral"}, GateState.MET),
        ],
    )
    def test_a_refusal_shuts_what_it_speaks_of(self, for_what: Any, expected: GateState) -> None:
        refusal = given(REFUSED, at=GIVEN + DAY, **for_what)
        assert judged(consent("medicine", "route"), given(**OWN), refusal)[0] is expected

    def test_agreed_again_it_is_open(self) -> None:
        told = given(REFUSED, at=GIVEN - DAY), given(**OWN)
        assert judged(consent("medicine", "route"), *told) == MET

    def test_a_refusal_for_another_route_is_no_clearance(self) -> None:
        refusal = given(REFUSED, **OWN | {"route": "oral"})
        state = judged(consent("medicine", "route"), refusal)
        assert state == (GateState.OPEN, "Nobody has cleared it yet.")


class TestText:
    @pytest.mark.parametrize(
        ("number", "renewals", "expected"),
        [
            (1, [], GateState.MET),
            (1, [(1, GIVEN - DAY)], GateState.MET),  # the one that it was given to
            (1, [(2, GIVEN + DAY)], GateState.EXPIRED),
            (1, [(2, VISIT)], GateState.EXPIRED),
            (1, [(2, VISIT + TICK)], GateState.MET),  # as of the visit it has not changed
            (3, [(2, GIVEN + DAY)], GateState.MET),
            (2, [(1, GIVEN), (3, GIVEN + DAY)], GateState.EXPIRED),
            (None, [(1, GIVEN)], GateState.MET),  # on paper: to what there was then
            (None, [(1, GIVEN + TICK)], GateState.EXPIRED),
        ],
    )
    def test_a_version_that_renews_ends_those_before(
        self, number: int | None, renewals: Any, expected: GateState
    ) -> None:
        renewed = {"consent": [Renewal(*one) for one in renewals]}
        state, detail = judged(consent("text"), given(text=number), renewed=renewed)
        assert state is expected
        if expected is GateState.EXPIRED:
            assert detail == "The text has changed since."

    def test_a_gate_that_does_not_ask_for_it_is_not_renewed(self) -> None:
        renewed = {"consent": [Renewal(2, GIVEN + DAY)]}
        assert judged(consent("route"), given(text=1, **OWN), renewed=renewed) == MET

    @pytest.mark.parametrize(
        ("after", "expected"), [(0, GateState.OVERRIDDEN), (-1, GateState.EXPIRED)]
    )
    def test_a_reason_speaks_of_the_texts_that_were_known(
        self, after: int, expected: GateState
    ) -> None:
        last = GIVEN + 2 * DAY
        renewed = {"consent": [Renewal(2, GIVEN + DAY), Renewal(3, last)]}
        told = {"renewed": renewed, "overridden": {"consent": last + after * TICK}}
        assert judged(consent("text"), given(text=1), **told)[0] is expected

    def test_what_else_ends_it_still_does(self) -> None:
        gate = replace(consent("medicine", "route", "text"), holds=10 * DAY)
        assert judged(gate, given(text=1, **OWN)) == MET  # its last instant
        late = given(at=GIVEN - TICK, text=1, **OWN)
        assert judged(gate, late)[0] is GateState.EXPIRED


class TestProtocol:
    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            (lambda visit: visit.pop("medicine"), "/visits/dosing/gates/1/for/0"),
            (lambda visit: visit.pop("route"), "/visits/dosing/gates/1/for/1"),
            (lambda visit: visit.update(route="By mouth"), "/visits/dosing/route"),
            (
                lambda visit: visit["gates"][3].update({"for": ["text"]}),
                "/visits/dosing/gates/3/by",
            ),
            (lambda visit: visit["gates"][1].update({"for": []}), "/visits/dosing/gates/1/for"),
        ],
    )
    def test_a_gate_asks_for_what_its_visit_says(self, change: Any, pointer: str) -> None:
        told = content(["medicine", "route", "text"])
        assert protocols.check(told) == []
        change(told["visits"]["dosing"])
        assert pointer in {fault.pointer for fault in protocols.check(told)}


def signed(**changes: Any) -> Signed:
    return Signed(
        **{
            "reference": "0192f0c8-0000-7000-8000-000000000001",
            "clinic": "Test Practice",
            "code": "consent",
            "number": 3,
            "language": "en",
            "title": "What we agree on",
            "body": "First we talk.\nThen we rest.\n\nYou may stop at any time.",
            "name": "Zażółć Gęślą Жанна Ελένη",
            "what": "esketamine, intranasal",
            "signed_at": datetime(2026, 3, 1, 17, 30, 5, tzinfo=UTC),
            "time_zone": "America/New_York",
            "address": "203.0.113.7",
            **changes,
        }
    )


class TestPaper:
    def test_it_says_everything_that_was_signed(self) -> None:
        told = read(paper.draw(signed()))
        for words in (
            "Test Practice",
            "What we agree on",
            "First we talk.",
            "Then we rest.",
            "You may stop at any time.",
            "I have read this and agree",
            "Zażółć Gęślą Жанна Ελένη",
            "esketamine, intranasal",
            "Sunday, March 1, 2026, 12:30 PM (New York time) (2026-03-01 17:30:05 UTC)",
            "203.0.113.7",
            "consent, 3, en",
            "0192f0c8-0000-7000-8000-000000000001",
        ):
            assert words in told, words
        assert "Unicode" not in told

    def test_it_speaks_the_language_of_the_text(self) -> None:
        told = read(paper.draw(signed(language="es", address=None, what="")))
        assert "He leído esto y estoy de acuerdo" in told
        assert "no se conoce" in told
        assert "Se trata de" not in told

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("王 Wang", "[U+738B] Wang"), ("שרה", "[U+05E9][U+05E8][U+05D4]"), ("A🙂", "A[U+1F642]")],
    )
    def test_letters_that_cannot_be_printed_are_spelt_out(self, name: str, shown: str) -> None:
        told = read(paper.draw(signed(name=name)))
        assert shown in told
        assert "Letters that cannot be printed" in told

    def test_made_anew_it_is_the_same_and_of_another_signature_it_is_not(self) -> None:
        assert paper.draw(signed()) == paper.draw(signed())
        assert paper.draw(signed()) != paper.draw(signed(name="Ada"))

    def test_a_long_text_goes_on_over_pages(self) -> None:
        body = "\n\n".join(f"Paragraph {number}. " + "word " * 80 for number in range(60))
        told = read(paper.draw(signed(body=body)))
        assert "Paragraph 0." in told
        assert "Paragraph 59." in told
        assert re.search(r"\b2 / +10\b", told)
