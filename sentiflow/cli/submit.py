"""The command ``submit``: a job on a cluster, followed to its end."""

import functools
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentiflow.cli import exits, job_estimate
from sentiflow.cli.terminal import AsJson, Overrides, Overwrite, Verbose, print_json
from sentiflow.cluster import submission
from sentiflow.errors import UserError
from sentiflow.progress import Progress, say

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


Verb = Annotated[
    str | None,
    typer.Argument(
        metavar="VERB",
        help="Name of a job: run, prepare, train, score, evaluate, trends, sweep, doctor.",
    ),
]
ConfigToSubmit = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A settings file.")]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or "
        "http://127.0.0.1:8265.",
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the job's id and do not wait.")]
Attach = Annotated[
    str | None,
    typer.Option("--attach", metavar="JOB", help="Follow a job that was submitted before."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME",
        help="Pass this variable on; all users of the cluster can read it.",
    ),
]
Install = Annotated[
    bool,
    typer.Option("--install", help="Install constraints.txt for this job on nodes that lack it."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be submitted, and submit nothing.")
]


def submit(
    verb: Verb = None,
    config: ConfigToSubmit = None,
    overrides: Overrides = None,
    address: Address = None,
    no_wait: NoWait = False,
    attach: Attach = None,
    variables: Variables = None,
    install: Install = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a job on a Ray cluster: check it, upload this directory, follow it to its end.

    Ray mixes the job's standard output and error into one log. It goes to standard output, with
    --json to standard error. The exit code is the job's own.

    Example: sentiflow submit train configs/sentiment140.yaml output_uri=s3://bucket/run

    Example: sentiflow submit --attach sentiflow-train-sentiment140-1a2b3c
    """
    with exits.reporting(verbose):
        names_job = verb is not None and config is not None
        attaches = attach is not None
        if names_job == attaches:  # both, or neither
            raise UserError(
                "give VERB and CONFIG, or a job to --attach",
                hint="such as: sentiflow submit run configs/my.yaml",
            )
        job = None
        if verb and config:
            options = _list_options(overwrite=overwrite, verbose=verbose)
            job = submission.prepare(
                verb,
                config,
                overrides or (),
                folder=Path.cwd(),
                options=options,
                variables=variables or (),
                installs=install,
            )
            if dry_run:
                _show_job(job)
                estimate = job_estimate.describe(
                    verb, config, overrides or (), address, verbose=verbose
                )
                typer.echo(f"estimate    {estimate}")
                return
        from sentiflow.cluster import job_client

        url = job_client.choose_address(address)
        with Progress("submit", what="connecting to the cluster"):
            client = job_client.connect(url, verbose=verbose)
        submission_id = _start_job(client, job, url) if job else str(attach)
        follow_hint = f"follow it: sentiflow submit --attach {submission_id} --address {url}"
        if no_wait:
            say("submit", follow_hint)
            if as_json:
                print_json({"job": submission_id, "address": url})
            else:
                typer.echo(submission_id)
            return
        code = _follow_job(client, submission_id, as_json, follow_hint)
    if code:
        raise typer.Exit(code)


def _list_options(*, overwrite: bool, verbose: bool) -> list[str]:
    """List the options that the job's own command gets."""
    options = []
    if overwrite:
        options.append("--overwrite")
    if verbose:
        options.append("--verbose")
    return options


def _show_job(job: submission.Submission) -> None:
    """Print what would be submitted, without the values of the user's variables."""
    typer.echo(f"entrypoint  {job.entrypoint}")
    shown = {**job.variables, **dict.fromkeys(job.named, "***")}
    for name, value in shown.items():
        typer.echo(f"env         {name}={value}")
    typer.echo(f"upload      {_describe_upload(job)}")


def _start_job(client: "JobSubmissionClient", job: submission.Submission, url: str) -> str:
    """Start a job, and return its submission id."""
    from sentiflow.cluster import job_client

    with Progress("submit", what="uploading the code"):
        job_client.submit(client, job)
    say("submit", f"{job.submission_id} at {url}: {_describe_upload(job)}")
    if job.named:
        say("submit", f"all users of the cluster can read this job's {', '.join(job.named)}")
    return job.submission_id


def _follow_job(
    client: "JobSubmissionClient", submission_id: str, as_json: bool, follow_hint: str
) -> int:
    """Follow a job to its end, report its result, and return its exit code.

    Ctrl-C and SIGTERM end only this command: the job continues, and a message has ``follow_hint``.
    """
    from sentiflow.cluster import job_client

    stream = sys.stderr if as_json else sys.stdout
    signal.signal(
        signal.SIGTERM, exits.raise_interrupt
    )  # SIGTERM raises KeyboardInterrupt, as Ctrl-C does
    try:
        write = functools.partial(print, end="", file=stream, flush=True)
        details = job_client.follow(client, submission_id, write)
    except KeyboardInterrupt as interruption:
        stop_hint = f"or end it: ray job stop {submission_id}"
        say("submit", f"detached; the job continues; {follow_hint}; {stop_hint}")
        number = interruption.args[0] if interruption.args else signal.SIGINT
        return 128 + int(number)
    code, reason = job_client.explain_end(details)
    uri = (details.metadata or {}).get(submission.OUTPUT_KEY, "")
    if as_json:
        record = {
            "job": submission_id,
            "status": details.status.value,
            "exit_code": code,
            "reason": reason,
            "output_uri": uri,
        }
        print_json(record)
    say(
        "submit", f"{submission_id} failed: {reason}" if code else f"{submission_id} is done: {uri}"
    )
    return code


def _describe_upload(job: submission.Submission) -> str:
    """Say how many files and bytes are uploaded."""
    size = sum(path.stat().st_size for path in job.files.values())
    return f"{len(job.files)} files, {size / 1e6:,.1f} MB"
