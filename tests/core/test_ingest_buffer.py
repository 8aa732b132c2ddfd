"""Group commit: what waits is written together, within bounds, and every request is answered."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from trafficlog.errors import BufferFullError, DatabaseUnavailableError, TrafficlogError
from trafficlog.ingest import IngestBuffer

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class SlowWriter:
    """Writes a group when it is let: one ``release`` for each; notes what it was given."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.permits = asyncio.Semaphore(0)
        self.error: Exception | None = None
        self.begun = asyncio.Event()

    async def write(self, batches, now):
        """Echoes each batch once it is let to."""
        assert now == NOW
        self.groups.append(list(batches))
        self.begun.set()
        await self.permits.acquire()
        if self.error is not None:
            raise self.error
        return [f"{batch} stored" for batch in batches]

    def release(self, groups: int = 1000) -> None:
        """Lets so many groups through."""
        for _ in range(groups):
            self.permits.release()


@asynccontextmanager
async def buffering(waiting_max=100, group_max=10, writers=1, **options):
    """A buffer that runs, and its writer."""
    writer = SlowWriter()
    buffer = IngestBuffer(
        writer,
        lambda: NOW,
        waiting_max=waiting_max,
        group_max=group_max,
        writers=writers,
        **options,
    )
    buffer.start()
    try:
        yield buffer, writer
    finally:
        writer.release()
        await buffer.close()


