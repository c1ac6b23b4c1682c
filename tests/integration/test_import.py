"""A clinic read from files: whole, or not at all with every fault told at once."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

import intake.clinic
from intake.clinic import ClinicFaults
from models import (
    Clinic,
    Closure,
    Device,
    OpeningHours,
    Patient,
    Practitioner,
    Protocol,
    ProtocolVersion,
    Qualification,
    Room,
    Site,
)

DEMO = Path(__file__).parents[2] / "demo"
NOW = datetime(2027, 1, 4, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(DEMO, tmp_path / "clinic")
    return tmp_path / "clinic"


def replace(path: Path, old: str, new: str) -> None:
    told = path.read_text(encoding="utf-8")
    assert old in told
    path.write_text(told.replace(old, new, 1), encoding="utf-8")


def test_the_demo_becomes_a_clinic(session: Session) -> None:
    intake.clinic.store(session, intake.clinic.read(DEMO), "import", NOW)

    counts = {
        model.__name__: session.scalar(select(func.count()).select_from(model))
        for model in (Clinic, Site, Room, Device, Practitioner, Qualification, Patient, Protocol)
    }
    assert counts == {
        "Clinic": 1,
        "Site": 2,
        "Room": 9,
        "Device": 4,
        "Practitioner": 8,
        "Qualification": 9,
        "Patient": 40,
        "Protocol": 2,
    }
    assert set(session.scalars(select(Site.time_zone))) == {
        "America/New_York",
        "America/Denver",
    }
    assert session.scalar(select(func.count()).select_from(OpeningHours)) == 28
    assert session.scalar(select(func.count()).select_from(Closure)) or 0 > 8
    signed = session.scalars(select(ProtocolVersion.signed_by)).all()
    assert signed == ["import", "import"]
    default = session.scalars(select(Clinic.default_protocol_id)).one()
    assert session.scalars(select(Protocol.code).where(Protocol.id == default)).one() == "kap"


def test_every_fault_is_told_in_one_pass(folder: Path) -> None:
    replace(folder / "rooms.csv", "Harbor House,Jetty,consulting", "Nowhere,Jetty,consulting")
    replace(folder / "rooms.csv", "08:00,20:00", "8 o'clock,20:00")
    replace(folder / "practitioners.csv", "theo-therapist@", "theo-therapist at ")
    replace(folder / "practitioners.csv", "2027-06-30", "2023-06-30")
    replace(folder / "patients.csv", "HM-0002", "HM-0001")
    replace(folder / "patients.csv", "America/Chicago", "posix/America/Chicago")
    replace(folder / "patients.csv", "Cleo", "Cl\u202eeo")
    replace(folder / "hours/mona-monitor.ics", "FREQ=WEEKLY", "FREQ=SECONDLY")
    replace(folder / "hours/tom-therapist.ics", "LOCATION:Mesa House", "LOCATION:Elsewhere")
    replace(folder / "protocols/kap.json", '"cadence": "light"', '"cadence": "loud"')
    (folder / "protocols/esketamine.json").write_text('{"code": ')
    (folder / "leave/mona-monitor.ics").write_text("no calendar")

    with pytest.raises(ClinicFaults) as found:
        intake.clinic.read(folder)

    told = {(fault.file, fault.line, fault.field) for fault in found.value.faults}
    assert told == {
        ("hours/mona-monitor.ics", 4, "RRULE"),
        ("hours/tom-therapist.ics", 4, "LOCATION"),
        ("leave/mona-monitor.ics", 0, "-"),
        ("patients.csv", 3, "record_number"),
        ("patients.csv", 4, "given_name"),
        ("patients.csv", 37, "time_zone"),
        ("practitioners.csv", 4, "email"),
        ("practitioners.csv", 10, "valid_until"),
        ("protocols/esketamine.json", 1, "-"),
        ("protocols/kap.json", 1, "/visits/preparation/cadence"),
        ("rooms.csv", 2, "opens"),
        ("rooms.csv", 4, "site"),
    }
    for fault in found.value.faults:
        assert fault.detail
        assert str(fault).startswith(f"{fault.file}:{fault.line}: {fault.field}: ")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda told: told.replace("birth_date", "birthday"), {"birth_date", "birthday"}),
        (lambda told: told.replace("HM-0001,", ""), {"-"}),
        (lambda told: told.replace("1", "\x00"), {"record_number"}),
    ],
)
def test_a_table_of_another_shape_is_refused(folder: Path, change, field: set[str]) -> None:  # type: ignore[no-untyped-def]
    path = folder / "patients.csv"
    path.write_text(change(path.read_text()), encoding="utf-8")

    with pytest.raises(ClinicFaults) as found:
        intake.clinic.read(folder)

    assert field & {fault.field for fault in found.value.faults}
    assert {fault.file for fault in found.value.faults} == {"patients.csv"}


def test_a_mark_at_the_beginning_of_a_file_is_read_over(folder: Path) -> None:
    path = folder / "patients.csv"
    path.write_text(path.read_text(), encoding="utf-8-sig")

    assert len(intake.clinic.read(folder).patients) == 40


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ClinicFaults) as found:
        intake.clinic.read(tmp_path)

    assert {fault.file for fault in found.value.faults} == {
        "clinic.csv",
        "sites.csv",
        "rooms.csv",
        "practitioners.csv",
        "patients.csv",
    }
