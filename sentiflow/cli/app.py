"""Command line -> one library call.

Heavy modules are imported by the command that needs them, so that help and mistakes answer at once.
"""

import atexit
import functools
import gc
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from sentiflow.cli import doctor, download, submit, words
from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson
from sentiflow.config import settings
from sentiflow.config.sections import Config
from sentiflow.errors import JobError, UserError
from sentiflow.storage.uris import absolute_uri, as_typed

if TYPE_CHECKING:
    from rich.table import Table

    from sentiflow.pipeline import Outcome, Verb

app = typer.Typer(
    name="sentiflow",
    help="From a CSV of short texts to your own sentiment model and a scored corpus.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(
    no_args_is_help=True, help="The resolved settings; what is wrong with them, or a cluster file."
)
app.add_typer(config_app, name="config")
tracking_app = typer.Typer(no_args_is_help=True, help="Runs for MLflow, from their output.")
app.add_typer(tracking_app, name="tracking")
app.add_typer(download.app, name="download")
app.add_typer(words.app, name="words")
app.command()(doctor.doctor)
app.command()(submit.submit)

out = Console(highlight=False, markup=False)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A settings file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: train.num_epochs=2"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other settings or inputs.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved settings and what would run.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's and MLflow's own messages.")]
BestTo = Annotated[
    Path | None,
    typer.Option("--best-to", metavar="FILE.yaml", help="Write the settings of the best trial."),
]
_RUN_HELP = "A run's output_uri, a scored directory, or the id of an MLflow run."

JOBS = {
    "run": "Prepare, train, score and evaluate; what is complete is skipped.",
    "prepare": "Shard a CSV into checked, split, encoded Parquet and a vocabulary.",
    "train": "Train a model on prepared data.",
    "score": "Apply a model to a whole corpus.",
    "evaluate": "Turn predictions with labels into figures and a report.",
    "sweep": "Train a model for each of many settings, and list them, best first.",
}


def main() -> None:
    """Run the console script."""
    _spare_the_collector()
    app()


def run_job(verb: str) -> None:
    """Run one job as a script of its own, as ``jobs/<verb>.py`` do."""
    job_app = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    job_app.command(help=JOBS[verb])(sweep if verb == "sweep" else _job(verb))
    _spare_the_collector()
    job_app()


def _spare_the_collector() -> None:
    """Keep Python from looking for garbage in what the libraries hold, at each import and at exit.

    Of a short command that is a second.
    """
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)


def _job(verb: str) -> Callable[..., None]:
    def command(
        config: ConfigPath,
        overrides: Overrides = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
    ) -> None:
        with reporting(verbose):
            resolved = settings.load(config, overrides or ())
            from sentiflow import pipeline

            verbs = [v for v in pipeline.VERBS if verb in (v, "run")]
            if dry_run:
                _show_plan(resolved, verbs, overwrite)
                return
            outcomes = pipeline.run(resolved, verbs, overwrite=overwrite, verbose=verbose)
            if as_json:
                typer.echo(json.dumps({o.verb: o.record for o in outcomes}, ensure_ascii=False))
            else:
                _summarize(verb, outcomes, tracking_uri=resolved.tracking.uri)

    return command


def sweep(
    config: ConfigPath,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    best_to: BestTo = None,
) -> None:
    """Do the job whose help is in ``JOBS``."""
    with reporting(verbose):
        resolved = settings.load(config, overrides or ())
        if best_to is not None:
            _check_free(best_to, config, overwrite)
        from sentiflow import pipeline

        if dry_run:
            _show_plan(resolved, ["sweep"], overwrite)
            return
        (outcome,) = pipeline.run(resolved, ["sweep"], overwrite=overwrite, verbose=verbose)
        from sentiflow.training import sweep as sweeping

        if as_json:
            typer.echo(json.dumps(outcome.record["trials"], ensure_ascii=False))
        else:
            typer.echo(sweeping.to_text(outcome.record))
        if best_to is not None:
            best = sweeping.best(outcome.record)
            origin = f"# The best of {len(outcome.record['trials'])} trials of {config.name}: "
            metric = resolved.train.selection.metric
            origin += f"validation {metric} {best[f'validation_{metric}']:.4f}.\n"
            _write_best(best_to, settings.read(config, overrides or ()), best, origin)


