"""The words of the clinic, as codes. FHIR's own codes wherever FHIR has the word.

Every member is explained in docs/glossary.md; tests/house keeps the two in step.
"""

from enum import StrEnum


class StepKind(StrEnum):
    """What a visit is for within a course (FHIR ActivityDefinition.code)."""

    SCREENING = "screening"
    PREPARATION = "preparation"
    DOSING = "dosing"
    INTEGRATION = "integration"
    FOLLOW_UP = "follow-up"


class AppointmentStatus(StrEnum):
    """Where a visit stands (FHIR R4 AppointmentStatus; `pending` is our hold).

    Source: https://hl7.org/fhir/R4/valueset-appointmentstatus.html
    """

    PROPOSED = "proposed"
    PENDING = "pending"
    BOOKED = "booked"
    ARRIVED = "arrived"
    CHECKED_IN = "checked-in"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    NOSHOW = "noshow"
    ENTERED_IN_ERROR = "entered-in-error"
    WAITLIST = "waitlist"


class Progress(StrEnum):
    """Where the patient is on the day, finer than the status."""

    WAITING = "waiting"
    DOSING = "dosing"
    RECOVERING = "recovering"
    DISCHARGED = "discharged"


class SlotStatus(StrEnum):
    """What takes a stretch of a schedule (FHIR R4 SlotStatus; `free` is never stored).

    Source: https://hl7.org/fhir/R4/valueset-slotstatus.html
    """

    BUSY = "busy"
    BUSY_TENTATIVE = "busy-tentative"
    BUSY_UNAVAILABLE = "busy-unavailable"


class ActorKind(StrEnum):
    """Who or what a schedule belongs to (FHIR Schedule.actor)."""

    PRACTITIONER = "practitioner"
    ROOM = "room"
    DEVICE = "device"
    PATIENT = "patient"


class PractitionerRole(StrEnum):
    """What a clinician may do in a visit (FHIR PractitionerRole.code)."""

    PRESCRIBER = "prescriber"
    MONITOR = "monitor"
    THERAPIST = "therapist"
    COTHERAPIST = "cotherapist"
    FACILITATOR = "facilitator"


class Stage(StrEnum):
    """Moments of a visit, in order. A gate shuts its own stage and every later one."""

    BOOKING = "booking"
    ARRIVAL = "arrival"
    DOSE = "dose"
    DISCHARGE = "discharge"


class GateState(StrEnum):
    """How a gate stands. `met` and `overridden` let a visit through."""

    MET = "met"
    OPEN = "open"
    EXPIRED = "expired"
    FAILED = "failed"
    OVERRIDDEN = "overridden"


class Measure(StrEnum):
    """What is measured about a patient (FHIR Observation.code); units stand in measures.py."""

    SYSTOLIC = "systolic"
    DIASTOLIC = "diastolic"
    HEART_RATE = "heart-rate"
    OXYGEN_SATURATION = "oxygen-saturation"
    RESPIRATORY_RATE = "respiratory-rate"
    TEMPERATURE = "temperature"
    WEIGHT = "weight"
    RECOVERY_SCORE = "recovery-score"
    ORIENTED = "oriented"
    STEADY_GAIT = "steady-gait"
    NAUSEA_CONTROLLED = "nausea-controlled"


class WayHome(StrEnum):
    """How a patient gets home after a dose."""

    ESCORT = "escort"
    """An adult takes them."""
    RIDE = "ride"
    """A ride service, with an adult who goes along."""
    ALONE = "alone"
    TRANSFERRED = "transferred"
    """To a hospital."""
    AGAINST_ADVICE = "against-advice"


class HealthEventKind(StrEnum):
    """What happened to a patient that may end clearances before their time."""

    NEW_DIAGNOSIS = "new-diagnosis"
    NEW_MEDICATION = "new-medication"
    ADVERSE_EVENT = "adverse-event"
    EMERGENCY_VISIT = "emergency-visit"
    PREGNANCY = "pregnancy"


class ClearanceOutcome(StrEnum):
    """What somebody vouched for: that a gate is settled, does not apply, or must stay shut."""

    CLEARED = "cleared"
    NOT_APPLICABLE = "not-applicable"
    REFUSED = "refused"


class ConditionAction(StrEnum):
    """What follows where a patient has a condition that the protocol screens for."""

    BLOCK = "block"
    """No dose, unless somebody whom the protocol names passes over it with a reason."""
    HOLD = "hold"
    """No dose before somebody whom the protocol names has decided."""
    CAUTION = "caution"
    DISCUSS = "discuss"


