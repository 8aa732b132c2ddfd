"""GET and PUT /settings: what they take, and that a change hides at once and for good."""

from datetime import timedelta

import pytest

from tests.api.helpers import ids, refused, superuser, until

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
SETTINGS = "/v1/accounts/acme/settings"
DEFAULT = {"history": {"enabled": True, "days": 90}, "monthly_reports": True, "dontlog": []}
# Body, the setting that is refused, and why.
BAD_SETTINGS = [
    ({"history": {"days": 0}}, "history.days", "out_of_range"),
    ({"history": {"days": -1}}, "history.days", "out_of_range"),
    ({"history": {"days": 1096}}, "history.days", "out_of_range"),
    ({"history": {"days": 99999}}, "history.days", "out_of_range"),
    ({"history": {"days": 10**18}}, "history.days", "out_of_range"),
    ({"history": {"days": 2**64}}, "history.days", None),
    ({"history": {"days": None}}, "history.days", "wrong_type"),
    ({"history": {"days": 1.5}}, "history.days", "wrong_type"),
    ({"history": {"days": 7.0}}, "history.days", "wrong_type"),
    ({"history": {"days": True}}, "history.days", "wrong_type"),
    ({"history": {"days": "7"}}, "history.days", "wrong_type"),
    ({"history": {"days": [7]}}, "history.days", "wrong_type"),
    ({"history": {"enabled": False, "days": 0}}, "history.days", "out_of_range"),
    ({"history": {"enabled": "no"}}, "history.enabled", "wrong_type"),
    ({"history": {"enabled": None}}, "history.enabled", "wrong_type"),
    ({"history": {"enabled": 0}}, "history.enabled", "wrong_type"),
    ({"history": {"hours": 5}}, "hours", "unknown"),
    ({"history": None}, "history", "wrong_type"),
    ({"history": 90}, "history", "wrong_type"),
    ({"monthly_reports": "yes"}, "monthly_reports", "wrong_type"),
    ({"monthly_reports": None}, "monthly_reports", "wrong_type"),
    ({"histories": {"days": 5}}, "histories", "unknown"),
    ({"dontlog": None}, "dontlog", "wrong_type"),
    ({"dontlog": True}, "dontlog", "wrong_type"),
    ({"dontlog": {"message": True}}, "dontlog", "wrong_type"),
    ({"dontlog": ["message", "cost"]}, "dontlog", "not_in_set"),
    ({"dontlog": ["message", 1]}, "dontlog", "not_in_set"),
    ({"dontlog": [["to"]]}, "dontlog", "not_in_set"),
    ({"dontlog": "sender"}, "dontlog", "not_in_set"),
    ({"dontlog": [], "monthly_reports": 1}, "monthly_reports", "wrong_type"),
]


@pytest.fixture
async def keys(service):
    """The gateway's key and the customer's."""
    return await service.key("ingest"), await service.key("customer", "acme")


async def put(service, key, query="", **settings):
    """Changes settings and gives the answer."""
    status, answer = await service.call("PUT", SETTINGS + query, key, json=settings)
    assert status == 200, answer
    return answer


async def fill(service, ingest, days):
    """One record for each of these ages, named after it."""
    now = service.clock.now()
    records = [service.record(f"d{n}", created=(now - timedelta(days=n)).isoformat()) for n in days]
    assert (await service.post(ingest, *records))[1]["accepted"] == len(records)


async def test_settings_are_read_and_changed(service, keys):
    """What is put is what is got; what a body leaves out stays; both keys may."""
    _, customer = keys
    for key in (customer, service.operator_key):
        _, shown = await service.call("GET", SETTINGS, key)
        assert {n: shown[n] for n in DEFAULT} == DEFAULT
    changed = await put(service, customer, history={"enabled": True, "days": 7})
    assert changed["history"] == {"enabled": True, "days": 7}
    assert changed["monthly_reports"] is True
    changed = await put(service, service.operator_key, monthly_reports=False)
    assert changed["history"] == {"enabled": True, "days": 7}
    changed = await put(service, customer, history={"enabled": False})
    assert changed["history"] == {"enabled": False, "days": None}
    changed = await put(service, customer, history={"days": 1095})
    assert changed["history"] == {"enabled": True, "days": 1095}
    assert changed["monthly_reports"] is False
    assert await put(service, customer) == changed | {"applying_since": changed["applying_since"]}


