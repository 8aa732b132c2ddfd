"""Keys asked for at once: right ones are all served, wrong ones bounded by tokens."""

from __future__ import annotations

import asyncio

import pytest

from trafficlog.auth import Authenticator
from trafficlog.errors import DatabaseUnavailableError, KeyMissingError, TooManyRequestsError
from trafficlog.guesses import Guesses
from trafficlog.rates import Buckets
from trafficlog.store.keys import Principal

TOKENS = 5


class HeldKeys:
    """Keys whose look-ups end when they are let; those that begin with ``right`` are known."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.under_way = self.most_under_way = 0
        self.fails = False
        self.let = asyncio.Event()

    async def recognise(self, secret: str) -> Principal | None:
        """Whose key this is."""
        self.asked.append(secret)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.let.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if self.fails:
            raise DatabaseUnavailableError
        return Principal(secret, "ingest") if secret.startswith("right") else None


def authenticator(keys: HeldKeys, *, cache_seconds: float = 60, seconds: float = 10):
    """One that takes so many wrong keys of an address, and gets no more within a test."""
    tokens = Buckets(per_second=0.001, burst=TOKENS, names_max=100)
    return Authenticator(keys, cache_seconds, seconds, tokens)


def ask(by: Authenticator, *secrets: str, origin: str = "a") -> list[asyncio.Task[Principal]]:
    """Asks for keys at the same time."""
    return [asyncio.create_task(by.by_secret(each, lambda: origin)) for each in secrets]


async def outcomes(tasks: list[asyncio.Task[Principal]]) -> list[str | type]:
    """The ids of keys that were right, and the kinds of what was raised."""
    async with asyncio.timeout(10):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    return [each.key_id if isinstance(each, Principal) else type(each) for each in found]


async def begun() -> None:
    """Lets what was asked come as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_key_is_looked_up_once_however_many_ask():
    """All get what it found, it costs no token, and the next one is not looked up at all."""
    keys = HeldKeys()
    by = authenticator(keys)
    asked = ask(by, *["right"] * 100) + ask(by, *["right"] * 100, origin="b")
    await begun()
    keys.let.set()
    assert await outcomes(asked) == ["right"] * 200
    assert await outcomes(ask(by, "right")) == ["right"]
    assert keys.asked == ["right"]
    assert await outcomes(ask(by, *(f"right{n}" for n in range(TOKENS)))) == [
        f"right{n}" for n in range(TOKENS)
    ]


async def test_many_right_keys_of_one_address_wait_for_each_other_and_none_is_refused():
    """So many are looked up at a time as wrong ones may come; a key twice among them, once."""
    keys = HeldKeys()
    by = authenticator(keys)
    names = [f"right{n // 2}" for n in range(200)]
    asked = ask(by, *names)
    await begun()
    assert keys.under_way == TOKENS
    # Another address does not wait for this one.
    other = ask(by, "right-b", origin="b")
    await begun()
    assert keys.under_way == TOKENS + 1
    keys.let.set()
    assert await outcomes(asked + other) == [*names, "right-b"]
    assert sorted(keys.asked) == sorted({*names, "right-b"})
    assert keys.most_under_way == TOKENS + 1


async def test_of_wrong_keys_at_once_no_more_are_looked_up_than_there_are_tokens():
    """The others are refused once none of those under way can turn out right any more."""
    keys = HeldKeys()
    by = authenticator(keys)
    asked = ask(by, *(f"wrong{n}" for n in range(100)))
    await begun()
    keys.let.set()
    told = await outcomes(asked)
    assert told.count(KeyMissingError) == TOKENS == len(keys.asked)
    assert told.count(TooManyRequestsError) == 100 - TOKENS
    assert await outcomes(ask(by, "wrong", "right")) == [TooManyRequestsError] * 2
    assert len(keys.asked) == TOKENS


