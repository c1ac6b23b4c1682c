"""Doors: what each route of the service asks of whoever comes.

Every view says so once, by a mark of its own: `@requires(Permission.X)` in the API, `@asks(...)`
or what stands for it on pages, `@public("why")` where anybody may come in. The service does not
start with a route that has none; tests hold that each door keeps what its mark promises.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

View = Callable[..., Any]


class Asks(StrEnum):
    """What a door asks for."""

    PERMISSION = "permission"
    """A key, or somebody signed in, that may do one thing."""
    SESSION = "session"
    """Somebody signed in, with their second factor."""
    PASSWORD = "password"  # noqa: S105  # a kind of door
    """Somebody who has given their password, and perhaps not the factor yet."""
    VISIT = "visit"
    """A patient who followed the link to their visit."""
    TOKEN = "token"  # noqa: S105  # a kind of door
    """A token that nobody can guess: in the address, or in the cookie that it was moved to."""
    OPERATOR = "operator"
    """A key of whoever runs the service for several clinics."""
    SIGNATURE = "signature"
    """The signature of a provider of messages over the call."""
    NOTHING = "nothing"
    """Anybody may come in."""


@dataclass(frozen=True, slots=True)
class Door:
    """What one door asks for, and for a public one why it is."""

    asks: Asks
    why: str = ""


class Unmarked(Exception):
    """A route does not say what it asks for."""


def mark(view: View, door: Door) -> View:
    """Leave word on a view of what its door asks for."""
    view.door = door  # type: ignore[attr-defined]
    return view


def asks(what: Asks) -> Callable[[View], View]:
    """Mark a view that looks by itself for what its door asks for."""
    return lambda view: mark(view, Door(what))


def public(why: str) -> Callable[[View], View]:
    """Mark a door that is open to everybody, and say why."""
    return lambda view: mark(view, Door(Asks.NOTHING, why))


def mark_of_others(views: MutableMapping[str, View], door: Door, *names: str) -> None:
    """Mark views that a library made; some are methods, which take no mark themselves."""
    for name in names:
        views[name] = mark(partial(views[name]), door)


def of(view: View) -> Door | None:
    """What the door of a view asks for. None: nobody said."""
    door: Door | None = getattr(view, "door", None)
    return door


def refuse_unmarked(views: Mapping[str, View]) -> None:
    """Raise if any of the service's views does not say what it asks for."""
    unmarked = sorted(name for name, view in views.items() if of(view) is None)
    if unmarked:
        raise Unmarked(
            f"Nobody said who may come in at {', '.join(unmarked)}. Put @requires(Permission.X), "
            '@asks(Asks.X) or @public("why") between the route and its view (scheduler/doors.py).'
        )
