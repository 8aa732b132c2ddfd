"""The spool's files: what was kept is read again, whatever happened to their ends and bytes."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficlog.client.errors import SpoolBusyError, SpoolFailedError, SpoolFullError
from trafficlog.client.frames import framed, read_frames
from trafficlog.client.spool import Spool
from trafficlog.errors import InvalidValueError

LINES = st.lists(
    st.binary(max_size=30).map(lambda raw: b'{"x":"' + raw.hex().encode() + b'"}\n'),
    min_size=1,
    max_size=4,
)
BATCHES = st.lists(LINES, min_size=1, max_size=5)


def lines(*names: str) -> list[bytes]:
    """Records as lines of JSON."""
    return [f'{{"id":"{name}"}}\n'.encode() for name in names]


def opened(directory: Path, **limits) -> Spool:
    """A spool that is ready."""
    spool = Spool(directory, **limits)
    spool.open()
    return spool


def drained(spool: Spool) -> list[bytes]:
    """All that is in a spool, in order, taken out of it."""
    found = []
    while (segment := spool.oldest()) is not None:
        found += [line for frame in segment.frames.frames for line in frame.lines()]
        spool.remove(segment)
    return found


def segments(directory: Path) -> list[Path]:
    """The segments' files, oldest first."""
    return sorted(directory.glob("*.segment"))


@given(BATCHES, st.data())
def test_a_cut_at_any_byte_costs_only_the_frame_it_is_in(batches, data):
    """All frames before the cut are whole; the torn one is known as such and not read."""
    frames = [framed(batch) for batch in batches]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    found = read_frames(whole[:cut])
    ends = [sum(map(len, frames[: n + 1])) for n in range(len(frames))]
    kept = sum(end <= cut for end in ends)
    assert [frame.lines() for frame in found.frames] == batches[:kept]
    assert found.torn_bytes == cut - ([0, *ends][kept])
    assert found.damaged_bytes == 0


@given(BATCHES, st.data())
def test_a_byte_that_changed_costs_only_the_frame_it_is_in(batches, data):
    """The others are found again, nothing is read that was not written, and the damage is told."""
    frames = [framed(batch) for batch in batches]
    hit = data.draw(st.integers(0, len(frames) - 1))
    place = data.draw(st.integers(0, len(frames[hit]) - 1))
    flipped = data.draw(st.integers(1, 255))
    broken = bytearray(frames[hit])
    broken[place] ^= flipped
    found = read_frames(b"".join([*frames[:hit], bytes(broken), *frames[hit + 1 :]]))
    assert [frame.lines() for frame in found.frames] == batches[:hit] + batches[hit + 1 :]
    lost = found.damaged_bytes if hit < len(frames) - 1 else found.torn_bytes
    assert lost == len(frames[hit])


@given(st.binary(max_size=200), BATCHES)
def test_garbage_is_never_read_as_records(garbage, batches):
    """Whatever lies before the frames, they alone are read."""
    frames = b"".join(framed(batch) for batch in batches)
    found = read_frames(garbage + frames)
    assert [frame.lines() for frame in found.frames] == batches
    assert read_frames(garbage).frames == ()


@settings(max_examples=40)
@given(
    st.lists(st.one_of(LINES, st.just("reopen"), st.just("drain")), max_size=12),
    st.data(),
)
def test_a_spool_gives_back_what_it_took_across_restarts_and_torn_ends(steps, data):
    """In the order it was kept; a process killed in the middle of a write adds nothing to it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "spool"
        spool = opened(directory, segment_bytes_max=150)
        expected: list[bytes] = []
        for step in steps:
            if step == "drain":
                assert drained(spool) == expected
                assert spool.is_empty
                assert spool.bytes_used == 0
                expected = []
            elif step == "reopen":
                spool.close()
                if (there := segments(directory)) and there[-1].stat().st_size:
                    torn = framed(lines("never acknowledged"))
                    with there[-1].open("ab") as file:
                        file.write(torn[: data.draw(st.integers(0, len(torn) - 1))])
                spool = opened(directory, segment_bytes_max=150)
            else:
                spool.append(step)
                expected += step
        assert drained(spool) == expected
        assert segments(directory) == []
        spool.close()


def test_what_append_returned_from_is_synced(tmp_path, monkeypatch):
    """The file's bytes and, before them, its name in the directory."""
    synced = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(file).st_mode))
        real(file)

    spool = opened(tmp_path)
    monkeypatch.setattr(os, "fsync", fsync)
    spool.append(lines("a"))
    assert synced == [True, False]
    spool.append(lines("b"))
    assert synced == [True, False, False]
    spool.close()


