"""Plots: what was measured, as small pictures beside the code."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent / "plots"

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Points by the name of what they belong to."""


def lines(path: Path, title: str, x: str, y: str, series: Series) -> None:
    """Draw a line for each series through its points, in the order of x; axes begin at 0."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, points in series.items():
        across, up = zip(*sorted(points), strict=True)
        axes.plot(across, up, marker="o", markersize=4, label=name)
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, None), ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    print(f"  drawn: {path}")
