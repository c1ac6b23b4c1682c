"""Authority: on whose word something is done, and what that word may override.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from models.vocabulary import Owner
from scheduler.errors import MayNotOverride
from scheduler.permissions import Permission


def are_named(roles: Collection[str], who: Collection[str]) -> bool:
    """Whether somebody who acts in `roles` is among `who`: a role, or any clinician."""
    return bool(roles) and ("clinician" in who or not set(roles).isdisjoint(who))


@dataclass(frozen=True, slots=True)
class Authority:
    """Who acts. A person behind an API key, a patient behind a link, or a job."""

    name: str
    """As it stands in histories and the audit trail: `key:front-desk`, `patient`, `job:holds`."""
    permissions: frozenset[Permission] = frozenset()
    """None at all: a patient or a job."""
    practitioner_id: UUID | None = None
    practitioner_roles: frozenset[str] = frozenset()
    """The roles that their licences let them act in today."""
    role: str | None = None
    """As the audit trail has it. None: a patient or a job."""
    key_id: UUID | None = None
    """The API key that they came with, if with any."""

    @property
    def mark(self) -> str:
        """Who it is without the name that people gave them: `key:3fa9c1d2`, `patient`."""
        kind, colon, rest = self.name.partition(":")
        return f"{kind}{colon}{rest.rpartition('/')[2]}" if "/" in rest else kind

    @property
    def caller(self) -> str:
        """Whom the API counts for one: a key stays itself whatever it is called."""
        return self.name if self.key_id is None else f"key:{self.key_id}"

    @property
    def is_staff(self) -> bool:
        """Whether they work at the clinic: no patient, no escort, no job."""
        return bool(self.permissions)

    def may(self, permission: Permission) -> bool:
        """Whether they were given this permission."""
        return permission in self.permissions

    def may_lift(self, lift: frozenset[str]) -> bool:
        """Whether they hold one of the roles in `lift`."""
        return not self.practitioner_roles.isdisjoint(lift)

    def may_settle(self, who: Collection[str]) -> bool:
        """Whether they are among `who`, as a gate names those who can settle it."""
        return are_named(self.practitioner_roles, who)

    def refuse_to_lift(self, lift: frozenset[str], what: str) -> None:
        """Refuse with `MayNotOverride` whoever holds none of the roles in `lift`."""
        if not self.may_lift(lift):
            who = " or ".join(sorted(lift)) or "nobody"
            raise MayNotOverride(f"{what}: {who} decides on this.", who=sorted(lift))

    def refuse_to_settle(self, who: Collection[str], what: str) -> None:
        """Refuse with `MayNotOverride` whoever is not among `who`."""
        if not self.may_settle(who):
            names = " or ".join(sorted(who))
            raise MayNotOverride(f"{what}: {names} may do this.", who=sorted(who))

    def owns(self, owner: Owner) -> bool:
        """Whether a checklist item of `owner` is theirs to settle.

        Staff may settle any but a clinician's, which takes a clinician.
        """
        if owner is Owner.CLINICIAN:
            return self.may(Permission.CHECKLISTS_SIGN)
        if owner is Owner.FRONT_DESK:
            return self.is_staff
        return True


PATIENT = Authority("patient")
"""Whoever came by a link of their own and knew the date of birth."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why gates or rules may be passed over this once: a reason for each code."""

    given: Mapping[str, str] = field(default_factory=dict)

    def cover(self, code: str) -> bool:
        """Whether a reason was given for `code`."""
        return code in self.given

    def refuse_unless_lifted(
        self, code: str, lift: frozenset[str], by: Authority, *, anyone: bool = False
    ) -> None:
        """Refuse with `MayNotOverride` if `by` gave a reason without the right to.

        `anyone`: a warning, which whoever books may pass over with a reason.
        """
        if not anyone and not by.may_lift(lift):
            who = " or ".join(sorted(lift)) or "nobody"
            raise MayNotOverride(f"{code}: {who} may override this.", code=code, who=sorted(lift))


@dataclass(frozen=True, slots=True)
class Call:
    """An act on a visit, or on a course, as an edge asks for it."""

    id: UUID
    version: int | None
    """The row's version that the caller last saw. None: whatever it is now."""
    reason: str | None = None
