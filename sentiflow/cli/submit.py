"""`submit` command -> a job on a cluster, followed to its end."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson, Overrides, Overwrite, Verbose
from sentiflow.cli.terminal import print_json
from sentiflow.cluster import submission
from sentiflow.cluster.submission import Submission
from sentiflow.errors import UserError
from sentiflow.progress import say

if TYPE_CHECKING:
    from sentiflow.cluster.job_client import JobClient


def submit(
    verb: Annotated[
        str | None,
        typer.Argument(
            metavar="VERB",
            help="Name of a job: run, prepare, train, score, evaluate, sweep, doctor.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A settings file.")
    ] = None,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or "
            "http://127.0.0.1:8265.",
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print the job's id and do not wait.")
    ] = False,
    attach: Annotated[
        str | None,
        typer.Option("--attach", metavar="JOB", help="Follow a job that was submitted before."),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME[=VALUE]", help="Environment variable for the job; no secrets."
        ),
    ] = None,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Install constraints.txt for this job on nodes that lack it."
        ),
    ] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be submitted, and submit nothing.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a job on a Ray cluster: check it, upload this directory, follow it to its end.

    Ray mixes the job's standard output and error into one log. It goes to standard output, with
    --json to standard error. The exit code is the job's own.

    Example: sentiflow submit train configs/sentiment140.yaml output_uri=s3://bucket/run

    Example: sentiflow submit --attach sentiflow-train-sentiment140-1a2b3c
    """
    with reporting(verbose):
        submitted: Submission | None = None
        if attach is None:
            if verb is None or config is None:
                hint = "such as: sentiflow submit run configs/my.yaml"
                raise UserError("VERB and CONFIG are missing", hint=hint)
            words = {"--overwrite": overwrite, "--verbose": verbose}
            submitted = submission.prepare(
                verb,
                config,
                overrides or (),
                folder=Path.cwd(),
                options=[word for word, is_given in words.items() if is_given],
                variables=variables or (),
                installs=install,
            )
            if dry_run:
                _show(submitted, as_json)
                return
        elif verb or dry_run or no_wait:
            raise UserError(
                "--attach follows a job that was submitted before",
                hint="leave out VERB, --dry-run and --no-wait",
            )
        from sentiflow.cluster import job_client

        client = job_client.connect(job_client.choose_address(address), verbose=verbose)
        if submitted:
            _submit(client, submitted)
        job = submitted.submission_id if submitted else str(attach)
        if no_wait:
            say("submit", f"follow it: {_attach_command(client, job)}")
            typer.echo(json.dumps({"job": job, "address": client.address}) if as_json else job)
            return
        code = _follow(client, job, as_json)
    if code:
        raise typer.Exit(code)


def _submit(client: "JobClient", job: Submission) -> None:
    if names := submission.find_loopback(job):
        say(
            "submit",
            f"note: addresses of this machine ({', '.join(names)}) mean, on every other machine of "
            "the cluster, that machine, and override what is set there",
        )
    client.submit(job, folder=Path.cwd())
    size = submission.to_text(job.upload.num_bytes)
    say("submit", f"{job.submission_id} at {client.address}: {len(job.upload.sizes)} files, {size}")


def _follow(client: "JobClient", job: str, as_json: bool) -> int:
    """Follow a job to its end; give its exit code."""
    from sentiflow.cluster import log_streaming

    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    signal.signal(signal.SIGTERM, interrupt)  # it detaches as Ctrl-C does
    began = time.monotonic()
    try:
        state = log_streaming.follow(client, job, write)
    except KeyboardInterrupt as interruption:
        say("submit", f"detached; the job continues. Follow it: {_attach_command(client, job)}")
        mode = "RAY_AUTH_MODE=token " if client.has_token else ""  # the token's file is not enough
        say("submit", f"stop it: {mode}ray job stop {job} --address {client.address}")
        return 128 + (interruption.args[0] if interruption.args else signal.SIGINT)
    code, reason = state.explain_end()
    uris = json.loads(state.metadata.get(submission.RESULTS_KEY, "{}"))
    if as_json:
        record = {"job": job, "status": state.status, "exit_code": code, "reason": reason}
        print_json(record | {"results": {} if code else uris})
    if code:
        say("submit", f"{job} failed: {reason}")
        return code
    say("submit", f"{job} is done ({time.monotonic() - began:,.0f} s)")
    for name, uri in uris.items():
        say("", f"{name:<11} {uri}")
    return 0


def _attach_command(client: "JobClient", job: str) -> str:
    return f"sentiflow submit --attach {job} --address {client.address}"


def _show(job: Submission, as_json: bool) -> None:
    """Print what would be submitted."""
    if as_json:
        record: dict[str, object] = {
            "job": job.submission_id,
            "entrypoint": job.entrypoint,
            "env": dict(job.variables),
            "upload": {"bytes": job.upload.num_bytes, "files": dict(job.upload.sizes)},
            "results": dict(job.results),
        }
        print_json(record)
        return
    size = submission.to_text(job.upload.num_bytes)
    rows = [("entrypoint", job.entrypoint)]
    rows += [("env", f"{name}={value}") for name, value in job.variables.items()]
    rows += [("upload", f"{len(job.upload.sizes)} files, {size}")]
    rows += [("", f"{name} {submission.to_text(count)}") for name, count in job.upload.largest(5)]
    for name, text in [*rows, *job.results.items()]:
        typer.echo(f"{name:<11} {text}")
