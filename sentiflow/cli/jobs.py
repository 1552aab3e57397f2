"""The job commands (``run``, the stages, ``sweep``): each is one call of the pipeline."""

import atexit
import contextlib
import gc
import os
import posixpath
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from sentiflow.cli import exits, sampling
from sentiflow.cli.terminal import (
    AsJson,
    ConfigOrRun,
    DryRun,
    Overrides,
    Overwrite,
    Verbose,
    fill,
    print_json,
)
from sentiflow.config.class_names import set_apart
from sentiflow.errors import UserError
from sentiflow.storage.uris import absolute_uri, display_uri, is_local

if TYPE_CHECKING:
    from sentiflow.config.sections import Config
    from sentiflow.data.manifest_types import Manifest
    from sentiflow.pipeline.stages import Outcome

JOBS = {
    "run": "Prepare, train, score and evaluate; complete stages are skipped.",
    "prepare": "Shard a CSV into checked, split, encoded Parquet and a vocabulary.",
    "train": "Train a model on prepared data.",
    "score": "Apply a model to a whole corpus.",
    "evaluate": "Turn predictions with labels into metrics and a report.",
    "trends": "Measure shares of the classes in a scored corpus, by column or time.",
    "sweep": "Train a model for each of many settings, and list them, best first.",
}
"""Help of each job command, by its name."""
COMMANDS = {"trends": sampling.TrendsCommand}
"""Classes of commands that read their words in another way, by name."""


def run_job(verb: str) -> None:
    """Run one job as a script, for ``jobs/<verb>.py``."""
    reduce_garbage_collection()
    exits.run_alone(make_command(verb), meaning=JOBS[verb], command_class=COMMANDS.get(verb))


def reduce_garbage_collection() -> None:
    """Collect garbage rarely, and not at exit: a short command takes a second less."""
    gc.set_threshold(50_000)  # new objects between two collections
    atexit.register(gc.freeze)  # the collection at exit skips frozen objects


def make_command(verb: str) -> Callable[..., None]:
    """Make the command of a job."""
    if verb == "trends":
        return trends

    def job_command(
        config: ConfigOrRun,
        overrides: Overrides = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
    ) -> None:
        with exits.reporting(verbose):
            run(
                config,
                verb,
                overrides or (),
                overwrite=overwrite,
                dry_run=dry_run,
                verbose=verbose,
                as_json=as_json,
            )

    return job_command


def run(
    config: Path,
    verb: str,
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    verbose: bool = False,
    as_json: bool = False,
) -> None:
    """Run a job, and print its result; in a dry run print the settings and the plan instead."""
    from sentiflow.pipeline import run_plan, stage_plans, stages
    from sentiflow.tracking import commands

    options = ["--overwrite"] if overwrite else []
    command = commands.load(verb, config, overrides, options=options)
    resolved = command.config
    verbs = stage_plans.list_stages(resolved, verb)
    if dry_run:
        show_settings(resolved)
        plan = run_plan.plan(resolved, verbs, overwrite=overwrite)
        typer.echo("\n".join(plan.lines))
        if plan.refusal:
            raise plan.refusal
        return
    # Ray prints pages of text when a node is lost. On this machine they are of no use: sentiflow
    # itself reports the end of Ray.
    is_shown = verbose or os.environ.get("RAY_ADDRESS")
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(sys.stderr if is_shown else nowhere),
    ):
        outcomes = stages.run(
            resolved, verbs, overwrite=overwrite, verbose=verbose, command=command.written
        )
    command.compare({outcome.verb: outcome.record for outcome in outcomes})
    if as_json:
        results = {}
        for outcome in outcomes:
            extra = {"output_uri": outcome.uri, "ran": outcome.ran}
            results[outcome.verb] = {**outcome.record, **extra}
        print_json(results)
        return
    text = render(verb, outcomes, config, overrides)
    if text:
        typer.echo(text)


def trends(
    config: ConfigOrRun,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, metavar="N", help="Draw N rows to label, and no more."),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            "--width",
            metavar="POINTS",
            help="In place of N: say how many labels 95% intervals of this half-width need. With "
            "--output, draw the rows that are missing.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.csv", help="The file of the sample.")
    ] = None,
) -> None:
    """Measure shares of the classes in a scored corpus, by column or time."""
    with exits.reporting(verbose):
        sampling.check_options(sample, width, output)
        if sample is None and width is None:
            run(
                config,
                "trends",
                overrides or (),
                overwrite=overwrite,
                dry_run=dry_run,
                verbose=verbose,
                as_json=as_json,
            )
            return
        from sentiflow.tracking import commands

        uri = check_free(output, overwrite, option="--output ") if output else ""
        command = commands.load("trends", config, overrides or ())
        typed = [str(config), *(overrides or ())]
        sampling.join_predictions(command.config)
        if width is None:
            assert sample is not None, "one of both is given"
            assert output is not None, "a sample has a file"
            sampling.draw(
                command.config, sample, typed=typed, output=output, uri=uri, as_json=as_json
            )
        else:
            sampling.draw_for_width(
                command.config, width, typed=typed, output=output, uri=uri, as_json=as_json
            )


