"""Judging a time: may this visit be booked then, and if only with reasons, were they given?

Gathers the facts, asks the pure rules, and weighs the reasons. The booking of a new visit and
the moving of an old one are judged by the same questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Appointment
from models import Site as SiteRow
from models.vocabulary import AppointmentStatus, Severity, Stage, StepKind
from scheduler import ages, evidence, facts, readiness, rules, written
from scheduler.actors import Assignment, Site
from scheduler.authority import Authority, Reasons
from scheduler.errors import NotReady, OffGrid, RuleBroken, StartsInThePast, TooYoung
from scheduler.facts import Brief
from scheduler.intervals import GRANULE
from scheduler.readiness import Judged
from scheduler.rules import Booked, Broken, Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A time for a visit, and what speaks for taking it in spite of a rule."""

    about: Brief
    starts_at: datetime
    site: Site
    assignments: Sequence[Assignment]
    """Who would serve it."""
    reasons: Reasons
    now: datetime
    moving: UUID | None = None
    """The visit that is moved; None for a new one."""


def refuse_impossible(starts_at: datetime, now: datetime) -> None:
    """Refuse what no reason can make right: the past, an odd minute."""
    if starts_at <= now:
        raise StartsInThePast("A visit cannot start in the past.")
    minutes = GRANULE.total_seconds() // 60
    if starts_at.second or starts_at.microsecond or starts_at.minute % minutes:
        raise OffGrid("A visit starts on a multiple of five minutes.")


def weigh(session: Session, proposal: Proposal, by: Authority) -> Mapping[str, str]:
    """Ask gates and course rules; return the overrides that the reasons amount to.

    Refuses with `TooYoung`, which no reason can make right, with `NotReady` or `RuleBroken`
    where a reason is missing, and with `MayNotOverride` where the giver of a reason may not
    override.
    """
    about = proposal.about
    day = proposal.starts_at.astimezone(proposal.site.zone).date()
    if ages.age_on(day, about.patient.birth_date) < about.protocol.minimum_age:
        raise TooYoung(f"The protocol is for people of {about.protocol.minimum_age} and older.")
    overridden = [
        *_weigh_gates(_shut_gates(session, proposal), proposal.reasons, by),
        *_weigh_rules(_broken_rules(session, proposal), proposal.reasons, by),
    ]
    return {code: proposal.reasons.given[code] for code in overridden}


def _shut_gates(session: Session, proposal: Proposal) -> list[Judged]:
    about = proposal.about
    known = evidence.before_booking(session, about, proposal.moving)
    if known is None:
        return []
    return readiness.assess(about.visit.gates, known, proposal.starts_at).shut(Stage.BOOKING)


def _weigh_gates(shut: list[Judged], reasons: Reasons, by: Authority) -> list[str]:
    missing = [judged for judged in shut if not reasons.cover(judged.gate.code)]
    if missing:
        raise NotReady("The visit cannot be booked yet.", gates=told(missing))
    for judged in shut:
        reasons.refuse_unless_lifted(judged.gate.code, judged.lift, by)
    return [judged.gate.code for judged in shut]


def _broken_rules(session: Session, proposal: Proposal) -> list[Broken]:
    about = proposal.about
    others = facts.other_visits(session, about.patient.id, about.course_id, proposal.moving)
    starts_at, zone = proposal.starts_at, proposal.site.zone
    who = rules.who_of((one.role, one.actor.schedule_id) for one in proposal.assignments)
    candidate = Candidate(about.step, about.visit.kind, starts_at, zone, who)
    return [
        *rules.judge(candidate, about.protocol, others),
        *rules.judge_notice(about.visit, starts_at, proposal.now, zone),
    ]


def _weigh_rules(broken: list[Broken], reasons: Reasons, by: Authority) -> list[str]:
    missing = [rule for rule in broken if not reasons.cover(rule.code)]
    if missing:
        raise RuleBroken(
            "The time breaks a rule of the protocol. Give a reason for each in `reasons`.",
            rules=told_rules(missing),
        )
    for rule in broken:
        refuse_unless_lifted(reasons, rule, by)
    return [rule.code for rule in broken]


def refuse_unless_lifted(reasons: Reasons, rule: Broken, by: Authority) -> None:
    """Refuse with `MayNotOverride` whoever may not pass over a rule."""
    is_warning = rule.severity is Severity.WARN
    reasons.refuse_unless_lifted(rule.code, rule.lift, by, anyone=is_warning)


def broken_by_doses(session: Session, visit: Appointment, now: datetime) -> list[Broken]:
    """The caps and gaps that a dose in a visit would break, by when doses were given.

    The plan was judged when the visit was booked; on the day it matters what became of it. Asked
    as of the visit's start, and as of now once the patient is here.
    """
    if visit.kind is not StepKind.DOSING:
        return []
    at = readiness.moment(visit.starts_at, now, under_way=visit.progress is not None)
    zone = ZoneInfo(facts.one(session, SiteRow, visit.site_id).time_zone)
    doses = [
        Booked(None, StepKind.DOSING, AppointmentStatus.FULFILLED, given_at)
        for given_at in facts.doses_given(session, visit.patient_id, visit.id)
    ]
    protocol = facts.protocol(session, visit.protocol_version_id)
    return rules.judge_frequency(Candidate(None, visit.kind, at, zone), protocol, doses)


def refuse_broken(session: Session, visit: Appointment, now: datetime) -> None:
    """Refuse with `RuleBroken` a dose too soon after others, unless a reason was given for it."""
    given = {code for _, code in facts.passed_over(session, [visit.id])}
    missing = [one for one in broken_by_doses(session, visit, now) if one.code not in given]
    if missing:
        raise RuleBroken(
            "By when doses were given, a rule of the protocol keeps this one from being given "
            "now. Who may pass over it gives the visit a reason first.",
            rules=told_rules(missing),
        )


def told_rules(broken: list[Broken]) -> list[dict[str, object]]:
    """Broken rules as a refusal shows them."""
    return [
        {
            "code": rule.code,
            "severity": rule.severity,
            "detail": rule.detail,
            "who": _who(rule),
        }
        for rule in broken
    ]


def told(gates: list[Judged]) -> list[dict[str, object]]:
    """Gates as a refusal shows them."""
    return [
        {
            "code": judged.gate.code,
            "state": judged.state,
            "shuts": judged.gate.shuts,
            "detail": judged.detail,
            "who": list(judged.gate.who),
            "lift": sorted(judged.gate.lift),
            "expires_at": judged.expires_at and written.instant(judged.expires_at),
        }
        for judged in gates
    ]


def _who(rule: Broken) -> list[str]:
    return ["anyone"] if rule.severity is Severity.WARN else sorted(rule.lift)
