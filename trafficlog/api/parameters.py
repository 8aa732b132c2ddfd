"""Query parameters as routes declare them: one object reads a parameter and describes it.

What a parameter may be is said once, so that the description (``trafficlog.api.openapi``) and
what is accepted cannot differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from trafficlog.api.query import instant, one_of, whole_number
from trafficlog.config import Config
from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

# A bound that is a setting is looked up when it is needed.
Bound = int | Callable[[Config], int]


@dataclass(frozen=True, slots=True)
class Parameter(ABC):
    """A query parameter: its name, and what it is for in a sentence."""

    name: str
    text: str

    @property
    def is_required(self) -> bool:
        """Whether the request is refused without it."""
        return False

    @abstractmethod
    def schema(self, config: Config) -> dict[str, Any]:
        """Its JSON schema."""


@dataclass(frozen=True, slots=True)
class ValueParameter(Parameter, Generic[T]):
    """A parameter of one type; ``read`` gives None when it is absent."""

    required: bool = False

    @property
    def is_required(self) -> bool:
        """As it is declared."""
        return self.required

    @abstractmethod
    def read(self, query: Mapping[str, str]) -> T | None:
        """What a request gives.

        Raises:
            InvalidValueError: it is not what the parameter takes.
        """

    def demand(self, query: Mapping[str, str]) -> T:
        """What a request must give.

        Raises:
            InvalidValueError: it is absent, or not what the parameter takes.
        """
        value = self.read(query)
        if value is None:
            raise InvalidValueError(self.name, None, "is required", reason_code="missing")
        return value


@dataclass(frozen=True, slots=True)
class TextParameter(ValueParameter[str]):
    """Any text; ``example`` shows what it looks like."""

    example: str | None = None

    def read(self, query: Mapping[str, str]) -> str | None:
        """As it was given."""
        return query.get(self.name)

    def schema(self, config: Config) -> dict[str, Any]:  # noqa: ARG002 - bounds are of other types
        """A string."""
        return {"type": "string"} | ({"examples": [self.example]} if self.example else {})


@dataclass(frozen=True, slots=True)
class ChoiceParameter(ValueParameter[str]):
    """One of a closed set."""

    known: tuple[str, ...] = ()
    default: str | None = None

    def read(self, query: Mapping[str, str]) -> str | None:
        """One of those known; the default when it is absent."""
        return one_of(query, self.name, self.known) or self.default

    def schema(self, config: Config) -> dict[str, Any]:  # noqa: ARG002
        """The set."""
        schema: dict[str, Any] = {"type": "string", "enum": list(self.known)}
        return schema | ({"default": self.default} if self.default else {})


@dataclass(frozen=True, slots=True)
class InstantParameter(ValueParameter[datetime]):
    """A time; without a zone it is in UTC."""

    example: str = "2026-11-21T12:00:00Z"

    def read(self, query: Mapping[str, str]) -> datetime | None:
        """In UTC."""
        return instant(query, self.name)

    def schema(self, config: Config) -> dict[str, Any]:  # noqa: ARG002
        """As RFC 3339 writes it; a day alone is its beginning."""
        return {"type": "string", "format": "date-time", "examples": [self.example]}


@dataclass(frozen=True, slots=True)
class DayParameter(ValueParameter[date]):
    """A day of the calendar, in UTC."""

    def read(self, query: Mapping[str, str]) -> date | None:
        """The day."""
        text = query.get(self.name)
        if text is None:
            return None
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise InvalidValueError(
                self.name, text, "must be a day, as 2026-11-22", reason_code="bad_format"
            ) from None

    def schema(self, config: Config) -> dict[str, Any]:  # noqa: ARG002
        """As ISO 8601 writes it."""
        return {"type": "string", "format": "date", "examples": ["2026-11-21"]}


@dataclass(frozen=True, slots=True)
class FlagParameter(Parameter):
    """True or false; false when it is absent."""

    def read(self, query: Mapping[str, str]) -> bool:
        """Whether it is ``true``."""
        return one_of(query, self.name, ("true", "false")) == "true"

    def schema(self, config: Config) -> dict[str, Any]:  # noqa: ARG002
        """A boolean."""
        return {"type": "boolean", "default": False}


@dataclass(frozen=True, slots=True)
class NumberParameter(Parameter):
    """A whole number from 1 to ``high``; ``default`` when it is absent."""

    high: Bound = 2**63 - 1
    default: Bound | None = None

    def read(self, query: Mapping[str, str], config: Config) -> int:
        """The number; 0 when it is absent and has no default."""
        return whole_number(query, self.name, bound_value(self.default, config), self._high(config))

    def schema(self, config: Config) -> dict[str, Any]:
        """An integer with its bounds."""
        schema: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": self._high(config)}
        return schema | (
            {} if self.default is None else {"default": bound_value(self.default, config)}
        )

    def _high(self, config: Config) -> int:
        return bound_value(self.high, config)


def bound_value(bound: Bound | None, config: Config) -> int:
    """What a bound is under these settings; 0 for none."""
    if bound is None:
        return 0
    return bound if isinstance(bound, int) else bound(config)


PAGE_SIZE = NumberParameter(
    "limit",
    "How many to list in one page.",
    high=lambda config: config.page_records_max,
    default=lambda config: config.page_records,
)
CURSOR = TextParameter("cursor", "Where the page begins: `next` of the page before it.")
