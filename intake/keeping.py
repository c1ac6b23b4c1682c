"""Keeping: what a line of each kind of file becomes.

The cells are read as `afterglow import` reads them. What is in the way is asked for of many
lines at once, so that it can be told which line it is and what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from intake import clinic
from intake.tables import Row
from models import Device, Patient, Qualification, Room, Site
from models.vocabulary import ActorKind, ImportKind
from scheduler import facts

Cells = Mapping[str, str]


class Made(NamedTuple):
    """Something that was made of a line."""

    entity: str
    id: UUID


@dataclass(frozen=True, slots=True)
class Before:
    """What is there before some lines are read."""

    keys: set[str]
    """Of these lines, as the kind names them."""
    sites: Mapping[str, UUID]
    """By name the ids of the sites."""
    people: dict[str, tuple[UUID, str]]
    """By e-mail the ids and names of practitioners; who is made joins them."""
    named: dict[str, str] = field(default_factory=dict)
    """By e-mail what these lines call those who are not there yet."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of file looks like, and what is made of it."""

    columns: Sequence[str]
    named: str
    """The column that a fault about the key names."""
    key: Callable[[Cells], str]
    """What no two lines may share."""
    known: str
    """The statement that finds which of `:keys` are there; practitioners' `:emails` and `:ids`
    are known by then."""
    of: Callable[[Row, Before], Any]
    """Reads a line, and notes what is wrong with it."""
    keep: Callable[[Session, Sequence[Any]], list[Made]]

    def strange(self, columns: Sequence[str] | None) -> list[tuple[str, str]]:
        """What is wrong with the columns of a table."""
        if columns is None:
            return []
        missing = [(one, "This column is missing.") for one in self.columns if one not in columns]
        more = [one for one in columns if one not in self.columns]
        wrong = missing + [("-", f"The column {one!r} is not known.") for one in more]
        twice = sorted({one for one in self.columns if columns.count(one) > 1})
        return wrong + [(one, "This column is here twice.") for one in twice]

    def look(self, session: Session, lines: Sequence[Cells]) -> Before:
        """What is there already of what these lines name."""
        keys = sorted({_storable(self.key(cells)) for cells in lines})
        emails = sorted({_storable(cells.get("email", "").lower()) for cells in lines})
        sites = session.execute(text("SELECT name, id FROM site")).all()
        there = facts.practitioners_at(session, emails)
        people = {one.email.lower(): (one.id, one.name) for one in there}
        told = {"emails": list(people), "ids": [person_id for person_id, _ in people.values()]}
        found = session.execute(text(self.known), {"keys": keys, **told}).scalars().all()
        return Before(set(found), {one.name: one.id for one in sites}, people)

    def read(self, row: Row, before: Before) -> Any:
        """Read a line; None if something is wrong with it, which is noted."""
        item = self.of(row, before)
        if _storable(self.key(row.cells)) in before.keys:
            row.fault(self.named, "This is here already.")
        return None if row.notes.faults else item


def _storable(key: str) -> str:
    """A key that can be asked for: a line that cannot be stored is faulty for other reasons."""
    return key.encode("utf-8", "replace").decode().replace("\x00", "?")


def _patient(row: Row, _: Before) -> dict[str, Any]:
    return clinic.read_patient(row)


def _keep_patients(session: Session, items: Sequence[dict[str, Any]]) -> list[Made]:
    schedules = clinic.schedules(
        session, ActorKind.PATIENT, [(one["record_number"], 1) for one in items]
    )
    rows = [
        Patient(id=uuid7(), schedule_id=schedule_id, **one)
        for one, schedule_id in zip(items, schedules, strict=True)
    ]
    session.add_all(rows)
    session.flush()
    return [Made("patient", row.id) for row in rows]


def _site(row: Row, _: Before) -> dict[str, Any]:
    return clinic.read_site(row)


def _keep_sites(session: Session, items: Sequence[dict[str, Any]]) -> list[Made]:
    rows = [Site(id=uuid7(), **one) for one in items]
    session.add_all(rows)
    session.flush()
    return [Made("site", row.id) for row in rows]


def _place(row: Row, before: Before) -> tuple[clinic.Place, UUID | None]:
    place = clinic.read_place(row, before.sites)
    return place, before.sites.get(place.site)


