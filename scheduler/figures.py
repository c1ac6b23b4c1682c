"""Figures: the statements that reports are counted from, and nothing else.

Every one counts by the parts of a period at each site. Where the parts begin is reckoned from
wall time in Python and handed in as instants: PostgreSQL only finds the place of an instant
among them. Each report takes the same number of statements, however much there is to count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from scheduler import calendars, facts
from scheduler.actors import Site
from scheduler.periods import Part, Period

NOWHERE = UUID(int=0)
"""In place of a site, for what belongs to none: it is counted by the clinic's zone."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The parts of a period, at each site that is asked about."""

    parts: Sequence[Part]
    sites: dict[UUID, Site]
    edges: dict[UUID, list[datetime]]
    """By site the instants at which the parts begin, and the one at which the last ends."""

    @classmethod
    def over(cls, session: Session, period: Period, site_id: UUID | None) -> "Grid":
        """The period at all sites, or at the one."""
        sites = {site.site_id: site for site in calendars.sites(session, site_id)}
        edges = {site.site_id: period.edges(site.zone) for site in sites.values()}
        if site_id is None:
            edges[NOWHERE] = period.edges(ZoneInfo(facts.clinic(session).time_zone))
        return cls(period.parts(), sites, edges)

    @property
    def start(self) -> datetime:
        """Before this instant nothing counts, wherever."""
        return min(edges[0] for edges in self.edges.values())

    @property
    def end(self) -> datetime:
        """From this instant on nothing counts, wherever."""
        return max(edges[-1] for edges in self.edges.values())

    def told(self) -> dict[str, Any]:
        """What every statement is told."""
        flat = [(site_id, edge) for site_id, edges in self.edges.items() for edge in edges]
        return {
            "edge_sites": [site_id for site_id, _ in flat],
            "edges": [edge for _, edge in flat],
            "parts": len(self.parts),
            "start": self.start,
            "end": self.end,
        }


class Place(NamedTuple):
    """Where something counts: at which site, in which part of the period."""

    site_id: UUID
    part: int
    """From 0."""


class Taken(NamedTuple):
    """Time that visits take of a schedule in a role."""

    place: Place
    schedule_id: UUID
    role: str
    minutes: float
    turnover: float


class Visits(NamedTuple):
    """So many visits of a kind that came to the same."""

    place: Place
    kind: str
    status: str
    number: int


class Cancelled(NamedTuple):
    """A visit that stood and was cancelled."""

    place: Place
    kind: str
    starts_at: datetime
    cancelled_at: datetime
    protocol_version_id: UUID
    visit: str


class Dose(NamedTuple):
    """A dose that was given in a course."""

    place: Place
    course_id: UUID
    protocol_version_id: UUID
    step: str


class Said(NamedTuple):
    """So many messages of a kind of which the same became."""

    place: Place
    kind: str
    channel: str
    state: str
    number: int
    late_p50: float | None
    late_p99: float | None


class Stood(NamedTuple):
    """How visits of a kind stood so long before their start."""

    place: Place
    kind: str
    seen: int
    for_arrival: int
    for_dose: int
    unseen: int


class FirstDose(NamedTuple):
    """The first dose of a course."""

    place: Place
    given_at: datetime
    referred_on: date | None
    opened_at: datetime


def taken(session: Session, grid: Grid, schedule_ids: Sequence[UUID]) -> list[Taken]:
    """The time that visits and group sessions hold of these schedules; none that is only held."""
    told = {**grid.told(), "ids": list(schedule_ids), "longest": calendars.LONGEST}
    rows = session.execute(_TAKEN, told)
    return [Taken(_place(row), *row[2:]) for row in rows]


def visits(session: Session, grid: Grid) -> list[Visits]:
    """The visits that start in the period, by what became of them."""
    return [Visits(_place(row), *row[2:]) for row in session.execute(_VISITS, grid.told())]


def cancelled(session: Session, grid: Grid) -> list[Cancelled]:
    """The visits that would have started in the period, and stood until they were cancelled."""
    return [Cancelled(_place(row), *row[2:]) for row in session.execute(_CANCELLED, grid.told())]


def doses(session: Session, grid: Grid) -> list[Dose]:
    """The visits of courses in the period in which a dose was given."""
    return [Dose(_place(row), *row[2:]) for row in session.execute(_DOSES, grid.told())]


def said(session: Session, grid: Grid) -> list[Said]:
    """The messages that were due in the period, those in the archive too."""
    rows = session.execute(_SAID, {**grid.told(), "nowhere": NOWHERE})
    return [Said(_place(row), *row[2:]) for row in rows]


