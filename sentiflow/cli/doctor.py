"""`doctor` command -> results of checks of a machine or cluster, as text or JSON."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli import exits
from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson, Overrides, Verbose
from sentiflow.cli.terminal import print_json
from sentiflow.progress import clean


def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A settings file (YAML).")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Find what would make a job fail, on this machine or the cluster of RAY_ADDRESS.

    Exit code 0: no errors were found; there may be warnings. 1: there are errors.
    """
    with reporting(verbose):
        from sentiflow.config import settings

        resolved = None if config is None else settings.load(config, overrides or ())
        from sentiflow.cluster.doctor import machine_checks, to_text

        results = machine_checks.examine(resolved, verbose=verbose)
        if as_json:
            print_json([dataclasses.asdict(result) for result in results])
        else:
            typer.echo(clean(to_text(results)))
    if any(result.level == "error" for result in results):
        raise typer.Exit(1)


def main() -> None:
    """Run the command as a script of its own, as ``jobs/doctor.py`` does."""
    exits.run_alone(doctor)