def _check_free(path: Path, config: Path, overwrite: bool) -> None:
    """Make sure, before hours of training, that the best settings can be written."""
    if path.resolve() == config.resolve():
        raise UserError(f"--best-to {path} is the settings file itself", hint="name another file")
    if path.is_dir():
        raise UserError(f"--best-to {path} is a directory", hint="name a file to write")
    if path.exists() and not overwrite:
        raise UserError(f"--best-to {path} is there", hint="name another file, or add --overwrite")


def _write_best(path: Path, raw: dict[str, Any], best: dict[str, Any], origin: str) -> None:
    """Write the settings as they stand in the file, with the best trial's values."""
    from sentiflow.progress import say
    from sentiflow.storage import filesystem

    raw.pop("sweep", None)
    for key, value in best["values"].items():
        settings.put(raw, key, value)
    settings.validate(raw, source=str(path))
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    filesystem.write_bytes(absolute_uri(str(path)), (origin + text).encode())
    say("sweep", f"settings of trial {best['trial']}: {path}")


for _verb, _help in JOBS.items():
    app.command(name=_verb, help=_help)(sweep if _verb == "sweep" else _job(_verb))


@app.command()
def predict(
    model_uri: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_URI",
            help="A model package: a directory, s3://..., models:/NAME@champion, runs:/ID/model.",
        ),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts; lines of standard input if none."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Give the label and the probability of positive for each text."""
    with reporting(verbose):
        from sentiflow.scoring import lines
        from sentiflow.tracking import model_sources

        package = model_sources.load(model_uri)
        blocks = lines.take(map(_printable, texts)) if texts else lines.read(sys.stdin.buffer)
        to_tsv = functools.partial(lines.to_tsv, with_notes=sys.stdout.isatty())
        render = lines.to_json if as_json else to_tsv
        lines.answer(package, blocks, sys.stdout.buffer, render)


