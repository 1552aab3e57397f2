"""The command line: each command is one call of the library.

Commands import heavy modules themselves, so that help and error messages appear at once.
"""

import dataclasses
import functools
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import sentiflow
from sentiflow.cli import compare, demo, exits, init, jobs, submit, words
from sentiflow.cli.terminal import AsJson, ConfigPath, Overrides, Verbose, print_json
from sentiflow.progress import Progress, clean, say
from sentiflow.storage.uris import absolute_uri

app = typer.Typer(
    name="sentiflow",
    help="From a CSV of short texts to your own sentiment model and a scored corpus.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(no_args_is_help=True, help="Show and check the settings.")
tracking_app = typer.Typer(no_args_is_help=True, help="Runs for MLflow, from their output.")
download_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Download the real tweets or word vectors."
)
app.command()(init.init)
for _verb, _meaning in jobs.JOBS.items():
    app.command(name=_verb, help=_meaning, cls=jobs.COMMANDS.get(_verb))(jobs.make_command(_verb))
app.add_typer(config_app, name="config")
app.add_typer(tracking_app, name="tracking")
app.add_typer(download_app, name="download")
app.add_typer(words.app, name="words")
app.command(cls=compare.WithMargin)(compare.compare)
app.command()(submit.submit)
app.command()(demo.demo)
app.command()(demo.sample)


def main() -> None:
    """Run the console script."""
    jobs.reduce_garbage_collection()
    exits.run(app)


def _print_version(is_requested: bool) -> None:
    """Print the version, and end the command."""
    if is_requested:
        typer.echo(f"sentiflow {sentiflow.__version__}")
        raise typer.Exit


