"""What a request does in the database is done again when another transaction was in its way."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from tests.api.helpers import ids, send, superuser, until
from tests.serving import utc
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.records import AccountKey
from trafficlog.retention import DataClass, RetentionPolicy
from trafficlog.store.accounts import Accounts
from trafficlog.store.keys import Keys
from trafficlog.store.sessions import OperatorSessions, PageSessions

# The jobs rest after their first round, which has nothing to do: no transaction of theirs fails.
pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.service_config(move_interval_seconds=3600),
]
ONE_TRY = pytest.mark.service_config(move_interval_seconds=3600, flush_attempts_max=1)
NOW = utc("2026-11-21T12:00:00Z")
HISTORY, SETTINGS = "/v1/accounts/acme/history", "/v1/accounts/acme/settings"
RECORD = "SELECT FROM history_record WHERE id = 'm1' AND created_at = $1 FOR UPDATE"

# Every statement that writes fails as often as is told, as it does for who loses in a deadlock. A
# sequence counts down: what is rolled back does not take its steps back.
FAILING = """
CREATE SEQUENCE failures INCREMENT -1 MAXVALUE 1000000 START 0;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = trafficlog AS $$
BEGIN
    IF nextval('failures') > 0 THEN
        RAISE 'deadlock detected' USING ERRCODE = 'deadlock_detected';
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE name regclass;
BEGIN
    FOR name IN SELECT oid FROM pg_class WHERE relnamespace = 'trafficlog'::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition
    LOOP
        EXECUTE format('CREATE TRIGGER fail BEFORE INSERT OR UPDATE OR DELETE ON %s'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION fail()', name);
    END LOOP;
END $$;
"""
PURPOSE = {"reason": "fraud report", "case_ref": "A-17"}
HOLD = PURPOSE | {"account": "acme", "until": "2026-12-21T00:00:00Z"}
ORDER = PURPOSE | {
    "account": "acme",
    "created_from": "2026-11-20T00:00:00Z",
    "created_to": "2026-11-22T00:00:00Z",
}
LATER = {"until": "2026-12-22T00:00:00Z"}
# Scope of the key, method, path, body, status; {} is the id that the last answer gave.
REQUESTS = [
    ("customer", "PUT", SETTINGS, {"history": {"days": 30}}, 200),
    ("customer", "DELETE", HISTORY + "/m1", None, 200),
    ("customer", "POST", "/v1/accounts/acme/erasures", {"everything": True}, 202),
    ("customer", "POST", "/v1/accounts/acme/erasures/{}/cancel", None, 200),
    ("customer", "DELETE", "/v1/accounts/acme/reports/2026-10", None, 200),
    ("ingest", "PUT", "/v1/in-transit/callback-1", {"tries": 3}, 201),
    ("ingest", "DELETE", "/v1/in-transit/callback-1", None, 204),
    ("operator", "POST", "/v1/holds", HOLD, 201),
    ("operator", "POST", "/v1/holds/{}/extend", LATER, 200),
    ("operator", "GET", "/v1/holds/{}/records?reason=review", None, 200),
    ("operator", "POST", "/v1/holds/{}/release", None, 200),
    ("officer", "POST", "/v1/disclosures", ORDER, 200),
    ("officer", "GET", "/v1/access-log", None, 200),
]


@pytest.fixture
async def keys(service):
    """A key of each scope; acme has a record, and the jobs have had their first round."""
    async with superuser(service) as connection:

        async def at_rest():
            return await connection.fetchval("SELECT count(*) FROM job_run")

        await until(at_rest)
        found = {scope: await service.key(scope) for scope in ("ingest", "officer")}
        found |= {"customer": await service.key("customer", "acme")}
        assert (await service.post(found["ingest"], service.record("m1")))[0] == 200
        await connection.execute(
            "INSERT INTO monthly_report (account_key, month, made_at, final_from, final, content)"
            " SELECT account_key, '2026-10-01', $1, $1, true, '{}' FROM account",
            NOW,
        )
    return found | {"operator": service.operator_key}


@pytest.fixture
async def failing(service, keys):
    """Has so many statements that write fail; without a number, whether others were tried after."""
    async with superuser(service) as connection:
        await connection.execute(FAILING)

        async def fail(count=None):
            if count is None:
                return await connection.fetchval("SELECT last_value <= 0 FROM failures")
            return await connection.fetchval("SELECT setval('failures', $1, false)", count)

        yield fail


@contextlib.asynccontextmanager
async def others(service, count):
    """Connections in a transaction each, whose waits nobody but the other side breaks."""
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = await stack.enter_async_context(superuser(service))
            await connection.execute("SET deadlock_timeout = '10min'")
            await connection.execute("BEGIN")
            connections.append(connection)
        yield connections


async def erase_in_a_deadlock(service, keys):
    """Erases three records of one id, in whose way another transaction is; gives the answer.

    The erasure has the oldest when it waits for the second; who holds the newest then waits for
    the oldest, and is waited for when the second is let go.
    """
    created = [service.clock.now() - timedelta(days=n) for n in (2, 1, 0)]
    records = [service.record("m1", created=each.isoformat()) for each in created[:2]]
    assert (await service.post(keys["ingest"], *records))[0] == 200
    async with superuser(service) as watching, others(service, 2) as (gate, other):

        async def waits(blocker):
            return await watching.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))",
                blocker.get_server_pid(),
            )

        await gate.fetch(RECORD, created[1])
        await other.fetch(RECORD, created[2])
        answer = asyncio.create_task(send(service, "DELETE", HISTORY + "/m1", keys["customer"]))
        erasing = await until(lambda: waits(gate))
        contended = asyncio.create_task(other.fetch(RECORD, created[0]))

        async def goes_round():
            return await watching.fetchval(
                "SELECT $1 = ANY (pg_blocking_pids($2))", erasing, other.get_server_pid()
            )

        await until(goes_round)
        await gate.execute("ROLLBACK")
        await contended
        await other.execute("ROLLBACK")
        return await answer


async def test_an_erasure_that_meets_a_deadlock_is_done_again(service, keys):
    """Of two transactions that wait for one another the erasure gives way, and then erases all."""
    status, receipt, _ = await erase_in_a_deadlock(service, keys)
    assert status == 200, receipt
    assert receipt["erased"] == [{"data_class": "history_record", "rows": 3}]
    assert await ids(service, keys["customer"]) == []


@ONE_TRY
async def test_an_erasure_that_meets_deadlocks_only_is_to_be_tried_later(service, keys):
    """When the tries that the configuration allows are over it is 503; nothing is erased."""
    status, problem, headers = await erase_in_a_deadlock(service, keys)
    assert (status, problem["code"]) == (503, "database_unavailable"), problem
    assert headers["Retry-After"] == "1"
    assert await ids(service, keys["customer"]) == ["m1", "m1", "m1"]


async def test_an_erasure_whose_record_is_moved_meanwhile_finds_it(service, keys):
    """A record that goes to another partition just when it is to be erased is erased there."""
    longer = {"history": {"days": 365}}
    assert (await send(service, "PUT", SETTINGS, keys["customer"], json=longer))[0] == 200
    async with superuser(service) as watching, others(service, 1) as (moving,):
        moved = await moving.fetchval(
            "SELECT (move_history_step(account_key, $1, 100)).rows_moved FROM account",
            service.clock.now(),
        )
        assert moved == 1
        erasing = asyncio.create_task(send(service, "DELETE", HISTORY + "/m1", keys["customer"]))

        async def waits():
            return await watching.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))",
                moving.get_server_pid(),
            )

        await until(waits)
        await moving.execute("COMMIT")
        status, receipt, _ = await erasing
        assert status == 200, receipt
        assert receipt["erased"] == [{"data_class": "history_record", "rows": 1}]
        assert await watching.fetchval("SELECT count(*) FROM history_record") == 0


async def test_every_request_that_writes_is_done_again(service, keys, failing):
    """Two deadlocks one after the other are no concern of who asks, whatever is asked."""
    known = None
    for scope, method, path, body, wanted in REQUESTS:
        await failing(2)
        status, answer, _ = await send(service, method, path.format(known), keys[scope], json=body)
        assert status == wanted, (method, path, answer)
        known = answer.get("id", known) if isinstance(answer, dict) else known
        assert await failing(), (method, path)


async def test_every_request_that_writes_is_to_be_tried_later(service, keys, failing):
    """When deadlocks do not end each request is answered 503 with Retry-After, and never 500."""
    known = None
    for scope, method, path, body, wanted in REQUESTS:
        await failing(10**6)
        asked = {"key": keys[scope], "json": body}
        status, problem, headers = await send(service, method, path.format(known), **asked)
        assert (status, problem["code"]) == (503, "database_unavailable"), (method, path, problem)
        assert headers["Retry-After"] == "1"
        await failing(0)
        status, answer, _ = await send(service, method, path.format(known), **asked)
        assert status == wanted, (method, path, answer)
        known = answer.get("id", known) if isinstance(answer, dict) else known


async def test_what_is_done_without_a_request_is_done_again(service, keys, failing):
    """So is what the command line does to accounts, policies and keys, and the end of a session."""
    async with superuser(service) as connection:
        key = AccountKey(await connection.fetchval("SELECT account_key FROM account"))
        key_id = await connection.fetchval("SELECT key_id FROM api_key WHERE scope = 'officer'")
    accounts, api_keys = Accounts(service.database), Keys(service.database)
    sessions, staff = PageSessions(service.database), OperatorSessions(service.database)
    now, day = service.clock.now(), timedelta(days=1)
    policy = RetentionPolicy(DataClass.DEBUG, now + day, day, "less is needed")
    for work in (
        lambda: accounts.create("new", now, None),
        lambda: accounts.describe(key, name="Acme AB", currency=None, now=now, by="test"),
        lambda: accounts.close(key, now, "test"),
        lambda: accounts.set_policy(policy, now, "test"),
        lambda: api_keys.create("ingest", None, now),
        lambda: api_keys.revoke(key_id, now),
        lambda: sessions.end(key, b"s" * 16, now + day, now),
        lambda: staff.end(b"o" * 16, now + day, now),
    ):
        await failing(10**6)
        with pytest.raises(DatabaseUnavailableError):
            await work()
        await failing(2)
        await work()
        assert await failing()
