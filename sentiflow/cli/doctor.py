"""`doctor` command -> the findings about a machine or cluster, as text or JSON."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson
from sentiflow.cluster.ray_messages import aside


def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A settings file (YAML).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: output_uri=/data/run"),
    ] = None,
    as_json: AsJson = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show Ray's own messages, and all that nodes say.")
    ] = False,
) -> None:
    """Find what a job would fail for, on this machine or the cluster of RAY_ADDRESS.

    Exit code 0: no job would fail for what was checked; there may be warnings. 1: there are errors.
    """
    with reporting(verbose):
        from sentiflow.config import settings

        resolved = None if config is None else settings.load(config, overrides or ())
        from sentiflow.cluster.doctor import diagnosis
        from sentiflow.cluster.doctor import doctor as examination

        with aside(verbose=verbose):
            findings = examination.examine(resolved, verbose=verbose)
        if as_json:
            typer.echo(json.dumps([found.to_json() for found in findings], ensure_ascii=False))
        else:
            typer.echo(diagnosis.to_text(findings))
    if diagnosis.is_ill(findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command as a script of its own, as ``jobs/doctor.py`` does."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(doctor)
    app()
