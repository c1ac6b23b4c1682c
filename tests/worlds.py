"""A clinic with one of everything that an id in an address, a query or a body can name.

What a kind of thing is called is the word before its id in an address: `/patients/<id>`.
"""

from dataclasses import dataclass
from datetime import timedelta
from secrets import token_urlsafe
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from identity import sessions
from identity.sessions import SignedIn, Whence
from models import (
    ApiKey,
    Appointment,
    Archive,
    ArchivePart,
    BreakGlass,
    BusyFeed,
    CadenceOverride,
    CalendarFeed,
    ChecklistItem,
    Clearance,
    Closure,
    Consent,
    ConsentText,
    Departure,
    Device,
    DisclosureConsent,
    Disruption,
    Escort,
    FreedTime,
    GroupSession,
    HealthEvent,
    IdentityProvider,
    Import,
    Incident,
    Message,
    Observation,
    Offer,
    OpeningHours,
    Override,
    Passkey,
    ProtocolVersion,
    Qualification,
    QuestionnaireResponse,
    Reconciliation,
    Reply,
    Room,
    Task,
    WaitlistEntry,
    Webhook,
    WebhookDelivery,
    Wording,
    enter_clinic,
)
from models.vocabulary import (
    AppointmentStatus,
    Channel,
    ClearanceOutcome,
    DisclosurePurpose,
    HealthEventKind,
    ImportFormat,
    ImportKind,
    MessageKind,
    OfferState,
    Owner,
    PractitionerRole,
    Recipient,
    ReplyMeaning,
    Role,
    StepKind,
    TaskKind,
    TaskStatus,
    TokenPurpose,
    WaitingState,
    WayHome,
)
from notifications import links, reading, signing
from scheduler import booking, courses, facts
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    clear,
    make_practitioner,
    make_protocol,
    make_room,
    make_world,
    screen,
)
from tests.groups import group_content
from tests.staff import make_user

NOW = SUNDAY_NOON
HOUR = timedelta(hours=1)
DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
SECRET = "for tests"


@dataclass(frozen=True, slots=True)
class Furnished:
    """A clinic, and how to name what is in it."""

    world: World
    ids: dict[str, UUID]
    """One of every kind."""
    tokens: dict[str, str]
    """What opens a door by being known, by the endpoint of the door."""
    cookie: str
    """The session of somebody who may do all that any role may, with their second factor."""
    half: str
    """The same of somebody who has not given it yet."""


