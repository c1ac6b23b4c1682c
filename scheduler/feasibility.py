"""Feasibility: can a set of starts keep all its distances at once?

Each distance bounds how long after one start another may be: a difference constraint. Such a
system has a solution unless its constraints form a cycle of negative length. For each pair of
starts the shortest path between them is kept; a distance that would close a negative cycle is
answered with the starts on it, and left out.

Pure: no database, no clock, no Flask.

Source: Cormen et al., Introduction to Algorithms, section 24.4, difference constraints.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Apart:
    """Two starts, of which `then` is at least `after` after `first`, or `before` before it."""

    first: str
    then: str
    after: timedelta
    before: timedelta


class Starts:
    """Named starts, and the most that each can be after each other one."""

    def __init__(self) -> None:
        self._starts: dict[str, None] = {}
        self._most: dict[tuple[str, str], timedelta] = {}
        self._by: dict[tuple[str, str], frozenset[str]] = {}

    def at_most(self, first: str, then: str, most: timedelta) -> frozenset[str]:
        """Want `then` to start at most `most` after `first`.

        Returns the starts whose distances contradict this; empty if none do.
        """
        self._starts |= {first: None, then: None}
        back, known = self._path(then, first), self._path(first, then)
        if back is not None and back + most < ZERO:
            return self._on_path(then, first)
        if known is None or most < known:
            self._shorten(first, then, most)
        return frozenset()

    def at_least(self, first: str, then: str, least: timedelta) -> frozenset[str]:
        """Want `then` to start at least `least` after `first`; answers like `at_most`."""
        return self.at_most(then, first, -least)

    def keep_apart(self, pairs: Iterable[Apart]) -> Iterator[tuple[Apart, frozenset[str]]]:
        """Keep pairs apart: where distances leave one order of the two, it becomes a distance.

        Yields the pairs for which they leave none, and the starts that shut both.
        """
        open_pairs = list(pairs)
        before = None
        while before != self._most:  # an order that is found may settle another pair
            before = dict(self._most)
            for pair in list(open_pairs):
                by = self._keep_apart(pair)
                if by:
                    open_pairs.remove(pair)
                    yield pair, by

    def _keep_apart(self, pair: Apart) -> frozenset[str]:
        first, then = pair.first, pair.then
        ahead, back = self._path(first, then), self._path(then, first)
        can_follow = ahead is None or ahead >= pair.after
        can_precede = back is None or back >= pair.before
        if can_follow and can_precede:
            return frozenset()
        if can_follow:
            return self.at_least(first, then, pair.after)
        if can_precede:
            return self.at_least(then, first, pair.before)
        return self._on_path(first, then) | self._on_path(then, first)

    def _path(self, first: str, then: str) -> timedelta | None:
        return ZERO if first == then else self._most.get((first, then))

    def _on_path(self, first: str, then: str) -> frozenset[str]:
        return self._by.get((first, then), frozenset()) | {first, then}

    def _shorten(self, first: str, then: str, most: timedelta) -> None:
        """Note the new distance, and every path that it makes shorter."""
        for one in self._starts:
            to_first = self._path(one, first)
            if to_first is None:
                continue
            for other in self._starts:
                from_then = self._path(then, other)
                known = self._path(one, other)
                if from_then is None:
                    continue
                through = to_first + most + from_then
                if known is None or through < known:
                    by = self._on_path(one, first) | self._on_path(then, other)
                    self._by[one, other], self._most[one, other] = by, through