class Answer(StrEnum):
    """What a screen found of one condition."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class HoldOutcome(StrEnum):
    """What was decided about a condition that is on hold."""

    GO_AHEAD = "go-ahead"
    REFUSED = "refused"


class MedicineAction(StrEnum):
    """What follows from a medicine of a class that the protocol names."""

    NONE = "none"
    DISCUSS = "discuss"
    HOLD_DOSE_DAY = "hold-dose-day"
    """Left out on the day of the dose."""
    HOLD_24H = "hold-24h"
    """Left out for 24 hours before."""
    BLOCK = "block"


class EligibilityOutcome(StrEnum):
    """Whether a course goes on to its doses."""

    ELIGIBLE = "eligible"
    ELIGIBLE_WITH_CONDITIONS = "eligible-with-conditions"
    DEFERRED = "deferred"
    NOT_ELIGIBLE = "not-eligible"


class TaskStatus(StrEnum):
    """Where a checklist item stands (FHIR R4 TaskStatus; `cancelled` is a waived item).

    Source: https://hl7.org/fhir/R4/valueset-task-status.html
    """

    REQUESTED = "requested"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Owner(StrEnum):
    """Who settles a checklist item."""

    PATIENT = "patient"
    FRONT_DESK = "front-desk"
    CLINICIAN = "clinician"


class Recipient(StrEnum):
    """Whom a message is for."""

    PATIENT = "patient"
    ESCORT = "escort"
    PRACTITIONER = "practitioner"
    FRONT_DESK = "front-desk"
    USER = "user"


class MessageKind(StrEnum):
    """What a message is about. Each has its words in notifications/words.py."""

    CONFIRMATION = "confirmation"
    PACKET = "packet"
    CHECKLIST_REQUEST = "checklist-request"
    CHECKLIST_NUDGE = "checklist-nudge"
    OVERVIEW = "overview"
    REMINDER = "reminder"
    CONFIRM_REQUEST = "confirm-request"
    DAY_OF = "day-of"
    MOVED = "moved"
    CANCELLATION = "cancellation"
    PICK_UP = "pick-up"
    AFTERCARE = "aftercare"
    SAFETY_CHECK = "safety-check"
    CHECK_BACK = "check-back"
    QUESTIONNAIRE_DUE = "questionnaire-due"
    VISIT_SUSPENDED = "visit-suspended"
    VISIT_RESUMED = "visit-resumed"
    OFFER = "offer"
    OFFER_GONE = "offer-gone"
    TALK_AGAIN = "talk-again"
    # answers to what a patient wrote
    NOTED = "noted"
    DECLINED = "declined"
    OPTED_OUT = "opted-out"
    OPTED_IN = "opted-in"
    HELP = "help"
    EMERGENCY = "emergency"
    # to staff
    AGENDA = "agenda"
    UNREADY = "unready"
    UNCONFIRMED = "unconfirmed"
    SAFETY_UNANSWERED = "safety-unanswered"
    CREDENTIAL_EXPIRING = "credential-expiring"
    INTEGRATION_UNBOOKED = "integration-unbooked"
    MESSAGE_FAILED = "message-failed"
    CRISIS = "crisis"
    WATCH_LATE = "watch-late"
    ANSWERS_FLAGGED = "answers-flagged"
    GATE_REOPENED = "gate-reopened"
    PAPERWORK_DUE = "paperwork-due"
    INCIDENT = "incident"
    BREAK_GLASS = "break-glass"
    # about an account
    ACCOUNT_INVITATION = "account-invitation"
    PASSWORD_RESET = "password-reset"  # noqa: S105
    ACCOUNT_CHANGED = "account-changed"


class Condition(StrEnum):
    """What must hold when a message's time has come, for it to be said at all."""

    UNCONFIRMED = "unconfirmed"
    """The patient has not said that they will come."""
    CHECKLIST_OPEN = "checklist-open"
    """Something of the patient's own is still to be done."""
    QUESTIONS_OPEN = "questions-open"
    """A questionnaire that the visit asks the patient for is not filled in yet."""
    ESCORT_MISSING = "escort-missing"
    """Nobody is named to take the patient home."""
    FIRST_VISIT = "first-visit"
    """No visit of this patient has taken place yet."""
    EARLIER_NOSHOW = "earlier-noshow"
    """The patient has missed a visit before."""
    SAFETY_UNANSWERED = "safety-unanswered"
    """Nobody has heard from the patient since the visit."""
    UNREADY = "unready"
    """A gate that the visit must pass to begin is shut."""
    INTEGRATION_UNBOOKED = "integration-unbooked"
    """An integration that comes next in the course is not booked."""
    PAPERWORK_OPEN = "paperwork-open"
    """The visit took place, and something that is due after it is still to be done."""


class Channel(StrEnum):
    """The way a message travels."""

    EMAIL = "email"
    SMS = "sms"


class ReplyMeaning(StrEnum):
    """What a patient's answer was taken to mean."""

    CONFIRM = "confirm"
    MOVE = "move"
    ACCEPT = "accept"
    DECLINE = "decline"
    WELL = "well"
    CALL_ME = "call-me"
    STOP = "stop"
    START = "start"
    HELP = "help"
    CRISIS = "crisis"
    OTHER = "other"


