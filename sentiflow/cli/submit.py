"""The command ``submit``: a job on a cluster, followed to its end."""

import functools
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentiflow.cli import exits, job_estimate
from sentiflow.cli.job_log import JobLog
from sentiflow.cli.terminal import AsJson, Overrides, Overwrite, Verbose, print_json
from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress, say

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

    from sentiflow.cluster.submission import Submission


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

_EXAMPLE = "such as: sentiflow submit run configs/my.yaml"
"""A command, for a message."""


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

    If the cluster already does the same work, the command follows this job. Ray mixes the job's
    standard output and error into one log. It goes to standard output. With --json it goes to
    standard error, and standard output gets the JSON that the job's own command prints. The exit
    code is the job's own.

    Example: sentiflow submit train configs/sentiment140.yaml output_uri=s3://bucket/run

    Example: sentiflow submit --attach sentiflow-train-sentiment140-1a2b3c
    """
    with exits.reporting(verbose, is_remote=True) as interruption:
        job = None
        if attach is not None:
            given = {
                "VERB": verb is not None,
                "--dry-run": dry_run,
                "--env": bool(variables),
                "--install": install,
                "--no-wait": no_wait,
                "--overwrite": overwrite,
            }
            _check_attach(attach, given)
        elif verb is None or config is None:
            raise UserError("give VERB and CONFIG, or a job to --attach", hint=_EXAMPLE)
        else:
            from sentiflow.cluster import submission

            job = submission.prepare(
                verb,
                config,
                overrides or (),
                folder=Path.cwd(),
                options=_list_options(overwrite=overwrite, verbose=verbose, as_json=as_json),
                variables=variables or (),
                installs=install,
            )
            if dry_run:
                _show_job(job, verb, address, verbose=verbose)
                return
        from sentiflow.cluster import job_client

        url = job_client.choose_address(address)
        with Progress("submit", what="connecting to the cluster"):
            client = job_client.connect(url, verbose=verbose)
        submission_id = _find_or_start_job(client, job, url) if job else str(attach)
        words = ["sentiflow", "submit", "--attach", submission_id, "--address", url]
        follow_hint = f"follow it: {shlex.join(words)}"  # another user may have chosen the id
        if no_wait:
            say("submit", follow_hint)
            _print_id(submission_id, url, as_json=as_json)
            return
        interruption.line = (
            f"submit    detached; the job continues; {follow_hint}; or end it: ray job stop "
            f"{shlex.quote(submission_id)}"
        )
        code = _follow_job(client, submission_id, as_json=as_json, was_known=job is not None)
    if code:
        raise typer.Exit(code)


def _check_attach(attach: str, given: Mapping[str, bool]) -> None:
    """Refuse what says how a job is submitted: ``--attach`` submits none.

    Args:
        attach: The job to follow.
        given: Whether the user gave it, by the name of an argument or an option.

    Raises:
        UserError: Something was given, or the job has no name.
    """
    if not attach.strip():
        raise UserError("--attach: the job has no name", hint="`ray job list` shows the names")
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise UserError(
            f"--attach follows a job that was submitted before, and submits none; {names[0]} is "
            "for a job to submit",
            hint=f"leave out {' and '.join(names)}, or --attach",
        )


def _list_options(*, overwrite: bool, verbose: bool, as_json: bool) -> list[str]:
    """List the options that the job's own command gets."""
    from sentiflow.cluster import submission

    options = []
    if overwrite:
        options.append("--overwrite")
    if verbose:
        options.append("--verbose")
    if as_json:
        options.append(submission.JSON_OPTION)
    return options


