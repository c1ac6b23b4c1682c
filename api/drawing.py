"""Drawing: the scores of a course against its doses, readable at a glance, naming nobody.

A panel for each instrument: its bands in soft grey with their names, doses as thin lines, the
scores as one line with the first and the last written out. The colours are two that the
colour-blind tell apart (Okabe and Ito), and no meaning hangs on a colour alone.

matplotlib's objects alone, never pyplot: that keeps figures in a global list, and a server
has threads. It is not made for threads at all, so one picture is drawn at a time. Loaded by
the first picture (api/outcomes.py): it takes half a second and 28 MB.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from math import inf
from threading import Lock
from zoneinfo import ZoneInfo

import matplotlib as mpl
from babel.dates import format_skeleton, get_timezone_location
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, date2num, num2date
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scheduler.curves import Point
from scheduler.instruments import LIBRARY, Change, Instrument, Scoring
from scheduler.outcomes import Dose

Curves = Mapping[str, Sequence[Point]]

INK, FAINT, SCORE, DOSE = "#22303a", "#5d6b75", "#0072b2", "#d55e00"
SHADES = ("#f6f8f9", "#edf1f3", "#e3e9ec", "#d9e1e5", "#cfd9de")

WIDTH, FIRST, EACH = 10.0, 4.2, 2.6
"""In inches: how wide, how high with one panel, and how much more for each other."""
DPI = 120
MOST_POINTS = 200
"""In a panel: the first, and the newest of more, so that no picture takes longer than that."""
NARROWEST = timedelta(days=10)
"""What a picture spans at least."""
APART = 0.07
"""Of a panel's height: nearer to each other than that, words would touch."""
CROWDED = 0.022
"""The same, of its width, for numbers."""