def stood(
    session: Session, grid: Grid, ahead: timedelta, grace: timedelta, now: datetime
) -> list[Stood]:
    """How the visits of the period stood `ahead` of their start, as it was noted then."""
    told = {**grid.told(), "ahead": ahead, "grace": grace, "now": now}
    return [Stood(_place(row), *row[2:]) for row in session.execute(_STOOD, told)]


def first_doses(session: Session, grid: Grid) -> list[FirstDose]:
    """The first doses of courses that were given in the period."""
    told = {**grid.told(), "longest": calendars.LONGEST}
    return [FirstDose(_place(row), *row[2:]) for row in session.execute(_FIRST_DOSES, told)]


def _place(row: Any) -> Place:
    return Place(row.site_id, row.n - 1)


def _counted(query: str) -> TextClause:
    """A statement that counts by the parts of a period: `edge` has their beginnings by site."""
    return text(
        f"""
        WITH edge AS MATERIALIZED (
            SELECT told.site_id, array_agg(told.bound ORDER BY told.bound) AS bounds
              FROM unnest(CAST(:edge_sites AS uuid[]), CAST(:edges AS timestamptz[]))
                   AS told (site_id, bound)
             GROUP BY told.site_id)
        {query}
        """  # noqa: S608  # statements of this module alone
    )


_TAKEN = _counted(
    """
    SELECT edge.site_id, part.n, s.schedule_id, s.role,
           coalesce(sum(piece.minutes) FILTER (WHERE s.status = 'busy'), 0)::float AS minutes,
           coalesce(sum(piece.minutes) FILTER (WHERE s.status <> 'busy'), 0)::float AS turnover
      FROM slot s
      LEFT JOIN appointment a ON a.clinic_id = s.clinic_id AND a.id = s.appointment_id
      LEFT JOIN group_session g ON g.clinic_id = s.clinic_id AND g.id = s.group_session_id
      JOIN edge ON edge.site_id = coalesce(a.site_id, g.site_id)
     CROSS JOIN LATERAL generate_series(
               greatest(width_bucket(s.starts_at, edge.bounds), 1),
               least(width_bucket(s.ends_at - interval '1 microsecond', edge.bounds), :parts)
           ) AS part (n)
     CROSS JOIN LATERAL (
               SELECT extract(epoch FROM least(s.ends_at, edge.bounds[part.n + 1])
                                       - greatest(s.starts_at, edge.bounds[part.n])) / 60
           ) AS piece (minutes)
     WHERE s.schedule_id = ANY(:ids) AND s.status <> 'busy-tentative'
       AND s.starts_at >= :start - CAST(:longest AS interval) AND s.starts_at < :end
       AND s.ends_at > :start
     GROUP BY 1, 2, 3, 4
    """
)

_VISITS = _counted(
    """
    SELECT edge.site_id, part.n, a.kind, a.status, count(*)
      FROM appointment a
      JOIN edge ON edge.site_id = a.site_id
     CROSS JOIN LATERAL (SELECT width_bucket(a.starts_at, edge.bounds)) AS part (n)
     WHERE a.starts_at >= :start AND a.starts_at < :end AND part.n BETWEEN 1 AND :parts
       AND a.status IN ('booked', 'arrived', 'checked-in', 'fulfilled', 'noshow')
     GROUP BY 1, 2, 3, 4
    """
)

_CANCELLED = _counted(
    """
    SELECT edge.site_id, part.n, a.kind, a.starts_at, e.at, a.protocol_version_id, a.visit
      FROM appointment a
      JOIN edge ON edge.site_id = a.site_id
     CROSS JOIN LATERAL (SELECT width_bucket(a.starts_at, edge.bounds)) AS part (n)
     CROSS JOIN LATERAL (
               SELECT e.at FROM appointment_event e
                WHERE e.clinic_id = a.clinic_id AND e.appointment_id = a.id
                  AND e.action = 'cancel' AND e.from_status IN ('booked', 'arrived')
                ORDER BY e.at DESC LIMIT 1
           ) AS e
     WHERE a.starts_at >= :start AND a.starts_at < :end AND part.n BETWEEN 1 AND :parts
       AND a.status = 'cancelled'
    """
)
"""Not those whose hold ran out or whose offer ended: they never stood."""

_DOSES = _counted(
    """
    SELECT edge.site_id, part.n, a.course_id, a.protocol_version_id, step.key
      FROM appointment a
      JOIN edge ON edge.site_id = a.site_id
      JOIN course_step step ON step.clinic_id = a.clinic_id AND step.id = a.course_step_id
     CROSS JOIN LATERAL (SELECT width_bucket(a.starts_at, edge.bounds)) AS part (n)
     WHERE a.starts_at >= :start AND a.starts_at < :end AND part.n BETWEEN 1 AND :parts
       AND a.kind = 'dosing' AND a.status IN ('checked-in', 'fulfilled')
    """
)