async def test_a_bad_setting_is_refused_and_changes_nothing(service, keys):
    """Zero, negative, endless and half days are errors; nothing stands for "for ever"."""
    _, customer = keys
    for body, field, reason in BAD_SETTINGS:
        problem = await refused(service, 400, "PUT", SETTINGS, customer, json=body)
        assert problem["field"] == field, body
        assert reason in (None, problem["reason"]), body
        _, shown = await service.call("GET", SETTINGS, customer)
        assert {n: shown[n] for n in DEFAULT} == DEFAULT, body


async def test_a_body_that_is_no_object_is_refused(service, keys):
    """Anything but a JSON object of a bounded size is a clear error."""
    _, customer = keys
    for body in (
        b"",
        b"[]",
        b"7",
        b"null",
        b"{",
        b'{"history":{"days":Infinity}}',
        b"\xff",
        b"[" * 9999,
    ):
        problem = await refused(service, 400, "PUT", SETTINGS, customer, data=body)
        assert problem["code"] == "body_unreadable"
    huge = b'{"history":' + b" " * 100_000 + b"{}}"
    problem = await refused(service, 413, "PUT", SETTINGS, customer, data=huge)
    assert problem["code"] == "body_too_large"


async def test_turning_on_needs_a_number_of_days(service, keys):
    """Off knows no days: whoever turns history on again says how many."""
    _, customer = keys
    await put(service, customer, history={"enabled": False})
    problem = await refused(
        service, 400, "PUT", SETTINGS, customer, json={"history": {"enabled": True}}
    )
    assert (problem["field"], problem["reason"]) == ("history.days", "missing")


async def test_a_dry_run_counts_and_changes_nothing(service, keys):
    """It says how many visible rows would go, to the row, and leaves all as it is."""
    ingest, customer = keys
    await fill(service, ingest, [0, 1, 6, 7, 8, 30])
    for history, hidden, moved in (
        ({"days": 1095}, 0, 6),
        ({"days": 90}, 0, 0),
        ({"days": 8}, 2, 4),
        ({"days": 7}, 3, 3),
        ({"days": 1}, 5, 1),
        ({"enabled": False}, 6, 0),
    ):
        answer = await put(service, customer, "?dry_run=true", history=history)
        assert (answer["rows_hidden"], answer["rows_moved"]) == (hidden, moved)
    assert len(await ids(service, customer)) == 6
    await refused(service, 400, "PUT", SETTINGS + "?dry_run=maybe", customer, json={})


async def test_a_shorter_period_hides_at_once(service, keys):
    """When the answer is there no row of the old period is seen, before any job has run."""
    ingest, customer = keys
    await fill(service, ingest, [0, 1, 6, 7, 8, 30])
    await put(service, customer, history={"days": 7})
    assert await ids(service, customer) == ["d0", "d1", "d6"]
    assert (await service.call("GET", "/v1/accounts/acme/history/d7", customer))[0] == 404
    await put(service, customer, history={"days": 90})
    assert await ids(service, customer) == ["d0", "d1", "d6"], "what was given up comes not back"


async def test_a_change_is_carried_out_in_the_background(service, keys):
    """Hidden rows are destroyed, with a ledger row, and the others stand under the new period."""
    ingest, customer = keys
    await fill(service, ingest, [0, 1, 30])
    await put(service, customer, history={"days": 7})

    async def carried_out():
        _, shown = await service.call("GET", SETTINGS, customer)
        return shown["applying_since"] is None

    await until(carried_out)
    async with superuser(service) as connection:
        kept = await connection.fetch(
            "SELECT id, expires_at - created_at AS kept FROM history_record ORDER BY id"
        )
        assert [tuple(r) for r in kept] == [("d0", timedelta(days=7)), ("d1", timedelta(days=7))]
        ledger = await connection.fetch("SELECT reason, rows FROM purge_ledger")
        assert [tuple(r) for r in ledger] == [("setting", 1)]
        legal = await connection.fetchval("SELECT count(*) FROM traffic_record")
        assert legal == 3, "the legal record goes by its own period"
    assert await ids(service, customer) == ["d0", "d1"]