mpl.rcdefaults()  # whatever files of the machine's say
mpl.rcParams.update(
    {
        "svg.hashsalt": "afterglow",  # the same picture, the same bytes
        "svg.fonttype": "none",  # words stay words: small, to be found, read aloud
        "font.size": 11,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": FAINT,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)

_one_at_a_time = Lock()


@dataclass(frozen=True, slots=True)
class Scale:
    """The values that a panel runs over, and where each band among them begins."""

    least: float
    most: float
    bands: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A score in its place."""

    day: float
    """As matplotlib counts, by the clinic's wall."""
    value: float
    told: str
    is_baseline: bool


def draw(curves: Curves, doses: Sequence[Dose], zone: ZoneInfo, form: str) -> bytes:
    """Draw a course, as `svg` or `png`."""
    drawn = {code: _marks(LIBRARY[code], points, zone) for code, points in curves.items()}
    panels = {code: drawn[code] for code in sorted(drawn, key=_order(drawn)) if drawn[code]}
    given = [_day(dose.dosed_at, zone) for dose in doses if dose.dosed_at is not None]
    with _one_at_a_time:
        height = FIRST + EACH * max(0, len(panels) - 1)
        layout = ConstrainedLayoutEngine(w_pad=0.16, h_pad=0.14)
        figure = Figure((WIDTH, height), DPI, layout=layout, facecolor="white")
        if panels:
            _panels(figure, panels, given)
            _headlines(figure, panels, curves)
            _dates(figure.axes[-1], zone)
        else:
            _nothing(figure, len(given))
        return _svg(figure) if form == "svg" else _png(figure)


def _order(drawn: Mapping[str, Sequence[Mark]]) -> Callable[[str], tuple[bool, int, str]]:
    """Scores before levels, what was answered most often first."""

    def place(code: str) -> tuple[bool, int, str]:
        return LIBRARY[code].scoring is Scoring.LEVEL, -len(drawn[code]), code

    return place


def _marks(instrument: Instrument, points: Sequence[Point], zone: ZoneInfo) -> list[Mark]:
    found = []
    for point in points:
        value = _value(instrument, point)
        if value is not None:
            told = str(point.entry.score) if point.entry.score is not None else _named(point)
            is_baseline = point.entry.id == point.baseline_id
            found.append(Mark(_day(point.entry.at, zone), value, told, is_baseline))
    return found if len(found) <= MOST_POINTS else [found[0], *found[1 - MOST_POINTS :]]


def _value(instrument: Instrument, point: Point) -> float | None:
    """How high a response stands: its score, or which of the instrument's levels it reached."""
    if instrument.scoring is not Scoring.LEVEL:
        return point.entry.score
    levels = _levels(instrument)
    return levels.index(point.entry.band) if point.entry.band in levels else None


def _levels(instrument: Instrument) -> list[str]:
    return ["none", *(level.code for level in reversed(instrument.levels))]


def _scale(instrument: Instrument) -> Scale:
    if instrument.scoring is Scoring.LEVEL:
        levels = _levels(instrument)
        bands = [(number - 0.5, name) for number, name in enumerate(levels)]
        return Scale(-0.5, len(levels) - 0.5, bands)
    least, most = instrument.least or 0, instrument.most or 1
    return Scale(least, most, [(band.least, band.code) for band in instrument.bands])


def _panels(figure: Figure, panels: Mapping[str, Sequence[Mark]], given: Sequence[float]) -> None:
    days = [mark.day for marks in panels.values() for mark in marks] + list(given)
    middle, half = (min(days) + max(days)) / 2, (max(days) - min(days)) / 2
    half = max(half * 1.06, NARROWEST / timedelta(days=2))
    rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (code, marks) in zip(rows, panels.items(), strict=True):
        axes.set_xlim(middle - half, middle + half)
        _panel(axes, LIBRARY[code], marks)
        for day in given:
            axes.axvline(day, color=DOSE, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    written = -inf
    for number, day in enumerate(given, start=1):
        if day - written > CROWDED * 2 * half:
            _over(rows[0], day, str(number), 0, "center")
            written = day
    if given:
        _over(rows[0], given[0], "dose", -9, "right")


def _over(axes: Axes, day: float, word: str, shift: float, side: str) -> None:
    """Write above a panel."""
    axes.annotate(
        word, (day, 1.0), xycoords=("data", "axes fraction"), xytext=(shift, 3),
        textcoords="offset points", ha=side, va="bottom", fontsize=10, color=DOSE,
    )  # fmt: skip


def _panel(axes: Axes, instrument: Instrument, marks: Sequence[Mark]) -> None:
    scale = _scale(instrument)
    axes.set_ylim(scale.least, scale.most)
    _bands(axes, scale)
    _ticks(axes, scale, instrument)
    days, values = [mark.day for mark in marks], [mark.value for mark in marks]
    axes.plot(
        days, values, color=SCORE, linewidth=2.4, marker="o", markersize=7.5,
        markeredgecolor="white", markeredgewidth=1, zorder=4, clip_on=False,
    )  # fmt: skip
    for mark in marks:
        if mark.is_baseline:
            axes.plot(
                mark.day, mark.value, "o", markersize=14, zorder=4, clip_on=False,
                markerfacecolor="none", markeredgecolor=SCORE, markeredgewidth=1.6,
            )  # fmt: skip
    if instrument.scoring is not Scoring.LEVEL:  # whose levels are named at the side
        for mark in {marks[0], marks[-1]}:
            _label(axes, mark, scale)
    axes.spines[["top", "right"]].set_visible(False)


def _bands(axes: Axes, scale: Scale) -> None:
    edges = [least for least, _ in scale.bands] + [scale.most]
    last = -1.0
    for number, (least, name) in enumerate(scale.bands):
        upper = edges[number + 1]
        axes.axhspan(least, upper, color=SHADES[min(number, len(SHADES) - 1)], linewidth=0)
        height = ((least + upper) / 2 - scale.least) / (scale.most - scale.least)
        last = max(height, last + APART)
        axes.annotate(
            _words(name), (1.0, last), xycoords="axes fraction", xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=10, color=FAINT,
        )  # fmt: skip


def _ticks(axes: Axes, scale: Scale, instrument: Instrument) -> None:
    axes.tick_params(length=3, labelsize=11)
    if instrument.scoring is Scoring.LEVEL:
        axes.set_yticks([])
        return
    wanted = [least for least, _ in scale.bands] or [scale.least]
    kept: list[float] = []
    for value in [*wanted, scale.most]:
        if not kept or value - kept[-1] >= APART * (scale.most - scale.least):
            kept.append(value)
    axes.set_yticks(kept, [f"{value:g}" for value in kept])


def _label(axes: Axes, mark: Mark, scale: Scale) -> None:
    is_high = mark.value - scale.least > 0.8 * (scale.most - scale.least)
    axes.annotate(
        mark.told, (mark.day, mark.value), xytext=(0, -11 if is_high else 11),
        textcoords="offset points", ha="center", va="top" if is_high else "bottom",
        fontsize=14, fontweight="bold", color=SCORE, zorder=5, annotation_clip=False,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "boxstyle": "round,pad=0.15"},
    )  # fmt: skip


def _headlines(figure: Figure, panels: Mapping[str, Sequence[Mark]], curves: Curves) -> None:
    for number, (axes, code) in enumerate(zip(figure.axes, panels, strict=True)):
        pad = 22 if number == 0 else 10
        axes.set_title(LIBRARY[code].title, loc="left", fontsize=14, fontweight="bold", pad=pad)
        axes.set_title(_headline(curves[code]), loc="right", fontsize=12, pad=pad)


def _headline(points: Sequence[Point]) -> str:
    """The last score beside the baseline, in a line."""
    told = f"first and newest {MOST_POINTS - 1}; " if len(points) > MOST_POINTS else ""
    last = points[-1]
    first = next((one for one in points if one.entry.id == last.baseline_id), None)
    if last.change is None or first is None:
        return told.rstrip("; ")
    percent = "" if last.change.percent is None else f" ({last.change.percent:+.0f} %)"
    told += f"baseline {first.entry.score} → {last.entry.score}{percent}".replace(
        "-", "\N{MINUS SIGN}"
    )
    return told + _reached(last.change)


def _reached(change: Change) -> str:
    words = [
        word
        for word, is_reached in (
            ("response", change.is_response),
            ("remission", change.is_remission),
        )
        if is_reached
    ]
    return f": {' and '.join(words)}" if words else ""


def _dates(axes: Axes, zone: ZoneInfo) -> None:
    begin, end = (num2date(day) for day in axes.get_xlim())
    skeleton = "MMMd" if end - begin < timedelta(days=400) else "yMMM"
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=9))
    axes.xaxis.set_major_formatter(
        lambda day, _: format_skeleton(skeleton, num2date(day), locale="en_US")
    )
    years = begin.year if begin.year == end.year else f"{begin.year} to {end.year}"
    city = get_timezone_location(zone.key, locale="en_US", return_city=True)
    axes.set_xlabel(f"{years}, by the clock in {city}", loc="right", fontsize=10)