def test_a_spool_is_bounded_and_has_room_again_when_it_is_drained(tmp_path):
    """Its files never pass the bound; what does not fit is told and nothing of it is kept."""
    spool = opened(tmp_path, bytes_max=1000, segment_bytes_max=200)
    kept = []
    while spool.bytes_used < 900:
        kept += lines(f"r{len(kept)}")
        spool.append(kept[-1:])
    with pytest.raises(SpoolFullError, match="no room for 50 records"):
        spool.append(lines(*(f"another {number}" for number in range(50))))
    assert 0 < spool.bytes_used == sum(path.stat().st_size for path in segments(tmp_path)) <= 1000
    assert len(kept) > 10
    segment = spool.oldest()
    spool.remove(segment)
    spool.append(lines("more"))
    gone = sum(frame.records for frame in segment.frames.frames)
    assert drained(spool) == [*kept[gone:], *lines("more")]
    spool.close()


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, SpoolFullError), (errno.EIO, SpoolFailedError)]
)
def test_a_disk_that_is_full_or_fails_keeps_what_it_had(tmp_path, monkeypatch, number, error):
    """A write that fails half-way is told, and leaves what was kept before it whole."""
    spool = opened(tmp_path)
    spool.append(lines("a"))
    real = os.write

    def write(file: int, data: bytes) -> int:
        if len(data) > 10:
            return real(file, data[:10])
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        for _ in range(2):
            with pytest.raises(error, match=os.strerror(number)):
                spool.append(lines("b"))
    spool.append(lines("c"))
    assert spool.bytes_used == sum(path.stat().st_size for path in segments(tmp_path))
    assert drained(spool) == lines("a", "c")
    spool.close()


def test_what_fsync_refused_is_not_kept(tmp_path, monkeypatch):
    """After a failed fsync the bytes are not trusted, however they were written."""
    spool = opened(tmp_path)
    spool.append(lines("a"))

    def fsync(file: int) -> None:
        raise OSError(errno.EIO, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(SpoolFailedError):
            spool.append(lines("b"))
    assert drained(spool) == lines("a")
    spool.close()


def test_one_owner_at_a_time(tmp_path):
    """A second client on the directory is refused, in the same process too, until it is free."""
    first = opened(tmp_path)
    with pytest.raises(SpoolBusyError, match="needs one of its own"):
        opened(tmp_path)
    first.append(lines("a"))
    first.close()
    second = opened(tmp_path)
    assert drained(second) == lines("a")
    second.close()


def test_damage_is_set_aside_and_not_destroyed(tmp_path):
    """The frames around it are given; the segment's bytes stay for somebody to look at."""
    spool = opened(tmp_path)
    for name in ("a", "b", "c"):
        spool.append(lines(name))
    spool.close()
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    spool = opened(tmp_path)
    assert drained(spool) == lines("a", "c")
    assert path.with_suffix(".damaged").read_bytes() == data
    assert spool.damaged_bytes == spool.bytes_used == len(data)
    spool.close()
    again = opened(tmp_path)
    assert again.is_empty
    assert again.damaged_bytes == len(data)
    again.close()


def test_what_was_set_aside_stays_when_more_is_damaged(tmp_path):
    """Also by another owner of the directory, and beside what somebody put there."""
    (tmp_path / "notes.damaged").write_bytes(b"x")
    for name in ("a", "b"):
        spool = opened(tmp_path)
        spool.append(lines(name, *"cdef"))
        spool.append(lines("z"))
        spool.close()
        (path,) = segments(tmp_path)
        data = bytearray(path.read_bytes())
        data[30] ^= 1
        path.write_bytes(data)
        spool = opened(tmp_path)
        assert drained(spool) == lines("z")
        spool.close()
    aside = [*tmp_path.glob("*.damaged")]
    assert len(aside) == 3
    again = opened(tmp_path)
    assert again.damaged_bytes == sum(path.stat().st_size for path in aside)
    again.close()


def test_the_names_of_all_directories_that_are_made_are_synced(tmp_path, monkeypatch):
    """Each in the one above it, which a power cut would take otherwise."""
    synced = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    opened(tmp_path / "a" / "b").close()
    assert sorted(synced) == sorted(made.stat().st_ino for made in (tmp_path, tmp_path / "a"))


def test_nobody_else_may_read_it(tmp_path):
    """Records are personal data: the directory and its files are the owner's alone."""
    spool = opened(tmp_path / "made" / "spool")
    spool.append(lines("a"))
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "made" / "spool").rglob("*")}
    assert modes == {0}
    assert (tmp_path / "made" / "spool").stat().st_mode & 0o077 == 0
    spool.close()


def test_a_directory_that_cannot_be_one_is_told(tmp_path):
    """A file in its place is an error that names it, and so is a bound that is none."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolFailedError, match="file"):
        opened(tmp_path / "file")
    with pytest.raises(InvalidValueError, match="spool_bytes_max"):
        Spool(tmp_path, bytes_max=0)
