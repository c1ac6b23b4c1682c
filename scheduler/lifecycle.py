"""The life of a visit: which act leads from which status to which. One table, nothing else.

Pure: no database, no clock, no Flask.
Source: https://hl7.org/fhir/R4/valueset-appointmentstatus.html for the statuses.
"""

from dataclasses import dataclass
from enum import StrEnum

from models.vocabulary import AppointmentStatus, Progress, Stage, StepKind
from scheduler.errors import WrongStatus


class Action(StrEnum):
    """What can be done to a visit."""

    HOLD = "hold"
    BOOK = "book"
    CONFIRM = "confirm"
    RESCHEDULE = "reschedule"
    CANCEL = "cancel"
    ARRIVE = "arrive"
    START_DOSING = "start-dosing"
    START_RECOVERY = "start-recovery"
    DISCHARGE = "discharge"
    FULFIL = "fulfil"
    NOSHOW = "noshow"
    EXPIRE = "expire"
    OFFER = "offer"
    END_OFFER = "end-offer"
    ENTER_IN_ERROR = "enter-in-error"


@dataclass(frozen=True, slots=True)
class State:
    """Where a visit stands: its status, and on the day its progress."""

    status: AppointmentStatus
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One arrow of the table."""

    action: Action
    source: State
    target: State
    kinds: frozenset[StepKind] = frozenset(StepKind)


_PROPOSED = State(AppointmentStatus.PROPOSED)
_PENDING = State(AppointmentStatus.PENDING)
_BOOKED = State(AppointmentStatus.BOOKED)
_WAITING = State(AppointmentStatus.ARRIVED, Progress.WAITING)
_DOSING = State(AppointmentStatus.CHECKED_IN, Progress.DOSING)
_RECOVERING = State(AppointmentStatus.CHECKED_IN, Progress.RECOVERING)
_DISCHARGED = State(AppointmentStatus.CHECKED_IN, Progress.DISCHARGED)
_FULFILLED = State(AppointmentStatus.FULFILLED)
_CANCELLED = State(AppointmentStatus.CANCELLED)
_NOSHOW = State(AppointmentStatus.NOSHOW)
_IN_ERROR = State(AppointmentStatus.ENTERED_IN_ERROR)

_DOSED = frozenset({StepKind.DOSING})
_TALKED = frozenset(StepKind) - _DOSED

TRANSITIONS = (
    Transition(Action.CONFIRM, _PENDING, _BOOKED),
    Transition(Action.CONFIRM, _BOOKED, _BOOKED),
    Transition(Action.RESCHEDULE, _PENDING, _PENDING),
    Transition(Action.RESCHEDULE, _BOOKED, _BOOKED),
    Transition(Action.CANCEL, _PENDING, _CANCELLED),
    Transition(Action.CANCEL, _BOOKED, _CANCELLED),
    Transition(Action.CANCEL, _WAITING, _CANCELLED),
    Transition(Action.EXPIRE, _PENDING, _CANCELLED),
    Transition(Action.END_OFFER, _PROPOSED, _CANCELLED),
    Transition(Action.ARRIVE, _BOOKED, _WAITING),
    Transition(Action.NOSHOW, _BOOKED, _NOSHOW),
    Transition(Action.START_DOSING, _WAITING, _DOSING, _DOSED),
    Transition(Action.START_RECOVERY, _DOSING, _RECOVERING, _DOSED),
    Transition(Action.DISCHARGE, _RECOVERING, _DISCHARGED, _DOSED),
    Transition(Action.FULFIL, _DISCHARGED, _FULFILLED, _DOSED),
    Transition(Action.FULFIL, _WAITING, _FULFILLED, _TALKED),
    *(
        Transition(Action.ENTER_IN_ERROR, source, _IN_ERROR)
        for source in (
            *(_BOOKED, _WAITING, _DOSING, _RECOVERING, _DISCHARGED),
            *(_FULFILLED, _NOSHOW, _CANCELLED),
        )
    ),
)
"""What is not here cannot be done. A dosing visit is fulfilled by way of discharge alone.

What was noted of a visit that never was is taken back by one act, from wherever it stands.
"""

STAGE: dict[Action, Stage] = {
    Action.HOLD: Stage.BOOKING,
    Action.BOOK: Stage.BOOKING,
    Action.RESCHEDULE: Stage.BOOKING,
    Action.ARRIVE: Stage.ARRIVAL,
    Action.START_DOSING: Stage.DOSE,
    Action.DISCHARGE: Stage.DISCHARGE,
}
"""The gates that an act must find open: those that shut its stage or an earlier one."""


def stage_of(action: Action, kind: StepKind) -> Stage | None:
    """The stage whose gates an act must find open.

    A visit without a dose has no discharge: the patient leaves as it is fulfilled.
    """
    if action is Action.FULFIL and kind in _TALKED:
        return Stage.DISCHARGE
    return STAGE.get(action)


def follow(action: Action, state: State, kind: StepKind) -> State:
    """Say where `action` leads, or refuse with `WrongStatus`."""
    for arrow in TRANSITIONS:
        if arrow.action is action and arrow.source == state and kind in arrow.kinds:
            return arrow.target
    raise WrongStatus(
        f"A {kind} visit that is {_told(state)} cannot {action}.",
        visit_status=state.status,
        progress=state.progress,
        possible=possible(state, kind),
    )


def possible(state: State, kind: StepKind) -> list[Action]:
    """The acts that the table allows from here, whatever the gates say."""
    return [arrow.action for arrow in TRANSITIONS if arrow.source == state and kind in arrow.kinds]


def stage_ahead(state: State, kind: StepKind) -> Stage | None:
    """The next stage at which gates will be asked. None: none any more."""
    if state.status in {AppointmentStatus.PENDING, AppointmentStatus.BOOKED}:
        return Stage.ARRIVAL
    if kind in _TALKED:
        return Stage.DISCHARGE if state == _WAITING else None
    if state == _WAITING:
        return Stage.DOSE
    return Stage.DISCHARGE if state in {_DOSING, _RECOVERING} else None


def _told(state: State) -> str:
    return f"{state.status} ({state.progress})" if state.progress else str(state.status)