def _nothing(figure: Figure, doses: int) -> None:
    figure.text(0.5, 0.56, "Nothing yet", ha="center", fontsize=22, fontweight="bold", color=FAINT)
    told = {0: "", 1: " One dose was given."}.get(doses, f" {doses} doses were given.")
    said = f"No questionnaire with a score was filled in during this course.{told}"
    figure.text(0.5, 0.44, said, ha="center", fontsize=12, color=FAINT)


def _day(at: datetime, zone: ZoneInfo) -> float:
    return float(date2num(at.astimezone(zone).replace(tzinfo=None)))


def _named(point: Point) -> str:
    return _words(point.entry.band or "")


def _words(code: str) -> str:
    return code.replace("-", " ")


def _png(figure: Figure) -> bytes:
    written = BytesIO()
    FigureCanvasAgg(figure).print_png(written, metadata={"Software": None})
    return written.getvalue()


def _svg(figure: Figure) -> bytes:
    written = BytesIO()
    FigureCanvasSVG(figure).print_svg(written, metadata=_NO_METADATA)
    told = _DOCTYPE.sub("", written.getvalue().decode(), count=1)
    return _OPENING.sub(r'\1 role="img">\n <title>Scores and doses</title>', told, count=1).encode()


_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DOCTYPE = re.compile(r"<!DOCTYPE[^>]*>\n?")
"""It names a file of another host, that some readers would fetch."""
_OPENING = re.compile(r"(<svg [^>]*)>")
