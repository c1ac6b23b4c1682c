"""What the clinical facts ask of a course: how far apart, how often, in which order, with whom.

The figures are those of its sections 1f and 8. Nothing here is read from a protocol file.
"""

from typing import Any

from models.vocabulary import Severity
from tests.unit.gates.timed import (
    After,
    Apart,
    AtMost,
    Needs,
    Rule,
    Same,
    days,
    hours,
)

ASKS: dict[str, Any] = {"severity": Severity.WARN, "lift": ""}
"""It warns, and anybody may pass over it with a reason."""
MONTH: dict[str, Any] = {**ASKS, "least": days(21), "most": days(35)}
"""Four weeks after the last dose, give or take one."""
IGNORES: dict[str, Any] = {**ASKS, "if_skipped": "ignore"}


def after(protocol: str, step: str, anchor: str, code: str = "G14", **more: Any) -> After:
    """A window of a step; of a preparation before a dose it is G11."""
    return After(code=code, protocol=protocol, step=step, anchor=anchor, **more)


def owes(protocol: str, step: str, owed: str, code: str = "G13", **more: Any) -> Needs:
    """What must be booked or done before a dose."""
    return Needs(code=code, protocol=protocol, step=step, owed=owed, **more)


def one_to_three_days(protocol: str, *pairs: str, **more: Any) -> list[Rule]:
    """Integration: 24 to 72 hours after the dose. A custom, no evidence: it warns."""
    told = {"least": hours(24), "most": hours(72), **ASKS, **more}
    return [after(protocol, *pair.split(), **told) for pair in pairs]


def same(protocol: str, step: str, anchor: str, *roles: str, **more: Any) -> list[Rule]:
    """The same people as before."""
    told = {**ASKS, **more}
    return [
        Same(code="G12", protocol=protocol, step=step, anchor=anchor, role=role, **told)
        for role in roles
    ]


OFTEN: list[Rule] = [
    # At most 3 doses in any 7 days; 12 in a course are a reason to reassess.
    *(
        AtMost(code="G14", protocol=protocol, name="weekly-doses", number=3, within=days(7))
        for protocol in ("iv-infusion", "kap", "at-home", "group", "esketamine")
    ),
    AtMost(
        code="G14",
        protocol="iv-infusion",
        name="course-doses",
        number=12,
        within=days(365),
        **ASKS,
    ),
    # At least 48 hours apart by infusion, 72 of the spray, 5 days of the others, 21 of MDMA.
    *(
        Apart(code="G14", protocol=protocol, name="between-doses", span=span)
        for protocol, span in (
            ("iv-infusion", hours(48)),
            ("esketamine", hours(72)),
            ("kap", days(5)),
            ("at-home", days(5)),
            ("group", days(5)),
            ("mdma-at", days(21)),
        )
    ),
]

IV, KAP, HOME, GROUP = "iv-infusion", "kap", "at-home", "group"
SPRAY, MDMA, OREGON = "esketamine", "mdma-at", "psilocybin-oregon"

INFUSIONS: list[Rule] = [
    after(IV, "preparation", "intake", least=days(0), most=days(30), **ASKS),
    after(IV, "infusion-1", "preparation", least=days(1), most=days(30), **ASKS),
    *(after(IV, f"infusion-{n + 1}", f"infusion-{n}", least=hours(48)) for n in range(1, 6)),
    *(after(IV, f"infusion-{n + 1}", f"infusion-{n}", most=days(5), **ASKS) for n in range(1, 6)),
    after(IV, "infusion-6", "infusion-1", most=days(21), **ASKS),
    *one_to_three_days(
        *(IV, "integration-1 infusion-2", "integration-2 infusion-4", "integration-3 infusion-6"),
        if_skipped="ignore",
    ),
    after(IV, "reassessment-1", "infusion-6", least=days(1), most=days(7)),
    after(IV, "reassessment-2", "booster-1", least=days(7), most=days(35), **ASKS),
    after(IV, "booster-1", "infusion-6", least=days(21), most=days(42), **ASKS),
    after(IV, "booster-2", "booster-1", least=days(21), most=days(42), **ASKS),
    after(IV, "follow-up-induction", "infusion-6", **MONTH),
    after(IV, "follow-up-booster", "booster-1", **MONTH),
    after(IV, "follow-up", "booster-2", **MONTH),
    after(IV, "booster-1", "reassessment-1", most=days(30)),
    after(IV, "booster-2", "reassessment-2", most=days(30)),
    *(rule for n in (1, 2, 3) for rule in same(IV, f"integration-{n}", "preparation", "therapist")),
]

