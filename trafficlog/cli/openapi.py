"""``trafficlog openapi``."""

from __future__ import annotations

import click

from trafficlog.api.app import ROUTES
from trafficlog.api.openapi import document
from trafficlog.cli.common import exit_codes, print_json
from trafficlog.config import Config


@click.command()
def openapi() -> None:
    """Print the API's description in OpenAPI 3.1, under the settings of the environment.

    It needs no database. A running service shows the same at /openapi.json, and as a page
    at /docs.
    """
    with exit_codes():
        print_json(document(ROUTES, Config.from_environment()))
