"""The demonstration comes to life in an empty database, with the functions that staff use."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

import demonstration
from models import Appointment, ConsentText, Course

NOW = datetime(2027, 1, 4, 14, tzinfo=UTC)


def test_the_demonstration_has_courses_with_visits_and_opens_its_doors(
    session: Session, tmp_path: Path
) -> None:
    clinic_id = demonstration.make(session, NOW)
    opened = demonstration.open_doors(session, clinic_id, tmp_path / "demo.json", "http://x", NOW)

    assert session.scalar(select(func.count()).select_from(Course)) == demonstration.COURSES
    booked = session.execute(
        select(Appointment.kind, func.count()).group_by(Appointment.kind)
    ).all()
    assert dict(booked)["dosing"] >= demonstration.COURSES - 1
    assert set(opened.keys) == {"admin", "scheduler", "clinician"}
    assert "/p/" in opened.link
    [text] = session.scalars(select(ConsentText)).all()
    assert (text.code, text.language, text.number) == ("consent", "en", 1)
    assert "invented" in text.title
