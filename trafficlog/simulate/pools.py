"""What lifelike records are made of: accounts with a long tail, numbers, texts, addresses."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

# Frequency falls with rank as words and callers do: a few accounts make half of the traffic.
TAIL_EXPONENT: Final = 1.1
POOL: Final = 2_000
NUMBERS: Final = 20_000

_PREFIXES: Final = (
    *("+4670", "+4672", "+4673", "+4676", "+4679"),
    *("+4791", "+4520", "+35840", "+4915"),
)
_SENDER_NAMES: Final = (
    *("Acme", "Bank", "Tandlakare", "MinPost", "Verify", "Taxi24"),
    *("71700", "72456"),
)
_TEXT: Final = (
    "your code is order package delivered tomorrow at between the booking has been confirmed "
    "reply STOP to end welcome back time for appointment invoice paid thanks hälsningar från "
    "nästa besök är bokat klockan vänligen svara JA för att bekräfta ditt paket finns att hämta"
)
USER_AGENTS: Final = (
    "acme-gateway/4.2 (linux; x86_64)",
    "python-requests/2.32.3",
    "kannel/1.4.5",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
)


def account_id(number: int) -> str:
    """The name of the account of this rank."""
    return f"customer-{number:04}"


def tail_weights(accounts: int) -> list[float]:
    """The cumulative weights of so many accounts, by rank (Zipf)."""
    return list(accumulate((n + 1) ** -TAIL_EXPONENT for n in range(accounts)))


class Pools:
    """Drawn from ``draw`` once, when they are first asked for."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    @cached_property
    def numbers(self) -> list[str]:
        """Telephone numbers of a few networks."""
        draw = self._draw
        return [draw.choice(_PREFIXES) + f"{draw.randrange(10**7):07}" for _ in range(NUMBERS)]

    @cached_property
    def senders(self) -> list[str]:
        """What a customer sends as: names, short codes and numbers."""
        return [*_SENDER_NAMES * 20, *self._draw.choices(self.numbers, k=POOL)]

    @cached_property
    def ips(self) -> list[str]:
        """Addresses out of the ranges for documentation, of both kinds."""
        draw = self._draw
        v4 = [f"198.51.{draw.randrange(256)}.{draw.randrange(1, 255)}" for _ in range(POOL)]
        return v4 + [f"2001:db8::{draw.randrange(1, 65536):x}" for _ in range(POOL // 8)]

    @cached_property
    def texts(self) -> list[str]:
        """Messages of 3 to 21 words."""
        draw, words = self._draw, _TEXT.split()
        return [
            " ".join(draw.choices(words, k=draw.randrange(3, 22)))
            + draw.choice(("", "", f" {draw.randrange(10**6)}", " 😀"))
            for _ in range(POOL)
        ]