SESSIONS: list[Rule] = [
    after(KAP, "preparation-1", "intake", least=days(1)),
    after(KAP, "preparation-2", "preparation-1", least=days(1), **ASKS),
    after(KAP, "dosing-1", "preparation-2", least=days(1), most=days(14), code="G11"),
    *(after(KAP, f"dosing-{n + 1}", f"dosing-{n}", least=days(5)) for n in (1, 2)),
    *(
        after(KAP, f"dosing-{n + 1}", f"dosing-{n}", least=days(7), most=days(21), **ASKS)
        for n in (1, 2)
    ),
    *one_to_three_days(KAP, *(f"integration-{n} dosing-{n}" for n in (1, 2, 3))),
    after(KAP, "closing", "dosing-3", least=days(7), most=days(14), **ASKS),
    after(KAP, "follow-up", "dosing-3", **MONTH),
    *(owes(KAP, f"dosing-{n + 1}", f"integration-{n}", **ASKS) for n in (1, 2)),
]

AT_HOME: list[Rule] = [
    after(HOME, "preparation", "intake", least=days(0), most=days(14), **ASKS),
    after(HOME, "session-1", "preparation", least=days(1), most=days(14), **ASKS),
    after(HOME, "check", "session-1", least=days(1), most=days(2)),
    *(
        after(HOME, f"session-{n + 1}", f"session-{n}", least=days(5), most=days(10))
        for n in (1, 2, 3)
    ),
    after(HOME, "session-4", "session-1", most=days(28), **ASKS),
    *(
        after(HOME, f"debrief-{n}", f"session-{n}", least=hours(0), most=hours(48), **IGNORES)
        for n in (1, 2, 3, 4)
    ),
    after(HOME, "reassessment-1", "session-2", least=days(1), most=days(7)),
    after(HOME, "reassessment-2", "session-4", least=days(1), most=days(7), **ASKS),
    after(HOME, "follow-up-stopped", "session-2", **MONTH),
    after(HOME, "follow-up", "session-4", **MONTH),
    *(
        rule
        for n in (1, 2, 3, 4)
        for rule in same(HOME, f"debrief-{n}", f"session-{n}", "therapist")
    ),
]

TOGETHER: list[Rule] = [
    after(GROUP, "group-preparation", "intake", least=days(0), most=days(30), **ASKS),
    after(
        GROUP,
        "group-session-1",
        "group-preparation",
        least=days(7),
        most=days(7),
        same_weekday=True,
        **ASKS,
        code="G11",
    ),
    *(
        after(
            *(GROUP, f"group-session-{n + 1}", f"group-session-{n}"),
            least=days(14),
            most=days(14),
            same_weekday=True,
            **ASKS,
        )
        for n in (1, 2)
    ),
    *one_to_three_days(
        *(
            GROUP,
            *(f"call-{n} group-session-{n}" for n in (1, 2, 3)),
            "make-up-integration make-up",
        ),
        if_skipped="ignore",
    ),
    *(
        after(
            *(GROUP, f"group-integration-{n}", f"group-session-{n}"),
            least=days(1),
            most=days(7),
            **ASKS,
        )
        for n in (1, 2, 3)
    ),
    after(GROUP, "make-up", "group-session-3", least=days(5), most=days(21)),
    after(GROUP, "make-up", "group-integration-3", least=days(1), most=days(14), **ASKS),
    after(GROUP, "follow-up", "group-integration-3", least=days(12), most=days(16), **ASKS),
    after(GROUP, "month-follow-up", "group-session-3", **MONTH),
    after(GROUP, "month-follow-up", "follow-up", least=days(5), **ASKS),
    *(
        rule
        for n in (1, 2, 3)
        for rule in same(GROUP, f"group-integration-{n}", f"group-session-{n}", "therapist")
    ),
]

