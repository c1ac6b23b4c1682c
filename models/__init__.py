"""What the clinic stores: one module per aggregate, no rules, no queries.

The floor of the house: models imports nothing of ours. Rules live in scheduler/.
"""

from models.access import ApiKey, IdempotencyKey, PatientLink, Quota
from models.account import (
    AccountToken,
    IdentityProvider,
    LinkedIdentity,
    Passkey,
    RecoveryCode,
    SignInBegun,
    SignInDelay,
    UserAccount,
    UserSession,
)
from models.appointment import SERVES, Appointment, AppointmentEvent, Override
from models.archive import Archive, ArchivePart
from models.audit import AuditEvent, AuditHead, BreakGlass
from models.base import Base, Tenanted, db, enter_clinic, hide_part2
from models.bulk import Import, ImportFault
from models.checklist import ChecklistItem, Clearance, Departure, Escort, HealthEvent
from models.clinic import Clinic, Device, Room, Site
from models.clinic_key import ClinicKey
from models.consent import Consent, ConsentText, DisclosureConsent
from models.course import Course, CourseStep
from models.group import GroupSession
from models.incident import Incident
from models.message import Message, MessageArchive, Receipt
from models.observation import Observation
from models.people import Patient, Practitioner, Qualification
from models.plan import Disruption, Proposal
from models.protocol import Protocol, ProtocolVersion
from models.questionnaire import InstrumentWording, QuestionnaireDraft, QuestionnaireResponse
from models.report import ReadinessSnapshot
from models.schedule import (
    TAKEN_BY,
    BusyFeed,
    CalendarChange,
    Closure,
    OpeningHours,
    Schedule,
    Slot,
)
from models.screening import (
    Eligibility,
    MedicineRuling,
    Reconciliation,
    Screen,
    ScreenDecision,
)
from models.talk import (
    CadenceOverride,
    CalendarFeed,
    ChannelConsent,
    Reply,
    Task,
    Wording,
)
from models.tenancy import OperatorEvent, OperatorKey, Tenancy
from models.waitlist import FreedTime, Offer, WaitlistEntry
from models.webhook import (
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEvent,
    WebhookSecret,
)
from models.worker import Restoration, SendBucket, Worker

__all__ = [
    "SERVES",
    "TAKEN_BY",
    "AccountToken",
    "ApiKey",
    "Appointment",
    "AppointmentEvent",
    "Archive",
    "ArchivePart",
    "AuditEvent",
    "AuditHead",
    "Base",
    "BreakGlass",
    "BusyFeed",
    "CadenceOverride",
    "CalendarChange",
    "CalendarFeed",
    "ChannelConsent",
    "ChecklistItem",
    "Clearance",
    "Clinic",
    "ClinicKey",
    "Closure",
    "Consent",
    "ConsentText",
    "Course",
    "CourseStep",
    "Departure",
    "Device",
    "DisclosureConsent",
    "Disruption",
    "Eligibility",
    "Escort",
    "FreedTime",
    "GroupSession",
    "HealthEvent",
    "IdempotencyKey",
    "IdentityProvider",
    "Import",
    "ImportFault",
    "Incident",
    "InstrumentWording",
    "LinkedIdentity",
    "MedicineRuling",
    "Message",
    "MessageArchive",
    "Observation",
    "Offer",
    "OpeningHours",
    "OperatorEvent",
    "OperatorKey",
    "Override",
    "Passkey",
    "Patient",
    "PatientLink",
    "Practitioner",
    "Proposal",
    "Protocol",
    "ProtocolVersion",
    "Qualification",
    "QuestionnaireDraft",
    "QuestionnaireResponse",
    "Quota",
    "ReadinessSnapshot",
    "Receipt",
    "Reconciliation",
    "RecoveryCode",
    "Reply",
    "Restoration",
    "Room",
    "Schedule",
    "Screen",
    "ScreenDecision",
    "SendBucket",
    "SignInBegun",
    "SignInDelay",
    "Site",
    "Slot",
    "Task",
    "Tenancy",
    "Tenanted",
    "UserAccount",
    "UserSession",
    "WaitlistEntry",
    "Webhook",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookSecret",
    "Wording",
    "Worker",
    "db",
    "enter_clinic",
    "hide_part2",
]