@app.command()
def promote(
    config: ConfigPath,
    overrides: Overrides = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="The version; the candidate by default.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it even if the champion is as good.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a registered model the champion if it beats the present one on the test rows."""
    with reporting(verbose):
        resolved = settings.load(config, overrides or ())
        from sentiflow.evaluation import promotion

        outcome = promotion.promote(resolved, version=version, force=force)
        if as_json:
            typer.echo(json.dumps(outcome.to_json(), ensure_ascii=False))
        if outcome.refused:
            raise JobError(promotion.explain_refusal(outcome))
        if not as_json:
            typer.echo(promotion.to_text(outcome))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP)],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with it.")],
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="NAME=REGEX", help="A slice of your own; may be repeated."),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option("--tracking-uri", metavar="URI", help="The store of MLflow run ids."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compare two models on the same test rows: what differs, and whether it may be chance."""
    with reporting(verbose):
        patterns = _read_patterns(slices or ())
        from sentiflow.cli import comparison_text
        from sentiflow.evaluation import comparison

        found = comparison.compare(first, second, patterns=patterns, tracking_uri=tracking_uri)
        if as_json:
            typer.echo(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        else:
            typer.echo(comparison_text.to_text(found))


def _read_patterns(options: Sequence[str]) -> dict[str, str]:
    """Read a user's own slices, each written as ``NAME=REGEX``."""
    from sentiflow.config.types import check_patterns

    for option in options:
        if "=" not in option:
            raise UserError(f"--slice {option}", hint="write NAME=REGEX")
    try:
        return check_patterns(dict(option.split("=", 1) for option in options))
    except ValueError as error:
        raise UserError(f"--slice {error}") from error


@app.command()
def sample(
    output: Annotated[Path, typer.Argument(metavar="OUT.csv")],
    rows: Annotated[int, typer.Option(min=1, help="How many tweets.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a synthetic corpus in Sentiment140's form, labels and oddities included."""
    with reporting(verbose=False):
        from sentiflow.data import sample as corpus_sample
        from sentiflow.progress import Progress, say
        from sentiflow.storage import filesystem

        if output.is_dir():
            raise UserError(f"{output} is a directory", hint="name a file to write")
        if output.exists() and not overwrite:
            raise UserError(f"{output} is there", hint="name another file, or add --overwrite")
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


@tracking_app.callback()
def tracking_group() -> None:
    """Keep the name of the only command."""


@tracking_app.command("import")
def import_outputs(
    output_uris: Annotated[
        list[str],
        typer.Argument(metavar="OUTPUT_URI...", help="A run's output_uri, or a stage's directory."),
    ],
    tracking_uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The store; by default MLFLOW_TRACKING_URI or mlflow.db."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Add the runs of finished stages to MLflow, or what they lack; what is there stays."""
    with reporting(verbose):
        from sentiflow.progress import say
        from sentiflow.tracking import finished_stages, mlflow_store, rebuild

        stages = [s for uri in output_uris for s in finished_stages.require(absolute_uri(uri))]
        store = mlflow_store.default_uri(tracking_uri)
        for run in rebuild.send(stages, tracking_uri=store):
            say("tracking", f"{run.name}: {run.outcome}")
        say("tracking", f"{len(stages)} run{'s' if len(stages) > 1 else ''} in {store}")


@config_app.command()
def show(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print every setting as the jobs will see it."""
    with reporting(verbose=False):
        _show_settings(settings.load(config, overrides or ()))


@config_app.command()
def validate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Say what is wrong with the settings, a line for each fault."""
    with reporting(verbose=False):
        settings.load(config, overrides or ())
        typer.echo(f"{config} is valid")


@config_app.command()
def cluster(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A file for `ray up`.")],
) -> None:
    """Say what is wrong with a cluster file, a line for each fault; nothing is started."""
    with reporting(verbose=False):
        from sentiflow.cluster import cluster_file

        cluster_file.check(file)
        typer.echo(f"{file} is valid")


@config_app.command()
def describe() -> None:
    """List every setting with its default and its meaning, as a Markdown table."""
    typer.echo("| setting | default | meaning |\n|---|---|---|")
    for key, default, meaning in settings.describe():
        text = meaning.replace("``", "`").replace("|", r"\|")
        typer.echo(f"| `{key}` | `{default}` | {text} |")


def _show_plan(resolved: Config, verbs: Sequence["Verb"], overwrite: bool) -> None:
    from sentiflow import pipeline

    _show_settings(resolved)
    for plan in pipeline.plan(resolved, verbs, overwrite=overwrite):
        typer.echo(f"# {plan.verb:<9} {plan.state}: {plan.uri}")


def _show_settings(resolved: Config) -> None:
    typer.echo(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False), nl=False)


def _printable(text: str) -> str:
    """Replace what the command line held of bytes that are no UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _summarize(verb: str, outcomes: Sequence["Outcome"], *, tracking_uri: str | None) -> None:
    """Print what a job came to, and after a whole run what to type next."""
    from sentiflow.cli import summary

    records: summary.Records = {outcome.verb: outcome.record for outcome in outcomes}
    uris: dict[str, str] = {outcome.verb: as_typed(outcome.uri) for outcome in outcomes}
    if verb == "prepare":
        _print(summary.of_preparation(records["prepare"], uris["prepare"]))
    if verb == "evaluate":
        _print(summary.of_evaluation(records["evaluate"], uris["evaluate"]))
    if verb != "run":
        return
    from sentiflow.evaluation import evaluate
    from sentiflow.tracking import recording

    typer.echo("")
    headline = evaluate.headline(records["evaluate"]["figures"])
    _print(summary.of_run(records, uris, headline))
    if not any(outcome.ran for outcome in outcomes):
        typer.echo("\nEverything was complete already; nothing was done again.")
    store = recording.default_uri(tracking_uri)
    typer.echo("\nNext:")
    for line in summary.next_steps(uris, store):
        typer.echo(f"  {line}")


def _print(table: "Table") -> None:
    """Print a table without the blanks that fill its last column up."""
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())