def _show_job(job: "Submission", verb: str, address: str | None, *, verbose: bool) -> None:
    """Print what would be submitted, without the values of the user's variables.

    Args:
        job: The job.
        verb: Its name.
        address: The option ``--address``, for the estimate.
        verbose: Show the messages of Ray's client.
    """
    typer.echo(f"entrypoint  {job.entrypoint}")
    shown = {**job.variables, **dict.fromkeys(job.named, "***")}
    for name, value in shown.items():
        typer.echo(f"env         {name}={value}")
    typer.echo(f"upload      {_describe_upload(job)}")
    estimate = job_estimate.describe(verb, job.config, address, verbose=verbose)
    typer.echo(f"estimate    {estimate}")


def _find_or_start_job(client: "JobSubmissionClient", job: "Submission", url: str) -> str:
    """Start a job, unless the cluster already does the same work; return the submission id."""
    from sentiflow.cluster import job_client

    same = job_client.find_same_work(client, job)
    if same is not None:
        _say_same(same, job)
        return str(same.submission_id)
    with Progress("submit", what="uploading the code"):
        job_client.submit(client, job)
    say("submit", f"{job.submission_id} at {url}: {_describe_upload(job)}")
    if job.named:
        say("submit", f"all users of the cluster can read this job's {', '.join(job.named)}")
    return job.submission_id


def _say_same(same: "JobDetails", job: "Submission") -> None:
    """Say that the command attaches to a job, and whether this job runs other code."""
    from sentiflow.tracking import runs

    since = ""
    if same.start_time:
        started = datetime.fromtimestamp(same.start_time / 1000, UTC)
        since = f", since {started.isoformat(timespec='seconds')}"
    say("submit", f"{same.submission_id} does this work already{since}: attached")
    variables = (same.runtime_env or {}).get("env_vars") or {}
    commit = variables.get(runs.COMMIT_VARIABLE, "")
    if commit != job.commit:
        here = job.commit or "unknown"
        say("submit", f"its code is of commit {commit or 'unknown'}, the code here of {here}")


def _print_id(submission_id: str, url: str, *, as_json: bool) -> None:
    """Print the job's id; as JSON with the address of its cluster."""
    if as_json:
        print_json({"job": submission_id, "address": url})
    else:
        typer.echo(submission_id)


def _follow_job(
    client: "JobSubmissionClient", submission_id: str, *, as_json: bool, was_known: bool
) -> int:
    """Follow a job to its end, report its result, and return its exit code.

    Args:
        client: Client of the job's cluster.
        submission_id: The job.
        as_json: Print the JSON of the job; its log goes to standard error.
        was_known: Whether this command has submitted the job or found it.

    Raises:
        UserError: There is no such job, or the job that the user named prints no JSON.
        JobError: The cluster does not answer, or was restarted; or the job has printed no JSON.
    """
    from sentiflow.cluster import job_client, submission

    write = functools.partial(print, end="", file=sys.stderr if as_json else sys.stdout, flush=True)
    log = JobLog(write)
    has_json = True
    for details, text in job_client.follow(client, submission_id, was_known=was_known):
        if not as_json:
            write(text)
            continue
        has_json = submission.JSON_OPTION in details.entrypoint.split()
        if not has_json and not was_known:
            raise UserError(
                f"{submission_id} was submitted without --json, so its log has no JSON",
                hint="attach without --json",
            )
        log.add(text)
    code, reason = job_client.explain_end(details)
    result = log.end()
    if result is not None:
        print_json(result)
    if code:
        say("submit", f"{submission_id} failed with exit code {code}: {reason}")
        return code
    uri = (details.metadata or {}).get(submission.OUTPUT_KEY, "")
    say("submit", f"{submission_id} is done: {uri}" if uri else f"{submission_id} is done")
    if not has_json:
        raise JobError(
            f"{submission_id} was submitted without --json, so its log has no JSON: run the same "
            "command again, which prints it"
        )
    return code


def _describe_upload(job: "Submission") -> str:
    """Say how many files and bytes are uploaded."""
    size = sum(path.stat().st_size for path in job.files.values())
    return f"{len(job.files)} files, {size / 1e6:,.1f} MB"
