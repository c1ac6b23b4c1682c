"""The people: practitioners with their qualifications, and patients."""

from datetime import date, time
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Index, Text, Time, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.sealed import address, number, sealed, sealed_or_none
from models.vocabulary import PractitionerRole

SEARCHED = Text(collation="C")
"""In the order of its code points: what begins alike stands together."""


class Practitioner(Tenanted):
    """A clinician with a schedule (FHIR Practitioner)."""

    __tablename__ = "practitioner"

    schedule_id: Mapped[UUID]
    name: Mapped[str]
    email = sealed(address)
    phone = sealed_or_none()
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("schedule_id", "schedule"),
        unique_in_clinic("schedule_id"),
        unique_in_clinic("email_index"),
    )


class Qualification(Tenanted):
    """A licence to act in a role, from one day through another (FHIR Practitioner.qualification).

    Whether it holds is asked for the day of a visit, never for the day of booking.
    """

    __tablename__ = "qualification"

    practitioner_id: Mapped[UUID]
    role: Mapped[PractitionerRole]
    licence: Mapped[str]
    valid_from: Mapped[date]
    valid_until: Mapped[date]
    """Its last valid day, in the zone of the visit's site."""
    regions: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """The states in which it holds for visits by video, as ISO 3166-2 has them: US-NY. In the
    clinic's rooms it holds as it is (FHIR: the extension whereValid of Plan-Net)."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("practitioner_id", "practitioner", ondelete="CASCADE"),
        unique_in_clinic("practitioner_id", "role", "licence", "valid_from"),
        CheckConstraint("valid_from <= valid_until", name="validity_is_real"),
    )


class Patient(Tenanted):
    """Somebody in our care (FHIR Patient). Has a schedule: no patient is in two visits at once."""

    __tablename__ = "patient"

    schedule_id: Mapped[UUID]
    record_number: Mapped[str]
    """The clinic's own number for the patient."""
    given_name: Mapped[str]
    family_name: Mapped[str]
    birth_date: Mapped[date]
    email = sealed_or_none(address)
    phone = sealed_or_none(number)
    time_zone: Mapped[str]
    region: Mapped[str | None]
    """The state where the patient is during visits by video, as ISO 3166-2 has it: US-NY."""
    language: Mapped[str] = mapped_column(server_default="en")
    channels: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{email}'"))
    """How the patient wants to be reached, best first. Consent stands in `channel_consent`."""
    opted_out: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Channels on which the patient wants nothing more."""
    unreachable: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Channels whose address was refused for good, until it is changed."""
    quiet_from: Mapped[time | None] = mapped_column(Time)
    """The patient's own quiet hours, in place of the clinic's. Both or neither."""
    quiet_until: Mapped[time | None] = mapped_column(Time)
    family_key: Mapped[str | None] = mapped_column(SEARCHED, deferred=True)
    """The family name in small letters, to be found by how it begins. A trigger keeps all three."""
    given_key: Mapped[str | None] = mapped_column(SEARCHED, deferred=True)
    number_key: Mapped[str | None] = mapped_column(SEARCHED, deferred=True)
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("schedule_id", "schedule"),
        unique_in_clinic("schedule_id"),
        unique_in_clinic("record_number"),
        CheckConstraint(
            "(quiet_from IS NULL) = (quiet_until IS NULL)", name="quiet_hours_are_whole"
        ),
        Index("ix__patient__email_index", "clinic_id", "email_index"),
        Index("ix__patient__phone_index", "clinic_id", "phone_index"),
        Index("ix__patient__family_key", "clinic_id", "family_key"),
        Index("ix__patient__given_key", "clinic_id", "given_key"),
        Index("ix__patient__number_key", "clinic_id", "number_key"),
    )
