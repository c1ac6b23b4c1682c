"""Permissions: what a caller may do, and which of it each role is given.

A door of the API names one permission. A role is a bundle of them, and nothing else; a key may
be narrowed to some of its role's. Docs: docs/permissions.md, whose table is made of this one.
"""

from collections.abc import Mapping
from enum import StrEnum

from models.vocabulary import Role


class Permission(StrEnum):
    """What a door asks for: the resource, and what is done with it."""

    ACCESSES_READ = "accesses:read"
    APPOINTMENTS_READ = "appointments:read"
    APPOINTMENTS_WRITE = "appointments:write"
    AUDIT_EXPORT = "audit:export"
    AUDIT_READ = "audit:read"
    BREAK_GLASS_ASK = "break-glass:ask"
    BREAK_GLASS_REVIEW = "break-glass:review"
    BULK_EXPORT = "bulk:export"
    BULK_IMPORT = "bulk:import"
    CALENDARS_SHARE = "calendars:share"
    CALENDARS_WITHDRAW = "calendars:withdraw"
    CHECKLISTS_READ = "checklists:read"
    CHECKLISTS_WRITE = "checklists:write"
    CHECKLISTS_SIGN = "checklists:sign"
    CLEARANCES_READ = "clearances:read"
    CLEARANCES_WRITE = "clearances:write"
    CLINIC_EXPORT = "clinic:export"
    COURSES_READ = "courses:read"
    COURSES_WRITE = "courses:write"
    COURSES_DECIDE = "courses:decide"
    ESCORTS_READ = "escorts:read"
    ESCORTS_WRITE = "escorts:write"
    HEALTH_READ = "health:read"
    INCIDENTS_READ = "incidents:read"
    INCIDENTS_WRITE = "incidents:write"
    KEYS_MANAGE = "keys:manage"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    MESSAGES_CONTENT = "messages:content"
    OBSERVATIONS_READ = "observations:read"
    OPENINGS_READ = "openings:read"
    OVERRIDES_WRITE = "overrides:write"
    PART2_READ = "part2:read"
    PATIENTS_READ = "patients:read"
    PATIENTS_WRITE = "patients:write"
    PROTOCOLS_READ = "protocols:read"
    PROTOCOLS_WRITE = "protocols:write"
    QUESTIONNAIRES_READ = "questionnaires:read"
    QUESTIONNAIRES_WRITE = "questionnaires:write"
    REPORTS_READ = "reports:read"
    SCHEDULES_READ = "schedules:read"
    SCHEDULES_WRITE = "schedules:write"
    SCREENING_READ = "screening:read"
    SCREENING_WRITE = "screening:write"
    SESSION_OWN = "session:own"
    SESSIONS_WRITE = "sessions:write"
    SETUP_READ = "setup:read"
    SETUP_WRITE = "setup:write"
    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    USERS_MANAGE = "users:manage"
    WAITLIST_READ = "waitlist:read"
    WAITLIST_WRITE = "waitlist:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_MANAGE = "webhooks:manage"


