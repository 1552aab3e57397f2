"""The `config` commands: show, check and describe settings; check a cluster file."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import ConfigPath, Overrides
from sentiflow.config import settings
from sentiflow.config.sections import Config

app = typer.Typer(no_args_is_help=True, help="Show and check the settings, or a cluster file.")


@app.command()
def show(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print every setting as the jobs see it, defaults included."""
    with reporting(verbose=False):
        show_settings(settings.load(config, overrides or ()))


@app.command()
def validate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Check the settings; print a line for each error."""
    with reporting(verbose=False):
        settings.load(config, overrides or ())
        typer.echo(f"{config} is valid")


@app.command()
def cluster(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A file for `ray up`.")],
) -> None:
    """Check a cluster file without starting anything; print a line for each error."""
    with reporting(verbose=False):
        from sentiflow.cluster import cluster_file

        cluster_file.check(file)
        typer.echo(f"{file} is valid")


@app.command()
def describe() -> None:
    """List every setting with its default and its meaning, as a Markdown table."""
    typer.echo("| setting | default | meaning |\n|---|---|---|")
    for key, default, meaning in settings.describe():
        text = meaning.replace("``", "`").replace("|", r"\|")
        typer.echo(f"| `{key}` | `{default}` | {text} |")


def show_settings(resolved: Config) -> None:
    """Print every setting as YAML."""
    typer.echo(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False), nl=False)
