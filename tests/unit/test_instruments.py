"""Instruments: scores, bands, change, flags; and every figure names its source."""

import json
from typing import Any

import pytest

from scheduler import instruments
from scheduler.instruments import FOLDER, LIBRARY, Instrument

PHQ, GAD, PCL = LIBRARY["phq-9"], LIBRARY["gad-7"], LIBRARY["pcl-5"]
CSSRS, AUDIT, MADRS = LIBRARY["c-ssrs"], LIBRARY["audit-c"], LIBRARY["madrs"]


def answers(instrument: Instrument, total: int) -> dict[str, int]:
    """Answers that add up to a total."""
    most = max(choice.value for choice in instrument.choices)
    given = {}
    for item in instrument.items:
        given[item.code] = min(most, total)
        total -= given[item.code]
    assert total == 0
    return given


@pytest.mark.parametrize(
    ("instrument", "total", "band"),
    [
        *((PHQ, n, "minimal") for n in (0, 4)),
        *((PHQ, n, "mild") for n in (5, 9)),
        *((PHQ, n, "moderate") for n in (10, 14)),
        *((PHQ, n, "moderately-severe") for n in (15, 19)),
        *((PHQ, n, "severe") for n in (20, 27)),
        *((GAD, n, "minimal") for n in (0, 4)),
        *((GAD, n, "mild") for n in (5, 9)),
        *((GAD, n, "moderate") for n in (10, 14)),
        *((GAD, n, "severe") for n in (15, 21)),
        *((PCL, n, "below-cut") for n in (0, 30)),
        *((PCL, n, "in-cut-range") for n in (31, 33)),
        *((PCL, n, "above-cut") for n in (34, 80)),
        *((AUDIT, n, "below-cut") for n in (0, 2)),
        (AUDIT, 3, "positive-women"),
        *((AUDIT, n, "positive") for n in (4, 12)),
    ],
)
def test_bands_to_the_point(instrument: Instrument, total: int, band: str) -> None:
    scored = instruments.score(instrument, answers(instrument, total))
    assert (scored.score, scored.band) == (total, band)


def test_half_filled_has_no_score_and_flags_all_the_same() -> None:
    scored = instruments.score(PHQ, {"9": 1})
    assert (scored.score, scored.band, scored.flags) == (None, None, ("self-harm",))
    assert instruments.score(PHQ, {"9": 0}).flags == ()
    assert not scored.shuts  # people decide; the questionnaire of the day shuts


@pytest.mark.parametrize(
    ("yes", "level", "shuts"),
    [
        ((), "none", False),
        (("1",), "low", False),
        (("2",), "low", False),
        (("3",), "moderate", False),
        (("6",), "moderate", False),
        (("4",), "high", True),
        (("5",), "high", True),
        (("6", "6-recent"), "high", True),
        (("1", "2", "3", "4"), "high", True),
    ],
)
def test_levels_of_risk(yes: tuple[str, ...], level: str, shuts: bool) -> None:
    scored = instruments.score(CSSRS, {item.code: int(item.code in yes) for item in CSSRS.items})
    assert (scored.score, scored.band, scored.shuts) == (None, level, shuts)
    assert bool(scored.flags) is bool(yes)


@pytest.mark.parametrize(
    ("instrument", "baseline", "total", "response", "remission"),
    [
        (PHQ, 20, 10, True, False),
        (PHQ, 20, 11, False, False),
        (PHQ, 20, 4, True, True),
        (PHQ, 20, 5, True, False),
        (PHQ, 6, 4, False, True),
        (PHQ, 0, 0, False, True),
        (MADRS, 30, 15, True, False),
        (MADRS, 30, 10, True, True),
        (GAD, 20, 5, None, None),
    ],
)
def test_response_and_remission(
    instrument: Instrument,
    baseline: int,
    total: int,
    response: bool | None,
    remission: bool | None,
) -> None:
    found = instruments.change(instrument, baseline, total)
    assert (found.is_response, found.is_remission) == (response, remission)
    assert found.points == total - baseline


def test_what_does_not_fit_is_named() -> None:
    found = instruments.faults(PHQ, {"10": 0, "1": 4, "2": 3})
    assert [fault.pointer for fault in found] == ["/answers/10", "/answers/1"]
    assert instruments.missing(PHQ, {"1": 0, "2": 0}) == ["3", "4", "5", "6", "7", "8", "9"]


def test_words_stand_only_where_the_licence_allows_it() -> None:
    with_words = {code for code, one in LIBRARY.items() if one.has_words}
    assert with_words == {"phq-9", "gad-7", "pcl-5"}
    for code in ("madrs", "qids-sr16", "sds", "cadss"):
        assert LIBRARY[code].items == ()
    for code in ("c-ssrs", "audit-c"):
        assert all(item.text is None and item.topic for item in LIBRARY[code].items)


def test_every_figure_names_a_source_that_is_listed() -> None:
    for path in FOLDER.glob("*.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        assert told["licence"]
        named = list(_sources(told))
        assert named, path
        assert set(named) <= set(told["sources"]), path
        for name in ("scoring", "response", "remission", "flags", "levels", "holds"):
            for one in _listed(told.get(name)):
                assert one.get("source"), (path, name)
        assert not told.get("bands") or told["bands_source"], path


def _listed(told: Any) -> list[Any]:
    if told is None:
        return []
    return told if isinstance(told, list) else [told]


def _sources(told: Any) -> Any:
    if isinstance(told, dict):
        for key, value in told.items():
            if key in {"source", "bands_source"}:
                yield from value
            elif key != "sources":
                yield from _sources(value)
    elif isinstance(told, list):
        for value in told:
            yield from _sources(value)