class TaskKind(StrEnum):
    """What staff are to do because a message cannot (FHIR Task.code)."""

    CALL_PATIENT = "call-patient"
    CONFIRM_BY_PHONE = "confirm-by-phone"
    MOVE_VISIT = "move-visit"
    READ_REPLY = "read-reply"
    CRISIS = "crisis"
    SAFETY_CHECK = "safety-check"
    CHECK_ADDRESS = "check-address"
    BOOK_INTEGRATION = "book-integration"
    RENEW_CREDENTIAL = "renew-credential"
    MAKE_READY = "make-ready"
    STAFF_GROUP = "staff-group"
    CHECK_CALENDAR = "check-calendar"
    WATCH_LATE = "watch-late"
    READ_ANSWERS = "read-answers"
    SETTLE_ANEW = "settle-anew"
    FIND_ESCORT = "find-escort"
    DECIDE_VISIT = "decide-visit"
    SEND_PAPERWORK = "send-paperwork"
    FOLLOW_INCIDENT = "follow-incident"
    ONLY_DOSES = "only-doses"
    RESCREEN = "rescreen"
    CHECK_WEBHOOK = "check-webhook"
    REVIEW_BREAK_GLASS = "review-break-glass"


class MessageState(StrEnum):
    """Where a message stands; the arrows between them are in notifications/queue.py."""

    SCHEDULED = "scheduled"
    SENDING = "sending"
    UNCERTAIN = "uncertain"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"


class DeliveryState(StrEnum):
    """Where an event stands on its way to a webhook; see notifications/hooks.py."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    HELD = "held"
    """Its webhook is switched off; it goes out once that is switched on."""


class SwitchedOff(StrEnum):
    """Why a webhook is told of nothing."""

    BY_HAND = "by-hand"
    GONE = "gone"
    """It answered that it wants no more (410)."""
    FAILING = "failing"
    """Nothing had come through for days."""


class WaitingState(StrEnum):
    """Where an entry of the waitlist stands."""

    WAITING = "waiting"
    SERVED = "served"
    """Its step has got a visit, or an earlier one."""
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    """There is nothing to wait for any more."""


class OfferState(StrEnum):
    """Where an offer stands."""

    STANDING = "standing"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    EXPIRED = "expired"
    LOST = "lost"
    """Somebody was faster."""
    WITHDRAWN = "withdrawn"
    """The patient waits no more."""


class AuditOutcome(StrEnum):
    """What became of an act in the audit trail (FHIR AuditEvent.outcome)."""

    SUCCESS = "success"
    DENIED = "denied"
    FAILURE = "failure"


class Role(StrEnum):
    """What a caller of the API may do here."""

    ADMIN = "admin"
    SCHEDULER = "scheduler"
    CLINICIAN = "clinician"
    AUDITOR = "auditor"


class TenancyStatus(StrEnum):
    """Where a clinic stands with whoever runs the service for it."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    """No door opens and nothing is said, until it is resumed."""
    CLOSED = "closed"
    """The same, but that everything can be taken out; after a while it may be shredded."""
    SHREDDING = "shredding"
    """Its rows are being deleted, and there is no way back."""
    SHREDDED = "shredded"


class UserStatus(StrEnum):
    """Where a staff account stands."""

    INVITED = "invited"
    """Made, and nobody has chosen a password yet."""
    ACTIVE = "active"
    DISABLED = "disabled"


class DisclosurePurpose(StrEnum):
    """What a patient lets their records be disclosed for (42 CFR 2.31)."""

    CARE = "treatment-payment-operations"
    """Once, for all of it that is to come."""
    OTHER = "other"


class TokenPurpose(StrEnum):
    """What a link to an account is for."""

    INVITATION = "invitation"
    RESET = "reset"


class CourseStatus(StrEnum):
    """Where a course stands (FHIR R4 CarePlan.status, those we use).

    Source: https://hl7.org/fhir/R4/valueset-request-status.html
    """

    ACTIVE = "active"
    COMPLETED = "completed"
    REVOKED = "revoked"


class Place(StrEnum):
    """Where a visit takes place."""

    SITE = "site"
    """In a room of the clinic."""
    TELEHEALTH = "telehealth"
    """By video: no room, and a clinician who is licensed in the state where the patient is."""
    EITHER = "either"


class Severity(StrEnum):
    """How hard a course rule says no."""

    OFF = "off"
    WARN = "warn"
    BLOCK = "block"


class ImportKind(StrEnum):
    """What the lines of an import are about."""

    SITES = "sites"
    ROOMS = "rooms"
    DEVICES = "devices"
    PRACTITIONERS = "practitioners"
    PATIENTS = "patients"


class ImportFormat(StrEnum):
    """How a file of many records is written."""

    CSV = "csv"
    NDJSON = "ndjson"


STAGE_ORDER: dict[Stage, int] = {stage: number for number, stage in enumerate(Stage)}
"""Stages as numbers, so that `at or before` can be asked."""
