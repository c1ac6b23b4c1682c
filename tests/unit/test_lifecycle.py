"""The life of a visit, every act from everywhere, against an account kept apart from the rules."""

from itertools import product

import pytest

from models.vocabulary import AppointmentStatus, Progress, Stage, StepKind
from scheduler.errors import WrongStatus
from scheduler.lifecycle import Action, State, follow, possible, stage_ahead, stage_of

NOWHERE = "-"
PLACES = {
    "offered": State(AppointmentStatus.PROPOSED),
    "held": State(AppointmentStatus.PENDING),
    "booked": State(AppointmentStatus.BOOKED),
    "here": State(AppointmentStatus.ARRIVED, Progress.WAITING),
    "dosing": State(AppointmentStatus.CHECKED_IN, Progress.DOSING),
    "resting": State(AppointmentStatus.CHECKED_IN, Progress.RECOVERING),
    "leaving": State(AppointmentStatus.CHECKED_IN, Progress.DISCHARGED),
    "done": State(AppointmentStatus.FULFILLED),
    "off": State(AppointmentStatus.CANCELLED),
    "noshow": State(AppointmentStatus.NOSHOW),
    "error": State(AppointmentStatus.ENTERED_IN_ERROR),
}
"""Where a visit can stand."""

DOSED = """
act            offered held   booked here   dosing  resting leaving done  off   noshow error
hold           -       -      -      -      -       -       -       -     -     -      -
book           -       -      -      -      -       -       -       -     -     -      -
offer          -       -      -      -      -       -       -       -     -     -      -
end-offer      off     -      -      -      -       -       -       -     -     -      -
confirm        -       booked booked -      -       -       -       -     -     -      -
reschedule     -       held   booked -      -       -       -       -     -     -      -
cancel         -       off    off    off    -       -       -       -     -     -      -
expire         -       off    -      -      -       -       -       -     -     -      -
arrive         -       -      here   -      -       -       -       -     -     -      -
noshow         -       -      noshow -      -       -       -       -     -     -      -
start-dosing   -       -      -      dosing -       -       -       -     -     -      -
start-recovery -       -      -      -      resting -       -       -     -     -      -
discharge      -       -      -      -      -       leaving -       -     -     -      -
fulfil         -       -      -      -      -       -       done    -     -     -      -
enter-in-error -       -      error  error  error   error   error   error error error  -
"""
"""Of a visit with a dose, where each act leads from each place. To hold, to book and to offer
make a visit; of one that is there they cannot be done."""

TALKED = {
    ("here", "start-dosing"): NOWHERE,
    ("dosing", "start-recovery"): NOWHERE,
    ("resting", "discharge"): NOWHERE,
    ("leaving", "fulfil"): NOWHERE,
    ("here", "fulfil"): "done",
}
"""What is otherwise of a visit without a dose."""

ASKS = {
    "hold": Stage.BOOKING,
    "book": Stage.BOOKING,
    "reschedule": Stage.BOOKING,
    "arrive": Stage.ARRIVAL,
    "start-dosing": Stage.DOSE,
    "discharge": Stage.DISCHARGE,
}
"""The gates of which stage an act asks. No other act asks any, but that a visit without a dose
is left as it is fulfilled."""

AHEAD = {
    StepKind.DOSING: {
        "held": Stage.ARRIVAL,
        "booked": Stage.ARRIVAL,
        "here": Stage.DOSE,
        "dosing": Stage.DISCHARGE,
        "resting": Stage.DISCHARGE,
    },
    None: {"held": Stage.ARRIVAL, "booked": Stage.ARRIVAL, "here": Stage.DISCHARGE},
}
"""The stage whose gates are asked next, by place; of visits without a dose under None."""


def account() -> dict[tuple[str, str], str]:
    """Where each act leads from each place, of a visit with a dose."""
    (_, *places), *rows = (line.split() for line in DOSED.strip().splitlines())
    told: dict[tuple[str, str], str] = {}
    for act, *targets in rows:
        told |= {(place, act): to for place, to in zip(places, targets, strict=True)}
    return told


ACCOUNT = account()
STATES = [State(*pair) for pair in product(AppointmentStatus, [None, *Progress])]


def expected(state: State, action: Action, kind: StepKind) -> State | None:
    place = next((name for name, one in PLACES.items() if one == state), None)
    if place is None:  # a visit never stands there
        return None
    target = ACCOUNT[place, action]
    if kind is not StepKind.DOSING:
        target = TALKED.get((place, action), target)
    return PLACES.get(target)


@pytest.mark.parametrize("kind", StepKind)
@pytest.mark.parametrize("action", Action)
def test_every_act_leads_where_the_account_says_or_nowhere(action: Action, kind: StepKind) -> None:
    for state in STATES:
        target = expected(state, action, kind)
        assert (action in possible(state, kind)) is (target is not None)
        if target is not None:
            assert follow(action, state, kind) == target
            continue
        with pytest.raises(WrongStatus) as refused:
            follow(action, state, kind)
        assert refused.value.facts == {
            "visit_status": state.status,
            "progress": state.progress,
            "possible": possible(state, kind),
        }


def test_no_act_is_offered_twice() -> None:
    for state, kind in product(STATES, StepKind):
        assert len(possible(state, kind)) == len(set(possible(state, kind)))


@pytest.mark.parametrize("kind", StepKind)
@pytest.mark.parametrize("action", Action)
def test_each_act_asks_the_gates_of_its_stage(action: Action, kind: StepKind) -> None:
    leaves = action is Action.FULFIL and kind is not StepKind.DOSING
    assert stage_of(action, kind) == (Stage.DISCHARGE if leaves else ASKS.get(action))


@pytest.mark.parametrize("kind", StepKind)
def test_the_stage_ahead_is_the_next_that_asks(kind: StepKind) -> None:
    ahead = AHEAD.get(kind, AHEAD[None])
    for name, state in PLACES.items():
        assert stage_ahead(state, kind) == ahead.get(name), name


@pytest.mark.parametrize("kind", StepKind)
def test_no_stage_is_left_out_on_the_way(kind: StepKind) -> None:
    """Whoever follows the acts from a booking meets the gates of each stage, in this order."""
    state, met = PLACES["booked"], []
    for action in (Action.ARRIVE, Action.START_DOSING, Action.START_RECOVERY, Action.DISCHARGE):
        if action in possible(state, kind):
            assert stage_of(action, kind) in {None, stage_ahead(state, kind)}
            state = follow(action, state, kind)
            met.append(stage_of(action, kind))
    dosed = [Stage.ARRIVAL, Stage.DOSE, None, Stage.DISCHARGE]
    assert met == (dosed if kind is StepKind.DOSING else [Stage.ARRIVAL])
    assert stage_of(Action.FULFIL, kind) == stage_ahead(state, kind)
    assert follow(Action.FULFIL, state, kind) == PLACES["done"]


def test_the_refusal_says_where_the_visit_stands() -> None:
    for name, told in (("booked", "booked cannot"), ("here", "arrived (waiting) cannot")):
        with pytest.raises(WrongStatus) as refused:
            follow(Action.DISCHARGE, PLACES[name], StepKind.DOSING)
        assert told in refused.value.detail
