"""What the handlers work with: one object, made by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.api.body import BodyReader
    from trafficlog.api.cursor import Cursors
    from trafficlog.api.door import Door
    from trafficlog.api.rates import KeyRates
    from trafficlog.auth import Authenticator
    from trafficlog.clock import Clock
    from trafficlog.config import Config
    from trafficlog.ingest import IngestBuffer
    from trafficlog.metrics import Metrics
    from trafficlog.store.access_log import AccessLog
    from trafficlog.store.accounts import Accounts
    from trafficlog.store.certificates import Certificates
    from trafficlog.store.database import Database
    from trafficlog.store.debug_log import DebugLog
    from trafficlog.store.disclosures import Disclosures
    from trafficlog.store.erasures import Erasures
    from trafficlog.store.export import Exports
    from trafficlog.store.history import History
    from trafficlog.store.holds import Holds
    from trafficlog.store.ingest import Batch, Outcome, RecordWriter
    from trafficlog.store.keys import Principal
    from trafficlog.store.reports import Reports
    from trafficlog.store.transit import Transit
    from trafficlog.store.usage import Statistics

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", object)  # type: ignore[arg-type]
# What the key has left, as headers: for answers that are begun by the handler itself.
LIMITS: web.RequestKey[Mapping[str, str]] = web.RequestKey("limits", object)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a request can need."""

    config: Config
    clock: Clock
    metrics: Metrics
    database: Database
    writer: RecordWriter
    buffer: IngestBuffer[Batch, Outcome]
    bodies: BodyReader
    door: Door
    authenticator: Authenticator
    key_rates: KeyRates
    cursors: Cursors
    accounts: Accounts
    history: History
    erasures: Erasures
    exports: Exports
    statistics: Statistics
    reports: Reports
    holds: Holds
    disclosures: Disclosures
    access_log: AccessLog
    transit: Transit
    debug_log: DebugLog
    certificates: Certificates
    # What the installation signs with.
    secret: bytes = field(repr=False)
