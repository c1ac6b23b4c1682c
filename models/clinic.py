"""The clinic and what stands in it: sites, rooms, devices."""

from datetime import datetime, time
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKeyConstraint, String, Time, func, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from models.base import Base, Tenanted, of_clinic, references, unique_in_clinic


class Clinic(Base):
    """The tenant (FHIR Organization). Its key is the `clinic_id` of every other row."""

    __tablename__ = "clinic"

    clinic_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    """As patients know it, in messages too; one that betrays nothing."""
    email: Mapped[str]
    """The From address of its messages."""
    phone: Mapped[str]
    front_desk_email: Mapped[str | None]
    """Where staff are written to. None: at `email`."""
    sms_from: Mapped[str | None]
    """The number its text messages come from, in E.164. None: it sends none."""
    time_zone: Mapped[str]
    on_call_id: Mapped[UUID | None]
    """The clinician who hears of what cannot wait, at any hour. None: who serves the visit does."""
    privacy_officer_id: Mapped[UUID | None]
    """Who hears when somebody opens a record in an emergency. None: the front desk does."""
    emergency_text: Mapped[str] = mapped_column(server_default="")
    """What a patient in danger is told to do."""
    settle_minutes: Mapped[int] = mapped_column(server_default=text("3"))
    """How long nothing is said after staff book, move or cancel, so that an undo says nothing."""
    quiet_from: Mapped[time] = mapped_column(Time, server_default=text("'20:00'"))
    quiet_until: Mapped[time] = mapped_column(Time, server_default=text("'09:00'"))
    """Between `quiet_from` and `quiet_until`, patient's wall time, nothing is sent.
    Source: 47 CFR 64.1200(c)(1), 8 to 21 h; narrower by default, as several states ask."""
    hold_minutes: Mapped[int] = mapped_column(server_default=text("15"))
    holds_per_caller: Mapped[int] = mapped_column(server_default=text("40"))
    """How many times one caller may hold at once: a few whole courses."""
    offer_minutes: Mapped[int] = mapped_column(server_default=text("30"))
    """How long an offer of a freed time stands."""
    offers_at_once: Mapped[int] = mapped_column(server_default=text("1"))
    """To how many a freed time is offered at once. To one: it is kept for them meanwhile."""
    standby_hours: Mapped[int] = mapped_column(server_default=text("24"))
    """A time that is so near is offered to those only who can come at short notice."""
    standby_at_once: Mapped[int] = mapped_column(server_default=text("5"))
    """To how many of those at once."""
    noshow_after_minutes: Mapped[int] = mapped_column(server_default=text("1440"))
    """A booked visit that ended so long ago and never began is marked noshow."""
    requests_per_minute: Mapped[int | None]
    """How often all its callers together may ask the API: what its tenancy says at most. None: as
    often as that says, else five times what one may."""
    session_idle_minutes: Mapped[int] = mapped_column(server_default=text("15"))
    """So long may somebody who signed in do nothing before they sign in anew."""
    default_protocol_id: Mapped[UUID | None]
    """What a visit outside any course is booked under."""
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("requests_per_minute >= 1", name="requests_are_some"),
        CheckConstraint("settle_minutes BETWEEN 0 AND 60", name="settle_is_short"),
        CheckConstraint("hold_minutes BETWEEN 1 AND 1440", name="hold_is_real"),
        CheckConstraint("holds_per_caller BETWEEN 1 AND 1000", name="holds_are_few"),
        CheckConstraint("offer_minutes BETWEEN 5 AND 1440", name="offer_is_real"),
        CheckConstraint("offers_at_once BETWEEN 1 AND 50", name="offers_are_few"),
        CheckConstraint("standby_hours BETWEEN 0 AND 168", name="standby_is_near"),
        CheckConstraint("standby_at_once BETWEEN 1 AND 50", name="standby_are_few"),
        CheckConstraint("session_idle_minutes BETWEEN 5 AND 60", name="idle_is_short"),
        ForeignKeyConstraint(
            ["clinic_id", "default_protocol_id"],
            ["protocol.clinic_id", "protocol.id"],
            use_alter=True,  # a protocol needs its clinic first
            name="fk__clinic__default_protocol",
        ),
        ForeignKeyConstraint(
            ["clinic_id", "on_call_id"],
            ["practitioner.clinic_id", "practitioner.id"],
            use_alter=True,  # a practitioner needs their clinic first
            name="fk__clinic__on_call",
        ),
        ForeignKeyConstraint(
            ["clinic_id", "privacy_officer_id"],
            ["practitioner.clinic_id", "practitioner.id"],
            use_alter=True,
            name="fk__clinic__privacy_officer",
        ),
    )

    @property
    def id(self) -> UUID:
        return self.clinic_id


class Site(Tenanted):
    """A place with an address and a zone (FHIR Location, physicalType site)."""

    __tablename__ = "site"

    name: Mapped[str]
    address: Mapped[str]
    phone: Mapped[str]
    time_zone: Mapped[str]
    """IANA. Opening hours and in-person times are reckoned and shown in it."""
    holiday_region: Mapped[str | None]
    """Whose public holidays it keeps, by ISO 3166: `US`, `US-NY`. None: nobody's."""
    holidays_worked: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """Names of those on which it is open all the same."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (of_clinic(), unique_in_clinic("name"))


class Room(Tenanted):
    """A room of a site (FHIR Location, physicalType room), with a schedule."""

    __tablename__ = "room"

    site_id: Mapped[UUID]
    schedule_id: Mapped[UUID]
    name: Mapped[str]
    kind: Mapped[str]
    """What protocols ask for: dosing, consulting."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("site_id", "site"),
        references("schedule_id", "schedule"),
        unique_in_clinic("site_id", "name"),
        unique_in_clinic("schedule_id"),
    )


class Device(Tenanted):
    """A pump or a monitor (FHIR Device), with a schedule."""

    __tablename__ = "device"

    site_id: Mapped[UUID]
    schedule_id: Mapped[UUID]
    name: Mapped[str]
    kind: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("site_id", "site"),
        references("schedule_id", "schedule"),
        unique_in_clinic("site_id", "name"),
        unique_in_clinic("schedule_id"),
    )
