"""Where the clinical figures come from, written out from the protocols.

`python -m tests.house.sources` prints docs/clinical-sources.md.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NAMES = ("code", "rule", "key", "role", "room", "device")
SHOWN = 4

HEAD = """# Where the clinical figures come from

Protocol files name a source beside each figure; a test refuses one without. Grades: **A**
regulator, label or peer-reviewed; **B** professional body, law firm or health system; **C** one
clinic's page; **D** a default of this project: a judgement, not a published standard. A clinic
changes any of them in a new version that a prescriber signs.
"""


def files() -> list[Path]:
    """Every protocol that the project ships: the demo clinic's, then the others."""
    return [*sorted(ROOT.glob("demo/protocols/*.json")), *sorted(ROOT.glob("protocols/*.json"))]


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_section(path, json.loads(path.read_text())) for path in files())


def _section(path: Path, content: dict[str, Any]) -> str:
    used: dict[str, list[str]] = {}
    for place, codes in _uses(content, ""):
        for code in codes:
            used.setdefault(code, []).append(place)
    lines = [
        f"\n## {content['title']} (`{path.relative_to(ROOT)}`)\n",
        "| source | grade | used for |\n|---|---|---|",
    ]
    for code, source in content["sources"].items():
        where = f" ({source['address']})" if "address" in source else ""
        lines.append(
            f"| {code}: {source['title']}{where} | {source['grade']} | {_told(used[code])} |"
        )
    return "\n".join(lines) + "\n"


def _uses(told: Any, place: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(told, dict):
        if isinstance(told.get("source"), list):
            yield place, told["source"]
        for name, inner in told.items():
            if name != "sources":
                yield from _uses(inner, f"{place}/{name}".lstrip("/"))
    elif isinstance(told, list):
        for number, inner in enumerate(told):
            name = _name(inner) if isinstance(inner, dict) else None
            yield from _uses(inner, f"{place}/{name or number}")


def _name(told: dict[str, Any]) -> str | None:
    return next((str(told[name]) for name in NAMES if name in told), None)


def _told(places: list[str]) -> str:
    shown = list(dict.fromkeys(places))
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(f"`{place}`" for place in shown[:SHOWN]) + more


if __name__ == "__main__":
    sys.stdout.write(page())
