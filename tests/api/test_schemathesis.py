"""schemathesis asks the whole service all that its description lets it, and more.

No answer is a failure of the service, and none is of a status, type or shape that the
description does not have. The requests are the same in each run. For a longer look set
``TRAFFICLOG_TEST_EXAMPLES=500`` and another ``TRAFFICLOG_TEST_SEED``.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from trafficlog.store.keys import SCOPES

EXAMPLES = os.environ.get("TRAFFICLOG_TEST_EXAMPLES", "8")
SEED = os.environ.get("TRAFFICLOG_TEST_SEED", "1")
ROOT = Path(__file__).parents[2]
ARGUMENTS = [
    *("--phases", "examples,coverage,fuzzing", "--mode", "all"),
    *("--max-examples", EXAMPLES, "--seed", SEED, "--generation-database", "none"),
    # All but this: a value of the right shape may still be one that the store must refuse,
    # such as a record of next year.
    *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
    *("--continue-on-failure", "--no-shrink", "--warnings", "off"),
]


@pytest.mark.service_now("2026-11-22T00:10:00Z")
async def test_no_request_gets_an_answer_that_is_not_described(service):
    """Each route with each key that opens it, with examples, edges and random values."""
    keys = {each: await service.key(each) for each in SCOPES if each != "customer"}
    keys["customer"] = await service.key("customer", "acme")
    records = [
        service.record(f"m{number}", kind=kind, duration=63, tags=["login"])
        for number, kind in enumerate(["sms", "mms", "call"] * 10)
    ]
    assert (await service.post(keys["ingest"], *records))[0] == 200
    wanted = {"account": "acme", "reason": "spam", "case_ref": "A-1", "until": "2027-01-01"}
    status, hold = await service.call("POST", "/v1/holds", keys["operator"], json=wanted)
    assert status == 201
    status, erasure = await service.call(
        "POST", "/v1/accounts/acme/erasures", keys["customer"], json={"filter": {"tag": "none"}}
    )
    assert status == 202
    there = {
        "accounts": "acme",
        "history": "m1",
        "in-transit": "m1",
        "holds": hold["id"],
        "erasures": erasure["id"],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "run",
        f"{service.url}/openapi.json",
        *ARGUMENTS,
        cwd=ROOT,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
            "TRAFFICLOG_TEST_KEYS": json.dumps(keys),
            "TRAFFICLOG_TEST_THERE": json.dumps(there),
            "NO_COLOR": "1",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
