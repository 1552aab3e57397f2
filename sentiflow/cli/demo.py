"""``sentiflow sample`` and ``sentiflow demo``: a synthetic corpus, and a whole run on it."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
import yaml

from sentiflow.cli import jobs
from sentiflow.cli.exits import reporting
from sentiflow.cli.terminal import Overwrite, Verbose
from sentiflow.progress import Progress, say
from sentiflow.storage.uris import absolute_uri

_NUM_ROWS = 20_000
"""Number of tweets of the demo."""
_SEED = 0
"""Seed of its corpus."""
_FOLDER = "runs/quickstart"
"""The directory of the demo by default, which its config names, too."""


def sample(
    output: Annotated[Path, typer.Argument(metavar="OUT.csv")],
    rows: Annotated[int, typer.Option(min=1, help="How many tweets.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a synthetic corpus in the format of Sentiment140."""
    with reporting():
        jobs.check_free(output, overwrite)
        _write_sample(output, rows, seed)


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where corpus, config and results go.")
    ] = Path(_FOLDER),
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> None:
    """Prepare, train, score and evaluate 20,000 synthetic tweets, in a minute."""
    with reporting(verbose):
        from sentiflow.storage import filesystem

        filesystem.check_writable(str(folder))
        corpus = folder / "tweets.csv"
        config = folder / "quickstart.yaml"
        if not corpus.exists():
            _write_sample(corpus, _NUM_ROWS, _SEED)
        config.write_text(write_config(folder))
        say("demo", f"settings: {config}")
        jobs.run(config, "run", overwrite=overwrite, verbose=verbose)


def _write_sample(output: Path, rows: int, seed: int) -> None:
    """Write a synthetic corpus, and show the progress."""
    from sentiflow.data import sample as corpus_sample
    from sentiflow.storage import filesystem

    size = 0
    with (
        filesystem.publish(absolute_uri(str(output))) as stream,
        Progress("sample", total=rows, unit="rows") as progress,
    ):
        for chunk in corpus_sample.generate(num_rows=rows, seed=seed):
            stream.write(chunk)
            size += len(chunk)
            progress.advance(chunk.count(b"\n"))
    say("sample", f"{rows:,} tweets, {size / 1e6:,.1f} MB: {output}")


def write_config(folder: Path) -> str:
    """Return the settings of ``quickstart.yaml``, with the locations in ``folder``."""
    text = (resources.files("sentiflow.cli") / "quickstart.yaml").read_text("utf-8")
    if folder == Path(_FOLDER):
        return text
    settings = yaml.safe_load(text)
    settings["output_uri"] = str(folder)
    settings["prepare"]["csv"] = f"{folder}/tweets.csv"
    return yaml.safe_dump(settings, sort_keys=False)