class Furnisher:
    """Puts one of everything into a small clinic, which the session has entered."""

    def __init__(self, session: Session, world: World) -> None:
        self.session, self.world = session, world
        self.ids: dict[str, UUID] = {
            "clinics": world.clinic_id,
            "sites": world.site_id,
            "patients": world.patient_id,
            "practitioners": world.therapist_id,
            "schedules": world.therapist,
        }
        self.tokens: dict[str, str] = {}

    def put(self, kind: str, row: Any) -> Any:
        """Add a row of a kind."""
        row.id = uuid7()
        self.session.add(row)
        self.session.flush()
        self.ids[kind] = row.id
        return row

    def find(self, kind: str, model: Any, *where: Any) -> Any:
        """Name one that is there already."""
        row = self.session.scalars(select(model).where(*where).order_by(model.id)).first()
        assert row is not None, kind
        self.ids[kind] = row.id
        return row

    def all(self) -> None:
        self.webhooks()  # first: what happens next is told to it
        self.archives()
        self.visit()
        self.of_patient()
        self.of_visit()
        self.waitlist()
        self.setup()
        self.plans()

    def webhooks(self) -> None:
        hook = self.put("webhooks", Webhook(url="https://8.8.8.8/x", event_types=["*"]))
        signing.renew(reading.raw(self.session), hook.id, DAY)

    def archives(self) -> None:
        now = NOW
        told = {"asked_by": "test", "asked_at": now, "total": 1, "done": 1, "version": 1}
        whole = {"bytes": 1, "sha256": "0" * 64, "ended_at": now, "expires_at": now + 7 * DAY}
        made = self.put("archives", Archive(**told, **whole))
        self.session.add(ArchivePart(archive_id=made.id, number=0, content=b"x"))

    def visit(self) -> None:
        patient_id = self.world.patient_id
        clear(self.session, patient_id, ["medical-clearance", "consent"])
        version_id = self.world.protocol_version_id
        course = courses.open_course(self.session, patient_id, version_id, by=DESK)
        steps = facts.steps_of(self.session, course.id)
        self.ids |= {"courses": course.id, "steps": steps[1].id}
        order = Order(patient_id=patient_id, starts_at=MONDAY_9, course_step_id=steps[0].id)
        self.ids["appointments"] = booking.book(self.session, order, by=DESK, now=NOW).id
        self.find("messages", Message)
        self.find("webhook-deliveries", WebhookDelivery)
        self.find(
            "checklist-items",
            ChecklistItem,
            ChecklistItem.appointment_id == self.ids["appointments"],
        )

    def of_patient(self) -> None:
        about: dict[str, Any] = {"patient_id": self.world.patient_id}
        noted: dict[str, Any] = {"noted_by": "test", "noted_at": NOW}
        new = HealthEventKind.NEW_DIAGNOSIS
        self.put("health-events", HealthEvent(**about, **noted, kind=new, happened_at=NOW))
        incident = Incident(**about, **noted, code="fall", title="A fall", occurred_at=NOW)
        self.put("incidents", incident)
        self.ids["screens"] = screen(self.session, self.world.patient_id)
        told = Reconciliation(
            **about, reconciled_at=NOW, recorded_at=NOW, medicines=[], reconciled_by="test"
        )
        self.put("reconciliations", told)
        self.put(
            "questionnaire-responses",
            QuestionnaireResponse(
                **about,
                instrument="phq-9",
                instrument_version="1",
                answers={},
                score=3,
                shuts=False,
                authored_at=NOW,
                authored_by="test",
                noted_at=NOW,
            ),
        )
        self.put(
            "break-glass",
            BreakGlass(
                **about,
                asked_by="user:test",
                reason="found unconscious in the hall",
                asked_at=NOW,
                expires_at=NOW + HOUR,
            ),
        )
        due = {"due_at": NOW + DAY, "status": TaskStatus.REQUESTED}
        self.put(
            "tasks",
            Task(
                **about,
                **due,
                kind=TaskKind.CALL_PATIENT,
                owner=Owner.FRONT_DESK,
                urgent=False,
                subject_id=self.world.patient_id,
                appointment_id=self.ids["appointments"],
            ),
        )

        said = Reply(
            **about,
            provider="test",
            reference="SM0",
            channel=Channel.SMS,
            meaning=ReplyMeaning.OTHER,
            body="Hello",
            at=NOW,
        )
        self.put("replies", said)

    def of_visit(self) -> None:
        visit: dict[str, Any] = {"appointment_id": self.ids["appointments"]}
        about: dict[str, Any] = {"patient_id": self.world.patient_id}
        noted: dict[str, Any] = {"noted_by": "test", "noted_at": NOW}
        escort = Escort(
            **visit,
            name="Bo Example",
            phone="+12125550155",
            relation="friend",
            may_message=True,
            named_by="test",
        )
        self.put("escort", escort)
        left = Departure(**visit, **noted, way=WayHome.ESCORT, left_at=NOW, in_error=False)
        self.put("departure", left)
        given = Override(
            **visit, code="escort", reason="x", by="t", at=NOW, starts_at=MONDAY_9, revision=1
        )
        self.put("overrides", given)
        seen = Observation(**visit, **about, **noted, taken_at=NOW, values={"systolic": 120})
        self.put("observations", seen)
        text = ConsentText(
            code="consent",
            number=1,
            language="en",
            title="What we agree on",
            body="Some words.",
            renews=False,
            written_by="test",
            written_at=NOW,
        )
        self.put("consent-texts", text)
        vouched = Clearance(
            **about,
            gate="consent",
            outcome=ClearanceOutcome.CLEARED,
            cleared_at=NOW,
            cleared_by="patient",
            noted_at=NOW,
            text_id=text.id,
        )
        self.put("clearances", vouched)
        self.put(
            "consents",
            Consent(
                **visit,
                **about,
                course_id=self.ids["courses"],
                text_id=text.id,
                clearance_id=vouched.id,
                gate="consent",
                name="Ada Example",
                language="en",
                signed_at=NOW,
                clinic_name="Test Practice",
                time_zone="America/New_York",
            ),
        )
        self.put(
            "disclosure-consents",
            DisclosureConsent(
                **about,
                purpose=DisclosurePurpose.CARE,
                recipient="Those who treat me",
                signed_on=NOW.date(),
                noted_by="test",
            ),
        )
        new = links.New(visit["appointment_id"], about["patient_id"], NOW + DAY)
        [self.tokens["patient"]] = links.mint(reading.raw(self.session), [new])
        clinic_id = self.world.clinic_id
        self.tokens["escorting"] = links.escort_token(SECRET, clinic_id, escort.id)
        self.tokens["stopping"] = links.unsubscribe_token(SECRET, clinic_id, about["patient_id"])

    def waitlist(self) -> None:
        about: dict[str, Any] = {"patient_id": self.world.patient_id}
        when = {"starts_at": MONDAY_9 + DAY, "ends_at": MONDAY_9 + DAY + HOUR}
        entry = WaitlistEntry(
            **about,
            course_step_id=self.ids["steps"],
            waiting_since=NOW,
            standby=False,
            state=WaitingState.WAITING,
            asked_by="test",
        )
        self.put("waitlist", entry)
        freed = FreedTime(
            **when, appointment_id=self.ids["appointments"], site_id=self.world.site_id
        )
        self.put("freed-times", freed)
        proposed = Appointment(
            **about,
            **when,
            protocol_version_id=self.world.protocol_version_id,
            visit="preparation",
            kind=StepKind.PREPARATION,
            site_id=self.world.site_id,
            status=AppointmentStatus.PROPOSED,
            booked_by="test",
        )
        self.put("proposed", proposed)
        another = ChecklistItem(
            appointment_id=proposed.id,
            code="read-guide",
            title="Read the guide",
            owner=Owner.PATIENT,
            due_at=NOW + DAY,
            status=TaskStatus.REQUESTED,
        )
        self.put("other-checklist", another)
        self.put(
            "offers",
            Offer(
                **about,
                entry_id=entry.id,
                freed_time_id=freed.id,
                appointment_id=proposed.id,
                assignments=[],
                offered_at=NOW,
                expires_at=NOW + HOUR,
                state=OfferState.STANDING,
            ),
        )

    def setup(self) -> None:
        self.find("rooms", Room, Room.schedule_id == self.world.consulting_room)
        self.find("devices", Device)
        self.find(
            "qualifications",
            Qualification,
            Qualification.practitioner_id == self.ids["practitioners"],
        )
        of = {"schedule_id": self.world.therapist}
        self.find("opening-hours", OpeningHours, OpeningHours.schedule_id == self.world.therapist)
        away = {"starts_at": NOW + 30 * DAY, "ends_at": NOW + 31 * DAY, "reason": "away"}
        self.put("closures", Closure(**of, **away))
        self.put(
            "busy-feeds",
            BusyFeed(
                **of,
                url="https://calendar.example.com/x.ics",
                time_zone="America/New_York",
                due_at=NOW,
            ),
        )
        token = self.tokens["feeds"] = token_urlsafe(32)
        self.put(
            "calendar-feeds", CalendarFeed(**of, token_hash=links.digest(token), made_by="test")
        )
        version = self.session.get_one(
            ProtocolVersion, (self.world.clinic_id, self.world.protocol_version_id)
        )
        self.ids["protocols"] = version.protocol_id
        self.put(
            "cadences",
            CadenceOverride(
                protocol_id=version.protocol_id, cadence="plain", number=1, written_by="test"
            ),
        )
        self.put(
            "wordings",
            Wording(
                kind=MessageKind.REMINDER,
                recipient=Recipient.PATIENT,
                channel=Channel.EMAIL,
                language="en",
                number=1,
                subject="Hello",
                body="$link",
                written_by="test",
            ),
        )
        self.put(
            "identity-providers",
            IdentityProvider(
                name="Elsewhere",
                issuer="https://accounts.example.org",
                client_id="us",
                client_secret="hush",
            ),
        )
        self.put(
            "imports",
            Import(
                kind=ImportKind.SITES,
                format=ImportFormat.CSV,
                content="name",
                total=1,
                made_by="test",
                handed_in_at=NOW,
            ),
        )
        self.put(
            "api-keys",
            ApiKey(
                name="old",
                role=Role.AUDITOR,
                prefix="ag_old",
                secret_hash=links.digest(token_urlsafe(32)),
                expires_at=NOW + 30 * DAY,
            ),
        )

    def plans(self) -> None:
        version_id = self.ids["protocol-versions"] = make_protocol(self.session, group_content())
        make_room(self.session, self.world.site_id, "group")
        make_practitioner(self.session, self.world.site_id, PractitionerRole.THERAPIST)
        meeting = GroupSession(
            protocol_version_id=version_id,
            visit="preparation",
            kind=StepKind.PREPARATION,
            site_id=self.world.site_id,
            starts_at=MONDAY_9 + 2 * DAY,
            ends_at=MONDAY_9 + 2 * DAY + HOUR,
            places=6,
            made_by="test",
        )
        self.put("group-sessions", meeting)
        when = {"starts_at": NOW + 40 * DAY, "ends_at": NOW + 41 * DAY}
        hit: dict[str, Any] = {**when, "schedule_id": self.world.therapist}
        closure = self.put("disruption-closures", Closure(**hit, reason="ill"))
        ill = Disruption(**hit, reason="ill", closure_id=closure.id, told_by="test")
        self.put("disruptions", ill)

    def people(self, email: str) -> tuple[str, str]:
        """Somebody with every role, signed in twice; and somebody halfway in."""
        user = make_user(self.session, *Role, email=email, practitioner_id=self.world.prescriber_id)
        other = make_user(self.session, Role.AUDITOR, email=f"other-{email}")
        self.ids["users"] = other.id
        self.put(
            "passkeys",
            Passkey(
                user_id=user.id,
                credential_id=token_urlsafe(16).encode(),
                public_key=b"key",
                sign_count=0,
                name="phone",
            ),
        )
        whence = Whence("10.0.0.1", "a browser")
        elsewhere, _ = sessions.begin(self.session, user, whence, NOW)
        self.ids["sessions"] = elsewhere.id
        begun, _ = sessions.begin(self.session, user, whence, NOW)
        cookie = sessions.complete(self.session, SignedIn(user, begun, ""), NOW)
        _, half = sessions.begin(self.session, user, whence, NOW)
        self.account = links.AccountLink(other.id, TokenPurpose.RESET, NOW + DAY)
        return cookie, half


def furnish(service: Session, worker: Session, name: str) -> Furnished:
    """A clinic with one of everything, also of what the worker alone may write; committed."""
    world = make_world(service, name)
    there = Furnisher(service, world)
    there.all()
    cookie, half = there.people("ann@example.com")
    service.commit()
    enter_clinic(worker, world.clinic_id)
    there.tokens["signing_in"] = links.mint_account(reading.raw(worker), there.account)
    worker.commit()
    there.tokens["elsewhere"] = there.tokens["signing_in"]
    ids = there.ids
    ids |= {
        "provider": ids["identity-providers"],
        "providers": ids["identity-providers"],
        "checklist": ids["checklist-items"],
        "papers": ids["consents"],
        "other-papers": ids["clearances"],
        "status": ids["messages"],
        "sign-in": world.clinic_id,
        "sms": world.clinic_id,
    }
    return Furnished(world, ids, there.tokens, cookie, half)
