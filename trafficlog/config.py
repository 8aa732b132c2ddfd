"""Every setting of the service: its name, its default, its bounds and what it does.

A setting is read from the environment as ``TRAFFICLOG_`` and its name in capitals.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TRAFFICLOG_"


def _setting(default: int, low: int, high: int, text: str) -> Any:
    metadata = {"default": default, "low": low, "high": high, "text": text}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The service's settings; the unit stands last in each name."""

    body_bytes_max: int = _setting(
        16 * 2**20, 1024, 2**30, "largest request body as it is sent, in bytes"
    )
    body_decoded_bytes_max: int = _setting(
        64 * 2**20, 1024, 2**31, "largest request body after decompression, in bytes"
    )
    body_ratio_max: int = _setting(
        500, 2, 100_000, "how many times its sent size a body may grow to by decompression"
    )
    body_any_ratio_bytes_max: int = _setting(
        2**20, 0, 2**31, "decompressed size up to which any ratio will do, in bytes"
    )
    batch_records_max: int = _setting(50_000, 1, 10**6, "records in one request")
    message_chars_max: int = _setting(65_536, 1, 10**7, "characters of a message")
    refusals_kept_max: int = _setting(
        1_000, 0, 10**6, "refused records of one request kept in the debug log"
    )
    refusal_chars_max: int = _setting(
        2_000, 0, 10**6, "characters kept of a refused record, and of a debug line"
    )
    in_transit_bytes_max: int = _setting(65_536, 1, 10**8, "largest in-transit content, in bytes")
    waiting_records_max: int = _setting(
        200_000, 1, 10**8, "records that may be read and wait to be written before requests get 429"
    )
    waiting_bytes_max: int = _setting(
        256 * 2**20,
        1024,
        2**40,
        "bytes of bodies, decompressed, in work before requests get 429",
    )
    flush_records_max: int = _setting(20_000, 1, 10**6, "records written in one transaction")
    flush_attempts_max: int = _setting(
        5, 1, 100, "tries of a transaction that meets a changed setting, a moved row or a deadlock"
    )
    read_seconds_max: int = _setting(
        60, 1, 3600, "time a client has to send a request's body, in seconds"
    )
    connections_max: int = _setting(
        10_000, 1, 10**6, "connections that one process serves; those beyond get 503 and are closed"
    )
    connections_waiting_max: int = _setting(
        1_024, 1, 65_535, "connections that may wait to be accepted"
    )
    idle_seconds_max: int = _setting(
        75, 1, 3600, "time a connection may be idle between two requests, in seconds"
    )
    header_seconds_max: int = _setting(
        15, 1, 3600, "time a client has to send a request's line and headers, in seconds"
    )
    unread_seconds_max: int = _setting(
        60, 1, 3600, "time a client may leave what it is sent unread, in seconds"
    )
    request_line_bytes_max: int = _setting(8_190, 256, 2**20, "longest request line, in bytes")
    header_bytes_max: int = _setting(8_190, 256, 2**20, "longest header of a request, in bytes")
    headers_max: int = _setting(128, 8, 10_000, "headers of a request")
    answer_seconds_max: int = _setting(
        30,
        1,
        3600,
        "time a request waits for its records to be on disk, or for its key to be looked up,"
        " before it gets 503; and time a list under /a1/ is searched for its first record, before"
        " its page is empty and tells where to go on; in seconds",
    )
    statement_seconds_max: int = _setting(
        60, 1, 3600, "time one statement of the service may take, in seconds"
    )
    connect_seconds_max: int = _setting(10, 1, 600, "time to reach the database, in seconds")
    ingest_connections: int = _setting(2, 1, 100, "database connections that write records")
    read_connections: int = _setting(8, 1, 200, "database connections that serve customers")
    page_records_max: int = _setting(1_000, 1, 10_000, "records in one page of history")
    page_records: int = _setting(100, 1, 10_000, "records in a page when none are asked for")
    history_scan_rows_max: int = _setting(
        100_000,
        1,
        10**7,
        "records that are looked at for one page of a filtered history, which is short then, and"
        " counted for a total before it is estimated",
    )
    key_cache_seconds: int = _setting(
        5, 0, 3600, "time a revoked key may go on being accepted, in seconds"
    )
    requests_per_second: int = _setting(
        50,
        0,
        10**6,
        "requests a second that one key may make of one process, other than an ingest key;"
        " 0: any number",
    )
    burst_requests: int = _setting(
        100, 1, 10**6, "requests that such a key may make at once before it has to wait"
    )
    ingest_requests_per_second: int = _setting(
        0, 0, 10**6, "requests a second that one ingest key may make of one process; 0: any number"
    )
    ingest_burst_requests: int = _setting(
        1_000, 1, 10**6, "requests that an ingest key may make at once before it has to wait"
    )
    wrong_keys_per_minute_max: int = _setting(
        20, 0, 10**6, "wrong keys a minute that one client's address may try; 0: any number"
    )
    trusted_proxies: int = _setting(
        0,
        0,
        10,
        "proxies in front of the service that add to X-Forwarded-For, where a client's address"
        " is then read",
    )
    settings_refresh_seconds: int = _setting(
        60, 0, 300, "how old policies may be that a record is checked by, in seconds"
    )
    session_minutes: int = _setting(
        60, 1, 1440, "how long one stays signed in to the page, in minutes"
    )
    retention_interval_seconds: int = _setting(
        3_600, 1, 86_400, "time between two retention runs, in seconds"
    )
    move_interval_seconds: int = _setting(
        5, 1, 3600, "time between two looks for history to be moved, in seconds"
    )
    move_rows_max: int = _setting(5_000, 1, 10**6, "history rows moved in one transaction")
    headroom_days: int = _setting(7, 1, 365, "days that daily partitions are made ahead")
    headroom_hours: int = _setting(48, 1, 8760, "hours that hourly partitions are made ahead")
    drops_in_a_run_max: int = _setting(
        1_000, 1, 10**6, "partitions dropped by one run; the next one goes on"
    )
    late_hours: int = _setting(
        48, 1, 8760, "how late records come in, after which a partition is sealed, in hours"
    )
    seals_in_a_run_max: int = _setting(
        20, 0, 10_000, "partitions sealed by one run; the next one goes on"
    )
    seal_wait_seconds_max: int = _setting(
        60,
        1,
        86_400,
        "how long sealing waits for its partition and for older transactions, in seconds",
    )
    drop_attempts_max: int = _setting(
        5, 1, 100, "tries to get the lock for one partition's drop in a run"
    )
    lock_timeout_ms: int = _setting(
        200, 10, 60_000, "how long retention waits for a table's lock, in milliseconds"
    )
    detach_seconds_max: int = _setting(
        60,
        1,
        86_400,
        "how long a drop waits for its partition and for older transactions, in seconds",
    )
    verify_blocks_max: int = _setting(
        4_096, 1, 10**6, "blocks of 8 kB that `retention verify --deep` reads in one statement"
    )
    clock_forward_hours_max: int = _setting(
        72, 1, 8760, "how far the clock may go ahead between two runs, in hours"
    )
    usage_rows_max: int = _setting(
        50_000, 1, 10**7, "rows of added usage that are summed up in one transaction"
    )
    report_accounts_max: int = _setting(
        500, 1, 10**6, "accounts whose monthly reports are made in one transaction"
    )
    statistics_days_max: int = _setting(
        1_098, 1, 36_600, "longest span of usage statistics in one request, in days"
    )
    disclosure_days_max: int = _setting(
        31, 1, 3660, "longest window of creation times in one disclosure, in days"
    )
    erasure_rows_max: int = _setting(
        10_000, 1, 10**6, "history rows that an erasure by filter reads in one transaction"
    )
    erasure_seconds_max: int = _setting(
        20, 1, 3600, "time in one round of the jobs that erasures have, in seconds"
    )
    erasure_attempts_max: int = _setting(
        10, 1, 1000, "failures in a row after which an erasure is given up"
    )
    erasures_open_max: int = _setting(10, 1, 1000, "erasures of one account that may be under way")
    erasure_repeat_hours: int = _setting(
        24, 1, 8760, "how long a finished erasure is known by its Idempotency-Key, in hours"
    )
    erasure_receipt_days: int = _setting(
        1_095, 1, 3660, "how long the receipt of an erasure can be had, in days"
    )
    backup_days: int = _setting(
        30, 0, 3660, "how long you keep backups of the database, which receipts tell, in days"
    )
    export_seconds_max: int = _setting(
        3_600, 1, 86_400, "time that one export may take, in seconds; then it is cut off"
    )
    exports_running_max: int = _setting(
        8, 1, 1_000, "exports that one process runs at a time; those beyond get 429"
    )
    account_exports_max: int = _setting(
        2, 1, 1_000, "exports of one account that one process runs at a time"
    )
    hold_days_max: int = _setting(366, 1, 3660, "longest time a hold may be placed for, in days")
    shutdown_seconds_max: int = _setting(
        30, 1, 600, "time to finish what is in flight when stopping, in seconds"
    )
    shutdown_body_seconds_max: int = _setting(
        5, 0, 600, "time a body that is on its way still has when stopping, in seconds"
    )
    drain_seconds_max: int = _setting(
        10, 0, 600, "time a worker that is replaced keeps idle connections open, in seconds"
    )
    worker_start_seconds_max: int = _setting(
        120, 1, 3600, "time a worker has to be ready after its start, in seconds"
    )
    restart_seconds_max: int = _setting(
        30, 1, 3600, "longest wait before what died is started again, in seconds"
    )
    durability_check_seconds: int = _setting(
        60, 1, 86_400, "time between two looks at what the database promises, in seconds"
    )

    @property
    def database_connections(self) -> int:
        """How many connections to the database one process uses at most."""
        pools = self.ingest_connections + 2 + self.read_connections + 4 + 2
        return pools + 2  # the jobs, and a certificate that is made

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Config:
        """The settings that the environment states; the defaults for the rest.

        Raises:
            InvalidValueError: a value is no whole number or out of its bounds.
        """
        source = os.environ if environment is None else environment
        given: dict[str, int] = {}
        for each in fields(cls):
            name = PREFIX + each.name.upper()
            if (text := source.get(name)) is None:
                continue
            low, high = each.metadata["low"], each.metadata["high"]
            try:
                value = int(text)
            except ValueError:
                raise InvalidValueError(name, text, "must be a whole number") from None
            if not low <= value <= high:
                raise InvalidValueError(name, text, f"must be from {low} to {high}")
            given[each.name] = value
        return cls(**given)

    @classmethod
    def table(cls) -> list[tuple[str, int, str]]:
        """Name in the environment, default and meaning of each setting."""
        return [
            (PREFIX + f.name.upper(), f.metadata["default"], f.metadata["text"])
            for f in fields(cls)
        ]
