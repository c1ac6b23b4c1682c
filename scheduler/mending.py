"""Mending: place the broken visits of one course after the other anew.

Course by course the broken visits are placed anew, everything else staying where it is; where
that does not do, or costs the patient their therapist, all visits of the course that are ahead
may move with them. A last pass looks again at every course that was changed.

Pure: no database, no clock, no Flask.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import numpy as np

from models.vocabulary import Place as Where
from models.vocabulary import Severity, Stage, StepKind
from scheduler import choosing, planning, readiness, rules
from scheduler.actors import Assignment
from scheduler.availability import Question, Staffing
from scheduler.board import HARM, REACH, Board, Case, Moved, Place, Repaired, Stuck, Visit, booked
from scheduler.intervals import GRANULE, indexes, positions
from scheduler.problems import Array, Choices, Placed, Problem, Weights, leads_of
from scheduler.rules import Booked, Candidate

SEATINGS = 12
"""How often a placement is tried anew because somebody in it would be needed twice."""

NODES = 1000
"""After so many tries a plan has to do: with no more each course is placed within moments."""


class Search:
    """One repair, under way."""

    def __init__(self, board: Board, cases: Sequence[Case]) -> None:
        self.board, self.cases = board, cases
        self.calendar = board.calendar
        self.frame = board.calendar.frame
        self.left = {one.id for case in cases for one in case.visits if one.is_broken}
        """The broken visits that still are where they cannot stay."""
        self.barred: dict[UUID, int] = {}
        """Starts that a visit must not have for now."""
        self.nodes = NODES
        """After so many tries the best plan of a course that was found has to do."""

    def run(self) -> None:
        """Place what is broken; then look again at what was changed."""
        self.mend()
        self.look_again()

    def mend(self) -> None:
        """Place what is broken, course by course; twice, as some may have left their times."""
        for _ in range(2):
            for case in self._hardest_first():
                self._mend(case)

    def look_again(self) -> None:
        """Look again at what was changed."""
        for case in (*self.cases, *self.cases):
            if self._cost(case):
                self._look_again(case)

    def result(self) -> Repaired:
        """What was found."""
        moves = [
            Moved(
                case,
                visit,
                self.frame.at(place.start),
                tuple(one for one in place.assignments if one.actor is not case.patient),
            )
            for case in self.cases
            for visit in case.visits
            if self._is_changed(visit) and (place := self.board.now[visit.id]) is not None
        ]
        stuck = [
            self._stuck(self.board.case_of[one], self.board.visits[one])
            for one in self.board.visits
            if one in self.left
        ]
        return Repaired(tuple(moves), tuple(stuck), sum(map(self._cost, self.cases)))

    def _hardest_first(self) -> list[Case]:
        """Those with most broken visits first; of equals the earliest."""
        open_cases = [
            (case, broken)
            for case in self.cases
            if (broken := [one for one in case.visits if one.id in self.left])
        ]
        open_cases.sort(key=lambda one: (-len(one[1]), min(visit.at for visit in one[1])))
        return [case for case, _ in open_cases]

    def _is_changed(self, visit: Visit) -> bool:
        place, first = self.board.now[visit.id], self.board.first[visit.id]
        return place is not None and place.who != first.who

    def _mend(self, case: Case) -> None:
        """Place the broken visits of a case: alone, with those around them, or one by one."""
        broken = [one for one in case.visits if one.id in self.left]
        if self._replan(case, broken, keep_lead=True):
            return
        if self._replan(case, broken):
            self._better(case, self._around(case), keep_lead=True)
        elif not self._replan(case, self._around(case)) and len(broken) > 1:
            for one in broken:
                self._replan(case, [one])

    def _around(self, case: Case) -> list[Visit]:
        """The visits of a case that may have to move with those that must."""
        must = [one.at for one in case.visits if one.is_broken]
        return [one for one in case.visits if any(abs(one.at - at) <= REACH for at in must)]

    def _look_again(self, case: Case) -> None:
        """Now that others have moved: place what was changed anew, if that does less harm."""
        changed = [one for one in case.visits if self._is_changed(one)]
        self._better(case, changed, keep_lead=True)
        if any(not one.is_broken for one in changed):
            self._better(case, self._around(case), keep_lead=True)

    def _better(self, case: Case, free: Sequence[Visit], *, keep_lead: bool) -> None:
        """Place these visits of a case anew; keep it only if it costs less."""
        before, mark, left = self._cost(case), self.board.mark(), set(self.left)
        settled = [one for one in free if one.id not in self.left]
        done = self._replan(case, settled, keep_lead=keep_lead)
        if not done or self._cost(case) >= before:
            self.board.back_to(mark)
            self.left = left

    def _replan(self, case: Case, free: Sequence[Visit], *, keep_lead: bool = False) -> bool:
        """Place the visits of `free` at the least harm, or leave all where they are.

        With `keep_lead` by the course's own clinician alone, which is looked at much faster.
        """
        mark = self.board.mark()
        for visit in free:
            self.board.put(visit.id, None)
        places = self._places(case, free, keep_lead=keep_lead)
        if places is None:
            self.board.back_to(mark)
            return False
        self.left -= {visit.id for visit in free}
        return True

    def _places(self, case: Case, free: Sequence[Visit], *, keep_lead: bool) -> list[Place] | None:
        known = self.known(case, free)
        choices: list[Choices] = []
        for visit in free:
            choices.append(self._choices(case, visit, known, free, keep_lead=keep_lead))
            if not choices[-1].by_lead:
                return None
        problem = Problem(
            protocol=case.protocol,
            frame=self.frame,
            zone=case.site.zone,
            choices=choices,
            fixed=known,
            weights=Weights(finish=0, middle=0, lead=HARM.lead, wish=0, idle=1),
        )
        leads = leads_of(problem) if case.lead is None else [case.lead]
        for _ in range(SEATINGS):
            found = planning.plan(problem, leads[:1], self.nodes)
            if found is None:
                return None
            mark = self.board.mark()
            seated = self._seat(case, free, found.placed, known)
            if not isinstance(seated, int):
                return seated
            self.board.back_to(mark)
            one = found.placed[seated]
            problem = choosing.but(problem, seated, one.lead, [one.start])
        return None

    def known(self, case: Case, free: Sequence[Visit]) -> list[Booked]:
        """The patient's visits but those of `free`, as they are now."""
        gone = {visit.id for visit in free}
        known = list(case.fixed)
        for other in self.cases:
            if other.patient.schedule_id == case.patient.schedule_id:
                known += self._standing(other, gone, is_ours=other is case)
        return known

    def _standing(self, case: Case, gone: set[UUID], *, is_ours: bool) -> Iterator[Booked]:
        for visit in case.visits:
            place = self.board.now[visit.id]
            if place is not None and visit.id not in gone:
                seen = booked(case, visit, self.frame.at(place.start), place.assignments)
                yield seen if is_ours else replace(seen, step=None)

    def _choices(
        self,
        case: Case,
        visit: Visit,
        known: Sequence[Booked],
        free: Sequence[Visit],
        *,
        keep_lead: bool = False,
    ) -> Choices:
        """When a visit could be, with whom in the lead, and what each start costs."""
        question = self._question(case, visit, known)
        if keep_lead:
            question = replace(question, ties=self._by_own(case, visit, question.ties))
        staffing = Staffing(question, case.site, self.calendar)
        starts = staffing.starts & ~self.shut(visit, staffing.starts, known, free)
        old = self.board.first[visit.id]
        by_lead: dict[UUID | None, Array] = {}
        for lead, theirs in _by_lead(staffing, case.lead_role):
            with_them = starts & theirs
            if not visit.is_broken and old.start >= 0:
                with_them &= ~(1 << old.start)
                if lead == old.lead(case.lead_role) and self._may_stay(visit):
                    with_them |= 1 << old.start
            with_them &= ~self.barred.get(visit.id, 0)
            if with_them:
                by_lead[lead] = indexes(with_them)
        everywhere = indexes(starts)
        harm = HARM.moved + HARM.away * np.abs(everywhere - old.start)
        away = everywhere, np.where(everywhere == old.start, 0, harm)
        others = {one.step.key for one in free}
        tied = any(
            tie.role == case.lead_role and tie.step in others and tie.severity is not Severity.OFF
            for tie in visit.step.same
        )
        return Choices(visit.step, by_lead, idle=away, is_bound=tied)

    def _by_own(self, case: Case, visit: Visit, ties: rules.Ties) -> rules.Ties:
        """Ties to the course's own clinician; a visit that can stay, to whoever has it too."""
        if case.lead is None:
            return ties
        own = {case.lead}
        if not visit.is_broken:
            own |= {self.board.first[visit.id].lead(case.lead_role) or case.lead}
        there = ties.must.get(case.lead_role, frozenset(own)) & own
        return replace(ties, must={**ties.must, case.lead_role: there})

    def staffing(self, case: Case, visit: Visit, known: Sequence[Booked] = ()) -> Staffing:
        """Who could serve a visit within reach; `known` are the visits that it is tied to."""
        return Staffing(self._question(case, visit, known), case.site, self.calendar)

    def keeps_all_rules(self) -> bool:
        """Whether every visit that was changed breaks no rule where it is now."""
        return not any(
            self._is_changed(visit) and self._objections(case, visit, self.known(case, [visit]))
            for case in self.cases
            for visit in case.visits
        )

    def _may_stay(self, visit: Visit) -> bool:
        """Whether a visit that is not broken finds its old place free."""
        return self.board.is_free(self.board.first[visit.id].assignments)

    def _question(self, case: Case, visit: Visit, known: Sequence[Booked]) -> Question:
        old = frozenset(one.actor.schedule_id for one in visit.assignments)
        return Question(
            visit=visit.step.visit,
            earliest=max(visit.earliest, visit.at - REACH),
            latest=max(visit.earliest, visit.at) + REACH,
            patient=case.patient,
            region=case.region if visit.step.visit.place is Where.TELEHEALTH else None,
            prefer=old if case.lead is None else old | {case.lead},
            ties=rules.ties_of(visit.step, case.protocol, known, but=(Severity.OFF,)),
        )

    def shut(
        self, visit: Visit, starts: int, known: Sequence[Booked], free: Sequence[Visit]
    ) -> int:
        """The starts at which a gate would shut the booking."""
        if visit.known is None:
            return 0
        given = replace(visit.known, doses=_doses(visit, known, free))
        shut = 0
        for start in positions(starts):
            judged = readiness.assess(visit.step.visit.gates, given, self.frame.at(start))
            shut |= bool(judged.shut(Stage.BOOKING)) << start
        return shut

    def _seat(
        self,
        case: Case,
        free: Sequence[Visit],
        placed: Sequence[Placed],
        known: Sequence[Booked],
    ) -> list[Place] | int:
        """Put the visits on the board; or the number of one that cannot be served or is shut."""
        seen = list(known)
        places: list[Place] = []
        order = sorted(range(len(free)), key=lambda n: placed[n].start)
        for number in order:
            place = self._served(case, free[number], placed[number], seen)
            if place is None:
                return number
            self.board.put(free[number].id, place)
            places.append(place)
            starts_at = self.frame.at(place.start)
            seen.append(booked(case, free[number], starts_at, place.assignments))
        for number in order:
            mine = seen[len(known) + order.index(number)]
            others = [one for one in seen if one is not mine]
            if self._is_changed(free[number]) and self._objections(case, free[number], others):
                return number
        return places

    def _objections(
        self, case: Case, visit: Visit, others: Sequence[Booked], place: Place | None = None
    ) -> list[rules.Broken]:
        """The rules that a visit breaks where it is, or would at a place."""
        there = place or self.board.now[visit.id]
        assert there is not None
        starts_at = self.frame.at(there.start)
        who = booked(case, visit, starts_at, there.assignments).who
        candidate = Candidate(visit.step, visit.step.visit.kind, starts_at, case.site.zone, who)
        return rules.judge(candidate, case.protocol, others)

    def _served(
        self, case: Case, visit: Visit, placed: Placed, seen: Sequence[Booked]
    ) -> Place | None:
        """Who serves a visit at its new start; as before, if it stays."""
        old = self.board.first[visit.id]
        stays = placed.start == old.start and placed.lead == old.lead(case.lead_role)
        if stays and not visit.is_broken:
            return old if self._may_stay(visit) else None
        start = self.frame.at(placed.start)
        question = replace(
            self._question(case, visit, seen),
            earliest=start,
            latest=start + GRANULE,
            only=frozenset() if placed.lead is None else frozenset({placed.lead}),
        )
        found = Staffing(question, case.site, self.calendar).assign(placed.start)
        if found is None:
            return None
        end = start + visit.step.visit.length
        patient = Assignment("patient", case.patient, (0,), start, end, end)
        return Place(placed.start, (*found, patient))

    def _cost(self, case: Case) -> int:
        """What the changes of a case cost, compared with how it was."""
        cost = 0
        for visit in case.visits:
            place, old = self.board.now[visit.id], self.board.first[visit.id]
            if place is None or place == old:
                continue
            if place.start != old.start:
                cost += HARM.moved + HARM.away * abs(place.start - old.start)
            lead = place.lead(case.lead_role)
            cost += HARM.lead * (lead not in {case.lead, None})
        return cost

    def _stuck(self, case: Case, visit: Visit) -> Stuck:
        """Why a visit has nowhere to go."""
        known = self.known(case, [visit])
        mark = self.board.mark()
        self.board.put(visit.id, None)
        choices = self._choices(case, visit, known, [visit])
        against: Counter[str] = Counter()
        details: dict[str, str] = {}
        for start in {one for starts in choices.by_lead.values() for one in starts.tolist()}:
            for broken in self._objections(case, visit, known, Place(start, ())):
                against[broken.code] += 1
                details[broken.code] = broken.detail
        self.board.back_to(mark)
        if not against:
            days = REACH.days
            detail = f"Within {days} days nobody and no room is free together in its window."
            return Stuck(case, visit, "no-opening", detail)
        [(code, _)] = against.most_common(1)
        return Stuck(case, visit, code, details[code])


def _doses(visit: Visit, known: Sequence[Booked], free: Sequence[Visit]) -> Sequence[datetime]:
    """The patient's other doses as they are now; none where one before the visit may move too."""
    if any(
        one.step.visit.kind is StepKind.DOSING and one.step.position < visit.step.position
        for one in free
    ):
        return ()
    return [
        one.starts_at
        for one in known
        if one.kind is StepKind.DOSING and one.status in rules.STANDING
    ]


def _by_lead(staffing: Staffing, role: str) -> Iterable[tuple[UUID | None, int]]:
    """Whoever could lead a visit, and when; nobody, at any time, if nobody leads it."""
    phases = staffing.question.visit.phases
    if any(one.role == role and not one.present for one in phases):
        return staffing.starts_by(role).items()
    return [(None, -1)]
