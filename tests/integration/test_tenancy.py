"""What row-level security lets through, asked as the roles that the processes use."""

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from models import Clinic, Patient, enter_clinic
from scheduler import facts
from scheduler.errors import NotFound
from tests.factories import World, make_world


def test_no_clinic_entered_means_no_rows(session: Session) -> None:
    assert session.scalar(select(func.count()).select_from(Patient)) == 0


def test_a_clinic_sees_its_own_rows_alone(session: Session) -> None:
    make_world(session, "One")
    two = make_world(session, "Two")

    assert session.scalars(select(Patient.id)).all() == [two.patient_id]
    assert session.scalars(select(Clinic.name)).all() == ["Two"]


def test_a_protocol_that_another_clinic_reads_is_nothing_here(session: Session) -> None:
    one = make_world(session, "One")
    assert facts.protocol(session, one.protocol_version_id).steps  # this process keeps it
    make_world(session, "Two")

    with pytest.raises(NotFound):
        facts.protocol(session, one.protocol_version_id)


def test_the_clinic_holds_over_a_commit_and_leaves_with_the_session(
    committed_world: World, committed: Session, service_engine: Engine
) -> None:
    enter_clinic(committed, committed_world.clinic_id)
    committed.commit()
    assert committed.scalar(select(func.count()).select_from(Patient)) == 1
    committed.close()

    with Session(service_engine) as another:
        assert another.scalar(select(func.count()).select_from(Patient)) == 0