_SAID = _counted(
    """
    SELECT edge.site_id, part.n, said.kind, said.channel, said.state, count(*),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY late.seconds),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY late.seconds)
      FROM (SELECT clinic_id, kind, channel, state, due_at, sent_at, appointment_id
              FROM message WHERE due_at >= :start AND due_at < :end
             UNION ALL
            SELECT clinic_id, kind, channel, state, due_at, sent_at, appointment_id
              FROM message_archive WHERE due_at >= :start AND due_at < :end) AS said
      LEFT JOIN appointment a ON a.clinic_id = said.clinic_id AND a.id = said.appointment_id
      JOIN edge ON edge.site_id = coalesce(a.site_id, :nowhere)
     CROSS JOIN LATERAL (SELECT width_bucket(said.due_at, edge.bounds)) AS part (n)
     CROSS JOIN LATERAL (
               SELECT extract(epoch FROM said.sent_at - said.due_at)::float
           ) AS late (seconds)
     WHERE part.n BETWEEN 1 AND :parts
     GROUP BY 1, 2, 3, 4, 5
    """
)

_STOOD = _counted(
    """
    SELECT edge.site_id, part.n, one.kind,
           count(*) FILTER (WHERE one.seen),
           count(*) FILTER (WHERE one.seen AND one.arrival = '{}'),
           count(*) FILTER (WHERE one.seen AND one.arrival = '{}' AND one.dose = '{}'),
           count(*) FILTER (WHERE NOT one.seen)
      FROM (SELECT s.site_id, s.starts_at, a.kind, s.before_arrival AS arrival,
                   s.before_dose AS dose,
                   s.taken_at <= s.starts_at - CAST(:ahead AS interval) + CAST(:grace AS interval)
                       AS seen
              FROM readiness_snapshot s
              JOIN appointment a ON a.clinic_id = s.clinic_id AND a.id = s.appointment_id
             WHERE s.starts_at >= :start AND s.starts_at < :end
               AND a.status <> 'entered-in-error'
             UNION ALL
            SELECT a.site_id, a.starts_at, a.kind, '{}', '{}', false
              FROM appointment a
             WHERE a.starts_at >= :start AND a.starts_at < :end
               AND a.starts_at - CAST(:ahead AS interval) + CAST(:grace AS interval) < :now
               AND a.status IN ('booked', 'arrived', 'checked-in', 'fulfilled', 'noshow')
               AND NOT EXISTS (SELECT FROM readiness_snapshot s
                                WHERE s.clinic_id = a.clinic_id AND s.appointment_id = a.id
                                  AND s.starts_at = a.starts_at)
               AND NOT EXISTS (SELECT FROM appointment_event e
                                WHERE e.clinic_id = a.clinic_id AND e.appointment_id = a.id
                                  AND e.at > a.starts_at - CAST(:ahead AS interval)
                                  AND e.to_status = 'booked'
                                  AND (e.action = 'reschedule'
                                       OR e.from_status IS DISTINCT FROM 'booked'))) AS one
      JOIN edge ON edge.site_id = one.site_id
     CROSS JOIN LATERAL (SELECT width_bucket(one.starts_at, edge.bounds)) AS part (n)
     WHERE part.n BETWEEN 1 AND :parts
     GROUP BY 1, 2, 3
    """
)

_FIRST_DOSES = _counted(
    """
    SELECT edge.site_id, part.n, e.at, course.referred_on, course.created_at
      FROM appointment a
      JOIN edge ON edge.site_id = a.site_id
      JOIN course ON course.clinic_id = a.clinic_id AND course.id = a.course_id
      JOIN appointment_event e ON e.clinic_id = a.clinic_id AND e.appointment_id = a.id
           AND e.action = 'start-dosing'
     CROSS JOIN LATERAL (SELECT width_bucket(e.at, edge.bounds)) AS part (n)
     WHERE a.starts_at >= :start - CAST(:longest AS interval)
       AND a.starts_at < :end + CAST(:longest AS interval)
       AND a.kind = 'dosing' AND a.status IN ('checked-in', 'fulfilled')
       AND part.n BETWEEN 1 AND :parts
       AND NOT EXISTS (SELECT FROM appointment b
                         JOIN appointment_event f ON f.clinic_id = b.clinic_id
                              AND f.appointment_id = b.id AND f.action = 'start-dosing'
                        WHERE b.clinic_id = a.clinic_id AND b.course_id = a.course_id
                          AND b.status IN ('checked-in', 'fulfilled')
                          AND (f.at, b.id) < (e.at, a.id))
    """
)
