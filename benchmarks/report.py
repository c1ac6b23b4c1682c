"""The report: figures as a table for people and as var/bench.json for machines."""

import json
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path("var/bench.json")


@dataclass
class Report:
    """Figures, each with its unit and, where there is one, what it is held against."""

    figures: dict[str, dict[str, float | str | None]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str, baseline: float | None = None) -> None:
        """Note a figure and print it, beside its baseline if there is one."""
        self.note(name, value, unit, baseline)
        ratio = None if not baseline else value / baseline
        held = "" if ratio is None else f"   beside {baseline:10.1f}   ratio {ratio:.2f}"
        print(f"  {name:<24}{value:10.1f} {unit:<12}{held}", flush=True)

    def note(self, name: str, value: float, unit: str, baseline: float | None = None) -> None:
        """Note a figure; `baseline` is in the same unit and was measured in the same run."""
        ratio = None if not baseline else value / baseline
        self.figures[name] = {
            "value": round(value, 3),
            "unit": unit,
            "baseline": None if baseline is None else round(baseline, 3),
            "ratio": None if ratio is None else round(ratio, 3),
        }

    def write(self) -> None:
        """Join the figures of this run to those of earlier ones."""
        FILE.parent.mkdir(exist_ok=True)
        known = json.loads(FILE.read_text()) if FILE.exists() else {}
        FILE.write_text(json.dumps({**known, **self.figures}, indent=2) + "\n")
