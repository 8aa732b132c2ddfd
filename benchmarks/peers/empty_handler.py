"""No peer but the floor: a handler that reads the body, does nothing with it and answers.

What aiohttp takes by itself for one record a request, on the same event loop with the same
settings of the server. Run as ``python empty_handler.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plain import accepted, run_until_done, serve

if TYPE_CHECKING:
    from aiohttp import web


async def post(request: web.Request) -> web.Response:
    """Reads one record and forgets it."""
    await request.read()
    return accepted(1)


if __name__ == "__main__":
    run_until_done(serve(post))
