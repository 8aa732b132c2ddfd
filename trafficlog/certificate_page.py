"""A certificate of destruction as a page to print: one HTML file that needs no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Final

from trafficlog.print_page import PrintPage

if TYPE_CHECKING:
    from trafficlog.certificate import DestroyedPartition
    from trafficlog.signature import SignedCertificate

CLASSES: Final = {
    "traffic_record": "traffic data (the legal record)",
    "history_record": "customers' history",
    "debug_log": "debug log",
    "in_transit": "in transit",
    "access_log": "access log",
    "monthly_report": "customers' monthly reports",
}
REASONS: Final = {
    "expired": "its time was over",
    "erased": "erased by the customer",
    "setting": "given up by a change of the customer's setting",
    "completed": "the communication was completed",
    "hold-ended": "copies that no hold keeps any more",
}


@dataclass(frozen=True, slots=True)
class EmptyPartitions:
    """Partitions of one class in which there was nothing, in one line."""

    data_class: str
    count: int
    lower: datetime | None
    upper: datetime | None


class CertificatePage:
    """Makes pages of certificates."""

    def __init__(self) -> None:
        self._page = PrintPage(
            "certificate.html",
            instant=_instant,
            bound=_bound,
            second=_second,
            data_class=_class_name,
            reason=_reason,
        )

    @property
    def content_security_policy(self) -> str:
        """Under which the page may be served."""
        return self._page.content_security_policy

    def html(self, signed: SignedCertificate) -> str:
        """The page of a certificate."""
        partitions = signed.certificate.destruction.partitions
        return self._page.render(
            signed=signed,
            certificate=signed.certificate,
            destruction=signed.certificate.destruction,
            verification=signed.certificate.verification,
            partitions=[p for p in partitions if p.rows],
            empty=_empty(partitions),
        )


def _empty(partitions: list[DestroyedPartition]) -> list[EmptyPartitions]:
    empty = sorted((p for p in partitions if not p.rows), key=lambda p: p.data_class)
    found = []
    for data_class, group in groupby(empty, key=lambda p: p.data_class):
        those = list(group)
        found.append(
            EmptyPartitions(
                data_class,
                len(those),
                min((p.lower for p in those if p.lower), default=None),
                max((p.upper for p in those if p.upper), default=None),
            )
        )
    return found


def _instant(at: datetime | None) -> str:
    """In UTC, no finer than it need be: a bound of a period is never rounded."""
    if at is None:
        return "-"
    return str(at.astimezone(UTC).replace(tzinfo=None)).removesuffix(":00")


def _bound(at: datetime | None) -> str:
    """A partition's bound: a day, unless it lies within one."""
    return _instant(at).removesuffix(" 00:00")


def _second(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _class_name(name: str) -> str:
    return CLASSES.get(name, name)


def _reason(name: str) -> str:
    return REASONS.get(name, name)
