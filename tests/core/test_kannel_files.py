from __future__ import annotations

import gzip
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficlog.ship.follow import (
    LogNotFollowableError,
    LogUnreadableError,
    open_log,
)
from trafficlog.ship.lines import LineSplitter


@pytest.fixture
def path(tmp_path):
    """Where the log is."""
    return tmp_path / "access.log"


def read_on(reader) -> list[tuple[int, bytes]]:
    """All that can be read now: numbers and lines."""
    lines = []
    while piece := reader.read_lines():
        lines += [(each.number, each.data) for each in piece]
    return lines


def append(path, data: bytes) -> None:
    """Writes on at the end of the file."""
    with path.open("ab") as file:
        file.write(data)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_do_not_depend_on_the_pieces_they_are_read_in(lines, step):
    """Wherever the reading is cut, the same lines come out with the same numbers."""
    lines = [each.replace(b"\n", b"").rstrip(b"\r") for each in lines]
    data = b"".join(each + b"\n" for each in lines)
    splitter = LineSplitter()
    read = []
    for start in range(0, len(data), step):
        read += splitter.split(data[start : start + step])
    assert [each.data for each in read] == lines
    assert [each.number for each in read] == list(range(1, len(lines) + 1))
    assert splitter.finish() == []


def test_a_line_over_the_limit_is_a_problem_and_not_kept():
    """A file without line ends takes no more memory than the limit; its end ends the line."""
    splitter = LineSplitter(line_bytes_max=10)
    assert splitter.split(b"x" * 11) == []
    assert splitter.split(b"y" * 100) == []
    long, short, exact = splitter.split(b"z\nshort\n" + b"e" * 10 + b"\n")
    assert (long.number, long.data) == (1, b"")
    assert "longer than 10 bytes" in long.problem
    assert (short.data, exact.data, exact.problem) == (b"short", b"e" * 10, None)
    assert splitter.split(b"x" * 50) == []
    assert len(splitter.finish()) == 1


def test_a_plain_file_is_read_to_its_end(path):
    """The last line needs no end, and a carriage return is not part of a line."""
    path.write_bytes(b"one\r\ntwo\n\nthree")
    reader = open_log(path, follow=False)
    assert read_on(reader) == [(1, b"one"), (2, b"two"), (3, b""), (4, b"three")]
    assert reader.finished
    assert (reader.bytes_read, reader.bytes_total) == (15, 15)
    reader.close()


