"""Token buckets, against one that is counted by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficlog.errors import TooManyRequestsError
from trafficlog.rates import Buckets


@given(
    per_second=st.sampled_from([1, 2, 4, 8, 64]),
    burst=st.integers(1, 20),
    # Steps in 64ths of a second, which floats hold exactly.
    steps=st.lists(st.integers(0, 256), min_size=1, max_size=60),
)
def test_a_bucket_lets_through_what_its_tokens_allow(per_second, burst, steps):
    """Never more than the burst and what came back since, never less; and it says when to retry."""
    buckets = Buckets(per_second, burst, names_max=10)
    tokens, last, now = Fraction(burst), Fraction(0), Fraction(0)
    for step in steps:
        now += Fraction(step, 64)
        tokens, last = min(Fraction(burst), tokens + (now - last) * per_second), now
        if tokens < 1:
            with pytest.raises(TooManyRequestsError) as caught:
                buckets.take("a", float(now))
            until_one = (1 - tokens) / per_second
            assert until_one <= caught.value.retry_seconds < until_one + 1
        else:
            tokens -= 1
            assert buckets.take("a", float(now)) == int(tokens)


def test_names_do_not_share_a_bucket():
    """One that is empty takes nothing from another."""
    buckets = Buckets(1, 2, names_max=10)
    for name in ("a", "b"):
        assert [buckets.take(name, 0), buckets.take(name, 0)] == [1, 0]
        with pytest.raises(TooManyRequestsError):
            buckets.take(name, 0)


def test_what_is_given_back_can_be_taken_again():
    """A token that turned out not to count leaves no trace."""
    buckets = Buckets(1, 1, names_max=10)
    for _ in range(5):
        buckets.take("a", 0)
        buckets.give_back("a")
    buckets.give_back("never seen")
    buckets.take("a", 0)
    with pytest.raises(TooManyRequestsError):
        buckets.take("a", 0)


def test_so_many_buckets_are_kept_and_no_more():
    """Past the bound the one used longest ago is forgotten; one that is in use is not."""
    buckets = Buckets(1, 1, names_max=3)
    for n in range(100):
        buckets.take(f"stranger{n}", n / 1000)
        if n % 2 == 0:
            with pytest.raises(TooManyRequestsError):
                buckets.take(f"stranger{n}", n / 1000)
        assert len(buckets) <= 3
    with pytest.raises(TooManyRequestsError):
        buckets.take("stranger98", 0.2)
    buckets.take("stranger0", 0.2)
