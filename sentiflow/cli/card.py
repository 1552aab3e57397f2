"""The command ``card``: the model card of a run, as a file."""

from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.jobs import check_free
from sentiflow.cli.options import Verbose

_RUN_HELP = "A run's output_uri, the directory of a model, or a name: models:/NAME@champion."


def card(
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP)],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Where the card goes.")
    ] = Path("model_card.md"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that has this name.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Write the model card: what the model is, its data, its training, its results, its limits.

    It is Markdown, with the metadata that the Hugging Face Hub reads.
    """
    with reporting(verbose):
        uri = check_free(output, overwrite, option="--output ")
        from sentiflow.evaluation import model_card
        from sentiflow.storage import filesystem

        filesystem.write_bytes(uri, model_card.find(run).encode())
        typer.echo(output)
