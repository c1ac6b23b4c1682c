"""Written: what a proposal keeps of times and people, as JSON."""

from datetime import UTC, datetime

from scheduler.actors import Assignment


def instant(moment: datetime) -> str:
    """A moment in UTC (RFC 3339)."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def assignment(one: Assignment) -> dict[str, str]:
    """Who or what serves, in which role, and from when to when."""
    return {
        "role": one.role,
        "schedule_id": str(one.actor.schedule_id),
        "name": one.actor.name,
        "from": instant(one.starts_at),
        "to": instant(one.ends_at),
    }
