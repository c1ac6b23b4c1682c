"""Repairing: find new times for visits that cannot stay, with the fewest changes and least harm.

A nurse falls ill, a room is closed, a dose came late: some visits of some courses are broken.
Each course is mended by itself first; see mending.py. A visit for which nobody is free then
takes the time of another course's visit that can give way; see exchanging.py. Last, every course
that was changed is looked at again, now that the others have left their old times.

What is found breaks no rule of the protocol. Times are granules of five minutes, counted from
the start of the calendar's frame. Pure: no database, no clock, no Flask.
"""

from collections.abc import Sequence

from scheduler.actors import Calendar
from scheduler.board import Board, Case, Repaired
from scheduler.exchanging import Exchange

EFFORT, THOROUGH = 700, 7000
"""So many looks at what other visits could do, a plan for a course counting as three.

For an answer within about a second, and for one that somebody waits for.
"""


def repair(cases: Sequence[Case], calendar: Calendar, effort: int = EFFORT) -> Repaired:
    """Find new places for the broken visits. The calendar is used up by it.

    On the calendar every visit takes its time still; it knows the patients' time. `effort`: how
    much is looked for among other courses' visits on behalf of those that have no place.
    """
    search = Exchange(Board(calendar, cases), cases, effort)
    search.run()
    return search.result()
