"""A dosing day for random walks: its protocol, who is about, and what they may do."""

from datetime import timedelta
from typing import Any

from models.vocabulary import Role
from scheduler.authority import PATIENT, Authority
from scheduler.permissions import BUNDLES
from tests.factories import SOURCE, figure, gate, protocol_content

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
NURSE = Authority("key:nurse", BUNDLES[Role.CLINICIAN], None, frozenset({"monitor"}))
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
PEOPLE = (DESK, NURSE, DOCTOR, PATIENT)

GATES = {
    "eligibility": "booking",
    "medical-clearance": "arrival",
    "consent": "arrival",
    "screen": "arrival",
    "medicines": "arrival",
    "transport-home": "arrival",
    "fasting": "arrival",
    "questions": "arrival",
    "vitals": "dose",
    "observation": "discharge",
    "care": "discharge",
    "way-home": "discharge",
}
"""Each gate with what it shuts."""

STAGES = {
    "booking": {"booking"},
    "arrival": {"booking", "arrival"},
    "dose": {"booking", "arrival", "dose"},
    "discharge": {"discharge"},
}
"""At each stage, the gates of which are asked."""

LIFT = {code: {"prescriber"} for code in GATES} | {
    "fasting": {"prescriber", "monitor"},
    "observation": set(),
}
"""Who may pass over a gate."""


def content() -> dict[str, Any]:
    """One dose with a gate of nearly every kind."""
    told = protocol_content() | {"code": "test-walks", "caps": []}
    told["screening"] = _SCREENING
    told["incidents"] = [_CRISIS]
    told["steps"] = [{"key": "before", "visit": "before"}, {"key": "dosing", "visit": "dosing"}]
    dosing = told["visits"]["dosing"]
    phases = [one for one in dosing["phases"] if "present" not in one]
    before = {**dosing, "gates": [], "checklist": [], "phases": phases}
    dosing["gates"] = _gates()
    dosing["checklist"] = [_FASTING, _QUESTIONS]
    dosing["ways_home"] = {"ways": ["escort"], "source": SOURCE}
    dosing["suspend"] = {"when": {"hours": -2, "from": "start"}, "source": SOURCE}
    told["visits"] = {"before": before, "dosing": dosing}
    return told


def _gates() -> list[dict[str, Any]]:
    more: dict[str, dict[str, Any]] = {
        "eligibility": {"by": "eligibility", "who": ["prescriber"]},
        "medical-clearance": {
            "holds": figure(2, "d"),
            "ends_on": ["adverse-event"],
            "who": ["prescriber"],
        },
        "consent": {"for": ["text"], "who": ["patient", "monitor"]},
        "screen": {"by": "screen", "holds": figure(3, "d")},
        "medicines": {"by": "medicines", "holds": figure(3, "d")},
        "transport-home": {"by": "escort"},
        "fasting": {"by": "checklist"},
        "questions": {
            "by": "questionnaire",
            "instrument": "c-ssrs",
            "who": ["prescriber"],
            "holds": figure(36, "h"),
        },
        "vitals": {
            "by": "measurement",
            "holds": figure(30, "min"),
            "limits": [{"measure": "systolic", "pass": {"most": 140}, "source": SOURCE}],
        },
        "observation": {"by": "observation", "minutes": figure(120, "min")},
        "care": {"by": "incidents"},
        "way-home": {"by": "departure"},
    }
    return [
        gate(code, shuts, **{"lift": sorted(LIFT[code]), **more[code]})
        for code, shuts in GATES.items()
    ]


_SCREENING = {
    "conditions": [
        {"code": "never", "title": "Never", "action": "block", "source": SOURCE},
        {
            "code": "block",
            "title": "Block",
            "action": "block",
            "lift": ["prescriber"],
            "source": SOURCE,
        },
        {
            "code": "hold",
            "title": "Hold",
            "action": "hold",
            "lift": ["prescriber", "monitor"],
            "source": SOURCE,
        },
        {"code": "caution", "title": "Caution", "action": "caution", "source": SOURCE},
    ],
    "medicines": [
        {"code": action, "title": action, "action": action, "source": SOURCE}
        for action in ("hold-24h", "block", "discuss")
    ],
}
_FASTING = {
    "code": "fasting",
    "title": "Nothing eaten",
    "owner": "patient",
    "due_before": figure(24, "h"),
    "gate": "fasting",
}
_QUESTIONS = {
    "code": "questions",
    "title": "Some questions",
    "owner": "patient",
    "due_before": figure(1, "h"),
    "instruments": ["c-ssrs"],
}
_CRISIS = {
    "code": "crisis",
    "title": "A crisis",
    "urgent": True,
    "health_event": "adverse-event",
    "source": SOURCE,
    "checklist": [
        {
            "code": "doctor-told",
            "title": "Doctor told",
            "owner": "clinician",
            "due_after": figure(5, "min"),
            "gate": "care",
        }
    ],
}
