"""What operations staff watch. No account, number or address ever stands in a label."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
            "trafficlog_ingest_waiting_records", "Records that wait to be written."
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
        self.job_last_success = self._gauge(
            "trafficlog_job_last_success_timestamp_seconds",
            "When a job last did all it had to, in seconds since 1970.",
            "job",
        )
        self.job_failures = self._counter(
            "trafficlog_job_failures", "Runs of a job in which something failed.", "job"
        )
        self.holds_active = self._gauge("trafficlog_holds_active", "Abuse holds in force.")
        self.http_requests = self._counter(
            "trafficlog_http_requests", "Requests answered.", "route", "status"
        )
        self.http_request_seconds = self._histogram(
            "trafficlog_http_request_seconds", "Time to answer a request.", "route"
        )
        # A counter that has never counted still shows, so that an alert can rest on it.
        for outcome in ("accepted", "updated", "duplicate", "rejected"):
            self.records.labels(outcome)
        for reason in ("erased", "setting", "hold-ended"):
            self.rows_erased.labels(reason)
        for job in ("retention", "moves"):
            self.job_failures.labels(job)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=SECONDS)

    def exposition(self) -> bytes:
        """All metrics in the text format that Prometheus reads."""
        return generate_latest(self.registry)