def test_a_compressed_file_is_told_by_its_content(path):
    """Gzip needs no name of its own; several members are one file."""
    path.write_bytes(gzip.compress(b"one\ntw") + gzip.compress(b"o\nthree"))
    reader = open_log(path, follow=False)
    assert read_on(reader) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert reader.finished
    assert reader.bytes_read == reader.bytes_total == path.stat().st_size
    reader.close()


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_compressed_file_gives_what_is_before_the_damage(path, damage):
    """The lines that can be had are shipped, and the damage is a line of its own."""
    whole = bytearray(gzip.compress(b"".join(b"line %d\n" % n for n in range(50_000))))
    if damage == "cut":
        del whole[len(whole) // 2 :]
    else:
        whole[len(whole) // 2 : len(whole) // 2 + 50] = b"\xff" * 50
    path.write_bytes(whole)
    reader = open_log(path, follow=False)
    lines = []
    while not reader.finished:
        lines += reader.read_lines()
    assert lines[0].data == b"line 0"
    assert "damaged" in lines[-1].problem
    assert 100 < len(lines) < 50_001
    assert [each.number for each in lines] == list(range(1, len(lines) + 1))
    reader.close()


def test_a_compressed_file_cannot_be_followed(path):
    """It does not grow: the error says so, instead of waiting for ever."""
    path.write_bytes(gzip.compress(b"one\n"))
    with pytest.raises(LogNotFollowableError, match="not followed"):
        open_log(path, follow=True)


def test_a_file_that_cannot_be_opened_is_an_error_of_its_own(tmp_path):
    """Missing files, directories and pipes are told apart from empty logs."""
    with pytest.raises(LogUnreadableError, match="No such file"):
        open_log(tmp_path / "missing.log", follow=False)
    with pytest.raises(LogUnreadableError, match="not a file"):
        open_log(tmp_path, follow=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogUnreadableError, match="not a file"):
        open_log(tmp_path / "pipe", follow=False)


def test_a_followed_file_grows(path):
    """Lines come as they are written; half a line waits for its other half."""
    path.write_bytes(b"one\ntw")
    reader = open_log(path, follow=True)
    assert read_on(reader) == [(1, b"one")]
    assert read_on(reader) == []
    append(path, b"o")
    assert read_on(reader) == []
    append(path, b"\nthree\n")
    assert read_on(reader) == [(2, b"two"), (3, b"three")]
    assert not reader.finished
    reader.close()


def test_a_followed_file_may_be_empty_at_first(path):
    """A log that was just rotated holds nothing yet."""
    path.touch()
    reader = open_log(path, follow=True)
    assert read_on(reader) == []
    append(path, b"one\n")
    assert read_on(reader) == [(1, b"one")]
    reader.close()


def test_a_renamed_file_is_read_until_the_new_one_is_written(path):
    """The writer goes on in the old file until it opens the new one; no line of either is lost."""
    path.write_bytes(b"one\n")
    reader = open_log(path, follow=True)
    assert read_on(reader) == [(1, b"one")]
    path.rename(path.with_suffix(".1"))
    assert read_on(reader) == []
    append(path.with_suffix(".1"), b"two\n")
    assert read_on(reader) == [(2, b"two")]
    path.touch()
    assert read_on(reader) == []
    append(path.with_suffix(".1"), b"three\nfour")
    append(path, b"five\n")
    assert read_on(reader) == [(3, b"three"), (4, b"four"), (1, b"five")]
    append(path, b"six\n")
    assert read_on(reader) == [(2, b"six")]
    reader.close()


def test_a_file_that_was_replaced_by_a_full_one_is_read_from_its_start(path):
    """The new file may already be longer than the old one was."""
    path.write_bytes(b"one\n")
    reader = open_log(path, follow=True)
    assert read_on(reader) == [(1, b"one")]
    new = path.with_suffix(".new")
    new.write_bytes(b"two\nthree\nfour\n")
    new.replace(path)
    assert [data for _, data in read_on(reader) + read_on(reader)] == [b"two", b"three", b"four"]
    reader.close()


def test_a_truncated_file_is_read_from_its_start(path):
    """Copy and truncate: the same file gets shorter, and then grows again."""
    path.write_bytes(b"one\ntwo\nhalf")
    reader = open_log(path, follow=True)
    assert len(read_on(reader)) == 2
    shutil.copy(path, path.with_suffix(".1"))
    os.truncate(path, 0)
    assert read_on(reader) == []
    append(path, b"three\n")
    assert read_on(reader) == [(1, b"three")]
    reader.close()


def test_a_truncated_file_that_grew_past_where_it_was_read_to_is_noticed(path):
    """The start of the file tells it from one that only grew."""
    path.write_bytes(b"2026-11-21 22:00:00 one\n")
    reader = open_log(path, follow=True)
    assert len(read_on(reader)) == 1
    os.truncate(path, 0)
    append(path, b"2026-11-21 23:00:00 two\n2026-11-21 23:00:01 three\n")
    assert [number for number, _ in read_on(reader)] == [1, 2]
    reader.close()


def test_a_long_file_is_followed_in_pieces(path):
    """Neither rotation nor growth is mistaken while a long file is read."""
    lines = [b"line %d" % number for number in range(100_000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    reader = open_log(path, follow=True)
    first = reader.read_lines()
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"new\n")
    read = [each.data for each in first] + [data for _, data in read_on(reader)]
    read += [data for _, data in read_on(reader)]
    assert read == [*lines, b"new"]
    reader.close()
