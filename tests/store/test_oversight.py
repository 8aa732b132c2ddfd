"""What operators watch in the browser, as it is kept in the database."""

from datetime import timedelta

import asyncpg
import pytest

from tests.serving import utc
from trafficlog.config import Config
from trafficlog.jobs import FAILURE_CHARS_MAX, TELL_SECONDS, JobNotes
from trafficlog.store.database import Database
from trafficlog.store.oversight import QUIET_MAX, Oversight
from trafficlog.store.retention import Retention

NOW = utc("2026-11-21T12:00:00Z")
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def superuser(database):
    """The superuser's connection."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    yield connection
    await connection.close()


async def test_a_jobs_last_runs_are_kept_whatever_became_of_them(database):
    """A failure stays told beside the success after it, and counts; a job that is quiet is late."""
    async with Retention(database, Config()) as retention, Database(database, Config()) as pools:
        oversight = Oversight(pools)
        assert await oversight.jobs(NOW) == []
        await retention.note_jobs({"moves": None, "retention": "drop of x: lock timeout"}, NOW)
        [moves, retained] = await oversight.jobs(NOW)
        assert (moves.is_failing, moves.succeeded_at, moves.failures) == (False, NOW, 0)
        assert (retained.is_failing, retained.succeeded_at) == (True, None)
        assert (retained.failure, retained.failures) == ("drop of x: lock timeout", 1)
        await retention.note_jobs({"retention": None}, NOW + MINUTE)
        [_, retained] = await oversight.jobs(NOW)
        assert (retained.is_failing, retained.failed_at) == (False, NOW)
        assert retained.succeeded_at == retained.ran_at == NOW + MINUTE
        [moves, retained] = await oversight.jobs(NOW + QUIET_MAX)
        assert not moves.is_late
        [moves, retained] = await oversight.jobs(NOW + QUIET_MAX + MINUTE)
        assert moves.is_late
        # Retention runs once an hour.
        assert not retained.is_late
        [_, retained] = await oversight.jobs(NOW + QUIET_MAX + 122 * MINUTE)
        assert retained.is_late


async def test_what_is_summed_up_counts_as_having_come_in(database, superuser):
    """New records by the minute; a later report changes nothing; what is a day old goes."""
    async with Retention(database, Config()) as retention, Database(database, Config()) as pools:
        oversight = Oversight(pools)
        await superuser.execute(
            "INSERT INTO account (account_id, created_at, history_days_min, history_days_max)"
            " VALUES ('acme', now(), 90, 90);"
            "INSERT INTO ingest_minute VALUES (date_trunc('minute', now()) - interval '2 days', 5);"
            "INSERT INTO usage_delta VALUES (1, '2026-11-21', 1, 2, 1, 40, 0, 0, 0),"
            " (1, '2026-11-21', 1, 2, 1, -3, 0, 0, 0), (1, '2026-11-21', 1, 2, 5, 3, 0, 0, 0)"
        )
        await retention.roll_up_usage()
        await superuser.execute(
            "INSERT INTO usage_delta VALUES (1, '2026-11-21', 1, 2, 1, -1, 0, 0, 0),"
            " (1, '2026-11-21', 1, 2, 5, 1, 0, 0, 0)"
        )
        await retention.roll_up_usage()
        # The minute may have ended meanwhile.
        assert sum(await oversight.ingest(2)) == 40
        assert len(await oversight.ingest(60)) == 60
        assert await superuser.fetchval("SELECT count(*) FROM ingest_minute") == 1


def test_of_runs_that_go_well_one_a_minute_is_noted():
    """A failure and a change are written down at once, the failure in one bounded line."""
    notes = JobNotes()
    notes.add("usage")
    assert notes.to_tell(0.0) == {"usage": None}
    notes.add("usage")
    assert notes.to_tell(TELL_SECONDS - 1) == {}
    assert notes.to_tell(TELL_SECONDS - 1) == {}
    notes.add("usage")
    assert notes.to_tell(TELL_SECONDS) == {"usage": None}
    notes.add("usage", "it broke\nDETAIL: (number)=(+46700000001)")
    notes.add("moves", "x" * 1000)
    told = notes.to_tell(TELL_SECONDS + 1)
    assert told == {"usage": "it broke", "moves": "x" * FAILURE_CHARS_MAX}
    notes.add("usage", "it broke")
    assert notes.to_tell(TELL_SECONDS + 2) == {"usage": "it broke"}
    notes.add("usage")
    assert notes.to_tell(TELL_SECONDS + 3) == {"usage": None}