MEANS: Mapping[Permission, str] = {
    Permission.ACCESSES_READ: "who looked at a patient's record, in plain words",
    Permission.APPOINTMENTS_READ: "visits, group sessions, the readiness board",
    Permission.APPOINTMENTS_WRITE: "book, hold, move, cancel, confirm, mark as arrived or noshow",
    Permission.AUDIT_EXPORT: "take the trail along, as a file",
    Permission.AUDIT_READ: "who did or read what",
    Permission.BREAK_GLASS_ASK: "open one patient's record for an hour, in an emergency",
    Permission.BREAK_GLASS_REVIEW: "review who opened one",
    Permission.BULK_EXPORT: "take out everything of a kind, patients and their contacts too",
    Permission.BULK_IMPORT: "read in files of sites, rooms, devices, practitioners and patients",
    Permission.CALENDARS_SHARE: "make the address at which a practitioner's calendar is read",
    Permission.CALENDARS_WITHDRAW: "see which there are and end them, also a patient's",
    Permission.CHECKLISTS_READ: "the items of a visit or an incident",
    Permission.CHECKLISTS_WRITE: "settle items, but for those that are a clinician's",
    Permission.CHECKLISTS_SIGN: "settle a clinician's items",
    Permission.CLEARANCES_READ: "clearances and signed consents",
    Permission.CLEARANCES_WRITE: "vouch for a gate",
    Permission.CLINIC_EXPORT: "take out an archive of all the clinic has, also once it is closed",
    Permission.COURSES_READ: "courses, their steps, repairs",
    Permission.COURSES_WRITE: "open, propose, accept, hold, repair",
    Permission.COURSES_DECIDE: "skip a step, note its outcome, end a course early",
    Permission.ESCORTS_READ: "who takes a patient home",
    Permission.ESCORTS_WRITE: "name or change them",
    Permission.HEALTH_READ: "what was measured; what it was that happened or went wrong, in words",
    Permission.INCIDENTS_READ: "what went wrong, and that something happened to a patient",
    Permission.INCIDENTS_WRITE: "note it, take it back",
    Permission.KEYS_MANAGE: "make, list and revoke keys",
    Permission.MESSAGES_READ: "that messages were sent, and how it went; consents to channels",
    Permission.MESSAGES_WRITE: "say one again; note consents to channels",
    Permission.MESSAGES_CONTENT: "what was said, and what patients replied",
    Permission.OBSERVATIONS_READ: "the observation clock, how a patient left",
    Permission.OPENINGS_READ: "free times",
    Permission.OVERRIDES_WRITE: "pass over a gate with a reason",
    Permission.PART2_READ: "also of patients with a course under 42 CFR Part 2, what else one may",
    Permission.PATIENTS_READ: "people and their contacts, their timeline, courses in short, "
    "reasons that staff wrote",
    Permission.PATIENTS_WRITE: "add and change them",
    Permission.PROTOCOLS_READ: "protocols",
    Permission.PROTOCOLS_WRITE: "write and sign them",
    Permission.QUESTIONNAIRES_READ: "answers, scores, the curve of a course",
    Permission.QUESTIONNAIRES_WRITE: "enter answers for a patient",
    Permission.REPORTS_READ: "figures of the clinic that name nobody",
    Permission.SCHEDULES_READ: "opening hours, closures, calendars kept elsewhere",
    Permission.SCHEDULES_WRITE: "close a schedule, read in such a calendar",
    Permission.SCREENING_READ: "conditions, medicines, who is eligible",
    Permission.SCREENING_WRITE: "note and decide on them",
    Permission.SESSION_OWN: "one's own signing in: see it, step up, end it",
    Permission.SESSIONS_WRITE: "the day: observe, dose, recover, discharge, fulfil",
    Permission.SETUP_READ: "the clinic, its sites, rooms, devices, practitioners and words",
    Permission.SETUP_WRITE: "change them",
    Permission.TASKS_READ: "what people have to do",
    Permission.TASKS_WRITE: "say that it is done",
    Permission.USERS_MANAGE: "invite people, give them roles, disable them",
    Permission.WAITLIST_READ: "who waits, what was offered",
    Permission.WAITLIST_WRITE: "put on the list, offer, answer for a patient",
    Permission.WEBHOOKS_READ: "which other systems are told of what, and how it went",
    Permission.WEBHOOKS_MANAGE: "add, change, test and remove them, send again",
}

IMPERSONAL = frozenset(
    {
        Permission.CALENDARS_SHARE,
        Permission.KEYS_MANAGE,
        Permission.OPENINGS_READ,
        Permission.PROTOCOLS_READ,
        Permission.PROTOCOLS_WRITE,
        Permission.REPORTS_READ,
        Permission.SCHEDULES_READ,
        Permission.SCHEDULES_WRITE,
        Permission.SESSION_OWN,
        Permission.SETUP_READ,
        Permission.SETUP_WRITE,
        Permission.USERS_MANAGE,
        Permission.WEBHOOKS_READ,
        Permission.WEBHOOKS_MANAGE,
    }
)
"""Their doors show nothing about patients: what is merely looked at there is on no trail."""

ABOUT_ALL = IMPERSONAL | {Permission.BREAK_GLASS_ASK}
"""At their doors nobody is hidden under 42 CFR Part 2: they show nobody, and in an emergency
anybody's record may be opened."""

WHEN_CLOSED = frozenset({Permission.CLINIC_EXPORT, Permission.SESSION_OWN})
"""Their doors stay open to a clinic that was closed, until it is shredded."""

SEES_ALL = frozenset(
    one for one in Permission if one.partition(":")[2] in {"write", "sign", "decide"}
) - {Permission.PROTOCOLS_WRITE} | {
    Permission.BULK_IMPORT,
    Permission.CALENDARS_SHARE,
    Permission.CLINIC_EXPORT,
}
"""Whoever may do one of these sees every patient, whatever else a key was narrowed to: a dose
that was hidden would count for no gap between doses."""

