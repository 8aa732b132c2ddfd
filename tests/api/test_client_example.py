"""The README's example of the client does what the README says."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.cli.process import environment

README = Path(__file__).parents[2] / "README.md"


async def test_the_example_of_the_readme_runs(service, tmp_path):
    """It prints what stands below it, and the record is in the account's history."""
    _, _, part = README.read_text("utf-8").partition("### Send records from Python\n")
    found = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", part, re.DOTALL)
    assert found
    program = found[1].replace("http://127.0.0.1:8080", service.url)
    assert service.url in program
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program),
        cwd=tmp_path,
        env=environment({"TRAFFICLOG_KEY": await service.key("ingest")}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (process.returncode, out.decode()) == (0, found[2]), err.decode()
    assert [path.name for path in (tmp_path / "var" / "spool").iterdir()] == ["lock"]
    key = await service.key("customer", "acme")
    status, history = await service.call("GET", "/v1/accounts/acme/history", key)
    assert status == 200
    assert [(each["id"], each["status"]) for each in history["data"]] == [("py1", "delivered")]
