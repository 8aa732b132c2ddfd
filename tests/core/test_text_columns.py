"""What is told of a column of texts at once holds of each of them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficlog.text_columns import TextColumn
from trafficlog.values import is_name, is_owner, is_plain_address, is_user_agent

# What is right, and what stands next to it.
short = st.text("aZ09+ ~.\t\n\0\x7f\x80\u00a0\u00e4\u0660", max_size=5)
long = st.integers(62, 66).flatmap(
    lambda n: st.sampled_from(["x" * n, "+" + "1" * n, "\u00e4" * n])
)
texts = short | long
columns = st.lists(texts, min_size=1, max_size=6)
with_none = st.lists(texts | st.none(), min_size=1, max_size=6)


@given(columns)
def test_names_are_told_exactly(column):
    """Names are of ASCII alone, so that nothing is left in doubt."""
    assert TextColumn.of(column).are_names() == all(map(is_name, column))


@given(columns)
def test_plain_addresses_are_plain_each(column):
    """Wherever one text ends and the next begins."""
    if TextColumn.of(column).are_plain_addresses():
        assert all(map(is_plain_address, column))


@given(st.lists(st.text(string.ascii_letters + "123", min_size=1, max_size=64), min_size=1))
def test_addresses_as_most_are_leave_no_doubt(column):
    """Numbers with and without a sign, short codes and plain names, in any company."""
    signed = [f"+{text}"[:64] for text in column]
    assert TextColumn.of(column + signed).are_plain_addresses()


@given(with_none)
def test_printable_texts_are_so_each(column):
    """What is none is passed over, what is empty is of no character."""
    given_ones = [text for text in column if text is not None]
    if TextColumn.of(column).are_printable(1, 64):
        assert all(map(is_owner, given_ones))
    if TextColumn.of(column).are_printable(0, 1024):
        assert all(map(is_user_agent, given_ones))


@given(st.lists(st.text(string.printable[:95], min_size=1, max_size=64) | st.none(), min_size=1))
def test_texts_of_ascii_leave_no_doubt(column):
    """All that a keyboard has, with some left out."""
    assert TextColumn.of(column).are_printable(1, 64)
    assert TextColumn.of(column).are_storable(64)


@given(with_none, st.integers(0, 70))
def test_what_is_storable_is_not_longer_and_has_no_nul(column, chars_max):
    """In characters, of which none is of less than a byte."""
    if TextColumn.of(column).are_storable(chars_max):
        assert all(len(t) <= chars_max and "\0" not in t for t in column if t is not None)


@pytest.mark.parametrize("column", [[None], [None, None], [""], ["", None]])
def test_columns_that_say_nothing(column):
    """They have no bytes at all."""
    told = TextColumn.of(column)
    assert told.are_storable(0)
    assert told.are_printable(0, 0)
    assert told.are_printable(1, 64) is ("" not in column)
