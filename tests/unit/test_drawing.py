"""Drawing: the picture shows what is measured, the same each time, and nothing else."""

import re
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from matplotlib.dates import date2num

from api import drawing
from models.vocabulary import AppointmentStatus
from scheduler import curves, instruments
from scheduler.curves import Entry, Point, Span
from scheduler.instruments import LIBRARY
from scheduler.outcomes import Dose

ZONE = ZoneInfo("America/New_York")
START = datetime(2026, 3, 2, 14, tzinfo=UTC)
DAY = timedelta(days=1)
COURSE = UUID(int=1)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(
    scores: Mapping[str, Sequence[tuple[float, Any]]],
    doses: Sequence[float] = (),
    form: str = "svg",
) -> bytes:
    """A course with so many scores, or levels by their names, on days from its start."""
    entries = [
        Entry(
            id=UUID(int=1000 * place + number),
            instrument=code,
            at=START + days * DAY,
            score=None if isinstance(score, str) else score,
            band=score if isinstance(score, str) else instruments.band_of(LIBRARY[code], score),
            flags=(),
            course_id=COURSE,
            appointment_id=None,
            authored_by="patient",
        )
        for place, (code, told) in enumerate(scores.items())
        for number, (days, score) in enumerate(told)
    ]
    given = [
        Dose(UUID(int=n), COURSE, f"dosing-{n}", AppointmentStatus.FULFILLED, at, at)
        for n, at in enumerate((START + days * DAY for days in doses), start=1)
    ]
    first = given[0].dosed_at if given else None
    found: dict[str, list[Point]] = {}
    for point in curves.points(entries, [Span(COURSE, START.date(), None, first)]):
        found.setdefault(point.entry.instrument, []).append(point)
    return drawing.draw(found, given, ZONE, form)


def words(picture: bytes) -> list[str]:
    tree = ElementTree.fromstring(picture)  # noqa: S314  # our own
    return ["".join(one.itertext()).strip() for one in tree.iter(f"{SVG}text")]


def curve(picture: bytes) -> list[tuple[float, float]]:
    """The corners of the line through the scores."""
    for path in ElementTree.fromstring(picture).iter(f"{SVG}path"):  # noqa: S314
        if "stroke: #0072b2; stroke-width: 2.4" in path.get("style", ""):
            corners = re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path.get("d", ""))
            return [(float(x), float(y)) for x, y in corners]
    raise AssertionError("no line")


@pytest.mark.parametrize(
    ("scores", "height"),
    [
        ({}, 504),
        ({"phq-9": [(0, 14)]}, 504),
        ({"phq-9": [(0, 14), (9, 3)], "gad-7": [(0, 9)]}, 816),
        ({code: [(0, 9)] for code in ("phq-9", "gad-7", "pcl-5", "madrs")}, 1440),
    ],
)
def test_a_png_has_the_size_that_is_promised(
    scores: Mapping[str, Sequence[tuple[float, int]]], height: int
) -> None:
    picture = drawn(scores, [1, 8], "png")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (1200, height)


def test_scores_stand_where_they_belong() -> None:
    first, second, third = curve(drawn({"phq-9": [(0, 20), (10, 10), (30, 10)]}))
    assert first[0] < second[0] < third[0]
    assert (third[0] - second[0]) == pytest.approx(2 * (second[0] - first[0]), rel=0.01)
    assert first[1] < second[1] == third[1]  # SVG counts downwards


def test_what_is_told() -> None:
    said = words(drawn({"phq-9": [(-3, 21), (0, 19), (20, 12), (40, 7)]}, [1, 11, 21]))
    assert {"PHQ-9", "21", "7", "dose", "1", "2", "3", "moderately severe", "minimal"} <= set(said)
    assert "baseline 19 → 7 (\N{MINUS SIGN}63 %): response" in said
    assert "Mar 15" in said
    assert "2026, by the clock in New York" in said


def test_days_are_the_clinics() -> None:
    """Half past three in the morning in London is half past ten of the evening before here."""
    late = datetime(2026, 3, 3, 3, 30, tzinfo=UTC)
    assert drawing._day(late, ZONE) == date2num(datetime(2026, 3, 2, 22, 30))


def test_levels_are_drawn_from_the_lowest_up() -> None:
    picture = drawn({"c-ssrs": [(0, "high"), (7, "none")]})
    first, second = curve(picture)
    assert first[1] < second[1]
    assert {"none", "low", "moderate", "high"} <= set(words(picture))


def test_nothing_yet_is_said() -> None:
    assert "Nothing yet" in words(drawn({}))
    assert "2 doses were given." in words(drawn({}, [1, 8]))[1]


def test_it_runs_nothing_and_asks_nobody() -> None:
    picture = drawn({"phq-9": [(0, 20), (9, 3)], "c-ssrs": []}, [1]).decode()
    told = re.sub(r'xmlns(:\w+)?="[^"]+"', "", picture)
    assert "://" not in told
    assert not re.search(r"<script|<!DOCTYPE|<metadata|javascript:|<image|@import|\son\w+=", told)
    assert re.findall(r'href="(?!#)', told) == []


def test_many_threads_draw_the_same() -> None:
    wanted = {"phq-9": [(0, 20), (9, 3)]}
    with ThreadPoolExecutor(4) as pool:
        pictures = {*pool.map(lambda _: drawn(wanted, [1]), range(8))}
    assert pictures == {drawn(wanted, [1])}


def test_of_very_many_the_first_and_the_newest_are_drawn() -> None:
    picture = drawn({"phq-9": [(n / 4, n % 28) for n in range(1000)]})
    assert len(curve(picture)) <= drawing.MOST_POINTS
    assert any(one.startswith("first and newest 199; baseline 0 →") for one in words(picture))


def test_nothing_is_said_where_home_cannot_be_written_to(tmp_path: Path) -> None:
    """The service settles a folder before matplotlib is loaded."""
    told = "import app; print(app._place_for_fonts(app.Path(%r)))"
    own = tmp_path / "matplotlib"
    for folder in (own, Path("/proc/nowhere")):
        ran = subprocess.run(
            [sys.executable, "-c", told % str(folder)], capture_output=True, text=True, check=True
        )
        assert ran.stderr == ""
        assert (ran.stdout.strip() == str(own)) is (folder == own)
    environment = {"HOME": "/proc/nowhere", "PATH": "", "MPLCONFIGDIR": str(own), "PYTHONPATH": "."}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import api.drawing"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    assert list(own.glob("fontlist*"))
