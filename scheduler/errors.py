"""Refusals. One class per reason a rule can say no; the edge decides how to show it."""


class Refusal(Exception):
    """A request that the rules turn down. Nothing has been written.

    `code` is stable and public (it is the last part of the problem URI). `facts` are
    JSON-ready, hold no names, and are what a person needs to choose differently.
    """

    code = "refused"

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class NotFound(Refusal):
    """No such thing, or none that the caller may see."""

    code = "not-found"


class Stale(Refusal):
    """Somebody changed the thing since the caller last read it."""

    code = "stale"


class KeyEnded(Refusal):
    """An API key that was revoked or ran out: it is not brought back."""

    code = "key-ended"


class Taken(Refusal):
    """Something else already has this name, number or address."""

    code = "already-exists"


class Unfit(Refusal):
    """A request that is well formed and makes no sense here."""

    code = "unfit"


class BadCalendar(Refusal):
    """An iCalendar of which not everything can be used."""

    code = "bad-calendar"


class StartsInThePast(Refusal):
    """The visit would start at or before the time of the request."""

    code = "starts-in-the-past"


class NonexistentLocalTime(Refusal):
    """Clocks skip this time on that day: nobody can ever read it there."""

    code = "nonexistent-local-time"


class OffGrid(Refusal):
    """The start is not on the grid of five minutes that schedules are kept in."""

    code = "off-grid"


class UnfitAssignment(Refusal):
    """The named people, room and devices are not what the visit asks for."""

    code = "unfit-assignment"


class NotQualified(Refusal):
    """A clinician's licence for the role does not hold on the day of the visit."""

    code = "not-qualified"


class NotOpen(Refusal):
    """A clinician, room or device is not working at the site at that time."""

    code = "not-open"


class SlotTaken(Refusal):
    """A clinician, room, device or the patient is already taken at that time."""

    code = "slot-taken"


class SessionFull(Refusal):
    """Every place of the group session is taken."""

    code = "session-full"


class Understaffed(Refusal):
    """The group session has too few staff for one more patient to begin."""

    code = "understaffed"


class AtCapacity(Refusal):
    """A clinician serves as many visits that day or week as the clinic allows."""

    code = "at-capacity"


class NoOpening(Refusal):
    """Nobody and no room is free together at that time."""

    code = "no-opening"


class ProposalLost(Refusal):
    """Somebody was faster: some of the proposal's times are taken. None of it was booked."""

    code = "proposal-lost"


class ProposalClosed(Refusal):
    """The proposal has expired, or was accepted before."""

    code = "proposal-closed"


class StepAlreadyBooked(Refusal):
    """The step of the course has a visit already."""

    code = "step-already-booked"


class StepSkipped(Refusal):
    """The step of the course was skipped; whoever wants it after all takes that back first."""

    code = "step-skipped"


class CourseClosed(Refusal):
    """The course is completed or was discontinued."""

    code = "course-closed"


class NotSigned(Refusal):
    """The protocol version is a draft: nobody has signed it."""

    code = "not-signed"


class TooYoung(Refusal):
    """The patient is younger on the day than the protocol allows. Nobody may override it."""

    code = "too-young"


class NotReady(Refusal):
    """A gate of the visit is shut at this stage."""

    code = "not-ready"


class RuleBroken(Refusal):
    """The time breaks a rule of the protocol, and no sufficient reason was given."""

    code = "rule-broken"


class MayNotOverride(Refusal):
    """The caller does not hold a role that may override this."""

    code = "may-not-override"


class WrongStatus(Refusal):
    """The visit is not in a status from which this can be done."""

    code = "wrong-status"


class HoldExpired(Refusal):
    """The time was held, but not for so long."""

    code = "hold-expired"


class TooManyHolds(Refusal):
    """The caller holds as many times as the clinic lets one caller hold."""

    code = "too-many-holds"


class TooManyWebhooks(Refusal):
    """The clinic has as many webhooks as it may."""

    code = "too-many-webhooks"


class OfferGone(Refusal):
    """The offer does not stand any more: somebody was faster, or it has run out."""

    code = "offer-gone"


class TooManyTries(Refusal):
    """It failed too often lately; `retry_after` seconds later it may be tried again."""

    code = "too-many-tries"


class WeakPassword(Refusal):
    """The password is too short, or one that is guessed soon."""

    code = "weak-password"


class NotProven(Refusal):
    """What was shown to prove who somebody is does not."""

    code = "not-proven"


class StepUpNeeded(Refusal):
    """Nobody does this whose second factor was not given in the last minutes."""

    code = "step-up-needed"


class ClinicSuspended(Refusal):
    """Whoever runs the service has suspended the clinic: no door of it opens."""

    code = "clinic-suspended"


class ClinicClosed(Refusal):
    """The clinic is closed: nothing but an archive of all it has can be had."""

    code = "clinic-closed"


class LimitReached(Refusal):
    """The clinic has as many of these as whoever runs the service lets it have."""

    code = "limit-reached"


class LegalHold(Refusal):
    """The clinic's records are under a legal hold: it is not shredded."""

    code = "legal-hold"


class VisitsUnderWay(Refusal):
    """Somebody is at the clinic for a visit: its doors are not shut behind them."""

    code = "visits-under-way"


class NotOwnPage(Refusal):
    """A signed-in browser sends this, and not from a page of ours."""

    code = "not-own-page"


class TooEarly(Refusal):
    """It is not yet time for this."""

    code = "too-early"


class TooLate(Refusal):
    """The day for this is over."""

    code = "too-late"