OF_THE_SPRAY: list[Rule] = [
    after(SPRAY, "induction-1", "evaluation", least=days(1), most=days(30), **ASKS),
    *(
        after(SPRAY, f"induction-{n + 1}", f"induction-{n}", least=days(3), most=days(5), **ASKS)
        for n in range(1, 8)
    ),
    after(SPRAY, "benefit-review", "induction-8", least=days(0), most=days(7), **ASKS),
    after(SPRAY, "benefit-review-2", "weekly-4", least=days(0), most=days(7), **ASKS),
    after(SPRAY, "follow-up", "maintenance-4", **MONTH),
    *(
        after(SPRAY, f"weekly-{n}", anchor, least=days(6), most=days(8), **ASKS)
        for n, anchor in enumerate(("induction-8", "weekly-1", "weekly-2", "weekly-3"), start=1)
    ),
    *(
        rule
        for n, anchor in enumerate(
            ("weekly-4", "maintenance-1", "maintenance-2", "maintenance-3"), start=1
        )
        for rule in (
            after(SPRAY, f"maintenance-{n}", anchor, least=days(6), most=days(16), **ASKS),
            # After 21 days a prescriber decides whether to begin anew.
            after(SPRAY, f"maintenance-{n}", anchor, most=days(21), code="T5"),
        )
    ),
    owes(SPRAY, "weekly-1", "benefit-review", code="T5"),
]

PAIR = ("therapist", "cotherapist")
IN_THE_TRIALS: list[Rule] = [
    *(
        after(MDMA, f"preparation-{n + 1}", f"preparation-{n}", least=days(5), most=days(9), **ASKS)
        for n in (1, 2)
    ),
    after(MDMA, "session-1", "preparation-3", least=days(1), most=days(14), code="G11"),
    *(
        after(MDMA, f"session-{n + 1}", f"session-{n}", least=days(21), most=days(35))
        for n in (1, 2)
    ),
    *(after(MDMA, f"night-{n}", f"session-{n}", least=hours(8), most=hours(9)) for n in (1, 2, 3)),
    *(
        after(MDMA, f"integration-{3 * n - 2}", f"session-{n}", least=days(1), most=days(1))
        for n in (1, 2, 3)
    ),
    *(
        after(MDMA, f"integration-{n + 1}", f"integration-{n}", least=days(5), most=days(9), **ASKS)
        for n in (1, 2, 4, 5, 7, 8)
    ),
    after(MDMA, "follow-up", "integration-9", **MONTH),
    after(MDMA, "integration-9", "preparation-1", most=days(126), **ASKS),  # 18 weeks overall
    *(owes(MDMA, f"session-{n + 1}", f"integration-{3 * n}", **ASKS) for n in (1, 2)),
    *(
        rule
        for step in (
            *("preparation-2", "preparation-3"),
            *(f"session-{n}" for n in (1, 2, 3)),
            *(f"integration-{n}" for n in range(1, 10)),
        )
        for rule in same(MDMA, step, "preparation-1", *PAIR)
    ),
]

DOSES = ("under-5-mg", "5-to-10-mg", "10-to-25-mg", "25-to-35-mg", "35-to-50-mg")
IN_OREGON: list[Rule] = [
    *(
        after(
            *(OREGON, f"session-{dose}", "preparation"),
            least=hours(24),
            most=days(90),
            lift="",
            code="G11",
        )
        for dose in DOSES
    ),
    *(
        rule
        for dose in DOSES
        for rule in same(
            *(OREGON, f"session-{dose}", "preparation", "facilitator"),
            severity=Severity.BLOCK,
            lift="facilitator",
        )
    ),
    *(after(OREGON, "integration", f"session-{dose}", most=hours(72), **IGNORES) for dose in DOSES),
]

RULES: list[Rule] = [
    *(*OFTEN, *INFUSIONS, *SESSIONS, *AT_HOME),
    *(*TOGETHER, *OF_THE_SPRAY, *IN_THE_TRIALS, *IN_OREGON),
]
