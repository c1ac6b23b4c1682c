"""Group sessions: a visit that several patients share."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references
from models.vocabulary import StepKind


class GroupSession(Tenanted):
    """Staff, a room and so many places at one time (FHIR: an Appointment of several patients).

    It holds the slots of its staff and room once. Each patient's place is an appointment of its
    own, which holds the patient's slot.
    """

    __tablename__ = "group_session"

    protocol_version_id: Mapped[UUID]
    visit: Mapped[str]
    """The key of its visit in the protocol version: length, phases, ratio."""
    kind: Mapped[StepKind]
    site_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    places: Mapped[int]
    cancelled_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    """Rises with every change, who takes and leaves a place included: the ETag."""
    made_by: Mapped[str]

    __table_args__ = (
        references("protocol_version_id", "protocol_version"),
        references("site_id", "site"),
        CheckConstraint("starts_at < ends_at", name="is_real"),
        CheckConstraint("places BETWEEN 1 AND 100", name="has_places"),
        # What an appointment's place is compared with; see Appointment.places.
        UniqueConstraint("clinic_id", "id", "places", name="uq__group_session__places"),
        Index("ix__group_session__starts_at", "clinic_id", "starts_at", "id"),
    )