def check_free(path: Path, overwrite: bool, *, option: str = "") -> str:
    """Check that a result can be written to a file, before the work begins; return its location.

    Raises:
        UserError: The path is not on this machine, is a directory, or exists without ``overwrite``.
    """
    if not is_local(str(path)):
        raise UserError(f"{option}{path} is not a file on this machine", hint="name a path")
    uri = absolute_uri(str(path), setting=option.strip())
    if path.is_dir():
        raise UserError(f"{option}{path} is a directory", hint="name a file to write")
    if path.exists() and not overwrite:
        raise UserError(f"{option}{path} exists", hint="name another file, or add --overwrite")
    return uri


def show_settings(resolved: "Config") -> None:
    """Print every setting as YAML."""
    typer.echo(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False), nl=False)


def render(
    verb: str, outcomes: Sequence["Outcome"], path: Path, overrides: Sequence[str] = ()
) -> str:
    """Write the results of a job; after a whole run or a sweep, also the command to type next.

    Args:
        verb: The job: a stage, or ``run``.
        outcomes: The results of its stages. A refit may have no evaluation.
        path: The file of the settings.
        overrides: The settings that were changed.

    Returns:
        Lines; empty for a training, as its log has shown the results.
    """
    records: dict[str, Manifest] = {outcome.verb: outcome.record for outcome in outcomes}
    uris: dict[str, str] = {outcome.verb: display_uri(outcome.uri) for outcome in outcomes}
    if verb == "train":
        return ""
    if verb == "sweep":
        return _render_sweep(records["sweep"], uris["sweep"], path, overrides)
    if verb == "run":
        any_ran = any(outcome.ran for outcome in outcomes)
        return _render_run(records, uris, path, any_ran=any_ran)
    return fill(f"{verb}.txt.j2", records=records, uris=uris)


def _render_sweep(record: "Manifest", uri: str, path: Path, overrides: Sequence[str]) -> str:
    """Write the table of trials, and the command of a whole run with the best settings."""
    from sentiflow.training import sweep

    changes = [item for item in overrides if not item.startswith(("sweep.", "sweep="))]
    best = sweep.write_values(record["trials"][0]["values"])
    best["output_uri"] = f"{posixpath.dirname(uri)}_best"
    best["prepare.output_uri"] = display_uri(record["inputs"]["prepared"]["uri"])
    changes += [f"{key}={value}" for key, value in best.items()]
    return f"{sweep.to_text(record)}\n\nthe best: {write_command('run', str(path), *changes)}"


def _render_run(
    records: "Mapping[str, Manifest]", uris: Mapping[str, str], path: Path, *, any_ran: bool
) -> str:
    """Write the results of a whole run, by stage, and what to type next."""
    from sentiflow.evaluation.evaluated_rows import headline_split
    from sentiflow.tracking import earlier_runs

    figures: dict[str, Any] = {}
    split = ""
    if "evaluate" in records:
        figures = records["evaluate"]["figures"]
        split = headline_split(list(figures))
    by_class = figures.get(split, {}).get("by_class", {})
    f1, small = _divide_by_size(by_class)
    return fill(
        "run.txt.j2",
        records=records,
        uris=uris,
        split=split,
        f1=f1,
        small=small,
        any_ran=any_ran,
        is_registered=any(record.get("registered") for record in records.values()),
        unregistered=_explain_unregistered(records),
        command=write_command,
        config=str(path),
        is_repeated=earlier_runs.is_run(path),
        is_local=is_local,
        fetch_report=_write_fetch(uris.get("evaluate", "")),
    )


def _divide_by_size(
    by_class: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, float], list[str]]:
    """Divide the classes that have an F1 by the number of their texts.

    Args:
        by_class: The metrics of each class.

    Returns:
        The F1 of each class of ``MIN_ROWS`` texts or more; how many texts each other class has.
    """
    from sentiflow.metrics.classification import MIN_ROWS

    f1 = {}
    small = []
    for name, found in by_class.items():
        num_rows = found["num_rows"]
        if found["f1"] is None:
            continue
        if num_rows >= MIN_ROWS:
            f1[name] = found["f1"]
        else:
            texts = "text" if num_rows == 1 else "texts"
            small.append(f"{num_rows:,} {texts} of {set_apart(name)}")
    return f1, small


def _explain_unregistered(records: "Mapping[str, Manifest]") -> str:
    """Say why the model of a run is not registered, and what to do if it should have been."""
    for record in records.values():
        if record.get("not_registered"):
            return record["not_registered"]
    run = records["evaluate"].get("run") if "evaluate" in records else None
    if run and not run["registers_model"]:
        return "tracking.register_model is false, or the stages were run one by one"
    return "a run registers the model that it evaluates on its own test rows"


def _write_fetch(uri: str) -> str:
    """Write the command that prints the report of an evaluation in an object store."""
    code = f'import sentiflow; print(sentiflow.Evaluated.load("{uri}").report.read())'
    return shlex.join(["python", "-c", code])


def write_command(*words: str) -> str:
    """Write a sentiflow command as the user can type it: with its path if it is not on PATH."""
    script = str(Path(sys.executable).parent / "sentiflow")
    program = "sentiflow" if shutil.which("sentiflow") == script else display_uri(script)
    return shlex.join([program, *words])
