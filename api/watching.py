"""Watching: the messages of all clinics as figures, for Prometheus and for health.

The web process may not see every clinic's messages; one function in the database counts them,
and tells nothing else. What workers counted about themselves comes with their heartbeats.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from sqlalchemy import text
from sqlalchemy.orm import Session

from notifications import queue, reading


def oldest_due_seconds(session: Session, now: datetime) -> float:
    """For how long the oldest message that should have been said has been due; 0 if none is."""
    counted = session.execute(_COUNTS, {"now": now}).mappings()
    return max((float(row["oldest"] or 0) for row in counted), default=0.0)


def rests(session: Session) -> bool:
    """Whether nothing is said for now, because the database was restored from a backup."""
    return queue.resting_since(reading.raw(session)) is not None


def broken_chains(session: Session) -> int:
    """In how many clinics the end of the audit trail does not chain, as workers last saw it."""
    rows = session.execute(_WORKERS).mappings()
    return max(((row["stats"] or {}).get("audit", 0) for row in rows), default=0)


def messages(session: Session, now: datetime) -> bytes:
    """The figures about messages and webhooks as Prometheus reads them."""
    counts = [dict(row) for row in session.execute(_COUNTS, {"now": now}).mappings()]
    deliveries = [dict(row) for row in session.execute(_DELIVERIES).mappings()]
    workers = [(str(row["id"]), row["stats"] or {}) for row in session.execute(_WORKERS).mappings()]
    registry = CollectorRegistry()
    registry.register(_Figures(counts, workers, rests=rests(session)))
    registry.register(_WebhookFigures(deliveries, workers))
    return generate_latest(registry)


class _Figures:
    def __init__(
        self,
        counts: list[dict[str, Any]],
        workers: list[tuple[str, Mapping[str, Any]]],
        *,
        rests: bool,
    ) -> None:
        self.counts, self.workers, self.rests = counts, workers, rests

    def collect(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "afterglow_messages", "Messages by channel and state.", labels=["channel", "state"]
        )
        oldest = GaugeMetricFamily(
            "afterglow_messages_oldest_due_seconds", "Age of the oldest due.", labels=["channel"]
        )
        expiring = GaugeMetricFamily(
            "afterglow_messages_about_to_expire",
            "Due, unsaid, and of no use in a quarter of an hour.",
            labels=["channel"],
        )
        for row in self.counts:
            states.add_metric([row["channel"], row["state"]], float(row["number"]))
            if row["state"] == "scheduled":
                oldest.add_metric([row["channel"]], float(row["oldest"] or 0))
                expiring.add_metric([row["channel"]], float(row["expiring"]))
        yield from (states, oldest, expiring)
        yield GaugeMetricFamily(
            "afterglow_messages_held",
            "1 after a restoration, until somebody resumes.",
            value=float(self.rests),
        )
        yield from self._of_workers()
        yield from self._of_jobs()

    def _of_workers(self) -> Iterator[Metric]:
        claims = CounterMetricFamily(
            "afterglow_messages_claimed", "Claimed.", labels=["worker", "channel"]
        )
        outcomes = CounterMetricFamily(
            "afterglow_messages_handed_over",
            "What providers answered.",
            labels=["worker", "provider", "outcome"],
        )
        late = HistogramMetricFamily(
            "afterglow_message_lateness_seconds",
            "From due to handed over.",
            labels=["worker", "channel"],
        )
        took = HistogramMetricFamily(
            "afterglow_provider_seconds",
            "How long providers took.",
            labels=["worker", "provider"],
        )
        for worker, told in self.workers:
            channels = {code: stats for code, stats in told.items() if code not in _NO_CHANNELS}
            for channel, stats in channels.items():
                claims.add_metric([worker, channel], stats["claims"])
                late.add_metric([worker, channel], *_buckets(stats["lateness"]))
                for key, number in stats["outcomes"].items():
                    provider, _, outcome = key.rpartition(" ")
                    outcomes.add_metric([worker, provider, outcome], number)
                for provider, histogram in stats["hand_over"].items():
                    took.add_metric([worker, provider], *_buckets(histogram))
        yield from (claims, outcomes, late, took)

    def _of_jobs(self) -> Iterator[Metric]:
        failed = CounterMetricFamily(
            "afterglow_job_failures",
            "What jobs could not do: a row that was left for the next run, or a whole run.",
            labels=["worker", "job"],
        )
        for worker, told in self.workers:
            for job, number in told.get("failures", {}).items():
                failed.add_metric([worker, job], number)
        yield failed
        yield GaugeMetricFamily(
            "afterglow_audit_chain_breaks",
            "Clinics in which the end of the audit trail does not chain.",
            value=max((told.get("audit", 0) for _, told in self.workers), default=0),
        )


class _WebhookFigures:
    def __init__(
        self, counts: list[dict[str, Any]], workers: list[tuple[str, Mapping[str, Any]]]
    ) -> None:
        self.counts, self.workers = counts, workers

    def collect(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "afterglow_webhook_deliveries", "Deliveries to webhooks by state.", labels=["state"]
        )
        oldest = GaugeMetricFamily(
            "afterglow_webhook_deliveries_oldest_due_seconds", "Age of the oldest due."
        )
        tried = CounterMetricFamily(
            "afterglow_webhook_attempts",
            "Tries, by what state came of them.",
            labels=["worker", "state"],
        )
        for row in self.counts:
            states.add_metric([row["state"]], float(row["number"]))
        oldest.add_metric([], max((float(row["oldest"] or 0) for row in self.counts), default=0.0))
        for worker, told in self.workers:
            for state, number in told.get("webhooks", {}).items():
                tried.add_metric([worker, state], number)
        yield from (states, oldest, tried)


_NO_CHANNELS = frozenset({"failures", "webhooks", "audit"})
"""What workers count beside their channels."""


def _buckets(told: Mapping[str, Any]) -> tuple[list[tuple[str, float]], float]:
    total = 0
    buckets = []
    bounds = [str(bound) for bound in told["bounds"]] + ["+Inf"]
    for bound, number in zip(bounds, told["counts"], strict=True):
        total += number
        buckets.append((bound, float(total)))
    return buckets, float(told["total"])


_COUNTS = text("SELECT channel, state, number, oldest, expiring FROM count_messages(:now)")
_DELIVERIES = text("SELECT state, number, oldest FROM count_webhook_deliveries()")
_WORKERS = text(
    "SELECT id, stats FROM worker WHERE seen_at > clock_timestamp() - CAST('5 min' AS interval)"
)
