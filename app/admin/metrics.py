"""What monitors scrape: names po_*, base units, and no label but queue and outcome.

The worker feeds what only it knows (attempts, hops, depths as the sweep saw them); what is true of all replicas
together is read from Postgres at the scrape. A scrape costs Redis nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from app.db.views import Totals
    from app.redis_link import ConnectionState
    from pipeline.queue.job import SweepReport

_HOP_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_LAG_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120)


class Metrics:
    """The numbers of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._attempts = self._counter("attempts", "Attempts settled", "queue", "outcome")
        self._hops = Histogram(
            "po_hop_seconds",
            "From claim to settled",
            ["queue"],
            buckets=_HOP_BUCKETS,
            registry=self._registry,
        )
        self._lag = Histogram(
            "po_event_loop_lag_seconds",
            "How late the event loop was at each tick; a lease is lost when it is late by most of one",
            buckets=_LAG_BUCKETS,
            registry=self._registry,
        )
        self._reconnects = self._gauge("redis_reconnects", "Times a connection to Redis was opened again")
        self._changes = self._gauge("redis_connection_changes", "Changes of state of the connections to Redis")
        self._ready = self._gauge("redis_connections_ready", "Connections to Redis that work; three when all do")
        self._waiting = self._gauge("queue_waiting_jobs", "Jobs that wait, as last swept", "queue")
        self._active = self._gauge("queue_active_jobs", "Jobs that run, as last swept", "queue")
        self._delayed = self._gauge("queue_delayed_jobs", "Jobs put off, as last swept", "queue")
        self._paused = self._gauge("queue_paused", "1 while people hold the queue", "queue")
        self._broken = self._gauge("queue_broken", "1 while the queue's keys are not Bull's", "queue")
        self._runs = self._gauge("runs", "Runs by state, of all replicas", "outcome")
        self._due = self._gauge("runs_due", "Runs whose next stage this is, of all replicas", "queue")
        self._failed = self._gauge("runs_failed", "Runs that failed at this stage, of all replicas", "queue")
        self._oldest = self._gauge("oldest_due_seconds", "How long the run that waited longest has been waiting")
        self._parked = self._gauge("shops_parked", "Shops that wait for a person, of all replicas")
        self._tripped = self._gauge("shops_tripped", "Shops that fail and are left alone for a while, of all replicas")
        self._held_up = self._gauge("runs_held_up", "Runs whose next stage calls a shop that is parked or fails")
        self._database = self._gauge("database_up", "1 if Postgres answered at the scrape")

    def attempt_settled(self, queue: str, outcome: enum.Enum | str, seconds: float | None = None) -> None:
        """Count an attempt and, if it is known, how long it took."""
        self._attempts.labels(queue, outcome.value if isinstance(outcome, enum.Enum) else outcome).inc()
        if seconds is not None:
            self._hops.labels(queue).observe(seconds)

    def loop_was_late(self, seconds: float) -> None:
        """Show how late the loop was at a tick."""
        self._lag.observe(seconds)

    def queues_swept(self, report: SweepReport | None) -> None:
        """Show how deep the queues are, as the last sweep saw them."""
        for queue, seen in report.queues.items() if report else ():
            self._waiting.labels(queue).set(seen.waiting)
            self._active.labels(queue).set(seen.active)
            self._delayed.labels(queue).set(seen.delayed)
            self._paused.labels(queue).set(seen.paused)
            self._broken.labels(queue).set(seen.broken is not None)

    def connections_seen(self, states: Iterable[ConnectionState]) -> None:
        """Show how the connections to Redis are."""
        seen = list(states)
        self._ready.set(sum(state.state == "ready" for state in seen))
        self._reconnects.set(sum(state.reconnects for state in seen))
        self._changes.set(sum(state.changes for state in seen))

    def totals_seen(self, totals: Totals | None) -> None:
        """Show what Postgres says; None if it says nothing."""
        self._database.set(totals is not None)
        if totals is None:
            return
        by_label = ((self._runs, totals.runs), (self._due, totals.due), (self._failed, totals.failed))
        for gauge, counts in by_label:
            gauge.clear()
            for name, count in counts.items():
                gauge.labels(name).set(count)
        self._oldest.set(totals.oldest_due_s)
        self._parked.set(sum(shop.parked for shop in totals.shops))
        self._tripped.set(sum(not shop.parked for shop in totals.shops))
        self._held_up.set(sum(shop.waiting for shop in totals.shops))

    def render(self) -> bytes:
        """The exposition, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"po_{name}", words, labels, registry=self._registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"po_{name}", words, labels, registry=self._registry)
