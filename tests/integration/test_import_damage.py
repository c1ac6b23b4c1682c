"""A clinic's files, damaged anyhow: they are read, or their faults are told. Nothing else."""

import random
import shutil
from pathlib import Path

import pytest

import intake.clinic
from intake.clinic import ClinicFaults

DEMO = Path(__file__).parents[2] / "demo"
BITS = (
    *("", ",", '"', ";", ":", "\n", "\x00", "\u202e", "\ud7ff", "{", "]", "-1", "1e400", "NaN"),
    *("0000", "9999", "99999999999999999999", "20270101", "19700101T000000Z", "P1W", "-PT1H"),
    *("DTSTART:", "DTEND;VALUE=TIME:", "EXDATE;VALUE=PERIOD:", "RRULE:FREQ=WEEKLY;COUNT=0"),
    *("TZID=America/Denver", "TZID=Nowhere/At_All", "BEGIN:VEVENT", "END:VEVENT", "null", "[[]]"),
)
ROUNDS = 25


@pytest.mark.parametrize(
    "file",
    [
        "clinic.csv",
        "sites.csv",
        "rooms.csv",
        "practitioners.csv",
        "patients.csv",
        "protocols/kap.json",
        "hours/mona-monitor.ics",
        "leave/mona-monitor.ics",
    ],
)
def test_damaged_files_are_read_or_their_faults_are_told(tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(DEMO, tmp_path / "demo")
    whole = (folder / file).read_text(encoding="utf-8")
    rng = random.Random(file)
    refused: list[ClinicFaults] = []
    for _ in range(ROUNDS):
        (folder / file).write_text(_damaged(whole, rng), encoding="utf-8")
        try:
            intake.clinic.read(folder)
        except ClinicFaults as found:
            refused.append(found)
    assert len(refused) > ROUNDS // 4
    assert all(fault.detail for found in refused for fault in found.faults)


def _damaged(told: str, rng: random.Random) -> str:
    lines = told.splitlines(keepends=True)
    for _ in range(rng.randint(1, 4)):
        number = rng.randrange(len(lines))
        line = lines[number]
        at = rng.randrange(len(line) + 1)
        match rng.randrange(5):
            case 0:
                lines[number] = line[:at] + rng.choice(BITS) + line[at:]
            case 1:
                lines[number] = line[:at] + rng.choice(BITS) + "\n"
            case 2:
                lines[number] = ""
            case 3:
                lines.insert(rng.randrange(len(lines)), line)
            case _:
                key, mark, _ = line.partition(":" if ":" in line else ",")
                lines[number] = key + mark + rng.choice(BITS) + "\n"
    return "".join(lines)