@app.callback()
def sentiflow_group(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Declare the options that come before a command."""


@app.command()
def predict(
    model_uri: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_URI",
            help="A model: the directory of a run or a package, s3://..., models:/NAME@champion. "
            "Several, whose probabilities are averaged: '[runs/a, runs/b]'.",
        ),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts. Default: the lines of standard input."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", min=1, help="The N most probable labels of each text."),
    ] = None,
    why: Annotated[
        bool,
        typer.Option("--why", help="The words that speak for the label of each text, and against."),
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Print the label and a probability for each text.

    The probability is of positive if the model knows only negative and positive, else of the label;
    with --top each label has its own. --json writes the probability of each class.

    With --why each word has its part of the label's logit, counted from the mean of all classes.
    The parts and the rest sum to the logit. A terminal shows the words in color, unless NO_COLOR is
    set.
    """
    with exits.reporting(verbose):
        import pyarrow as pa

        from sentiflow.scoring import lines
        from sentiflow.tracking import packages

        with Progress("predict", what="loading the model"):
            package = packages.load(packages.read_uris(model_uri))
        if texts:
            # Bytes of the command line that are not UTF-8 are replaced, as Arrow takes only UTF-8.
            raw = [text.encode(errors="surrogateescape") for text in texts]
            typed = [text.decode(errors="replace") for text in raw]
            blocks = iter([lines.Block(pa.array(typed, pa.string()), more=False)])
        else:
            blocks = lines.read(sys.stdin.buffer)
        is_terminal = sys.stdout.isatty()
        write: Callable[..., bytes] = lines.to_json if as_json else lines.to_tsv
        if why:
            from sentiflow.scoring import why_lines

            blocks = why_lines.cut_blocks(blocks)
            write = functools.partial(why_lines.to_json, package=package)
            if not as_json:
                in_color = is_terminal and not os.environ.get("NO_COLOR")
                write = functools.partial(why_lines.to_tsv, package=package, in_color=in_color)
        render = functools.partial(write, top=top, for_people=is_terminal)
        lines.predict(package, blocks, sys.stdout.buffer, render)


@app.command()
def promote(
    config: ConfigPath,
    overrides: Overrides = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="The version. Default: the candidate.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it without a comparison.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a registered model the champion if it is better on the test rows.

    Exit code 3: it is not better beyond chance, so the champion stays.
    """
    with exits.reporting(verbose):
        from sentiflow.config import settings

        resolved = settings.load(config, overrides or ())
        from sentiflow.evaluation import promotion

        outcome = promotion.promote(resolved, version=version, force=force)
        text = promotion.to_text(outcome)
        if as_json:
            print_json(dataclasses.asdict(outcome))
        if outcome.refused:
            typer.echo(clean(f"sentiflow: {text}"), err=True)
        elif not as_json:
            typer.echo(text)
    if outcome.refused:
        raise typer.Exit(exits.NOT_BETTER)


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A settings file (YAML).")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Find problems that would make a job fail, on this machine or the cluster of RAY_ADDRESS.

    Exit code 0: no errors were found; there may be warnings. 1: there are errors, but they may be
    gone later. 2: there are errors that somebody has to correct.
    """
    with exits.reporting(verbose):
        from sentiflow.config import settings

        resolved = None if config is None else settings.load(config, overrides or ())
        from sentiflow.pipeline.preflight import machine_checks
        from sentiflow.pipeline.preflight.check import to_text

        results = machine_checks.examine(resolved, verbose=verbose)
        if as_json:
            print_json([dataclasses.asdict(result) for result in results])
        else:
            typer.echo(clean(to_text(results)))
    errors = [result for result in results if result.level == "error"]
    if errors:
        raise typer.Exit(2 if any(error.is_mistake for error in errors) else 1)


@app.command()
def card(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's output_uri, a model's directory, or models:/NAME@champion.",
        ),
    ],
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
    with exits.reporting(verbose):
        uri = jobs.check_free(output, overwrite, option="--output ")
        from sentiflow.evaluation import model_card
        from sentiflow.storage import filesystem

        with Progress("card", what="reading the run"):
            text = model_card.find(run)
        filesystem.write_bytes(uri, text.encode())
        typer.echo(output)


@app.command()
def ui(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="A settings file (YAML): its store and its runs."),
    ] = None,
    overrides: Overrides = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port of the web interface.")
    ] = 5000,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", metavar="URI", help="Another MLflow store.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Show the runs in MLflow's web interface, on this machine only, until Ctrl-C.

    Prints the address to open. The store is the one in CONFIG, else MLFLOW_TRACKING_URI, else
    mlflow.db. If the store is a server, only its address is printed.
    """
    with exits.reporting(verbose):
        from sentiflow.config import settings

        resolved = settings.load(config, overrides or ()) if config else None
        from sentiflow.tracking import mlflow_store

        if not tracking_uri and resolved:
            tracking_uri = resolved.tracking.uri
        store = mlflow_store.default_uri(tracking_uri)
        page = mlflow_store.find_page(store, resolved.name if resolved else None)
        if store.startswith("http"):
            typer.echo(f"{store}{page}")
            return
        say("ui", f"MLflow shows {store}; Ctrl-C ends it")
        typer.echo(f"http://127.0.0.1:{port}{page}")
        sys.stdout.flush()
        _serve(store, port, verbose)


def _serve(store: str, port: int, verbose: bool) -> NoReturn:
    """Replace this process by MLflow's web server.

    ``mlflow server`` would start the server as a second process. If ``mlflow`` were killed, the
    server would continue to listen, without a password.

    It imports nothing from the working directory, which may have come from a stranger, with its
    store: Python would look there first, and so would uvicorn, unless they are told otherwise.
    """
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_REGISTRY_URI": store,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # we run no jobs on it
    }
    python = [sys.executable, "-P", "-W", "ignore", "-m"]
    server = ["uvicorn", "mlflow.server.fastapi_app:app", "--workers", "1"]
    server += ["--host", "127.0.0.1", "--port", str(port)]
    server += ["--app-dir", sysconfig.get_path("stdlib")]
    if not verbose:
        server.append("--no-access-log")
    os.execve(sys.executable, [*python, *server], environment)  # noqa: S606


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
    """Add the runs of finished stages to MLflow, or complete them; nothing is overwritten."""
    with exits.reporting(verbose):
        from sentiflow.tracking import mlflow_store, rebuild

        store = mlflow_store.default_uri(tracking_uri)
        stages: list[rebuild.FinishedStage] = []
        for uri in output_uris:
            stages += rebuild.find(absolute_uri(uri))
        outcomes = rebuild.send(stages, tracking_uri=store)
        for stage, outcome in zip(stages, outcomes, strict=True):
            say("tracking", f"{outcome:<8}  {stage.run['name']}")
        runs = "runs" if len(stages) > 1 else "run"
        say("tracking", f"{len(stages)} {runs} in {store}")
        options = ["--tracking-uri", store] if tracking_uri else []
        say("tracking", jobs.write_command("ui", *options))


@config_app.command()
@exits.reporting()
def show(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print every setting as the jobs see it, defaults included."""
    from sentiflow.config import settings

    jobs.show_settings(settings.load(config, overrides or ()))


@config_app.command()
@exits.reporting()
def validate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Check the settings and the inputs that they name; print a line for each error."""
    from sentiflow.config import settings

    resolved = settings.load(config, overrides or ())
    from sentiflow.pipeline.preflight import config_checks

    config_checks.require(resolved, config_checks.choose_stages(resolved), needs_input=False)
    typer.echo(f"{config} is valid")


@config_app.command()
def describe() -> None:
    """List every setting with its default and its meaning, as a Markdown table."""
    from sentiflow.config import setting_descriptions

    typer.echo("| setting | default | meaning |\n|---|---|---|")
    for key, default, meaning in setting_descriptions.describe():
        text = meaning.replace("``", "`").replace("|", r"\|")
        typer.echo(f"| `{key}` | `{default}` | {text} |")


@download_app.command()
@exits.reporting()
def sentiment140(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the files go.")] = Path(
        "data"
    ),
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Another address of the same archive."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that have these names.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download the 1.6 million tweets of Sentiment140 (81 MB)."""
    from sentiflow.data import download

    paths = download.download(download.SENTIMENT140, to, url=url, overwrite=overwrite)
    if as_json:
        files = [{"path": str(path), "bytes": path.stat().st_size} for path in paths]
        print_json({"files": files})
    else:
        typer.echo("\n".join(map(str, paths)))
