"""The options of the commands that sign certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from trafficlog.signing import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from trafficlog.cli.common import Target

SIGNING_KEY_FILE = click.option(
    "--signing-key-file",
    envvar="TRAFFICLOG_SIGNING_KEY_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The key that signs certificates, made when it is missing; {DEFAULT_NAME} in the data "
    "directory if none is named. [env: TRAFFICLOG_SIGNING_KEY_FILE]",
)
ISSUER = click.option(
    "--issuer",
    envvar="TRAFFICLOG_ISSUER",
    metavar="NAME",
    help="Who issues certificates, as they are to name it. [env: TRAFFICLOG_ISSUER]",
)


def signing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of issuing certificates."""
    return SIGNING_KEY_FILE(ISSUER(function))


def key_file_of(target: Target, named: Path | None) -> Path | None:
    """Where the signing key is; None when nobody has said.

    With a database elsewhere the data directory counts only if it was named: from each
    directory that a command is called in, there would be another key.
    """
    if named is not None:
        return named.absolute()
    source = click.get_current_context().get_parameter_source("data_dir")
    if target.database_url is not None and source is ParameterSource.DEFAULT:
        return None
    return target.data_dir / DEFAULT_NAME