async def until(condition):
    """Lets the others go on until a condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of any kind
            await asyncio.sleep(0)


async def submitted(buffer, *batches, size=1):
    """Tasks that have handed in their batches."""
    tasks = [asyncio.create_task(buffer.submit(batch, size)) for batch in batches]
    await asyncio.sleep(0)
    return tasks


async def test_a_lone_batch_does_not_wait_for_company():
    """It is written at once and its own outcome comes back."""
    async with buffering() as (buffer, writer):
        writer.release(1)
        assert await buffer.submit("a", 1) == "a stored"
        assert writer.groups == [["a"]]


async def test_what_gathers_during_a_write_is_written_together():
    """One transaction under way, all that arrives meanwhile goes into the next."""
    async with buffering() as (buffer, writer):
        tasks = await submitted(buffer, "a")
        await writer.begun.wait()
        tasks += await submitted(buffer, "b", "c", "d")
        writer.release(2)
        assert await asyncio.gather(*tasks) == ["a stored", "b stored", "c stored", "d stored"]
        assert writer.groups == [["a"], ["b", "c", "d"]]


async def test_a_group_stays_within_its_bound_and_in_order():
    """No transaction grows past the bound, but a larger batch goes whole and alone."""
    async with buffering(group_max=10) as (buffer, writer):
        tasks = await submitted(buffer, "first")
        await writer.begun.wait()
        for batch, size in (("b", 6), ("c", 4), ("d", 1), ("huge", 50), ("e", 1)):
            tasks += await submitted(buffer, batch, size=size)
        writer.release()
        await asyncio.gather(*tasks)
        assert writer.groups == [["first"], ["b", "c"], ["d"], ["huge"], ["e"]]


async def test_several_writers_share_what_waits():
    """A group that is being written does not hold up the next one."""
    async with buffering(group_max=1, writers=2) as (buffer, writer):
        tasks = await submitted(buffer, "a", "b")
        await until(lambda: len(writer.groups) == 2)
        writer.release()
        await asyncio.gather(*tasks)


async def test_a_full_buffer_turns_away_and_takes_again_once_there_is_room():
    """What was turned away was not taken; what was taken is not lost."""
    async with buffering(waiting_max=10) as (buffer, writer):
        tasks = await submitted(buffer, "a", "b", size=5)
        with pytest.raises(BufferFullError) as refused:
            await buffer.submit("c", 1)
        assert refused.value.data == {"waiting": 10, "limit": 10}
        assert buffer.waiting == 10
        writer.release()
        await asyncio.gather(*tasks)
        assert buffer.waiting == 0
        assert await buffer.submit("c", 1) == "c stored"
        assert "c" not in writer.groups[0]


async def test_a_batch_that_is_being_read_takes_its_room():
    """Who comes meanwhile is turned away at once; what was read is handed in for certain."""
    async with buffering(waiting_max=10) as (buffer, writer):
        writer.release()
        with buffer.room(6):
            assert buffer.waiting == 6
            with pytest.raises(BufferFullError), buffer.room(5):
                pass
            with pytest.raises(BufferFullError):
                buffer.hand_in("a", 5)
            with buffer.room(4):
                pass
        assert buffer.waiting == 0
        with pytest.raises(ValueError, match="cannot be read"), buffer.room(10):
            raise ValueError("cannot be read")
        assert await buffer.submit("b", 10) == "b stored"
        await buffer.close()
        with pytest.raises(DatabaseUnavailableError), buffer.room(1):
            pass


async def test_a_batch_larger_than_the_buffer_is_taken_when_nothing_waits():
    """Else it could never be stored."""
    async with buffering(waiting_max=10) as (buffer, writer):
        writer.release()
        assert await buffer.submit("huge", 11) == "huge stored"


@pytest.mark.parametrize("error", [DatabaseUnavailableError("away"), RuntimeError("a bug")])
async def test_a_failed_write_answers_every_request_and_the_next_goes_on(error):
    """Nobody waits for ever, and a failure does not end the writer."""
    async with buffering() as (buffer, writer):
        tasks = await submitted(buffer, "a")
        await writer.begun.wait()
        tasks += await submitted(buffer, "b", "c")
        writer.error = error
        writer.release()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, TrafficlogError) for each in outcomes)
        assert buffer.waiting == 0
        writer.error = None
        writer.release()
        assert await buffer.submit("d", 1) == "d stored"


async def test_a_batch_that_cannot_be_written_does_not_take_others_with_it():
    """A group that breaks is written again one by one: only the culprit fails."""
    async with buffering() as (buffer, writer):
        tasks = await submitted(buffer, "a")
        await writer.begun.wait()
        write = writer.write

        async def choke(batches, now):
            if "poison" in batches:
                raise RuntimeError("poison")
            return await write(batches, now)

        writer.write = choke
        tasks += await submitted(buffer, "b", "poison", "c")
        writer.release()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes.pop(2), TrafficlogError)
        assert outcomes == ["a stored", "b stored", "c stored"]
        assert writer.groups == [["a"], ["b"], ["c"]]


async def test_a_writer_that_answers_wrongly_leaves_nobody_waiting():
    """Fewer outcomes than batches: each request is answered, and the writer lives on."""
    async with buffering() as (buffer, writer):

        async def short(batches, now):
            return []

        good, writer.write = writer.write, short
        with pytest.raises(TrafficlogError):
            async with asyncio.timeout(5):
                await buffer.submit("a", 1)
        writer.write = good
        writer.release()
        async with asyncio.timeout(5):
            assert await buffer.submit("b", 1) == "b stored"


async def test_closing_writes_what_waits_and_takes_no_more():
    """What was taken is on disk before the buffer ends."""
    async with buffering(group_max=1) as (buffer, writer):
        tasks = await submitted(buffer, "a", "b", "c")
        closing = asyncio.create_task(buffer.close())
        await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailableError, match="stopping"):
            await buffer.submit("d", 1)
        assert not closing.done()
        writer.release()
        await closing
        assert await asyncio.gather(*tasks) == ["a stored", "b stored", "c stored"]


async def test_a_client_that_hangs_up_does_not_lose_its_batch():
    """It is written all the same, with those that came with it."""
    async with buffering() as (buffer, writer):
        first = await submitted(buffer, "a")
        await writer.begun.wait()
        gone, stays = await submitted(buffer, "b", "c")
        gone.cancel()
        writer.release()
        assert await stays == "c stored"
        assert writer.groups == [["a"], ["b", "c"]]
        assert await first[0] == "a stored"
        with pytest.raises(asyncio.CancelledError):
            await gone


async def test_a_failure_that_nobody_waits_for_any_more_is_quiet():
    """The client hung up and the write failed: no error is left unheard, and room is free."""
    async with buffering() as (buffer, writer):
        (gone,) = await submitted(buffer, "a")
        await writer.begun.wait()
        gone.cancel()
        writer.error = DatabaseUnavailableError("away")
        writer.release(1)
        await until(lambda: buffer.waiting == 0)
        writer.error = None


async def test_each_transaction_is_timed():
    """Those that were written are; a failed one is not taken for a fast one."""
    seconds: list[float] = []
    async with buffering(on_flush=seconds.append) as (buffer, writer):
        writer.release(2)
        await buffer.submit("a", 1)
        writer.error = DatabaseUnavailableError("away")
        with pytest.raises(DatabaseUnavailableError):
            await buffer.submit("b", 1)
    assert len(seconds) == 1
    assert seconds[0] >= 0


async def test_a_second_writer_begins_only_when_much_waits():
    """What comes while one transaction is under way gathers for the next, up to the crowd."""
    async with buffering(group_max=100, writers=2, crowd=5) as (buffer, writer):
        first = await submitted(buffer, "a", size=7)
        await until(lambda: writer.groups == [["a"]])
        gathered = await submitted(buffer, "b", "c", size=2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert writer.groups == [["a"]]
        crowd = await submitted(buffer, "d")
        await until(lambda: writer.groups == [["a"], ["b", "c", "d"]])
        writer.release()
        assert await asyncio.gather(*first, *gathered, *crowd)


async def test_a_second_writer_begins_when_as_much_waits_as_is_under_way():
    """Small requests of few clients never are a crowd, and need not wait for one another."""
    async with buffering(group_max=100, writers=2, crowd=50) as (buffer, writer):
        first = await submitted(buffer, "a", size=3)
        await until(lambda: writer.groups == [["a"]])
        gathered = await submitted(buffer, "b", "c")
        for _ in range(10):
            await asyncio.sleep(0)
        assert writer.groups == [["a"]]
        as_many = await submitted(buffer, "d")
        await until(lambda: writer.groups == [["a"], ["b", "c", "d"]])
        writer.release()
        assert await asyncio.gather(*first, *gathered, *as_many)


async def test_what_gathered_is_written_when_the_writer_before_is_done():
    """Nothing stays behind, however few wait."""
    async with buffering(group_max=100, writers=2) as (buffer, writer):
        tasks = await submitted(buffer, "a", size=3)
        await until(lambda: writer.groups)
        tasks += await submitted(buffer, "b", "c")
        writer.release(2)
        await asyncio.gather(*tasks)
        assert writer.groups == [["a"], ["b", "c"]]


async def test_a_request_that_waits_too_long_is_told_so():
    """In its time, whatever the database does; what no transaction began with is given back."""
    async with buffering(waiting_max=10, answer_seconds_max=0.05) as (buffer, writer):
        tasks = await submitted(buffer, "a", "b", size=5)
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, DatabaseUnavailableError) for each in outcomes)
        assert writer.groups == [["a", "b"]]
        # A transaction may yet store those: they take up their room until it ends.
        assert buffer.waiting == 10
        writer.release(1)
        await until(lambda: not buffer.waiting)
        tasks = await submitted(buffer, "c")
        await until(lambda: len(writer.groups) == 2)
        late = (await submitted(buffer, "d"))[0]
        with pytest.raises(DatabaseUnavailableError, match="again"):
            await late
        await asyncio.gather(*tasks, return_exceptions=True)
        assert buffer.waiting == 1
        writer.release()
        await until(lambda: not buffer.waiting)
        assert await buffer.submit("e", 1) == "e stored"
        assert writer.groups[1:] == [["c"], ["e"]]


async def test_a_writer_that_is_held_up_does_not_hold_up_the_next():
    """After a while a second one takes what waits, however little, and goes on doing so."""
    async with buffering(writers=2, crowd=100, patience_seconds=0.05) as (buffer, writer):
        write = writer.write

        async def hang(batches, now):
            return await write(batches, now) if "stuck" in batches else list(batches)

        writer.write = hang
        stuck = await submitted(buffer, "stuck")
        await writer.begun.wait()
        async with asyncio.timeout(5):
            for batch in "abc":
                assert await buffer.submit(batch, 1) == batch
        writer.release()
        assert await stuck[0] == "stuck stored"
        assert buffer.waiting == 0