async def test_off_hides_at_once_and_on_does_not_bring_back(service, keys):
    """Off, then on: what was there before stays gone, what comes from then on is kept."""
    ingest, customer = keys
    await fill(service, ingest, [0, 1])
    # Created a little ahead of the clock, and known when history is turned off.
    ahead = (service.clock.now() + timedelta(minutes=5)).isoformat()
    await service.post(ingest, service.record("ahead", created=ahead))
    assert len(await ids(service, customer)) == 3
    await put(service, customer, history={"enabled": False})
    assert await ids(service, customer) == []
    await service.post(ingest, service.record("while-off"))
    await put(service, customer, history={"enabled": True, "days": 90})
    assert await ids(service, customer) == []
    # Created before the one that was ahead: what comes from now on is kept all the same.
    soon = (service.clock.now() + timedelta(minutes=2)).isoformat()
    await service.post(ingest, service.record("again", created=soon))
    assert await ids(service, customer) == ["again"]


async def test_a_dry_run_explains_each_effect(service, keys):
    """One sentence for each thing that would happen, with the number of rows, and nothing else."""
    ingest, customer = keys
    await fill(service, ingest, [0, 8, 30])

    async def effects(**wanted):
        answer = await put(service, customer, "?dry_run=true", **wanted)
        assert answer["dry_run"] is True
        return {e["code"]: e["text"] for e in answer["effects"]}

    assert await effects() == {}
    assert await effects(**DEFAULT) == {}
    shorter = await effects(history={"days": 9})
    assert list(shorter) == ["history_hidden", "history_moved", "history_days"]
    assert shorter["history_hidden"].startswith("1 of the records")
    assert shorter["history_moved"].startswith("2 of the records")
    assert "9 days" in shorter["history_days"]
    assert list(await effects(history={"enabled": False})) == ["history_hidden", "history_off"]
    every = await effects(monthly_reports=False, dontlog=["to", "message"])
    assert list(every) == ["reports_off", "dontlog_more"]
    assert "`message` and `to`" in every["dontlog_more"]
    await put(service, customer, history={"enabled": False}, monthly_reports=False, dontlog="from")
    back = await effects(**DEFAULT)
    assert list(back) == ["history_on", "reports_on", "dontlog_less"]
    _, shown = await service.call("GET", SETTINGS, customer)
    assert (shown["monthly_reports"], shown["dontlog"]) == (False, ["from"])


async def test_what_the_account_omits_is_in_no_record_posted_afterwards(service, keys):
    """From the answer on; beside what the record itself says; the legal part is untouched."""
    ingest, customer = keys
    parts = {"from": "Acme", "to": "+46701234567", "message": "hello"}
    await service.post(ingest, service.record("before", **parts))
    changed = await put(service, customer, dontlog=["message", "from", "message"])
    assert changed["dontlog"] == ["message", "from"]
    await service.post(ingest, service.record("after", **parts))
    await service.post(ingest, service.record("both", dontlog="to", **parts))
    _, page = await service.call("GET", "/v1/accounts/acme/history", customer)
    stored = {r["id"]: {n: r[n] for n in parts if n in r} for r in page["data"]}
    assert stored == {"before": parts, "after": {"to": parts["to"]}, "both": {}}
    assert (await put(service, service.operator_key, dontlog=[]))["dontlog"] == []
    await service.post(ingest, service.record("again", **parts))
    _, record = await service.call("GET", "/v1/accounts/acme/history/again", customer)
    assert {n: record[n] for n in parts} == parts
    async with superuser(service) as connection:
        assert (
            await connection.fetchval("SELECT count(*) FROM traffic_record WHERE sender = 'Acme'")
            == 4
        )


async def test_each_change_is_kept_with_who_made_it(service, keys):
    """The key's id stands beside the old and the new setting; the same setting is no change."""
    _, customer = keys
    await put(service, customer, history={"days": 7})
    await put(service, customer, history={"days": 7})
    async with superuser(service) as connection:
        rows = await connection.fetch(
            "SELECT changed_by, old->>'history_days' AS old, new->>'history_days' AS new"
            " FROM account_setting_change"
        )
    assert [(r["old"], r["new"]) for r in rows] == [("90", "7")]
    assert rows[0]["changed_by"].startswith("key:")


async def test_an_account_that_is_not_there_is_not_found(service, keys):
    """An operator's typing error makes no account."""
    for method in ("GET", "PUT"):
        problem = await refused(
            service, 404, method, "/v1/accounts/nobody/settings", service.operator_key, json={}
        )
        assert problem["code"] == "not_found"
