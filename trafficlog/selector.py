"""What a hold or a disclosure covers. Pure values, no database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from trafficlog.errors import InvalidValueError
from trafficlog.values import ADDRESS_CHARS_MAX, is_address, normal_ip, normal_number

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Selector:
    """What is covered: an account, one record of it, a number (either side) or an IP.

    The window, when there is one, is of creation times: ``[created_from, created_to)``.
    """

    account: str | None = None
    number: str | None = None
    ip: str | None = None
    record: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    def __post_init__(self) -> None:
        given = [
            name
            for name, value in (("account", self.account), ("number", self.number), ("ip", self.ip))
            if value is not None
        ]
        if len(given) != 1:
            raise InvalidValueError(
                "selector",
                given,
                "name exactly one of: an account (or one record of it), a number, an IP",
            )
        if self.number is not None and not is_address(self.number):
            raise InvalidValueError(
                "number",
                self.number,
                f"must be a text of 1 to {ADDRESS_CHARS_MAX} printable characters",
            )
        if self.record is not None and self.account is None:
            raise InvalidValueError("record", self.record, "goes with its account")
        start, end = self.created_from, self.created_to
        if start is not None and end is not None and start >= end:
            raise InvalidValueError(
                "created_to", end.isoformat(), "must be later than created_from"
            )

    def normal(self) -> Self:
        """The same with its number or IP in the form in which records have it.

        Raises:
            InvalidValueError: the IP is none.
        """
        return replace(
            self,
            number=None if self.number is None else normal_number(self.number),
            ip=None if self.ip is None else normal_ip(self.ip),
        )
