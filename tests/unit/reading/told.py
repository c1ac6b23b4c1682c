"""A protocol that says everything that one can say, and one visit that says as little as it can."""

from typing import Any


def figure(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit}


TOLD: dict[str, Any] = {
    "code": "c",
    "title": "T",
    "minimum_age": figure(21, "years"),
    "doses_alone": figure(2, "visits"),
    "screening": {
        "conditions": [
            {"code": "mania", "title": "Mania", "action": "hold", "lift": ["prescriber"]},
            {"code": "age", "title": "Age", "action": "caution"},
        ],
        "medicines": [{"code": "maoi", "title": "MAOI", "action": "block"}],
    },
    "caps": [
        {
            "code": "cap",
            "kind": "dosing",
            "most": figure(3, "visits"),
            "within": figure(7, "d"),
            "severity": "warn",
            "lift": ["prescriber"],
        }
    ],
    "gaps": [
        {
            "code": "gap",
            "kind": "integration",
            "least": figure(48, "h"),
            "severity": "block",
            "lift": ["prescriber"],
        }
    ],
    "incidents": [
        {
            "code": "fall",
            "title": "A fall",
            "checklist": [
                {
                    "code": "told",
                    "title": "Told",
                    "owner": "clinician",
                    "due_after": figure(5, "min"),
                }
            ],
        }
    ],
    "visits": {
        "plain": {
            "kind": "preparation",
            "title": "Plain",
            "minutes": figure(50, "min"),
            "phases": [{"role": "therapist", "from": 5, "to": 50}],
            "gates": [
                {
                    "code": "g",
                    "title": "G",
                    "shuts": "booking",
                    "by": "clearance",
                    "who": ["clinician"],
                    "lift": [],
                }
            ],
            "checklist": [
                {"code": "form", "title": "F", "owner": "front-desk", "due_after": figure(7, "d")}
            ],
            "cadence": "quiet",
        },
        "full": {
            "kind": "dosing",
            "title": "Full",
            "minutes": figure(120, "min"),
            "place": "telehealth",
            "medicine": "ketamine",
            "route": "oral",
            "notice": figure(24, "h"),
            "ahead": figure(90, "d"),
            "grid": 30,
            "group": {"places": 6, "least": 4},
            "ways_home": {"ways": ["ride", "escort"]},
            "suspend": {"when": {"days": -1, "at": "17:00"}},
            "afterwards": [
                {"code": "rest", "words": {"en": "Rest.", "es": "Descanse."}, "for": figure(2, "d")}
            ],
            "phases": [
                {"role": "therapist", "from": 0, "to": 90, "per_patients": 3, "shared": True},
                {"role": "prescriber", "from": 10, "to": 120, "present": True},
                {"room": "dosing", "from": 0, "to": 120, "setup": 10, "turnover": 20},
                {"device": "pump", "from": 15, "to": 55, "count": 2},
            ],
            "gates": [
                {
                    "code": "cleared",
                    "title": "Cleared",
                    "shuts": "arrival",
                    "by": "clearance",
                    "holds": figure(90, "d"),
                    "holds_first": figure(30, "d"),
                    "ends_on": ["pregnancy"],
                    "longest_gap": figure(60, "d"),
                    "for": ["route", "text"],
                    "who": ["prescriber", "clinician"],
                    "lift": ["prescriber"],
                },
                {
                    "code": "screened",
                    "title": "Screened",
                    "shuts": "booking",
                    "by": "screen",
                    "who": ["clinician"],
                    "lift": ["prescriber"],
                },
                {
                    "code": "gone-through",
                    "title": "Gone-through",
                    "shuts": "booking",
                    "by": "medicines",
                    "who": ["clinician"],
                    "lift": ["prescriber"],
                },
                {
                    "code": "measured",
                    "title": "Measured",
                    "shuts": "dose",
                    "by": "measurement",
                    "holds": figure(30, "min"),
                    "limits": [
                        {
                            "measure": "systolic",
                            "pass": {"least": 90, "most": 140},
                            "hold": {"from": 160, "below": 80},
                            "stop": {"from": 180, "below": 70},
                            "near_baseline": 20,
                        },
                        {"measure": "oriented"},
                    ],
                    "recheck": {"after": figure(10, "min"), "times": 2},
                    "who": ["monitor"],
                    "lift": ["prescriber"],
                },
                {
                    "code": "watched",
                    "title": "Watched",
                    "shuts": "discharge",
                    "by": "observation",
                    "minutes": figure(120, "min"),
                    "kinds": ["integration"],
                    "instrument": "c-ssrs",
                    "who": ["monitor"],
                    "lift": ["prescriber"],
                },
            ],
            "checklist": [
                {
                    "code": "eat",
                    "title": "Eat nothing",
                    "owner": "patient",
                    "due_before": figure(24, "h"),
                    "gate": "cleared",
                    "instruments": ["phq-9"],
                }
            ],
            "watch": [
                {
                    "code": "before",
                    "title": "Before",
                    "measures": ["systolic", "diastolic"],
                    "before": "dose",
                    "late_after": figure(15, "min"),
                },
                {
                    "code": "peak",
                    "title": "Peak",
                    "measures": ["systolic"],
                    "after_dose": figure(40, "min"),
                    "late_after": figure(10, "min"),
                },
                {
                    "code": "row",
                    "title": "Row",
                    "measures": ["systolic"],
                    "after_dose": figure(10, "min"),
                    "every": figure(5, "min"),
                    "until": figure(30, "min"),
                    "late_after": figure(3, "min"),
                },
            ],
            "cadence": "said",
        },
    },
    "cadences": {
        "quiet": [],
        "said": [
            {
                "rule": "r",
                "kind": "reminder",
                "to": "patient",
                "when": {"hours": -3, "from": "start"},
                "not_after": {"hours": 0, "from": "start"},
            }
        ],
    },
    "steps": [
        {"key": "one", "visit": "plain", "outcomes": ["go-on", "stop"]},
        {
            "key": "two",
            "visit": "full",
            "after": [
                {
                    "step": "one",
                    "least": figure(1, "d"),
                    "most": figure(72, "h"),
                    "severity": "block",
                    "lift": ["prescriber"],
                    "weekday": "same",
                    "if_skipped": "ignore",
                },
                {"step": "one", "severity": "warn", "lift": []},
            ],
            "owes": {"steps": ["one"], "severity": "warn", "lift": ["prescriber"]},
            "same": [
                {"role": "therapist", "as": "one", "severity": "warn", "lift": ["prescriber"]}
            ],
            "differs": [
                {"role": "monitor", "as": "one", "severity": "block", "lift": ["prescriber"]}
            ],
            "only_if": {"step": "one", "outcomes": ["go-on"]},
        },
    ],
}
