"""Fifty courses planned beside each other in a busy clinic, beside a minute of the same search.

Twice: with clearances that hold until a course is over, so that there is room for all beyond the
weeks that are taken already; and with clearances that lapse after 90 days, until when the clinic
has time for a part of the doses that the fifty ask for.
"""

import time
from uuid import UUID

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from api.proposals import WishesSchema
from benchmarks.clinics import Busy, S, busy
from benchmarks.courses import opened, wishes
from benchmarks.report import Report
from models import enter_clinic
from scheduler import proposing
from tests.crowd import NOW

COURSES = 50
LASTING, SHORT = 365, 90
"""For so many days a clearance holds."""
SECONDS, LONG = 9.6, 60.0
"""How long is looked: within ten seconds all in all, and as long as the other search may."""


def run(report: Report) -> None:
    """Plan the same courses twice, with little patience and with much."""
    for name, cleared_days in (("plan_50_S", LASTING), ("plan_50_S_scarce", SHORT)):
        _beside_a_minute(report, name, cleared_days)


def _beside_a_minute(report: Report, name: str, cleared_days: int) -> None:
    with busy(S, cleared_days=cleared_days) as clinic:
        engine = create_engine(clinic.ways.service)
        with Session(engine) as session:
            enter_clinic(session, clinic.clinic_id)
            ids = [opened(session, clinic, number) for number in range(COURSES)]
            session.commit()
        engine.dispose()
        took, placed, cost = _plan(clinic, ids, SECONDS)
        longer, most, least = _plan(clinic, ids, LONG)
    report.add(f"{name}_s", took, "s", longer)
    report.add(f"{name}_placed", placed, f"of {COURSES}", most)
    report.add(f"{name}_points", cost / placed, "a course", least / most)


def _plan(clinic: Busy, ids: list[UUID], seconds: float) -> tuple[float, int, int]:
    """How long it took, how many have a place, and what they cost together."""
    asked = [(one, WishesSchema().load(wishes(number))) for number, one in enumerate(ids)]
    engine = create_engine(clinic.ways.service)
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        session.execute(text("SET idle_in_transaction_session_timeout = 0"))
        begun = time.perf_counter()
        until = begun + seconds
        found = proposing.find_together(session, asked, NOW, lambda: time.perf_counter() < until)
        took = time.perf_counter() - begun
    engine.dispose()
    costs = [way.cost for one in found for way in one.ways]
    return took, len(costs), sum(costs)