def _keep_places(
    model: type[Room] | type[Device], kind: ActorKind
) -> Callable[[Session, Sequence[Any]], list[Made]]:
    def keep(session: Session, items: Sequence[tuple[clinic.Place, UUID]]) -> list[Made]:
        schedules = clinic.schedules(session, kind, [(place.name, 1) for place, _ in items])
        rows = []
        for (place, site_id), schedule_id in zip(items, schedules, strict=True):
            clinic.open_hours(session, schedule_id, [place.hours], {place.site: site_id})
            more = {"name": place.name, "kind": place.kind}
            rows.append(model(id=uuid7(), site_id=site_id, schedule_id=schedule_id, **more))
        session.add_all(rows)
        session.flush()
        return [Made(model.__tablename__, row.id) for row in rows]

    return keep


@dataclass(frozen=True, slots=True)
class _Licensed:
    """A practitioner and one licence of theirs."""

    person: clinic.Person
    licence: clinic.Licence
    people: dict[str, tuple[UUID, str]]
    """As `Before` has them."""


def _licensed(row: Row, before: Before) -> _Licensed | None:
    person, licence = clinic.read_person(row, ""), clinic.read_licence(row)
    email = person.email.lower()
    _, name = before.people.get(email, (None, before.named.get(email, person.name)))
    if name != person.name:
        row.fault("email", "Somebody with another name has this address.")
    if not row.notes.faults:
        before.named[email] = person.name
    return None if licence is None else _Licensed(person, licence, before.people)


def _keep_licensed(session: Session, items: Sequence[_Licensed]) -> list[Made]:
    """Add licences, each to whoever has its address; who is new is made first."""
    made: list[Made] = []
    people = {} if not items else dict(items[0].people)
    for item in items:
        email = item.person.email.lower()
        if email not in people:
            person_id = clinic.store_person(session, item.person, {})
            people[email] = person_id, item.person.name
            made.append(Made("practitioner", person_id))
        row = Qualification(id=uuid7(), practitioner_id=people[email][0], **item.licence.columns())
        session.add(row)
        made.append(Made("qualification", row.id))
    session.flush()
    if items:
        items[0].people.update(people)
    return made


_PLACE = "SELECT site.name || ': ' || one.name FROM {} one JOIN site ON site.id = one.site_id"

KINDS: Mapping[ImportKind, Kind] = {
    ImportKind.SITES: Kind(
        clinic.SITE,
        "name",
        lambda cells: cells.get("name", ""),
        "SELECT name FROM site WHERE name = ANY(:keys)",
        _site,
        _keep_sites,
    ),
    **{
        kind: Kind(
            clinic.PLACE,
            "name",
            lambda cells: f"{cells.get('site', '')}: {cells.get('name', '')}",
            f"{_PLACE.format(table)} WHERE site.name || ': ' || one.name = ANY(:keys)",
            _place,
            _keep_places(model, actor),
        )
        for kind, table, model, actor in (
            (ImportKind.ROOMS, "room", Room, ActorKind.ROOM),
            (ImportKind.DEVICES, "device", Device, ActorKind.DEVICE),
        )
    },
    ImportKind.PRACTITIONERS: Kind(
        tuple(name for name in clinic.PERSON if name != "calendar"),
        "licence",
        lambda cells: " ".join(
            [cells.get("email", "").lower()]
            + [cells.get(name, "") for name in ("role", "licence", "valid_from")]
        ),
        """
        SELECT concat_ws(' ', p.email, q.role, q.licence, q.valid_from)
          FROM unnest(CAST(:emails AS text[]), CAST(:ids AS uuid[])) AS p (email, id)
          JOIN qualification q ON q.practitioner_id = p.id
         WHERE concat_ws(' ', p.email, q.role, q.licence, q.valid_from) = ANY(:keys)
        """,
        _licensed,
        _keep_licensed,
    ),
    ImportKind.PATIENTS: Kind(
        clinic.PATIENT,
        "record_number",
        lambda cells: cells.get("record_number", ""),
        "SELECT record_number FROM patient WHERE record_number = ANY(:keys)",
        _patient,
        _keep_patients,
    ),
}