async def test_wrong_keys_among_right_ones_are_bounded_as_well():
    """Each right key gives its token on, each wrong one keeps it."""
    keys = HeldKeys()
    keys.let.set()
    by = authenticator(keys)
    names = [f"{'wrong' if n % 10 == 9 else 'right'}{n}" for n in range(200)]
    told = await outcomes(ask(by, *names))
    assert told.count(KeyMissingError) == TOKENS
    assert sum(name.startswith("wrong") for name in keys.asked) == TOKENS
    # All that came before the last wrong one that was looked up.
    assert told[:40] == [n if n.startswith("right") else KeyMissingError for n in names[:40]]


async def test_a_key_that_was_right_before_needs_no_token():
    """Wrong ones of the same address hold it up neither now nor later."""
    keys = HeldKeys()
    keys.let.set()
    by = authenticator(keys, cache_seconds=0)
    assert await outcomes(ask(by, "right")) == ["right"]
    await outcomes(ask(by, *(f"wrong{n}" for n in range(TOKENS))))
    assert await outcomes(ask(by, "right", "other")) == ["right", TooManyRequestsError]


async def test_one_that_gives_up_harms_nobody():
    """Neither whoever began a look-up that others wait for, nor one that waits for its turn."""
    keys = HeldKeys()
    by = authenticator(keys)
    shared = ask(by, *["right"] * 3)
    others = ask(by, *(f"right{n}" for n in range(TOKENS + 3)))
    await begun()
    shared[0].cancel()
    others[TOKENS].cancel()
    await begun()
    keys.let.set()
    await begun()
    told = await outcomes(shared + others)
    assert told.count(asyncio.CancelledError) == 2
    assert len([each for each in told if isinstance(each, str)]) == TOKENS + 4
    # All tokens are there again.
    wrong = ask(by, *(f"wrong{n}" for n in range(TOKENS + 1)))
    assert (await outcomes(wrong)).count(KeyMissingError) == TOKENS


async def test_a_turn_that_comes_to_one_that_gives_up_is_passed_on():
    """Cancelled after it was let and before it goes on, it keeps no token."""
    guesses = Guesses(Buckets(per_second=0.001, burst=1, names_max=100))
    await guesses.begin("a")
    waiting = [asyncio.create_task(guesses.begin("a")) for _ in range(2)]
    await begun()
    guesses.end("a", wrong=False)
    waiting[0].cancel()
    async with asyncio.timeout(10):
        await waiting[1]
    guesses.end("a", wrong=True)
    with pytest.raises(TooManyRequestsError):
        await guesses.begin("a")


async def test_a_database_that_is_away_is_told_to_all_and_costs_nothing():
    """Nobody is refused for it, neither those that wait for one look-up nor for their turn."""
    keys = HeldKeys()
    keys.fails = True
    by = authenticator(keys)
    asked = ask(by, *["right"] * 50, *(f"right{n}" for n in range(50)))
    await begun()
    keys.let.set()
    assert await outcomes(asked) == [DatabaseUnavailableError] * 100
    keys.fails = False
    assert await outcomes(ask(by, "right")) == ["right"]


async def test_a_database_that_hangs_is_told_in_time():
    """Waiting for a turn and for the look-up take so long together, and no longer."""
    keys = HeldKeys()
    by = authenticator(keys, seconds=0.2)
    began = asyncio.get_running_loop().time()
    told = await outcomes(ask(by, *["right"] * 50, *(f"right{n}" for n in range(50))))
    assert asyncio.get_running_loop().time() - began < 2
    assert told == [DatabaseUnavailableError] * 100
    keys.let.set()
    assert await outcomes(ask(by, *["right"] * 50)) == ["right"] * 50


async def test_a_look_up_is_shared_for_no_longer_than_its_answer_would_be_remembered():
    """So a key revoked meanwhile is accepted for that time at most, however slow a look-up is."""
    keys = HeldKeys()
    by = authenticator(keys, cache_seconds=0)
    asked = ask(by, "right")
    await begun()
    asked += ask(by, "right")
    await begun()
    assert keys.asked == ["right"] * 2
    keys.let.set()
    assert await outcomes(asked) == ["right"] * 2
