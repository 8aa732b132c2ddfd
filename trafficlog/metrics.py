"""What operations staff watch. No account, number or address ever stands in a label.

The workers of one service share their metrics through files, so that each of them can show
what all did: counters and histograms are added up, those of processes that are gone
included; a gauge is the sum, the least or the newest of theirs, as fits what it tells.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from pathlib import Path

Together = Literal["livesum", "livemin", "mostrecent"]

OUTCOMES: Final = ("accepted", "updated", "duplicate", "rejected")
DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def share(directory: Path, place: str) -> None:
    """Has the metrics that this process makes from now on shared through ``directory``.

    ``place`` is this process's own while it lives. The next one to have it counts on from
    there, so there are never more files than processes at one time.
    """
    os.environ[DIRECTORY] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def forget(directory: Path, place: str) -> None:
    """Leaves a process that is gone out of the gauges."""
    mark_process_dead(place, str(directory))  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one process, and of those that share theirs with it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._shared_in = os.environ.get(DIRECTORY)
        self.records = self._counter(
            "trafficlog_records", "Records taken in, by what became of them.", "outcome"
        )
        self.ingest_request_seconds = self._histogram(
            "trafficlog_ingest_request_seconds", "Time to answer a request with records."
        )
        self.ingest_flush_seconds = self._histogram(
            "trafficlog_ingest_flush_seconds", "Time of one transaction that writes records."
        )
        self.ingest_waiting_records = self._gauge(
            "trafficlog_ingest_waiting_records",
            "Records that are being read, or wait to be written.",
            together="livesum",
        )
        self.partitions_dropped = self._counter(
            "trafficlog_partitions_dropped", "Partitions dropped because they expired.", "table"
        )
        self.partition_overdue_seconds = self._gauge(
            "trafficlog_partition_overdue_seconds",
            "Age past its upper bound of the oldest partition that should be gone.",
            "table",
        )
        self.partition_headroom_seconds = self._gauge(
            "trafficlog_partition_headroom_seconds",
            "For how long from now on records find their partition made.",
            "table",
        )
        self.rows_erased = self._counter(
            "trafficlog_rows_erased", "Rows destroyed otherwise than by a drop.", "reason"
        )
        self.exports = self._counter(
            "trafficlog_exports",
            "Exports that ended: complete, cut off by the service, or left by their client.",
            "outcome",
        )
        self.exports_running = self._gauge(
            "trafficlog_exports_running", "Exports that are being sent.", together="livesum"
        )
        self.exported_rows = self._counter(
            "trafficlog_exported_rows", "Records sent in exports.", "format"
        )
        self.job_last_success = self._gauge(
            "trafficlog_job_last_success_timestamp_seconds",
            "When a job last did all it had to, in seconds since 1970.",
            "job",
        )
        self.job_failures = self._counter(
            "trafficlog_job_failures", "Runs of a job in which something failed.", "job"
        )
        self.erasure_oldest_seconds = self._gauge(
            "trafficlog_erasure_oldest_seconds",
            "Age of the oldest erasure that was under way at the last look; 0: none was.",
        )
        self.holds_active = self._gauge("trafficlog_holds_active", "Abuse holds in force.")
        self.connections = self._gauge(
            "trafficlog_connections", "Connections of clients.", together="livesum"
        )
        self.connections_refused = self._counter(
            "trafficlog_connections_refused",
            "Connections closed by the service: too many, or too slow.",
            "reason",
        )
        self.database_durable = self._gauge(
            "trafficlog_database_durable",
            "Whether the database is set so that what is committed is on disk: 1, or 0.",
            "setting",
            together="livemin",
        )
        self.postgres_restarts = self._counter(
            "trafficlog_postgres_restarts", "Restarts of an embedded PostgreSQL that had died."
        )
        self.worker_exits = self._counter(
            "trafficlog_worker_exits", "Workers that died and were to be started again."
        )
        self.http_requests = self._counter(
            "trafficlog_http_requests",
            "Requests answered; of status `cut`: not to their end.",
            "route",
            "status",
        )
        self.http_request_seconds = self._histogram(
            "trafficlog_http_request_seconds", "Time to answer a request.", "route"
        )
        # A counter that has never counted still shows, so that an alert can rest on it.
        self.records_by_outcome = {name: self.records.labels(name) for name in OUTCOMES}
        for reason in ("erased", "setting", "hold-ended"):
            self.rows_erased.labels(reason)
        for outcome in ("complete", "cut", "left"):
            self.exports.labels(outcome)
        for file_format in ("ndjson", "csv", "parquet", "archive"):
            self.exported_rows.labels(file_format)
        for reason in ("limit", "headers"):
            self.connections_refused.labels(reason)
        for job in ("retention", "moves", "erasures", "usage", "reports"):
            self.job_failures.labels(job)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(
        self, name: str, text: str, *labels: str, together: Together = "mostrecent"
    ) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=together)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=SECONDS)

    def exposition(self) -> bytes:
        """All metrics in the text format that Prometheus reads."""
        if self._shared_in is None:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        # The names that are in the files need not be registered here.
        MultiProcessCollector(shared, self._shared_in)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