_OVERVIEW = frozenset(
    {
        Permission.APPOINTMENTS_READ,
        Permission.COURSES_READ,
        Permission.MESSAGES_READ,
        Permission.PROTOCOLS_READ,
        Permission.SCHEDULES_READ,
        Permission.SESSION_OWN,
        Permission.SETUP_READ,
        Permission.WAITLIST_READ,
    }
)
"""How the clinic runs, without anything about a patient's health or how to reach them."""

_STAFF = _OVERVIEW | {
    Permission.APPOINTMENTS_WRITE,
    Permission.CALENDARS_WITHDRAW,
    Permission.CHECKLISTS_READ,
    Permission.CHECKLISTS_WRITE,
    Permission.CLEARANCES_READ,
    Permission.COURSES_WRITE,
    Permission.ESCORTS_READ,
    Permission.ESCORTS_WRITE,
    Permission.INCIDENTS_READ,
    Permission.INCIDENTS_WRITE,
    Permission.MESSAGES_CONTENT,
    Permission.MESSAGES_WRITE,
    Permission.OBSERVATIONS_READ,
    Permission.OPENINGS_READ,
    Permission.PART2_READ,
    Permission.PATIENTS_READ,
    Permission.QUESTIONNAIRES_WRITE,
    Permission.TASKS_READ,
    Permission.TASKS_WRITE,
    Permission.WAITLIST_WRITE,
}
"""What whoever works with patients needs."""

_CLINICAL = frozenset(
    {
        Permission.BREAK_GLASS_ASK,
        Permission.CHECKLISTS_READ,
        Permission.CHECKLISTS_WRITE,
        Permission.CHECKLISTS_SIGN,
        Permission.CLEARANCES_READ,
        Permission.CLEARANCES_WRITE,
        Permission.COURSES_DECIDE,
        Permission.HEALTH_READ,
        Permission.INCIDENTS_READ,
        Permission.INCIDENTS_WRITE,
        Permission.MESSAGES_CONTENT,
        Permission.OBSERVATIONS_READ,
        Permission.OVERRIDES_WRITE,
        Permission.QUESTIONNAIRES_READ,
        Permission.QUESTIONNAIRES_WRITE,
        Permission.SCREENING_READ,
        Permission.SCREENING_WRITE,
        Permission.SESSIONS_WRITE,
    }
)
"""What is known of patients' health, and decided on it: nothing that running a clinic takes."""

BY_GLASS = frozenset(
    {
        Permission.APPOINTMENTS_READ,
        Permission.CHECKLISTS_READ,
        Permission.CLEARANCES_READ,
        Permission.COURSES_READ,
        Permission.ESCORTS_READ,
        Permission.HEALTH_READ,
        Permission.INCIDENTS_READ,
        Permission.OBSERVATIONS_READ,
        Permission.PART2_READ,
        Permission.PATIENTS_READ,
        Permission.QUESTIONNAIRES_READ,
        Permission.SCREENING_READ,
    }
)
"""What break-glass opens of one patient: their record, to be read."""

BUNDLES: Mapping[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission) - _CLINICAL,
    Role.SCHEDULER: _STAFF
    | {Permission.PATIENTS_WRITE, Permission.REPORTS_READ, Permission.SCHEDULES_WRITE},
    Role.CLINICIAN: _STAFF
    | {
        Permission.ACCESSES_READ,
        Permission.BREAK_GLASS_ASK,
        Permission.CALENDARS_SHARE,
        Permission.CHECKLISTS_SIGN,
        Permission.CLEARANCES_WRITE,
        Permission.COURSES_DECIDE,
        Permission.HEALTH_READ,
        Permission.OVERRIDES_WRITE,
        Permission.PROTOCOLS_WRITE,
        Permission.QUESTIONNAIRES_READ,
        Permission.SCREENING_READ,
        Permission.SCREENING_WRITE,
        Permission.SESSIONS_WRITE,
    },
    Role.AUDITOR: _OVERVIEW
    | {
        Permission.ACCESSES_READ,
        Permission.AUDIT_EXPORT,
        Permission.AUDIT_READ,
        Permission.BREAK_GLASS_REVIEW,
        Permission.REPORTS_READ,
    },
}
"""What each role is given. What takes a licence is asked where it is done, beside this."""


def may_give(held: frozenset[Permission], given: frozenset[Permission]) -> bool:
    """Whether somebody who holds `held` may let others do `given`.

    Whoever holds all that an admin does gives what they like: that is how people get roles.
    Anybody else, a key that was narrowed, makes nobody stronger than they are.
    """
    return held >= BUNDLES[Role.ADMIN] or held >= given
